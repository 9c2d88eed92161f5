//! Tests of `bridge`.

use fieldgate_core::{access::Role, id::Seq, profile::Profile, topic::Topic};

use super::*;
use crate::{
    port::Followed,
    record::{Entry, Record},
    registry::{Change, Described, Device, RegistryChange},
    secret::MasterKey,
    state::StateLimits,
};

struct Life {
    state: State,
    seq: u64,
}

fn default() -> TenantId {
    TenantId::default_tenant()
}

fn id(device: &str) -> DeviceId {
    device.parse().unwrap()
}

impl Life {
    fn begin() -> Self {
        let state = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
        Self { state, seq: 0 }
    }

    fn at(&mut self, ms: u64, change: Change) -> Result<Vec<Effect>, Code> {
        self.seq += 1;
        let record = Record::Registry(Box::new(RegistryChange::local("default", change)));
        let entry = Entry { seq: Seq(self.seq), arrived: UnixMs(ms), record };
        let effects = self.state.apply(&Followed::Entry(Arc::new(entry)));
        let outcome = self.state.outcome(Seq(self.seq)).unwrap();
        outcome.map(|()| effects).map_err(|fault| fault.code)
    }

    fn number(&mut self, device: &str, parts: &[(bool, &str, u8)]) -> Result<Vec<Effect>, Code> {
        let parts = parts.iter().map(|(light, word, n)| (*light, (*word).to_owned(), *n)).collect();
        self.at(0, Change::Parts { device: device.to_owned(), parts, clip: None })
    }

    fn add(&mut self, device: &str, unique_id: Option<&str>) {
        let unique_id = unique_id.map(str::to_owned);
        let profile = Arc::new(Profile { unique_id, ..Profile::default() });
        let profile = Some(Described { revision: 1, profile });
        let device = Device { id: device.to_owned(), profile, ..Device::default() };
        self.at(0, Change::DeviceAdd(device)).unwrap();
    }

    fn key(&mut self, name: &str) -> Result<Vec<Effect>, Code> {
        let hash = self.state.master_key().hash_bridge(&format!("key of {name}"));
        let (id, name) = (name.to_owned(), format!("app {name}"));
        let key = BridgeKey { id, name, hash, created_ms: 1, ..BridgeKey::default() };
        self.at(1, Change::Bridge(BridgeStep::KeyAdd(key)))
    }

    fn see(&mut self, ms: u64, id: &str, address: &str) -> Result<Vec<Effect>, Code> {
        let (id, address) = (id.to_owned(), address.to_owned());
        self.at(ms, Change::Bridge(BridgeStep::Seen { id, address }))
    }

    fn parts(&self, device: &str) -> Arc<Parts> {
        self.state.parts(&default(), &id(device)).unwrap()
    }

    fn number_of(&self, device: &str, word: &str, instance: u8) -> Option<u64> {
        self.parts(device).numbers.get(&(word.to_owned(), instance)).copied()
    }

    fn address(&self, device: &str) -> String {
        let address = self.parts(device).address;
        address.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// The same state, from its rows.
    fn restart(&mut self) {
        let key = MasterKey::ephemeral().unwrap();
        let snapshot = self.state.snapshot(&self.state.changes());
        self.state = State::new(key, StateLimits::default());
        snapshot.rows.into_iter().for_each(|(key, row)| self.state.restore(key, row));
    }
}

#[test]
fn an_address_follows_from_the_name_of_a_device() {
    let mut life = Life::begin();
    life.number("sensor-001", &[]).unwrap();
    life.number("switch-1", &[]).unwrap();
    assert_eq!(life.address("sensor-001"), "0a:20:15:96:f3:d2:04:29");
    assert_eq!(life.address("switch-1"), "a6:aa:c2:f5:0a:ae:4e:e5");
}

#[test]
fn an_address_of_a_profile_counts_unless_another_device_has_it() {
    let mut life = Life::begin();
    let own = "00:11:22:AA:44:55:66:77";
    for device in ["a", "b"] {
        life.add(device, Some(own));
        life.number(device, &[]).unwrap();
    }
    assert_eq!(life.address("a"), own.to_lowercase());
    assert_ne!(life.address("b"), own.to_lowercase());
    // Somebody else says that they are what this one would be.
    let taken = "0a:20:15:96:f3:d2:04:29";
    life.add("c", Some(taken));
    life.number("c", &[]).unwrap();
    life.number("sensor-001", &[]).unwrap();
    let next = hashed("default/sensor-001#1").map(|byte| format!("{byte:02x}")).join(":");
    assert_eq!((life.address("c"), life.address("sensor-001")), (taken.to_owned(), next));
    life.restart();
    life.add("d", Some(taken));
    life.number("d", &[]).unwrap();
    assert_ne!(life.address("d"), taken, "a restart forgets no address");
}

#[test]
fn lights_and_sensors_count_apart_and_no_number_is_given_twice() {
    let mut life = Life::begin();
    life.add("lamp", None);
    life.number("lamp", &[(true, "light", 1), (false, "power", 1), (false, "battery", 1)]).unwrap();
    life.number("other", &[(false, "power", 1), (true, "light", 2), (true, "light", 1)]).unwrap();
    let numbers = |life: &Life| {
        let of = |device, word, instance| life.number_of(device, word, instance).unwrap();
        [
            of("lamp", "light", 1),
            of("lamp", "power", 1),
            of("lamp", "battery", 1),
            of("other", "light", 2),
            of("other", "light", 1),
            of("other", "power", 1),
        ]
    };
    assert_eq!(numbers(&life), [1, 1, 2, 2, 3, 3]);
    life.at(0, Change::DeviceRemove("lamp".to_owned())).unwrap();
    assert_eq!(life.state.all_parts(&default()).len(), 2, "they wait for the device");
    life.restart();
    life.number("lamp", &[(true, "light", 1), (false, "water", 1)]).unwrap();
    assert_eq!(numbers(&life), [1, 1, 2, 2, 3, 3]);
    assert_eq!(life.number_of("lamp", "water", 1), Some(4));
}

#[test]
fn a_change_that_is_refused_gives_no_number() {
    let mut life = Life::begin();
    let many: Vec<_> = (0..=u8::MAX).collect();
    let words = ["a", "b", "c", "d"];
    let parts: Vec<_> = words.iter().flat_map(|w| many.iter().map(|n| (true, *w, *n))).collect();
    assert_eq!(life.number("lamp", &parts).unwrap_err(), Code::QueueFull);
    assert_eq!(life.number("lamp", &[(true, "", 1)]).unwrap_err(), Code::BadValue);
    assert_eq!(life.number("no device", &[(true, "light", 1)]).unwrap_err(), Code::BadValue);
    assert!(life.state.all_parts(&default()).is_empty());
    life.number("lamp", &parts[..PARTS_MAX]).unwrap();
    assert_eq!(life.number_of("lamp", "a", 0), Some(1));
}

#[test]
fn a_tenant_numbers_so_many_devices_and_no_more() {
    let mut life = Life::begin();
    let parts = Arc::new(Parts::default());
    for nth in 0..NUMBERED_DEVICES_MAX {
        let key = RowKey::Parts(default(), id(&nth.to_string()));
        life.state.restore(key, Row::Parts(Arc::clone(&parts)));
    }
    assert_eq!(life.number("one-more", &[]).unwrap_err(), Code::QueueFull);
    life.number("7", &[(true, "light", 1)]).unwrap();
}

#[test]
fn what_an_app_says_of_its_sensor_stays_until_the_device_goes() {
    let mut life = Life::begin();
    life.add("door", None);
    let clip = |text: &str| {
        let (device, parts) = ("door".to_owned(), Vec::new());
        Change::Parts { device, parts, clip: Some(text.to_owned()) }
    };
    life.at(0, clip("a door")).unwrap();
    life.number("door", &[(false, "open_close", 1)]).unwrap();
    assert_eq!(life.parts("door").clip.as_deref(), Some("a door"));
    assert_eq!(life.at(0, clip(&"x".repeat(CLIP_BYTES_MAX + 1))).unwrap_err(), Code::TooLarge);
    life.at(0, Change::DeviceRemove("door".to_owned())).unwrap();
    assert_eq!(life.parts("door").clip, None);
    assert_eq!(life.number_of("door", "open_close", 1), Some(1));
}

#[test]
fn a_sensor_that_an_app_made_takes_its_numbers_with_it_and_nothing_gets_them_again() {
    let mut life = Life::begin();
    let made = |device: &str| Change::Parts {
        device: device.to_owned(),
        parts: vec![(false, "water".to_owned(), 1)],
        clip: Some("a sink".to_owned()),
    };
    assert_eq!(life.at(0, made("clip-a")).unwrap_err(), Code::NotFound);
    life.add("clip-a", None);
    life.at(0, made("clip-a")).unwrap();
    assert_eq!(life.number_of("clip-a", "water", 1), Some(1));
    life.at(0, Change::DeviceRemove("clip-a".to_owned())).unwrap();
    assert!(life.state.all_parts(&default()).is_empty());
    life.restart();
    life.add("clip-b", None);
    life.at(0, made("clip-b")).unwrap();
    assert_eq!(life.number_of("clip-b", "water", 1), Some(2));
}

#[test]
fn a_tenant_that_is_gone_gets_neither_numbers_nor_keys() {
    let mut life = Life::begin();
    let mut at = |change| {
        life.seq += 1;
        let change = RegistryChange { author: None, ..RegistryChange::local("acme", change) };
        let record = Record::Registry(Box::new(change));
        let entry = Entry { seq: Seq(life.seq), arrived: UnixMs(1), record };
        drop(life.state.apply(&Followed::Entry(Arc::new(entry))));
        life.state.outcome(Seq(life.seq)).unwrap().map_err(|fault| fault.code)
    };
    let parts = || Change::Parts {
        device: "lamp".to_owned(),
        parts: vec![(true, "light".to_owned(), 1)],
        clip: None,
    };
    let key = |id: &str| {
        let (id, name) = (id.to_owned(), "app".to_owned());
        let key = BridgeKey { id, name, hash: [7; 32], ..BridgeKey::default() };
        Change::Bridge(BridgeStep::KeyAdd(key))
    };
    assert_eq!([at(parts()), at(key("a"))], [Err(Code::NotFound), Err(Code::NotFound)]);
    at(Change::TenantAdd(crate::registry::TenantLimits::default())).unwrap();
    assert_eq!([at(parts()), at(key("a"))], [Ok(()), Ok(())]);
    at(Change::TenantRemove).unwrap();
    assert_eq!([at(parts()), at(key("b"))], [Err(Code::NotFound), Err(Code::NotFound)]);
    let acme: TenantId = "acme".parse().unwrap();
    assert!(life.state.all_parts(&acme).is_empty() && life.state.bridge_keys(&acme).is_empty());
}

#[test]
fn who_the_configuration_lets_listen_stays_as_long_as_the_tenant() {
    let life = Life::begin();
    let listens = |verb| Grant { deny: false, verb, filter: "#".parse().unwrap() };
    let guest = Principal {
        tenant: default(),
        name: "deconz".into(),
        identity: Identity::Key,
        role: None,
        grants: vec![listens(Verb::Subscribe)],
        only: None,
        proof: None,
        expires: None,
    };
    let refresh = |principal: &Principal| life.state.refresh(principal, UnixMs(1));
    assert_eq!(refresh(&guest), Some(guest.clone()));
    let gone = Principal { tenant: "acme".parse().unwrap(), ..guest.clone() };
    assert_eq!(refresh(&gone), None);
    let more = Principal { grants: vec![listens(Verb::Publish)], ..guest.clone() };
    assert_eq!(refresh(&more), None);
    let key = Principal { proof: Some(1), ..guest.clone() };
    assert_eq!(refresh(&key), None, "a key that there is not");
    let role = Principal { role: Some(Role::Viewer), ..guest };
    assert_eq!(refresh(&role), None);
}

#[test]
fn a_key_reads_and_commands_on_its_interface_alone_until_it_is_revoked() {
    let mut life = Life::begin();
    life.key("hub").unwrap();
    assert_eq!(life.key("hub").unwrap_err(), Code::Conflict);
    let (hub, key) = life.state.verify_bridge_key("key of hub").unwrap();
    assert_eq!((&*hub.name, &*key.name, &hub.identity), ("deconz:hub", "app hub", &Identity::Key));
    let topic: Topic = "devices/lamp/telemetry".parse().unwrap();
    assert!(hub.may_receive(&topic) && hub.may_command(&id("lamp")));
    assert!(!hub.may(Verb::Admin, &"#".parse().unwrap()));
    assert_eq!(life.state.verify_token(&default(), None, "key of hub", UnixMs(1)), None);
    assert!(life.state.verify_bridge_key("key of nobody").is_none());
    assert_eq!(life.state.refresh(&hub, UnixMs(1)), Some(hub.clone()));
    let effects = life.at(2, Change::Bridge(BridgeStep::KeyRemove("hub".to_owned()))).unwrap();
    assert!(
        matches!(&effects[..], [Effect::RightsChanged { name, .. }] if &**name == "deconz:hub")
    );
    assert!(life.state.verify_bridge_key("key of hub").is_none());
    assert_eq!(life.state.refresh(&hub, UnixMs(2)), None);
    let again = life.at(2, Change::Bridge(BridgeStep::KeyRemove("hub".to_owned())));
    assert_eq!(again.unwrap_err(), Code::NotFound);
    // A key of the same id is another key.
    let key = BridgeKey { id: "hub".into(), name: "b".into(), hash: [9; 32], ..Default::default() };
    life.at(3, Change::Bridge(BridgeStep::KeyAdd(key))).unwrap();
    assert_eq!(life.state.refresh(&hub, UnixMs(3)), None);
}

#[test]
fn there_are_so_many_keys_and_a_used_one_makes_no_room() {
    let mut life = Life::begin();
    for nth in 0..BRIDGE_KEYS_MAX {
        life.key(&nth.to_string()).unwrap();
    }
    assert_eq!(life.key("more").unwrap_err(), Code::QueueFull);
    assert_eq!(life.state.bridge_keys(&default()).len(), BRIDGE_KEYS_MAX);
    life.at(2, Change::Bridge(BridgeStep::KeyRemove("7".to_owned()))).unwrap();
    life.key("more").unwrap();
}

#[test]
fn a_key_knows_where_it_was_used_and_when() {
    let mut life = Life::begin();
    life.key("hub").unwrap();
    life.see(10, "hub", "192.0.2.1").unwrap();
    life.see(20, "hub", "192.0.2.1").unwrap();
    life.see(15, "hub", "192.0.2.1").unwrap();
    let key = life.state.bridge_key(&default(), "hub").unwrap();
    assert_eq!((key.used_ms, key.addresses["192.0.2.1"]), (20, 20));
    for nth in 0..ADDRESSES_MAX {
        life.see(30 + nth as u64, "hub", &format!("::{nth:x}")).unwrap();
    }
    let key = life.state.bridge_key(&default(), "hub").unwrap();
    assert_eq!(key.addresses.len(), ADDRESSES_MAX);
    assert!(!key.addresses.contains_key("192.0.2.1"), "the one longest unseen goes");
    assert!(key.addresses.contains_key("::0"));
    assert_eq!(life.see(99, "hub", "somewhere").unwrap_err(), Code::BadValue);
    assert_eq!(life.see(99, "nobody", "::1").unwrap_err(), Code::NotFound);
}
