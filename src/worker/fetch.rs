//! Reading one partition: one fetch ahead of what is being processed, and an explanation for whatever does not come.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use superhero_kafka::fetch::{Answer, BatchFetcher, Budget, Chunk, FetchError};
use superhero_kafka::{Cluster, Isolation, OffsetAt, TopicPartition};
use tracing::{error, warn};

use crate::backoff::Backoff;

/// Below 32 MiB, up to which glibc learns.
const LARGEST_KEPT_BLOCK_BYTES: usize = 31 << 20;

/// Makes glibc's allocator keep the memory of large answers for the next ones.
///
/// At first it returns each to the system, to fetch it again page by page: a fifth of the worker's time. Once it has seen
/// a block of some size freed, it keeps all up to that size (mallopt(3), `M_MMAP_THRESHOLD`: the threshold is dynamic).
/// Other allocators take no harm: no page of the block is ever touched.
pub(crate) fn let_allocator_keep_answers() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST_KEPT_BLOCK_BYTES)));
}

/// An open transaction is told again after this time, if it still holds the partition up.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// How much to ask a broker for at a time, how long to wait for it, and what of it counts.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Bytes of one fetch of one partition; a larger batch comes all the same. Two answers are held for each partition, as far as the
    /// budget goes: the one that is processed, and the one that has been asked for.
    pub max_bytes: i32,
    /// How long a broker may hold a fetch back when there is nothing to send.
    pub max_wait: Duration,
    /// Whether records of transactions count before these are committed.
    pub isolation: Isolation,
    /// The memory for all that the partitions of this worker fetch, and of those that share it.
    pub budget: Budget,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            max_wait: Duration::from_millis(500),
            isolation: Isolation::default(),
            budget: Budget::default(),
        }
    }
}

/// A step through the partition.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// What was read; may be empty where the log has holes.
    pub(crate) chunk: Chunk,
    /// Offsets before it that the broker does not hold any more, though nobody has read them.
    pub(crate) gone: Option<Range<i64>>,
}

/// The fetches of one partition, one answer ahead: the next is asked for before the present one is processed.
///
/// It is no task of its own, so that an answer is decoded right before it is processed, on the same core.
pub(crate) struct FetchAhead {
    asking: Asking,
    /// What `asking` has come to before it was awaited.
    early: Option<(Fetcher, Found)>,
    present: Option<Answer>,
    /// What is gone before the first records of the present one.
    gone: Option<Range<i64>>,
}

type Asking = Pin<Box<dyn Future<Output = (Fetcher, Found)> + Send>>;

/// What a fetch has found.
#[derive(Default)]
struct Found {
    answer: Option<Answer>,
    /// Where to go on.
    next: i64,
    gone: Option<Range<i64>>,
}

impl FetchAhead {
    /// Begins with the first call of [`next`](Self::next).
    pub(crate) fn new(fetcher: Fetcher) -> Self {
        Self { asking: Self::ask(fetcher), early: None, present: None, gone: None }
    }

    /// The next records. What was returned before must have been dropped: its memory may be needed.
    ///
    /// # Cancellation
    /// Safe: nothing is lost.
    pub(crate) async fn next(&mut self) -> Fetched {
        loop {
            if let Some(answer) = &mut self.present {
                if let Some(chunk) = answer.next_chunk().await {
                    return Fetched { chunk, gone: self.gone.take() };
                }
                self.present = None;
            }
            let (fetcher, Found { answer, next, gone }) = match self.early.take() {
                Some(found) => found,
                None => self.asking.as_mut().await,
            };
            self.asking = Self::ask(fetcher);
            // The first poll sends the request; the answer waits until the present one is read.
            self.early = poll_fn(|context| match self.asking.as_mut().poll(context) {
                Poll::Ready(found) => Poll::Ready(Some(found)),
                Poll::Pending => Poll::Ready(None),
            })
            .await;
            if answer.as_ref().is_some_and(|answer| answer.position() < next) {
                (self.present, self.gone) = (answer, gone);
                continue;
            }
            let mut fetched = Fetched { gone, ..Fetched::default() };
            fetched.chunk.next = next;
            return fetched;
        }
    }

    fn ask(mut fetcher: Fetcher) -> Asking {
        Box::pin(async move {
            let found = fetcher.next().await;
            (fetcher, found)
        })
    }
}

/// Where reading can go on when the broker has no record at `position`.
#[derive(Debug, PartialEq, Eq)]
enum Elsewhere {
    /// It has: the error was of the moment.
    Here,
    /// The records in between are gone: retention was faster than the worker.
    Later(Range<i64>),
    /// The log ends before the position: its end was cut off at the broker.
    CutOff { end: i64 },
}

fn elsewhere(position: i64, earliest: i64, end: i64) -> Elsewhere {
    if position < earliest {
        Elsewhere::Later(position..earliest)
    } else if position > end {
        Elsewhere::CutOff { end }
    } else {
        Elsewhere::Here
    }
}

/// Reads a partition from a position on.
#[derive(Debug)]
pub(crate) struct Fetcher {
    cluster: Arc<Cluster>,
    source: TopicPartition,
    config: FetchConfig,
    /// None until the earliest record has been looked for.
    position: Option<i64>,
    batches: BatchFetcher,
    backoff: Backoff,
    /// An end of the log before the position, seen when the log had been cut off.
    cut_off_at: Option<i64>,
    /// Where an open transaction holds the partition up, and when that was told.
    waiting: Option<(i64, Instant)>,
}

impl Fetcher {
    /// Starts at `position`; none is the earliest record that there is.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        source: TopicPartition,
        config: FetchConfig,
        position: Option<i64>,
    ) -> Self {
        Self {
            batches: BatchFetcher::new(source.clone(), config.isolation, config.budget.clone()),
            cluster,
            source,
            config,
            position,
            backoff: Backoff::default(),
            cut_off_at: None,
            waiting: None,
        }
    }

    /// The next step, however long it takes: trouble with this partition is told in the log and tried again, so that no
    /// other partition suffers from it.
    async fn next(&mut self) -> Found {
        let found = match self.position {
            Some(position) => self.read_from(position).await,
            None => self.find_earliest().await,
        };
        self.position = Some(found.next);
        found
    }

    async fn find_earliest(&mut self) -> Found {
        loop {
            match self.cluster.offset(&self.source, OffsetAt::Earliest).await {
                Ok(earliest) => {
                    self.backoff.reset();
                    return Found { next: earliest, ..Found::default() };
                }
                Err(error) => self.explain(0, error.into()).await,
            }
        }
    }

    /// A broker always sends at least one whole batch of those that begin at the position or hold it
    /// ([KIP-74](https://cwiki.apache.org/confluence/x/cgFJAw)), emptied ones included, so this gets on where the log does.
    async fn read_from(&mut self, mut position: i64) -> Found {
        let mut gone = None;
        loop {
            let Self { cluster, config, batches, .. } = self;
            match batches.fetch(cluster, position, config.max_bytes, config.max_wait).await {
                Ok(answer) => {
                    self.backoff.reset();
                    gone = gone.or(self.cut_off_at.take().map(|end| end..position));
                    let next = answer.next();
                    if next == position && gone.is_none() {
                        self.tell_waiting(answer.held_back.clone()).await;
                        continue;
                    }
                    return Found { answer: Some(answer), next, gone };
                }
                Err(error) if error.is_out_of_range() => {
                    if let Some(range) = self.out_of_range(position).await {
                        position = range.end;
                        gone = Some(range);
                    }
                }
                Err(error) => self.explain(position, error).await,
            }
        }
    }

    /// Says what keeps the partition waiting, once and then from time to time.
    async fn tell_waiting(&mut self, held_back: Option<Range<i64>>) {
        let Some(offsets) = held_back else {
            self.waiting = None;
            return;
        };
        let first = offsets.start;
        if self.waiting.is_some_and(|(told, at)| told == first && at.elapsed() < TELL_AGAIN) {
            return;
        }
        self.waiting = Some((first, Instant::now()));
        match self.batches.waiting(&self.cluster, offsets).await {
            Ok(waiting) => warn!(partition = %self.source, %waiting, "records wait, which is no fault of the worker's"),
            Err(error) => {
                warn!(partition = %self.source, offset = first, %error, "records wait behind an open transaction")
            }
        }
    }

    /// Says where the records are, and pauses if that is nowhere; returns the offsets that will never be read.
    async fn out_of_range(&mut self, position: i64) -> Option<Range<i64>> {
        let partition = &self.source;
        let found = async {
            let earliest = self.cluster.offset(partition, OffsetAt::Earliest).await?;
            Ok(elsewhere(position, earliest, self.cluster.offset(partition, OffsetAt::Latest).await?))
        };
        match found.await {
            Ok(Elsewhere::Here) => return None,
            Ok(Elsewhere::Later(range)) => {
                error!(
                    %partition, from = range.start, to = range.end,
                    "the broker has deleted records before they were read: the offsets from..to are lost; reading goes on at to"
                );
                return Some(range);
            }
            Ok(Elsewhere::CutOff { end }) => {
                self.cut_off_at = Some(self.cut_off_at.map_or(end, |known| known.min(end)));
                error!(
                    %partition, offset = position, end,
                    "the partition ends before the offset that is next: the broker has lost its end, or the topic was deleted and \
                     made again; waiting"
                );
                self.pause().await;
            }
            Err(error) => self.explain(position, FetchError::Cluster(error)).await,
        }
        None
    }

    /// Says what is wrong, and pauses.
    async fn explain(&mut self, offset: i64, error: FetchError) {
        warn!(partition = %self.source, offset, %error, "fetching failed; trying again");
        self.pause().await;
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.backoff.pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_are_gone_are_told_exactly() {
        for (position, earliest, end, expected) in [
            (5, 0, 9, Elsewhere::Here),
            (5, 5, 5, Elsewhere::Here),
            (5, 7, 9, Elsewhere::Later(5..7)),
            (0, 7, 7, Elsewhere::Later(0..7)),
            (9, 0, 5, Elsewhere::CutOff { end: 5 }),
        ] {
            assert_eq!(elsewhere(position, earliest, end), expected, "{position} in {earliest}..{end}");
        }
    }
}
