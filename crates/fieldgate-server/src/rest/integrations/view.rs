//! What is told of an integration: what people want of it, how it does, how far it came.
//!
//! Absent: every secret.

use fieldgate_core::id::Seq;
use fieldgate_store::{
    Log as _,
    registry::{Integration, IntegrationKind, Target},
    state::Integrated,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{super::asker::Asker, target};
use crate::deliver::{Known, State};

/// An integration and how it does.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IntegrationView {
    /// Its name.
    name: String,
    /// `thingsee-in`, `websocket` or `rest`.
    #[schema(examples("rest"))]
    kind: &'static str,
    /// `running`, `paused`, `waiting` (its target failed and is tried again, or nobody brings anything)
    /// or `broken` (its target does not let us in, or takes nothing: a person must mend that).
    state: &'static str,
    /// Where it delivers to, without the secret; null if it takes.
    #[schema(required = true)]
    target: Option<TargetView>,
    /// How far it came; null if it takes.
    #[schema(required = true)]
    progress: Option<ProgressView>,
    /// How many devices it brought; null if it delivers.
    #[schema(required = true)]
    devices: Option<usize>,
}

/// Where an integration delivers to, and what.
#[derive(Debug, Serialize, ToSchema)]
struct TargetView {
    /// Its address.
    url: String,
    /// The topics that are delivered.
    filter: String,
    /// `thingsee`, `native` or `native-lines`.
    format: &'static str,
    /// Where its secret stands, `header:NAME` or `query:NAME`; null: it is shown none.
    token_in: Option<String>,
    /// Whether requests are signed.
    sign: bool,
    /// Whether private addresses may be connected to.
    allow_private: bool,
    /// Most messages a second while it is far behind; null: as many as it takes.
    messages_per_second: Option<u64>,
    /// Most messages of a batch; null: as many as is usual.
    batch_max: Option<u64>,
}

/// How far a delivery came.
#[derive(Debug, Serialize, ToSchema)]
struct ProgressView {
    /// The position up to which everything was delivered, or set aside, or is not for it.
    cursor: String,
    /// How many numbers of the log are behind that; not all of them are for it.
    behind: u64,
    /// Messages that were delivered.
    delivered: u64,
    /// Attempts that failed.
    failed: u64,
    /// Messages that were ever set aside because the target does not take them.
    set_aside: u64,
    /// How many of these are kept.
    kept_aside: usize,
    /// Why the last failed attempt failed.
    last_error: Option<String>,
    /// When that was, in Unix ms.
    last_error_at: Option<u64>,
    /// When its target is tried again, in Unix ms.
    retry_at: Option<u64>,
}

impl IntegrationView {
    /// `doing`: how its delivery does, if it is at work.
    pub(super) fn of(asker: &Asker, known: &Integrated, doing: Option<&Known>) -> Self {
        let Integrated { integration, .. } = known;
        let is_source = integration.kind == IntegrationKind::ThingseeIn;
        let devices = || asker.shared.state.source_device_count(asker.tenant(), &integration.name);
        Self {
            name: integration.name.clone(),
            kind: integration.kind.as_str(),
            state: state_of(asker, integration, doing),
            target: integration.target.as_ref().map(TargetView::of),
            progress: (!is_source).then(|| ProgressView::of(asker, known, doing)),
            devices: is_source.then(devices),
        }
    }
}

/// How a delivery does, if it is at work.
pub(super) fn doing(asker: &Asker, known: &Integrated) -> Option<Known> {
    asker.shared.deliveries.known(asker.tenant(), &known.integration.name)
}

fn state_of(asker: &Asker, integration: &Integration, doing: Option<&Known>) -> &'static str {
    if integration.paused {
        return "paused";
    }
    if integration.target.is_none() {
        let name = format!("source:{}", integration.name).into();
        let is_here = !asker.shared.present.of(asker.tenant(), &name).is_empty();
        return if is_here { "running" } else { "waiting" };
    }
    match doing.map(|doing| doing.state) {
        Some(State::Running) => "running",
        Some(State::Retrying | State::Waiting) | None => "waiting",
        Some(State::Broken) => "broken",
    }
}

impl TargetView {
    fn of(target: &Target) -> Self {
        Self {
            url: target.url.clone(),
            filter: target.filter.clone(),
            format: target.format.as_str(),
            token_in: target.token_in.as_ref().map(target::told),
            sign: target.signing.is_some(),
            allow_private: target.allow_private,
            messages_per_second: target.rate_max,
            batch_max: target.batch_max,
        }
    }
}

impl ProgressView {
    fn of(asker: &Asker, known: &Integrated, doing: Option<&Known>) -> Self {
        let Integrated { progress, asides, .. } = known;
        let shared = &asker.shared;
        let cursor = doing.map_or(Seq(0), |doing| doing.cursor).max(Seq(progress.cursor));
        let newest = doing.and_then(|doing| doing.last_error.clone());
        let newest = newest.map(|(at, text)| (text, at.0));
        let (last_error, last_error_at) = newest.or_else(|| progress.last_error.clone()).unzip();
        Self {
            cursor: shared.position(cursor).to_string(),
            behind: shared.log.frontier().ordered.0.saturating_sub(cursor.0),
            delivered: progress.delivered,
            failed: progress.failed,
            set_aside: progress.set_aside,
            kept_aside: asides.messages.len(),
            last_error,
            last_error_at,
            retry_at: doing.and_then(|doing| doing.retry_at).map(|at| at.0),
        }
    }
}
