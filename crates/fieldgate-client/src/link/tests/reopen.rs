//! A filter that is left and opened anew: what comes of the first is nobody's.

use super::*;

fn answer(kind: &str, position: &str) -> Value {
    json!({"type": kind, "topic": "a", "position": position})
}

fn left() -> Value {
    json!({"type": "unsubscribed", "topic": "a"})
}

fn message(seq: u64, replay: Option<&str>) -> Value {
    json!({
        "type": "mqtt", "topic": "a", "payload": seq, "seq": seq, "timestamp": seq, "from": "x",
        "msgid": format!("e:{seq}"), "qos": 0, "replay": replay,
    })
}

#[tokio::test]
async fn a_filter_that_was_left_while_it_replayed_is_opened_anew() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let open = client.subscribe("a").since(Since::All).open();
    let (first, _) = tokio::join!(open, peer.subscribed());
    drop(first.unwrap());
    let serve = async {
        peer.expect("unsubscribe").await;
        // It was under way.
        peer.send(answer("caught_up", "e:5")).await;
        // The next one is not asked for before this one is over.
        heard(&client, &mut peer).await;
        peer.send(left()).await;
        peer.subscribed().await;
    };
    let both = async { tokio::join!(client.subscribe("a").open(), serve) };
    let (opened, ()) = timeout(LIMIT, both).await.expect("it is never answered");
    let mut events = opened.unwrap();
    peer.send(message(9, None)).await;
    assert!(matches!(next(&mut events).await, Event::Message(m) if m.seq == 9));
}

#[tokio::test]
async fn an_answer_to_one_that_gave_up_takes_nothing_of_the_next_ones_history() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    tokio::select! {
        opened = client.subscribe("a").open() => panic!("nobody answered: {opened:?}"),
        ask = peer.expect("subscribe") => drop(ask),
    }
    let serve = async {
        peer.expect("unsubscribe").await;
        peer.send(answer("subscribed", "e:7")).await;
        peer.send(left()).await;
        assert_eq!(peer.expect("subscribe").await["since"], "all");
        peer.send(answer("subscribed", "e:0")).await;
        for seq in 1..=7 {
            peer.send(message(seq, Some("a"))).await;
        }
        peer.send(answer("caught_up", "e:7")).await;
    };
    let (opened, ()) = tokio::join!(client.subscribe("a").since(Since::All).open(), serve);
    let mut events = opened.unwrap();
    for seq in 1..=7 {
        let event = next(&mut events).await;
        assert!(matches!(&event, Event::Message(m) if m.seq == seq), "{seq}: {event:?}");
    }
    assert_eq!(next(&mut events).await, Event::CaughtUp);
}

#[tokio::test]
async fn a_filter_is_left_again_where_that_is_refused_for_now() {
    let server = Server::new().await;
    let builder = server.client().ack_timeout(Duration::from_millis(20));
    let (client, mut peer) = pair(&server, builder).await;
    let (first, _) = tokio::join!(client.subscribe("a").open(), peer.subscribed());
    drop(first.unwrap());
    let leave = peer.expect("unsubscribe").await;
    peer.refuse("rate_limited", &leave["msgid"]).await;
    let again = peer.expect("unsubscribe").await;
    assert_eq!(again["topic"], "a");
    assert_ne!(again["msgid"], leave["msgid"]);
    peer.refuse("not_found", &again["msgid"]).await;
    let (opened, _) = tokio::join!(client.subscribe("a").open(), peer.subscribed());
    assert!(opened.is_ok(), "there is nothing to leave");
}

#[tokio::test]
async fn a_lost_connection_leaves_every_filter() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let (first, _) = tokio::join!(client.subscribe("a").open(), peer.subscribed());
    drop(first.unwrap());
    peer.expect("unsubscribe").await;
    drop(peer);
    let mut peer = server.accept().await;
    let (opened, _) = tokio::join!(client.subscribe("a").open(), peer.subscribed());
    assert!(opened.is_ok());
}

#[tokio::test]
async fn one_that_was_refused_takes_nothing_along_when_it_is_dropped() {
    let server = Server::new().await;
    let (client, mut peer, mut refused, msgid) = resumed(&server).await;
    peer.refuse("not_allowed", &msgid).await;
    assert!(matches!(next(&mut refused).await, Event::Refused { .. }));
    let (opened, _) = tokio::join!(client.subscribe("a").open(), peer.subscribed());
    drop(refused);
    heard(&client, &mut peer).await;
    peer.send(message(9, None)).await;
    assert!(matches!(next(&mut opened.unwrap()).await, Event::Message(m) if m.seq == 9));
}
