//! The mirror behind more than its feed has room for.

use fieldgate_core::{
    id::Seq,
    message::{Content, Kind, Message, Qos},
    testing,
};
use fieldgate_store::{AppendError, Log as _, Record};

use crate::{
    fabric::{Shared, now},
    testing::{Gateway, until},
};

/// So many presses, of so many bytes each, have no room in the feed together.
const PRESSES: u64 = 160;
const PRESS_BYTES: usize = 512 << 10;

/// A press of a button, with much to say beside it.
fn press(button: u64) -> Message {
    let filler = "x".repeat(PRESS_BYTES);
    let payload =
        format!(r#"{{"event":"button","data":{{"button":{button}}},"filler":"{filler}"}}"#);
    let (kind, content) = (Kind::Event, Content::Json);
    Message {
        kind,
        content,
        timestamp: now(),
        ..testing::message("devices/switch-1/events", Qos::AtLeastOnce, payload)
    }
}

/// Stores a message once there is room for it.
async fn store(shared: &Shared, message: Message) -> Seq {
    let mut stored = None;
    until("room in the log", || {
        let record = Record::Message(message.clone());
        match shared.log.append(vec![record], now()) {
            Ok(range) => stored = Some(Seq(*range.end())),
            Err(AppendError::Full) => (),
            Err(error) => panic!("{error}"),
        }
        stored.is_some()
    })
    .await;
    stored.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_room_in_the_feed_is_read_from_the_log_each_press_once() {
    let settings = ["listen.deconz=127.0.0.1:0", "deconz.push=open"];
    let gateway = Gateway::start(&settings, 1).await;
    let shared = gateway.shared();
    let bridge = shared.bridge.as_ref().unwrap();
    until("the mirror", || bridge.view().is_some()).await;
    let mut app = gateway.open("deconz", "/", "").await;
    store(shared, press(1_000)).await;
    assert_eq!(app.next().await["e"], "added");
    assert_eq!(app.next().await["state"]["buttonevent"], 1_000);
    let held = std::thread::scope(|scope| {
        // The mirror waits for whoever looks at what apps see; nobody waits for the mirror.
        let (hold, holding) = std::sync::mpsc::channel::<()>();
        let (held, is_held) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let view = bridge.view();
            held.send(()).unwrap();
            let _over = holding.recv();
            drop(view);
        });
        is_held.recv().unwrap();
        let storing = async {
            let mut last = Seq(0);
            for nth in 1..=PRESSES {
                last = store(shared, press(1_000 + nth)).await;
            }
            until("routing", || shared.applied() >= last).await;
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(storing));
        let is_cut = bridge.feed.is_cut();
        drop(hold);
        is_cut
    });
    assert!(held, "there was room");
    for nth in 1..=PRESSES {
        assert_eq!(app.next().await["state"]["buttonevent"], 1_000 + nth);
    }
    assert!(!bridge.feed.is_cut());
}
