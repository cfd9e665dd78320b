//! Whether a record repeats an earlier one of its partition: the topic itself is asked, where a number was used before.
//!
//! A number that is not above its producer's last is mostly that of a batch whose answer was lost, sent again: the same key, the same
//! value. It may also be a copy's, or that of a record that somebody has mended and sent again, and those are no repetitions. So the
//! records before it are read once more, the latest first, and then from where the topic tells that its time is: a repetition bears the
//! time of what it repeats. What they said is remembered as hashes for as long as numbers go on being used twice, and not longer. So
//! a worker that took the partition over knows as much as the one before, and records whose numbers are new cost nothing.
//!
//! What is found in neither place is no repetition, and gets its row: rather twice than never.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;
use superhero_kafka::fetch::{BatchFetcher, Chunk, FetchError, Record};
use superhero_kafka::{Cluster, OffsetAt, TopicPartition};
use tracing::{debug, warn};

use crate::FetchConfig;
use crate::backoff::Backoff;
use crate::id::{Ids, Number};

/// Offsets read back before a record, and as many from its time on: several batches of our own transport, of which one is in flight in a
/// partition at a time, so that nothing older is sent again. Hashes of as many are remembered, some 30 bytes each.
const LOOK_BACK: i64 = 16_384;
/// The first step back, which is often enough; each one leads this many times as far back as the one before.
const FIRST_STEP: i64 = 64;
const STEP_GROWTH: i64 = 4;
/// When so many bytes of keys and values have been read, nothing further away is.
const MAX_BYTES: u64 = 64 << 20;
/// So many times in a row the topic is asked in vain where a record's time is; then only the latest records count.
const MAX_IN_VAIN: u32 = 8;
/// Clients put a record's time into a batch as the difference to another's, and not all round alike.
const ROUNDING_MS: i64 = 50;
/// What was remembered goes when no number was used twice for so many offsets, or for so long.
const QUIET_OFFSETS: i64 = 4096;
const QUIET_TIME: Duration = Duration::from_secs(60);
/// A broker's wait for more records, of which there are enough.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// The earlier records of one partition.
pub(crate) struct Earlier {
    cluster: Arc<Cluster>,
    source: TopicPartition,
    config: FetchConfig,
    window: Option<Window>,
}

impl Earlier {
    pub(crate) fn new(cluster: Arc<Cluster>, source: TopicPartition, config: FetchConfig) -> Self {
        Self { cluster, source, config, window: None }
    }

    /// Whether the record repeats an earlier one; none if the topic has to be [asked](Self::ask).
    pub(crate) fn tell(&mut self, record: &Record, number: Number) -> Option<bool> {
        self.window.as_mut()?.tell(record, number)
    }

    /// Takes a record that is done with; after it come those behind it.
    #[inline]
    pub(crate) fn pass(&mut self, record: &Record, number: Option<Number>) {
        if let Some(window) = &mut self.window {
            if !window.is_quiet_at(record.offset) {
                window.pass(record, number);
            } else {
                self.window = None;
            }
        }
    }

    /// Forgets what has not been needed for a while.
    pub(crate) fn tidy(&mut self) {
        self.window.take_if(|window| window.asked_at.elapsed() > QUIET_TIME);
    }

    /// Forgets everything: reading begins at another offset.
    pub(crate) fn start_over(&mut self) {
        self.window = None;
    }

    /// As [`tell`](Self::tell), by reading the topic; however long that takes.
    ///
    /// # Cancellation
    /// Safe: what was read is remembered.
    pub(crate) async fn ask(&mut self, record: &Record, number: Number) -> bool {
        loop {
            if let Some(told) = self.tell(record, number) {
                return told;
            }
            let window = self.window.get_or_insert_with(|| Window::new(record.offset));
            if let Some(step) = window.next_step() {
                let read = self.read(step.clone(), u64::MAX).await;
                if let Some(window) = &mut self.window {
                    window.take_near(step.start, read);
                }
                continue;
            }
            let read = match self.range_of_its_time(record).await {
                Some(range) => Some((range.clone(), self.read(range, MAX_BYTES).await)),
                None => None,
            };
            return self.window.as_mut().is_some_and(|window| window.take_far(hash(record, number), read));
        }
    }

    /// Where records of the same time begin, if they are not among the latest or have been read.
    async fn range_of_its_time(&self, record: &Record) -> Option<Range<i64>> {
        // Brokers take what is negative for something else.
        let time = record
            .timestamp
            .checked_sub(ROUNDING_MS)
            .filter(|time| *time >= 0)
            .and_then(DateTime::from_timestamp_millis)?;
        let mut backoff = Backoff::default();
        loop {
            match self.cluster.offset(&self.source, OffsetAt::Timestamp(time)).await {
                Ok(from) => return self.window.as_ref().and_then(|window| window.far_range(from)),
                Err(error) => self.explain(record.offset, &error.into(), &mut backoff).await,
            }
        }
    }

    /// What the records in a range say, as far as they have numbers.
    async fn read(&self, range: Range<i64>, max_bytes: u64) -> Read {
        let mut ids = Ids::new(&self.source);
        let FetchConfig { isolation, budget, .. } = &self.config;
        // Whoever reads back holds records, and must not wait for others who do.
        let mut batches = BatchFetcher::new(self.source.clone(), *isolation, budget.apart());
        let mut backoff = Backoff::default();
        let mut position = range.start;
        let mut read = Read::default();
        debug!(partition = %self.source, from = range.start, to = range.end, "a number was used before; reading back");
        while position < range.end && read.bytes < max_bytes {
            match batches.fetch(&self.cluster, position, self.config.max_bytes, MAX_WAIT).await {
                Ok(mut answer) if answer.next() > position => {
                    position = answer.next();
                    while let Some(chunk) = answer.next_chunk().await {
                        read.take(&chunk, range.end, &mut ids);
                    }
                }
                // The log was cut off; whoever reads on finds that out.
                Ok(_) => break,
                Err(error) if error.is_out_of_range() => match self.earliest().await {
                    Ok(earliest) if earliest > position => position = earliest,
                    Ok(_) => break,
                    Err(error) => self.explain(position, &error, &mut backoff).await,
                },
                Err(error) => self.explain(position, &error, &mut backoff).await,
            }
        }
        read
    }

    async fn earliest(&self) -> Result<i64, FetchError> {
        Ok(self.cluster.offset(&self.source, OffsetAt::Earliest).await?)
    }

    /// Says what is wrong, and pauses.
    async fn explain(&self, offset: i64, error: &FetchError, backoff: &mut Backoff) {
        warn!(partition = %self.source, offset, %error, "earlier records cannot be read now; trying again");
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Records that were read back: their hashes, by offset.
#[derive(Debug, Default)]
struct Read {
    hashes: Vec<(i64, u64)>,
    /// Of the keys and values of all that were read.
    bytes: u64,
}

impl Read {
    /// Takes what stands before `end`. What is too large is not compared.
    fn take(&mut self, chunk: &Chunk, end: i64, ids: &mut Ids) {
        for record in chunk.records.iter().take_while(|record| record.offset < end) {
            let parts = [&record.key, &record.value].into_iter().flatten();
            self.bytes += parts.map(|part| part.len() as u64).sum::<u64>();
            let number = ids.identify(&record.headers).and_then(|id| id.number());
            let number = number.filter(|_| chunk.odd.iter().all(|odd| odd.offset != record.offset));
            self.hashes.extend(number.map(|number| (record.offset, hash(record, number))));
        }
    }
}

/// What is known of earlier records.
#[derive(Debug)]
struct Window {
    /// Of the latest records, from `from` on: each hash with the last offset that it had.
    near: HashMap<u64, i64>,
    order: VecDeque<(i64, u64)>,
    from: i64,
    /// Where reading back began, and where it has to stop.
    began: i64,
    floor: i64,
    bytes: u64,
    /// Of records around another time.
    far: HashSet<u64>,
    far_read: Range<i64>,
    in_vain: u32,
    /// The offset of the latest record whose number was used before, and when it was met.
    asked: i64,
    asked_at: Instant,
}

impl Window {
    fn new(offset: i64) -> Self {
        Self {
            near: HashMap::new(),
            order: VecDeque::new(),
            from: offset,
            began: offset,
            floor: (offset - LOOK_BACK).max(0),
            bytes: 0,
            far: HashSet::new(),
            far_read: 0..0,
            in_vain: 0,
            asked: offset,
            asked_at: Instant::now(),
        }
    }

    fn is_quiet_at(&self, offset: i64) -> bool {
        offset - self.asked > QUIET_OFFSETS
    }

    fn tell(&mut self, record: &Record, number: Number) -> Option<bool> {
        (self.asked, self.asked_at) = (record.offset, Instant::now());
        let hash = hash(record, number);
        if self.near.contains_key(&hash) {
            return Some(true);
        }
        if self.far.contains(&hash) {
            self.in_vain = 0;
            return Some(true);
        }
        (self.next_step().is_none() && self.in_vain >= MAX_IN_VAIN).then_some(false)
    }

    /// What is to be read next of the latest records.
    fn next_step(&self) -> Option<Range<i64>> {
        let step = ((self.began - self.from) * (STEP_GROWTH - 1)).max(FIRST_STEP);
        let start = (self.from - step).max(self.floor);
        (start < self.from).then_some(start..self.from)
    }

    fn far_range(&self, from: i64) -> Option<Range<i64>> {
        let range = from..self.from.min(from.saturating_add(LOOK_BACK));
        (from >= 0 && !range.is_empty() && !self.far_read.contains(&from)).then_some(range)
    }

    fn take_near(&mut self, from: i64, read: Read) {
        self.from = from;
        self.bytes += read.bytes;
        if self.bytes >= MAX_BYTES {
            self.floor = from;
        }
        for (offset, hash) in read.hashes.into_iter().rev() {
            self.near.entry(hash).or_insert(offset);
            self.order.push_front((offset, hash));
        }
    }

    /// Takes what stands around a record's own time, if there is anything; says whether the record is there.
    fn take_far(&mut self, hash: u64, read: Option<(Range<i64>, Read)>) -> bool {
        if let Some((range, read)) = read {
            self.far_read = range;
            self.far = read.hashes.into_iter().map(|(_, hash)| hash).collect();
        }
        let is_there = self.far.contains(&hash);
        self.in_vain = if is_there { 0 } else { self.in_vain + 1 };
        is_there
    }

    fn pass(&mut self, record: &Record, number: Option<Number>) {
        if let Some(number) = number {
            let hash = hash(record, number);
            self.near.insert(hash, record.offset);
            self.order.push_back((record.offset, hash));
        }
        while let Some((offset, hash)) = self.order.pop_front_if(|(offset, _)| *offset < record.offset - LOOK_BACK) {
            if self.near.get(&hash) == Some(&offset) {
                self.near.remove(&hash);
            }
        }
    }
}

/// Of a record's number, key and value.
fn hash(record: &Record, number: Number) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u128(number.producer);
    hasher.write_u64(number.sequence);
    for part in [&record.key, &record.value] {
        match part {
            Some(bytes) => {
                hasher.write_usize(bytes.len());
                hasher.write_u32(crc32c::crc32c(bytes));
            }
            None => hasher.write_usize(usize::MAX),
        }
    }
    hasher.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {

    use super::*;

    const NUMBER: Number = Number { producer: 7, sequence: 3 };

    fn record(offset: i64, value: &'static str) -> Record {
        let (timestamp, headers) = (0, Default::default());
        Record { offset, timestamp, key: Some("k".into()), value: Some(value.into()), headers }
    }

    fn read(records: &[(i64, &'static str)], bytes: u64) -> Read {
        let hashes = records.iter().map(|(offset, value)| (*offset, hash(&record(*offset, value), NUMBER)));
        Read { hashes: hashes.collect(), bytes }
    }

    #[test]
    fn number_key_and_value_together_are_what_is_repeated() {
        let base = record(0, "v");
        let hashes = [
            hash(&base, NUMBER),
            hash(&base, Number { sequence: 4, ..NUMBER }),
            hash(&base, Number { producer: 8, ..NUMBER }),
            hash(&record(0, "w"), NUMBER),
            hash(&record(0, ""), NUMBER),
            hash(&Record { value: None, ..base.clone() }, NUMBER),
            hash(&Record { key: None, ..base.clone() }, NUMBER),
            hash(&Record { key: Some("v".into()), value: Some("k".into()), ..base.clone() }, NUMBER),
        ];
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        assert_eq!(hash(&Record { timestamp: 5, offset: 9, ..base }, NUMBER), hashes[0]);
    }

    #[test]
    fn reading_back_goes_in_growing_steps_and_ends_somewhere() {
        let mut window = Window::new(100_000);
        let mut steps = Vec::new();
        while let Some(step) = window.next_step() {
            steps.push(step.end - step.start);
            window.take_near(step.start, read(&[], 100));
        }
        assert_eq!(steps, [64, 192, 768, 3072, 12_288]);
        assert_eq!(window.from, 100_000 - LOOK_BACK);

        let mut early = Window::new(70);
        assert_eq!(early.next_step(), Some(6..70));
        early.take_near(6, read(&[], 0));
        assert_eq!(early.next_step(), Some(0..6));
        early.take_near(0, read(&[], 0));
        assert_eq!(early.next_step(), None, "the partition begins there");

        let mut large = Window::new(100_000);
        large.take_near(99_936, read(&[], MAX_BYTES));
        assert_eq!(large.next_step(), None, "so much was read already");
    }

    #[test]
    fn what_was_read_is_told_and_what_was_not_has_to_be_asked_for() {
        let mut window = Window::new(10);
        assert_eq!(window.tell(&record(10, "a"), NUMBER), None);
        window.take_near(0, read(&[(4, "a"), (6, "b")], 2));
        assert_eq!(window.tell(&record(10, "a"), NUMBER), Some(true));
        assert_eq!(window.tell(&record(11, "c"), NUMBER), None, "it may be where its time is");
        assert!(!window.take_far(hash(&record(11, "c"), NUMBER), None));
        window.pass(&record(11, "c"), Some(NUMBER));
        assert_eq!(window.tell(&record(12, "c"), NUMBER), Some(true));
        for again in 0..MAX_IN_VAIN - 1 {
            assert_eq!(window.tell(&record(12, "d"), NUMBER), None, "{again}");
            assert!(!window.take_far(hash(&record(12, "d"), NUMBER), None));
        }
        assert_eq!(window.tell(&record(12, "d"), NUMBER), Some(false), "it was asked in vain too often");
    }

    #[test]
    fn what_stands_at_its_own_time_is_read_once() {
        let mut window = Window::new(100_000);
        window.take_near(100_000 - LOOK_BACK, read(&[], 0));
        assert_eq!(window.far_range(-1), None, "no record is as late");
        assert_eq!(window.far_range(90_000), None, "it was read");
        assert_eq!(window.far_range(80_000), Some(80_000..100_000 - LOOK_BACK));
        let range = window.far_range(500).unwrap();
        assert_eq!(range, 500..500 + LOOK_BACK);
        let wanted = hash(&record(100_000, "a"), NUMBER);
        assert!(window.take_far(wanted, Some((range, read(&[(600, "a"), (601, "b")], 2)))));
        assert_eq!(window.tell(&record(100_001, "b"), NUMBER), Some(true));
        assert_eq!(window.far_range(550), None);
    }

    #[test]
    fn old_records_are_forgotten_one_by_one_unless_they_came_again() {
        let mut window = Window::new(0);
        window.pass(&record(0, "a"), Some(NUMBER));
        window.pass(&record(1, "b"), Some(NUMBER));
        window.pass(&record(2, "a"), Some(NUMBER));
        window.pass(&record(LOOK_BACK + 2, "z"), None);
        assert_eq!((window.near.len(), window.order.len()), (1, 1));
        assert_eq!(window.tell(&record(LOOK_BACK + 3, "a"), NUMBER), Some(true));
        assert!(
            !window.is_quiet_at(LOOK_BACK + 3 + QUIET_OFFSETS) && window.is_quiet_at(LOOK_BACK + 4 + QUIET_OFFSETS)
        );
    }
}
