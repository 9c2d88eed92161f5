//! What is inside a session: its deadline, its places, and what a panic in one of its namespaces leaves.

use fieldgate_core::{close::CloseReason, id::TenantId};
use fieldgate_dialects::ws::{self, Opcode};
use fieldgate_store::registry::TenantLimits;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    hub::RollCall,
    testing::{Client, Gateway, Seen, until},
    worker::Control,
};

const KAMEA: &str = r#"kamea.tenants={"12B80A37-D30E-49F1-AF3B-356ECC1AD96C"="default"}"#;
const TELEMETRIES: &str = r#"42/devices,1["telemetries",{"deviceId":"d","tenantId":"12b80a37-d30e-49f1-af3b-356ecc1ad96c"}]"#;
/// Whose heart beats seldom, so that other deadlines come first.
const CALM: [&str; 3] = [KAMEA, "heartbeat.ping_ms=1000000", "heartbeat.silence_ms=2000000"];

async fn say(client: &mut Client, text: &str) {
    client.raw(&ws::frame_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4])).await;
}

/// The next text that begins so; others are passed over.
async fn told(client: &mut Client, start: &str) {
    while !client.next().await.as_str().is_some_and(|text| text.starts_with(start)) {}
}

/// A session in these namespaces, each with this token in its handshake.
async fn session(gateway: &Gateway, namespaces: &[&str], token: &str) -> Client {
    let mut client = gateway.open("http", "/socket.io/?EIO=4&transport=websocket", "").await;
    told(&mut client, "0{").await;
    for name in namespaces {
        say(&mut client, &format!("40{name},{}", json!({"token": token}))).await;
        told(&mut client, &format!("40{name},{{")).await;
    }
    client
}

async fn authenticate(client: &mut Client, key: &str) {
    say(client, &format!("42/v2,{}", json!(["authenticate", {"sessionToken": key}]))).await;
    told(client, r#"42/v2,["authenticate",{"status":"success""#).await;
}

async fn ask_devices(client: &mut Client) {
    say(client, TELEMETRIES).await;
    told(client, r#"43/devices,1[{"status":"success""#).await;
}

/// Lets time pass for every connection, and deadlines be looked at.
async fn pass(gateway: &Gateway, ms: u64) {
    let inbox = &gateway.shared().inboxes[0];
    inbox.control(Control::Pass(ms));
    let (answer, answered) = oneshot::channel();
    let call = RollCall { tenant: TenantId::default_tenant(), after: 0, len_max: 1, answer };
    inbox.control(Control::RollCall(Box::new(call)));
    answered.await.unwrap();
}

/// Everything that is said before the close, and its code.
async fn end(client: &mut Client) -> (Vec<Value>, Option<u16>) {
    let mut said = Vec::new();
    loop {
        match client.see().await {
            Seen::Frame(frame) => said.push(frame),
            Seen::Close(code) => return (said, code),
            Seen::End => return (said, None),
        }
    }
}

#[tokio::test]
async fn a_session_that_is_nobodys_ends_after_45_seconds() {
    let gateway = Gateway::start(&CALM, 1).await;
    for (namespaces, parted) in [
        (&[][..], vec![]),
        (&["/v2"], vec!["41/v2,"]),
        (&["/v2", "/devices"], vec!["41/v2,", "41/devices,"]),
    ] {
        let mut client = session(&gateway, namespaces, "wrong").await;
        pass(&gateway, 40_000).await;
        say(&mut client, "40").await;
        told(&mut client, "40{").await;
        pass(&gateway, 5_000).await;
        let (said, code) = end(&mut client).await;
        assert_eq!((said, code), (parted.into_iter().map(Value::from).collect(), Some(4401)));
        drop(client);
        until("its place", || gateway.shared().throttle.open_count() == 0).await;
    }
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_session_that_is_somebodys_in_either_namespace_stays() {
    let gateway = Gateway::start(&CALM, 1).await;
    let key = gateway.key("k").await;
    for namespaces in [&["/v2"][..], &["/v2", "/devices"], &["/devices", "/v2"]] {
        let mut client = session(&gateway, namespaces, "wrong").await;
        authenticate(&mut client, &key).await;
        pass(&gateway, 60_000).await;
        for name in namespaces {
            say(&mut client, &format!("42{name},7[\"nonsense\"]")).await;
            told(&mut client, &format!("43{name},7[")).await;
        }
    }
    gateway.running.drain().await;
}

#[tokio::test]
async fn two_namespaces_of_a_tenant_are_one_of_its_connections() {
    let gateway = Gateway::start(&CALM, 1).await;
    gateway.device("d").await;
    let key = gateway.key("k").await;
    let (shared, default) = (gateway.shared(), TenantId::default_tenant());
    let limits = TenantLimits { connections_max: Some(1), ..TenantLimits::default() };
    shared.throttle.tenants.set(&default, &limits);
    for namespaces in [["/v2", "/devices"], ["/devices", "/v2"]] {
        for is_other_first in [false, true] {
            let mut client = session(&gateway, &namespaces, &key).await;
            if is_other_first {
                ask_devices(&mut client).await;
                authenticate(&mut client, &key).await;
            } else {
                authenticate(&mut client, &key).await;
                ask_devices(&mut client).await;
            }
            assert_eq!(shared.present.count_of(&default), 1, "{namespaces:?} {is_other_first}");
            // Each has its own principal and subscriptions, and they name what they share.
            let (_, clients) = gateway.running.admin("GET", "/v1/clients", vec![]).await.unwrap();
            let items = clients["items"].as_array().unwrap();
            assert_eq!((items.len(), &items[0]["connection"]), (2, &items[1]["connection"]));
            assert_eq!(items[0]["connection"], items[0]["id"]);
            let mut another = session(&gateway, &["/v2"], "").await;
            say(&mut another, &format!("42/v2,{}", json!(["authenticate", {"sessionToken": key}])))
                .await;
            assert_eq!(another.closed().await, Some(CloseReason::NoCapacity.code()));
            drop((client, another));
            until("their places", || shared.throttle.open_count() == 0).await;
            assert_eq!(shared.present.count_of(&default), 0);
        }
    }
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_panic_in_either_namespace_ends_the_connection_and_leaves_nothing() {
    let gateway = Gateway::start(&CALM, 1).await;
    let key = gateway.key("k").await;
    let (shared, default) = (gateway.shared(), TenantId::default_tenant());
    let subscribed = || shared.routing().tenants.values().map(|index| index.len()).sum::<usize>();
    // The second one is told as such; where the first one breaks nobody is left to say so.
    let internal = Some(CloseReason::Internal.code());
    for (namespaces, told_code) in [(["/v2", "/devices"], None), (["/devices", "/v2"], internal)] {
        let mut client = session(&gateway, &namespaces, "wrong").await;
        authenticate(&mut client, &key).await;
        say(&mut client, r#"42/v2,["subscribe",{"resource":"/me/resources/a"}]"#).await;
        told(&mut client, r#"42/v2,["subscribe",{"status":"success""#).await;
        assert!(subscribed() > 0);
        let at = shared.present.of(&default, &"key:k".into())[0];
        shared.tell(at, Control::PanicLink(at.link));
        assert_eq!(end(&mut client).await.1, told_code);
        drop(client);
        until("its place", || shared.throttle.open_count() == 0).await;
        until("its principal", || shared.present.of(&default, &"key:k".into()).is_empty()).await;
        assert_eq!((subscribed(), shared.present.count_of(&default)), (0, 0));
    }
    // Others of its worker go on.
    authenticate(&mut session(&gateway, &["/v2"], "").await, &key).await;
    gateway.running.drain().await;
}

#[tokio::test]
async fn who_could_not_be_decided_about_in_45_seconds_may_come_back() {
    // Nobody listens there.
    let service = ["kamea.authorization.mode=http", "kamea.authorization.url=http://127.0.0.1:9"];
    let gateway = Gateway::start(&[&CALM[..], &service].concat(), 1).await;
    for namespaces in [&["/devices"][..], &["/devices", "/v2"], &["/v2", "/devices"]] {
        let mut client = session(&gateway, namespaces, "t").await;
        say(&mut client, TELEMETRIES).await;
        told(&mut client, r#"43/devices,1[{"code":500"#).await;
        pass(&gateway, 45_000).await;
        // Behind a disconnect packet it would not.
        assert_eq!(end(&mut client).await, (vec![], Some(4401)), "{namespaces:?}");
        drop(client);
        until("its place", || gateway.shared().throttle.open_count() == 0).await;
    }
    gateway.running.drain().await;
}
