//! People sign in, go on, and sign out; what they were let in with ends when it must.

use std::{
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Events, Gateway, Wire, fieldgate, post_open, run, wait_for};

const PASSWORD: &str = "correct horse battery";
const ANOTHER: &str = "another horse battery";

/// Runs a command that takes a password.
fn with_password(gateway: &Gateway, arguments: &[&str], password: &str) {
    let mut child = fieldgate()
        .args(arguments)
        .args(["--password-stdin", "--data"])
        .arg(gateway.data())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A gateway on which ada may sign in.
fn gateway(role: &str, settings: &[&str]) -> Gateway {
    let gateway = Gateway::with(settings);
    with_password(&gateway, &["user", "add", "ada", "--role", role], PASSWORD);
    gateway
}

fn login(gateway: &Gateway, password: &str) -> (u16, Value) {
    post_open(&gateway.address, "/v1/login", &json!({"name": "ada", "password": password}))
}

fn signed_in(gateway: &Gateway) -> Value {
    let (status, told) = login(gateway, PASSWORD);
    assert_eq!(status, 200, "{told}");
    told
}

fn refresh(gateway: &Gateway, told: &Value) -> (u16, Value) {
    let body = json!({"refresh_token": told["refresh_token"]});
    post_open(&gateway.address, "/v1/refresh", &body)
}

fn token(told: &Value) -> &str {
    told["access_token"].as_str().unwrap()
}

fn status_of(gateway: &Gateway, told: &Value) -> u16 {
    gateway.get("/v1/status", Some(token(told))).0
}

#[test]
fn who_signed_in_has_the_rights_of_their_role() {
    let gateway = gateway("operator", &[]);
    let told = signed_in(&gateway);
    assert_eq!((&told["name"], &told["role"]), (&json!("ada"), &json!("operator")));
    assert_eq!(status_of(&gateway, &told), 200);
    assert_eq!(gateway.get("/v1/keys", Some(token(&told))).0, 403);
    let mut app = gateway.as_app(token(&told));
    app.send(&json!({"type": "subscribe", "topic": "rooms/#"}));
    app.next_of("subscribed");
    app.send(&json!({"type": "publish", "topic": "rooms/a", "payload": 1, "msgid": "m"}));
    assert_eq!(app.next_of("mqtt")["from"], "user:ada");
    // A refresh token shows nobody.
    let refresh = told["refresh_token"].as_str().unwrap();
    assert_eq!(gateway.get("/v1/status", Some(refresh)).0, 401);
}

#[test]
fn a_wrong_login_is_told_in_the_same_words_and_counted() {
    let gateway = gateway("viewer", &["limits.auth_failures_per_minute_max=6"]);
    let ask = |body: &Value| post_open(&gateway.address, "/v1/login", body);
    let wrong = login(&gateway, ANOTHER);
    assert_eq!(wrong.0, 401);
    for (tenant, name) in
        [("default", "bob"), ("nowhere", "ada"), ("default", "a b"), ("default", "")]
    {
        let body = json!({"tenant": tenant, "name": name, "password": PASSWORD});
        assert_eq!(ask(&body), wrong, "{body}");
    }
    assert_eq!(login(&gateway, ""), wrong);
    // Past the limit nothing is looked at, not even the right one.
    assert_eq!(login(&gateway, PASSWORD).0, 429);
    assert_eq!(ask(&json!({"name": "ada"})).0, 429);
}

#[test]
fn a_refresh_token_makes_new_tokens_once_and_again_ends_the_session() {
    let gateway = gateway("viewer", &[]);
    let first = signed_in(&gateway);
    let (status, second) = refresh(&gateway, &first);
    assert_eq!(status, 200, "{second}");
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!((status_of(&gateway, &first), status_of(&gateway, &second)), (200, 200));
    let mut open = gateway.as_app(token(&second));
    let other = signed_in(&gateway);
    assert_eq!(refresh(&gateway, &first).0, 401, "it was used before");
    assert_eq!(open.closed(), Some(4403));
    assert_eq!((status_of(&gateway, &first), status_of(&gateway, &second)), (401, 401));
    assert_eq!(refresh(&gateway, &second).0, 401);
    assert_eq!(status_of(&gateway, &other), 200, "another sign-in goes on");
    for made_up in ["", "fg_r_", "fg_r_äöü", "x", &"fg_r_".repeat(20)] {
        assert_eq!(refresh(&gateway, &json!({"refresh_token": made_up})).0, 401);
    }
}

#[test]
fn whoever_makes_token_after_token_is_over_a_rate() {
    let settings = ["limits.messages_per_second=1", "limits.message_burst=3"];
    let gateway = gateway("viewer", &settings);
    let mut told = signed_in(&gateway);
    let mut made_count = 0;
    let refused = loop {
        match refresh(&gateway, &told) {
            (200, next) => told = next,
            (status, _) => break status,
        }
        made_count += 1;
        assert!(made_count < 1_000, "one each second, and three at once");
    };
    assert!(refused == 429 && made_count >= 3, "{refused} behind {made_count}");
    assert_eq!(status_of(&gateway, &told), 200, "the session goes on");
}

#[test]
fn of_many_who_use_a_refresh_token_at_once_at_most_one_goes_on() {
    let gateway = gateway("viewer", &["limits.auth_failures_per_minute_max=1000"]);
    let first = signed_in(&gateway);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| refresh(&gateway, &first))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let good: Vec<_> = answers.iter().filter(|(status, _)| *status == 200).collect();
    assert_eq!(good.len(), 1, "{answers:?}");
    assert_eq!(status_of(&gateway, &good[0].1), 401, "and its session ended with the others");
}

#[test]
fn signing_out_a_new_password_and_removal_end_everything_within_a_second() {
    let gateway = gateway("viewer", &[]);
    let ends: [&dyn Fn(&Value); 3] = [
        &|told| {
            let body = json!({"refresh_token": told["refresh_token"]});
            assert_eq!(post_open(&gateway.address, "/v1/logout", &body).0, 204);
        },
        &|_| {
            with_password(&gateway, &["user", "password", "ada"], ANOTHER);
            with_password(&gateway, &["user", "password", "ada"], PASSWORD);
        },
        &|_| drop(gateway.admin(&["user", "remove", "ada", "--yes"])),
    ];
    for end in ends {
        let told = signed_in(&gateway);
        let mut open = gateway.as_app(token(&told));
        let mut stream = Events::open(&gateway, "topic=a", token(&told), None);
        end(&told);
        let ended = Instant::now();
        assert_eq!(open.closed(), Some(4403));
        let close = stream.next();
        assert_eq!((close.name.as_str(), &close.data["code"]), ("close", &json!(4403)));
        assert!(ended.elapsed() < Duration::from_secs(1));
        assert_eq!((status_of(&gateway, &told), refresh(&gateway, &told).0), (401, 401));
    }
    assert_eq!(login(&gateway, PASSWORD).0, 401, "nobody is called ada");
}

#[test]
fn what_an_access_token_opened_ends_with_it_and_the_session_goes_on() {
    let gateway = gateway("viewer", &["auth.access_lifetime=2s"]);
    let first = signed_in(&gateway);
    let mut open = gateway.as_app(token(&first));
    assert_eq!(open.closed(), Some(4403));
    assert_eq!(status_of(&gateway, &first), 401);
    let (status, second) = refresh(&gateway, &first);
    assert_eq!((status, status_of(&gateway, &second)), (200, 200));
}

#[test]
fn sign_ins_survive_a_restart_and_a_kill() {
    let mut gateway = gateway("viewer", &[]);
    let first = signed_in(&gateway);
    gateway.kill();
    gateway.up();
    assert_eq!(status_of(&gateway, &first), 200);
    let (_, second) = refresh(&gateway, &first);
    gateway.signal("TERM");
    gateway.ended();
    gateway.up();
    assert_eq!(status_of(&gateway, &second), 200);
    assert_eq!(refresh(&gateway, &first).0, 401, "that it was used is remembered");
    assert_eq!(status_of(&gateway, &second), 401);
}

#[test]
fn a_login_link_signs_in_once_also_one_that_was_made_while_no_gateway_ran() {
    let mut gateway = gateway("admin", &[]);
    let redeem = |gateway: &Gateway, code: &Value| {
        post_open(&gateway.address, "/v1/login-link", &json!({"code": code}))
    };
    let made = gateway.admin(&["login-link"]);
    assert_eq!(made["user"], "ada", "the only admin");
    gateway.signal("TERM");
    gateway.ended();
    let offline = gateway.admin(&["login-link", "--user", "ada"]);
    gateway.up();
    for code in [&made["code"], &offline["code"]] {
        let (status, told) = redeem(&gateway, code);
        assert_eq!((status, &told["role"]), (200, &json!("admin")), "{told}");
        assert_eq!(gateway.get("/v1/keys", Some(token(&told))).0, 200);
        assert_eq!(redeem(&gateway, code).0, 401, "once");
    }
    assert_eq!(redeem(&gateway, &json!("fg_l_made-up")).0, 401);
    let ended = gateway.admin(&["login-link"]);
    with_password(&gateway, &["user", "password", "ada"], ANOTHER);
    assert_eq!(redeem(&gateway, &ended["code"]).0, 401, "the password was replaced meanwhile");
    with_password(&gateway, &["user", "add", "eve", "--role", "admin"], PASSWORD);
    for (arguments, exit) in [(&["login-link"][..], 2), (&["login-link", "--user", "bob"], 1)] {
        assert_eq!(run(arguments, &gateway.data()).status.code(), Some(exit), "{arguments:?}");
    }
}

#[test]
fn no_secret_of_a_sign_in_is_in_the_log_or_on_disk_and_colons_are_for_others() {
    let mut gateway = gateway("admin", &["log.level=trace"]);
    let mut secrets = vec![PASSWORD.to_owned()];
    let mut keep = |told: &Value, names: &[&str]| {
        secrets.extend(names.iter().map(|name| told[*name].as_str().unwrap().to_owned()));
    };
    let first = signed_in(&gateway);
    keep(&first, &["access_token", "refresh_token"]);
    keep(&refresh(&gateway, &first).1, &["access_token", "refresh_token"]);
    keep(&gateway.admin(&["login-link"]), &["code"]);
    drop(Wire::open(&gateway.address, &format!("/ws?token={}", token(&first)), &[]).unwrap());
    assert_eq!(login(&gateway, "a wrong guess").0, 401);
    secrets.push("a wrong guess".to_owned());
    let colon = ["user", "add", "corp:ada", "--role", "admin"];
    let mut child = fieldgate()
        .args(colon)
        .args(["--password-stdin", "--data"])
        .arg(gateway.data())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    let refused = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("without a colon"));
    gateway.signal("TERM");
    gateway.ended();
    let mut places = vec![gateway.output()];
    let mut folders = vec![gateway.data()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                places.push(String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned());
            }
        }
    }
    assert!(places.iter().any(|place| place.contains("$argon2id$")), "the files are read");
    for secret in &secrets {
        assert!(!places.iter().any(|place| place.contains(secret)), "{secret} was written");
    }
}

#[test]
fn a_flood_of_logins_leaves_the_gateway_answering() {
    let gateway = gateway("viewer", &["limits.auth_failures_per_minute_max=100000"]);
    let app = gateway.key("viewer");
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..150).map(|_| scope.spawn(|| login(&gateway, ANOTHER).0)).collect();
        let began = Instant::now();
        assert_eq!(gateway.get("/v1/status", Some(&app)).0, 200);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let answers: Vec<u16> = flood.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(answers.iter().all(|status| matches!(status, 401 | 503)), "{answers:?}");
        assert!(answers.contains(&401));
    });
    wait_for("a login after the flood", || (login(&gateway, PASSWORD).0 == 200).then_some(()));
}
