//! Workers that break, and links that hang.

use fieldgate_core::id::Seq;
use serde_json::json;

use crate::{
    present::LinkRef,
    testing::{Gateway, until},
    worker::{Control, Inbox},
};

#[tokio::test]
async fn a_worker_whose_hub_panics_closes_its_links_and_starts_anew() {
    let gateway = Gateway::start(&[], 1).await;
    let (token, key) = (gateway.device("d").await, gateway.key("k").await);
    let shared = gateway.shared();
    for _ in 0..3 {
        let (mut device, mut app) = (gateway.connect(&token).await, gateway.connect(&key).await);
        app.send(json!({"type": "subscribe", "topic": "devices/#"})).await;
        assert_eq!(app.next().await["type"], "subscribed");
        device.send(json!({"type": "status", "data": {"t": 1}})).await;
        assert_eq!(app.next().await["type"], "mqtt");
        shared.inboxes[0].control(Control::Panic);
        assert_eq!((device.closed().await, app.closed().await), (Some(1011), Some(1011)));
        until("the end of both", || shared.throttle.open_count() == 0).await;
        assert!(shared.routing().tenants.values().all(fieldgate_core::index::Index::is_empty));
        let default = fieldgate_core::id::TenantId::default_tenant();
        assert!(shared.present.of(&default, &"d".into()).is_empty());
    }
    gateway.running.drain().await;
}

#[tokio::test]
async fn what_waited_for_a_broken_worker_is_done_by_the_new_one() {
    let gateway = Gateway::start(&[], 1).await;
    let token = gateway.device("d").await;
    let mut device = gateway.connect(&token).await;
    let inbox = &gateway.shared().inboxes[0];
    inbox.controls(vec![Control::Panic, Control::Panic, Control::Drain]);
    assert_eq!(device.closed().await, Some(1011));
    // The thread ends only if the order to stop is not lost behind a panic.
    inbox.control(Control::Panic);
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_panic_in_the_task_of_one_link_ends_that_link_alone() {
    let gateway = Gateway::start(&[], 1).await;
    let (token, key) = (gateway.device("d").await, gateway.key("k").await);
    let (mut app, mut device) = (gateway.connect(&key).await, gateway.connect(&token).await);
    app.send(json!({"type": "subscribe", "topic": "#"})).await;
    device.send(json!({"type": "subscribe", "topic": "devices/d/#"})).await;
    assert_eq!(device.next().await["type"], "subscribed");
    let shared = gateway.shared();
    let default = fieldgate_core::id::TenantId::default_tenant();
    let at = shared.present.of(&default, &"d".into())[0];
    shared.tell(at, Control::PanicLink(at.link));
    assert_eq!(device.closed().await, None);
    until("its end", || shared.present.of(&default, &"d".into()).is_empty()).await;
    let subscribed = || shared.routing().tenants.values().map(|index| index.len()).sum::<usize>();
    assert_eq!((subscribed(), shared.throttle.authenticated_count()), (1, 1));
    gateway.connect(&token).await.send(json!({"type": "status", "data": {"t": 1}})).await;
    assert_eq!(app.next_of("mqtt").await["payload"], json!({"t": 1}));
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_link_that_never_ends_holds_its_device_up_for_a_second_at_most() {
    let gateway = Gateway::start(&[], 1).await;
    let token = gateway.device("d").await;
    let default = fieldgate_core::id::TenantId::default_tenant();
    let id = "d".parse().unwrap();
    let known = gateway.shared().state.device(&default, &id).unwrap();
    let proof = fieldgate_store::registry::proof_of(known.credentials.values().next().unwrap());
    let principal = known.principal(&default, proof);
    // Its worker has no such link, and so will never say that it ended.
    let hanging = LinkRef { worker: 0, link: 9_999 };
    gateway.shared().present.enter(&principal.unwrap(), hanging);
    let began = std::time::Instant::now();
    let mut device = gateway.connect(&token).await;
    device.send(json!({"type": "ping"})).await;
    assert_eq!(device.next().await["type"], "pong");
    assert!(began.elapsed() >= crate::link::TAKEOVER_WAIT, "{:?}", began.elapsed());
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_device_is_nobody_else_whatever_it_is_called() {
    let gateway = Gateway::start(&[], 1).await;
    for id in ["key:k", "user:anna", "source:cloud"] {
        let asked = [
            ("/v1/devices", json!({"id": id})),
            ("/v1/devices", json!({"id": id, "credential": "hmac"})),
            ("/v1/activation-codes", json!({"device": id})),
        ];
        for (path, body) in asked {
            let bytes = body.to_string().into_bytes();
            let (status, told) = gateway.running.admin("POST", path, bytes).await.unwrap();
            assert_eq!((status, &told["code"]), (400, &json!("bad_value")), "{body}: {told}");
        }
    }
    // A name that only holds one is free, and what comes of it is its own.
    let (token, key) = (gateway.device("a:key:k").await, gateway.key("k").await);
    let mut app = gateway.connect(&key).await;
    app.send(json!({"type": "publish", "topic": "a", "payload": 1, "msgid": "one"})).await;
    let first = app.next_of("ack").await["seq"].clone();
    let mut device = gateway.connect(&token).await;
    device.send(json!({"type": "status", "data": {"t": 1}, "msgid": "one"})).await;
    assert_ne!(first, device.next_of("ack").await["seq"]);
    gateway.running.drain().await;
}

#[test]
fn a_worker_is_told_of_the_lowest_number_that_it_waits_for() {
    let inbox = Inbox::default();
    let told = || std::mem::take(&mut *inbox.queue()).durable;
    inbox.set_awaited(Seq(5));
    inbox.set_awaited(Seq(9));
    inbox.applied(Seq(4));
    assert!(!told());
    inbox.applied(Seq(5));
    assert!(told());
    inbox.set_awaited(Seq(9));
    inbox.applied(Seq(12));
    assert!(told());
    inbox.applied(Seq(13));
    assert!(!told(), "nobody waits");
}
