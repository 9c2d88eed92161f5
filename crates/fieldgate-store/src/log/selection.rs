//! Which records a reader wants, told by their bytes: most are somebody else's, and need not be made to
//! know that.

use fieldgate_core::{id::UnixMs, topic::Filter};

use crate::{codec, port::ReadFilter};

/// A filter, with what is looked at for each record at hand.
pub(super) struct Selection<'a> {
    filter: &'a ReadFilter,
    tenant: Option<&'a [u8]>,
    /// Each filter, and what stands before its first wildcard.
    topics: Vec<(&'a [u8], &'a Filter)>,
}

impl<'a> Selection<'a> {
    pub(super) fn of(filter: &'a ReadFilter) -> Self {
        let fixed = |filter: &'a Filter| {
            let text = filter.as_str();
            let end = text.find(['+', '#']).unwrap_or(text.len());
            (text.as_bytes().get(..end).unwrap_or_default(), filter)
        };
        Self {
            filter,
            tenant: filter.tenant.as_ref().map(|tenant| tenant.as_str().as_bytes()),
            topics: filter.filters.iter().map(fixed).collect(),
        }
    }

    /// Whether the reader sees what these bytes are the record of; `None`: the record has to be made to
    /// know.
    pub(super) fn selects(&self, arrived: UnixMs, body: &[u8]) -> Option<bool> {
        let (tenant, topic) = codec::names(body)?;
        let wanted = self.tenant.is_none_or(|wanted| wanted == tenant)
            && (self.topics.is_empty() || self.topics.iter().any(|t| matches(*t, topic)))
            && self.filter.is_in_time(arrived);
        Some(wanted)
    }
}

fn matches((fixed, filter): (&[u8], &Filter), topic: &[u8]) -> bool {
    // `a/#` selects `a`, too.
    let begins = topic.starts_with(fixed) || fixed.strip_suffix(b"/") == Some(topic);
    begins && std::str::from_utf8(topic).is_ok_and(|name| filter.matches_name(name))
}

#[cfg(test)]
mod tests {
    use fieldgate_core::{
        id::{Seq, TenantId},
        message::Qos,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{record::Entry, testing::message_at};

    proptest! {
        #[test]
        fn bytes_tell_what_the_record_tells(
            topic in "[ab$]{1,2}(/[ab]{0,1}){0,3}", wanted in "(\\+|a|b)(/(\\+|a|b)){0,2}(/#)?",
            from in 0..4u64, until in 0..4u64, arrived in 0..4u64, other: bool,
        ) {
            let Ok(wanted) = wanted.parse::<Filter>() else { return Ok(()) };
            let tenant = if other { "other".parse().unwrap() } else { TenantId::default_tenant() };
            let filter = ReadFilter {
                tenant: Some(tenant),
                filters: vec!["none".parse().unwrap(), wanted],
                arrived_from: Some(UnixMs(from)),
                arrived_until: Some(UnixMs(until)),
            };
            let record = message_at(&topic, Qos::AtLeastOnce, "{}");
            let mut body = Vec::new();
            codec::encode(&record, &mut body);
            let entry = Entry { seq: Seq(1), arrived: UnixMs(arrived), record };
            let selects = Selection::of(&filter).selects(UnixMs(arrived), &body);
            prop_assert_eq!(selects, Some(filter.selects(&entry)));
        }
    }
}
