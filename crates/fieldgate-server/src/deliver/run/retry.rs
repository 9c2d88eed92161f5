//! What was set aside, tried once more: alone, between the batches, out of its order.
//!
//! The cursor has passed it long ago and does not move. Invariant: what is taken is settled once, what
//! is refused is set aside anew, and what failed is tried again.

use super::*;

impl Runner {
    /// Tries what was set aside, while its target does well; says whether it does so now. It goes
    /// between the batches, out of its order.
    pub(super) fn retry(&mut self) -> bool {
        if self.retrying.is_some() {
            return true;
        }
        let now_ms = self.now_ms();
        let is_well = self.delivery.breaker() == Breaker::Closed
            && self.delivery.not_before_ms(now_ms).is_none()
            && self.attempt.is_none()
            && (self.link.is_some() || matches!(self.plan.target, Target::Rest(_)));
        let next = if is_well { self.plan.retries.pop_front() } else { None };
        let Some(seq) = next else { return false };
        (self.retrying, self.is_connecting) = (Some(seq), false);
        let (shared, wanted) = (Arc::clone(&self.shared), self.plan.wanted.clone());
        let (target, mut link) = (self.plan.target.clone(), self.link.take());
        let name = Parcel::name(shared.log.epoch(), seq, seq);
        self.attempt = Some(Box::pin(async move {
            let format = wanted.format;
            let found =
                tokio::task::spawn_blocking(move || read(&shared, &wanted, seq.prev(), seq)).await;
            let items = found.ok().and_then(Result::ok).map(|stretch| stretch.items);
            let items = items.filter(|items| !items.is_empty());
            let Some(items) = items else {
                let gone = Failure::new(Outcome::Refused, "the log has it no more");
                return (link, Err(gone));
            };
            let body = batch(format, items.iter()).into();
            let parcel = Parcel { name, body, content_type: content_type(format) };
            match (&target, &mut link) {
                (Target::Rest(target), _) => (None, target.post(parcel).await),
                (Target::WebSocket(_), Some(open)) => {
                    let result = open.deliver(parcel).await;
                    (link.filter(|_| result.is_ok()), result)
                }
                (Target::WebSocket(_), None) => {
                    (None, Err(Failure::failed("the connection is gone")))
                }
            }
        }));
        true
    }

    /// What was set aside was tried once more.
    pub(super) fn retried(&mut self, seq: Seq, result: Result<(), Failure>) {
        match result {
            Ok(()) => {
                self.report.delivered += 1;
                self.report.settled.push(seq.0);
            }
            Err(failure) => {
                if failure.outcome == Outcome::Refused {
                    self.report.aside.push((seq.0, failure.text.clone()));
                } else {
                    self.plan.retries.push_back(seq);
                }
                self.report.failed += 1;
                self.report.error = Some(failure.text.clone());
                let is_link_lost =
                    self.link.is_none() && matches!(self.plan.target, Target::WebSocket(_));
                if failure.outcome != Outcome::Refused || is_link_lost {
                    let is_refused = failure.outcome == Outcome::Refused;
                    let outcome = if is_refused { Outcome::Failed } else { failure.outcome };
                    self.delivery.ended(outcome, self.now_ms(), random());
                }
                self.shown.failed(failure.text, now());
            }
        }
    }
}
