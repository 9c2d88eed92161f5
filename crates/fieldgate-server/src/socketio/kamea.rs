//! The namespace `/devices` of Kamea (`wire.md` 3).

use std::rc::Rc;

use super::{Call, Session};
use crate::{asks::Outcome, hub::Hub, link::Link};

/// What is asked of the service that decides, and not answered yet.
#[derive(Debug, Default)]
pub(super) struct Asked {}

pub(super) fn on_event(
    _hub: &Rc<Hub>,
    _link: &Rc<Link>,
    _session: &Session,
    _call: &Call<'_>,
) -> Outcome {
    Outcome::Done
}
