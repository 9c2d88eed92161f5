//! What a device reported, as what it can be set to again.

use fieldgate_core::{
    fault::Fault,
    id::{DeviceId, TenantId},
    profile::Profile,
    state::Reported,
};
use fieldgate_dialects::native;

use super::{
    asker::{Asker, bad},
    scenes::payload,
};
use crate::fabric::Shared;

/// Most resources that one command sets.
const SET_LEN_MAX: usize = 100;

/// The resources of a device that can be written, as it reported them: a JSON object; nothing if there
/// are none.
pub(super) fn stored(asker: &Asker, id: &str) -> Result<Option<String>, Fault> {
    let id: DeviceId = id.parse().map_err(bad)?;
    Ok(stored_of(&asker.shared, asker.tenant(), &id))
}

/// The same for whoever may see it.
pub(crate) fn stored_of(shared: &Shared, tenant: &TenantId, id: &DeviceId) -> Option<String> {
    let device = shared.state.device(tenant, id)?;
    set_of(&device.profile.as_ref()?.profile, &*shared.state.reported(tenant, id)?)
}

fn set_of(profile: &Profile, reported: &Reported) -> Option<String> {
    let lookup = profile.lookup();
    let mut seen: Vec<&str> = Vec::new();
    let mut set = String::new();
    for (name, resource) in reported.present() {
        let Some((known, _)) = lookup.find(name).filter(|(known, _)| known.writable) else {
            continue;
        };
        // Two names of one resource: the first stands.
        if seen.contains(&known.name.as_str()) || seen.len() >= SET_LEN_MAX {
            continue;
        }
        let Some(value) = resource.value.as_deref() else { continue };
        let pair = format!("{}:{value}", serde_json::Value::from(name));
        if fits(profile, &pair) {
            seen.push(&known.name);
            set.push(if set.is_empty() { '{' } else { ',' });
            set.push_str(&pair);
        }
    }
    (!set.is_empty()).then(|| set + "}")
}

/// Whether the device would take it: what it reports may be out of its range.
fn fits(profile: &Profile, pair: &str) -> bool {
    let command = payload(&format!("{{{pair}}}"), None);
    let canonical = native::canonical(command.as_bytes()).ok().flatten();
    canonical.is_some_and(|canonical| canonical.fit(Some(profile), None).is_ok())
}

#[cfg(test)]
mod tests {
    use fieldgate_core::{
        id::Seq,
        message::{Content, Message, Qos},
        state::Bounds,
        testing,
    };

    use super::*;

    #[test]
    fn what_can_be_written_is_stored_once_and_as_it_was_reported() {
        let profile = native::decode_profile(
            r#"{"kind":"light","resources":[
                {"name":"relay","as":"on","type":"bool","writable":true},
                {"name":"bri","type":"integer","writable":true,"min":0,"max":255},
                {"name":"power","type":"number"}]}"#,
        );
        let profile = profile.unwrap();
        let mut reported = Reported::default();
        let mut report = |seq: u64, values: &str| {
            let message = Message {
                content: Content::Json,
                ..testing::message("devices/d/state/reported", Qos::AtLeastOnce, values)
            };
            reported.take(Seq(seq), &message, Bounds::default());
            set_of(&profile, &reported)
        };
        assert_eq!(report(1, r#"{"power":3,"other":true}"#), None);
        let set = report(2, r#"{"bri":300,"relay":true}"#);
        assert_eq!(set.as_deref(), Some(r#"{"relay":true}"#));
        let set = report(3, r#"{"bri":128,"brightness":0.2,"on":false}"#);
        assert_eq!(set.as_deref(), Some(r#"{"bri":128,"on":false}"#));
    }
}
