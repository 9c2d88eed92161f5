//! What an app asks to be done: commands to devices, as everybody else's.

use bytes::Bytes;
use fieldgate_core::{
    fault::Fault,
    id::{DeviceId, Seq, UnixMs},
};
use fieldgate_store::AppendError;

use super::visit::Visit;
use crate::{
    asks::Refused,
    commands,
    fabric::{FULL_TRIES, FULL_WAIT, append_fault, now},
};

/// How long a command waits for its device: who presses a switch does not mean in an hour.
const EXPIRES_MS: u64 = 10_000;

/// Sends each of these devices a command of its own: all of them or none, on stable storage and on their
/// way when this returns.
pub(super) async fn command(visit: &Visit<'_>, wishes: &[(DeviceId, Bytes)]) -> Result<(), Fault> {
    if wishes.is_empty() {
        return Ok(());
    }
    visit.pay(wishes.len(), wishes.iter().map(|(_, payload)| payload.len()).sum())?;
    let expires = Some(UnixMs(now().0 + EXPIRES_MS));
    let mut tries = 0;
    let issued = loop {
        let paid = |_more| Ok(());
        match commands::issue_each(visit.shared, &visit.principal, wishes, None, expires, paid) {
            Ok(issued) => break issued,
            Err(Refused::Full) if tries < FULL_TRIES => tokio::time::sleep(FULL_WAIT).await,
            Err(Refused::Full) => return Err(append_fault(&AppendError::Full)),
            Err(Refused::Fault(fault)) => return Err(fault),
        }
        tries += 1;
    };
    visit.shared.settled(Seq(*issued.admitted.range().end()), true).await
}
