//! `GET /v1/stream`: what a reader of server-sent events gets, live, through restarts, and when it
//! does not read.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Events, Gateway, NodeScript, Proxy, Wire, node_modules, wait_for};

fn publish(app: &mut Wire, topic: &str, payload: &Value, msgid: &str) {
    let frame = json!({"type": "publish", "topic": topic, "payload": payload, "msgid": msgid});
    app.send(&frame);
    app.next_of("ack");
}

#[test]
fn a_stream_brings_the_frames_of_a_websocket_with_their_positions() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    publish(&mut app, "kept", &json!("x"), "k");
    app.send(&json!({"type": "publish", "topic": "kept", "payload": {"a": 1}, "retain": true,
        "msgid": "r"}));
    app.next_of("ack");
    let mut events = Events::open(&gateway, "topic=devices/d/%23&topic=%2B&topic=kept", &key, None);
    let head = events.head.to_ascii_lowercase();
    for line in [
        "content-type: text/event-stream",
        "cache-control: no-store",
        "x-accel-buffering: no",
        "access-control-allow-origin: *",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert_eq!(events.see().unwrap().retry, Some(1_000));
    let begun = events.see().unwrap();
    assert!(begun.id.is_some() && begun.name.is_empty(), "{begun:?}");
    // What is retained comes once, and does not move the position.
    let retained = events.next();
    assert_eq!((retained.id, &retained.data["retain"]), (None, &json!(true)));
    assert_eq!(events.last_id, begun.id);

    app.send(&json!({"type": "subscribe", "topic": "devices/d/#", "qos": 1}));
    app.next_of("subscribed");
    let mut device = gateway.as_device("d", &token);
    for frame in [
        json!({"type": "status", "msgid": "1", "data": {"t": 1}}),
        json!({"type": "event", "event": "button", "data": [1, "\n"]}),
    ] {
        device.send(&frame);
        let (event, frame) = (events.next(), app.next_of("mqtt"));
        assert_eq!(event.name, "message");
        assert_eq!((event.id, event.data), (frame["msgid"].as_str().map(str::to_owned), frame));
    }
    device
        .raw(&fieldgate_dialects::ws::frame_masked(
            fieldgate_dialects::ws::Opcode::Text,
            b"{\"type\":\"status\",\"data\":{\"lines\":\r\n[1,\n2]}}",
            [0; 4],
        ))
        .unwrap();
    assert_eq!(events.next().data["payload"], json!({"lines": [1, 2]}));
}

#[test]
fn a_stream_goes_on_where_it_was_through_kills_of_the_gateway() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let (mut at, mut seen) = (None::<String>, Vec::new());
    for round in 0..5_u64 {
        // Two filters that overlap, read together: each message once, in one order.
        let query = "topic=devices/d/%23&topic=devices/%2B/telemetry&since=all";
        let mut events = Events::open(&gateway, query, &key, at.as_deref());
        let mut device = gateway.as_device("d", &token);
        for n in round * 50..(round + 1) * 50 {
            device.send(&json!({"type": "status", "msgid": n.to_string(), "data": {"n": n}}));
        }
        // Half of the rounds end in the middle of what comes.
        let wanted = if round % 2 == 0 { (round + 1) * 50 } else { round * 50 + 20 };
        while (seen.len() as u64) < wanted {
            let event = events.next();
            match event.name.as_str() {
                "message" => {
                    assert_eq!(event.id.as_deref(), event.data["msgid"].as_str());
                    seen.push(event.data["payload"]["n"].as_u64().unwrap());
                }
                "gap" => assert_eq!(event.id.as_deref(), event.data["to"].as_str()),
                other => assert_eq!(other, "caught_up"),
            }
        }
        at = events.last_id.clone();
        (0..50).for_each(|_| drop(device.next_of("ack")));
        if round % 2 == 0 {
            gateway.kill();
            gateway.up();
        }
    }
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
}

#[test]
fn history_is_told_with_its_gaps_and_its_end() {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    for round in 0..2 {
        publish(&mut gateway.as_app(&key), "a", &json!(round), &round.to_string());
        gateway.kill();
        gateway.up();
    }
    for query in ["topic=a&since=all", "topic=a&since=2000-01-01T00:00:00Z"] {
        let mut events = Events::open(&gateway, query, &key, None);
        for round in 0..2 {
            assert_eq!(events.next().data["payload"], round);
            let gap = events.next();
            assert_eq!((gap.name.as_str(), &gap.data["reason"]), ("gap", &json!("crash")));
        }
        let end = events.next();
        assert_eq!((end.name.as_str(), &end.data["topic"]), ("caught_up", &json!("a")));
        assert_eq!(end.id.as_deref(), end.data["position"].as_str());
    }
    // Behind the first message; of another life of the log; and of a number that was never given.
    let mut events = Events::open(&gateway, "topic=a&since=all", &key, None);
    let first = events.next().id.unwrap();
    let mut events = Events::open(&gateway, &format!("topic=a&after={first}"), &key, None);
    assert_eq!(events.next_of("message").data["payload"], 1);
    let mut events = Events::open(&gateway, "topic=a", &key, Some("zz:5"));
    let gap = events.next();
    assert_eq!((&gap.data["reason"], &gap.data["from"]), (&json!("epoch"), &json!("zz:5")));
    assert_eq!(events.next().name, "caught_up");
    let epoch = first.split(':').next().unwrap();
    let mut events = Events::open(&gateway, "topic=a", &key, Some(&format!("{epoch}:9999999999")));
    events.next_of("caught_up");
    publish(&mut gateway.as_app(&key), "a", &json!("new"), "new");
    assert_eq!(events.next().data["payload"], "new");
}

#[test]
fn a_stream_without_the_right_is_refused_and_one_whose_right_is_withdrawn_ends() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let head = |query: &str, key: &str| Events::try_open(&gateway.address, query, key, None).head;
    assert!(head("topic=a", "wrong").starts_with("HTTP/1.1 401"));
    assert!(head("topic=devices/e/%23", &token).starts_with("HTTP/1.1 403"));
    assert!(head("topic=a&since=soon", &key).starts_with("HTTP/1.1 400"));
    let mut events = Events::open(&gateway, "topic=a", &key, None);
    events.see();
    gateway.admin(&["key", "revoke", "operator-key", "--yes"]);
    let withdrawn = Instant::now();
    let end = events.next();
    assert_eq!((end.name.as_str(), &end.data["code"]), ("close", &json!(4403)));
    assert_eq!(events.see(), None);
    assert!(withdrawn.elapsed() < Duration::from_secs(2), "{:?}", withdrawn.elapsed());
    assert!(head("topic=a", &key).starts_with("HTTP/1.1 401"));
}

#[test]
fn a_stream_of_a_device_leaves_its_connection_and_its_commands_alone() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut device = gateway.as_device("d", &token);
    let mut events = Events::open(&gateway, "topic=devices/d/%23", &token, None);
    events.see();
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "command", "to": "d", "msgid": "c", "payload": {"on": true}}));
    assert_eq!(device.next_of("control")["payload"], json!({"on": true}));
    assert_eq!(events.next().data["topic"], "devices/d/commands");
    device.send(&json!({"type": "ping"}));
    device.next_of("pong");
    drop(device);
    // The newest connection is the stream: a command waits for one that takes it.
    app.send(&json!({"type": "command", "to": "d", "msgid": "c2", "payload": 2}));
    app.next_of("ack");
    assert_eq!(events.next().data["payload"], 2);
    assert_eq!(gateway.as_device("d", &token).next_of("control")["payload"], 2);
}

#[test]
fn a_drain_tells_a_stream_to_come_back_and_ends_it() {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    let mut events = Events::open(&gateway, "topic=a", &key, None);
    events.see();
    gateway.signal("TERM");
    let told = events.next();
    assert_eq!((told.name.as_str(), &told.data["after"]), ("reconnect", &json!(1_000)));
    assert_eq!(told.retry, Some(1_000));
    assert_eq!(events.next().data["code"], 1012);
    assert_eq!(events.see(), None);
    assert_eq!(gateway.ended(), Some(0));
}

#[test]
fn a_stream_at_rest_lives_and_shows_it() {
    let settings = ["heartbeat.ping_ms=50", "heartbeat.silence_ms=400", "limits.idle_http_ms=200"];
    let gateway = Gateway::with(&settings);
    let key = gateway.key("operator");
    let mut events = Events::open(&gateway, "topic=a", &key, None);
    let mut comments = 0;
    let began = Instant::now();
    while comments < 3 || began.elapsed() < Duration::from_millis(1_500) {
        let event = events.see().expect("it was cut");
        comments += u64::from(event.comment);
    }
    publish(&mut gateway.as_app(&key), "a", &json!(1), "m");
    assert_eq!(events.next().data["payload"], 1);
}

#[test]
fn streams_count_as_connections_and_give_their_places_back() {
    let gateway =
        Gateway::with(&["limits.connections_max=2", "limits.connections_per_address_max=0"]);
    let key = gateway.key("operator");
    let open = || Events::try_open(&gateway.address, "topic=a", &key, None);
    let (first, second) = (open(), open());
    assert!(first.head.starts_with("HTTP/1.1 200") && second.head.starts_with("HTTP/1.1 200"));
    let third = open();
    assert!(third.head.starts_with("HTTP/1.1 503"), "{}", third.head);
    drop(first);
    wait_for("a place", || open().head.starts_with("HTTP/1.1 200").then_some(()));
}

#[test]
fn who_does_not_read_costs_bounded_memory_and_gets_all_of_it_later() {
    const COUNT: u64 = 300;
    let gateway = Gateway::with(&[
        "limits.messages_per_second=100000",
        "limits.bytes_per_second=4294967296",
        "log.level=warn",
    ]);
    let key = gateway.key("operator");
    let mut events = Events::open(&gateway, "topic=a", &key, None);
    events.see();
    let mut app = gateway.as_app(&key);
    let memory = gateway.memory_bytes();
    let filler = "x".repeat(100_000);
    for n in 0..COUNT {
        publish(&mut app, "a", &json!([n, filler]), &n.to_string());
    }
    // 30 MB went by: what is kept is the outbox and the log's tail.
    let grown = gateway.memory_bytes().saturating_sub(memory);
    assert!(grown < 20 << 20, "{grown} bytes");
    for n in 0..COUNT {
        let event = events.next();
        assert_eq!((event.name.as_str(), &event.data["payload"][0]), ("message", &json!(n)));
    }
}

#[test]
fn who_takes_nothing_for_too_long_is_closed() {
    let gateway = Gateway::with(&[
        "heartbeat.ping_ms=100",
        "heartbeat.silence_ms=500",
        "limits.bytes_per_second=4294967296",
        "log.level=warn",
    ]);
    let key = gateway.key("operator");
    let _unread = Events::open(&gateway, "topic=a", &key, None);
    let connections = || {
        let (_, status) = gateway.get("/v1/status", Some(&key));
        serde_json::from_str::<Value>(&status).unwrap()["connections"].clone()
    };
    assert_eq!(connections(), 1);
    let mut app = gateway.as_app(&key);
    let filler = "x".repeat(200_000);
    for n in 0..100 {
        publish(&mut app, "a", &json!(filler), &n.to_string());
    }
    drop(app);
    wait_for("its end", || (connections() == 0).then_some(()));
}

#[test]
fn a_slow_stream_at_qos_0_is_dealt_with_as_it_asked() {
    let gateway = Gateway::with(&[
        "limits.messages_per_second=100000",
        "limits.bytes_per_second=4294967296",
        "log.level=warn",
    ]);
    let key = gateway.key("operator");
    let mut dropping = Events::open(&gateway, "topic=a&qos=0&mode=drop-oldest", &key, None);
    let mut closing = Events::open(&gateway, "topic=a&qos=0&mode=disconnect", &key, None);
    let mut app = gateway.as_app(&key);
    let filler = "x".repeat(100_000);
    for n in 0..150_u64 {
        publish(&mut app, "a", &json!([n, filler]), &n.to_string());
    }
    publish(&mut app, "a", &json!(["last"]), "last");
    // Who does not read is not told why, either.
    while closing.see().is_some() {}
    let gap = dropping.next_of("gap");
    assert_eq!(
        (&gap.data["reason"], gap.id.as_deref()),
        (&json!("overflow"), gap.data["to"].as_str())
    );
    while dropping.next_of("message").data["payload"][0] != "last" {}
}

#[test]
fn a_thousand_streams_go_on_through_a_kill() {
    const STREAMS: usize = 1_000;
    const MESSAGES: u64 = 10;
    let mut gateway = Gateway::with(&["log.level=warn"]);
    let key = gateway.key("operator");
    let open = |gateway: &Gateway, at: Option<&str>| Events::open(gateway, "topic=a", &key, at);
    let mut readers: Vec<_> = (0..STREAMS).map(|_| (open(&gateway, None), Vec::new())).collect();
    // Where each begins is known to it before anything comes.
    for (events, _) in &mut readers {
        while events.last_id.is_none() {
            events.see();
        }
    }
    let send = |gateway: &Gateway, from: u64| {
        let mut app = gateway.as_app(&key);
        (from..from + MESSAGES).for_each(|n| publish(&mut app, "a", &json!(n), &n.to_string()));
    };
    let read = |events: &mut Events, seen: &mut Vec<u64>, until: usize| {
        while seen.len() < until {
            let event = events.next();
            if event.name == "message" {
                seen.push(event.data["payload"].as_u64().unwrap());
            }
        }
    };
    send(&gateway, 0);
    for (nth, (events, seen)) in readers.iter_mut().enumerate() {
        read(events, seen, nth % (usize::try_from(MESSAGES).unwrap() + 1));
    }
    gateway.kill();
    gateway.up();
    send(&gateway, MESSAGES);
    let wanted: Vec<u64> = (0..2 * MESSAGES).collect();
    for (events, seen) in &mut readers {
        *events = open(&gateway, events.last_id.as_deref());
        read(events, seen, wanted.len());
        assert_eq!(*seen, wanted);
    }
}

#[test]
fn an_event_source_gets_each_message_once_though_the_gateway_dies_under_it() {
    const ROUND: u64 = 50;
    let Some(modules) = node_modules() else { return };
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let proxy = Proxy::to(&gateway.address);
    let text = format!(
        "const {{ EventSource }} = require('eventsource');
const source = new EventSource('http://{}/v1/stream?topic=devices/%2B/telemetry&since=all&token={key}');
source.onmessage = (event) => console.log(JSON.parse(event.data).payload.n);
",
        proxy.address
    );
    let script = NodeScript::new(&modules, &text, &[]);
    let app = script.start();
    for round in 0..3 {
        let mut device = gateway.as_device("d", &token);
        for n in round * ROUND..(round + 1) * ROUND {
            device.send(&json!({"type": "status", "msgid": n.to_string(), "data": {"n": n}}));
        }
        (0..ROUND).for_each(|_| drop(device.next_of("ack")));
        for n in round * ROUND..(round + 1) * ROUND {
            // The kill comes while part of the round may still be on its way.
            if n == round * ROUND + ROUND / 2 && round < 2 {
                gateway.kill();
                gateway.up();
                proxy.retarget(&gateway.address);
            }
            assert_eq!(app.line(), n.to_string());
        }
    }
}
