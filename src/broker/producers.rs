//! What a partition remembers of its idempotent producers, so that a batch that is sent again is not appended again.
//!
//! The rules are those of [KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging),
//! without transactions: a producer that is not known may begin with any sequence number.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::ResponseError;
use thiserror::Error;

use crate::batch::{ProducerSequence, advance};

/// Batches of a producer that are known again: as many as an idempotent producer may have on their way at a time.
const REMEMBERED_BATCHES: usize = 5;
/// Producers of a partition that are remembered, some 200 bytes each; the one that was silent for longest is forgotten first.
const MAX_PRODUCERS: usize = 1000;

/// Producers that all partitions remember together: some 30 MiB. Of more, the partition with the most forgets the one that was silent
/// for longest.
pub(crate) const MAX_PRODUCERS_OF_ALL: usize = 100_000;

/// The idempotent producers of a partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
    /// Counts the batches, for telling who was silent for longest.
    clock: u64,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// The oldest first; never empty.
    batches: VecDeque<Remembered>,
    last_used: u64,
}

#[derive(Debug)]
struct Remembered {
    first: i32,
    last: i32,
    base_offset: i64,
}

/// What is to be done with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It was appended before, at this offset.
    Repeated {
        base_offset: i64,
    },
}

/// Why a batch is not appended.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SequenceError {
    #[error("producer {id} sent sequence number {actual} where {expected} is next: a batch before it is missing")]
    OutOfOrder { id: i64, expected: i32, actual: i32 },
    #[error("producer {id} sent epoch {actual}, but epoch {current} has taken over")]
    OldEpoch { id: i64, current: i16, actual: i16 },
    #[error("producer {id} sent sequence number {first} in epoch {epoch}; neither can be negative")]
    Negative { id: i64, epoch: i16, first: i32 },
}

impl SequenceError {
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::OutOfOrder { .. } => ResponseError::OutOfOrderSequenceNumber,
            Self::OldEpoch { .. } => ResponseError::InvalidProducerEpoch,
            Self::Negative { .. } => ResponseError::InvalidRecord,
        }
    }
}

impl Producers {
    /// What to do with a batch; if it is appended, [`appended`](Self::appended) has to follow.
    pub(crate) fn check(&self, sequence: &ProducerSequence) -> Result<Verdict, SequenceError> {
        let ProducerSequence { id, epoch, first, last } = *sequence;
        if epoch < 0 || first < 0 {
            return Err(SequenceError::Negative { id, epoch, first });
        }
        let Some(known) = self.by_id.get(&id) else {
            return Ok(Verdict::Append);
        };
        if epoch < known.epoch {
            return Err(SequenceError::OldEpoch { id, current: known.epoch, actual: epoch });
        }
        if epoch > known.epoch {
            return match first {
                0 => Ok(Verdict::Append),
                actual => Err(SequenceError::OutOfOrder { id, expected: 0, actual }),
            };
        }
        if let Some(repeated) = known.batches.iter().find(|batch| (batch.first, batch.last) == (first, last)) {
            return Ok(Verdict::Repeated { base_offset: repeated.base_offset });
        }
        match known.batches.back().map(|newest| advance(newest.last, 1)) {
            Some(expected) if expected != first => Err(SequenceError::OutOfOrder { id, expected, actual: first }),
            _ => Ok(Verdict::Append),
        }
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Forgets the one that was silent for longest.
    pub(crate) fn forget_silent(&mut self) {
        let silent = self.by_id.iter().min_by_key(|(_, producer)| producer.last_used).map(|(id, _)| *id);
        silent.map(|id| self.by_id.remove(&id));
    }

    /// Remembers a batch that was appended.
    pub(crate) fn appended(&mut self, sequence: &ProducerSequence, base_offset: i64) {
        self.clock += 1;
        if self.by_id.len() >= MAX_PRODUCERS && !self.by_id.contains_key(&sequence.id) {
            self.forget_silent();
        }
        let producer = self.by_id.entry(sequence.id).or_insert_with(|| Producer {
            epoch: sequence.epoch,
            batches: VecDeque::new(),
            last_used: 0,
        });
        if producer.epoch != sequence.epoch {
            producer.epoch = sequence.epoch;
            producer.batches.clear();
        }
        producer.last_used = self.clock;
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered { first: sequence.first, last: sequence.last, base_offset });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(id: i64, epoch: i16, first: i32, last: i32) -> ProducerSequence {
        ProducerSequence { id, epoch, first, last }
    }

    #[test]
    fn batches_follow_each_other_and_are_known_again() {
        let mut producers = Producers::default();
        let mut next_offset = 0;
        let out_of_order = |expected, actual| Err(SequenceError::OutOfOrder { id: 1, expected, actual });
        let old = Err(SequenceError::OldEpoch { id: 1, current: 1, actual: 0 });
        for (epoch, first, last, expected) in [
            (0, 7, 8, Ok(Verdict::Append)),
            (0, 9, 9, Ok(Verdict::Append)),
            (0, 7, 8, Ok(Verdict::Repeated { base_offset: 0 })),
            (0, 7, 7, out_of_order(10, 7)),
            (0, 11, 12, out_of_order(10, 11)),
            (0, 10, i32::MAX, Ok(Verdict::Append)),
            (0, 0, 0, Ok(Verdict::Append)),
            (0, 1, 1, Ok(Verdict::Append)),
            (0, 2, 2, Ok(Verdict::Append)),
            (0, 7, 8, out_of_order(3, 7)),
            (0, 9, 9, Ok(Verdict::Repeated { base_offset: 10 })),
            (1, 3, 3, out_of_order(0, 3)),
            (1, 0, 3, Ok(Verdict::Append)),
            (0, 3, 3, old),
            (1, -1, 3, Err(SequenceError::Negative { id: 1, epoch: 1, first: -1 })),
        ] {
            let sequence = sequence(1, epoch, first, last);
            let verdict = producers.check(&sequence);
            assert_eq!(verdict, expected, "epoch {epoch}, {first} to {last}");
            if verdict == Ok(Verdict::Append) {
                producers.appended(&sequence, next_offset);
                next_offset += 10;
            }
        }
    }

    #[test]
    fn the_one_that_was_silent_for_longest_is_forgotten() {
        let mut producers = Producers::default();
        for id in 0..MAX_PRODUCERS as i64 {
            producers.appended(&sequence(id, 0, 0, 0), id);
        }
        producers.appended(&sequence(0, 0, 1, 1), 5000);
        producers.appended(&sequence(-1, 0, 0, 0), 5001);
        assert_eq!(producers.by_id.len(), MAX_PRODUCERS);
        assert_eq!(producers.check(&sequence(0, 0, 1, 1)), Ok(Verdict::Repeated { base_offset: 5000 }));
        assert_eq!(producers.check(&sequence(1, 0, 0, 0)), Ok(Verdict::Append));
        assert_eq!(producers.check(&sequence(2, 0, 0, 0)), Ok(Verdict::Repeated { base_offset: 2 }));
    }
}
