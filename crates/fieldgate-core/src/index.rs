//! Which subscriptions a topic reaches: filters in a trie by level.
//!
//! Pure. A look-up walks only branches that match, so filters that do not match cost nothing.
//! Invariant: a node without entry and children is removed.

use std::collections::HashMap;

use crate::topic::{Filter, Topic};

/// Subscriptions by filter; `T` names a subscriber.
#[derive(Debug)]
pub struct Index<T> {
    root: Node<T>,
    len: usize,
}

#[derive(Debug)]
struct Node<T> {
    children: HashMap<Box<str>, Self>,
    plus: Option<Box<Self>>,
    entries: Vec<T>,
    rest: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { children: HashMap::new(), plus: None, entries: Vec::new(), rest: Vec::new() }
    }
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { root: Node::default(), len: 0 }
    }
}

impl<T: Copy + Eq> Index<T> {
    /// How many subscriptions there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a subscription. The same one twice is one.
    pub fn insert(&mut self, filter: &Filter, subscriber: T) {
        let mut node = &mut self.root;
        for level in filter.levels() {
            if level == "#" {
                return push(&mut node.rest, subscriber, &mut self.len);
            }
            node = if level == "+" {
                node.plus.get_or_insert_default()
            } else {
                node.children.entry(level.into()).or_default()
            };
        }
        push(&mut node.entries, subscriber, &mut self.len);
    }

    /// Removes a subscription; tells whether it was there.
    pub fn remove(&mut self, filter: &Filter, subscriber: T) -> bool {
        let levels: Vec<&str> = filter.levels().collect();
        let removed = self.root.remove(&levels, subscriber);
        self.len -= usize::from(removed);
        removed
    }

    /// Calls `found` for each subscription that `topic` reaches; once for each of its filters.
    pub fn matches(&self, topic: &Topic, found: &mut impl FnMut(T)) {
        let system = topic.as_str().starts_with('$');
        self.root.find(Some(topic.as_str()), system, found);
    }
}

fn push<T: Eq>(list: &mut Vec<T>, subscriber: T, len: &mut usize) {
    if !list.contains(&subscriber) {
        list.push(subscriber);
        *len += 1;
    }
}

impl<T: Copy + Eq> Node<T> {
    /// `rest` is what is left of the topic; `system` keeps wildcards from `$` topics at the root.
    fn find(&self, rest: Option<&str>, system: bool, found: &mut impl FnMut(T)) {
        if !system {
            self.rest.iter().copied().for_each(&mut *found);
        }
        let Some(rest) = rest else {
            return self.entries.iter().copied().for_each(found);
        };
        let (level, rest) = match rest.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (rest, None),
        };
        if let Some(child) = self.children.get(level) {
            child.find(rest, false, found);
        }
        if let Some(plus) = self.plus.as_ref().filter(|_| !system) {
            plus.find(rest, false, found);
        }
    }

    fn remove(&mut self, levels: &[&str], subscriber: T) -> bool {
        let take = |list: &mut Vec<T>| {
            let at = list.iter().position(|entry| *entry == subscriber);
            at.map(|at| list.swap_remove(at)).is_some()
        };
        match levels {
            [] => take(&mut self.entries),
            ["#"] => take(&mut self.rest),
            ["+", rest @ ..] => {
                let Some(plus) = &mut self.plus else { return false };
                let removed = plus.remove(rest, subscriber);
                if plus.is_vacant() {
                    self.plus = None;
                }
                removed
            }
            [level, rest @ ..] => {
                let Some(child) = self.children.get_mut(*level) else { return false };
                let removed = child.remove(rest, subscriber);
                if child.is_vacant() {
                    self.children.remove(*level);
                }
                removed
            }
        }
    }

    fn is_vacant(&self) -> bool {
        self.entries.is_empty()
            && self.rest.is_empty()
            && self.children.is_empty()
            && self.plus.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reached(index: &Index<usize>, topic: &Topic) -> Vec<usize> {
        let mut found = Vec::new();
        index.matches(topic, &mut |subscriber| found.push(subscriber));
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn the_index_says_what_each_filter_says(
            filters in proptest::collection::vec(r"(\$?[ab]?|\+)(/([ab]?|\+)){0,3}(/#)?", 1..20),
            topics in proptest::collection::vec(r"\$?[ab]?(/[ab]?){0,3}", 1..10),
        ) {
            let filters: Vec<Filter> = filters.iter().filter_map(|f| f.parse().ok()).collect();
            let mut index = Index::default();
            for (id, filter) in filters.iter().enumerate() {
                index.insert(filter, id);
            }
            for topic in topics.iter().filter_map(|t| t.parse::<Topic>().ok()) {
                let expected: Vec<usize> = (0..filters.len())
                    .filter(|id| filters[*id].matches(&topic)).collect();
                prop_assert_eq!(reached(&index, &topic), expected, "{}", topic);
            }
            for (id, filter) in filters.iter().enumerate() {
                prop_assert!(index.remove(filter, id));
            }
            prop_assert!(index.is_empty() && index.root.is_vacant());
        }
    }

    #[test]
    fn one_subscriber_stands_once_under_one_filter() {
        let mut index = Index::default();
        let filter = "a/#".parse().unwrap();
        index.insert(&filter, 1);
        index.insert(&filter, 1);
        assert_eq!(index.len(), 1);
        assert!(!index.remove(&"a/+".parse().unwrap(), 1));
    }
}
