//! The retained messages that a filter selects.
//!
//! Invariant: what is looked at under the lock begins with what every topic of the filter begins with.

use std::{
    collections::BTreeMap,
    ops::Bound::{Included, Unbounded},
    sync::Arc,
};

use fieldgate_core::{
    id::TenantId,
    topic::{Filter, Topic},
};

use super::State;
use crate::record::{Entry, Record};

impl State {
    /// The retained messages that `filter` selects, by topic.
    #[must_use]
    pub fn retained(&self, tenant: &TenantId, filter: &Filter) -> Vec<Arc<Entry>> {
        let inner = self.read();
        let Some(tenant) = inner.tenants.get(tenant) else { return Vec::new() };
        selected(&tenant.retained, filter).map(Arc::clone).collect()
    }

    /// Whether this is still the retained message of its topic.
    #[must_use]
    pub fn is_retained(&self, entry: &Entry) -> bool {
        let Record::Message(message) = &entry.record else { return false };
        let inner = self.read();
        let retained = inner.tenants.get(&message.tenant).map(|tenant| &tenant.retained);
        let of_topic = retained.and_then(|retained| retained.get(&message.topic));
        of_topic.is_some_and(|retained| retained.seq == entry.seq)
    }
}

/// What a filter selects, in the order of topics.
fn selected<'a, T>(
    all: &'a BTreeMap<Topic, T>,
    filter: &'a Filter,
) -> impl Iterator<Item = &'a T> + use<'a, T> {
    let prefix = filter.prefix();
    // The only topic without a wildcard; with one, what `a/#` selects before all below `a/`.
    let name = prefix.map_or(Some(filter.as_str()), |prefix| prefix.strip_suffix('/'));
    let alone = name.and_then(|name| all.get_key_value(name));
    let below = prefix.into_iter().flat_map(|prefix| {
        let behind = all.range::<str, _>((Included(prefix), Unbounded));
        behind.take_while(move |(topic, _)| topic.as_str().starts_with(prefix))
    });
    let candidates = alone.into_iter().chain(below);
    candidates.filter(|(topic, _)| filter.matches(topic)).map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(names: &[&str]) -> BTreeMap<Topic, String> {
        names.iter().map(|name| (name.parse().unwrap(), (*name).to_owned())).collect()
    }

    #[test]
    fn the_topic_above_a_filter_is_selected_before_those_below() {
        let all = all(&["a", "a-b", "a/", "a/b", "a/b/c", "a0", "b", "$a/b", "/a"]);
        let names = |filter: &str| -> Vec<String> {
            selected(&all, &filter.parse().unwrap()).cloned().collect()
        };
        assert_eq!(names("a/#"), ["a", "a/", "a/b", "a/b/c"]);
        assert_eq!(names("a/+"), ["a/", "a/b"]);
        assert_eq!(names("a/b"), ["a/b"]);
        assert_eq!(names("+/b"), ["a/b"]);
        assert_eq!(names("/#"), ["/a"]);
        assert_eq!(names("#").len(), 8);
    }

    proptest! {
        #[test]
        fn what_is_selected_is_what_a_look_at_all_finds(
            topics in proptest::collection::btree_set("[$a/\\-0]{1,5}", 0..60),
            filter in "([$a\\-0]{0,2}|\\+)(/([$a\\-0]{0,2}|\\+)){0,3}(/#)?|#",
        ) {
            prop_assume!(!filter.is_empty());
            let all: BTreeMap<Topic, String> =
                topics.into_iter().map(|name| (name.parse().unwrap(), name)).collect();
            let filter: Filter = filter.parse().unwrap();
            let looked: Vec<&String> =
                all.iter().filter(|(topic, _)| filter.matches(topic)).map(|(_, name)| name).collect();
            prop_assert_eq!(selected(&all, &filter).collect::<Vec<_>>(), looked);
        }
    }
}
