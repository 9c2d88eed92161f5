//! Reading what is to be delivered: a stretch of the log in, items in the target's form out.
//!
//! Blocking: never runs on a worker. Bounded: one stretch of about as many bytes as a batch has.

use fieldgate_core::{
    delivery::Item,
    dialect::{Delivery, GapReason, Marks},
    id::{Seq, TenantId},
    topic::Filter,
};
use fieldgate_dialects::{native, thingsee};
use fieldgate_store::{Entry, Followed, Log as _, ReadError, ReadFilter, registry::Format};

use crate::{
    fabric::{Shared, message_of, now},
    thingsee_out::about,
};

/// What is read of the log.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) tenant: TenantId,
    pub(crate) filter: Filter,
    pub(crate) format: Format,
    pub(crate) bytes_max: usize,
}

/// What a stretch of the log held.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    pub(crate) items: Vec<Item<Box<[u8]>>>,
    /// Everything up to here was looked at.
    pub(crate) through: Seq,
    /// Messages that the format has no form for.
    pub(crate) formless_count: u64,
    /// Messages whose time was over.
    pub(crate) expired_count: u64,
    /// Numbers that the log no longer has.
    pub(crate) lost_len: u64,
}

/// Reads what is behind `after`, nothing behind `until`.
///
/// # Errors
///
/// [`ReadError`].
pub(crate) fn read(
    shared: &Shared,
    wanted: &Wanted,
    after: Seq,
    until: Seq,
) -> Result<Stretch, ReadError> {
    let filter = ReadFilter {
        tenant: Some(wanted.tenant.clone()),
        filters: vec![wanted.filter.clone()],
        ..ReadFilter::default()
    };
    let chunk = shared.log.read(after.next(), &filter, wanted.bytes_max)?;
    let through = chunk.next.prev().min(until).max(after);
    let mut stretch = Stretch { through, ..Stretch::default() };
    for found in &chunk.items {
        match found {
            Followed::Entry(entry) if entry.seq > until => break,
            Followed::Entry(entry) => stretch.take(shared, wanted.format, entry),
            // Numbers that a crash took were never a message that anybody was told of.
            Followed::Gap(range, GapReason::Retention | GapReason::Damaged) => {
                let (first, last) =
                    (after.next().0.max(*range.start()), through.0.min(*range.end()));
                stretch.lost_len += (last + 1).saturating_sub(first);
            }
            Followed::Gap(..) => (),
        }
    }
    Ok(stretch)
}

impl Stretch {
    fn take(&mut self, shared: &Shared, format: Format, entry: &Entry) {
        let Some(message) = message_of(entry) else { return };
        if message.is_over(now()) {
            self.expired_count += 1;
            return;
        }
        let marks = Marks { qos: message.qos, retain: message.retain, ..Marks::default() };
        let delivery = Delivery { position: shared.position(entry.seq), message, marks };
        let mut body = vec![b'['];
        match format {
            Format::Native | Format::NativeLines => {
                native::encode_record(&delivery, entry.arrived, &mut body)
            }
            Format::Thingsee => {
                let known = |tenant: &TenantId, device: &str| about(shared, tenant, device);
                thingsee::write_objects(&mut body, &delivery, &thingsee::Ids::default(), &known);
            }
        }
        if body.len() == 1 {
            self.formless_count += 1;
            return;
        }
        let byte_len = body.len();
        self.items.push(Item { seq: entry.seq, byte_len, body: body.into_boxed_slice() });
    }
}

/// A batch of what items hold, each of which begins as if it were the first of an array.
pub(crate) fn batch<'a>(
    format: Format,
    items: impl Iterator<Item = &'a Item<Box<[u8]>>>,
) -> Vec<u8> {
    let mut body = Vec::new();
    let is_lines = format == Format::NativeLines;
    for item in items {
        let own = item.body.split_first().map_or(&[][..], |(_, own)| own);
        if !is_lines {
            body.push(if body.is_empty() { b'[' } else { b',' });
        }
        body.extend_from_slice(own);
        if is_lines {
            body.push(b'\n');
        }
    }
    if !is_lines {
        if body.is_empty() {
            body.push(b'[');
        }
        body.push(b']');
    }
    body
}

/// What a batch is to HTTP.
pub(crate) const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Thingsee | Format::Native => "application/json",
        Format::NativeLines => "application/x-ndjson",
    }
}
