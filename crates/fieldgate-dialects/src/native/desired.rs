//! Wishes: what an app wants a device to be in, as a frame or as the body of a request.
//!
//! Pure. In: a merge patch of resources (RFC 7396). Out: the same bytes, bounded and checked in
//! themselves. Absent: the device, whose profile [`super::fit_desired`] looks at.

use std::collections::HashSet;

use bytes::Bytes;
use fieldgate_core::{
    dialect::{Ask, DesiredAsk},
    fault::{Code, Fault},
    id::{MsgId, Seq},
    state::WISHES,
};

use super::{
    Limits,
    decode::not_finite,
    frame::{Frame, bad_value, missing},
    json::{self, Members},
};

/// Reads a frame of type `desired`.
pub(super) fn desired(
    frame: &Frame<'_>,
    reference: Option<MsgId>,
    limits: &Limits,
) -> Result<Ask, Fault> {
    let to = frame.to.as_deref().ok_or_else(|| missing("to", "desired"))?;
    let patch = frame.state.or(frame.payload).ok_or_else(|| missing("state", "desired"))?;
    Ok(Ask::Desired(Box::new(DesiredAsk {
        device: to.parse().map_err(|error| bad_value(format!("to is one device: {error}")))?,
        reference,
        qos: frame.promise()?,
        if_seq: frame.if_seq.map(Seq),
        patch: desired_patch(patch.get(), limits)?,
    })))
}

/// Checks what is wished, before it is known of which device: an object of resources, null to
/// withdraw.
///
/// # Errors
///
/// [`Code::BadJson`], [`Code::BadValue`] or [`Code::TooLarge`].
pub fn desired_patch(text: &str, limits: &Limits) -> Result<Bytes, Fault> {
    json::check_depth(text, limits.json_depth_max)?;
    let Members(members) = json::from_object(text).map_err(|error| json::fault_of(&error))?;
    if members.is_empty() {
        return Err(bad_value("a wish names a resource, and null to withdraw it"));
    }
    if members.len() > WISHES.resources_max {
        let text = format!("a wish names at most {} resources", WISHES.resources_max);
        return Err(Fault::new(Code::TooLarge, text));
    }
    let mut seen = HashSet::new();
    for (name, value) in &members {
        if !seen.insert(name.as_ref()) {
            let text = format!("the resource {:?} occurs twice", json::clip(name));
            return Err(bad_value(text).about(None, json::clip(name)));
        }
        if !json::numbers_are_finite(value.get()) {
            return Err(not_finite().about(None, json::clip(name)));
        }
    }
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

/// Appends the name of a resource as a string of JSON.
pub fn write_name(out: &mut Vec<u8>, name: &str) {
    json::write_string(out, name);
}

/// The payload of the command that makes a device what it is wished to be: own names and values.
#[must_use]
pub fn encode_wished(wished: &[(Box<str>, Box<str>)]) -> Vec<u8> {
    let mut out = b"{\"set\":{".to_vec();
    for (nth, (name, value)) in wished.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_name(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"},\"reason\":\"desired\"}");
    out
}
