//! What records have said under which number: whether one says again what another did.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};

use crate::id::Id;

/// Records remembered of each producer, the latest ones: several times as many as a worker looks back. Our own transport repeats one
/// batch, of at most some thousands of events.
const MAX_OF_PRODUCER: usize = 131_072;
/// Records remembered of all, some 25 bytes each; beyond it the producers silent for longest are forgotten.
const MAX_RECORDS: usize = 524_288;
/// Down to so many, at once: to find who is silent takes a look at all producers, which may be as many as the records.
const KEPT_RECORDS: usize = MAX_RECORDS / 8 * 7;

/// The numbered records of one partition, as hashes of number, key and value.
#[derive(Debug, Default)]
pub(crate) struct Said {
    known: HashSet<u64>,
    producers: HashMap<u128, Latest>,
    /// Counts records, so that producers can be ordered by when they were last heard of.
    tick: u64,
}

#[derive(Debug, Default)]
struct Latest {
    records: VecDeque<u64>,
    heard: u64,
}

impl Said {
    /// Whether a record with this number said the same.
    pub(crate) fn has(&self, id: Id, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
        self.known.contains(&hash(id, key, value))
    }

    /// Takes a record; false if one with this number has said the same.
    pub(crate) fn take(&mut self, id: Id, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
        let hash = hash(id, key, value);
        self.tick += 1;
        let latest = self.producers.entry(id.producer).or_default();
        latest.heard = self.tick;
        if !self.known.insert(hash) {
            return false;
        }
        latest.records.push_back(hash);
        if latest.records.len() > MAX_OF_PRODUCER
            && let Some(oldest) = latest.records.pop_front()
        {
            self.known.remove(&oldest);
        }
        if self.known.len() > MAX_RECORDS {
            self.forget_silent();
        }
        true
    }

    fn forget_silent(&mut self) {
        let mut heard: Vec<_> = self.producers.iter().map(|(producer, latest)| (latest.heard, *producer)).collect();
        heard.sort_unstable();
        for (_, producer) in heard {
            if self.known.len() <= KEPT_RECORDS {
                break;
            }
            for record in self.producers.remove(&producer).unwrap_or_default().records {
                self.known.remove(&record);
            }
        }
    }
}

fn hash(id: Id, key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u128(id.producer);
    hasher.write_u64(id.sequence);
    for part in [key, value] {
        // No length is as large.
        hasher.write_usize(part.map_or(usize::MAX, <[u8]>::len));
        hasher.write(part.unwrap_or_default());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_by_number_key_and_value_together() {
        let mut said = Said::default();
        let id = |sequence| Id { producer: 7, sequence };
        assert!(said.take(id(0), Some(b"k"), Some(b"v")));
        assert!(!said.take(id(0), Some(b"k"), Some(b"v")));
        for (id, key, value) in [
            (id(1), Some(&b"k"[..]), Some(&b"v"[..])),
            (Id { producer: 8, sequence: 0 }, Some(b"k"), Some(b"v")),
            (id(0), Some(b"kv"), Some(b"")),
            (id(0), Some(b""), Some(b"kv")),
            (id(0), None, Some(b"v")),
            (id(0), Some(b"k"), None),
        ] {
            assert!(!said.has(id, key, value), "{id} {key:?} {value:?}");
            assert!(said.take(id, key, value), "{id} {key:?} {value:?}");
            assert!(said.has(id, key, value), "{id} {key:?} {value:?}");
        }
    }

    #[test]
    fn a_producer_is_remembered_by_its_latest_records_while_others_come_and_go() {
        let mut said = Said::default();
        let take = |said: &mut Said, producer, records| {
            for sequence in 0..records {
                assert!(said.take(Id { producer, sequence }, None, None));
            }
        };
        let has = |said: &Said, producer, sequence| said.has(Id { producer, sequence }, None, None);
        let most = MAX_OF_PRODUCER as u64;
        take(&mut said, 0, most + 1);
        assert!(!has(&said, 0, 0) && has(&said, 0, 1) && has(&said, 0, most));
        let others = (MAX_RECORDS / MAX_OF_PRODUCER) as u128;
        for producer in 1..others {
            take(&mut said, producer, most);
        }
        assert!(has(&said, 0, 1), "there is room for so many");
        take(&mut said, others, 1);
        assert!(
            !has(&said, 0, most) && has(&said, 1, most - 1) && has(&said, others, 0),
            "the first was silent for longest"
        );
        assert_eq!(said.known.len(), MAX_RECORDS - MAX_OF_PRODUCER + 1);
    }
    #[test]
    fn any_number_of_producers_is_remembered_in_a_bound_and_forgotten_in_batches() {
        let mut said = Said::default();
        let most = MAX_RECORDS as u128;
        let batch = (MAX_RECORDS - KEPT_RECORDS) as u128;
        let mut forgotten = 0;
        for producer in 0..most + 2 * batch {
            let before = said.known.len();
            assert!(said.take(Id { producer, sequence: 0 }, None, None));
            forgotten += u32::from(said.known.len() <= before);
            assert!(said.known.len() <= MAX_RECORDS && said.producers.len() <= MAX_RECORDS);
        }
        assert_eq!(forgotten, 2, "a look at all producers for each record would take hours");
        let has = |producer| said.has(Id { producer, sequence: 0 }, None, None);
        assert!(has(most + 2 * batch - 1) && has(2 * batch + 2) && !has(2 * batch + 1));
    }
}
