//! Engine.IO 3 and 4 and Socket.IO, packet by packet: the cases of the official suites of the protocols
//! (`github.com/socketio/engine.io-protocol`, branches `main` and `v3`, and `socket.io-protocol`, branch
//! `fix/waitfor`) against the gateway, whose namespaces answer where theirs echo. Which case is which
//! test stands in `docs/protocol/socketio-cases.md`.

use serde_json::Value;

use crate::support::{
    Gateway, Seen, Wire, exchange_bytes,
    sessions::{PATH, Polling, ask, ends, next, open, session},
    wait_for,
};

fn gateway() -> Gateway {
    Gateway::with(&["heartbeat.ping_ms=300", "heartbeat.silence_ms=1500"])
}

#[test]
fn a_session_opens_with_what_its_client_has_to_know() {
    let gateway = gateway();
    let told = |opening: &Value, upgrades: &Value, bytes_max: usize| {
        assert_eq!(&opening["upgrades"], upgrades);
        assert_eq!(
            (&opening["pingInterval"], &opening["pingTimeout"]),
            (&300.into(), &1_200.into())
        );
        assert_eq!(opening["maxPayload"], bytes_max);
        assert!(opening["sid"].as_str().unwrap().len() >= 20);
    };
    for engine in [3, 4] {
        let (_, opening) = Polling::open(&gateway, engine);
        told(&opening, &serde_json::json!(["websocket"]), 16_384);
        let mut wire = open(&gateway, &format!("EIO={engine}&transport=websocket")).unwrap();
        let text = wire.text();
        told(&serde_json::from_str(&text[1..]).unwrap(), &serde_json::json!([]), 262_144);
    }
}

#[test]
fn what_is_no_handshake_is_refused_in_its_own_words() {
    let gateway = gateway();
    for (method, query, code) in [
        ("GET", "transport=polling", 5),
        ("GET", "EIO=abc&transport=polling", 5),
        ("GET", "EIO=5&transport=polling", 5),
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=abc", 0),
        ("GET", "EIO=3&transport=polling&j=0", 0),
        ("POST", "EIO=4&transport=polling", 2),
        ("PUT", "EIO=4&transport=polling", 2),
        ("GET", "EIO=4&transport=websocket", 3),
        ("GET", "EIO=4&transport=polling&sid=abc", 1),
        ("POST", "EIO=4&transport=polling&sid=abc", 1),
    ] {
        let (status, body) = ask(&gateway, method, query, "");
        let told: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &told["code"]), (400, &code.into()), "{method} {query}: {body}");
    }
    for query in [
        "transport=websocket",
        "EIO=abc&transport=websocket",
        "EIO=4",
        "EIO=4&transport=abc",
        "EIO=4&transport=websocket&sid=abc",
    ] {
        assert!(open(&gateway, query).is_err(), "{query}");
    }
}

#[test]
fn bodies_carry_several_packets_of_every_kind() {
    let gateway = gateway();
    let (v4, _) = Polling::open(&gateway, 4);
    assert_eq!(v4.post("40/v2,"), (200, "ok".to_owned()));
    let joined = v4.next();
    assert!(joined.starts_with("40/v2,{\"sid\":\""), "{joined}");
    // Two events, one of them with bytes in place of a value, in one body.
    let body = "42/v2,1[\"subscribe\",{}]\u{1e}451-/v2,2[\"subscribe\",{\"resource\":{\"_placeholder\":true,\"num\":0}}]\u{1e}bAQIDBA==";
    assert_eq!(v4.post(body), (200, "ok".to_owned()));
    let mut answers = String::new();
    while answers.matches("43/v2,").count() < 2 {
        answers.push_str(&v4.next());
        answers.push('\u{1e}');
    }
    let packets: Vec<&str> = answers.split('\u{1e}').filter(|packet| !packet.is_empty()).collect();
    assert_eq!(packets.len(), 4, "{packets:?}");
    assert!(packets[0].starts_with("42/v2,[\"subscribe\",{\"status\":\"error\",\"code\":401"));
    assert!(packets[1].starts_with("43/v2,1[{\"status\":\"error\""), "{packets:?}");
    assert!(packets[3].starts_with("43/v2,2["), "{packets:?}");

    let (v3, _) = Polling::open(&gateway, 3);
    let (status, body) =
        v3.post("5:40/v225:42/v2,1[\"unsubscribe\",{}]23:451-/v2,2[\"subscribe\",");
    assert_eq!(status, 400, "a body that was cut: {body}");
    let (v3, _) = Polling::open(&gateway, 3);
    assert_eq!(v3.post("5:40/v225:42/v2,1[\"unsubscribe\",{}]1:2").1, "ok");
    let mut answers = String::new();
    while !answers.contains("43/v2,1[") || !answers.contains("1:3") {
        answers.push_str(&v3.poll().1);
    }
    assert!(answers.contains("6:40/v2,"), "{answers}");
}

#[test]
fn bytes_of_the_older_version_are_read_in_both_their_forms() {
    let gateway = gateway();
    let (session, _) = Polling::open(&gateway, 3);
    session.post("5:40/v2");
    let event = "451-/v2,[\"authenticate\",{\"sessionToken\":{\"_placeholder\":true,\"num\":0}}]";
    let coded = format!("{}:{event}10:b4AQIDBA==", event.len());
    assert_eq!(session.post(&coded).1, "ok");
    let mut bytes = vec![0];
    bytes.extend(event.len().to_string().bytes().map(|digit| digit - b'0'));
    bytes.push(255);
    bytes.extend_from_slice(event.as_bytes());
    bytes.extend_from_slice(&[1, 5, 255, 4, 1, 2, 3, 4]);
    let path = format!("{PATH}?{}", session.query());
    let content = "Content-Type: application/octet-stream\r\n";
    let answer = exchange_bytes(&gateway.address, "POST", &path, content, &bytes);
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    let mut answers = String::new();
    while answers.matches("Invalid session token").count() < 2 {
        answers.push_str(&session.poll().1);
    }
}

#[test]
fn what_is_no_packet_ends_the_session() {
    let gateway = gateway();
    for engine in [3, 4] {
        let (session, _) = Polling::open(&gateway, engine);
        assert_eq!(session.post("abc").0, 400);
        assert_eq!(session.poll().0, 400, "from then on there is none");
        let (session, _) = Polling::open(&gateway, engine);
        assert_eq!(session.post(if engine == 4 { "4\u{1e}7" } else { "1:41:7" }).0, 400);
        assert_eq!(session.poll().0, 400);
        for text in [
            "abc",
            "0{}",
            "",
            "4abc",
            "42{}",
            "42abc[\"a\"]",
            "42[1]",
            "452-[\"a\"]",
            "42/nope,[\"a\"]",
        ] {
            let mut wire = self::session(&gateway, engine);
            wire.send_text(text);
            assert!(ends(&mut wire), "{text}");
        }
    }
    let mut wire = session(&gateway, 4);
    wire.send_text("451-[\"a\",{\"_placeholder\":true,\"num\":0}]");
    wire.send_text("42[\"a\"]");
    assert!(ends(&mut wire), "a text where bytes are due");
    let mut wire = session(&gateway, 4);
    wire.send_binary(&[1]);
    assert!(ends(&mut wire), "bytes that belong to nothing");
}

#[test]
fn a_body_above_the_bound_is_refused() {
    let gateway = gateway();
    let (session, _) = Polling::open(&gateway, 4);
    let (status, _) = session.post(&"4".repeat(262_145));
    assert_eq!(status, 413);
    assert_eq!(session.poll().0, 400);
}

#[test]
fn two_polls_at_once_end_the_session() {
    let gateway = gateway();
    let (session, _) = Polling::open(&gateway, 4);
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(|| session.poll());
        let second = wait_for("the second poll", || {
            let second = session.poll();
            // It may have come first.
            (second.0 == 400 || second.1 == "1").then_some(second)
        });
        (first.join().unwrap(), second)
    });
    let (one, other) = first;
    let statuses = [one.0, other.0];
    assert!(statuses.contains(&400), "{one:?} {other:?}");
    wait_for("the end", || (session.poll().0 == 400).then_some(()));
}

#[test]
fn the_newer_version_is_pinged_and_ends_without_an_answer() {
    let gateway = gateway();
    let (session, _) = Polling::open(&gateway, 4);
    for _ in 0..3 {
        assert_eq!(session.poll(), (200, "2".to_owned()));
        assert_eq!(session.post("3").0, 200);
    }
    let mut wire = self::session(&gateway, 4);
    for _ in 0..3 {
        assert_eq!(wire.text(), "2");
        wire.send_text("3");
    }
    assert!(ends(&mut wire), "no answer to a ping");
    wait_for("the end", || (session.poll().0 == 400).then_some(()));
}

#[test]
fn who_was_silent_has_no_session_from_its_first_poll_on() {
    let gateway = gateway();
    let key = gateway.key("admin");
    for (count, engine) in [(1, 3), (2, 4)] {
        let (session, _) = Polling::open(&gateway, engine);
        let told = format!("fieldgate_closed_total{{reason=\"heartbeat_timeout\"}} {count}");
        wait_for("its end", || gateway.get("/metrics", Some(&key)).1.contains(&told).then_some(()));
        let (status, body) = session.poll();
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("Session ID unknown"), "{body}");
        assert_eq!((session.post("2").0, session.websocket().is_err()), (400, true));
    }
}

#[test]
fn the_older_version_pings_itself() {
    let gateway = gateway();
    let (session, _) = Polling::open(&gateway, 3);
    let mut wire = self::session(&gateway, 3);
    for _ in 0..3 {
        assert_eq!(session.post("1:2").0, 200);
        wait_for("the pong", || session.poll().1.contains("1:3").then_some(()));
        wire.send_text("2");
        assert_eq!(wire.text(), "3");
    }
    assert!(ends(&mut wire), "no ping");
    wait_for("the end of the other one", || (session.poll().0 == 400).then_some(()));
}

#[test]
fn a_client_closes_its_session() {
    let gateway = gateway();
    let (session, _) = Polling::open(&gateway, 4);
    let (polled, posted) = std::thread::scope(|scope| {
        let poll = scope.spawn(|| session.poll());
        let posted = session.post("1");
        (poll.join().unwrap(), posted)
    });
    assert_eq!(posted.0, 200);
    // The poll may have come behind the end.
    assert!(polled == (200, "6".to_owned()) || polled.0 == 400, "{polled:?}");
    wait_for("the end", || (session.poll().0 == 400).then_some(()));
    let mut wire = self::session(&gateway, 4);
    wire.send_text("1");
    assert!(ends(&mut wire));
}

#[test]
fn a_session_goes_over_to_a_websocket_with_everything_that_waits() {
    let gateway = gateway();
    for engine in [3, 4] {
        let (session, _) = Polling::open(&gateway, engine);
        let join = if engine == 3 { "5:40/v2" } else { "40/v2," };
        session.post(join);
        let mut wire = session.websocket().unwrap();
        let mut another = session.websocket().unwrap();
        assert_eq!(another.see(), Seen::Close(None), "two at once");
        wire.send_text("2probe");
        assert_eq!(wire.text(), "3probe");
        // What was said meanwhile, or nothing.
        let mut polled = String::new();
        while !polled.contains("40/v2,") {
            let (status, body) = session.poll();
            assert_eq!(status, 200);
            polled.push_str(&body);
        }
        assert!(matches!(session.poll().1.as_str(), "6" | "1:6" | "2"));
        wire.send_text("5");
        wire.send_text("42/v2,7[\"unsubscribe\",{}]");
        assert!(next(&mut wire).starts_with("42/v2,[\"unsubscribe\",{\"status\":\"success\""));
        assert!(next(&mut wire).starts_with("43/v2,7["));
        assert_eq!(session.poll().0, 400, "it went over");
        assert_eq!(session.post("2").0, 400);
        let mut another = session.websocket().unwrap();
        another.send_text("2probe");
        another.send_text("42/v2,9[\"unsubscribe\",{}]");
        assert_eq!(another.see(), Seen::Close(None), "it went over");
        assert_eq!(another.see(), Seen::End, "and nothing is said there");
        wire.send_text("42/v2,8[\"unsubscribe\",{}]");
        next(&mut wire);
        assert!(next(&mut wire).starts_with("43/v2,8["));
    }
}

#[test]
fn a_socket_too_many_has_a_place_until_it_is_gone() {
    let gateway = Gateway::with(&["limits.connections_per_address_max=3"]);
    let (session, _) = Polling::open(&gateway, 4);
    let mut tried = session.websocket().unwrap();
    let fresh = || open(&gateway, "EIO=4&transport=websocket");
    wait_for("an address that is full", || {
        let _another = session.websocket().ok()?;
        fresh().is_err().then_some(())
    });
    drop(wait_for("the place again", || fresh().ok()));
    // Who does not answer the close has it for a while, and no longer.
    let _another = wait_for("another", || session.websocket().ok());
    drop(wait_for("the place again", || fresh().ok()));
    tried.send_text("2probe");
    assert_eq!(tried.text(), "3probe", "the one that is tried heard nothing of it");
}

#[test]
fn an_upgrade_that_is_never_finished_leaves_the_session_as_it_was() {
    let gateway = gateway();
    let (session, _) = Polling::open(&gateway, 4);
    for first in ["2nope", "5", ""] {
        let mut wire = session.websocket().unwrap();
        wire.send_text(first);
        assert!(ends(&mut wire), "{first}");
    }
    let mut wire = session.websocket().unwrap();
    wire.send_text("2probe");
    assert_eq!(wire.text(), "3probe");
    drop(wire);
    wait_for("polling goes on", || {
        session.post("3");
        (session.poll().1 == "2").then_some(())
    });
}

#[test]
fn namespaces_are_joined_and_left() {
    let gateway = gateway();
    let mut wire = session(&gateway, 4);
    wire.send_text("40");
    assert!(wire.text().starts_with("40{\"sid\":\""));
    wire.send_text("40/random");
    assert_eq!(next(&mut wire), "44/random,{\"message\":\"Invalid namespace\"}");
    wire.send_text("40/v2,{\"token\":1}");
    assert!(next(&mut wire).starts_with("44/v2,{\"message\":\"auth"));
    wire.send_text("40/v2,{\"position\":\"x\"}");
    assert!(next(&mut wire).starts_with("44/v2,{\"message\":\"auth: a position"));
    wire.send_text("40/v2");
    assert!(next(&mut wire).starts_with("40/v2,{\"sid\":\""));
    wire.send_text("40/devices,");
    assert!(next(&mut wire).starts_with("40/devices,{\"sid\":\""), "both at once");
    wire.send_text("42[\"nobody hears this\"]");
    wire.send_text("41/v2,");
    wire.send_text("40");
    assert!(next(&mut wire).starts_with("40{"), "the root goes on");
    wire.send_text("41/devices,");
    wire.send_text("40/devices,{\"token\":1}");
    assert!(next(&mut wire).starts_with("44/devices,{\"message\":\"auth"));
    wire.send_text("40/devices,");
    assert!(next(&mut wire).starts_with("40/devices,{"), "the second one comes again, too");
    wire.send_text("40/v2,");
    assert!(next(&mut wire).starts_with("40/v2,{\"sid\":\""), "it comes again");
    wire.send_text("41/v2,");
    wire.send_text("42/v2,[\"unsubscribe\",{}]");
    assert!(ends(&mut wire), "an event for a namespace that was left");

    let mut old = session(&gateway, 3);
    old.send_text("40/v2");
    assert_eq!(old.text(), "40/v2,");
    old.send_text("41/v2");
    old.send_text("2");
    assert_eq!(old.text(), "3");
}

#[test]
fn the_root_is_joined_in_any_words_and_left_while_its_connection_stays() {
    let gateway = gateway();
    let mut wire = session(&gateway, 4);
    for words in ["40", "40{\"token\":\"123\"}", "40/v2,{\"anything\":[1]}"] {
        wire.send_text(words);
        let (start, _) = words.split_once('{').unwrap_or((words, ""));
        assert!(next(&mut wire).starts_with(&format!("{start}{{\"sid\":\"")), "{words}");
    }
    wire.send_text("41");
    wire.send_text("41/v2,");
    wire.send_text("40/v2,{\"ack\":\"perhaps\"}");
    assert!(next(&mut wire).starts_with("44/v2,{\"message\":\"auth"), "it goes on");
    assert_eq!(wire.text(), "2", "and is pinged");
}

#[test]
fn bytes_come_over_a_websocket_in_both_versions() {
    let gateway = gateway();
    for (engine, bytes) in [(3, &[4, 1, 2][..]), (4, &[1, 2])] {
        let mut wire = session(&gateway, engine);
        wire.send_text("40/v2,");
        assert!(next(&mut wire).starts_with("40/v2,"));
        wire.send_text("451-/v2,9[\"subscribe\",{\"resource\":{\"_placeholder\":true,\"num\":0}}]");
        wire.send_binary(bytes);
        assert!(next(&mut wire).starts_with("42/v2,[\"subscribe\",{\"status\":\"error\""));
        assert!(next(&mut wire).starts_with("43/v2,9[{\"status\":\"error\""));
    }
    let mut wire = session(&gateway, 3);
    wire.send_binary(&[1, 2]);
    assert!(ends(&mut wire), "without the byte that stands before the data");
}

#[test]
fn who_proves_nothing_says_little() {
    let gateway = gateway();
    let mut wire = session(&gateway, 4);
    wire.send_text("40/v2,");
    for _ in 0..80 {
        // It may have ended before.
        let _gone = wire.raw(&Wire::bytes_of(&Value::Null));
        wire.send_text("42/v2,[\"unsubscribe\",{}]");
    }
    assert!(ends(&mut wire));
}
