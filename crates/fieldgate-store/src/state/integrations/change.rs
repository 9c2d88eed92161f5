//! What registry records do to integrations, to how far they came, and to the devices of sources.
//!
//! Called in seq order by the one thread that applies the log. Conditions are decided here, when the
//! record's turn comes. Invariant: what is refused changes nothing; a cursor goes back only by a replay.

use std::sync::Arc;

use fieldgate_core::{
    fault::{Code, Fault},
    id::{DeviceId, Seq, TenantId, UnixMs},
};

use super::{ASIDES_MAX, INTEGRATIONS_MAX, Integrations, source_name};
use crate::{
    audit::short,
    registry::{
        Aside, Asides, Device, Integration, IntegrationEdit, IntegrationKind, IntegrationStep,
        Origin, Progress, Report, SecretHash, Start, Target,
    },
    state::{
        Effect, StateLimits,
        changes::RowKey,
        tenants::{Inner, Owner, no_such},
    },
};

/// The rows of an integration.
struct Rows {
    own: RowKey,
    progress: RowKey,
    asides: RowKey,
}

impl Rows {
    fn of(tenant: &TenantId, name: &str) -> Self {
        let (tenant, name) = (|| tenant.clone(), || name.to_owned());
        Self {
            own: RowKey::Integration(tenant(), name()),
            progress: RowKey::Progress(tenant(), name()),
            asides: RowKey::Asides(tenant(), name()),
        }
    }
}

/// Who must hear that an integration changed; of a source also its connections.
fn changed(tenant: &TenantId, name: &str, is_source: bool) -> Vec<Effect> {
    let tenant = tenant.clone();
    let of_source = || {
        let (tenant, name) = (tenant.clone(), source_name(name).into());
        Effect::RightsChanged { tenant, name }
    };
    let of_source = is_source.then(of_source);
    let changed = Effect::IntegrationChanged { tenant, name: name.into() };
    std::iter::once(changed).chain(of_source).collect()
}

impl Inner {
    /// Applies a change of an integration.
    pub(in crate::state) fn change_integration(
        &mut self,
        tenant_id: &TenantId,
        name: &str,
        expected: Option<u64>,
        step: &IntegrationStep,
        (seq, arrived): (Seq, UnixMs),
    ) -> Result<Vec<Effect>, Fault> {
        let all = &mut self.tenants.entry(tenant_id.clone()).or_default().integrations;
        let rows = Rows::of(tenant_id, name);
        match step {
            IntegrationStep::Add { integration, start } => {
                all.add(name, integration, *start, seq)?;
                self.set_source_token(tenant_id, name, None, integration.token);
                self.touched = vec![rows.own, rows.progress];
                Ok(changed(tenant_id, name, false))
            }
            IntegrationStep::Edit(edit) => {
                let known = all.known_as(name, expected)?;
                let target = edited(known.target.as_ref().ok_or_else(|| no_target(name))?, edit)?;
                Arc::make_mut(known).target = Some(target);
                self.touched = vec![rows.own];
                Ok(changed(tenant_id, name, false))
            }
            IntegrationStep::Pause(paused) => {
                let known = all.known_as(name, expected)?;
                Arc::make_mut(known).paused = *paused;
                self.touched = vec![rows.own];
                Ok(changed(tenant_id, name, known.kind == IntegrationKind::ThingseeIn))
            }
            IntegrationStep::Rotate(hash) => {
                let known = all.known_as(name, expected)?;
                if known.kind != IntegrationKind::ThingseeIn {
                    let text = format!("integration {name} has no token of ours: edit its secret");
                    return Err(Fault::new(Code::BadValue, text));
                }
                let before = Arc::make_mut(known).token.replace(*hash);
                self.set_source_token(tenant_id, name, before, Some(*hash));
                self.touched = vec![rows.own];
                Ok(changed(tenant_id, name, true))
            }
            IntegrationStep::Remove => {
                let before = all.known_as(name, expected)?.token;
                all.known.remove(name);
                all.progress.remove(name);
                all.asides.remove(name);
                self.set_source_token(tenant_id, name, before, None);
                self.touched = vec![rows.own, rows.progress, rows.asides];
                Ok(changed(tenant_id, name, before.is_some()))
            }
            IntegrationStep::Report(report) => {
                all.known_as(name, expected)?;
                let is_aside = all.report(name, report, arrived)?;
                self.touched = vec![rows.progress];
                self.touched.extend(is_aside.then_some(rows.asides));
                Ok(Vec::new())
            }
            IntegrationStep::Replay(_) | IntegrationStep::Retry(_) | IntegrationStep::Drop(_) => {
                all.known_as(name, expected)?.target.as_ref().ok_or_else(|| no_target(name))?;
                all.repeat(name, step, seq)?;
                self.touched = vec![rows.progress, rows.asides];
                Ok(changed(tenant_id, name, false))
            }
        }
    }

    fn set_source_token(
        &mut self,
        tenant: &TenantId,
        name: &str,
        before: Option<SecretHash>,
        now: Option<SecretHash>,
    ) {
        before.into_iter().for_each(|hash| drop(self.owners.remove(&hash)));
        let owner = || Owner::Source(tenant.clone(), name.to_owned());
        self.owners.extend(now.map(|hash| (hash, owner())));
    }

    /// Applies what a source says of one of its devices.
    pub(in crate::state) fn take_device(
        &mut self,
        tenant_id: &TenantId,
        source: &str,
        device: &str,
        gateway: Option<&String>,
        limits: &StateLimits,
    ) -> Result<Vec<Effect>, Fault> {
        let id: DeviceId =
            device.parse().map_err(|_| Fault::new(Code::BadValue, "this is no device id"))?;
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        let all = &tenant.integrations;
        let known = all.known.get(source);
        if known.is_none_or(|known| known.kind != IntegrationKind::ThingseeIn) {
            return Err(no_such("source", source));
        }
        let origin = Origin { source: source.to_owned(), gateway: gateway.cloned() };
        let place = RowKey::Origin(tenant_id.clone(), id.clone());
        if tenant.devices.contains_key(&id) {
            if all.origins.get(&id).is_none_or(|origin| origin.source != source) {
                let text = format!("device {id} is not of the source {source}");
                return Err(Fault::new(Code::NotAllowed, text));
            }
            tenant.integrations.set_origin(&id, Arc::new(origin));
            self.touched = vec![place];
            return Ok(Vec::new());
        }
        let count = all.counts.get(source).copied().unwrap_or_default();
        if count >= limits.devices_per_source_max {
            return Err(Fault::new(Code::QueueFull, "limits.devices_per_source_max is reached"));
        }
        let made = Device { id: device.to_owned(), ..Device::default() };
        let effects = self.add_device(tenant_id, &made, limits)?;
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        tenant.integrations.set_origin(&id, Arc::new(origin));
        self.touched.extend([RowKey::Device(tenant_id.clone(), id), place]);
        Ok(effects)
    }
}

impl Integrations {
    /// The integration of this name, if it is what `expected` stands for.
    fn known_as(
        &mut self,
        name: &str,
        expected: Option<u64>,
    ) -> Result<&mut Arc<Integration>, Fault> {
        let known = self.known.get_mut(name).ok_or_else(|| no_such("integration", name))?;
        if expected.is_some_and(|expected| expected != known.tag()) {
            let text = format!("the integration {name} is not what it was: read it again");
            return Err(Fault::new(Code::Conflict, text));
        }
        Ok(known)
    }

    /// Takes a report of the delivery.
    fn report(&mut self, name: &str, report: &Report, arrived: UnixMs) -> Result<bool, Fault> {
        let progress = self.progress.entry(name.to_owned()).or_default();
        if progress.run != report.run {
            let text = format!("integration {name} was told to begin elsewhere meanwhile");
            return Err(Fault::new(Code::Conflict, text));
        }
        let progress = Arc::make_mut(progress);
        let before = progress.cursor;
        progress.cursor = progress.cursor.max(report.cursor);
        progress.delivered = progress.delivered.saturating_add(report.delivered);
        progress.failed = progress.failed.saturating_add(report.failed);
        if let Some(error) = &report.error {
            progress.last_error = Some((short(error), arrived.0));
        }
        if report.aside.is_empty() && report.settled.is_empty() {
            return Ok(false);
        }
        let asides = Arc::make_mut(self.asides.entry(name.to_owned()).or_default());
        report.settled.iter().for_each(|seq| drop(asides.messages.remove(seq)));
        for (seq, reason) in &report.aside {
            // The cursor was past it: it was tried once more, and is the same message as before.
            let is_again = *seq <= before;
            if is_again && !asides.messages.contains_key(seq) {
                continue;
            }
            progress.set_aside += u64::from(!is_again);
            let (reason, time_ms) = (short(reason), arrived.0);
            asides.messages.insert(*seq, Aside { reason, time_ms, retry: false });
            if asides.messages.len() > ASIDES_MAX {
                asides.messages.pop_first();
                asides.forgotten += 1;
            }
        }
        Ok(true)
    }

    fn aside_of(&mut self, name: &str, seq: u64) -> Result<&mut Asides, Fault> {
        let asides = self.asides.get_mut(name);
        let asides = asides.filter(|asides| asides.messages.contains_key(&seq));
        let missing = || Fault::new(Code::NotFound, format!("message {seq} is not set aside"));
        asides.map(Arc::make_mut).ok_or_else(missing)
    }
    fn add(
        &mut self,
        name: &str,
        integration: &Integration,
        start: Start,
        seq: Seq,
    ) -> Result<(), Fault> {
        if integration.name != name {
            return Err(Fault::new(Code::BadValue, "the integration has two names"));
        }
        if self.known.contains_key(name) {
            return Err(Fault::new(Code::Conflict, format!("integration {name} exists already")));
        }
        if self.known.len() >= INTEGRATIONS_MAX {
            let text = format!("a tenant has at most {INTEGRATIONS_MAX} integrations");
            return Err(Fault::new(Code::QueueFull, text));
        }
        let is_source = integration.kind == IntegrationKind::ThingseeIn;
        if integration.token.is_some() != is_source || integration.target.is_some() == is_source {
            let text = "what comes in has a token, what goes out a target";
            return Err(Fault::new(Code::BadValue, text));
        }
        let cursor = match start {
            Start::Now => seq.0,
            Start::After(after) => after.min(seq.0),
        };
        let progress = Progress { run: seq.0, cursor, ..Progress::default() };
        self.progress.insert(name.to_owned(), Arc::new(progress));
        self.known.insert(name.to_owned(), Arc::new(integration.clone()));
        Ok(())
    }

    /// Does again what was done, or forgets what was not.
    fn repeat(&mut self, name: &str, step: &IntegrationStep, seq: Seq) -> Result<(), Fault> {
        if let IntegrationStep::Replay(after) = step {
            let progress = Arc::make_mut(self.progress.entry(name.to_owned()).or_default());
            progress.run = seq.0;
            progress.cursor = (*after).min(seq.0);
            if let Some(asides) = self.asides.get_mut(name) {
                // What is refused again comes back.
                Arc::make_mut(asides).messages.retain(|seq, _| seq <= after);
            }
        } else if let IntegrationStep::Retry(message) = step {
            let asides = self.aside_of(name, *message)?;
            asides.messages.entry(*message).and_modify(|aside| aside.retry = true);
        } else if let IntegrationStep::Drop(message) = step {
            self.aside_of(name, *message)?.messages.remove(message);
        }
        Ok(())
    }
}

fn no_target(name: &str) -> Fault {
    Fault::new(Code::BadValue, format!("integration {name} delivers nothing: it only takes"))
}

fn edited(before: &Target, edit: &IntegrationEdit) -> Result<Target, Fault> {
    let mut target = before.clone();
    let IntegrationEdit { url, filter, format, token_in, secret, signing, .. } = edit;
    let IntegrationEdit { allow_private, rate_max, batch_max, .. } = edit;
    let moves = url.as_ref().is_some_and(|url| *url != before.url);
    if moves && before.secret.is_some() && secret.is_none() {
        let text = "another url needs the secret again: who edits must not learn it";
        return Err(Fault::new(Code::BadValue, text));
    }
    set(&mut target.url, url);
    set(&mut target.filter, filter);
    set(&mut target.format, format);
    set(&mut target.token_in, token_in);
    set(&mut target.secret, secret);
    set(&mut target.signing, signing);
    set(&mut target.allow_private, allow_private);
    set(&mut target.rate_max, rate_max);
    set(&mut target.batch_max, batch_max);
    if target.secret.is_some() != target.token_in.is_some() {
        let text = "a secret and the place where it stands (token_in) come together";
        return Err(Fault::new(Code::BadValue, text));
    }
    Ok(target)
}

fn set<T: Clone>(place: &mut T, with: &Option<T>) {
    if let Some(with) = with {
        place.clone_from(with);
    }
}
