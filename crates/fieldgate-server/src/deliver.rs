//! Deliveries: what goes out to other systems' servers, which we connect to.
//!
//! One task an integration, on the main runtime. Who follows the registry here starts a task where
//! one is wanted, and ends it where it is wanted no more, or otherwise. Invariant: an integration has
//! one task at a time.

pub(crate) mod address;
mod plan;
mod read;
mod rest;
mod run;
mod shown;
mod target;
#[cfg(test)]
mod tests;
mod websocket;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fieldgate_core::id::{Seq, TenantId};
use fieldgate_store::{
    AppendError, Log as _, Record,
    audit::Author,
    registry::{Change, Integration, IntegrationStep, RegistryChange, Report},
    state::Integrated,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    address::read_url,
    shown::{Known, State},
};
use self::{
    read::content_type,
    run::{Plan, Target, Whose, Write},
    shown::Shown,
    target::{Failure, Parcel},
};
use crate::fabric::{Shared, now};

/// How long a new task waits until the last report of the one before it is in the state.
const REPORT_TIME: Duration = Duration::from_secs(5);

/// The deliveries at work.
#[derive(Debug, Default)]
pub(crate) struct Deliveries(Mutex<BTreeMap<Whose, Arc<Shown>>>);

impl Deliveries {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Whose, Arc<Shown>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a delivery does; nothing while it rests.
    pub(crate) fn known(&self, tenant: &TenantId, name: &str) -> Option<Known> {
        let whose = Whose { tenant: tenant.clone(), name: name.to_owned() };
        self.lock().get(&whose).map(|shown| shown.known())
    }
}

/// What a task was started for: another one is wanted when this changes.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    integration: Arc<Integration>,
    run: u64,
    retries: Vec<u64>,
}

impl Wish {
    /// Nothing, if the integration delivers nothing now.
    fn of(integrated: &Integrated) -> Option<Self> {
        let integration = Arc::clone(&integrated.integration);
        if integration.paused || integration.target.is_none() {
            return None;
        }
        let retries = plan::retries_of(&integrated.asides).collect();
        Some(Self { integration, run: integrated.progress.run, retries })
    }
}

#[derive(Debug)]
struct Running {
    wish: Wish,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Keeps a task for each integration that delivers, until it is told to stop; then all have ended.
pub(crate) async fn serve(shared: Arc<Shared>, stop: CancellationToken) {
    let mut changes = shared.integrations.changes.subscribe();
    let mut running = BTreeMap::new();
    loop {
        // First noted as seen, then looked at: what changes meanwhile is looked at again.
        changes.borrow_and_update();
        reconcile(&shared, &mut running);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    for one in running.values() {
        one.stop.cancel();
    }
    for one in running.into_values() {
        ended(one.task).await;
    }
}

/// Ends what is wanted no more, and starts what is.
fn reconcile(shared: &Arc<Shared>, running: &mut BTreeMap<Whose, Running>) {
    let mut wanted: BTreeMap<Whose, Wish> = BTreeMap::new();
    for one in shared.state.all_integrations() {
        let Some(wish) = Wish::of(&one) else { continue };
        wanted.insert(Whose { tenant: one.tenant, name: wish.integration.name.clone() }, wish);
    }
    running.retain(|whose, one| {
        let stays = wanted.contains_key(whose);
        if !stays {
            one.stop.cancel();
            shared.deliveries.lock().remove(whose);
        }
        stays
    });
    for (whose, wish) in wanted {
        let before = match running.remove(&whose) {
            Some(one) if one.wish == wish && !one.task.is_finished() => {
                running.insert(whose, one);
                continue;
            }
            before => before,
        };
        if let Some(before) = &before {
            before.stop.cancel();
        }
        let shown = Arc::new(Shown::default());
        shared.deliveries.lock().insert(whose.clone(), Arc::clone(&shown));
        let stop = CancellationToken::new();
        let task = begin(Arc::clone(shared), whose.clone(), before, shown, stop.clone());
        running.insert(whose, Running { wish, stop, task: tokio::spawn(task) });
    }
}

async fn ended(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a delivery ended early");
    }
}

/// Runs a delivery, once the one before it has ended and its last report stands in the state.
async fn begin(
    shared: Arc<Shared>,
    whose: Whose,
    before: Option<Running>,
    shown: Arc<Shown>,
    stop: CancellationToken,
) {
    if let Some(before) = before {
        ended(before.task).await;
        let reported = shared.for_applied(shared.log.frontier().ordered);
        // Later than this, a little more is repeated.
        let _late = tokio::time::timeout(REPORT_TIME, reported).await;
    }
    let Some(integrated) = shared.state.integration(&whose.tenant, &whose.name) else { return };
    match plan(&shared, &integrated).await {
        Ok(plan) => {
            let write = writer(Arc::clone(&shared), whose);
            run::run(shared, plan, shown, write, stop).await;
        }
        Err(failure) => {
            tracing::error!(integration = whose.name, why = failure.text, "it cannot deliver");
            shown.failed(failure.text, now());
            shown.set(State::Broken, Seq(integrated.progress.cursor), 0, None);
            stop.cancelled().await;
        }
    }
}

/// Makes ready what delivers. Reads files, so elsewhere than on the runtime.
async fn plan(shared: &Arc<Shared>, integrated: &Integrated) -> Result<Plan, Failure> {
    let (shared, integrated) = (Arc::clone(shared), integrated.clone());
    let made = tokio::task::spawn_blocking(move || plan::of(&shared, &integrated)).await;
    made.unwrap_or_else(|error| Err(Failure::failed(error.to_string())))
}

/// What a delivery writes its reports with.
fn writer(shared: Arc<Shared>, whose: Whose) -> Write {
    Box::new(move |report: &Report| {
        let change = RegistryChange {
            tenant: whose.tenant.as_str().to_owned(),
            change: Change::Integration {
                name: whose.name.clone(),
                expected: None,
                step: IntegrationStep::Report(Box::new(report.clone())),
            },
            author: Some(Author::gateway()),
        };
        match shared.log.append(vec![Record::Registry(Box::new(change))], now()) {
            Ok(_) => true,
            Err(AppendError::Full) => false,
            Err(error) => {
                tracing::debug!(%error, integration = whose.name, "its progress was not stored");
                false
            }
        }
    })
}

/// Tries a target once, with nothing: an empty batch over HTTP, a ping over a WebSocket.
///
/// # Errors
///
/// [`Failure`]: what happened instead.
pub(crate) async fn test(shared: &Arc<Shared>, integrated: &Integrated) -> Result<(), Failure> {
    let plan = plan(shared, integrated).await?;
    match plan.target {
        Target::Rest(target) => {
            let format = plan.wanted.format;
            let body = read::batch(format, std::iter::empty()).into();
            let name = "test".to_owned();
            target.post(Parcel { name, body, content_type: content_type(format) }).await
        }
        Target::WebSocket(target) => {
            let mut link = target.connect().await?;
            let proved = link.prove().await;
            if proved.is_ok() {
                link.close().await;
            }
            proved
        }
    }
}
