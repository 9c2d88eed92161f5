//! Waiting for room.

use std::{cell::Cell, future::poll_fn, pin::pin, rc::Rc, time::Duration};

use fieldgate_core::{access::Identity, close::CloseReason};
use fieldgate_dialects::wire::Form;
use tokio::{
    task::spawn_local,
    time::{sleep, timeout},
};

use super::Link;
use crate::testing::{Gateway, LIMIT, memory_link, on_worker, take};

/// Waits for room, and counts how often that is looked at.
async fn counted(link: Rc<Link>, look_count: Rc<Cell<u32>>) {
    let mut room = pin!(link.room());
    let look = poll_fn(|context| {
        look_count.set(look_count.get() + 1);
        room.as_mut().poll(context)
    });
    look.await;
}

#[tokio::test]
async fn who_waits_for_room_is_woken_once_there_is_some_and_not_before() {
    let gateway = Gateway::start(&["limits.outbox_bytes_max=262144"], 2).await;
    on_worker(gateway.shared(), async |hub| {
        let (link, mut body) = memory_link(&hub, Form::V1, Identity::Key);
        let fill = |byte_len: usize| {
            hub.touch(&link);
            link.outbox.push_tick(|tick| tick.resize(byte_len, 0));
            let look_count = Rc::new(Cell::new(0));
            let waiting = spawn_local(counted(Rc::clone(&link), Rc::clone(&look_count)));
            (waiting, look_count)
        };
        // The socket takes it piece by piece.
        let (mut waiting, look_count) = fill(300_000);
        sleep(Duration::from_secs(60)).await;
        hub.flush();
        sleep(Duration::from_secs(60)).await;
        while !link.outbox.has_room() {
            assert!(!waiting.is_finished() && look_count.get() == 1);
            take(&mut body).await;
            link.drain(&hub).unwrap();
        }
        timeout(LIMIT, &mut waiting).await.unwrap().unwrap();
        assert_eq!(look_count.get(), 2);
        while link.has_unsent() {
            take(&mut body).await;
            link.drain(&hub).unwrap();
        }
        take(&mut body).await;
        // More than half, of which it takes enough at once.
        let (waiting, _) = fill(140_000);
        sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished());
        hub.flush();
        timeout(LIMIT, waiting).await.unwrap().unwrap();
        // The link ends.
        let (waiting, look_count) = fill(300_000);
        hub.flush();
        sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished() && look_count.get() == 1);
        link.close(CloseReason::Restart);
        timeout(LIMIT, waiting).await.unwrap().unwrap();
    });
    gateway.running.drain().await;
}
