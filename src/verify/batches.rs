//! What has to come of a log's batches, decided from their headers alone: how many records each has, and which of them were committed.
//!
//! The worker believes the broker's list of aborted transactions; here the marks in the log itself tell. And how many records a batch has is
//! what its header counts, whatever is read out of it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;

use bytes::Bytes;
use chrono::DateTime;
use superhero_kafka::fetch::{Chunk, Waiting};

use crate::log::{Fetched, Lost, Record};

/// Transactions of which it is remembered how they ended, and of which it is sought: some 20 MiB a partition.
const MAX_ENDED: usize = if cfg!(test) { 8 } else { 1 << 17 };

/// Batches one after the other, by their headers.
#[derive(Debug, Default)]
pub(crate) struct Batches(Bytes);

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    offsets: RangeInclusive<i64>,
    /// Records that are there; compaction may have taken others.
    records: u64,
    /// Of a transaction, its producer.
    transaction: Option<i64>,
    /// Whether a transaction's mark, and then whether of an aborted one.
    mark: Option<bool>,
    /// By its producer's clock.
    first_millis: i64,
}

impl Batches {
    pub(crate) fn of(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let length = usize::try_from(i32::from_be_bytes(field(&self.0, 8)?)).ok()?.checked_add(12)?;
        if length > self.0.len() {
            return None;
        }
        let bytes = self.0.split_to(length);
        let first = i64::from_be_bytes(field(&bytes, 0)?);
        let header = || {
            if bytes.get(16) != Some(&2) {
                return None;
            }
            let attributes = i16::from_be_bytes(field(&bytes, 21)?);
            let last_delta = i64::from(i32::from_be_bytes(field(&bytes, 23)?));
            let count = i32::from_be_bytes(field(&bytes, 57)?);
            Some(Batch {
                offsets: first..=first.saturating_add(last_delta.max(0)),
                records: u64::try_from(count).unwrap_or(0),
                transaction: (attributes & 1 << 4 != 0).then_some(i64::from_be_bytes(field(&bytes, 43)?)),
                mark: (attributes & 1 << 5 != 0).then(|| is_abort(&bytes)),
                first_millis: i64::from_be_bytes(field(&bytes, 27)?),
            })
        };
        // Of another version there may be any number.
        let unknown = Batch { offsets: first..=first, records: 1, transaction: None, mark: None, first_millis: 0 };
        Some(header().unwrap_or(unknown))
    }
}

/// Its one record, none of whose lengths takes more than a byte: length, attributes, time, offset, length of the key, version (int16), type.
fn is_abort(batch: &[u8]) -> bool {
    field::<2>(batch, 61 + 5 + 2) == Some([0, 0])
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A batch that is being compared with the records that are read out of it.
#[derive(Debug)]
struct Expected {
    offsets: RangeInclusive<i64>,
    /// None: it was not read from its beginning, so they are not to be counted.
    records: Option<u64>,
    found: u64,
    is_aborted: bool,
}

/// Says of records what their headers and the log's marks say.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// Where reading ahead goes on.
    seen: i64,
    /// Transactions that have no mark yet, by producer: their first offset.
    open: BTreeMap<i64, i64>,
    /// Those that have one, by producer: their first offset, that of the mark, and whether they were aborted.
    ///
    /// Those that follow each other and ended alike are as one: their producer has no others in between.
    ended: BTreeMap<i64, VecDeque<(i64, i64, bool)>>,
    /// How many these are.
    ended_count: usize,
    /// Whose end is looked for.
    sought: Option<i64>,
    /// There were too many, and only what is of that one is still known.
    is_crowded: bool,
    expected: VecDeque<Expected>,
    waiting: Option<Waiting>,
}

impl Judge {
    /// Where reading ahead goes on.
    pub(crate) fn seen(&self) -> i64 {
        self.seen
    }

    /// Whether the end of the transaction that the batch is of is still to be looked for.
    pub(crate) fn is_unknown(&mut self, batch: &Batch, position: i64, end: i64) -> bool {
        let Some(producer) = batch.transaction.filter(|_| batch.mark.is_none()) else { return false };
        let first = *batch.offsets.start();
        if *batch.offsets.end() < position || first >= end || self.waiting.is_some() {
            return false;
        }
        if self.seen < first {
            // Whatever was read before is of no transaction that is not known.
            self.seen = first;
        }
        let is_known = self.fate(producer, first).is_some();
        if is_known && std::mem::take(&mut self.is_crowded) {
            // What became of the others is read again.
            self.seen = batch.offsets.end().saturating_add(1);
        }
        self.sought = Some(producer);
        !is_known && self.seen < end
    }

    /// Takes batches that were read ahead, up to `next`.
    pub(crate) fn see(&mut self, batches: Batches, next: i64) {
        for batch in batches {
            let (first, Some(producer)) = (*batch.offsets.start(), batch.transaction) else { continue };
            if *batch.offsets.end() < self.seen {
                continue;
            }
            match batch.mark {
                None => {
                    self.open.entry(producer).or_insert(first);
                }
                Some(is_aborted) => {
                    if let Some(begun) = self.open.remove(&producer) {
                        self.remember(producer, begun, first, is_aborted);
                    }
                }
            }
            if self.open.len() + self.ended_count > MAX_ENDED {
                let sought = self.sought;
                self.open.retain(|producer, _| Some(*producer) == sought);
                self.ended.retain(|producer, _| Some(*producer) == sought);
                self.ended_count = self.ended.values().map(VecDeque::len).sum();
                self.is_crowded = true;
            }
        }
        // Where nothing comes there is no more.
        self.seen = if next > self.seen { next } else { i64::MAX };
    }

    fn remember(&mut self, producer: i64, begun: i64, mark: i64, is_aborted: bool) {
        let ended = self.ended.entry(producer).or_default();
        match ended.back_mut() {
            // It was read before.
            Some((_, known, _)) if *known >= mark => {}
            Some((_, last, alike)) if *alike == is_aborted => *last = mark,
            _ => {
                ended.push_back((begun, mark, is_aborted));
                self.ended_count += 1;
            }
        }
    }

    /// Whether the transaction that a producer's batch at this offset is of was aborted; none if it has no end, as far as was seen.
    fn fate(&mut self, producer: i64, offset: i64) -> Option<bool> {
        let ended = self.ended.get_mut(&producer)?;
        while ended.pop_front_if(|(_, mark, _)| *mark < offset).is_some() {
            self.ended_count -= 1;
        }
        let fate = ended.front().filter(|(first, ..)| *first <= offset).map(|(.., is_aborted)| *is_aborted);
        if ended.is_empty() {
            self.ended.remove(&producer);
        }
        fate
    }

    /// A batch comes next. Nothing is expected of it from the first on whose transaction is open at `end`.
    pub(crate) fn expect(&mut self, batch: Batch, position: i64, end: i64) {
        let Batch { offsets, records, transaction, mark, first_millis } = batch;
        if *offsets.end() < position || self.waiting.is_some() {
            return;
        }
        let first = *offsets.start();
        let fate = match (transaction, mark) {
            (Some(producer), None) if self.seen > 0 && first < end => {
                let fate = self.fate(producer, first);
                if fate.is_none() {
                    let since = DateTime::from_timestamp_millis(first_millis);
                    self.waiting = Some(Waiting { offsets: first.max(position)..end, producer, since });
                    return;
                }
                fate
            }
            _ => None,
        };
        self.expected.push_back(Expected {
            records: (first >= position).then_some(if mark.is_some() { 0 } else { records }),
            offsets,
            found: 0,
            is_aborted: fate == Some(true),
        });
    }

    /// Compares what was read with what was expected.
    pub(crate) fn judge(&mut self, mut chunk: Chunk, here: &str) -> Fetched {
        let mut fetched = Fetched::default();
        let records = std::mem::take(&mut chunk.records);
        fetched.records.reserve_exact(records.len());
        for record in records {
            let offset = record.offset;
            if self.waiting.as_ref().is_some_and(|waiting| offset >= waiting.offsets.start) {
                break;
            }
            self.close(offset, &mut fetched.lost);
            let mut record = Record::read(record, here);
            let odd = chunk.odd.pop_front_if(|odd| odd.offset == offset);
            if let Some(batch) = self.expected.front_mut() {
                record.is_aborted = batch.is_aborted;
                match &odd {
                    // It stands for others, which are told at once.
                    Some(odd) if odd.next > offset + 1 || odd.lost_records > 0 => batch.records = None,
                    _ => batch.found += 1,
                }
            }
            if let Some(odd) = odd {
                record.is_left_out = odd.is_left_out;
                if odd.lost_records > 0 && !record.is_aborted {
                    fetched.lost.push(Lost {
                        first_offset: offset,
                        last_offset: odd.next - 1,
                        records: odd.lost_records,
                        reason: odd.reason,
                    });
                }
            }
            fetched.records.push(record);
        }
        if self.waiting.as_ref().is_some_and(|waiting| chunk.next > waiting.offsets.start) {
            fetched.waiting = self.waiting.take();
        } else {
            self.close(chunk.next, &mut fetched.lost);
        }
        fetched.memory = Some(chunk);
        fetched
    }

    /// All batches that end below `offset` were read.
    fn close(&mut self, offset: i64, lost: &mut Vec<Lost>) {
        while let Some(batch) = self.expected.pop_front_if(|batch| *batch.offsets.end() < offset) {
            let Some(missing) =
                batch.records.map(|records| records.abs_diff(batch.found)).filter(|missing| *missing > 0)
            else {
                continue;
            };
            if batch.is_aborted {
                continue;
            }
            let (count, found) = (batch.records.unwrap_or(0), batch.found);
            lost.push(Lost {
                first_offset: *batch.offsets.start(),
                last_offset: *batch.offsets.end(),
                records: missing,
                reason: format!("its header counts {count} records, and {found} were read"),
            });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn batch(first: i64, records: u64, transaction: Option<i64>, mark: Option<bool>) -> Batch {
        Batch { offsets: first..=first + records.max(1) as i64 - 1, records, transaction, mark, first_millis: 5 }
    }

    fn chunk(offsets: impl IntoIterator<Item = i64>, next: i64) -> Chunk {
        let record = |offset| superhero_kafka::fetch::Record {
            offset,
            timestamp: 0,
            key: None,
            value: None,
            headers: Default::default(),
        };
        let mut chunk = Chunk::default();
        chunk.records = offsets.into_iter().map(record).collect();
        chunk.next = next;
        chunk
    }

    /// As bytes.
    fn encoded(batch: &Batch) -> Vec<u8> {
        let mut bytes = vec![0; 61 + 12];
        let length = bytes.len() as i32 - 12;
        let attributes = i16::from(batch.transaction.is_some()) << 4 | i16::from(batch.mark.is_some()) << 5;
        let delta = (batch.offsets.end() - batch.offsets.start()) as i32;
        for (at, field) in [
            (0, batch.offsets.start().to_be_bytes().to_vec()),
            (8, length.to_be_bytes().to_vec()),
            (16, vec![2]),
            (21, attributes.to_be_bytes().to_vec()),
            (23, delta.to_be_bytes().to_vec()),
            (27, batch.first_millis.to_be_bytes().to_vec()),
            (43, batch.transaction.unwrap_or(-1).to_be_bytes().to_vec()),
            (57, (batch.records as i32).to_be_bytes().to_vec()),
            // The lengths, version 0, and the type.
            (61, vec![22, 0, 0, 0, 8, 0, 0, 0, u8::from(batch.mark == Some(false))]),
        ] {
            bytes[at..at + field.len()].copy_from_slice(&field);
        }
        bytes
    }

    fn log() -> Vec<Batch> {
        vec![
            batch(0, 2, Some(7), None),
            batch(2, 1, None, None),
            batch(3, 1, Some(8), None),
            batch(4, 1, Some(7), Some(true)),
            batch(5, 2, Some(7), None),
            batch(7, 1, Some(7), Some(false)),
            batch(8, 1, None, None),
        ]
    }

    fn judged(log: &[Batch], records: Chunk, end: i64) -> Fetched {
        let mut judge = Judge::default();
        for batch in log {
            while judge.is_unknown(batch, 0, end) {
                let ahead: Vec<u8> = log.iter().flat_map(encoded).collect();
                judge.see(Batches::of(ahead.into()), end);
            }
            judge.expect(batch.clone(), 0, end);
        }
        judge.judge(records, "t/0")
    }

    #[test]
    fn headers_are_read_as_they_stand() {
        let bytes: Vec<u8> = log().iter().flat_map(encoded).collect();
        assert_eq!(Batches::of(bytes.clone().into()).collect::<Vec<_>>(), log());
        assert_eq!(Batches::of(bytes[..bytes.len() - 1].to_vec().into()).count(), log().len() - 1);
    }

    #[test]
    fn the_marks_tell_what_was_aborted_and_where_reading_stops() {
        let log = log();
        let found = judged(&log, chunk([0, 1, 2, 3, 5, 6, 8], 9), 9);
        let told: Vec<_> = found.records.iter().map(|record| (record.offset, record.is_aborted)).collect();
        assert_eq!(told, [(0, true), (1, true), (2, false)]);
        let waiting = found.waiting.unwrap();
        assert_eq!((waiting.offsets, waiting.producer), (3..9, 8));
        assert_eq!(found.lost, []);

        let without: Vec<_> = log.into_iter().filter(|batch| batch.transaction != Some(8)).collect();
        let found = judged(&without, chunk([0, 1, 2, 5, 6, 8], 9), 9);
        let told: Vec<_> = found.records.iter().map(|record| (record.offset, record.is_aborted)).collect();
        assert_eq!(told, [(0, true), (1, true), (2, false), (5, false), (6, false), (8, false)]);
        assert_eq!((found.waiting, found.lost), (None, Vec::new()));
    }

    /// A log of one long transaction, beside which `others` producers end one each, every other of them aborted; and then all again.
    fn crowded(others: i64) -> Vec<Batch> {
        let mut log = vec![batch(0, 1, Some(7), None)];
        for round in 0..2 {
            for other in 0..others {
                let at = 1 + 2 * (round * others + other);
                log.push(batch(at, 1, Some(100 + other), None));
                log.push(batch(at + 1, 1, Some(100 + other), Some((other + round) % 2 == 0)));
            }
        }
        let end = 1 + 4 * others;
        log.push(batch(end, 1, Some(7), Some(true)));
        log
    }

    #[test]
    fn what_is_read_ahead_is_bounded_and_what_does_not_fit_is_read_again() {
        let log = crowded(MAX_ENDED as i64);
        let end = log.len() as i64;
        let bytes: Vec<Vec<u8>> = log.iter().map(encoded).collect();
        let mut judge = Judge::default();
        for batch in &log {
            while judge.is_unknown(batch, 0, end) {
                let at = judge.seen();
                judge.see(Batches::of(bytes[at as usize].clone().into()), at + 1);
                assert!(judge.open.len() + judge.ended.values().map(VecDeque::len).sum::<usize>() <= MAX_ENDED + 1);
            }
            judge.expect(batch.clone(), 0, end);
        }
        assert_eq!(judge.waiting, None);
        let aborted: Vec<_> = judge.expected.iter().map(|expected| expected.is_aborted).collect();
        let right: Vec<_> = log
            .iter()
            .map(|batch| match (batch.mark, batch.transaction) {
                (None, Some(producer)) => {
                    let is_of = |mark: &&Batch| mark.transaction == Some(producer) && mark.mark.is_some();
                    let behind = log.iter().filter(is_of).find(|mark| mark.offsets.start() > batch.offsets.start());
                    behind.and_then(|mark| mark.mark) == Some(true)
                }
                _ => false,
            })
            .collect();
        assert_eq!(aborted, right);
    }

    #[test]
    fn a_batch_that_gives_fewer_records_than_it_counts_has_lost_them() {
        let log = [batch(0, 3, None, None), batch(3, 4, None, None), batch(7, 1, None, None)];
        let found = judged(&log, chunk([0, 1, 2, 3, 5, 7], 8), 8);
        let [lost] = found.lost.as_slice() else { panic!("{found:?}") };
        assert_eq!((lost.first_offset, lost.last_offset, lost.records), (3, 6, 2));
        assert!(lost.reason.contains("counts 4 records, and 2 were read"), "{lost:?}");
    }
}
