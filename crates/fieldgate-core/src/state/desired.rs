//! What a device is wished to be in: `desired`, resource by resource.
//!
//! Pure. In: merge patches and removals, in the order of their numbers. Out: for each resource the value
//! wished for, and which message wished it. Source: `resources.md` 4. Absent: whether a value fits the
//! device, which its profile says. Invariant: as of [`super::Reported`].

use std::collections::BTreeMap;

use super::{Bounds, RESOURCE_BYTES, patch};
use crate::{id::Seq, json};

/// How much may be wished of one device: as many resources as one command sets.
pub const WISHES: Bounds = Bounds { resources_max: 100, bytes_max: 32 << 10 };

/// What is wished of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// One JSON value.
    pub value: Box<str>,
    /// The number of the message that wished it last.
    pub seq: Seq,
}

/// What is wished of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    wishes: BTreeMap<Box<str>, Wish>,
    byte_len: usize,
    taken: Seq,
}

fn byte_len(name: &str, wish: &Wish) -> usize {
    RESOURCE_BYTES + name.len() + wish.value.len()
}

impl Desired {
    /// What was kept elsewhere: the number of its last change, and every wish. Nothing if a name
    /// occurs twice.
    #[must_use]
    pub fn of_parts(taken: Seq, parts: Vec<(Box<str>, Wish)>) -> Option<Self> {
        let count = parts.len();
        let byte_len = parts.iter().map(|(name, wish)| byte_len(name, wish)).sum();
        let wishes: BTreeMap<_, _> = parts.into_iter().collect();
        (wishes.len() == count).then_some(Self { wishes, byte_len, taken })
    }

    /// The number of its last change. Messages up to it change nothing.
    #[must_use]
    pub const fn taken(&self) -> Seq {
        self.taken
    }

    /// Every wish by name.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (&str, &Wish)> {
        self.wishes.iter().map(|(name, wish)| (&**name, wish))
    }

    /// What is wished of one resource.
    #[must_use]
    pub fn wish(&self, name: &str) -> Option<&Wish> {
        self.wishes.get(name)
    }

    /// Whether nothing is wished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wishes.is_empty()
    }

    /// Takes a merge patch in (RFC 7396: null withdraws); how many of its values had no room. Where a
    /// value has none, nothing is wished of its resource.
    pub fn take(&mut self, seq: Seq, patch: &str, bounds: Bounds) -> usize {
        if seq <= self.taken {
            return 0;
        }
        self.taken = seq;
        let mut refused_count = 0;
        for member in json::members(patch).unwrap_or_default() {
            let Some(name) = member.name else { continue };
            let before = self.remove(&name);
            if member.value == "null" {
                continue;
            }
            let before = before.as_ref().map(|wish| &*wish.value);
            let wish = Wish { value: patch::merge(before, member.value).into(), seq };
            let byte_len = self.byte_len + byte_len(&name, &wish);
            if self.wishes.len() >= bounds.resources_max || byte_len > bounds.bytes_max {
                refused_count += 1;
                continue;
            }
            self.byte_len = byte_len;
            self.wishes.insert(name.into(), wish);
        }
        refused_count
    }

    /// Keeps only wishes of which `keep` says so; how many go.
    pub fn retain(&mut self, seq: Seq, mut keep: impl FnMut(&str, &Wish) -> bool) -> usize {
        let gone = self.wishes.iter().filter(|(name, wish)| !keep(name, wish));
        let gone: Vec<Box<str>> = gone.map(|(name, _)| name.clone()).collect();
        for name in &gone {
            self.remove(name);
            self.taken = self.taken.max(seq);
        }
        gone.len()
    }

    /// A resource that a patch names and that somebody wished something of behind `seq`.
    #[must_use]
    pub fn newer<'a>(&self, patch: &'a str, seq: Seq) -> Option<std::borrow::Cow<'a, str>> {
        let names = json::members(patch).unwrap_or_default().into_iter();
        let mut names = names.filter_map(|member| member.name);
        names.find(|name| self.wishes.get(&**name).is_some_and(|wish| wish.seq > seq))
    }

    fn remove(&mut self, name: &str) -> Option<Wish> {
        let wish = self.wishes.remove(name)?;
        self.byte_len -= byte_len(name, &wish);
        Some(wish)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn told(desired: &Desired) -> Vec<String> {
        let one = |(name, wish): (&str, &Wish)| format!("{name}={}@{}", wish.value, wish.seq.0);
        desired.all().map(one).collect()
    }

    #[test]
    fn the_last_wish_counts_and_null_withdraws_it() {
        let mut desired = Desired::default();
        assert_eq!(desired.take(Seq(3), r#"{"on":true,"s":{"a":1,"b":null}}"#, WISHES), 0);
        assert_eq!(desired.take(Seq(2), r#"{"on":false}"#, WISHES), 0);
        assert_eq!(told(&desired), ["on=true@3", r#"s={"a":1}@3"#]);
        desired.take(Seq(5), r#"{"s":{"a":null,"c":[1.50]},"x":1,"none":null}"#, WISHES);
        assert_eq!(told(&desired), ["on=true@3", r#"s={"c":[1.50]}@5"#, "x=1@5"]);
        assert_eq!(desired.newer(r#"{"on":null,"x":2}"#, Seq(3)).as_deref(), Some("x"));
        assert_eq!(desired.newer(r#"{"on":null,"y":2}"#, Seq(3)), None);
        desired.take(Seq(6), r#"{"on":null,"s":null}"#, WISHES);
        assert_eq!((told(&desired), desired.taken()), (vec!["x=1@5".to_owned()], Seq(6)));
        assert_eq!(desired.retain(Seq(7), |_, _| true), 0);
        assert_eq!(desired.taken(), Seq(6));
        assert_eq!((desired.retain(Seq(7), |_, _| false), desired.taken()), (1, Seq(7)));
        assert_eq!((desired.is_empty(), desired.byte_len), (true, 0));
    }

    #[test]
    fn what_has_no_room_is_not_wished_and_takes_the_older_wish_along() {
        let bounds = Bounds { resources_max: 2, bytes_max: 2 * RESOURCE_BYTES + 8 };
        let mut desired = Desired::default();
        assert_eq!(desired.take(Seq(1), r#"{"a":1,"b":2,"c":3}"#, bounds), 1);
        assert_eq!(desired.take(Seq(2), r#"{"a":"longer"}"#, bounds), 1);
        assert_eq!(told(&desired), ["b=2@1"]);
        assert_eq!(desired.take(Seq(3), r#"{"c":3}"#, bounds), 0);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Into::into),
            (0..5).prop_map(Into::into)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        })
    }

    /// The pseudo code of RFC 7396.
    fn merge_patch(target: Value, patch: &Value) -> Value {
        let Value::Object(changes) = patch else { return patch.clone() };
        let mut target = if let Value::Object(target) = target { target } else { Map::new() };
        for (name, change) in changes {
            let old = target.remove(name);
            if !change.is_null() {
                target.insert(name.clone(), merge_patch(old.unwrap_or(Value::Null), change));
            }
        }
        Value::Object(target)
    }

    proptest! {
        #[test]
        fn patches_are_merged_as_the_standard_says(patches in prop::collection::vec(
            prop::collection::btree_map("[a-e]", value(), 0..4), 0..6,
        )) {
            let (mut desired, mut model) = (Desired::default(), Value::Object(Map::new()));
            for (seq, patch) in (1..).zip(patches) {
                let patch = Value::Object(patch.into_iter().collect());
                desired.take(Seq(seq), &patch.to_string(), WISHES);
                model = merge_patch(model, &patch);
            }
            let read = |(name, wish): (&str, &Wish)| {
                (name.to_owned(), serde_json::from_str(&wish.value).unwrap())
            };
            let taken: Map<String, Value> = desired.all().map(read).collect();
            prop_assert_eq!(Value::Object(taken), model);
            let sum: usize = desired.all().map(|(name, wish)| byte_len(name, wish)).sum();
            prop_assert_eq!(desired.byte_len, sum);
        }
    }
}
