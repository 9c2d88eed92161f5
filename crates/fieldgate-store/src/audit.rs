//! Entries of the audit: who did what, when, and how it ended; each with the hash of the one before.
//!
//! A change of the registry is its own entry (`storage.md` 1.4): the record says who asked for it, and
//! `told` what of it is told. Everything else that is audited is a [`Note`]. Invariant: no secret and
//! no hash of one is in an entry; an entry is bounded whatever it is made of.

use std::{net::IpAddr, sync::Arc};

use aws_lc_rs::digest;
use fieldgate_core::{
    audit::{Act, Trail},
    id::{Seq, UnixMs},
};
use serde::{Deserialize, Serialize};

use crate::registry::{
    Change, Device, Edit, GroupStep, IntegrationStep, RegistryChange, SceneStep, SignInBy,
    SignInStep, TenantLimits,
};

/// Most entries of a trail of one tenant; then the oldest goes.
pub const TRAIL_LEN_MAX: usize = 10_000;
/// Longest target and longest detail of an entry, in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// How the end of an act is told that was not refused.
pub const DONE: &str = "ok";

/// Who asks for something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Author {
    /// As [`fieldgate_core::access::Principal::name`]; `local` by `admin.sock` and on the folder
    /// itself, `gateway` where nobody asked.
    pub name: String,
    /// From where, if by the network.
    pub address: Option<IpAddr>,
}

impl Author {
    /// Whoever can write the data folder.
    #[must_use]
    pub fn local() -> Self {
        Self { name: "local".to_owned(), address: None }
    }

    /// The gateway, where nobody asked.
    #[must_use]
    pub fn gateway() -> Self {
        Self { name: "gateway".to_owned(), address: None }
    }
}

/// Something to be entered that is no change of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whose audit it is.
    pub tenant: String,
    /// What it says.
    pub said: Said,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// A word of [`Act`].
    pub act: String,
    /// Who.
    pub author: Author,
    /// To what.
    pub target: String,
    /// [`DONE`], or the code of the refusal.
    pub outcome: String,
    /// How often.
    pub count: u64,
    /// What else: names and values.
    pub details: Vec<(String, String)>,
}

/// An entry in a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its place in its trail, from 1.
    pub number: u64,
    /// The number of its record in the log.
    pub seq: u64,
    /// When it arrived, in Unix ms.
    pub time_ms: u64,
    /// What it says.
    pub said: Said,
    /// The hash of the entry before; of the first one, zeroes.
    pub previous: [u8; 32],
    /// Over the one before and all of this.
    pub hash: [u8; 32],
}

impl AuditEntry {
    /// Makes the entry that follows `before`.
    #[must_use]
    pub fn after(before: Option<&Self>, seq: Seq, arrived: UnixMs, said: Said) -> Self {
        let (number, previous) = before.map_or((1, [0; 32]), |b| (b.number + 1, b.hash));
        let mut entry =
            Self { number, seq: seq.0, time_ms: arrived.0, said, previous, hash: [0; 32] };
        entry.hash = entry.computed();
        entry
    }

    /// The hash that it should have: SHA-256 over the previous one, then number, seq and time as
    /// eight bytes each, little-endian, then act, name, address, target, outcome, the count as eight
    /// bytes, and each name and value of the details by their names; each text behind its length as eight bytes.
    #[must_use]
    pub fn computed(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.previous);
        for number in [self.number, self.seq, self.time_ms] {
            context.update(&number.to_le_bytes());
        }
        let Said { act, author, target, outcome, count, details } = &self.said;
        let address = author.address.map(|address| address.to_string()).unwrap_or_default();
        for part in [act, &author.name, &address, target, outcome] {
            put_text(&mut context, part);
        }
        context.update(&count.to_le_bytes());
        for (name, value) in details {
            put_text(&mut context, name);
            put_text(&mut context, value);
        }
        let mut hash = [0; 32];
        for (slot, byte) in hash.iter_mut().zip(context.finish().as_ref()) {
            *slot = *byte;
        }
        hash
    }
}

/// The first number in a trail that is not what it was, or does not follow the one before it. The
/// oldest kept may only be another than the first one where as many are kept as can be.
#[must_use]
pub fn broken_at(entries: &[Arc<AuditEntry>]) -> Option<u64> {
    let first = entries.first()?;
    let begins =
        if first.number == 1 { first.previous == [0; 32] } else { entries.len() == TRAIL_LEN_MAX };
    if !begins {
        return Some(first.number);
    }
    let mut before: Option<&AuditEntry> = None;
    for entry in entries {
        let follows = before.is_none_or(|before| {
            entry.number == before.number + 1 && entry.previous == before.hash
        });
        if !follows || entry.hash != entry.computed() {
            return Some(entry.number);
        }
        before = Some(entry);
    }
    None
}

fn put_text(context: &mut digest::Context, text: &str) {
    context.update(&(text.len() as u64).to_le_bytes());
    context.update(text.as_bytes());
}

impl Said {
    /// Something that was done once.
    #[must_use]
    pub fn done(act: Act, author: &Author, target: &str) -> Self {
        Self {
            act: act.as_str().to_owned(),
            author: Author { name: short(&author.name), address: author.address },
            target: short(target),
            outcome: DONE.to_owned(),
            count: 1,
            details: Vec::new(),
        }
    }

    /// The same with one more name and value, if there is one; they stand in the order of their
    /// names.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.details.push((name.to_owned(), short(value)));
            self.details.sort();
        }
        self
    }

    fn with_some(self, name: &str, value: Option<&String>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Where it is entered. A word that is not known here is of a later release.
    #[must_use]
    pub fn trail(&self) -> Trail {
        let act: Option<Act> = self.act.parse().ok();
        if self.outcome == DONE { act.map_or(Trail::Admin, Act::trail) } else { Trail::Access }
    }

    /// About what it costs in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let details: usize = self.details.iter().map(|(n, v)| n.len() + v.len() + 48).sum();
        256 + self.target.len() + self.author.name.len() + details
    }
}

/// At most so much of a text, and the sign that there was more.
pub(crate) fn short(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=TEXT_BYTES_MAX - 3).rev().find(|at| text.is_char_boundary(*at));
    format!("{}…", text.get(..end.unwrap_or(0)).unwrap_or_default())
}

/// What is told of a change that was made; nothing of one that is nobody's act.
pub(crate) fn told(change: &RegistryChange) -> Option<Said> {
    let author = change.author.clone()?;
    let said = |act, target: &str| Said::done(act, &author, target);
    Some(match &change.change {
        Change::DeviceAdd(device) => of_device(said(Act::DeviceAdd, &device.id), device),
        Change::DeviceRemove(id) => said(Act::DeviceRemove, id),
        Change::DeviceRotate { id, credential, .. } => {
            said(Act::DeviceRotate, id).with("credential", credential)
        }
        Change::KeyAdd(key) => {
            let expires = key.expires_ms.map(|end| end.to_string());
            let added = said(Act::KeyAdd, &key.name).with_some("role", key.role.as_ref());
            added.with("grants", &key.grants.join(" ")).with_some("expires", expires.as_ref())
        }
        Change::KeyRevoke(name) => said(Act::KeyRevoke, name),
        Change::UserAdd(user) => said(Act::UserAdd, &user.name).with("role", &user.role),
        Change::UserRemove(name) => said(Act::UserRemove, name),
        Change::UserPassword { name, .. } => said(Act::UserPassword, name),
        Change::CredentialAdd { device, credential, describing, .. } => {
            let added = said(Act::CredentialAdd, device).with("credential", credential);
            if *describing { added.with("allow_profile", "true") } else { added }
        }
        Change::CredentialRemove { device, credential } => {
            said(Act::CredentialRemove, device).with("credential", credential)
        }
        Change::ProfileSet { device, profile, .. } => {
            said(Act::ProfileSet, device).with("kind", profile.kind.as_str())
        }
        Change::SignIns { user, step } => said(of_step(step)?, user),
        Change::Group { id, step, .. } => of_group(said(group_act(step), id), step),
        Change::DeviceAddSigning { device, describing, integrity, .. } => {
            let added = of_device(said(Act::DeviceAdd, &device.id), device);
            let added = if *describing { added.with("allow_profile", "true") } else { added };
            if *integrity { added.with("integrity", "required") } else { added }
        }
        Change::SigningAdd { device, secret, describing } => {
            let added = said(Act::CredentialAdd, device).with("credential", &secret.credential);
            if *describing { added.with("allow_profile", "true") } else { added }
        }
        Change::SigningRotate { device, secret } => {
            said(Act::DeviceRotate, device).with("credential", &secret.credential)
        }
        Change::Integrity { device, required } => {
            let integrity = if *required { "required" } else { "off" };
            said(Act::DeviceIntegrity, device).with("integrity", integrity)
        }
        // Every connection of a device that signs begins with one.
        Change::ClaimTaken { .. } => return None,
        Change::Edit { edit, .. } => of_edit(edit, said),
        Change::Scene { id, step: SceneStep::Remove, .. } => said(Act::SceneRemove, id),
        Change::Scene { id, step: SceneStep::Store(_), .. } => {
            said(Act::SceneSet, id).with("from", "reported")
        }
        Change::Scene { id, step: SceneStep::Put(plan), .. } => said(Act::SceneSet, id)
            .with_some("name", plan.name.as_ref())
            .with_some("group", plan.group.as_ref()),
        Change::TenantAdd(limits) => of_tenant(said(Act::TenantAdd, &change.tenant), limits),
        Change::TenantSet(limits) => of_tenant(said(Act::TenantSet, &change.tenant), limits),
        Change::TenantRemove => said(Act::TenantRemove, &change.tenant),
        Change::Integration { name, step, .. } => of_integration(name, step, said)?,
        // A source may bring thousands: they would push out what administrators did.
        Change::SourceDevice { .. } => return None,
        // What the gateway numbers is nobody's act.
        Change::Parts { .. } => return None,
        Change::Bridge(step) => said(step.act()?, step.id()).with("name", step.name()),
        Change::Account { user, step } => {
            said(step.act()?, user).with("thing", step.thing()).with("role", step.role())
        }
        Change::Activation { id, step } => said(step.act(), id).with("device", step.device()),
    })
}

fn of_device(said: Said, device: &Device) -> Said {
    let said = said
        .with_some("kind", device.kind.as_ref())
        .with("groups", &device.groups.join(" "))
        .with_some("gateway_for", device.gateway_for.as_ref());
    if device.describing.is_empty() { said } else { said.with("allow_profile", "true") }
}

const fn group_act(step: &GroupStep) -> Act {
    match step {
        GroupStep::Remove | GroupStep::RemoveWithScenes => Act::GroupRemove,
        GroupStep::Put { .. }
        | GroupStep::Edit { .. }
        | GroupStep::Join(_)
        | GroupStep::Leave(_) => Act::GroupSet,
    }
}

fn of_group(said: Said, step: &GroupStep) -> Said {
    match step {
        GroupStep::Put { name, devices } => {
            said.with_some("name", name.as_ref()).with("devices", &devices.join(" "))
        }
        GroupStep::Edit { name, devices } => {
            let said = said.with_some("name", name.as_ref().and_then(Option::as_ref));
            said.with("devices", &devices.as_deref().unwrap_or_default().join(" "))
        }
        GroupStep::Remove => said,
        GroupStep::RemoveWithScenes => said.with("scenes", "all"),
        GroupStep::Join(device) => said.with("joins", device),
        GroupStep::Leave(device) => said.with("leaves", device),
    }
}

/// What an edit sets; what it takes away is told as `none`.
fn of_edit(edit: &Edit, said: impl Fn(Act, &str) -> Said) -> Said {
    let none = "none".to_owned();
    let or_none = |part: &Option<Option<String>>| {
        part.as_ref().map(|part| part.clone().unwrap_or_else(|| none.clone()))
    };
    let list = |part: &Option<Vec<String>>| match part {
        Some(part) if part.is_empty() => Some(none.clone()),
        part => part.as_ref().map(|part| part.join(" ")),
    };
    match edit {
        Edit::Device { id, name, kind, groups, gateway_for } => said(Act::DeviceEdit, id)
            .with_some("name", or_none(name).as_ref())
            .with_some("kind", kind.as_ref())
            .with_some("groups", list(groups).as_ref())
            .with_some("gateway_for", or_none(gateway_for).as_ref()),
        Edit::Key { name, role, grants, expires_ms } => {
            let end = expires_ms.map(|end| end.map_or(none.clone(), |end| end.to_string()));
            said(Act::KeyEdit, name)
                .with_some("role", or_none(role).as_ref())
                .with_some("grants", list(grants).as_ref())
                .with_some("expires", end.as_ref())
        }
        Edit::User { name, role } => said(Act::UserEdit, name).with_some("role", role.as_ref()),
    }
}

fn of_tenant(said: Said, limits: &TenantLimits) -> Said {
    let TenantLimits { connections_max, devices_max, retained_max, messages_per_second } = limits;
    [
        ("connections_max", connections_max),
        ("devices_max", devices_max),
        ("retained_max", retained_max),
        ("messages_per_second", messages_per_second),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, (*value)?)))
    .fold(said, |said, (name, value)| said.with(name, &value.to_string()))
}

/// What is told of an integration: never its address, whose path or query may hold a secret.
fn of_integration(
    name: &str,
    step: &IntegrationStep,
    said: impl Fn(Act, &str) -> Said,
) -> Option<Said> {
    Some(match step {
        IntegrationStep::Add { integration, .. } => {
            let added = said(Act::IntegrationAdd, name).with("kind", integration.kind.as_str());
            let target = integration.target.as_ref();
            let added = added.with("filter", target.map_or("", |target| &target.filter));
            let is_private = target.is_some_and(|target| target.allow_private);
            if is_private { added.with("allow_private", "true") } else { added }
        }
        IntegrationStep::Edit(edit) => {
            let edited = said(Act::IntegrationEdit, name).with_some("filter", edit.filter.as_ref());
            let parts = [
                ("url", edit.url.is_some()),
                ("secret", edit.secret.is_some()),
                ("signing_secret", edit.signing.is_some()),
            ];
            let changed = parts.into_iter().filter(|(_, is_set)| *is_set);
            let edited = changed.fold(edited, |said, (part, _)| said.with(part, "changed"));
            let private = edit.allow_private.map(|allowed| allowed.to_string());
            edited.with_some("allow_private", private.as_ref())
        }
        IntegrationStep::Pause(true) => said(Act::IntegrationPause, name),
        IntegrationStep::Pause(false) => said(Act::IntegrationResume, name),
        IntegrationStep::Remove => said(Act::IntegrationRemove, name),
        IntegrationStep::Rotate(_) => said(Act::IntegrationRotate, name),
        IntegrationStep::Replay(after) => {
            said(Act::IntegrationReplay, name).with("after", &after.to_string())
        }
        IntegrationStep::Retry(message) => {
            said(Act::IntegrationReplay, name).with("message", &message.to_string())
        }
        IntegrationStep::Drop(message) => {
            said(Act::IntegrationDrop, name).with("message", &message.to_string())
        }
        // The gateway's own, about once a second.
        IntegrationStep::Report(_) => return None,
    })
}

const fn of_step(step: &SignInStep) -> Option<Act> {
    match step {
        SignInStep::Begin { by: SignInBy::Password(_), .. } => Some(Act::SignIn),
        SignInStep::Begin { by: SignInBy::Link(_), .. } => Some(Act::LoginLinkUse),
        SignInStep::End(_) => Some(Act::SignOut),
        SignInStep::Link(_) => Some(Act::LoginLinkAdd),
        // Whoever is signed in does this every few minutes.
        SignInStep::Renew { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> AuditEntry {
        let author = Author { name: "user:ada".to_owned(), address: "::1".parse().ok() };
        let said = Said::done(Act::KeyAdd, &author, "dashboard").with("role", "viewer");
        AuditEntry::after(None, Seq(7), UnixMs(9), said)
    }

    #[test]
    fn the_hash_is_over_everything_in_an_entry() {
        let whole = entry();
        assert_eq!(whole.hash, whole.computed());
        let changes: [fn(&mut AuditEntry); 11] = [
            |e| e.number = 2,
            |e| e.seq = 8,
            |e| e.time_ms = 8,
            |e| e.previous[31] = 1,
            |e| e.said.act = "key.revoke".to_owned(),
            |e| e.said.author.name = "user:eve".to_owned(),
            |e| e.said.author.address = None,
            |e| e.said.target = "dashboar".to_owned(),
            |e| e.said.outcome = "conflict".to_owned(),
            |e| e.said.count = 2,
            |e| e.said.details[0].1 = "admin".to_owned(),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut changed = whole.clone();
            change(&mut changed);
            assert_ne!(changed.computed(), whole.hash, "{at}");
        }
        // Where one text ends and the next begins counts too.
        let mut moved = whole.clone();
        moved.said.target = "dashboardo".to_owned();
        moved.said.outcome = "k".to_owned();
        assert_ne!(moved.computed(), whole.hash);
    }

    #[test]
    fn a_chain_without_one_of_its_entries_or_with_another_is_broken_there() {
        let mut chain: Vec<Arc<AuditEntry>> = Vec::new();
        for seq in 1..=5 {
            let said = Said::done(Act::DeviceAdd, &Author::local(), &format!("lamp-{seq}"));
            let last = chain.last().map(|entry| &**entry);
            chain.push(Arc::new(AuditEntry::after(last, Seq(seq), UnixMs(seq), said)));
        }
        assert_eq!(broken_at(&chain), None);
        assert_eq!(broken_at(&[]), None);
        for at in 0..4 {
            let mut less = chain.clone();
            less.remove(at);
            assert_eq!(broken_at(&less), Some(at as u64 + 2), "{at} is gone");
            let mut swapped = chain.clone();
            swapped.swap(at, at + 1);
            assert!(broken_at(&swapped).is_some());
        }
        // One that is made anew, with its hash, does not fit to the next.
        let mut other = chain.clone();
        let said = Said::done(Act::DeviceAdd, &Author::local(), "another");
        other[1] = Arc::new(AuditEntry::after(Some(&chain[0]), Seq(2), UnixMs(2), said));
        assert_eq!(broken_at(&other), Some(3));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let said = Said::done(Act::KeyAdd, &Author::local(), &"ä".repeat(500));
        assert!(said.target.len() <= TEXT_BYTES_MAX && said.target.ends_with("ä…"));
        assert_eq!(short(&"x".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
    }
}
