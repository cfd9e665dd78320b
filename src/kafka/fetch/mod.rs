//! Fetches of one partition, whatever is in it: batches of every compression, marks of transactions, batches that were compacted away
//! to the last record, and those that nobody can read.
//!
//! An [`Answer`] is read as a stream, a [`Chunk`] of records at a time, in memory that everybody in the process shares: the [`Budget`].
//! Nothing of a record is copied on its way from the socket, unless its batch is compressed. What is left of a batch where it cannot be read
//! stands as one record without a key whose value is the batch, at its first offset that is lost; a record that is too large stands without its
//! value. Whoever takes them is told the reasons.
//!
//! Read committed, marks and batches of transactions that were aborted are left out, as the broker's answer tells them.

mod aborted;
mod answer;
mod batch;
mod budget;
mod chunk;
mod codec;
mod large;
mod record;
mod snappy;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::sleep;
use tracing::debug;

pub use self::answer::Answer;
pub use self::budget::Budget;
pub(crate) use self::budget::{Permit, Share};
pub use self::chunk::{Chunk, Odd};
pub use self::record::{Headers, Record};
use crate::wire::{Connection, WireError};
use crate::{ClientError, Cluster, Isolation, TopicPartition};

/// The oldest that brokers serve; what later ones add is not needed here.
const FETCH_VERSION: i16 = 4;
/// A quota holds a client back for no longer than its window (11 samples of a second, by the brokers' defaults), several quotas in
/// turn for some more; a broker that asks for more gets the next fetch by then.
const MAX_THROTTLE: Duration = Duration::from_secs(30);
/// As a consumer that is no replica says.
const NO_REPLICA: i32 = -1;
/// Of records that no idempotent producer has sent.
const NO_PRODUCER: i64 = -1;
/// How often a batch whose checksum is wrong is fetched before it is taken as it is.
const CORRUPT_FETCHES: u32 = 5;

/// A connection to the leader of one partition, for batches as they are.
#[derive(Debug)]
pub struct BatchFetcher {
    source: TopicPartition,
    isolation: Isolation,
    budget: Budget,
    connection: Option<Connection>,
    /// The offset of a batch whose checksum is wrong, and how often it was.
    corrupt: Option<(i64, u32)>,
}

/// What waits behind a transaction that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// From its first record to the end of the partition.
    pub offsets: Range<i64>,
    /// Its producer's id.
    pub producer: i64,
    /// When its first record was made, by the producer's clock; none if that is no time.
    pub since: Option<DateTime<Utc>>,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { offsets, producer, since } = self;
        let records = offsets.end.abs_diff(offsets.start);
        write!(
            f,
            "{records} records from offset {} on wait behind an open transaction of producer {producer}",
            offsets.start
        )?;
        match since {
            Some(since) => write!(f, " since {}", since.format("%Y-%m-%dT%H:%M:%S%.3fZ")),
            None => Ok(()),
        }
    }
}

/// Why batches do not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The cluster tells nothing of the partition.
    #[error(transparent)]
    Cluster(#[from] ClientError),
    /// The leader does not answer.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The broker refuses.
    #[error("Kafka broker refuses to fetch {partition} from offset {offset}: {error}")]
    Refused {
        /// The partition.
        partition: TopicPartition,
        /// What was asked for.
        offset: i64,
        /// The broker's reason.
        error: ResponseError,
    },
    /// The answer is of other partitions, or of none.
    #[error("the Kafka broker's answer to a fetch of {partition} from offset {offset} leaves the partition out")]
    LeftOut {
        /// The partition.
        partition: TopicPartition,
        /// What was asked for.
        offset: i64,
    },
    /// The partition goes on, and not even an emptied batch comes.
    #[error("Kafka partition {partition} ends at {high_watermark}, and nothing comes from offset {offset} on")]
    Nothing {
        /// The partition.
        partition: TopicPartition,
        /// What was asked for.
        offset: i64,
        /// Where it ends.
        high_watermark: i64,
    },
    /// A batch is not what the broker was given.
    #[error(
        "the batch at offset {offset} of {partition} has a wrong checksum; it is fetched again, {CORRUPT_FETCHES} times in all"
    )]
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// Of the batch.
        offset: i64,
    },
}

impl FetchError {
    /// Whether the offset that was asked for is none of the broker's log: before its first, or behind its end.
    pub fn is_out_of_range(&self) -> bool {
        matches!(self, Self::Refused { error: ResponseError::OffsetOutOfRange, .. })
    }
}

impl BatchFetcher {
    /// For one partition.
    pub fn new(source: TopicPartition, isolation: Isolation, budget: Budget) -> Self {
        Self { source, isolation, budget, connection: None, corrupt: None }
    }

    /// Fetches from `offset` on, `max_bytes` or one batch; the broker waits for `max_wait` if there is nothing.
    ///
    /// # Errors
    /// [`FetchError`]; a later attempt looks for the leader anew.
    ///
    /// # Cancellation
    /// Safe: the next call opens another connection.
    pub async fn fetch(
        &mut self,
        cluster: &Cluster,
        offset: i64,
        max_bytes: i32,
        max_wait: Duration,
    ) -> Result<Answer, FetchError> {
        let limit = cluster.config().request_timeout + max_wait;
        loop {
            let connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.connect(cluster).await?,
            };
            let request = self.request(offset, max_bytes, max_wait, self.isolation);
            let asked = self.ask(connection, request, offset, limit).await?;
            // An answer without records says that there are none, which a quota's does not.
            if let Some((partition, memory)) = asked {
                return self.read(offset, partition, memory);
            }
        }
    }

    /// What waits from `offsets.start` on, where an answer says that a transaction is open: its first record tells whose.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    ///
    /// # Cancellation
    /// As [`fetch`](Self::fetch).
    pub async fn waiting(&mut self, cluster: &Cluster, offsets: Range<i64>) -> Result<Waiting, FetchError> {
        let limit = cluster.config().request_timeout;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(cluster).await?,
        };
        let request = self.request(offsets.start, 1, Duration::ZERO, Isolation::Uncommitted);
        let asked = self.ask(connection, request, offsets.start, limit).await?;
        let mut records = asked.and_then(|(partition, _)| partition.records).unwrap_or_default();
        let first = batch::take(&mut records);
        let producer = first.as_ref().and_then(batch::Batch::transaction).unwrap_or(NO_PRODUCER);
        let since = first.and_then(|batch| batch.base_timestamp_ms()).and_then(DateTime::from_timestamp_millis);
        Ok(Waiting { offsets, producer, since })
    }

    /// The end that readers of committed records have now, and the end of the log; `at` is one of the two, or in between.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    ///
    /// # Cancellation
    /// As [`fetch`](Self::fetch).
    pub async fn ends(&mut self, cluster: &Cluster, at: i64) -> Result<Range<i64>, FetchError> {
        let limit = cluster.config().request_timeout;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(cluster).await?,
        };
        let request = self.request(at, 1, Duration::ZERO, Isolation::Committed);
        let Some((partition, _)) = self.ask(connection, request, at, limit).await? else { return Ok(at..at) };
        let PartitionData { high_watermark, last_stable_offset: stable, .. } = partition;
        Ok(if (0..high_watermark).contains(&stable) { stable..high_watermark } else { high_watermark..high_watermark })
    }

    /// None after a time for which a quota held the answer back.
    async fn ask(
        &mut self,
        mut connection: Connection,
        request: FetchRequest,
        offset: i64,
        limit: Duration,
    ) -> Result<Option<(PartitionData, Option<Permit>)>, FetchError> {
        let answer = connection.call(FETCH_VERSION, &request, limit).await?;
        let memory = connection.take_memory();
        let partition = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let Some(partition) = partition else {
            // A quota's answer is empty, and the broker reads nothing more from the connection until its time is over (KIP-219).
            let throttled = u64::try_from(answer.throttle_time_ms).unwrap_or_default();
            if throttled == 0 {
                return Err(FetchError::LeftOut { partition: self.source.clone(), offset });
            }
            debug!(partition = %self.source, throttled, "the broker's quota holds the fetch back");
            sleep(Duration::from_millis(throttled).min(MAX_THROTTLE)).await;
            self.connection = Some(connection);
            return Ok(None);
        };
        if let Some(error) = ResponseError::try_from_code(partition.error_code) {
            return Err(FetchError::Refused { partition: self.source.clone(), offset, error });
        }
        self.connection = Some(connection);
        Ok(Some((partition, memory)))
    }

    async fn connect(&self, cluster: &Cluster) -> Result<Connection, FetchError> {
        let mut connection = cluster.connect_to_leader(&self.source).await?.sharing(self.budget.clone());
        connection.require(&[(ApiKey::Fetch, FETCH_VERSION)], cluster.config().request_timeout).await?;
        Ok(connection)
    }

    fn request(&self, offset: i64, max_bytes: i32, max_wait: Duration, isolation: Isolation) -> FetchRequest {
        let partition = FetchPartition::default()
            .with_partition(self.source.partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(max_bytes);
        let topic = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_string(self.source.topic.clone())))
            .with_partitions(vec![partition]);
        FetchRequest::default()
            .with_replica_id(BrokerId(NO_REPLICA))
            .with_max_wait_ms(i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(max_bytes)
            .with_isolation_level(isolation.wire())
            .with_topics(vec![topic])
    }

    /// Takes batches up to one whose checksum is wrong; that is an error if it comes first, until it has been so often enough.
    fn read(&mut self, offset: i64, partition: PartitionData, memory: Option<Permit>) -> Result<Answer, FetchError> {
        let PartitionData { high_watermark, last_stable_offset, aborted_transactions, records, .. } = partition;
        // Brokers of before transactions, and ours, have no other end.
        let is_held = self.isolation == Isolation::Committed && (0..high_watermark).contains(&last_stable_offset);
        let end = if is_held { last_stable_offset } else { high_watermark };
        let mut answer = Answer::new(offset, records.unwrap_or_default(), self.budget.clone());
        if let Some(first) = answer.corrupt_first() {
            let before = self.corrupt.filter(|(corrupt, _)| *corrupt == first).map_or(0, |(_, times)| times);
            self.corrupt = Some((first, before + 1));
            if before + 1 < CORRUPT_FETCHES {
                return Err(FetchError::Corrupt { partition: self.source.clone(), offset: first });
            }
            answer.take_corrupt_first();
        }
        if answer.next() == offset && end > offset {
            return Err(FetchError::Nothing { partition: self.source.clone(), offset, high_watermark: end });
        }
        if self.isolation == Isolation::Committed {
            answer.leave_out_aborted(aborted_transactions.unwrap_or_default());
        }
        answer.held_back = is_held.then_some(last_stable_offset..high_watermark);
        answer.memory = memory.map(Arc::new);
        Ok(answer)
    }
}
