//! `fieldgate demo`: a gateway with a small building that moves, through the real ports.
//!
//! Everything goes the way that a stranger's devices would go: registered over `admin.sock`,
//! connected over WebSocket. The folder is temporary unless one is named, and gone at the end.

mod actuators;
mod building;
mod thingsee;
mod view;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fieldgate_client::{Client, Event, SubscribeError};
use fieldgate_server::{Config, Running, StartOptions};
use serde_json::json;

use crate::{
    args::DemoArgs,
    cli::admin::Admin,
    failure::{Exit, Failure},
    output,
    serve::{self, Signals},
    wire,
};
use building::Building;
use view::View;

const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
/// The name of the key that the snippets use.
const KEY: &str = "demo";

pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let temporary = match &args.data {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("fieldgate-demo-").tempdir()?),
    };
    let folder = args.data.clone().or_else(|| temporary.as_ref().map(|t| t.path().to_owned()));
    let folder = folder.unwrap_or_default();
    let mut config = Config::default();
    config.listen.http = vec![address(args.listen.as_deref())];
    config.store.free_bytes_min = 16 << 20;
    config.retention.bytes = 1 << 30;
    config.drain.grace_ms = 1_000;
    config.log.level = "warn".to_owned();
    let _set_level = serve::log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let running = wire::start(config, &folder, StartOptions::default()).await;
        let running = running.map_err(told_for_demo)?;
        let shown = tokio::select! {
            biased;
            () = signals.stop() => Ok(()),
            shown = show(args, &running, &folder, started) => shown,
        };
        signals.drain(running).await?;
        shown
    });
    runtime.shutdown_background();
    if temporary.is_some() {
        output::note("the demo's data is removed; `fieldgate serve` keeps yours");
    }
    result
}

/// The demo has none of the flags that a gateway beyond this machine takes.
fn told_for_demo(failure: Failure) -> Failure {
    if (failure.exit, failure.code.as_str()) != (Exit::Usage, "start") {
        return failure;
    }
    let text = "the demo serves this machine alone, without TLS";
    Failure { message: text.to_owned(), ..failure }
        .hint("give --listen an address such as 127.0.0.1:0; fieldgate serve takes others")
}

/// The address named; else the usual one; else, if somebody has it, any free one.
fn address(wanted: Option<&str>) -> String {
    if let Some(wanted) = wanted {
        return wanted.to_owned();
    }
    match TcpListener::bind(DEFAULT_ADDRESS) {
        Ok(_free) => DEFAULT_ADDRESS.to_owned(),
        Err(error) => {
            output::note(&format!("{DEFAULT_ADDRESS} cannot be had ({error}): taking a free port"));
            "127.0.0.1:0".to_owned()
        }
    }
}

/// What registering gave: the devices' tokens, the key, and the token of the Thingsee cloud.
struct Tokens {
    devices: Vec<(&'static str, String)>,
    key: String,
    cloud: String,
}

async fn register(folder: PathBuf, target: String) -> Result<Tokens, Failure> {
    let register = move || {
        let admin = Admin::running(&folder, "default")?;
        let mut devices = Vec::new();
        for (id, kind, name) in building::DEVICES {
            // A folder of the user's own may know the demo already: then only the tokens are new.
            let body = json!({"id": id, "kind": kind, "name": name, "groups": ["demo"]});
            let made = match admin.post("/devices", &body) {
                Err(taken) if taken.code == "conflict" => {
                    admin.post(&format!("/devices/{id}/rotate"), &json!({}))
                }
                made => made,
            }?;
            devices.push((id, output::cell(&made, "token")));
        }
        let body = json!({"name": KEY, "role": "admin", "grants": []});
        let made = match admin.post("/keys", &body) {
            Err(taken) if taken.code == "conflict" => {
                admin.delete(&format!("/keys/{KEY}"))?;
                admin.post("/keys", &body)
            }
            made => made,
        }?;
        let key = output::cell(&made, "key");
        let source = json!({"name": thingsee::SOURCE, "kind": "thingsee-in"});
        let cloud = output::cell(&integrate(&admin, &source)?, "token");
        let target = json!({"name": thingsee::TARGET, "kind": "websocket", "url": target,
            "allow_private": true});
        integrate(&admin, &target)?;
        Ok(Tokens { devices, key, cloud })
    };
    tokio::task::spawn_blocking(register)
        .await
        .map_err(|e| Failure::new(Exit::Failed, "demo", e.to_string()))?
}

/// Makes an integration, in the place of one of a demo before.
fn integrate(admin: &Admin, body: &serde_json::Value) -> Result<serde_json::Value, Failure> {
    match admin.post("/integrations", body) {
        Err(taken) if taken.code == "conflict" => {
            admin.delete(&format!("/integrations/{}", output::cell(body, "name")))?;
            admin.post("/integrations", body)
        }
        made => made,
    }
}

async fn show(
    args: &DemoArgs,
    running: &Running,
    folder: &Path,
    started: Instant,
) -> Result<(), Failure> {
    let target = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let target_url = format!("ws://{}/", target.local_addr()?);
    let tokens = register(folder.to_owned(), target_url).await?;
    let address = running.listeners().get("http").and_then(|list| list.first());
    let address = address.map(ToString::to_string).unwrap_or_default();
    let url = format!("ws://{address}");
    let app = Client::builder(&url).token(&tokens.key).connect().await?;
    let mut readings = app.subscribe("devices/#").open().await?;
    let mut building = Building::open(&url, &tokens.devices).await?;
    building.control(app.clone());
    let taken = building.thingsee(&address, &tokens.cloud, target);
    let mut view = View::new(&address, &tokens.key, taken);
    view.begin()?;
    let end = args.limit.map(|limit| tokio::time::Instant::now() + limit);
    let mut redraw = tokio::time::interval(Duration::from_millis(200));
    let mut first = true;
    loop {
        tokio::select! {
            biased;
            () = at(end) => break,
            _ = redraw.tick() => view.redraw()?,
            event = readings.next() => match event {
                None => return Err(app.ended().await.into()),
                Some(Event::Message(message)) => {
                    if std::mem::take(&mut first) {
                        let took = started.elapsed();
                        view.moving(took);
                        if let Some(path) = &args.ready_file {
                            serve::ready(path, running, took)?;
                        }
                    }
                    view.on_message(&message)?;
                }
                Some(Event::Gap(_)) => view.gaps += 1,
                Some(Event::Refused { code, message }) => {
                    return Err(SubscribeError::Refused { code, message }.into());
                }
                Some(_) => (),
            }
        }
    }
    let commands = building.close().await;
    view.finish(&commands)?;
    drop(readings);
    app.close().await;
    Ok(())
}

/// Waits for a moment, if there is one.
async fn at(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
