//! Deadlines by what they are for, and in the order in which they come.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use tokio::time::Instant;

/// At most one deadline per key. The next one is at hand, and a heartbeat moves its own without a look at the others.
#[derive(Debug)]
pub(super) struct Deadlines<K> {
    by_key: HashMap<K, Instant>,
    in_order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), in_order: BTreeSet::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Deadlines<K> {
    /// Sets the deadline of `key`, instead of the one it had; `None` takes it away.
    pub(super) fn set(&mut self, key: &K, at: Option<Instant>) {
        if self.by_key.get(key).copied() == at {
            return;
        }
        if let Some((key, old)) = self.by_key.remove_entry(key) {
            self.in_order.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_key.insert(key.clone(), at);
            self.in_order.insert((at, key.clone()));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// Takes the earliest away, if it has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.in_order.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_key_has_its_latest_deadline_only() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut deadlines = Deadlines::default();
        deadlines.set(&"a", Some(at(1)));
        deadlines.set(&"b", Some(at(2)));
        deadlines.set(&"a", Some(at(3)));
        assert_eq!(deadlines.next(), Some(at(2)));
        assert_eq!(deadlines.take_due(at(1)), None);
        assert_eq!(deadlines.take_due(at(3)), Some("b"));
        assert_eq!(deadlines.take_due(at(3)), Some("a"));
        assert_eq!((deadlines.take_due(at(9)), deadlines.next()), (None, None));
    }

    #[test]
    fn a_deadline_that_was_taken_away_never_comes() {
        let now = Instant::now();
        let mut deadlines = Deadlines::default();
        deadlines.set(&"a", Some(now));
        deadlines.set(&"a", None);
        deadlines.set(&"b", None);
        assert_eq!((deadlines.next(), deadlines.take_due(now)), (None, None));
    }
}
