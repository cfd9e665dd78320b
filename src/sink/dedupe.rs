//! What has been seen of each producer: whether a record's number is new, or was used before.

use std::collections::HashMap;

/// Producers remembered in memory; each start of a transport is one. The metadata carries fewer: see [`crate::metadata`].
pub const MAX_PRODUCERS: usize = 1024;

/// What a sequence number says about its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To be written.
    New,
    /// Not above the last: to be dropped and counted, if the record is the same as the one that had the number before. That is for the
    /// caller to find out; here it changes nothing.
    Behind,
    /// To be written; but `missing` records of this producer before it were never seen.
    ///
    /// For a producer not known yet this is an upper bound: it may have been forgotten, or reading may have begun in its midst.
    Gap {
        /// How many.
        missing: u64,
    },
}

/// The last sequence number of every producer of one partition.
///
/// A producer numbers its records of a partition from 0 without gaps, and sends them in order; so what is not above the last is a
/// repetition, or was not counted for this partition, or was sent by somebody else in the producer's name.
#[derive(Debug, Clone, Default)]
pub struct Dedupe {
    index: HashMap<u128, usize>,
    producers: Vec<Producer>,
    /// Where the latest record's producer stands: mostly the next record's as well.
    latest: usize,
    /// Counts records, so that producers can be ordered by when they were last heard of.
    tick: u64,
    forgotten: u64,
}

#[derive(Debug, Clone, Copy)]
struct Producer {
    id: u128,
    last: u64,
    heard: u64,
}

impl Dedupe {
    /// Remembers these producers and their last sequence numbers, the one heard of most recently last.
    pub fn restore(last_sequences: impl IntoIterator<Item = (u128, u64)>) -> Self {
        let mut dedupe = Self::default();
        for (producer, last) in last_sequences {
            dedupe.observe(producer, last);
        }
        dedupe
    }

    /// Whether a number is not above the last of its producer.
    #[inline]
    pub fn is_behind(&self, producer: u128, sequence: u64) -> bool {
        let at = match self.producers.get(self.latest) {
            Some(latest) if latest.id == producer => Some(&self.latest),
            _ => self.index.get(&producer),
        };
        at.is_some_and(|at| sequence <= self.producers[*at].last)
    }

    /// Judges the next record in the order of offsets, and remembers it.
    #[inline]
    pub fn seen(&mut self, producer: u128, sequence: u64) -> Verdict {
        self.tick += 1;
        let at = match self.producers.get(self.latest) {
            Some(latest) if latest.id == producer => self.latest,
            _ => match self.index.get(&producer) {
                Some(&at) => at,
                None => {
                    self.insert(producer, sequence);
                    return if sequence == 0 { Verdict::New } else { Verdict::Gap { missing: sequence } };
                }
            },
        };
        self.latest = at;
        let Producer { last, heard, .. } = &mut self.producers[at];
        *heard = self.tick;
        if sequence <= *last {
            return Verdict::Behind;
        }
        let missing = sequence - *last - 1;
        *last = sequence;
        if missing == 0 { Verdict::New } else { Verdict::Gap { missing } }
    }

    /// Remembers a record that is known to be written, without judging it.
    pub fn observe(&mut self, producer: u128, sequence: u64) {
        self.seen(producer, sequence);
    }

    /// Every producer and its last sequence number, the one heard of most recently last.
    pub fn last_sequences(&self) -> Vec<(u128, u64)> {
        let mut producers = self.producers.clone();
        producers.sort_unstable_by_key(|producer| producer.heard);
        producers.into_iter().map(|producer| (producer.id, producer.last)).collect()
    }

    /// How many producers were forgotten because there were more than [`MAX_PRODUCERS`].
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn insert(&mut self, id: u128, sequence: u64) {
        let producer = Producer { id, last: sequence, heard: self.tick };
        if self.producers.len() < MAX_PRODUCERS {
            self.latest = self.producers.len();
            self.producers.push(producer);
        } else {
            let oldest = (0..self.producers.len()).min_by_key(|&at| self.producers[at].heard).unwrap_or_default();
            self.index.remove(&self.producers[oldest].id);
            self.producers[oldest] = producer;
            self.latest = oldest;
            self.forgotten += 1;
        }
        self.index.insert(id, self.latest);
    }
}

impl PartialEq for Dedupe {
    /// Equal if they remember the same in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.last_sequences() == other.last_sequences()
    }
}

impl Eq for Dedupe {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    #[test]
    fn what_is_not_above_the_last_is_behind_and_leaps_are_gaps() {
        let mut dedupe = Dedupe::default();
        let verdicts = [(1, 0), (1, 1), (1, 0), (1, 1), (2, 0), (1, 2), (1, 5), (1, 5), (3, 4)]
            .map(|(producer, sequence)| dedupe.seen(producer, sequence));
        use Verdict::{Behind, Gap, New};
        assert_eq!(verdicts, [New, New, Behind, Behind, New, New, Gap { missing: 2 }, Behind, Gap { missing: 4 }]);
        assert_eq!(dedupe.last_sequences(), [(2, 0), (1, 5), (3, 4)], "most recent last");
    }

    #[test]
    fn beyond_the_bound_the_one_silent_for_longest_is_forgotten_and_counted() {
        let mut dedupe = Dedupe::default();
        for producer in 0..MAX_PRODUCERS as u128 {
            dedupe.observe(producer, 7);
        }
        dedupe.observe(0, 8);
        dedupe.observe(u128::MAX, 0);
        assert_eq!(dedupe.forgotten(), 1);
        assert_eq!(dedupe.seen(0, 8), Verdict::Behind);
        assert_eq!(dedupe.seen(2, 7), Verdict::Behind);
        assert_eq!(dedupe.seen(1, 7), Verdict::Gap { missing: 7 }, "the oldest is not known any more");
        assert_eq!(dedupe.last_sequences().len(), MAX_PRODUCERS);
    }

    proptest! {
        #[test]
        fn each_sequence_of_a_producer_passes_once_whatever_is_repeated(
            repeats in prop::collection::vec((0..4u128, 0..3usize), 1..60), cut in any::<prop::sample::Index>(),
        ) {
            // Each producer sends its next record, preceded by some of those before once more.
            let mut sent = HashMap::<u128, u64>::new();
            let mut dedupe = Dedupe::default();
            let cut = cut.index(repeats.len());
            for (at, (producer, again)) in repeats.into_iter().enumerate() {
                if at == cut {
                    let restored = Dedupe::restore(dedupe.last_sequences());
                    assert_eq!(restored, dedupe);
                    dedupe = restored;
                }
                let next = sent.entry(producer).or_default();
                for sequence in next.saturating_sub(again as u64)..*next {
                    assert!(dedupe.is_behind(producer, sequence));
                    assert_eq!(dedupe.seen(producer, sequence), Verdict::Behind);
                }
                assert!(!dedupe.is_behind(producer, *next));
                assert_eq!(dedupe.seen(producer, *next), Verdict::New);
                *next += 1;
            }
        }
    }
}
