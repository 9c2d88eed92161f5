//! How an issuer is asked for its keys: at the start, when one is not known, not too often, in bounds.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::config::Issuer;

/// What the stand-in answers.
#[derive(Debug, Clone)]
enum Says {
    Keys(Vec<&'static str>),
    Raw(String),
    Nothing,
}

/// An issuer on a port of its own.
struct StandIn {
    address: String,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
}

fn set_of(ids: &[&str]) -> String {
    let key = |id: &&str| json!({"kty": "RSA", "kid": id, "n": "AQAB", "e": "AQAB"});
    json!({"keys": ids.iter().map(key).collect::<Vec<_>>()}).to_string()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

impl StandIn {
    async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stand_in = Self { address, says: Arc::new(Mutex::new(says)), asked: Arc::default() };
        let (address, says) = (stand_in.address.clone(), Arc::clone(&stand_in.says));
        let asked = Arc::clone(&stand_in.asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4_096];
                let len = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..len]).into_owned();
                let answer = if head.starts_with("GET /.well-known/openid-configuration ") {
                    let keys = format!("{address}/keys");
                    ok(&json!({"issuer": address, "jwks_uri": keys}).to_string())
                } else {
                    asked.fetch_add(1, Ordering::SeqCst);
                    match says.lock().unwrap().clone() {
                        Says::Keys(ids) => ok(&set_of(&ids)),
                        Says::Raw(text) => text,
                        Says::Nothing => {
                            // Held open: its end would be an answer.
                            tokio::spawn(async move {
                                let _end = stream.read(&mut [0]).await;
                            });
                            continue;
                        }
                    }
                };
                let _gone = stream.write_all(answer.as_bytes()).await;
            }
        });
        stand_in
    }

    fn now_says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn provider(&self, discovered: bool, tempo: Tempo) -> (Provider, DropGuard) {
        let address = &self.address;
        let keys =
            if discovered { String::new() } else { format!("jwks_url = \"{address}/keys\"") };
        let text = format!(
            "name = \"corp\"\nissuer = \"{address}\"\nalgorithm = \"RS256\"\naudience = \"f\"\n\
             role_claim = \"r\"\nrights = {{}}\n{keys}\n"
        );
        let issuer: Issuer = toml::from_str(&text).unwrap();
        let stop = CancellationToken::new();
        (Provider::open(&issuer, tempo, &stop).unwrap(), stop.drop_guard())
    }
}

/// So that only the reason under test makes it ask.
const SELDOM: Tempo = Tempo {
    pause: Duration::from_secs(600),
    period: Duration::from_secs(600),
    patience: Duration::from_secs(10),
};

#[tokio::test]
async fn keys_are_asked_for_at_the_start_and_when_one_is_not_known() {
    for discovered in [false, true] {
        let stand_in = StandIn::start(Says::Keys(vec!["a"])).await;
        let (provider, _stop) = stand_in.provider(discovered, SELDOM);
        assert!(provider.key(Some("a")).await.is_ok(), "the first token waits for the keys");
        assert!(provider.key(None).await.is_ok(), "the only key");
        stand_in.now_says(Says::Keys(vec!["a", "b"]));
        assert!(provider.key(Some("b")).await.is_ok(), "the new key is asked for");
        assert_eq!(stand_in.asked(), 2);
        // From here on it rests: whoever makes up keys costs nobody a question.
        let began = Instant::now();
        for made_up in 0..100 {
            assert!(provider.key(Some(&made_up.to_string())).await.is_err());
        }
        assert!(began.elapsed() < SELDOM.patience, "nobody waits for a question that is not asked");
        assert!(provider.key(Some("a")).await.is_ok());
        assert_eq!(stand_in.asked(), 2);
    }
}

#[tokio::test]
async fn many_who_miss_the_same_key_wait_for_one_question() {
    let stand_in = StandIn::start(Says::Keys(vec!["a"])).await;
    let (provider, _stop) = stand_in.provider(false, SELDOM);
    assert!(provider.key(Some("a")).await.is_ok());
    stand_in.now_says(Says::Keys(vec!["b"]));
    let provider = Arc::new(provider);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let provider = Arc::clone(&provider);
        waiting.spawn(async move { provider.key(Some("b")).await.is_ok() });
    }
    assert!(waiting.join_all().await.into_iter().all(|found| found));
    assert_eq!(stand_in.asked(), 2);
    assert!(provider.key(Some("a")).await.is_err(), "a key that was taken back is gone");
}

#[tokio::test]
async fn the_known_keys_stay_while_the_issuer_is_down_and_come_when_it_is_back() {
    let stand_in = StandIn::start(Says::Nothing).await;
    let quick =
        Tempo { pause: Duration::from_millis(10), patience: Duration::from_millis(50), ..SELDOM };
    let (provider, _stop) = stand_in.provider(false, quick);
    assert_eq!(provider.key(Some("a")).await.unwrap_err(), NotTaken::NoKeys);
    stand_in.now_says(Says::Keys(vec!["a"]));
    while provider.key(Some("a")).await.is_err() {}
    for bad in [
        Says::Nothing,
        Says::Raw("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned()),
        Says::Raw("HTTP/1.1 302 Go\r\nLocation: /keys\r\nContent-Length: 0\r\n\r\n".to_owned()),
        Says::Raw(ok("{\"keys\": []}")),
        Says::Raw(ok(&set_of(&["b"]).replace("]}", &format!("]{}}}", " ".repeat(300_000))))),
    ] {
        stand_in.now_says(bad.clone());
        let before = stand_in.asked();
        while stand_in.asked() < before + 2 {
            let found = provider.key(Some("b")).await.unwrap_err();
            assert!(matches!(found, NotTaken::Wrong(_)), "{bad:?}");
        }
        assert!(provider.key(Some("a")).await.is_ok(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_gives_no_keys() {
    let other = StandIn::start(Says::Keys(vec!["a"])).await;
    let issuer = format!("{}/", other.address);
    let text = format!(
        "name = \"corp\"\nissuer = \"{issuer}\"\nalgorithm = \"RS256\"\naudience = \"f\"\n\
         role_claim = \"r\"\nrights = {{}}\n"
    );
    let stop = CancellationToken::new();
    let provider = Provider::open(&toml::from_str(&text).unwrap(), SELDOM, &stop).unwrap();
    assert_eq!(provider.key(Some("a")).await.unwrap_err(), NotTaken::NoKeys);
    assert_eq!(other.asked(), 0);
    stop.cancel();
}

#[test]
fn a_key_file_is_bounded_and_loses_one_newline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let text = format!(
            "name = \"corp\"\nissuer = \"i\"\nalgorithm = \"HS256\"\naudience = \"f\"\n\
             role_claim = \"r\"\nrights = {{}}\nkey_file = \"{}\"\n",
            path.display()
        );
        let issuer: Issuer = toml::from_str(&text).unwrap();
        Provider::open(&issuer, SELDOM, &CancellationToken::new())
    };
    assert!(open(&[b'x'; 32]).is_ok() && open(&[b'x'; 1_024]).is_ok());
    let told = open(format!("{}\n", "x".repeat(31)).as_bytes()).unwrap_err().to_string();
    assert!(told.contains("32 to 1024 bytes") && told.contains("key_file"), "{told}");
    assert!(open(&[b'x'; 1_025]).is_err());
}
