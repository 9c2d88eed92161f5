//! Commands to the devices of sources: on which connection they go, and what their echoes say.
//!
//! In: what is routed. Out: the end of a command, as a step in the log. A device of a source is served
//! by its own connection if it has one, else by the newest of its source; without either a command
//! waits. Absent: the form of requests and echoes, which is a dialect's.

use std::sync::Arc;

use bytes::Bytes;
use fieldgate_core::{
    dialect::CommandState,
    id::{DeviceId, Seq, TenantId},
    message::{Kind, Message},
};
use fieldgate_dialects::thingsee::downlink::{self, Echo, Outcome};
use fieldgate_store::{
    Followed, Log, ReadError, ReadFilter, Record, record::CommandChange, state::source_name,
};

use crate::{
    fabric::{Shared, message_of, now},
    present::LinkRef,
};

/// Most ends that wait for room in the log; past it an echo is lost, and its command expires.
const WAITING_MAX: usize = 1_024;
/// So many numbers before the end are looked through at a start: more than routing ever lies behind.
const LOOKED_LEN: u64 = 1 << 16;
/// So many bytes of them at a time.
const LOOKED_BYTES: usize = 1 << 20;

/// The connection that takes the commands of a device.
pub(crate) fn serving(shared: &Shared, tenant: &TenantId, device: &str) -> Option<LinkRef> {
    let newest = |name: &Arc<str>| shared.present.serving(tenant, name).last().copied();
    newest(&device.into()).or_else(|| {
        let origin = shared.state.origin(tenant, &device.parse().ok()?)?;
        newest(&source_name(&origin.source).into())
    })
}

/// Ends of commands that are on their way into the log.
#[derive(Debug, Default)]
pub(crate) struct Echoes {
    waiting: Vec<CommandChange>,
}

impl Echoes {
    /// Looks at a message that may be the echo of a command.
    pub(crate) fn heard(&mut self, shared: &Shared, message: &Message) {
        let Some(original) = message.original.as_ref().filter(|_| message.kind == Kind::Telemetry)
        else {
            return;
        };
        let echo = std::str::from_utf8(original).ok().and_then(Echo::of);
        let device = message.topic.device().and_then(|device| device.parse::<DeviceId>().ok());
        let Some((echo, device)) = echo.zip(device) else { return };
        for command in shared.state.open_commands(&message.tenant, &device) {
            let seq = command.entry.seq;
            let is_sent = command.state >= CommandState::Sent;
            if !is_sent || downlink::transaction_of(seq) != echo.transaction {
                continue;
            }
            let asked = message_of(&command.entry);
            let asked = asked.and_then(|asked| downlink::request(&asked.payload).ok());
            let Some(outcome) = asked.and_then(|asked| asked.answered(&echo)) else { continue };
            let (state, payload) = match outcome {
                Outcome::Done => (CommandState::Completed, original.clone()),
                Outcome::Other(told) => (CommandState::Failed, Bytes::from(told)),
            };
            if self.waiting.len() >= WAITING_MAX {
                tracing::warn!(command = seq.0, "the log is full: the echo of a command is lost");
                continue;
            }
            self.waiting.push(CommandChange {
                tenant: message.tenant.clone(),
                device: device.clone(),
                command: seq,
                state,
                payload: Some(payload),
                by: Arc::clone(&message.from),
            });
        }
    }

    /// Looks at what was stored and may not have been looked at when the process ended.
    pub(crate) fn look_again(&mut self, shared: &Shared) {
        let end = shared.log.frontier().ordered;
        for one in shared.state.all_integrations() {
            let open = shared.state.open_commands_of(&one.tenant, &one.integration.name);
            let sent = open.iter().find(|command| command.state >= CommandState::Sent);
            let Some(oldest) = sent.map(|command| command.entry.seq) else { continue };
            let from = oldest.next().max(Seq(end.0.saturating_sub(LOOKED_LEN)));
            if let Err(error) = self.look_through(shared, &one.tenant, from, end) {
                tracing::error!(%error, "echoes of before the start were not looked for");
            }
        }
    }

    fn look_through(
        &mut self,
        shared: &Shared,
        tenant: &TenantId,
        mut next: Seq,
        end: Seq,
    ) -> Result<(), ReadError> {
        let telemetry = "devices/+/telemetry".parse().ok();
        let filters = telemetry.into_iter().collect();
        let filter = ReadFilter { tenant: Some(tenant.clone()), filters, ..ReadFilter::default() };
        while next <= end {
            let chunk = shared.log.read(next, &filter, LOOKED_BYTES)?;
            for found in &chunk.items {
                if let Followed::Entry(entry) = found
                    && let Some(message) = message_of(entry)
                {
                    self.heard(shared, message);
                }
            }
            self.run(shared);
            if chunk.next <= next {
                return Ok(());
            }
            next = chunk.next;
        }
        Ok(())
    }

    /// Writes ends into the log, as far as it takes them.
    pub(crate) fn run(&mut self, shared: &Shared) {
        while let Some(first) = self.waiting.first() {
            let record = Record::Command(first.clone());
            if let Err(error) = shared.log.append(vec![record], now()) {
                tracing::debug!(%error, command = first.command.0, "the end of a command waits");
                return;
            }
            self.waiting.remove(0);
        }
    }
}
