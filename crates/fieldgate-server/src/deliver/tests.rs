//! Deliveries to targets that say exactly what each test wants, over real sockets.

mod of_registry;

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::AtomicUsize},
};

use fieldgate_core::{
    delivery::{Habits, Outcome},
    id::{Seq, TenantId},
    message::Qos,
};
use fieldgate_store::{
    Log as _, Record,
    registry::{self, Format, Report},
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_websockets::{CloseCode, Message, ServerBuilder, WebSocketStream};

use super::{
    address::{Found, Guarded, Names, SystemNames},
    read::Wanted,
    rest::{RestTarget, signature},
    run::run,
    target::{Aim, Place},
    websocket::{Patience, WebSocketTarget},
    *,
};
use crate::testing::{Gateway, LIMIT};

/// One request as a target saw it.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Asked {
    /// The messages' payloads.
    fn payloads(&self) -> Vec<String> {
        payloads(&self.body)
    }
}

fn payloads(body: &str) -> Vec<String> {
    let items: Vec<Value> = serde_json::from_str(body).unwrap();
    items.iter().map(|item| item["payload"].as_str().unwrap().to_owned()).collect()
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let (mut line, mut headers) = (String::new(), BTreeMap::new());
    stream.read_line(&mut line).await.ok().filter(|len| *len > 0)?;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok().filter(|len| *len > 0)?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let len = headers.get("content-length").map_or(Ok(0), |len| len.parse());
    let mut body = vec![0; len.ok()?];
    stream.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Asked { line: line.trim().to_owned(), headers, body })
}

/// A REST target that answers what it is told to; returns its address and what it is asked.
async fn rest_target(
    mut answer: impl FnMut(usize, &Asked) -> String + Send + 'static,
) -> (String, mpsc::Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, asked) = mpsc::channel(1_000);
    tokio::spawn(async move {
        let mut count = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            while let Some(request) = read_request(&mut stream).await {
                let answer = answer(count, &request);
                count += 1;
                tell.send(request).await.unwrap();
                if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    (address, asked)
}

fn status(line: &str, body: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn guarded() -> Guarded {
    Guarded { names: Arc::new(SystemNames), allow_private: true }
}

/// A delivery at work, and what it writes down.
struct Work {
    stop: CancellationToken,
    task: JoinHandle<()>,
    shown: Arc<Shown>,
    written: Arc<Mutex<Vec<Report>>>,
}

impl Work {
    fn begin(gateway: &Gateway, target: Target) -> Self {
        let wanted = Wanted {
            tenant: TenantId::default_tenant(),
            filter: "a/#".parse().unwrap(),
            format: Format::Native,
            bytes_max: 64 << 10,
        };
        let backoff = fieldgate_core::backoff::Backoff {
            first: Duration::from_millis(2),
            max: Duration::from_millis(10),
        };
        let habits = Habits { backoff, open_ms: 20, batch_age_ms: 1, ..Habits::default() };
        let whose = Whose { tenant: TenantId::default_tenant(), name: "out".to_owned() };
        let plan =
            Plan { whose, wanted, target, habits, run: 7, cursor: Seq(0), retries: [].into() };
        let (shown, stop) = (Arc::new(Shown::default()), CancellationToken::new());
        let written = Arc::new(Mutex::new(Vec::new()));
        let write: Write = Box::new({
            let written = Arc::clone(&written);
            move |report: &Report| {
                written.lock().unwrap().push(report.clone());
                true
            }
        });
        let shared = Arc::clone(gateway.shared());
        let task = tokio::spawn(run(shared, plan, Arc::clone(&shown), write, stop.clone()));
        Self { stop, task, shown, written }
    }

    async fn end(self) -> Vec<Report> {
        self.stop.cancel();
        timeout(LIMIT, self.task).await.unwrap().unwrap();
        self.written.lock().unwrap().clone()
    }

    /// Waits until something is known.
    async fn known(&self, is_so: impl Fn(&Known) -> bool) -> Known {
        let known = async {
            loop {
                let known = self.shown.known();
                if is_so(&known) {
                    return known;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIMIT, known).await.unwrap()
    }
}

fn rest(address: &str, signing: Option<&[u8]>) -> Target {
    let place = Place::Header("Authorization".to_owned());
    let credential = Some((&place, "hunter2-hunter2"));
    let url = format!("http://{address}/in?b=1#fragment");
    let aim = Aim::new(&url, ["http", "https"], credential, guarded()).unwrap();
    Target::Rest(RestTarget::new(aim, signing, LIMIT).unwrap())
}

/// Puts so many messages into the log; returns the numbers that they were given.
fn fill(gateway: &Gateway, from: usize, count: usize) {
    let records = (from..from + count).map(|number| {
        let message = fieldgate_core::testing::message("a/b", Qos::AtLeastOnce, number.to_string());
        Record::Message(message)
    });
    for record in records {
        gateway.shared().log.append(vec![record], now()).unwrap();
    }
}

async fn next<T>(asked: &mut mpsc::Receiver<T>) -> T {
    timeout(LIMIT, asked.recv()).await.unwrap().unwrap()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_which_batch_it_is_who_sends_it_and_that_it_is_ours() {
    let gateway = Gateway::start(&[], 1).await;
    let (address, mut asked) = rest_target(|_, _| status("204 No Content", "")).await;
    fill(&gateway, 0, 3);
    let work = Work::begin(&gateway, rest(&address, Some(b"signing secret")));
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let request = next(&mut asked).await;
        assert_eq!(request.line, "POST /in?b=1 HTTP/1.1", "a fragment stays here");
        assert_eq!(request.headers["authorization"], "Bearer hunter2-hunter2");
        assert_eq!(request.headers["content-type"], "application/json");
        let items: Vec<Value> = serde_json::from_str(&request.body).unwrap();
        let position = |item: &Value| item["msgid"].as_str().unwrap().to_owned();
        let (first, last) = (position(&items[0]), position(items.last().unwrap()));
        let last = last.rsplit_once(':').unwrap().1;
        assert_eq!(request.headers["fieldgate-batch"], format!("{first}-{last}"));
        let signed = &request.headers["fieldgate-signature"];
        let time = signed.strip_prefix("t=").unwrap().split(',').next().unwrap();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"signing secret");
        let time = fieldgate_core::id::UnixMs(time.parse().unwrap());
        assert_eq!(*signed, signature(&key, time, request.body.as_bytes()));
        seen.extend(request.payloads());
    }
    assert_eq!(seen, numbers(0..3));
    let written = work.end().await;
    assert_eq!(written.iter().map(|report| report.delivered).sum::<u64>(), 3);
    assert!(written.is_sorted_by_key(|report| report.cursor), "{written:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_alone_is_set_aside_and_all_else_comes_in_order() {
    let gateway = Gateway::start(&[], 1).await;
    let answer = |_: usize, request: &Asked| {
        let is_bad = request.payloads().iter().any(|payload| payload == "41");
        if is_bad { status("422 No", "41 is no number") } else { status("200 OK", "[]") }
    };
    fill(&gateway, 0, 100);
    let (address, mut asked) = rest_target(answer).await;
    let work = Work::begin(&gateway, rest(&address, None));
    let mut taken = Vec::new();
    while taken.len() < 99 {
        let payloads = next(&mut asked).await.payloads();
        if !payloads.iter().any(|payload| payload == "41") {
            taken.extend(payloads);
        }
    }
    let mut expected = numbers(0..100);
    expected.remove(41);
    assert_eq!(taken, expected);
    let written = work.end().await;
    let aside: Vec<_> = written.iter().flat_map(|report| &report.aside).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(aside[0].1, "it answered with status 422: 41 is no number");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_does_not_come_is_repeated_under_its_name() {
    let gateway = Gateway::start(&[], 1).await;
    let answers = ["", "HTTP/1.1 503 No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"];
    let answer = move |count: usize, _: &Asked| {
        answers.get(count).map_or_else(|| status("200 OK", ""), |answer| (*answer).to_owned())
    };
    fill(&gateway, 0, 10);
    let (address, mut asked) = rest_target(answer).await;
    let work = Work::begin(&gateway, rest(&address, None));
    let (one, two) = (next(&mut asked).await, next(&mut asked).await);
    let three = next(&mut asked).await;
    assert_eq!(one.headers["fieldgate-batch"], two.headers["fieldgate-batch"]);
    assert_eq!((&one.body, &two.body), (&two.body, &three.body));
    work.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_comes_too_late_is_repeated_under_its_name() {
    let gateway = Gateway::start(&[], 1).await;
    fill(&gateway, 0, 3);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let aim = Aim::new(&url, ["http", "https"], None, guarded()).unwrap();
    let target = Target::Rest(RestTarget::new(aim, None, Duration::from_millis(100)).unwrap());
    let work = Work::begin(&gateway, target);
    let (tell, mut names) = mpsc::channel(10);
    tokio::spawn(async move {
        let mut first = None;
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let Some(request) = read_request(&mut stream).await else { continue };
            tell.send((request.headers["fieldgate-batch"].clone(), request.payloads()))
                .await
                .unwrap();
            if first.is_none() {
                first = Some(stream);
                continue;
            }
            // The answer to the first one goes to nobody.
            for mut stream in first.take().into_iter().chain([stream]) {
                let _late = stream.write_all(status("200 OK", "").as_bytes()).await;
            }
        }
    });
    let (one, two) = (next(&mut names).await, next(&mut names).await);
    assert_eq!(one, two);
    assert_eq!(one.1, numbers(0..3));
    let late = work.known(|known| known.last_error.is_some()).await;
    assert_eq!(late.last_error.unwrap().1, "it did not answer in time");
    work.known(|known| known.behind_len == 0).await;
    let delivered: u64 = work.end().await.iter().map(|report| report.delivered).sum();
    assert_eq!(delivered, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_no_secret_is_told_on() {
    let gateway = Gateway::start(&[], 1).await;
    let (elsewhere, mut never) = rest_target(|_, _| status("200 OK", "")).await;
    let answer = move |_: usize, request: &Asked| {
        let said = format!("you are {}\r\n", request.headers["authorization"]);
        let len = said.len();
        format!(
            "HTTP/1.1 307 There\r\nLocation: http://{elsewhere}/\r\nContent-Length: {len}\r\n\r\n{said}"
        )
    };
    fill(&gateway, 0, 1);
    let (address, mut asked) = rest_target(answer).await;
    let work = Work::begin(&gateway, rest(&address, None));
    next(&mut asked).await;
    next(&mut asked).await;
    let known = work.known(|known| known.last_error.is_some()).await;
    assert_eq!(
        known.last_error.unwrap().1,
        "it answered with status 307, and redirects are not followed: you are Bearer ***"
    );
    let written = work.end().await;
    assert!(written.iter().all(|report| report.failed > 0 && report.cursor == 0), "{written:?}");
    assert!(never.try_recv().is_err());
}

/// A name whose address is another after the first time.
struct Rebound(AtomicUsize);

impl Names for Rebound {
    fn look_up(&self, _: &str) -> Found {
        let is_first = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        let address = if is_first { "127.0.0.1:0" } else { "169.254.169.254:0" };
        Box::pin(async move { Ok(vec![address.parse().unwrap()]) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_asked_for_at_each_connection_and_one_that_turned_bad_is_not_connected_to() {
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let answer = move |_: usize, _: &Asked| close.to_owned();
    let (address, _asked) = rest_target(answer).await;
    let port = address.rsplit_once(':').unwrap().1;
    let guarded = || {
        let names = Arc::new(Rebound(AtomicUsize::new(0)));
        Guarded { names, allow_private: true }
    };
    let parcel =
        || Parcel { name: "e:1-1".to_owned(), body: "[]".into(), content_type: "application/json" };
    let url = format!("http://target.example:{port}/");
    let aim = Aim::new(&url, ["http", "https"], None, guarded()).unwrap();
    let target = RestTarget::new(aim, None, LIMIT).unwrap();
    assert_eq!(target.post(parcel()).await, Ok(()));
    let failure = target.post(parcel()).await.unwrap_err();
    assert!(failure.text.contains("169.254.169.254 is never connected to"), "{failure:?}");
    assert_eq!(failure.outcome, Outcome::Barred, "{failure:?}");

    let url = format!("ws://target.example:{port}/");
    let aim = Aim::new(&url, ["ws", "wss"], None, guarded()).unwrap();
    let target = WebSocketTarget::new(aim, patience(LIMIT)).unwrap();
    assert!(target.connect().await.unwrap_err().text.contains("status 200"));
    let failure = target.connect().await.unwrap_err();
    assert!(failure.text.contains("169.254.169.254 is never connected to"), "{failure:?}");
    assert_eq!(failure.outcome, Outcome::Barred);
}

fn patience(silence: Duration) -> Patience {
    Patience { ping: Duration::from_millis(20), silence }
}

async fn socket_target() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/in", listener.local_addr().unwrap());
    let place = Place::Query("token".to_owned());
    let aim = Aim::new(&url, ["ws", "wss"], Some((&place, "a secret")), guarded()).unwrap();
    let target = WebSocketTarget::new(aim, patience(Duration::from_millis(300))).unwrap();
    (listener, Target::WebSocket(target))
}

async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let (request, socket) = ServerBuilder::new().accept(stream).await.unwrap();
    assert_eq!(request.uri(), "/in?token=a+secret");
    socket
}

async fn next_text(socket: &mut WebSocketStream<TcpStream>) -> Option<Vec<String>> {
    loop {
        let message = timeout(LIMIT, socket.next()).await.unwrap()?.ok()?;
        if let Some(text) = message.as_text() {
            return Some(payloads(text));
        }
    }
}

/// Reads on, so that pings are answered, until something is known.
async fn reading<T>(socket: &mut WebSocketStream<TcpStream>, known: impl Future<Output = T>) -> T {
    tokio::select! {
        known = known => known,
        () = async { while socket.next().await.is_some() {} } => panic!("it was closed"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_pong_came_behind_is_repeated_after_a_break_and_nothing_else() {
    let gateway = Gateway::start(&[], 1).await;
    let (listener, target) = socket_target().await;
    let work = Work::begin(&gateway, target);
    let mut socket = accept(&listener).await;
    fill(&gateway, 0, 10);
    let mut seen = Vec::new();
    while seen.len() < 10 {
        seen.extend(next_text(&mut socket).await.unwrap());
    }
    reading(&mut socket, work.known(|known| known.behind_len == 0)).await;
    fill(&gateway, 10, 1);
    // It reads this one, and closes before it says so.
    let stream = socket.get_mut();
    let mut bytes = [0; 1];
    while !matches!(stream.peek(&mut bytes).await, Ok(1)) {}
    socket.send(Message::close(Some(CloseCode::INTERNAL_SERVER_ERROR), "oh")).await.unwrap();
    drop(socket);
    let mut socket = accept(&listener).await;
    let again = next_text(&mut socket).await.unwrap();
    assert_eq!(again, ["10"]);
    reading(&mut socket, work.known(|known| known.behind_len == 0)).await;
    let written = work.end().await;
    assert_eq!(written.iter().map(|report| report.delivered).sum::<u64>(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_is_left_at_rest_and_behind_a_batch() {
    let gateway = Gateway::start(&[], 1).await;
    let (listener, target) = socket_target().await;
    let work = Work::begin(&gateway, target);
    let silent = accept(&listener).await;
    let known = work.known(|known| known.last_error.is_some()).await;
    assert_eq!(known.last_error.unwrap().1, "it was silent for too long");
    let also_silent = accept(&listener).await;
    fill(&gateway, 0, 1);
    let is_late = |known: &Known| {
        known.last_error.as_ref().is_some_and(|(_, text)| text == "no pong came in time")
    };
    work.known(is_late).await;
    let mut socket = accept(&listener).await;
    assert_eq!(next_text(&mut socket).await.unwrap(), ["0"]);
    reading(&mut socket, work.known(|known| known.behind_len == 0)).await;
    work.end().await;
    drop((silent, also_silent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_says_why_and_a_message_that_is_too_big_is_found_and_set_aside() {
    let gateway = Gateway::start(&[], 1).await;
    fill(&gateway, 0, 20);
    let (listener, target) = socket_target().await;
    let work = Work::begin(&gateway, target);
    let mut taken = Vec::new();
    while taken.len() < 19 {
        let mut socket = accept(&listener).await;
        while let Some(payloads) = next_text(&mut socket).await {
            if payloads.iter().any(|payload| payload == "7") {
                let reason = "more than I eat, a secret";
                let close = Message::close(Some(CloseCode::MESSAGE_TOO_BIG), reason);
                socket.send(close).await.unwrap();
                break;
            }
            taken.extend(payloads);
            if taken.len() == 19 {
                reading(&mut socket, work.known(|known| known.behind_len == 0)).await;
                break;
            }
        }
    }
    let mut expected = numbers(0..20);
    expected.remove(7);
    assert_eq!(taken, expected);
    let written = work.end().await;
    let aside: Vec<_> = written.iter().flat_map(|report| &report.aside).collect();
    let told = "it closed the connection with 1009: more than I eat, ***";
    assert_eq!((aside.len(), aside[0].1.as_str()), (1, told));
}

#[test]
fn what_a_target_says_is_cut_and_on_one_line() {
    let place = Place::Query("t".to_owned());
    let aim = Aim::new("http://a.example/", ["http", "https"], Some((&place, "a/b c")), guarded());
    let told = aim.unwrap().told(b"one\r\ntwo\x07 a/b c a%2Fb+c \xff");
    assert_eq!(told, "one  two  *** *** \u{fffd}");
    let aim = Aim::new("http://a.example/", ["http", "https"], None, guarded()).unwrap();
    assert_eq!(aim.told("ä".repeat(400).as_bytes()).len(), 300);
}
