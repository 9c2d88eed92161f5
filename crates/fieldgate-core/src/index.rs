//! The subscription index: filters in, the subscribers of a topic out.
//!
//! Pure. A trie over the levels of filters. The cost of a match follows from the topic's levels and
//! the subscribers found, not from how many filters do not match; a match allocates nothing.
//! Absent: de-duplication between filters (a subscriber with two filters that match is named
//! twice). Invariant: no node without a subscriber at or below it, except the root.

use std::{collections::HashMap, fmt, str::Split};

use crate::topic::{Filter, Topic};

/// Up to so many children a scan is quicker and smaller than a table.
const SCANNED_CHILDREN_MAX: usize = 4;

/// Who subscribed to what. `T` is a cheap handle; one filter holds each handle once.
#[derive(Clone)]
pub struct Index<T> {
    root: Node<T>,
    len: usize,
}

#[derive(Clone)]
struct Node<T> {
    /// Children by literal level.
    children: Children<T>,
    /// The child for `+`.
    any: Option<Box<Self>>,
    /// Subscribers of the filter that ends here.
    here: Vec<T>,
    /// Subscribers of the filter that goes on with `#`.
    below: Vec<T>,
}

#[derive(Clone)]
enum Children<T> {
    Few(Vec<(Box<str>, Box<Node<T>>)>),
    Many(HashMap<Box<str>, Box<Node<T>>>),
}

impl<T: Copy + Eq> Index<T> {
    /// Makes an empty index.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Node::new(), len: 0 }
    }

    /// Tells how many pairs of filter and subscriber there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Tells whether nobody subscribed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `subscriber` to `filter`; `false` if it was there.
    ///
    /// Looks at every subscriber of this very filter.
    pub fn insert(&mut self, filter: &Filter, subscriber: T) -> bool {
        let subscribers = self.root.subscribers_mut(filter.as_str().split('/'));
        if subscribers.contains(&subscriber) {
            return false;
        }
        if subscribers.is_empty() {
            // Most filters have one subscriber; growing by doubling starts at four.
            subscribers.reserve_exact(1);
        }
        subscribers.push(subscriber);
        self.len += 1;
        true
    }

    /// Takes `subscriber` from `filter` and frees what only it needed; `false` if it was not there.
    pub fn remove(&mut self, filter: &Filter, subscriber: T) -> bool {
        let removed = self.root.remove(filter.as_str().split('/'), subscriber);
        self.len -= usize::from(removed);
        removed
    }

    /// Names every subscriber of every filter that selects `topic`, as [`Filter::matches`] says.
    pub fn matches(&self, topic: &Topic, mut found: impl FnMut(T)) {
        self.root.matches(topic.as_str().split('/'), true, &mut found);
    }
}

impl<T: Copy + Eq> Node<T> {
    const fn new() -> Self {
        Self { children: Children::Few(Vec::new()), any: None, here: Vec::new(), below: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty()
            && self.below.is_empty()
            && self.any.is_none()
            && self.children.is_empty()
    }

    /// Finds the list where a filter with these levels keeps its subscribers, making the way there.
    fn subscribers_mut(&mut self, mut levels: Split<'_, char>) -> &mut Vec<T> {
        match levels.next() {
            None => &mut self.here,
            Some("#") => &mut self.below,
            Some("+") => {
                self.any.get_or_insert_with(|| Box::new(Self::new())).subscribers_mut(levels)
            }
            Some(level) => self.children.get_or_insert(level).subscribers_mut(levels),
        }
    }

    fn remove(&mut self, mut levels: Split<'_, char>, subscriber: T) -> bool {
        match levels.next() {
            None => remove_from(&mut self.here, subscriber),
            Some("#") => remove_from(&mut self.below, subscriber),
            Some("+") => {
                let removed =
                    self.any.as_mut().is_some_and(|child| child.remove(levels, subscriber));
                self.any.take_if(|child| child.is_empty());
                removed
            }
            Some(level) => {
                let Some(child) = self.children.get_mut(level) else { return false };
                let removed = child.remove(levels, subscriber);
                if child.is_empty() {
                    self.children.remove(level);
                }
                removed
            }
        }
    }

    fn matches(&self, mut levels: Split<'_, char>, first: bool, found: &mut impl FnMut(T)) {
        let Some(level) = levels.next() else {
            self.below.iter().chain(&self.here).copied().for_each(found);
            return;
        };
        if !(first && level.starts_with('$')) {
            self.below.iter().copied().for_each(&mut *found);
            if let Some(any) = &self.any {
                any.matches(levels.clone(), false, found);
            }
        }
        if let Some(child) = self.children.get(level) {
            child.matches(levels, false, found);
        }
    }
}

impl<T: Copy + Eq> Children<T> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    fn get(&self, level: &str) -> Option<&Node<T>> {
        match self {
            Self::Few(few) => few.iter().find(|(name, _)| **name == *level).map(|(_, child)| child),
            Self::Many(many) => many.get(level),
        }
        .map(AsRef::as_ref)
    }

    fn get_mut(&mut self, level: &str) -> Option<&mut Node<T>> {
        match self {
            Self::Few(few) => {
                few.iter_mut().find(|(name, _)| **name == *level).map(|(_, child)| child)
            }
            Self::Many(many) => many.get_mut(level),
        }
        .map(AsMut::as_mut)
    }

    fn get_or_insert(&mut self, level: &str) -> &mut Node<T> {
        if let Self::Few(few) = self
            && few.len() >= SCANNED_CHILDREN_MAX
            && few.iter().all(|(name, _)| **name != *level)
        {
            *self = Self::Many(std::mem::take(few).into_iter().collect());
        }
        match self {
            Self::Few(few) => {
                let at = few.iter().position(|(name, _)| **name == *level);
                let at = at.unwrap_or_else(|| {
                    few.reserve_exact(1);
                    few.push((level.into(), Box::new(Node::new())));
                    few.len() - 1
                });
                #[expect(clippy::indexing_slicing, reason = "the place was found or made above")]
                &mut few[at].1
            }
            Self::Many(many) => many.entry(level.into()).or_insert_with(|| Box::new(Node::new())),
        }
    }

    fn remove(&mut self, level: &str) {
        match self {
            Self::Few(few) => few.retain(|(name, _)| **name != *level),
            Self::Many(many) => {
                many.remove(level);
                if many.capacity() > 64 && many.len() < many.capacity() / 4 {
                    many.shrink_to(many.len() * 2);
                }
            }
        }
    }
}

fn remove_from<T: Copy + Eq>(subscribers: &mut Vec<T>, subscriber: T) -> bool {
    let Some(at) = subscribers.iter().position(|other| *other == subscriber) else { return false };
    subscribers.remove(at);
    if subscribers.len() < subscribers.capacity() / 4 {
        subscribers.shrink_to(subscribers.len() * 2);
    }
    true
}

impl<T: Copy + Eq> Default for Index<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Index<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(index: &Index<u32>, topic: &str) -> Vec<u32> {
        let mut found = Vec::new();
        index.matches(&topic.parse().unwrap(), |subscriber| found.push(subscriber));
        found.sort_unstable();
        found
    }

    fn index(filters: &[&str]) -> Index<u32> {
        let mut index = Index::new();
        for (subscriber, filter) in (0..).zip(filters) {
            assert!(index.insert(&filter.parse().unwrap(), subscriber));
        }
        index
    }

    #[test]
    fn wildcards_and_dollar_topics_select_as_the_standard_says() {
        let index = index(&["#", "+/b", "a/#", "a/b", "$SYS/#", "+/+", "a", "$SYS/+"]);
        assert_eq!(found(&index, "a/b"), [0, 1, 2, 3, 5]);
        assert_eq!(found(&index, "a"), [0, 2, 6]);
        assert_eq!(found(&index, "$SYS/b"), [4, 7]);
        assert_eq!(found(&index, "c/$b"), [0, 5]);
        assert_eq!(found(&index, "/"), [0, 5]);
    }

    #[test]
    fn a_subscriber_stands_once_on_a_filter() {
        let mut index = index(&["a/+"]);
        assert!(!index.insert(&"a/+".parse().unwrap(), 0));
        assert_eq!((index.len(), found(&index, "a/b")), (1, vec![0]));
    }

    #[test]
    fn removing_all_leaves_no_node() {
        let filters = ["a/b/c/d", "a/+/c", "a/#", "#", "x", "y", "z", "v", "w"];
        let mut index = index(&filters);
        assert!(!index.remove(&"a/b".parse().unwrap(), 0));
        for (subscriber, filter) in (0..).zip(filters) {
            assert!(!index.remove(&filter.parse().unwrap(), 77));
            assert!(index.remove(&filter.parse().unwrap(), subscriber));
        }
        assert!(index.is_empty() && index.root.is_empty());
    }

    fn filter() -> impl Strategy<Value = Filter> {
        ("(\\+|[a-h]|\\$s|)(/(\\+|[a-h]|))(/(\\+|[a-h]|)){0,2}(/#)?|#|\\+|[a-h]|\\$s/#")
            .prop_map(|text| text.parse().unwrap())
    }

    fn topic() -> impl Strategy<Value = Topic> {
        "([a-h]|\\$s)(/([a-h]|\\$s|)){0,4}".prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn the_index_finds_what_the_filters_select(
            steps in prop::collection::vec((any::<bool>(), filter(), 0..4_u32), 0..60),
            topics in prop::collection::vec(topic(), 1..20),
        ) {
            let mut index = Index::new();
            let mut naive: Vec<(Filter, u32)> = Vec::new();
            for (add, filter, subscriber) in steps {
                let pair = (filter.clone(), subscriber);
                let known = naive.contains(&pair);
                if add {
                    prop_assert_eq!(index.insert(&filter, subscriber), !known);
                    naive.extend((!known).then_some(pair));
                } else {
                    prop_assert_eq!(index.remove(&filter, subscriber), known);
                    naive.retain(|other| *other != pair);
                }
                prop_assert_eq!(index.len(), naive.len());
            }
            for topic in topics {
                let selected = naive.iter().filter(|(filter, _)| filter.matches(&topic));
                let mut expected: Vec<u32> = selected.map(|(_, subscriber)| *subscriber).collect();
                expected.sort_unstable();
                prop_assert_eq!(found(&index, topic.as_str()), expected);
            }
        }
    }
}
