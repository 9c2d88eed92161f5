//! Who may see a device: by rights, and by a service that is slow, down, or lies.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::testing::{Gateway, until};

const TENANT: &str = "12B80A37-D30E-49F1-AF3B-356ECC1AD96C";
const PLANT: &str = "22b80a37-d30e-49f1-af3b-356ecc1ad96c";
const DEVICE: &str = "C5C80676-890C-4024-A16F-DF81AB0B5A22";
const ADDRESS: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)));

fn tenants() -> String {
    format!(r#"kamea.tenants={{"{TENANT}"="default","{PLANT}"="plant"}}"#)
}

fn request(tenant: &str, device: &str) -> Request {
    Request { tenant: tenant.to_owned(), device: device.parse().unwrap() }
}

async fn ask(gateway: &Gateway, token: &str, request: &Request) -> Verdict {
    authorize(gateway.shared(), Some(token), ADDRESS, request, None).await
}

async fn made(gateway: &Gateway, path: &str, body: serde_json::Value) -> serde_json::Value {
    let made = gateway.running.admin("POST", path, body.to_string().into_bytes()).await;
    let (status, made) = made.unwrap();
    assert_eq!(status, 201, "{made}");
    made
}

fn names(room: &Room) -> Vec<String> {
    room.filters.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn rights_here_open_a_device_of_the_own_tenant_in_either_case() {
    let gateway = Gateway::start(&[&tenants()], 1).await;
    let key = gateway.key("app").await;
    let lower = DEVICE.to_lowercase();
    gateway.device(&lower).await;
    for (tenant, device) in [(TENANT, DEVICE), (&*TENANT.to_lowercase(), &*lower)] {
        let Verdict::Allowed(room) = ask(&gateway, &key, &request(tenant, device)).await else {
            panic!("{tenant} {device}");
        };
        assert_eq!((room.device.as_str(), &*room.principal.name), (&*lower, "key:app"));
        let expected = SAID.map(|said| format!("devices/{lower}/{said}"));
        assert_eq!(names(&room), expected);
    }
    // What is not there yet is called as it was asked for.
    let later = ask(&gateway, &key, &request(TENANT, "Lamp-1")).await;
    assert!(matches!(later, Verdict::Allowed(room) if room.device.as_str() == "Lamp-1"));
}

#[tokio::test]
async fn nobody_sees_what_is_not_theirs() {
    let gateway = Gateway::start(&[&tenants()], 1).await;
    let key = gateway.key("app").await;
    let token = gateway.device("lamp-1").await;
    let lamp = request(TENANT, "lamp-1");
    for (token, request, why) in [
        (Some("wrong"), lamp.clone(), "a wrong token"),
        (None, lamp.clone(), "no token"),
        (Some(&*key), request(PLANT, "lamp-1"), "a tenant that is configured and is not there"),
        (Some(&*key), request(&TENANT.replace('1', "2"), "lamp-1"), "a tenant of nobody"),
        (Some(&*token), request(TENANT, "lamp-2"), "another device"),
    ] {
        let found = authorize(gateway.shared(), token, ADDRESS, &request, None).await;
        assert_eq!(found, Verdict::Denied, "{why}");
    }
    assert!(matches!(ask(&gateway, &token, &lamp).await, Verdict::Allowed(_)), "its own");
    made(&gateway, "/v1/tenants", json!({"name": "plant"})).await;
    let found = ask(&gateway, &key, &request(PLANT, "lamp-1")).await;
    assert_eq!(found, Verdict::Denied, "a tenant of others");
}

#[tokio::test]
async fn a_narrow_right_opens_what_it_names_and_no_more() {
    let gateway = Gateway::start(&[&tenants()], 1).await;
    let token = async |name: &str, grants: &[&str]| {
        let made = made(&gateway, "/v1/keys", json!({"name": name, "grants": grants})).await;
        made["key"].as_str().unwrap().to_owned()
    };
    let telemetry = token("t", &["subscribe:devices/+/telemetry"]).await;
    let events = token("e", &["subscribe:devices/+/events"]).await;
    let denied = token("d", &["subscribe:#", "!subscribe:devices/a/telemetry"]).await;
    let quiet = token("q", &["subscribe:#", "!subscribe:devices/a/events"]).await;
    let a = request(TENANT, "a");
    let Verdict::Allowed(room) = ask(&gateway, &telemetry, &a).await else { panic!() };
    assert_eq!(names(&room), ["devices/a/telemetry"]);
    let Verdict::Allowed(room) = ask(&gateway, &quiet, &a).await else { panic!() };
    assert_eq!(names(&room), ["devices/a/telemetry", "devices/a/state/reported"]);
    for token in [events, denied] {
        assert_eq!(ask(&gateway, &token, &a).await, Verdict::Denied);
    }
}

#[tokio::test]
async fn who_guesses_tokens_is_not_answered_for_a_while() {
    let few = "limits.auth_failures_per_minute_max=3";
    let gateway = Gateway::start(&[&tenants(), few], 1).await;
    let key = gateway.key("app").await;
    let a = request(TENANT, "a");
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "guess", &a).await, Verdict::Denied);
    }
    assert!(matches!(ask(&gateway, &key, &a).await, Verdict::Failed(why) if why.contains("many")));
    // What is open is asked about all the same.
    let again = authorize(gateway.shared(), Some(&key), None, &a, None).await;
    assert!(matches!(again, Verdict::Allowed(_)));
}

/// A service that answers as it is told, and keeps what it was asked.
struct StandIn {
    address: String,
    says: Arc<Mutex<Option<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand_in = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            says: Arc::default(),
            asked: Arc::default(),
        };
        let (says, asked) = (Arc::clone(&stand_in.says), Arc::clone(&stand_in.asked));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (says, asked) = (Arc::clone(&says), Arc::clone(&asked));
                tokio::spawn(async move {
                    let mut seen = vec![0; 16_384];
                    let mut len = 0;
                    while !is_whole(&seen[..len]) {
                        let read = stream.read(&mut seen[len..]).await.unwrap_or(0);
                        if read == 0 {
                            break;
                        }
                        len += read;
                    }
                    asked.lock().unwrap().push(String::from_utf8_lossy(&seen[..len]).into_owned());
                    let answer = says.lock().unwrap().clone();
                    match answer {
                        Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                        None => drop(stream.read(&mut seen).await),
                    }
                });
            }
        });
        stand_in
    }

    fn says(&self, answer: &str) {
        *self.says.lock().unwrap() = Some(answer.to_owned());
    }

    fn last_asked(&self) -> String {
        self.asked.lock().unwrap().pop().unwrap()
    }

    async fn gateway(&self, settings: &[&str]) -> Gateway {
        let (url, tenants) = (format!("kamea.authorization.url={}", self.address), tenants());
        let mut all = vec!["kamea.authorization.mode=http", &*url, &*tenants];
        all.extend(settings);
        Gateway::start(&all, 1).await
    }
}

/// Whether a request has come with its body.
fn is_whole(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= len.map_or(0, |len| len.parse().unwrap())
}

fn answer(status: &str, body: &str) -> String {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn a_service_is_asked_with_the_token_as_it_came_and_its_yes_opens_that_device_alone() {
    let service = StandIn::start().await;
    service.says(&answer("200 OK", r#"{"authorized":true}"#));
    let gateway = service.gateway(&[]).await;
    gateway.device(&DEVICE.to_lowercase()).await;
    let found = ask(&gateway, "some.foreign.token", &request(TENANT, DEVICE)).await;
    let Verdict::Allowed(room) = found else { panic!("{found:?}") };
    let asked = service.last_asked();
    assert!(asked.starts_with("POST /authorization/check-authorized HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nauthorization: Bearer some.foreign.token\r\n"), "{asked}");
    let body = format!(
        r#"{{"tenantId":"{TENANT}","entityType":"device","entityId":"{DEVICE}","permission":"read.telemetry"}}"#
    );
    assert!(asked.ends_with(&body), "{asked}");
    let Room { device, filters, principal } = *room;
    assert_eq!(device.as_str(), DEVICE.to_lowercase());
    assert!(filters.iter().all(|filter| principal.may_subscribe(filter)));
    let others = ["devices/+/telemetry", "devices/lamp-1/telemetry", "#"];
    assert!(!others.iter().any(|other| principal.may_subscribe(&other.parse().unwrap())));
    assert!(!principal.may_command(&device) && !principal.speaks_for(&device));
    assert_eq!(principal.tenant, TenantId::default_tenant());
    let still = gateway.shared().state.refresh(&principal, now());
    assert_eq!(still.as_ref(), Some(&principal), "a change of the registry does not end it");
}

#[tokio::test]
async fn request_and_answer_are_the_operators() {
    let service = StandIn::start().await;
    let gateway = service
        .gateway(&[
            "kamea.authorization.method=GET",
            "kamea.authorization.path=/t/{tenantId}/d/{deviceId}?right={permission}",
            "kamea.authorization.permission=see it",
            "kamea.authorization.answer=/data/allowed",
        ])
        .await;
    let a = request(TENANT, "a:b");
    service.says(&answer("200 OK", r#"{"data":{"allowed":true}}"#));
    assert!(matches!(ask(&gateway, "t", &a).await, Verdict::Allowed(_)));
    let asked = service.last_asked();
    let line = format!("GET /t/{TENANT}/d/a%3Ab?right=see%20it HTTP/1.1\r\n");
    assert!(asked.starts_with(&line) && asked.ends_with("\r\n\r\n"), "{asked}");
    service.says(&answer("200 OK", r#"{"data":{"allowed":false}}"#));
    assert_eq!(ask(&gateway, "t", &a).await, Verdict::Denied);
    service.says(&answer("200 OK", "{}"));
    assert!(matches!(ask(&gateway, "t", &a).await, Verdict::Failed(_)));
}

#[tokio::test]
async fn a_no_is_a_no_and_what_is_neither_opens_nothing() {
    let service = StandIn::start().await;
    let gateway = service.gateway(&["kamea.authorization.timeout_ms=2000"]).await;
    let a = request(TENANT, "a");
    for no in
        [answer("401 Unauthorized", ""), answer("403 Forbidden", ""), answer("200 OK", "false")]
    {
        service.says(&no);
        assert_eq!(ask(&gateway, "t", &a).await, Verdict::Denied, "{no}");
    }
    let long = answer("200 OK", &" ".repeat(70_000));
    for (says, expected) in [
        (answer("500 Oops", "true"), "status 500"),
        (answer("404 Not Found", "true"), "status 404"),
        (
            "HTTP/1.1 302 Found\r\nLocation: /yes\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "redirects",
        ),
        (answer("200 OK", "<html>"), "a page"),
        (long, "longer than"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntrue".to_owned(), "could not be reached"),
        ("nonsense\r\n\r\n".to_owned(), "could not be reached"),
        (String::new(), "could not be reached"),
    ] {
        service.says(&says);
        match ask(&gateway, "t", &a).await {
            Verdict::Failed(why) => assert!(why.contains(expected), "{says}: {why}"),
            other @ (Verdict::Allowed(_) | Verdict::Denied) => panic!("{says}: {other:?}"),
        }
    }
    let asked = service.asked.lock().unwrap().len();
    assert_eq!(ask(&gateway, "a\nb", &a).await, Verdict::Denied, "it fits no header");
    assert_eq!(ask(&gateway, "t", &request(&TENANT.replace('1', "2"), "a")).await, Verdict::Denied);
    assert_eq!(service.asked.lock().unwrap().len(), asked, "neither was asked about");
}

#[tokio::test]
async fn a_service_that_is_not_there_fails_and_its_return_is_seen() {
    let service = StandIn::start().await;
    let gateway = service.gateway(&["kamea.authorization.timeout_ms=2000"]).await;
    let mut config = crate::Config::clone(&gateway.shared().config);
    let authorization = |url: &str| crate::config::Authorization {
        url: url.to_owned(),
        ..gateway.shared().config.kamea.authorization.clone()
    };
    config.kamea.authorization = authorization("http://127.0.0.1:9");
    assert_eq!(gateway.running.reconfigure(&config).changed, ["kamea.authorization.url"]);
    let a = request(TENANT, "a");
    let down = ask(&gateway, "t", &a).await;
    assert!(matches!(down, Verdict::Failed(why) if why.contains("could not be reached")));
    config.kamea.authorization = authorization(&service.address);
    assert!(gateway.running.reconfigure(&config).needs_restart.is_empty());
    service.says(&answer("204 No Content", ""));
    assert!(matches!(ask(&gateway, "t", &a).await, Verdict::Allowed(_)));
}

#[tokio::test]
async fn a_slow_service_holds_a_bounded_number_of_questions_for_a_bounded_time() {
    let service = StandIn::start().await;
    let gateway = service.gateway(&["kamea.authorization.timeout_ms=60000"]).await;
    let asking = (0..64).map(|_| {
        let shared = Arc::clone(gateway.shared());
        tokio::spawn(async move {
            authorize(&shared, Some("t"), None, &request(TENANT, "a"), None).await
        })
    });
    let asking: Vec<_> = asking.collect();
    let asked = || service.asked.lock().unwrap().len();
    until("64 questions", || asked() == 64).await;
    let mut config = crate::Config::clone(&gateway.shared().config);
    let hasty = config.kamea.authorization.clone();
    config.kamea.authorization = crate::config::Authorization { timeout_ms: 100, ..hasty };
    assert_eq!(gateway.running.reconfigure(&config).needs_restart.len(), 0);
    let late = ask(&gateway, "t", &request(TENANT, "a")).await;
    assert!(matches!(late, Verdict::Failed(why) if why.contains("in 100 ms")));
    assert_eq!(asked(), 64, "one more was not asked");
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    service.says(&answer("200 OK", ""));
    until("a place", || gateway.shared().kamea.has_place()).await;
    assert!(matches!(ask(&gateway, "t", &request(TENANT, "a")).await, Verdict::Allowed(_)));
}
