//! Merge patches: an object merged into a value member by member.
//!
//! Pure. Source: RFC 7396. Invariant: what a patch does not name keeps its bytes, and so does what it
//! sets.

use std::collections::{HashMap, HashSet};

use crate::json::{self, Member};

/// Deeper values replace each other whole; frames nest less (`limits.json_depth_max`).
const DEPTH_MAX: usize = 128;

/// The value that `patch` makes of `target`; a patch that is no object is that value.
pub(super) fn merge(target: Option<&str>, patch: &str) -> String {
    let mut out = String::with_capacity(patch.len() + target.map_or(0, str::len));
    write(&mut out, target, patch, DEPTH_MAX);
    out
}

fn write(out: &mut String, target: Option<&str>, patch: &str, depth_left: usize) {
    let changes = if depth_left == 0 { None } else { json::members(patch) };
    let Some(changes) = changes else {
        out.push_str(patch);
        return;
    };
    let kept = target.and_then(json::members).unwrap_or_default();
    // Of a member that occurs twice in a patch the last one counts.
    let of: HashMap<&str, &str> =
        changes.iter().filter_map(|m| Some((m.name.as_deref()?, m.value))).collect();
    let mut seen: HashSet<&str> = HashSet::with_capacity(kept.len());
    let old = kept.iter().map(|member| (member, Some(member.value)));
    let first = out.len();
    out.push('{');
    for (Member { name, written_name, .. }, old) in old.chain(changes.iter().map(|m| (m, None))) {
        let Some(name) = name.as_deref().filter(|name| seen.insert(name)) else { continue };
        let change = of.get(name).copied();
        if change.map_or(old.is_none(), |change| change == "null") {
            continue;
        }
        if out.len() > first + 1 {
            out.push(',');
        }
        out.push_str(written_name);
        out.push(':');
        match change {
            Some(change) => write(out, old, change, depth_left - 1),
            None => out.push_str(old.unwrap_or_default()),
        }
    }
    out.push('}');
}
