//! Memory that links hold for themselves under one bound for all: what waits for slow receivers, and
//! unfinished frames.
//!
//! While all together are within the bound, each may hold as much as its own bound says; above it,
//! its fair share; past twice the bound, nothing more. Counts bytes; allocates nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What all hold together.
#[derive(Debug)]
pub(crate) struct Share {
    total_max: usize,
    byte_len: AtomicUsize,
    holder_count: AtomicUsize,
}

impl Share {
    pub(crate) fn new(total_max: u64) -> Arc<Self> {
        Arc::new(Self {
            total_max: usize::try_from(total_max).unwrap_or(usize::MAX),
            byte_len: AtomicUsize::new(0),
            holder_count: AtomicUsize::new(0),
        })
    }

    /// How much one may hold whose own bound is `each_max`.
    pub(crate) fn bound(&self, each_max: usize) -> usize {
        let byte_len = self.byte_len.load(Ordering::Relaxed);
        let holder_count = self.holder_count.load(Ordering::Relaxed);
        // Who is alone may always go on.
        if byte_len <= self.total_max || holder_count <= 1 {
            return each_max;
        }
        if byte_len > self.total_max.saturating_mul(2) {
            return 0;
        }
        each_max.min(self.total_max / holder_count)
    }
}

/// What one link holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<Share>,
    byte_len: usize,
}

impl Held {
    pub(crate) fn new(share: &Arc<Share>) -> Self {
        Self { share: Arc::clone(share), byte_len: 0 }
    }

    /// Notes how much it is now.
    pub(crate) fn set(&mut self, byte_len: usize) {
        let was = std::mem::replace(&mut self.byte_len, byte_len);
        if byte_len == was {
            return;
        }
        let share = &self.share;
        if byte_len > was {
            share.byte_len.fetch_add(byte_len - was, Ordering::Relaxed);
        } else {
            share.byte_len.fetch_sub(was - byte_len, Ordering::Relaxed);
        }
        if was == 0 {
            share.holder_count.fetch_add(1, Ordering::Relaxed);
        } else if byte_len == 0 {
            share.holder_count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether it is more than it may be.
    pub(crate) fn is_above(&self, each_max: usize) -> bool {
        self.byte_len > self.share.bound(each_max)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_the_bound_of_all_each_has_its_fair_share() {
        let share = Share::new(1_000);
        let mut held: Vec<Held> = (0..4).map(|_| Held::new(&share)).collect();
        held.iter_mut().for_each(|held| held.set(250));
        assert_eq!((share.bound(400), held[0].is_above(400)), (400, false));
        held[0].set(251);
        assert_eq!((share.bound(400), share.bound(100)), (250, 100));
        assert!(held[0].is_above(400) && !held[1].is_above(400));
        held[1].set(2_000);
        assert_eq!(share.bound(400), 0);
        held.truncate(1);
        assert_eq!((share.bound(400), share.holder_count.load(Ordering::Relaxed)), (400, 1));
        held.clear();
        let left = [&share.byte_len, &share.holder_count];
        assert_eq!(left.map(|count| count.load(Ordering::Relaxed)), [0, 0]);
    }
}
