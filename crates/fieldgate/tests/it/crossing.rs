//! No byte of one tenant reaches another: random acts in three tenants that call everything the same,
//! and whatever anybody in one of them receives is searched for the marks of the others.
//!
//! Names that differ, and each payload, hold the mark of their tenant. Who asks for what another tenant
//! has gets the bytes that they get for what nobody has. More cases by `FIELDGATE_CROSSING_CASES`.

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::support::{Events, Gateway, Wire, exchange, post, post_open, request};

/// In how many ways something of somebody else is asked for.
const WANTED_LEN: usize = 28;
/// Tenants and their marks. Nothing that the gateway says by itself holds one.
const TENANTS: [(&str, &str); 3] =
    [("default", "whitemark"), ("redmark", "redmark"), ("bluemark", "bluemark")];
const LISTS: [&str; 13] = [
    "/v1/devices",
    "/v1/devices/lamp",
    "/v1/devices/lamp/state",
    "/v1/devices/lamp/history?order=desc",
    "/v1/devices/lamp/credentials",
    "/v1/groups",
    "/v1/keys",
    "/v1/users",
    "/v1/clients",
    "/v1/integrations",
    "/v1/drops",
    "/v1/status",
    "/v1/audit?limit=1000",
];

#[derive(Debug, Clone)]
enum Op {
    Publish { who: usize, topic: usize, retain: bool, by_request: bool },
    Report { who: usize, own: bool },
    Command { who: usize, own: bool },
    Subscribe { who: usize, since: From },
    Stream { who: usize },
    Reconnect { who: usize },
    Look { who: usize, list: usize },
    Probe { who: usize, whose: usize, what: usize },
    Kill,
}

#[derive(Debug, Clone, Copy)]
enum From {
    Now,
    All,
    /// Behind a position that somebody else was told.
    Elsewhere,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..TENANTS.len();
    let since = prop_oneof![Just(From::Now), Just(From::All), Just(From::Elsewhere)];
    prop_oneof![
        8 => (who.clone(), 0..6_usize, any::<bool>(), any::<bool>())
            .prop_map(|(who, topic, retain, by_request)| Op::Publish { who, topic, retain, by_request }),
        6 => (who.clone(), any::<bool>()).prop_map(|(who, own)| Op::Report { who, own }),
        4 => (who.clone(), any::<bool>()).prop_map(|(who, own)| Op::Command { who, own }),
        4 => (who.clone(), since).prop_map(|(who, since)| Op::Subscribe { who, since }),
        2 => who.clone().prop_map(|who| Op::Stream { who }),
        2 => who.clone().prop_map(|who| Op::Reconnect { who }),
        8 => (who.clone(), 0..LISTS.len()).prop_map(|(who, list)| Op::Look { who, list }),
        8 => (who.clone(), who, any::<usize>())
            .prop_map(|(who, whose, what)| Op::Probe { who, whose, what }),
        1 => Just(Op::Kill),
    ]
}

/// The first mark in a text that is not of its tenant.
fn foreign(mark: &str, text: &str) -> Option<&'static str> {
    let mut others = TENANTS.iter().map(|(_, other)| *other).filter(|other| *other != mark);
    others.find(|other| text.contains(other))
}

/// Those of a tenant who act.
struct Party {
    tenant: &'static str,
    mark: &'static str,
    admin: String,
    /// Asks for what others have: what it asked for stands in the audit of its own tenant.
    prober: String,
    /// Of the key that is called by its mark.
    named: String,
    token: String,
    app: Wire,
    lamp: Wire,
    /// Of that key; it is only there.
    there: Wire,
    /// The number of everything that is sent, so that no two payloads are the same.
    sent: u64,
    /// How many frames it saw with its own mark.
    own_count: usize,
    /// The newest position and the newest command that it was told.
    position: Option<String>,
    command: Option<String>,
}

impl Party {
    fn new(gateway: &Gateway, (tenant, mark): (&'static str, &'static str)) -> Self {
        if tenant != "default" {
            gateway.admin(&["tenant", "add", tenant, "--retained", "3"]);
        }
        let of = |arguments: &[&str]| gateway.admin(&[arguments, &["--tenant", tenant]].concat());
        let key = |name: &str| {
            let made = of(&["key", "add", name, "--role", "admin"]);
            made["key"].as_str().unwrap().to_owned()
        };
        let (admin, prober) = (key("app"), key("prober"));
        let named = key(&format!("key-{mark}"));
        let lamp = ["device", "add", "lamp", "--name", mark, "--group", "all"];
        let token = of(&lamp)["token"].as_str().unwrap().to_owned();
        of(&["device", "add", &format!("lamp-{mark}"), "--group", mark]);
        of(&["integration", "add", &format!("in-{mark}"), "--kind", "thingsee-in"]);
        for name in ["ada".to_owned(), format!("ada-{mark}")] {
            let body = json!({"name": name, "role": "viewer", "password": format!("word-{mark}")});
            assert_eq!(post(&gateway.address, "/v1/users", &admin, &body.to_string()).0, 201);
        }
        let body = json!({"tenant": tenant, "name": "ada", "password": format!("word-{mark}")});
        assert_eq!(post_open(&gateway.address, "/v1/login", &body).0, 200);
        let (app, lamp) = links(gateway, tenant, &admin, &token);
        Self {
            tenant,
            mark,
            there: gateway.as_app(&named),
            named,
            admin,
            prober,
            token,
            app,
            lamp,
            sent: 0,
            own_count: 0,
            position: None,
            command: None,
        }
    }

    fn reconnect(&mut self, gateway: &Gateway) {
        (self.app, self.lamp) = links(gateway, self.tenant, &self.admin, &self.token);
        self.there = gateway.as_app(&self.named);
    }

    /// A payload that nobody else sends.
    fn payload(&mut self) -> Value {
        self.sent += 1;
        json!({"of": self.mark, "number": self.sent})
    }

    fn device(&self, own: bool) -> String {
        if own { format!("lamp-{}", self.mark) } else { "lamp".to_owned() }
    }

    /// Looks at what came.
    fn check(&mut self, what: &str, text: &str) {
        if let Some(other) = foreign(self.mark, text) {
            panic!("{} was shown {other} by {what}: {text}", self.mark);
        }
        self.own_count += usize::from(text.contains(self.mark));
    }

    /// Takes a frame of the connection of the program; its type.
    fn take(&mut self, frame: &Value) {
        self.check("a frame", &frame.to_string());
        if let Some(position) = frame["msgid"].as_str().filter(|_| frame["type"] == "mqtt") {
            self.position = Some(position.to_owned());
        }
        if let Some(position) = frame["position"].as_str().filter(|_| frame["type"] == "queued") {
            self.position = Some(position.to_owned());
        }
    }

    /// Reads until the last message that it was told to be stored.
    fn read_until_last(&mut self) {
        let last = json!(self.position);
        loop {
            let frame = self.app.next();
            self.take(&frame);
            if frame["type"] == "mqtt" && frame["msgid"] == last {
                return;
            }
        }
    }

    const fn wire(&mut self, at: usize) -> &mut Wire {
        match at {
            0 => &mut self.app,
            1 => &mut self.lamp,
            _ => &mut self.there,
        }
    }

    /// Reads all that came until now, on every connection.
    fn read(&mut self) {
        for at in 0..3 {
            self.wire(at).send(&json!({"type": "ping"}));
            loop {
                let frame = self.wire(at).next();
                self.take(&frame);
                match frame["type"].as_str() {
                    Some("pong") => break,
                    Some("control") => {
                        let msgid = &frame["msgid"];
                        let reply = json!({"type": "reply", "msgid": msgid, "status": "ok",
                            "payload": {"of": self.mark}});
                        self.lamp.send(&reply);
                    }
                    _ => (),
                }
            }
        }
    }
}

fn links(gateway: &Gateway, tenant: &str, admin: &str, token: &str) -> (Wire, Wire) {
    let mut lamp = gateway.connect();
    let auth = json!({"type": "auth", "deviceId": "lamp", "token": token, "tenant": tenant});
    lamp.send(&auth);
    assert_eq!(lamp.next()["status"], "success");
    (gateway.as_app(admin), lamp)
}

struct World {
    gateway: Gateway,
    parties: Vec<Party>,
    probe_count: usize,
}

impl World {
    fn new() -> Self {
        let limits = ["limits.messages_per_second=1000000", "limits.message_burst=1000000"];
        let gateway = Gateway::with(&limits);
        let parties = TENANTS.map(|tenant| Party::new(&gateway, tenant)).into();
        Self { gateway, parties, probe_count: 0 }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Publish { who, topic, retain, by_request } => {
                self.publish(*who, *topic, *retain, *by_request);
            }
            Op::Report { who, own } => self.report(*who, *own),
            Op::Command { who, own } => self.command(*who, *own),
            Op::Subscribe { who, since } => self.subscribe(*who, *since),
            Op::Stream { who } => self.stream(*who),
            Op::Reconnect { who } => self.parties[*who].reconnect(&self.gateway),
            Op::Look { who, list } => self.look(*who, LISTS[*list]),
            Op::Probe { who, whose, what } => self.probe(*who, *whose, *what),
            Op::Kill => {
                self.gateway.kill();
                self.gateway.up();
                self.parties.iter_mut().for_each(|party| party.reconnect(&self.gateway));
            }
        }
        self.parties.iter_mut().for_each(Party::read);
    }

    fn publish(&mut self, who: usize, topic: usize, retain: bool, by_request: bool) {
        let party = &mut self.parties[who];
        let topic = match topic {
            0..3 => format!("room/{topic}"),
            _ => format!("room/{}/{topic}", party.mark),
        };
        let payload = party.payload();
        // The same ids everywhere: a repeat is one of the same tenant alone.
        let msgid = format!("m-{}", party.sent);
        let frame = json!({"type": "publish", "topic": topic, "payload": payload, "qos": 1,
            "retain": retain, "msgid": msgid});
        if !by_request {
            return party.app.send(&frame);
        }
        let (status, told) =
            post(&self.gateway.address, "/v1/publish", &party.admin, &frame.to_string());
        assert_eq!(status, 201, "{told}");
        party.position = told["position"].as_str().map(str::to_owned);
    }

    fn report(&mut self, who: usize, own: bool) {
        let party = &mut self.parties[who];
        let (device, value) = (party.device(own), party.payload());
        let data = json!({"whose": party.mark, "value": value});
        let frame = json!({"type": "status", "deviceId": device, "data": data});
        if own {
            let body = frame.to_string();
            let (status, told) = post(&self.gateway.address, "/v1/publish", &party.admin, &body);
            assert_eq!(status, 201, "{told}");
        } else {
            party.lamp.send(&frame);
        }
    }

    fn command(&mut self, who: usize, own: bool) {
        let party = &mut self.parties[who];
        let body = json!({"to": party.device(own), "payload": party.payload()}).to_string();
        let (status, told) = post(&self.gateway.address, "/v1/commands", &party.admin, &body);
        assert_eq!(status, 201, "{told}");
        party.check("a command", &told.to_string());
        party.command = told["devices"][0]["position"].as_str().map(str::to_owned);
        assert!(party.command.is_some(), "{told}");
    }

    fn subscribe(&mut self, who: usize, since: From) {
        let elsewhere = self.parties.iter().enumerate().filter(|(at, _)| *at != who);
        let elsewhere = elsewhere.filter_map(|(_, party)| party.position.clone()).next_back();
        let mut frame = json!({"type": "subscribe", "topic": "#", "qos": 1});
        match (since, elsewhere) {
            (From::Now, _) => (),
            (From::Elsewhere, Some(after)) => frame["since"] = json!({"after": after}),
            (From::All | From::Elsewhere, _) => frame["since"] = json!("all"),
        }
        self.parties[who].app.send(&frame);
    }

    fn stream(&mut self, who: usize) {
        let party = &mut self.parties[who];
        let mut stream = Events::open(&self.gateway, "topic=%23&since=all", &party.admin, None);
        loop {
            let event = stream.next();
            party.check("a stream", &event.data.to_string());
            if event.name == "caught_up" {
                break;
            }
        }
    }

    fn look(&mut self, who: usize, list: &str) {
        let party = &mut self.parties[who];
        // The gateway as a whole is the business of `default`: it may see which tenants there are.
        if party.tenant == "default" && list == "/v1/status" {
            return;
        }
        let (status, mut told) = request(&self.gateway.address, "GET", list, &party.admin, "");
        assert!(status == 200 || list.ends_with("/state"), "{list}: {told}");
        if list.starts_with("/v1/audit") {
            let entries = told["items"].as_array_mut().unwrap();
            entries.retain(|entry| {
                let of_tenants = entry["act"].as_str().unwrap().starts_with("tenant.");
                entry["by"] != "key:prober" && !of_tenants
            });
        }
        party.check(list, &told.to_string());
    }

    /// Asks for something of another tenant, and for something that nobody has.
    fn probe(&mut self, who: usize, whose: usize, what: usize) {
        if who == whose {
            return;
        }
        let Some((method, path, body, id, nothing)) = self.wanted(whose, what) else { return };
        let key = format!("Authorization: Bearer {}\r\n", self.parties[who].prober);
        let ask = |id: &str| {
            let (path, body) = (path.replace("ID", id), body.replace("ID", id));
            let answer = exchange(&self.gateway.address, method, &path, &key, &body);
            // What one asked for oneself is no news.
            let names =
                ["content-type", "etag", "cache-control", "www-authenticate", "retry-after"];
            let head = names.map(|name| answer.header(name).map(str::to_owned));
            (answer.status, head, answer.body.replace(id, "ID"))
        };
        let (theirs, nobodys) = (ask(&id), ask(&nothing));
        assert_eq!(theirs, nobodys, "{method} {path} with {id}, and with {nothing}");
        assert!(theirs.0 != 403, "{method} {path}: {theirs:?}");
        assert!(foreign(self.parties[who].mark, &theirs.2).is_none(), "{theirs:?}");
        self.probe_count += 1;
    }

    /// How to ask for something that a tenant has: its id, and one of the same form that nobody has.
    fn wanted(
        &self,
        whose: usize,
        what: usize,
    ) -> Option<(&'static str, &'static str, &'static str, String, String)> {
        let party = &self.parties[whose];
        let named = |name: &str| (format!("{name}-{}", party.mark), format!("{name}-nobodymark"));
        let by_id: [(&str, &str, &str, &str); WANTED_LEN] = [
            ("lamp", "GET", "/v1/devices/ID", ""),
            ("lamp", "GET", "/v1/devices/ID/state", ""),
            ("lamp", "GET", "/v1/devices/ID/profile", ""),
            ("lamp", "GET", "/v1/devices/ID/history", ""),
            ("lamp", "GET", "/v1/devices/ID/credentials", ""),
            ("lamp", "POST", "/v1/devices/ID/credentials", "{}"),
            ("lamp", "POST", "/v1/devices/ID/rotate", ""),
            ("lamp", "PUT", "/v1/devices/ID/profile", r#"{"kind":"light"}"#),
            ("lamp", "PUT", "/v1/devices/ID/integrity", r#"{"required":true}"#),
            ("lamp", "DELETE", "/v1/devices/ID", ""),
            ("lamp", "POST", "/v1/commands", r#"{"to":"ID","payload":1}"#),
            ("lamp", "GET", "/v1/drops?who=ID", ""),
            ("lamp", "PUT", "/v1/groups/all/devices/ID", ""),
            ("key", "GET", "/v1/keys/ID", ""),
            ("key", "DELETE", "/v1/keys/ID", ""),
            ("ada", "DELETE", "/v1/users/ID", ""),
            ("ada", "POST", "/v1/users/ID/login-link", ""),
            ("ada", "POST", "/v1/login", r#"{"name":"ID","password":"a wrong one"}"#),
            ("ada", "GET", "/v1/audit?by=user:ID", ""),
            ("in", "GET", "/v1/integrations/ID", ""),
            ("in", "POST", "/v1/integrations/ID/pause", ""),
            ("in", "DELETE", "/v1/integrations/ID", ""),
            ("", "GET", "/v1/groups/ID", ""),
            ("", "DELETE", "/v1/groups/ID", ""),
            ("", "GET", "/v1/devices?tenant=ID", ""),
            ("", "GET", "/v1/commands/ID", ""),
            ("", "GET", "/v1/clients/ID", ""),
            ("", "DELETE", "/v1/clients/ID", ""),
        ];
        let (name, method, path, body) = by_id[what % by_id.len()];
        let (id, nothing) = match (name, path) {
            (_, "/v1/commands/ID") => {
                let epoch = party.command.as_ref()?.split_once(':')?.0;
                (party.command.clone()?, format!("{epoch}:999999999"))
            }
            (_, "/v1/clients/ID") => {
                let address = &self.gateway.address;
                let (_, list) = request(address, "GET", "/v1/clients", &party.admin, "");
                let id = list["items"][0]["id"].as_str().unwrap().to_owned();
                (id, "0-999999".to_owned())
            }
            ("", "/v1/devices?tenant=ID") if party.tenant == "default" => {
                ("default".to_owned(), "nobodymark".to_owned())
            }
            ("", _) => (party.mark.to_owned(), "nobodymark".to_owned()),
            (name, _) => named(name),
        };
        Some((method, path, body, id, nothing))
    }

    /// Everybody looks at everything once more, when all that was sent has been routed.
    fn finish(&mut self) {
        let all = 0..self.parties.len();
        all.clone().for_each(|who| self.subscribe(who, From::All));
        // What goes astray is routed before what is sent behind it.
        for _ in 0..2 {
            all.clone().for_each(|who| self.publish(who, 0, false, true));
        }
        for who in all {
            self.parties[who].read_until_last();
            self.parties[who].read();
            let before = self.parties[who].own_count;
            self.stream(who);
            LISTS.iter().for_each(|list| self.look(who, list));
            assert!(self.parties[who].own_count > before, "nobody was shown anything");
        }
    }
}

fn cases() -> u32 {
    std::env::var("FIELDGATE_CROSSING_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(8)
}

#[test]
fn no_byte_of_a_tenant_reaches_another_and_its_ids_are_like_none() {
    let world = std::cell::RefCell::new(World::new());
    let config = ProptestConfig {
        cases: cases(),
        max_shrink_iters: 20,
        max_shrink_time: 60_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ops = prop::collection::vec(op(), 20..80);
    let outcome = TestRunner::new(config).run(&ops, |ops| {
        let mut world = world.borrow_mut();
        ops.iter().for_each(|op| world.run(op));
        world.finish();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let world = world.borrow();
    assert!(world.probe_count > 0, "nobody asked for anything of another tenant");
}

#[test]
fn each_kind_of_thing_of_another_tenant_is_like_none() {
    let mut world = World::new();
    (0..TENANTS.len()).for_each(|who| {
        world.command(who, true);
        world.report(who, true);
    });
    for what in 0..WANTED_LEN {
        for (who, whose) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
            let before = world.probe_count;
            world.probe(who, whose, what);
            assert_eq!(world.probe_count, before + 1, "{what}");
        }
    }
    world.finish();
}

#[test]
fn a_mark_in_the_wrong_place_is_found() {
    assert_eq!(foreign("redmark", r#"{"topic":"room/redmark/3"}"#), None);
    assert_eq!(foreign("redmark", r#"{"from":"lamp-bluemark"}"#), Some("bluemark"));
    assert_eq!(foreign("whitemark", "redmark"), Some("redmark"));
}
