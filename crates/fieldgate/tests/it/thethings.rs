//! What clients of thethings.iO do over HTTP: things that are activated, write and read, and the stream
//! of what is written to them. The vectors are of `wire.md` 6.9.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Gateway, LIMIT, NodeScript, exchange, node_modules};

/// Sends a request with these header lines; status and JSON.
pub(crate) fn ask(
    gateway: &Gateway,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, Value) {
    let answer = exchange(&gateway.address, method, path, headers, body);
    let json = serde_json::from_str(&answer.body);
    (answer.status, json.unwrap_or_else(|_| panic!("{path}: {}", answer.body)))
}

pub(crate) fn get(gateway: &Gateway, path: &str) -> (u16, Value) {
    ask(gateway, "GET", path, "", "")
}

pub(crate) fn post(gateway: &Gateway, path: &str, body: &str) -> (u16, Value) {
    ask(gateway, "POST", path, "Content-Type: application/json\r\n", body)
}

/// Makes a device and gives it the token of a thing.
pub(crate) fn thing(gateway: &Gateway, id: &str) -> String {
    gateway.admin(&["device", "add", id, "--type", "thing"])["token"].as_str().unwrap().to_owned()
}

fn code(gateway: &Gateway, more: &[&str]) -> String {
    let made = gateway.admin(&[&["activation", "add"], more].concat());
    made["code"].as_str().unwrap().to_owned()
}

fn activate(gateway: &Gateway, code: &str) -> (u16, Value) {
    post(gateway, "/v2/things/", &json!({"activationCode": code, "productId": "x"}).to_string())
}

const WRITTEN: (u16, &str) = (201, r#"{"status":"created","message":"created"}"#);

/// Writes a body as it is; status and text.
fn write(gateway: &Gateway, token: &str, headers: &str, body: &str) -> (u16, String) {
    let answer = exchange(&gateway.address, "POST", &format!("/v2/things/{token}"), headers, body);
    (answer.status, answer.body)
}

#[test]
fn a_code_makes_one_thing_whose_values_everybody_reads() {
    let gateway = Gateway::start();
    let mut app = gateway.as_app(&gateway.key("operator"));
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "qos": 1}));
    app.next_of("subscribed");
    let code = code(&gateway, &["--kind", "sensor", "--group", "cellar"]);
    assert_eq!(gateway.admin(&["activation", "list"])["kind"], "sensor");
    let body = json!({"activationCode": code}).to_string();
    let answer = exchange(&gateway.address, "POST", "/v2/things", "", &body);
    assert_eq!(answer.status, 201);
    // Things cut 43 characters out of the text.
    let (_, behind) = answer.body.split_once(r#"thingToken":""#).unwrap();
    let token = behind.get(..43).unwrap();
    let made: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&made["status"], &made["thingToken"]), (&json!("created"), &json!(token)));
    let id = made["thingId"].as_str().unwrap();
    assert_eq!(gateway.admin(&["device", "show", id])["groups"], json!(["cellar"]));
    let (status, again) = activate(&gateway, &code);
    assert_eq!((status, &again["status"], &again["code"]), (401, &json!("error"), &json!(401)));

    let body = r#"{"values":[{"key":"fun","value":"5000"}]}"#;
    let (status, text) = write(&gateway, token, "", body);
    assert_eq!((status, text.as_str()), WRITTEN);
    let frame = app.next_of("mqtt");
    assert_eq!((&frame["payload"], &frame["from"]), (&json!({"fun": "5000"}), &json!(id)));
    let (status, read) = get(&gateway, &format!("/v2/things/{token}/resources/fun/"));
    assert_eq!((status, &read[0]["value"], read[0].get("key")), (200, &json!("5000"), None));
    let time = read[0]["datetime"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
    let all = get(&gateway, &format!("/v2/things/{token}/all_resources")).1;
    assert_eq!((&all[0]["key"], &all[0]["value"]), (&json!("fun"), &json!("5000")));
    let names = get(&gateway, &format!("/v2/things/{token}/resources")).1;
    assert_eq!(names, json!([{"name": "fun"}]));
}

#[test]
fn what_is_not_there_is_told_in_the_words_of_its_clients() {
    let gateway = Gateway::start();
    let token = thing(&gateway, "a");
    let answer = exchange(&gateway.address, "GET", "/v2/", "", "");
    let expected = r#"{"status":"error","code":401,"message":"Invalid session token"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (401, expected));
    let wrong = "x".repeat(43);
    for (method, path, body, status) in [
        ("GET", format!("/v2/things/{token}/resources/none"), "", 404),
        ("GET", format!("/v2/things/{wrong}/resources/none"), "", 401),
        ("GET", format!("/v2/things/{token}/resources/a?limit=101"), "", 400),
        ("GET", format!("/v2/things/{token}/resources/a?startDate=now"), "", 400),
        ("GET", format!("/v2/things/{token}?keepAlive=5"), "", 400),
        ("GET", format!("/v2/things/{wrong}"), "", 401),
        ("POST", format!("/v2/things/{wrong}"), r#"{"values":[{"key":"a","value":1}]}"#, 401),
        ("POST", format!("/v2/things/{token}"), "{", 400),
        ("POST", format!("/v2/things/{token}"), r#"{"values":[]}"#, 400),
        ("POST", format!("/v2/things/{token}"), r#"{"values":[{"key":"a"}]}"#, 400),
        ("PUT", format!("/v2/things/{token}/resources/other"), "{}", 404),
        ("DELETE", format!("/v2/things/{token}"), "", 400),
        ("GET", "/v2/nothing".to_owned(), "", 404),
        ("GET", "/v2/me/things".to_owned(), "", 401),
        ("GET", format!("/v2/utils/date?thingToken={wrong}"), "", 401),
        ("GET", format!("/v2/utils/date?thingToken={token}&format=moon"), "", 400),
    ] {
        let (told, answer) = ask(&gateway, method, &path, "", body);
        assert_eq!((told, &answer["status"]), (status, &json!("error")), "{method} {path}");
        assert_eq!((&answer["code"], answer.as_object().unwrap().len()), (&json!(status), 3));
    }
    // A device's own token opens nothing here, and a thing's nothing there.
    let own = gateway.device("b");
    assert_eq!(get(&gateway, &format!("/v2/things/{own}/resources")).0, 401);
    assert_eq!(gateway.get("/v1/devices", Some(&token)).0, 401);
}

#[test]
fn every_form_of_a_body_and_of_a_time_is_taken() {
    let gateway = Gateway::start();
    let token = thing(&gateway, "a");
    let is_written = |headers: &str, body: &str| {
        let (status, text) = write(&gateway, &token, headers, body);
        assert_eq!((status, text.as_str()), WRITTEN, "{body}");
    };
    let form = "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n";
    is_written(form, "values%5B0%5D%5Bkey%5D=LED&values%5B0%5D%5Bvalue%5D=ON");
    is_written(form, r#"{"values":[{"key":"json","value":true}]}"#);
    is_written(
        "",
        r#"{"values":[{"key":"p","value":1,"geo":{"lat":41.4121132,"long":2.2199454}}]}"#,
    );
    let value = |value, time: &str| json!({"key": "t", "value": value, "datetime": time});
    let batch = json!({"values": [
        value(24, "20150520140000"), value(22, "20150520T120000"),
        value(25, "2015-05-20T15:00:00.000Z"), value(23, "20150520130000"),
    ]});
    is_written("", &batch.to_string());
    // Old things end their header lines with LF alone.
    let body = r#"{"values":[{"key":"lf","value":[1,{"a":null}]}]}"#;
    let mut old = TcpStream::connect(&gateway.address).unwrap();
    old.set_read_timeout(Some(LIMIT)).unwrap();
    write!(
        old,
        "POST /v2/things/{token} HTTP/1.1\nHost: localhost\nContent-Type: application/json\n\
         Connection: close\nContent-Length: {}\n\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 201") && text.ends_with(WRITTEN.1), "{text}");

    let read = |query: &str| get(&gateway, &format!("/v2/things/{token}/resources/{query}")).1;
    assert_eq!(read("LED")[0]["value"], "ON");
    assert_eq!(read("json")[0]["value"], true);
    assert_eq!(read("lf")[0]["value"], json!([1, {"a": null}]));
    assert_eq!(read("geo")[0]["value"], json!({"lat": 41.4121132, "long": 2.2199454}));
    let values = |query: &str| {
        let read = read(query);
        let values = read.as_array().unwrap().iter().map(|item| item["value"].clone());
        values.collect::<Vec<_>>()
    };
    assert_eq!(values("t"), [25], "one unless more are wanted");
    assert_eq!(values("t?limit=100"), [25, 24, 23, 22]);
    assert_eq!(values("t?limit=2"), [25, 24]);
    assert_eq!(values("t?limit=10&startDate=20150520123000&endDate=20150520T140000"), [24, 23]);
    assert_eq!(read("t")[0]["datetime"], "2015-05-20T15:00:00.000Z");
    assert_eq!(
        ask(
            &gateway,
            "PUT",
            &format!("/v2/things/{token}/resources/description"),
            "",
            r#"{"a":1}"#
        ),
        (200, json!({"status": "success", "message": "updated"}))
    );
    assert_eq!(read("description")[0]["value"], json!({"a": 1}));
}

#[test]
fn what_a_device_says_elsewhere_is_read_here_under_either_name() {
    let gateway = Gateway::start();
    let own = gateway.device("s");
    let made = gateway.admin(&["device", "credential", "add", "s", "--type", "thing"]);
    let token = made["token"].as_str().unwrap();
    let mut device = gateway.as_device("s", &own);
    for (msgid, temp) in [("1", 21.3), ("2", 21.4)] {
        device.send(&json!({"type": "status", "msgid": msgid, "timestamp": 1_520_416_221_000_u64,
            "data": {"temp": temp}}));
        device.next_of("ack");
    }
    let read = |key: &str| get(&gateway, &format!("/v2/things/{token}/resources/{key}")).1;
    let expected = json!([{"value": 21.4, "datetime": "2018-03-07T09:50:21.000Z"}]);
    assert_eq!(read("temp"), expected);
    assert_eq!(read("temperature"), expected);
    assert_eq!(read("temperature?limit=5").as_array().unwrap().len(), 2);
    let date = get(&gateway, &format!("/v2/utils/date?thingToken={token}&format=unix_timestamp")).1;
    assert!(date[0]["value"].as_u64().unwrap() > 1_700_000_000, "{date}");
    let date = get(&gateway, &format!("/v2/utils/date?thingToken={token}")).1;
    assert!(date[0]["value"].as_str().unwrap().ends_with('Z'), "{date}");
}

/// A stream of documents, chunk by chunk.
struct Chunks {
    stream: TcpStream,
    head: String,
}

impl Chunks {
    fn open(gateway: &Gateway, path: &str) -> Self {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut chunks = Self { stream, head: String::new() };
        while !chunks.head.ends_with("\r\n\r\n") {
            let line = chunks.line();
            chunks.head.push_str(&line);
        }
        chunks
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// The next chunk; nothing at the end.
    fn next(&mut self) -> Option<String> {
        let line = self.line();
        let len = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; len + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        chunk.truncate(len);
        (len > 0).then(|| String::from_utf8(chunk).unwrap())
    }

    /// The next chunk that says something.
    fn told(&mut self) -> Value {
        loop {
            let chunk = self.next().expect("the stream ended");
            if chunk != "{}" {
                return serde_json::from_str(&chunk).unwrap();
            }
        }
    }
}

#[test]
fn a_stream_is_one_document_a_chunk_and_is_never_silent_for_long() {
    let mut gateway = Gateway::start();
    let token = thing(&gateway, "a");
    let body = r#"{"values":[{"key":"before","value":0}]}"#;
    write(&gateway, &token, "", body);
    let mut stream = Chunks::open(&gateway, &format!("/v2/things/{token}?keepAlive=1000"));
    assert!(stream.head.starts_with("HTTP/1.1 200"), "{}", stream.head);
    let first = stream.next().unwrap();
    assert_eq!(first, r#"{"status":"success","message":"subscribed"}"#);
    let values =
        r#"{"values":[{"key":"a","value":"1"},{"key":"b","value":2,"datetime":"20150520120000"}]}"#;
    write(&gateway, &token, "", values);
    let told = stream.told();
    assert_eq!((&told[0]["key"], &told[0]["value"]), (&json!("a"), &json!("1")));
    assert_eq!(
        stream.told(),
        json!([{"key": "b", "value": 2, "datetime": "2015-05-20T12:00:00.000Z"}])
    );
    let waited = Instant::now();
    for _ in 0..2 {
        assert_eq!(stream.next().unwrap(), "{}");
    }
    let waited = waited.elapsed();
    assert!(waited < Duration::from_millis(2_000), "{waited:?}");
    // What is larger than the pipe holds is one chunk, too.
    let long = "x".repeat(150_000);
    let body = json!({"values": [{"key": "long", "value": long}]}).to_string();
    assert_eq!(write(&gateway, &token, "", &body).0, 201);
    assert_eq!(stream.told()[0]["value"], long);
    gateway.signal("TERM");
    while stream.next().is_some() {}
    assert_eq!(gateway.ended(), Some(0));
}

#[test]
fn a_stream_ends_with_the_token_that_opened_it() {
    let gateway = Gateway::start();
    let token = thing(&gateway, "a");
    let mut stream = Chunks::open(&gateway, &format!("/v2/things/{token}/?keepAlive=60000"));
    stream.next().unwrap();
    gateway.admin(&["device", "remove", "a", "--yes"]);
    let ended = Instant::now();
    while stream.next().is_some() {}
    assert!(ended.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_guess_at_a_token_or_a_code_counts_against_its_address() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=3"]);
    let token = thing(&gateway, "a");
    assert_eq!(get(&gateway, &format!("/v2/things/{}/resources", "x".repeat(43))).0, 401);
    assert_eq!(activate(&gateway, "fg_c_guess").0, 401);
    assert_eq!(get(&gateway, &format!("/v2/things/{}/resources", "y".repeat(43))).0, 401);
    let (status, refused) = get(&gateway, &format!("/v2/things/{token}/resources"));
    assert_eq!((status, &refused["code"]), (429, &json!(429)));
}

#[test]
fn what_costs_too_much_is_refused_before_it_does() {
    let gateway = Gateway::with(&[
        "limits.frame_bytes_max=20000",
        "limits.batch_len_max=10",
        "limits.messages_per_second=1",
        "limits.message_burst=5",
    ]);
    let token = thing(&gateway, "a");
    let path = format!("/v2/things/{token}");
    let values = |count: usize| json!({"values": vec![json!({"key": "a", "value": 1}); count]});
    assert_eq!(post(&gateway, &path, &"x".repeat(30_000)).0, 400, "too long");
    let deep = format!("{{\"values\":[{{\"key\":\"a\",\"value\":{}1}}]}}", "[".repeat(5_000));
    assert_eq!(post(&gateway, &path, &deep).0, 400, "too deep");
    assert_eq!(post(&gateway, &path, &values(11).to_string()).0, 400, "too many");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let fields = "values[][key]=a&".repeat(1_000);
    assert_eq!(ask(&gateway, "POST", &path, form, &fields).0, 400, "too many fields");
    let nested = format!("a{}=1", "[b]".repeat(1_000));
    assert_eq!(ask(&gateway, "POST", &path, form, &nested).0, 400, "nested too deep");
    // The same key again and again is a message each: a full bucket gives them, and is in debt.
    assert_eq!(post(&gateway, &path, &values(10).to_string()).0, 201);
    let (status, refused) = post(&gateway, &path, &values(1).to_string());
    assert_eq!((status, &refused["code"]), (429, &json!(429)));
}

#[test]
fn codes_and_things_are_there_after_a_kill() {
    let mut gateway = Gateway::start();
    let kept = code(&gateway, &["--device", "kept"]);
    let gone = code(&gateway, &[]);
    let (_, made) = activate(&gateway, &gone);
    let token = made["thingToken"].as_str().unwrap().to_owned();
    write(&gateway, &token, "", r#"{"values":[{"key":"a","value":1}]}"#);
    gateway.kill();
    gateway.up();
    assert_eq!(get(&gateway, &format!("/v2/things/{token}/resources/a")).1[0]["value"], 1);
    assert_eq!(activate(&gateway, &gone).0, 401);
    let (status, made) = activate(&gateway, &kept);
    assert_eq!((status, &made["thingId"]), (201, &json!("kept")));
}

/// What a program of Node does with axios, and with the stream as the SDK reads it.
const SCRIPT: &str = r#"
const axios = require('axios');
const http = require('http');
const [base, code] = require('fs').readFileSync('asked', 'utf8').split('\n');
const api = axios.create({ baseURL: base + '/v2', timeout: 10000 });
(async () => {
  const made = (await api.post('/things', { activationCode: code })).data;
  http.get(`${base}/v2/things/${made.thingToken}?keepAlive=60000`, (stream) => {
    stream.on('data', async (chunk) => {
      const document = JSON.parse(chunk);
      if (document.status === 'success') {
        const written = await api.post(`/things/${made.thingToken}`,
          { values: [{ key: 'green', value: '0' }] });
        console.log('written ' + written.status);
      } else if (document.length) {
        const read = await api.get(`/things/${made.thingToken}/resources/green`, { params: { limit: 2 } });
        console.log('read ' + JSON.stringify([document[0].key, document[0].value, read.data[0].value]));
        process.exit(0);
      }
    });
  });
})().catch((error) => console.log('failed ' + error));
"#;

#[test]
fn a_program_of_node_is_served_unchanged() {
    let Some(modules) = node_modules() else { return };
    let gateway = Gateway::start();
    let asked = format!("http://{}\n{}", gateway.address, code(&gateway, &[]));
    let script = NodeScript::new(&modules, SCRIPT, &[("asked", &asked)]);
    let running = script.start();
    assert_eq!(running.line(), "written 201");
    assert_eq!(running.line(), r#"read ["green","0","0"]"#);
}

#[test]
fn values_have_canonical_names_where_the_configuration_says_so() {
    let gateway = Gateway::with(&["thethings.names=canonical"]);
    let token = thing(&gateway, "lamp");
    let body = json!({"values": [{"key": "temp", "value": 20.5}, {"key": "rest", "value": "x"}]});
    assert_eq!(post(&gateway, &format!("/v2/things/{token}"), &body.to_string()).0, 201);
    let read = |path: &str| get(&gateway, &format!("/v2/things/{token}/{path}")).1;
    assert_eq!(read("resources"), json!([{"name": "rest"}, {"name": "temperature"}]));
    let all = read("all_resources");
    assert_eq!((&all[1]["key"], &all[1]["value"]), (&json!("temperature"), &json!(20.5)));
    assert_eq!(read("resources/temperature")[0]["value"], 20.5);
    assert_eq!(read("resources/temp?limit=5")[0]["value"], 20.5, "by its own name as well");
}
