//! The log of one partition: segments of batches in memory, the oldest of which go when it takes too much.

use std::collections::VecDeque;

use thiserror::Error;

use crate::batch::Batch;

/// What a batch takes in memory beside its bytes, measured with batches of one small record: its place in the segment, the
/// allocation of its bytes, and the request around them. Counted, so that a log of tiny batches is bounded too.
const BATCH_OVERHEAD_BYTES: usize = 192;

/// What a log may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) retention_bytes: usize,
    pub(crate) segment_bytes: usize,
    pub(crate) max_batch_bytes: usize,
}

/// Everything that a partition holds: the records from `start` up to `end`.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Never an empty one.
    segments: VecDeque<Segment>,
    start: i64,
    end: i64,
    bytes: usize,
}

/// A run of batches that goes as a whole.
#[derive(Debug)]
struct Segment {
    batches: Vec<Placed>,
    bytes: usize,
    max_timestamp: i64,
}

/// A batch at its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) base_offset: i64,
    pub(crate) batch: Batch,
}

impl Placed {
    fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.batch.last_offset_delta) + 1
    }

    fn bytes(&self) -> usize {
        self.batch.wire_bytes() + BATCH_OVERHEAD_BYTES
    }
}

/// A record that was asked for by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
}

/// An offset that the log does not hold.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("offset {offset} is not within {start} to {end}")]
pub(crate) struct OutOfRange {
    pub(crate) offset: i64,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Log {
    /// The offset of the first record that is there.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The offset that the next record will have. There are no followers, so that it is the high watermark too.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a batch and tells its first offset; what is then too much goes at the other end.
    pub(crate) fn append(&mut self, batch: Batch, limits: &Limits) -> i64 {
        let placed = Placed { base_offset: self.end, batch };
        let bytes = placed.bytes();
        let base_offset = self.end;
        self.end = placed.next_offset();
        self.bytes += bytes;
        let max_timestamp = placed.batch.max_timestamp;
        match self.segments.back_mut().filter(|last| last.bytes + bytes <= limits.segment_bytes) {
            Some(last) => {
                last.batches.push(placed);
                last.bytes += bytes;
                last.max_timestamp = last.max_timestamp.max(max_timestamp);
            }
            None => self.segments.push_back(Segment { batches: vec![placed], bytes, max_timestamp }),
        }
        self.retain(limits.retention_bytes);
        base_offset
    }

    /// Drops oldest segments until the log takes no more than `retention_bytes`, but not the one that is written to.
    pub(crate) fn retain(&mut self, retention_bytes: usize) {
        while self.bytes > retention_bytes && self.segments.len() > 1 {
            self.drop_oldest_segment();
        }
    }

    /// Drops the oldest segment, even if it is the only one.
    pub(crate) fn drop_oldest_segment(&mut self) {
        if let Some(oldest) = self.segments.pop_front() {
            self.bytes -= oldest.bytes;
            let next = self.segments.front().map_or(self.end, |segment| segment.batches[0].base_offset);
            self.start = self.start.max(next);
        }
    }

    /// Moves the start to `offset`; segments that then hold nothing go.
    pub(crate) fn truncate_before(&mut self, offset: i64) -> Result<(), OutOfRange> {
        if !(0..=self.end).contains(&offset) {
            return Err(self.out_of_range(offset));
        }
        self.start = self.start.max(offset);
        while self.segments.front().and_then(|s| s.batches.last()).is_some_and(|last| last.next_offset() <= self.start)
        {
            self.drop_oldest_segment();
        }
        Ok(())
    }

    /// The batches from the one with `offset` on that fit in `max_bytes`; the first one even if it does not, where
    /// `at_least_one` says so.
    pub(crate) fn read(&self, offset: i64, max_bytes: usize, at_least_one: bool) -> Result<Vec<Placed>, OutOfRange> {
        if !(self.start..=self.end).contains(&offset) {
            return Err(self.out_of_range(offset));
        }
        let mut batches = Vec::new();
        let mut bytes = 0;
        for placed in self.from(offset) {
            bytes += placed.batch.wire_bytes();
            if bytes > max_bytes && !(at_least_one && batches.is_empty()) {
                break;
            }
            batches.push(placed.clone());
        }
        Ok(batches)
    }

    /// The first record that is not before `timestamp`. Within a compressed batch, which is not opened, the batch's first one
    /// stands for it, so that a reader may get some that are older.
    pub(crate) fn find(&self, timestamp: i64) -> Option<Found> {
        let segments = self.segments.iter().filter(|segment| segment.max_timestamp >= timestamp);
        segments.flat_map(|segment| &segment.batches).find_map(|placed| {
            if placed.batch.max_timestamp < timestamp || placed.next_offset() <= self.start {
                return None;
            }
            if placed.batch.compressed {
                let offset = placed.base_offset.max(self.start);
                return Some(Found { offset, timestamp: placed.batch.base_timestamp });
            }
            let mut records = placed.batch.timestamps().map(|(delta, at)| (placed.base_offset + i64::from(delta), at));
            let found = records.find(|(offset, at)| *offset >= self.start && *at >= timestamp);
            found.map(|(offset, timestamp)| Found { offset, timestamp })
        })
    }

    /// The record with the largest timestamp; within a compressed batch the batch's last one stands for it.
    pub(crate) fn find_latest_timestamp(&self) -> Option<Found> {
        let timestamp = self.segments.iter().map(|segment| segment.max_timestamp).max()?;
        let segment = self.segments.iter().find(|segment| segment.max_timestamp == timestamp)?;
        let placed = segment.batches.iter().find(|placed| placed.batch.max_timestamp == timestamp)?;
        let exact = placed.batch.timestamps().find(|(_, at)| *at == timestamp);
        let delta = exact.map_or(placed.batch.last_offset_delta, |(delta, _)| delta);
        let offset = (placed.base_offset + i64::from(delta)).max(self.start);
        Some(Found { offset, timestamp })
    }

    /// From the batch that holds `offset` on: two binary searches.
    fn from(&self, offset: i64) -> impl Iterator<Item = &Placed> {
        let ended = |segment: &Segment| segment.batches.last().is_some_and(|last| last.next_offset() <= offset);
        let first = self.segments.partition_point(ended);
        let skip = self
            .segments
            .get(first)
            .map_or(0, |segment| segment.batches.partition_point(|placed| placed.next_offset() <= offset));
        self.segments.range(first..).flat_map(|segment| &segment.batches).skip(skip)
    }

    fn out_of_range(&self, offset: i64) -> OutOfRange {
        OutOfRange { offset, start: self.start, end: self.end }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::tests::batch;

    const ROOMY: Limits = Limits { retention_bytes: usize::MAX, segment_bytes: 700, max_batch_bytes: usize::MAX };

    fn offsets(read: Result<Vec<Placed>, OutOfRange>) -> Vec<i64> {
        read.unwrap().iter().map(|placed| placed.base_offset).collect()
    }

    #[test]
    fn a_read_begins_at_the_batch_with_the_offset() {
        let mut log = Log::default();
        for timestamps in [&[0][..], &[1, 2, 3], &[4, 5], &[6]] {
            log.append(batch(timestamps), &ROOMY);
        }
        for (offset, expected) in [(0, &[0, 1, 4, 6][..]), (1, &[1, 4, 6]), (3, &[1, 4, 6]), (4, &[4, 6]), (7, &[])] {
            assert_eq!(offsets(log.read(offset, usize::MAX, false)), expected, "from {offset}");
        }
        assert_eq!(log.read(8, 1, false).unwrap_err(), OutOfRange { offset: 8, start: 0, end: 7 });
        assert_eq!(log.read(-1, 1, false).unwrap_err(), OutOfRange { offset: -1, start: 0, end: 7 });
    }

    #[test]
    fn a_read_ends_with_its_bytes_but_gives_one_batch_if_need_be() {
        let mut log = Log::default();
        let one = batch(&[0]);
        for _ in 0..3 {
            log.append(one.clone(), &ROOMY);
        }
        let bytes = one.wire_bytes();
        for (max_bytes, at_least_one, expected) in [
            (0, false, &[][..]),
            (0, true, &[0]),
            (bytes - 1, true, &[0]),
            (bytes, false, &[0]),
            (2 * bytes, true, &[0, 1]),
            (3 * bytes, false, &[0, 1, 2]),
        ] {
            assert_eq!(offsets(log.read(0, max_bytes, at_least_one)), expected, "{max_bytes} bytes");
        }
    }

    #[test]
    fn retention_drops_the_oldest_segments_and_moves_the_start() {
        let mut log = Log::default();
        let bytes = batch(&[0, 0]).wire_bytes() + BATCH_OVERHEAD_BYTES;
        let limits = Limits { retention_bytes: 6 * bytes, segment_bytes: 2 * bytes, max_batch_bytes: usize::MAX };
        let mut starts = Vec::new();
        for _ in 0..9 {
            log.append(batch(&[0, 0]), &limits);
            starts.push(log.start());
            assert!(log.bytes() <= limits.retention_bytes);
        }
        assert_eq!(starts, [0, 0, 0, 0, 0, 0, 4, 4, 8]);
        assert_eq!(log.end(), 18);
    }

    #[test]
    fn records_are_found_by_their_time() {
        let mut log = Log::default();
        for timestamps in [&[10, 30, 20][..], &[15], &[40, 50]] {
            log.append(batch(timestamps), &ROOMY);
        }
        for (timestamp, expected) in [
            (0, Some((0, 10))),
            (11, Some((1, 30))),
            (30, Some((1, 30))),
            (31, Some((4, 40))),
            (50, Some((5, 50))),
            (51, None),
        ] {
            let expected = expected.map(|(offset, timestamp)| Found { offset, timestamp });
            assert_eq!(log.find(timestamp), expected, "at {timestamp}");
        }
        assert_eq!(log.find_latest_timestamp(), Some(Found { offset: 5, timestamp: 50 }));
        log.truncate_before(2).unwrap();
        assert_eq!(log.find(0), Some(Found { offset: 2, timestamp: 20 }));
        assert_eq!(Log::default().find_latest_timestamp(), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(Vec<i64>),
        Truncate(i64),
        DropOldest,
        Read { offset: i64, max_bytes: usize },
        Find(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => proptest::collection::vec(0..50i64, 1..6).prop_map(Step::Append),
            1 => (-2..80i64).prop_map(Step::Truncate),
            1 => Just(Step::DropOldest),
            4 => (-2..80i64, 0..900usize).prop_map(|(offset, max_bytes)| Step::Read { offset, max_bytes }),
            2 => (0..55i64).prop_map(Step::Find),
        ]
    }

    proptest! {
        /// The model: all batches that ever were, and where the log begins now.
        #[test]
        fn a_log_holds_what_was_appended_from_its_start_on(
            steps in proptest::collection::vec(step(), 1..60),
            retention_bytes in 300..3000usize,
        ) {
            let limits = Limits { retention_bytes, segment_bytes: 500, max_batch_bytes: usize::MAX };
            let mut log = Log::default();
            let mut model: Vec<(i64, Vec<i64>)> = Vec::new();
            for step in steps {
                let (start, end) = (log.start(), log.end());
                match step {
                    Step::Append(timestamps) => {
                        prop_assert_eq!(log.append(batch(&timestamps), &limits), end);
                        prop_assert_eq!(log.end(), end + timestamps.len() as i64);
                        model.push((end, timestamps));
                    }
                    Step::Truncate(offset) => {
                        let done = log.truncate_before(offset);
                        prop_assert_eq!(done.is_ok(), (0..=end).contains(&offset));
                        prop_assert_eq!(log.start(), if done.is_ok() { start.max(offset) } else { start });
                    }
                    Step::DropOldest => log.drop_oldest_segment(),
                    Step::Read { offset, max_bytes } => match log.read(offset, max_bytes, true) {
                        Err(_) => prop_assert!(!(start..=end).contains(&offset)),
                        Ok(read) => {
                            let expected: Vec<_> =
                                model.iter().filter(|(base, times)| base + times.len() as i64 > offset).collect();
                            prop_assert!(read.len() <= expected.len());
                            prop_assert!(!read.is_empty() || expected.is_empty());
                            for (placed, (base, timestamps)) in read.iter().zip(expected) {
                                prop_assert_eq!(placed.base_offset, *base);
                                prop_assert_eq!(&placed.batch, &batch(timestamps));
                            }
                            let bytes: usize = read.iter().map(|placed| placed.batch.wire_bytes()).sum();
                            prop_assert!(bytes <= max_bytes || read.len() == 1);
                        }
                    },
                    Step::Find(timestamp) => {
                        let records = model.iter().flat_map(|(base, times)| {
                            (*base..).zip(times).map(|(offset, at)| Found { offset, timestamp: *at })
                        });
                        let mut there = records.filter(|found| found.offset >= start);
                        prop_assert_eq!(log.find(timestamp), there.find(|found| found.timestamp >= timestamp));
                    }
                }
                prop_assert!(log.start() >= start && log.start() <= log.end());
                prop_assert!(log.bytes() <= retention_bytes.max(limits.segment_bytes + 300));
                let held: usize = log.segments.iter().flat_map(|s| &s.batches).map(Placed::bytes).sum();
                prop_assert_eq!(log.bytes(), held);
            }
        }
    }
}
