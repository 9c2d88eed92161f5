//! Wishes in the words and units of the device that they are of.
//!
//! Pure. In: a checked patch and the profile of its device. Out: the patch under own names, checked as
//! `set` is; null stays null. An object is a patch of what was wished before, so only a resource of type
//! `json` takes one.

use std::collections::HashSet;

use fieldgate_core::{
    fault::{Code, Fault},
    profile::Profile,
};

use super::{Setting, text_of, value_of, write_value};
use crate::native::{frame::bad_value, json::Members};

/// A wish for a device with this profile.
///
/// # Errors
///
/// As [`super::Canonical::fit`] of `set`.
pub fn fit_desired(patch: &[u8], profile: Option<&Profile>) -> Result<Vec<u8>, Fault> {
    let Some(profile) = profile else {
        let text = "the device has no profile: nothing of it can be set";
        return Err(Fault::new(Code::NotAllowed, text));
    };
    let members: Members<'_> = serde_json::from_slice(patch)
        .map_err(|_| bad_value("a wish is an object of resources and their values"))?;
    let (text, seen) = (Vec::new(), HashSet::new());
    let mut setting = Setting { lookup: profile.lookup(), text, seen, is_other: false };
    for (name, raw) in &members.0 {
        if raw.get() == "null" {
            let (resource, _) = setting.lookup.writable(name)?;
            setting.name(resource)?.extend_from_slice(b"null");
            continue;
        }
        let text = text_of(raw);
        let (resource, checked) =
            setting.lookup.check(name, value_of(raw, text.as_ref()), false)?;
        write_value(setting.name(resource)?, resource, &checked, raw);
    }
    if setting.text.is_empty() {
        return Err(bad_value("a wish names a resource"));
    }
    setting.text.push(b'}');
    Ok(setting.text)
}
