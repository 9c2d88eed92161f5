//! What registry records do to the profiles of devices.
//!
//! Called in seq order by the one thread that applies the log. Invariant: a revision rises with each
//! change of a profile, and with nothing else; the bytes of a tenant's profiles are counted.

use std::sync::Arc;

use fieldgate_core::{
    fault::{Code, Fault},
    id::DeviceId,
    profile::Profile,
};

use super::{
    Effect, StateLimits,
    tenants::{Tenant, no_such},
};
use crate::registry::Described;

impl Tenant {
    /// Replaces the profile of a device.
    pub(super) fn set_profile(
        &mut self,
        id: &str,
        expected: Option<u64>,
        profile: &Arc<Profile>,
        limits: &StateLimits,
    ) -> Result<Vec<Effect>, Fault> {
        let missing = || no_such("device", id);
        let key: DeviceId = id.parse().map_err(|_| missing())?;
        let device = self.devices.get(&key).ok_or_else(missing)?;
        let before = device.profile.as_ref();
        let revision = before.map_or(0, |described| described.revision);
        if expected.is_some_and(|expected| expected != revision) {
            let text = format!("the profile of {id} has the revision {revision}: read it again");
            return Err(Fault::new(Code::Conflict, text));
        }
        if before.is_some_and(|described| described.profile == *profile) {
            return Ok(Vec::new());
        }
        self.take_room(device.profile_bytes(), profile.byte_len(), limits)?;
        let device = self.devices.get_mut(&key).ok_or_else(missing)?;
        let device = Arc::make_mut(device);
        device.kind = Some(profile.kind.as_str().to_owned());
        device.profile = Some(Described { revision: revision + 1, profile: Arc::clone(profile) });
        Ok(Vec::new())
    }

    /// Counts a profile that takes the place of another.
    pub(super) fn take_room(
        &mut self,
        before: usize,
        after: usize,
        limits: &StateLimits,
    ) -> Result<(), Fault> {
        let bytes = self.profile_bytes.saturating_sub(before) + after;
        if after > before && bytes > limits.profile_bytes_max {
            let text = "the profiles of all devices of this tenant take too many bytes together";
            return Err(Fault::new(Code::QueueFull, text));
        }
        self.profile_bytes = bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use fieldgate_core::{
        id::{Seq, TenantId, UnixMs},
        profile::{Kind, Resource},
    };

    use super::*;
    use crate::{
        port::Followed,
        record::{Entry, Record},
        registry::{Change, Device, RegistryChange},
        secret::MasterKey,
        state::State,
    };

    struct Run {
        state: State,
        seq: u64,
    }

    impl Run {
        fn new(profile_bytes_max: usize) -> Self {
            let limits = StateLimits { profile_bytes_max, ..StateLimits::default() };
            Self { state: State::new(MasterKey::ephemeral().unwrap(), limits), seq: 0 }
        }

        fn apply(&mut self, change: Change) -> Result<(), Code> {
            self.seq += 1;
            let change = RegistryChange::local("default", change);
            let (seq, record) = (Seq(self.seq), Record::Registry(Box::new(change)));
            let entry = Entry { seq, arrived: UnixMs(self.seq), record };
            self.state.apply(&Followed::Entry(Arc::new(entry)));
            self.state.outcome(Seq(self.seq)).unwrap().map_err(|fault| fault.code)
        }

        fn add(&mut self, id: &str) -> Result<(), Code> {
            let hash = self.state.master_key().hash(&format!("token of {id}"));
            let credentials = BTreeMap::from([("token-1".to_owned(), hash)]);
            let device = Device { id: id.to_owned(), credentials, ..Device::default() };
            self.apply(Change::DeviceAdd(device))
        }

        fn set(&mut self, id: &str, expected: Option<u64>, model: &str) -> Result<(), Code> {
            let profile = Arc::new(profile(model));
            self.apply(Change::ProfileSet { device: id.to_owned(), expected, profile })
        }

        fn revision(&self, id: &str) -> Option<u64> {
            let device = self.state.device(&TenantId::default_tenant(), &id.parse().unwrap());
            device.unwrap().profile.as_ref().map(|described| described.revision)
        }
    }

    fn profile(model: &str) -> Profile {
        let on = Resource { name: "on".to_owned(), writable: true, ..Resource::default() };
        let (kind, model) = (Kind::Plug, model.to_owned());
        Profile { kind, model, resources: vec![on], ..Profile::default() }
    }

    #[test]
    fn a_revision_rises_with_each_change_and_is_a_condition() {
        let mut run = Run::new(1 << 20);
        assert_eq!(run.set("a", None, "x"), Err(Code::NotFound));
        run.add("a").unwrap();
        assert_eq!(run.revision("a"), None);
        assert_eq!(run.set("a", Some(1), "x"), Err(Code::Conflict));
        assert_eq!(run.set("a", Some(0), "x"), Ok(()));
        assert_eq!(run.set("a", None, "x"), Ok(()));
        assert_eq!(run.revision("a"), Some(1));
        assert_eq!(run.set("a", Some(1), "y"), Ok(()));
        assert_eq!(run.set("a", Some(1), "z"), Err(Code::Conflict));
        assert_eq!(run.revision("a"), Some(2));
        let device = run.state.device(&TenantId::default_tenant(), &"a".parse().unwrap()).unwrap();
        assert_eq!(device.kind.as_deref(), Some("plug"));
        assert_eq!(*device.profile.as_ref().unwrap().profile, profile("y"));
    }

    #[test]
    fn the_profiles_of_a_tenant_are_bounded_together() {
        let room = profile("a").byte_len();
        let mut run = Run::new(2 * room);
        for id in ["a", "b", "c"] {
            run.add(id).unwrap();
        }
        run.set("a", None, "a").unwrap();
        run.set("b", None, "b").unwrap();
        assert_eq!(run.set("c", None, "c"), Err(Code::QueueFull));
        assert_eq!(run.set("a", None, "longer"), Err(Code::QueueFull));
        assert_eq!(run.set("a", None, "x"), Ok(()));
        run.apply(Change::DeviceRemove("a".to_owned())).unwrap();
        assert_eq!(run.set("c", None, "c"), Ok(()));
    }

    #[test]
    fn only_the_credential_that_was_given_the_right_describes() {
        let mut run = Run::new(1 << 20);
        run.add("a").unwrap();
        let id: DeviceId = "a".parse().unwrap();
        let may = |run: &Run, token: &str| {
            let now = UnixMs(0);
            let tenant = TenantId::default_tenant();
            let principal = run.state.verify_token(&tenant, Some(&id), token, now);
            principal.map(|principal| principal.may_describe(&id))
        };
        assert_eq!(may(&run, "token of a"), Some(false));
        let (device, hash) = ("a".to_owned(), run.state.master_key().hash("second"));
        let credential = "token-2".to_owned();
        run.apply(Change::CredentialAdd { device, credential, hash, describing: true }).unwrap();
        assert_eq!((may(&run, "token of a"), may(&run, "second")), (Some(false), Some(true)));
        let (id_text, credential) = ("a".to_owned(), "token-3".to_owned());
        let hash = run.state.master_key().hash("third");
        run.apply(Change::DeviceRotate { id: id_text, credential, hash }).unwrap();
        assert_eq!((may(&run, "second"), may(&run, "third")), (None, Some(true)));
        let (device, credential) = ("a".to_owned(), "token-3".to_owned());
        run.apply(Change::CredentialRemove { device, credential }).unwrap();
        let device = run.state.device(&TenantId::default_tenant(), &id).unwrap();
        assert_eq!(device.describing, BTreeSet::new());
    }
}
