//! Which records a reader wants, told by their bytes: most are somebody else's, and need not be made to
//! know that.

use fieldgate_core::{id::UnixMs, topic::Filter};

use crate::{codec, port::ReadFilter};

/// A filter, with what is looked at for each record at hand.
pub(super) struct Selection<'a> {
    filter: &'a ReadFilter,
    tenant: Option<&'a [u8]>,
    topics: Vec<Topics<'a>>,
}

/// A filter over topics, and what stands before its first wildcard.
struct Topics<'a> {
    fixed: &'a [u8],
    /// Whether behind that nothing but `#` stands.
    all_below: bool,
    filter: &'a Filter,
}

impl<'a> Selection<'a> {
    pub(super) fn of(filter: &'a ReadFilter) -> Self {
        let fixed = |filter: &'a Filter| {
            let text = filter.as_str();
            let end = text.find(['+', '#']).unwrap_or(text.len());
            let (fixed, wild) = text.split_at(end);
            // What begins with a level does not begin with a wildcard: `$…` is not asked about.
            let all_below = wild == "#" && !fixed.is_empty();
            Topics { fixed: fixed.as_bytes(), all_below, filter }
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
            && (self.topics.is_empty() || self.topics.iter().any(|wanted| wanted.select(topic)))
            && self.filter.is_in_time(arrived);
        Some(wanted)
    }
}

impl Topics<'_> {
    fn select(&self, topic: &[u8]) -> bool {
        // Names differ at their ends first.
        let last = self.fixed.len().wrapping_sub(1);
        let may_begin = self.fixed.is_empty() || topic.get(last) == self.fixed.last();
        // `a/#` selects `a`, too.
        let begins = may_begin && topic.starts_with(self.fixed)
            || topic.len() == last && self.fixed.strip_suffix(b"/") == Some(topic);
        let matches = || std::str::from_utf8(topic).is_ok_and(|t| self.filter.matches_name(t));
        begins && (self.all_below || matches())
    }
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
