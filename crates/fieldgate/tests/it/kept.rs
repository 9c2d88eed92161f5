//! Many requests on one connection: each is worth what its own credential is worth now.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::support::{Gateway, request};

/// A connection that is kept, as a proxy keeps its own for many clients.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn open(gateway: &Gateway) -> Self {
        Self(BufReader::new(TcpStream::connect(&gateway.address).unwrap()))
    }

    /// The status of a GET.
    fn get(&mut self, path: &str, token: &str) -> u16 {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        let request = format!("{head}Authorization: Bearer {token}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut status, mut body_len, mut line) = (0, 0, String::new());
        while self.0.read_line(&mut line).unwrap() > 2 {
            let lower = line.to_ascii_lowercase();
            if status == 0 {
                status = line.split(' ').nth(1).unwrap().parse().unwrap();
            } else if let Some(value) = lower.strip_prefix("content-length:") {
                body_len = value.trim().parse().unwrap();
            }
            line.clear();
        }
        self.0.read_exact(&mut vec![0; body_len]).unwrap();
        status
    }
}

#[test]
fn a_kept_connection_is_as_good_as_the_credential_of_each_request() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=1000"]);
    let (admin, viewer) = (gateway.key("admin"), gateway.key("viewer"));
    let mut kept = Kept::open(&gateway);
    let path = "/v1/keys";
    for _ in 0..3 {
        assert_eq!([kept.get(path, &admin), kept.get(path, &admin)], [200, 200]);
        assert_eq!([kept.get(path, &viewer), kept.get(path, &viewer)], [403, 403]);
        assert_eq!(kept.get(path, &admin[..admin.len() - 1]), 401);
        assert_eq!(kept.get(&format!("{path}?tenant=other"), &admin), 404);
    }
    let promoted = json!({"role": "admin"}).to_string();
    let (status, told) =
        request(&gateway.address, "PATCH", "/v1/keys/viewer-key", &admin, &promoted);
    assert_eq!((status, kept.get(path, &viewer)), (200, 200), "{told}");
    assert_eq!(kept.get(path, &admin), 200);
    let (status, _) = request(&gateway.address, "DELETE", "/v1/keys/admin-key", &viewer, "");
    assert_eq!((status, kept.get(path, &admin)), (200, 401));
    assert_eq!(kept.get(path, &viewer), 200);
}

#[test]
fn who_may_not_read_a_group_or_scene_cannot_tell_whether_it_is_there() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    let (path, body) = ("/v1/groups/hall", json!({"devices": []}).to_string());
    let (status, made) = request(&gateway.address, "PUT", path, &admin, &body);
    assert_eq!(status, 200, "{made}");
    let blind = gateway.admin(&["key", "add", "blind", "--grant", "publish:a/#"]);
    let blind = blind["key"].as_str().unwrap();
    let told = |path: &str| -> (u16, Value) { request(&gateway.address, "GET", path, blind, "") };
    let (there, missing) = (told(path), told("/v1/groups/none"));
    assert_eq!((there.0, &there), (403, &missing));
    assert_eq!(told("/v1/scenes/none").0, 403);
}
