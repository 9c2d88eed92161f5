//! Every refusal, every ending and every limit that there is, and the test that brings it about over
//! a socket: a new one without a test fails here.

use std::collections::BTreeSet;

use fieldgate_core::{close::CloseReason, fault::Code};
use serde_json::{Value, json};

use crate::{
    support::{Gateway, Wire, exchange, fieldgate, wait_for},
    tidy::body_of_test,
};

const HERE: &str = "fieldgate/tests/it/reached.rs::each_refusal_of_a_frame_has_its_code";
const LIMITS: &str = "fieldgate/tests/it/reached.rs::each_bound_of_a_frame_is_reached";

/// Each code, and a test that is told it.
const CODES: &[(Code, &str)] = &[
    (Code::BadJson, HERE),
    (Code::BadValue, HERE),
    (Code::UnknownType, HERE),
    (Code::MissingField, HERE),
    (Code::TooLarge, HERE),
    (Code::NotAllowed, HERE),
    (Code::NotFound, HERE),
    (
        Code::RateLimited,
        "fieldgate/tests/it/limits.rs::who_sends_too_fast_is_told_how_long_to_wait",
    ),
    (
        Code::QueueFull,
        "fieldgate/tests/it/bounds.rs::so_many_commands_wait_for_a_device_and_the_next_is_refused",
    ),
    (
        Code::Busy,
        "fieldgate/tests/it/reached.rs::past_the_places_of_those_who_are_nobody_it_is_busy",
    ),
    (Code::BadTopic, HERE),
    (
        Code::BadMac,
        "fieldgate/tests/it/signing.rs::where_integrity_is_required_every_frame_is_signed_and_none_is_taken_twice",
    ),
    (
        Code::Replayed,
        "fieldgate/tests/it/signing.rs::where_integrity_is_required_every_frame_is_signed_and_none_is_taken_twice",
    ),
    (Code::Conflict, HERE),
    (Code::Expired, HERE),
    (Code::BatchRefused, HERE),
    (
        Code::StorageUnavailable,
        "fieldgate/tests/it/reached.rs::on_a_full_disk_nothing_is_taken_and_the_reason_is_told",
    ),
];

/// Each ending that a peer is told, and a test that sees it.
const ENDINGS: &[(CloseReason, &str)] = &[
    (
        CloseReason::WebSocketProtocol,
        "fieldgate/tests/it/limits.rs::what_is_no_websocket_ends_with_its_code",
    ),
    (CloseReason::BadUtf8, "fieldgate/tests/it/limits.rs::what_is_no_websocket_ends_with_its_code"),
    (CloseReason::FrameTooLarge, LIMITS),
    (
        CloseReason::Policy,
        "fieldgate/tests/it/thingsee_out.rs::a_group_that_outgrows_a_reader_ends_it",
    ),
    (
        CloseReason::Internal,
        "fieldgate-server/src/worker/tests.rs::a_worker_whose_hub_panics_closes_its_links_and_starts_anew",
    ),
    (
        CloseReason::Restart,
        "fieldgate/tests/it/shutdown.rs::a_drain_tells_clients_keeps_everything_and_exits_0",
    ),
    (
        CloseReason::HeartbeatTimeout,
        "fieldgate/tests/it/limits.rs::a_silent_client_is_closed_after_the_heartbeat",
    ),
    (
        CloseReason::ProtocolError,
        "fieldgate/tests/it/native.rs::before_authentication_anything_else_ends_the_connection",
    ),
    (
        CloseReason::AuthTimeout,
        "fieldgate/tests/it/limits.rs::who_does_not_authenticate_in_time_is_closed",
    ),
    (
        CloseReason::AuthFailed,
        "fieldgate/tests/it/native.rs::a_wrong_token_and_an_unknown_device_get_the_same_words",
    ),
    (
        CloseReason::RightsWithdrawn,
        "fieldgate/tests/it/native.rs::a_removed_device_is_closed_at_once",
    ),
    (
        CloseReason::TakenOver,
        "fieldgate/tests/it/native.rs::a_second_connection_of_a_device_takes_over",
    ),
    (
        CloseReason::RateLimited,
        "fieldgate/tests/it/limits.rs::who_insists_for_ten_seconds_is_closed",
    ),
    (
        CloseReason::SlowReceiver,
        "fieldgate/tests/it/slow.rs::a_stalled_receiver_that_wants_to_be_closed_is_closed",
    ),
    (
        CloseReason::Disconnected,
        "fieldgate/tests/it/rest.rs::who_is_connected_is_told_and_can_be_disconnected",
    ),
    (
        CloseReason::NoCapacity,
        "fieldgate/tests/it/limits.rs::past_the_limit_a_connection_is_told_and_closed_and_a_takeover_is_not",
    ),
];

/// Each limit by the end of its name, and a test that reaches it.
const REACHED: &[(&str, &str)] = &[
    (
        "connections_max",
        "fieldgate/tests/it/limits.rs::past_the_limit_a_connection_is_told_and_closed_and_a_takeover_is_not",
    ),
    (
        "connections_per_address_max",
        "fieldgate/tests/it/limits.rs::one_address_has_so_many_connections_and_no_more",
    ),
    (
        "unauthenticated_max",
        "fieldgate/tests/it/reached.rs::past_the_places_of_those_who_are_nobody_it_is_busy",
    ),
    ("unauthenticated_frame_bytes_max", LIMITS),
    (
        "auth_failures_per_minute_max",
        "fieldgate/tests/it/limits.rs::guesses_are_limited_before_the_credential_is_looked_at",
    ),
    ("handshake_ms", "fieldgate/tests/it/limits.rs::a_head_that_drips_is_cut"),
    ("auth_ms", "fieldgate/tests/it/limits.rs::who_does_not_authenticate_in_time_is_closed"),
    (
        "idle_http_ms",
        "fieldgate/tests/it/edge.rs::a_connection_that_stays_has_its_time_and_a_head_that_drips_has_less",
    ),
    ("frame_bytes_max", LIMITS),
    ("message_bytes_max", LIMITS),
    ("json_depth_max", LIMITS),
    ("batch_len_max", LIMITS),
    ("topics_per_connection_max", LIMITS),
    (
        "topic_bytes_max",
        "fieldgate/tests/it/bounds.rs::topics_above_the_configured_bounds_are_refused_by_name",
    ),
    (
        "topic_levels_max",
        "fieldgate/tests/it/bounds.rs::topics_above_the_configured_bounds_are_refused_by_name",
    ),
    (
        "messages_per_second",
        "fieldgate/tests/it/limits.rs::who_sends_too_fast_is_told_how_long_to_wait",
    ),
    ("message_burst", "fieldgate/tests/it/limits.rs::who_sends_too_fast_is_told_how_long_to_wait"),
    ("bytes_per_second", "fieldgate/tests/it/limits.rs::bytes_and_the_elements_of_a_batch_count"),
    (
        "outbox_bytes_max",
        "fieldgate/tests/it/native.rs::a_slow_subscriber_costs_the_others_nothing_and_loses_nothing_at_qos_1",
    ),
    (
        "outbox_total_bytes_max",
        "fieldgate/tests/it/bounds.rs::all_slow_receivers_together_have_a_bound_and_lose_nothing_of_qos_1",
    ),
    (
        "input_total_bytes_max",
        "fieldgate/tests/it/bounds.rs::past_the_bound_of_unfinished_frames_reads_pause_and_go_on",
    ),
    (
        "inflight_max",
        "fieldgate/tests/it/bounds.rs::a_device_that_acknowledges_has_so_many_commands_at_a_time",
    ),
    (
        "replays_per_principal_max",
        "fieldgate/tests/it/limits.rs::replays_take_turns_and_one_that_nobody_reads_holds_up_no_other",
    ),
    (
        "devices_per_tenant_max",
        "fieldgate/tests/it/reached.rs::a_tenant_has_so_many_devices_and_no_more",
    ),
    (
        "devices_per_source_max",
        "fieldgate/tests/it/thingsee_in.rs::a_source_has_so_many_devices_and_no_more",
    ),
    (
        "resources_per_device_max",
        "fieldgate/tests/it/state.rs::readings_above_the_bound_are_delivered_and_written_down_as_not_in_the_state",
    ),
    (
        "retained_per_tenant_max",
        "fieldgate/tests/it/bounds.rs::retained_messages_have_a_bound_in_number_and_in_bytes",
    ),
    (
        "retained_bytes_per_tenant_max",
        "fieldgate/tests/it/bounds.rs::retained_messages_have_a_bound_in_number_and_in_bytes",
    ),
];

/// That a test is there, and says this word.
fn says(test: &str, word: &str) {
    let (file, name) = test.split_once("::").unwrap();
    let body = body_of_test(file, name).unwrap_or_else(|| panic!("there is no {test}"));
    assert!(body.contains(word), "{test} never says {word}");
}

#[test]
fn every_code_is_told_by_a_gateway_in_a_test() {
    for (code, test) in CODES {
        says(test, &format!("\"{code}\""));
    }
    let listed: BTreeSet<Code> = CODES.iter().map(|(code, _)| *code).collect();
    let missing: Vec<&Code> = Code::ALL.iter().filter(|code| !listed.contains(code)).collect();
    assert!(missing.is_empty(), "nothing brings about {missing:?}: add a test to CODES");
}

#[test]
fn every_ending_is_seen_in_a_test() {
    for (reason, test) in ENDINGS {
        says(test, &reason.code().to_string());
    }
    let listed: BTreeSet<CloseReason> = ENDINGS.iter().map(|(reason, _)| *reason).collect();
    for reason in CloseReason::ALL {
        // The peer's own end is not told to it.
        let is_told = *reason != CloseReason::PeerClosed;
        assert!(listed.contains(reason) == is_told, "{reason:?} has its test in ENDINGS");
    }
}

#[test]
fn every_limit_is_reached_in_a_test() {
    let printed = fieldgate().args(["config", "print", "--json"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let keys = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let keys = keys.filter_map(|line| {
        line["key"].as_str().unwrap().strip_prefix("limits.").map(str::to_owned)
    });
    let listed: BTreeSet<String> = REACHED.iter().map(|(limit, _)| (*limit).to_owned()).collect();
    assert_eq!(listed, keys.collect(), "each limit has its test in REACHED, and each is a limit");
    for (limit, test) in REACHED {
        says(test, limit);
    }
}

#[test]
fn each_refusal_of_a_frame_has_its_code() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let many: Vec<Value> = (0..1_001).map(|n| json!({"data": {"n": n}})).collect();
    let many = json!({"type": "batch", "data": many}).to_string();
    for (frame, code) in [
        ("{", "bad_json"),
        (r#"{"type":"status","data":{"t":1},"qos":7}"#, "bad_value"),
        (r#"{"type":"nonsense"}"#, "unknown_type"),
        (r#"{"type":"status"}"#, "missing_field"),
        (&many, "too_large"),
        (r#"{"type":"status","deviceId":"other","data":{"t":1}}"#, "not_allowed"),
        (r#"{"type":"unsubscribe","topic":"never"}"#, "not_found"),
        (r#"{"type":"publish","topic":"a/#","payload":1}"#, "bad_topic"),
        (r#"{"type":"auth","token":"t"}"#, "conflict"),
        (r#"{"type":"status","data":{"t":1},"expires":1}"#, "expired"),
        (r#"{"type":"batch","msgid":"m","data":[{"data":7}]}"#, "batch_refused"),
    ] {
        // Ten errors would end one connection.
        let mut device = gateway.as_device("d", &token);
        device.send_text(frame);
        let error = device.next();
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!(code)),
            "{frame:.90}"
        );
    }
}

#[test]
fn each_bound_of_a_frame_is_reached() {
    let gateway = Gateway::with(&[
        "limits.unauthenticated_frame_bytes_max=300",
        "limits.frame_bytes_max=3000",
        "limits.message_bytes_max=1000",
        "limits.json_depth_max=4",
        "limits.batch_len_max=3",
        "limits.topics_per_connection_max=2",
    ]);
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let auth = |pad: usize| {
        let auth = json!({"type": "auth", "deviceId": "d", "token": token}).to_string();
        auth + &" ".repeat(pad)
    };
    let mut wire = gateway.connect();
    wire.send_text(&auth(300 - auth(0).len()));
    assert_eq!(wire.next()["status"], "success", "300 bytes are no more than 300");
    let mut wire = gateway.connect();
    wire.send_text(&auth(301 - auth(0).len()));
    assert_eq!(wire.closed(), Some(1009));

    let mut app = gateway.as_app(&key);
    let mut answer = |frame: &str| {
        app.send_text(frame);
        let frame = app.next();
        let code = frame["code"].as_str().unwrap_or_default().to_owned();
        (code, frame["message"].as_str().unwrap_or_default().to_owned())
    };
    let publish = |bytes: usize| {
        let payload = "x".repeat(bytes);
        json!({"type": "publish", "topic": "a", "msgid": bytes.to_string(), "payload": payload})
    };
    assert_eq!(answer(&publish(1_000).to_string()).0, "");
    let (code, message) = answer(&publish(1_001).to_string());
    assert!(code == "too_large" && message.contains("limits.message_bytes_max"), "{message}");
    let deep = |depth: usize| {
        let payload = format!("{}1{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"type":"publish","topic":"a","msgid":"d{depth}","payload":{payload}}}"#)
    };
    assert_eq!((answer(&deep(4)).0, answer(&deep(5)).0), (String::new(), "bad_json".to_owned()));
    let batch = |len: usize| {
        let elements: Vec<Value> =
            (0..len).map(|n| json!({"deviceId": "d", "data": {"n": n}})).collect();
        json!({"type": "batch", "msgid": format!("b{len}"), "data": elements}).to_string()
    };
    let codes = [answer(&batch(3)).0, answer(&batch(4)).0];
    assert_eq!(codes[1], "too_large");
    assert_ne!(codes[0], "too_large");
    for (topic, wanted) in [("a", ""), ("b", ""), ("c", "too_large"), ("a", "")] {
        let frame = json!({"type": "subscribe", "topic": topic});
        let (code, message) = answer(&frame.to_string());
        assert_eq!(code, wanted, "{topic}: {message}");
        assert!(wanted.is_empty() || message.contains("limits.topics_per_connection_max"));
    }
    app.send_text(&format!("{}{}", r#"{"type":"ping"}"#, " ".repeat(3_000 - 15)));
    assert_eq!(app.next_of("pong")["type"], "pong");
    app.send_text(&format!("{}{}", r#"{"type":"ping"}"#, " ".repeat(3_001 - 15)));
    assert_eq!(app.closed(), Some(1009));
}

#[test]
fn a_tenant_has_so_many_devices_and_no_more() {
    let gateway = Gateway::with(&["limits.devices_per_tenant_max=2"]);
    let key = gateway.key("admin");
    let add = |id: &str| {
        let body = json!({"id": id}).to_string();
        crate::support::post(&gateway.address, "/v1/devices", &key, &body)
    };
    assert_eq!((add("a").0, add("b").0), (201, 201));
    let (status, told) = add("c");
    assert_eq!((status, &told["code"]), (503, &json!("queue_full")), "{told}");
    assert!(told["detail"].as_str().unwrap().contains("limits.devices_per_tenant_max"), "{told}");
    gateway.admin(&["device", "remove", "a", "--yes"]);
    assert_eq!(add("c").0, 201);
}

#[test]
fn past_the_places_of_those_who_are_nobody_it_is_busy() {
    let gateway = Gateway::with(&["limits.unauthenticated_max=1"]);
    let mut held = gateway.connect();
    let answer = exchange(&gateway.address, "GET", "/healthz", "", "");
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, &told["code"]), (503, &json!("busy")), "{told}");
    assert!(answer.header("retry-after").is_some());
    held.send(&json!({"type": "status"}));
    assert_eq!(held.closed(), Some(4400));
    drop(held);
    wait_for("the place", || (gateway.get("/healthz", None).0 == 200).then_some(()));
}

#[test]
fn on_a_full_disk_nothing_is_taken_and_the_reason_is_told() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("admin"));
    let signs = gateway.admin(&["device", "add", "s", "--type", "hmac"]);
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    gateway.set("--set=store.free_bytes_min=1000TiB");
    gateway.up();
    wait_for("the low disk", || (gateway.get("/readyz", None).0 == 503).then_some(()));
    // Who shows a token comes in, and is told of each frame.
    let mut device = gateway.as_device("d", &token);
    device.send(&json!({"type": "status", "msgid": "m", "data": {"t": 1}}));
    let error = device.next();
    assert_eq!((&error["code"], &error["ref"]), (&json!("storage_unavailable"), &json!("m")));
    let frame = r#"{"type":"publish","topic":"a","payload":1}"#;
    let (status, told) = crate::support::post(&gateway.address, "/v1/publish", &key, frame);
    assert_eq!((status, &told["code"]), (503, &json!("storage_unavailable")), "{told}");
    // A claim that cannot be written down cannot be taken: it could be used again.
    let signer = fieldgate_dialects::native::client::Signer::new(
        "default",
        "s",
        signs["token"].as_str().unwrap(),
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut wire: Wire = gateway.connect();
    wire.send_text(&signer.auth(now.as_millis() as u64, "n"));
    assert_eq!(wire.closed(), Some(4503));
}
