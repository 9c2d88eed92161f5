//! Tickets: what opens one connection where no header can be set and no key may stand.

use std::time::{Duration, Instant};

use fieldgate_core::{
    access::{Grant, Principal},
    fault::Code,
    id::UnixMs,
};
use fieldgate_store::secret::{TokenKind, make_token};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Asker, Body, bad},
    idempotency::{Forgets, Once},
    io_fault,
    keys::GRANTS_MAX,
};
use crate::{
    fabric::now,
    http::{Problem, refuse},
    tickets::{LIFE, lessen},
};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(add))
}

/// A ticket to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTicket {
    /// What it lets do, `VERB:FILTER`, with `!` in front to deny; without it, all that the asker may.
    #[schema(max_items = 64, min_items = 1)]
    grants: Option<Vec<String>>,
}

/// A ticket that was made. It is told this once.
#[derive(Serialize, ToSchema)]
struct MadeTicket {
    /// What to write behind `?ticket=`; null in the answer to a repeat.
    #[schema(required = true)]
    ticket: Option<String>,
    /// It is worthless from this time on, in Unix ms, and once it was used.
    expires: u64,
}

impl Forgets for MadeTicket {
    fn forget(&mut self) {
        self.ticket = None;
    }
}

/// Makes a ticket: it opens one WebSocket or one stream within 60 s, as whoever asks for it.
#[utoipa::path(post, path = "/v1/tickets", tag = "access",
    operation_id = "addTicket", request_body = NewTicket,
    responses((status = 201, description = "It is made.", body = MadeTicket), Problems))]
async fn add(asker: Asker, Body(new): Body<NewTicket>) -> Result<Once<MadeTicket>, Problem> {
    if asker.is_local() {
        let text = "a ticket is asked for at a listener, by whoever it is to let in";
        return Err(refuse(Code::NotAllowed, text));
    }
    asker.pay(1, 0)?;
    let principal = match new.grants {
        None => Principal::clone(&asker.principal),
        Some(grants) if grants.is_empty() || grants.len() > GRANTS_MAX => {
            return Err(bad(format!("grants are 1 to {GRANTS_MAX}, or left out")).into());
        }
        Some(grants) => {
            let grants = grants.iter().map(|grant| grant.parse::<Grant>());
            lessen(&asker.principal, grants.collect::<Result<_, _>>().map_err(bad)?)?
        }
    };
    let ticket = make_token(TokenKind::Ticket).map_err(|e| io_fault(&e))?;
    let hash = asker.shared.state.master_key().hash_ticket(&ticket);
    asker.shared.tickets.keep(hash, principal, Instant::now())?;
    let expires = after(now(), LIFE);
    Ok(Once(MadeTicket { ticket: Some(ticket), expires }))
}

fn after(time: UnixMs, life: Duration) -> u64 {
    time.0.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX))
}
