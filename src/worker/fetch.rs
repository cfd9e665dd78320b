//! Reading one partition: one fetch ahead of what is being processed, and an explanation for whatever does not come.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rskafka::client::error::{Error as KafkaError, ProtocolError, RequestError};
use rskafka::client::partition::{OffsetAt, PartitionClient};
use rskafka::record::RecordAndOffset;
use superhero_kafka::{ClientError, Cluster, TopicPartition, within};
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
    /// Bytes of one fetch of one partition; a larger batch comes all the same. Some four times as much is held in memory
    /// for each partition: the answer that is processed, as records, and the one that has been asked for, as it comes.
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
    pub(crate) records: Vec<RecordAndOffset>,
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

/// What an answer to a fetch means for the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Records came; go on behind the last.
    Records { next: i64 },
    /// The end of the log, for now.
    End,
    /// The log goes on, and yet nothing came.
    Hole,
}

/// `last` is the offset of the last record of the answer.
fn step(position: i64, last: Option<i64>, high_watermark: i64) -> Step {
    match last {
        Some(last) => Step::Records { next: last + 1 },
        None if high_watermark > position => Step::Hole,
        None => Step::End,
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
    client: Option<PartitionClient>,
    backoff: Backoff,
    /// An end of the log before the position, seen when the log had been cut off.
    cut_off_at: Option<i64>,
}

/// A fetch that brought nothing where the log goes on is repeated so large, to be over many emptied batches at once.
const LARGEST_FETCH_BYTES: i32 = 8 << 20;

impl Fetcher {
    /// Starts at `position`; none is the earliest record that there is.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        source: TopicPartition,
        config: FetchConfig,
        position: Option<i64>,
    ) -> Self {
        Self { cluster, source, config, position, client: None, backoff: Backoff::default(), cut_off_at: None }
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
            match self.offset(OffsetAt::Earliest).await {
                Ok(earliest) => {
                    self.backoff.reset();
                    return Fetched { next: earliest, ..Fetched::default() };
                }
                Err(error) => self.explain(0, error).await,
            }
        }
    }

    async fn read_from(&mut self, mut position: i64) -> Fetched {
        let mut gone = None;
        loop {
            match self.fetch(position, self.config.max_bytes).await {
                Ok((records, high_watermark)) => {
                    gone = gone.or(self.cut_off_at.take().map(|end| end..position));
                    match step(position, records.last().map(|record| record.offset), high_watermark) {
                        Step::Records { next } => return Fetched { records, next, gone },
                        Step::Hole => return Fetched { gone, ..self.step_over(position).await },
                        Step::End if gone.is_some() => return Fetched { next: position, gone, ..Fetched::default() },
                        Step::End => {}
                    }
                }
                Err(error) if is_out_of_range(&error) => {
                    if let Some(range) = self.out_of_range(position).await {
                        position = range.end;
                        gone = Some(range);
                    }
                }
                Err(error) => self.explain(position, error).await,
            }
        }
    }

    /// A broker always sends at least one whole batch of those that begin at the position or hold it
    /// ([KIP-74](https://cwiki.apache.org/confluence/x/cgFJAw)), and rskafka leaves out those of its records that stand
    /// before the position. So when the log goes on and nothing is left, the position was compacted away. The offset after
    /// it is asked for next: a fetch there cannot pass over a record, however long the hole is.
    async fn step_over(&mut self, first: i64) -> Fetched {
        let mut position = first;
        loop {
            match self.fetch(position, LARGEST_FETCH_BYTES).await {
                Ok((records, high_watermark)) => {
                    let next = match step(position, records.last().map(|record| record.offset), high_watermark) {
                        Step::Hole => {
                            position += 1;
                            continue;
                        }
                        Step::Records { next } => next,
                        Step::End => position,
                    };
                    let to = records.first().map_or(next, |record| record.offset);
                    info!(partition = %self.source, from = first, to, "stepped over offsets that have no records any more");
                    return Fetched { records, next, gone: None };
                }
                // It is met again at this position, by the next fetch.
                Err(error) if is_out_of_range(&error) => return Fetched { next: position, ..Fetched::default() },
                Err(error) => self.explain(position, error).await,
            }
        }
    }

    async fn fetch(&mut self, position: i64, max_bytes: i32) -> Result<(Vec<RecordAndOffset>, i64), ClientError> {
        let wait_ms = i32::try_from(self.config.max_wait.as_millis()).unwrap_or(i32::MAX);
        let limit = self.cluster.config().request_timeout + self.config.max_wait;
        let what = format!("fetch {} from offset {position}", self.source);
        let answer = within(limit, what, self.client().await?.fetch_records(position, 1..max_bytes, wait_ms)).await;
        self.note(answer)
    }

    async fn offset(&mut self, at: OffsetAt) -> Result<i64, ClientError> {
        let (limit, what) = (self.cluster.config().request_timeout, format!("offsets of {}", self.source));
        let answer = within(limit, what, self.client().await?.get_offset(at)).await;
        self.note(answer)
    }

    async fn client(&mut self) -> Result<&PartitionClient, ClientError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.cluster.partition_client(&self.source.topic, self.source.partition).await?,
        };
        Ok(self.client.insert(client))
    }

    fn note<T>(&mut self, answer: Result<T, ClientError>) -> Result<T, ClientError> {
        match &answer {
            Ok(_) => self.backoff.reset(),
            // rskafka keeps a connection that hangs.
            Err(ClientError::Timeout { .. }) => self.client = None,
            Err(_) => {}
        }
        answer
    }

    /// Says where the records are, and pauses if that is nowhere; returns the offsets that will never be read.
    async fn out_of_range(&mut self, position: i64) -> Option<Range<i64>> {
        let found = async {
            let earliest = self.offset(OffsetAt::Earliest).await?;
            Ok(elsewhere(position, earliest, self.offset(OffsetAt::Latest).await?))
        };
        let found = found.await;
        let partition = &self.source;
        match found {
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
            Err(error) => self.explain(position, error).await,
        }
        None
    }

    /// Says what is wrong, and pauses.
    async fn explain(&mut self, offset: i64, error: ClientError) {
        let partition = &self.source;
        if is_undecodable(&error) {
            error!(
                %partition, offset, %error,
                "a batch at this offset or after it cannot be decoded (compressed with lz4 or zstd, or of a transaction?); \
                 the partition waits, and the others go on"
            );
        } else {
            warn!(%partition, offset, %error, "fetching failed; trying again");
            // A new connection also looks for the partition's leader anew.
            self.client = None;
        }
        self.pause().await;
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.backoff.pause()).await;
    }
}

fn is_out_of_range(error: &ClientError) -> bool {
    let ClientError::Rskafka { source, .. } = error else { return false };
    matches!(**source, KafkaError::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. })
}

/// The answer came whole and still could not be read.
fn is_undecodable(error: &ClientError) -> bool {
    let ClientError::Rskafka { source, .. } = error else { return false };
    matches!(
        **source,
        KafkaError::InvalidResponse(_)
            | KafkaError::Request(
                RequestError::ReadError(_) | RequestError::ReadVersionedError(_) | RequestError::TooMuchData { .. }
            )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_moves_the_position_only_behind_what_it_holds() {
        for (position, last, high_watermark, expected) in [
            (5, Some(9), 20, Step::Records { next: 10 }),
            (5, Some(9), 10, Step::Records { next: 10 }),
            (5, None, 5, Step::End),
            // A follower that became leader may know of less than was read; what is not there comes back.
            (5, None, 4, Step::End),
            (5, None, 6, Step::Hole),
        ] {
            assert_eq!(step(position, last, high_watermark), expected, "{position} {last:?} {high_watermark}");
        }
    }

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
