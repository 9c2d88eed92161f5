//! What devices are, as they say themselves.
//!
//! A profile is a change of the registry: acknowledged once it is durable and its turn has come, or
//! refused then, with the reason. A repeat sets the same again, which changes nothing.

use std::{rc::Rc, sync::Arc};

use fieldgate_core::{
    access::Principal,
    dialect::ProfileAsk,
    fault::{Code, Fault},
    message::Qos,
    profile::Profile,
};
use fieldgate_store::{
    Log, Record,
    audit::Author,
    registry::{Change, RegistryChange},
};

use crate::{
    admit::named_or_own,
    asks::Refused,
    fabric::{Shared, now},
    hub::{Hub, Then},
    link::Link,
};

/// Refuses a profile of more resources than a device may have.
pub(crate) fn check_size(shared: &Shared, profile: &Profile) -> Result<(), Fault> {
    let (count, max) = (profile.resources.len(), shared.config.limits.resources_per_device_max);
    if count <= max {
        return Ok(());
    }
    let text = format!("{count} resources exceed limits.resources_per_device_max = {max}");
    Err(Fault::new(Code::TooLarge, text))
}

/// Replaces the profile of the sender, or of a device that it speaks for.
pub(crate) fn set(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    ask: ProfileAsk,
) -> Result<(), Refused> {
    let device = named_or_own(principal, ask.device)?;
    if !principal.may_describe(&device) {
        let text = format!("no right to replace the profile of {device}: see --allow-profile");
        return Err(Fault::new(Code::NotAllowed, text).into());
    }
    check_size(&hub.shared, &ask.profile)?;
    if hub.shared.state.device(&principal.tenant, &device).is_none() {
        return Err(Fault::new(Code::NotFound, format!("there is no device {device}")).into());
    }
    let device = device.as_str().to_owned();
    let change = Change::ProfileSet { device, expected: None, profile: Arc::new(ask.profile) };
    let author = Author { name: principal.name.as_ref().to_owned(), address: Some(link.peer) };
    let tenant = principal.tenant.as_str().to_owned();
    let change = RegistryChange { tenant, change, author: Some(author) };
    let range = hub.shared.log.append(vec![Record::Registry(Box::new(change))], now())?;
    let then = Then::Decided { reference: ask.reference, told: ask.qos > Qos::AtMostOnce };
    hub.when_applied(link, range, then);
    Ok(())
}
