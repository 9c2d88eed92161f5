//! What leaves while a frame has to wait.

use std::{rc::Rc, time::Duration};

use fieldgate_core::{access::Identity, close::CloseReason, id::Seq};
use fieldgate_dialects::{wire::Form, ws::Event};
use tokio::{
    task::spawn_local,
    time::{sleep, timeout},
};

use super::handle;
use crate::{
    asks::Inbound,
    testing::{Gateway, LIMIT, memory_link, on_worker, take},
};

#[tokio::test]
async fn what_waits_leaves_while_a_frame_has_to_wait() {
    let gateway = Gateway::start(&[], 2).await;
    on_worker(gateway.shared(), async |hub| {
        for is_closed in [false, true] {
            let identity = Identity::Source { name: "cloud".into() };
            let (link, mut body) = memory_link(&hub, Form::Source, identity);
            // A pong is under way that never becomes due, so a ping behind it has to wait.
            link.taken.set(Seq(u64::MAX));
            link.ponged.set(Seq(u64::MAX));
            link.outbox.wait(vec![7; 300_000].into());
            let frame = Inbound::of(&Event::Ping(b"p"));
            let (of, with) = (Rc::clone(&hub), Rc::clone(&link));
            let handled = spawn_local(async move { handle(&of, &with, vec![frame]).await });
            let mut taken_bytes = 0;
            while taken_bytes < 300_000 {
                taken_bytes += take(&mut body).await;
            }
            assert_eq!((taken_bytes, link.has_unsent()), (300_000, false));
            sleep(Duration::from_secs(1)).await;
            assert!(!handled.is_finished());
            if is_closed {
                link.close(CloseReason::Restart);
            } else {
                link.taken.set(Seq(0));
                hub.space.notify_waiters();
            }
            timeout(LIMIT, handled).await.unwrap().unwrap();
            hub.flush();
            if !is_closed {
                assert_eq!(take(&mut body).await, 3);
            }
            hub.remove_link(&link);
        }
    });
    gateway.running.drain().await;
}
