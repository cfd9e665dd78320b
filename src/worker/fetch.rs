//! Reading one partition: one fetch ahead of what is being processed, and an explanation for whatever does not come.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use superhero_kafka::fetch::{BatchFetcher, Batches, FetchError, Record, Undecodable};
use superhero_kafka::{Cluster, OffsetAt, TopicPartition};
use tracing::{error, info, warn};

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

/// How much to ask a broker for at a time, and how long to wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchConfig {
    /// Bytes of one fetch of one partition; a larger batch comes all the same. Some twice as much is held in memory
    /// for each partition, and what compressed batches of it come to: the answer that is processed, and the one that has been asked for.
    pub max_bytes: i32,
    /// How long a broker may hold a fetch back when there is nothing to send.
    pub max_wait: Duration,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self { max_bytes: 1 << 20, max_wait: Duration::from_millis(500) }
    }
}

/// A step through the partition.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// What was read, in the order of offsets; may be empty where the log has holes.
    pub(crate) records: Vec<Record>,
    /// Which of them are batches that cannot be read.
    pub(crate) undecodable: Vec<Undecodable>,
    /// Every offset below this one has been dealt with.
    pub(crate) next: i64,
    /// Offsets before the first of `records` that the broker does not hold any more, though nobody has read them.
    pub(crate) gone: Option<Range<i64>>,
}

/// The fetches of one partition, one answer ahead: the next is asked for before the present one is processed.
///
/// It is no task of its own, so that an answer is decoded right before it is processed, on the same core.
pub(crate) struct FetchAhead {
    asking: Asking,
    /// What `asking` has come to before it was awaited.
    early: Option<(Fetcher, Fetched)>,
}

type Asking = Pin<Box<dyn Future<Output = (Fetcher, Fetched)> + Send>>;

impl FetchAhead {
    /// Begins with the first call of [`next`](Self::next).
    pub(crate) fn new(fetcher: Fetcher) -> Self {
        Self { asking: Self::ask(fetcher), early: None }
    }

    /// The next answer; the one after it is asked for by then.
    ///
    /// # Cancellation
    /// Safe: no answer is lost.
    pub(crate) async fn next(&mut self) -> Fetched {
        let (fetcher, fetched) = match self.early.take() {
            Some(answered) => answered,
            None => self.asking.as_mut().await,
        };
        self.asking = Self::ask(fetcher);
        // The first poll sends the request; the answer waits until the next call.
        self.early = poll_fn(|context| match self.asking.as_mut().poll(context) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        fetched
    }

    fn ask(mut fetcher: Fetcher) -> Asking {
        Box::pin(async move {
            let fetched = fetcher.next().await;
            (fetcher, fetched)
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
            batches: BatchFetcher::new(source.clone()),
            cluster,
            source,
            config,
            position,
            backoff: Backoff::default(),
            cut_off_at: None,
        }
    }

    /// The next step, however long it takes: trouble with this partition is told in the log and tried again, so that no
    /// other partition suffers from it.
    async fn next(&mut self) -> Fetched {
        let fetched = match self.position {
            Some(position) => self.read_from(position).await,
            None => self.find_earliest().await,
        };
        self.position = Some(fetched.next);
        fetched
    }

    async fn find_earliest(&mut self) -> Fetched {
        loop {
            match self.cluster.offset(&self.source, OffsetAt::Earliest).await {
                Ok(earliest) => {
                    self.backoff.reset();
                    return Fetched { next: earliest, ..Fetched::default() };
                }
                Err(error) => self.explain(0, error.into()).await,
            }
        }
    }

    /// A broker always sends at least one whole batch of those that begin at the position or hold it
    /// ([KIP-74](https://cwiki.apache.org/confluence/x/cgFJAw)), emptied ones included, so this gets on where the log does.
    async fn read_from(&mut self, mut position: i64) -> Fetched {
        let mut gone = None;
        loop {
            let Self { cluster, config, batches, .. } = self;
            match batches.fetch(cluster, position, config.max_bytes, config.max_wait).await {
                Ok(Batches { records, undecodable, next, .. }) => {
                    self.backoff.reset();
                    gone = gone.or(self.cut_off_at.take().map(|end| end..position));
                    if next == position && gone.is_none() {
                        continue;
                    }
                    let first = records.first().map_or(next, |record| record.offset);
                    if first > position {
                        info!(
                            partition = %self.source, from = position, to = first,
                            "stepped over offsets that have no records, or none any more"
                        );
                    }
                    return Fetched { records, undecodable, next, gone };
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
