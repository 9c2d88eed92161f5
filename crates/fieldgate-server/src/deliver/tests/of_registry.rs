//! Integrations as the registry has them, and the deliveries that follow.

use fieldgate_store::registry::{IntegrationKind, Start};

use super::*;

/// Changes an integration, as an administrator does.
async fn change(gateway: &Gateway, step: IntegrationStep) {
    let change = RegistryChange {
        tenant: "default".to_owned(),
        change: Change::Integration { name: "out".to_owned(), expected: None, step },
        author: Some(Author::gateway()),
    };
    gateway.shared().change_registry(change).await.unwrap();
}

fn added(url: String, format: Format, start: Start) -> IntegrationStep {
    let target = registry::Target {
        url,
        filter: "a/#".to_owned(),
        format,
        allow_private: true,
        ..registry::Target::default()
    };
    let integration = Integration {
        name: "out".to_owned(),
        kind: IntegrationKind::Rest,
        paused: false,
        token: None,
        target: Some(target),
    };
    IntegrationStep::Add { integration: Box::new(integration), start }
}

fn integrated(gateway: &Gateway) -> Integrated {
    gateway.shared().state.integration(&TenantId::default_tenant(), "out").unwrap()
}

/// The numbers that come, until so many came.
async fn taken(asked: &mut mpsc::Receiver<Asked>, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(next(asked).await.payloads());
    }
    taken
}

async fn reported(gateway: &Gateway, is_so: impl Fn(&registry::Progress) -> bool) {
    let told = async {
        while !is_so(&integrated(gateway).progress) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, told).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integration_delivers_while_it_is_there_does_not_rest_and_from_where_it_is_told() {
    let gateway = Gateway::start(&[], 1).await;
    let (address, mut asked) = rest_target(|_, _| status("200 OK", "")).await;
    fill(&gateway, 0, 3);
    let url = format!("http://{address}/");
    change(&gateway, added(url.clone(), Format::Native, Start::Now)).await;
    assert_eq!(test(gateway.shared(), &integrated(&gateway)).await, Ok(()));
    assert_eq!(next(&mut asked).await.body, "[]", "a try");
    fill(&gateway, 3, 3);
    assert_eq!(taken(&mut asked, 3).await, numbers(3..6), "from now on");
    reported(&gateway, |progress| progress.delivered == 3).await;

    change(&gateway, IntegrationStep::Pause(true)).await;
    fill(&gateway, 6, 2);
    let is_at_rest =
        || gateway.shared().deliveries.known(&TenantId::default_tenant(), "out").is_none();
    reported(&gateway, |_| is_at_rest()).await;
    change(&gateway, IntegrationStep::Pause(false)).await;
    assert_eq!(taken(&mut asked, 2).await, numbers(6..8), "what came while it rested");
    reported(&gateway, |progress| progress.delivered == 5).await;

    change(&gateway, IntegrationStep::Replay(0)).await;
    assert_eq!(taken(&mut asked, 8).await, numbers(0..8), "all of it again");
    reported(&gateway, |progress| progress.cursor > 8).await;

    change(&gateway, IntegrationStep::Remove).await;
    fill(&gateway, 8, 1);
    change(&gateway, added(url, Format::NativeLines, Start::Now)).await;
    fill(&gateway, 9, 2);
    let mut lines = Vec::new();
    while lines.len() < 2 {
        let request = next(&mut asked).await;
        assert_eq!(request.headers["content-type"], "application/x-ndjson");
        lines.extend(request.body.lines().map(|line| payloads(&format!("[{line}]"))));
    }
    assert_eq!(lines, [["9"], ["10"]]);
    gateway.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_used_is_told_as_the_last_error() {
    let gateway = Gateway::start(&[], 1).await;
    let IntegrationStep::Add { mut integration, start } =
        added("http://127.0.0.1:9/".to_owned(), Format::Native, Start::Now)
    else {
        panic!("another step")
    };
    integration.target.as_mut().unwrap().allow_private = false;
    change(&gateway, IntegrationStep::Add { integration, start }).await;
    let known = || gateway.shared().deliveries.known(&TenantId::default_tenant(), "out");
    reported(&gateway, |_| known().is_some_and(|known| known.last_error.is_some())).await;
    let (_, text) = known().unwrap().last_error.unwrap();
    assert_eq!(text, "its target: 127.0.0.1 is a private address: it takes allow_private");
    gateway.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_comes_when_it_is_tried_again() {
    let gateway = Gateway::start(&[], 1).await;
    let answer = |count: usize, _: &Asked| {
        if count == 0 { status("400 No", "not now") } else { status("200 OK", "") }
    };
    let (address, mut asked) = rest_target(answer).await;
    change(&gateway, added(format!("http://{address}/"), Format::Native, Start::Now)).await;
    fill(&gateway, 0, 1);
    assert_eq!(taken(&mut asked, 1).await, ["0"], "refused");
    reported(&gateway, |progress| progress.set_aside == 1).await;
    let aside = |gateway: &Gateway| integrated(gateway).asides.messages.clone();
    let (seq, told) = aside(&gateway).pop_first().unwrap();
    assert_eq!(told.reason, "it answered with status 400: not now");
    change(&gateway, IntegrationStep::Retry(seq)).await;
    assert_eq!(taken(&mut asked, 1).await, ["0"], "tried again");
    reported(&gateway, |progress| progress.delivered == 1).await;
    assert!(aside(&gateway).is_empty());
    gateway.running.drain().await;
}
