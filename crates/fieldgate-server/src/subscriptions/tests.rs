//! What it costs to begin with what is retained.

use std::sync::Arc;

use fieldgate_core::{
    access::Identity,
    dialect::{Since, Subscribe},
    id::{Epoch, Position, Seq, TenantId},
    message::{Message, Qos},
    topic::Filter,
};
use fieldgate_dialects::wire::Form;
use fieldgate_store::{Log as _, Record};
use serde_json::json;
use tokio::task::yield_now;

use super::{subscribe, unsubscribe};
use crate::{
    fabric::{Shared, now},
    testing::{Gateway, memory_link, on_worker, until},
};

/// Retains so many times a thousand messages.
async fn retain(shared: &Shared, parts: usize, payload: &str) {
    let retained = |topic: String| {
        let message = fieldgate_core::testing::message(&topic, Qos::AtLeastOnce, payload);
        Record::Message(Message { retain: true, ..message })
    };
    for part in 0..parts {
        let all: Vec<_> = (0..1_000).map(|number| retained(format!("r/{part}/{number}"))).collect();
        for some in all.chunks(100) {
            shared.log.append(some.to_vec(), now()).unwrap();
        }
    }
    let tenant = TenantId::default_tenant();
    until("all of it", || shared.state.tenant_counts(&tenant).retained == parts * 1_000).await;
}

#[tokio::test]
async fn who_has_much_looked_at_pays_for_it() {
    let settings = ["limits.messages_per_second=1", "limits.message_burst=28"];
    let gateway = Gateway::start(&settings, 1).await;
    let key = gateway.key("k").await;
    let shared = Arc::clone(gateway.shared());
    retain(&shared, 5, "1").await;
    let mut app = gateway.connect(&key).await;
    let mut told = Vec::new();
    for (topic, since) in [("+/none", false); 4].into_iter().chain([
        ("none", false),
        // Who goes on from a position has nothing looked at.
        ("+/none", true),
        ("+/none", false),
    ]) {
        let mut frame = json!({"type": "subscribe", "topic": topic});
        if since {
            let position = shared.position(shared.log.frontier().ordered);
            frame["since"] = json!({"after": position.to_string()});
        }
        app.send(frame).await;
        let frame = app.next().await;
        told.push(frame["code"].as_str().unwrap_or("-").to_owned());
        if since {
            assert_eq!(app.next().await["type"], "caught_up");
        }
    }
    assert_eq!(told, ["-", "-", "-", "-", "-", "-", "rate_limited"]);
    gateway.running.drain().await;
}

#[tokio::test]
async fn who_subscribes_again_and_again_without_reading_is_owed_one_copy() {
    let settings = ["limits.messages_per_second=1000000", "limits.message_burst=1000000"];
    let gateway = Gateway::start(&settings, 2).await;
    let shared = gateway.shared();
    retain(shared, 1, &"x".repeat(2_000)).await;
    on_worker(shared, async |hub| {
        let filter: Filter = "r/#".parse().unwrap();
        let entry = shared.state.retained(&TenantId::default_tenant(), &filter).pop().unwrap();
        let known_count = Arc::strong_count(&entry);
        let elsewhere = Position { epoch: Epoch(shared.log.epoch().0 + 1), seq: Seq(0) };
        for since in [None, Some(Since::After(elsewhere))] {
            let (link, _body) = memory_link(&hub, Form::V1, Identity::Key);
            let principal = link.principal().unwrap();
            let filter = filter.clone();
            let ask = Subscribe { filter, qos: Qos::AtMostOnce, since, slow: None, rate_max: None };
            let (mut least, mut most) = (usize::MAX, 0);
            for nth in 0..1_000 {
                subscribe(&hub, &link, &principal, &ask).unwrap();
                hub.flush();
                yield_now().await;
                if nth >= 100 {
                    assert!(!link.outbox.has_room());
                    let count = Arc::strong_count(&entry) - known_count;
                    (least, most) = (least.min(count), most.max(count));
                }
            }
            assert!(least >= 1 && most <= 2, "{least} to {most} copies wait");
            unsubscribe(&hub, &link, ask.filter.clone()).unwrap();
            yield_now().await;
            assert_eq!(Arc::strong_count(&entry), known_count);
            hub.remove_link(&link);
        }
    });
    gateway.running.drain().await;
}
