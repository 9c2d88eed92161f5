//! What it costs to begin with what is retained.

use std::sync::Arc;

use fieldgate_core::message::{Message, Qos};
use fieldgate_store::{Log as _, Record};
use serde_json::json;

use crate::{
    fabric::now,
    testing::{Gateway, until},
};

#[tokio::test]
async fn who_has_much_looked_at_pays_for_it() {
    let settings = ["limits.messages_per_second=1", "limits.message_burst=28"];
    let gateway = Gateway::start(&settings, 1).await;
    let key = gateway.key("k").await;
    let shared = Arc::clone(gateway.shared());
    let retained = |topic: String| {
        let message = fieldgate_core::testing::message(&topic, Qos::AtLeastOnce, "1");
        Record::Message(Message { retain: true, ..message })
    };
    for part in 0..5 {
        let group = (0..1_000).map(|number| retained(format!("r/{part}/{number}"))).collect();
        shared.log.append(group, now()).unwrap();
    }
    let tenant = fieldgate_core::id::TenantId::default_tenant();
    until("all of it", || shared.state.tenant_counts(&tenant).retained == 5_000).await;
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
