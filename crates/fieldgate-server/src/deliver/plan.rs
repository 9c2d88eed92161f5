//! From what the registry says of an integration to what its delivery is to do.
//!
//! Blocking: the system's certificates are read. Absent: what is secret, from any error.

use std::{sync::Arc, time::Duration};

use fieldgate_core::{
    delivery::{CatchUp, Habits, Outcome},
    id::Seq,
};
use fieldgate_store::{
    registry::{self, IntegrationKind, TokenIn},
    state::Integrated,
};

use super::{
    address::{Guarded, SystemNames},
    read::Wanted,
    rest::RestTarget,
    run::{Plan, Target, Whose},
    target::{Aim, Failure, Place},
    websocket::{Patience, WebSocketTarget},
};
use crate::fabric::Shared;

/// Most messages of a batch, whatever is asked for.
const BATCH_LEN_MAX: u64 = 10_000;
/// So many numbers behind, a target was away and is spared: what comes live is sent as it comes.
const FAR_BEHIND_LEN: u64 = 1_000;
/// How long a request may take as a whole.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Makes a plan.
///
/// # Errors
///
/// [`Failure`]: what of the integration cannot be used.
pub(super) fn of(shared: &Shared, integrated: &Integrated) -> Result<Plan, Failure> {
    let broken = |text: String| Failure::new(Outcome::Barred, text);
    let Integrated { tenant, integration, progress, asides } = integrated;
    let wanted =
        integration.target.as_ref().ok_or_else(|| broken("it has no target".to_owned()))?;
    let filter = wanted.filter.parse().map_err(|error| broken(format!("its filter: {error}")))?;
    let habits = habits(wanted);
    Ok(Plan {
        whose: Whose { tenant: tenant.clone(), name: integration.name.clone() },
        wanted: Wanted {
            tenant: tenant.clone(),
            filter,
            format: wanted.format,
            bytes_max: habits.batch_bytes_max,
        },
        target: target(shared, integrated, wanted)?,
        habits,
        run: progress.run,
        cursor: Seq(progress.cursor),
        retries: retries_of(asides).map(Seq).collect(),
    })
}

/// What was set aside and is to be tried once more.
pub(super) fn retries_of(asides: &registry::Asides) -> impl Iterator<Item = u64> {
    asides.messages.iter().filter(|(_, aside)| aside.retry).map(|(seq, _)| *seq)
}

fn habits(wanted: &registry::Target) -> Habits {
    let usual = Habits::default();
    let batch_len_max = wanted.batch_max.map_or(usual.batch_len_max, |len| {
        usize::try_from(len.clamp(1, BATCH_LEN_MAX)).unwrap_or(usual.batch_len_max)
    });
    let rate = wanted.rate_max;
    let catch_up = rate.map(|rate| CatchUp { per_second: rate.max(1), behind_len: FAR_BEHIND_LEN });
    Habits { batch_len_max, catch_up, ..usual }
}

fn target(
    shared: &Shared,
    integrated: &Integrated,
    wanted: &registry::Target,
) -> Result<Target, Failure> {
    let broken = |text: String| Failure::new(Outcome::Barred, text);
    let Integrated { tenant, integration, .. } = integrated;
    let secrets = shared.state.target_secrets(tenant, integration);
    let place = wanted.token_in.as_ref().map(|place| match place {
        TokenIn::Header(name) => Place::Header(name.clone()),
        TokenIn::Query(name) => Place::Query(name.clone()),
    });
    let is_lost = wanted.secret.is_some() && secrets.token.is_none()
        || wanted.signing.is_some() && secrets.signing.is_none();
    if is_lost {
        return Err(broken("its secret was sealed under another master.key: set it anew".into()));
    }
    let credential = place.as_ref().zip(secrets.token.as_deref());
    let guarded = Guarded { names: Arc::new(SystemNames), allow_private: wanted.allow_private };
    let schemes = match integration.kind {
        IntegrationKind::WebSocket => ["ws", "wss"],
        IntegrationKind::Rest | IntegrationKind::ThingseeIn => ["http", "https"],
    };
    let aim = Aim::new(&wanted.url, schemes, credential, guarded);
    let aim = aim.map_err(|error| broken(format!("its target: {error}")))?;
    if integration.kind == IntegrationKind::WebSocket {
        let heartbeat = &shared.config.heartbeat;
        let patience = Patience {
            ping: Duration::from_millis(heartbeat.ping_ms),
            silence: Duration::from_millis(heartbeat.silence_ms),
        };
        let target = WebSocketTarget::new(aim, patience);
        return target.map(Target::WebSocket).map_err(|error| broken(error.to_string()));
    }
    let target = RestTarget::new(aim, secrets.signing.as_deref(), REQUEST_TIME);
    target.map(Target::Rest).map_err(|error| broken(error.to_string()))
}
