//! What each producer has numbered in a partition, and whether it goes on without a gap.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::id::Id;

/// What a producer's number says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The next one; or the first, from 0 on. `since` is where the producer's last row stood, if it is awaited there.
    Next {
        /// See [`Producers::await_recent`].
        awaited_since: Option<i64>,
    },
    /// One that is not above the last.
    Behind,
    /// Others should have come before.
    Leap {
        /// Their numbers.
        missing: RangeInclusive<u64>,
        /// Where the producer's last row stood; -1 if it had none.
        since: i64,
        /// How many offsets since then may have been theirs.
        room: u64,
    },
}

/// The producers of one partition: some 100 bytes for each.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: HashMap<u128, Producer>,
}

#[derive(Debug)]
struct Producer {
    next: u64,
    /// Of its latest record.
    offset: i64,
    /// The partition's [`unknown`](crate::coverage::Coverage::unknown) offsets by then.
    unknown: u64,
    awaited: bool,
}

impl Producers {
    /// Takes the next record in the order of offsets. `unknown` is how many offsets were passed without a known record.
    pub(crate) fn see(&mut self, id: Id, offset: i64, unknown: u64) -> Seen {
        let producer =
            self.known.entry(id.producer).or_insert(Producer { next: 0, offset: -1, unknown: 0, awaited: false });
        if id.sequence < producer.next {
            return Seen::Behind;
        }
        let seen = match id.sequence == producer.next {
            true => Seen::Next { awaited_since: producer.awaited.then_some(producer.offset) },
            false => Seen::Leap {
                missing: producer.next..=id.sequence - 1,
                since: producer.offset,
                room: unknown.saturating_sub(producer.unknown),
            },
        };
        *producer = Producer { next: id.sequence.saturating_add(1), offset, unknown, awaited: false };
        seen
    }

    /// The producers but `present` whose latest record stands at `since` or after it: asks for word of the next of each.
    pub(crate) fn await_recent(&mut self, since: i64, present: u128) -> Vec<u128> {
        let recent = self.known.iter_mut().filter(|(id, producer)| producer.offset >= since && **id != present);
        recent.map(|(id, producer)| (producer.awaited = true, *id).1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_repeat_or_leap() {
        let mut producers = Producers::default();
        let mut see = |producer, sequence, offset, unknown| producers.see(Id { producer, sequence }, offset, unknown);
        let next = Seen::Next { awaited_since: None };
        assert_eq!(see(7, 0, 0, 0), next);
        assert_eq!(see(7, 1, 1, 0), next);
        assert_eq!(see(7, 1, 2, 0), Seen::Behind);
        assert_eq!(see(8, 2, 3, 1), Seen::Leap { missing: 0..=1, since: -1, room: 1 });
        assert_eq!(see(7, 5, 9, 4), Seen::Leap { missing: 2..=4, since: 1, room: 4 });
        assert_eq!(see(7, 6, 10, 4), next);
        assert_eq!(see(8, u64::MAX, 11, 4), Seen::Leap { missing: 3..=u64::MAX - 1, since: 3, room: 3 });
        assert_eq!(
            see(8, u64::MAX, 12, 4),
            Seen::Next { awaited_since: None },
            "there is no number above the last one"
        );
    }

    #[test]
    fn who_is_awaited_is_told_of_once() {
        let mut producers = Producers::default();
        let id = |sequence| Id { producer: 7, sequence };
        producers.see(id(0), 3, 0);
        assert_eq!(producers.await_recent(4, 8), []);
        assert_eq!(producers.await_recent(3, 7), []);
        assert_eq!(producers.await_recent(3, 8), [7]);
        assert_eq!(producers.see(id(1), 5, 0), Seen::Next { awaited_since: Some(3) });
        assert_eq!(producers.see(id(2), 6, 0), Seen::Next { awaited_since: None });
    }
}
