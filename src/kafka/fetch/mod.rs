//! Fetches of one partition, whatever is in it: batches of every compression, marks of transactions, batches that were compacted away
//! to the last record, and those that nobody can read.
//!
//! Nothing of a record is copied on its way from the socket, unless its batch is compressed. A batch that cannot be read stands as one
//! record without a key whose value is the batch, at its first offset; whoever takes it is told the reason.

mod batch;
mod codec;
mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::sleep;
use tracing::debug;

use self::batch::Content;
pub use self::codec::MAX_PLAIN_BYTES;
pub use self::record::{Headers, Record};
use crate::wire::{Connection, WireError};
use crate::{ClientError, Cluster, TopicPartition};

/// The oldest that brokers serve; what later ones add is not needed here.
const FETCH_VERSION: i16 = 4;
/// The largest answer, which is one batch where that is larger than what was asked for.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// A quota holds a client back for no longer than its window (11 samples of a second, by the brokers' defaults), several quotas in
/// turn for some more; a broker that asks for more gets the next fetch by then.
const MAX_THROTTLE: Duration = Duration::from_secs(30);
/// As a consumer that is no replica says.
const NO_REPLICA: i32 = -1;
/// How often a batch whose checksum is wrong is fetched before it is taken as it is.
const CORRUPT_FETCHES: u32 = 5;

/// A connection to the leader of one partition, for batches as they are.
#[derive(Debug)]
pub struct BatchFetcher {
    source: TopicPartition,
    connection: Option<Connection>,
    /// The offset of a batch whose checksum is wrong, and how often it was.
    corrupt: Option<(i64, u32)>,
}

/// An answer.
#[derive(Debug, Default)]
pub struct Batches {
    /// In the order of offsets, none before the one that was asked for.
    pub records: Vec<Record>,
    /// Which of them are batches that cannot be read, and why.
    pub undecodable: Vec<Undecodable>,
    /// Where to go on; the offset that was asked for at the end of the partition.
    pub next: i64,
}

/// A batch that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// Of the record that stands for it.
    pub offset: i64,
    /// Why, with its offsets.
    pub reason: String,
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
    pub fn new(source: TopicPartition) -> Self {
        Self { source, connection: None, corrupt: None }
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
    ) -> Result<Batches, FetchError> {
        let limit = cluster.config().request_timeout + max_wait;
        loop {
            let connection = match self.connection.take().filter(Connection::is_usable) {
                Some(connection) => connection,
                None => self.connect(cluster).await?,
            };
            let asked = self.ask(connection, self.request(offset, max_bytes, max_wait), offset, limit).await?;
            // An answer without records says that there are none, which a quota's does not.
            if let Some(batches) = asked {
                return Ok(batches);
            }
        }
    }

    /// None after a time for which a quota held the answer back.
    async fn ask(
        &mut self,
        mut connection: Connection,
        request: FetchRequest,
        offset: i64,
        limit: Duration,
    ) -> Result<Option<Batches>, FetchError> {
        let answer = connection.call(FETCH_VERSION, &request, limit).await?;
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
        self.read(offset, partition.high_watermark, partition.records.unwrap_or_default()).map(Some)
    }

    async fn connect(&self, cluster: &Cluster) -> Result<Connection, FetchError> {
        let mut connection = cluster.connect_to_leader(&self.source).await?.accepting(MAX_ANSWER_BYTES);
        connection.require(&[(ApiKey::Fetch, FETCH_VERSION)], cluster.config().request_timeout).await?;
        Ok(connection)
    }

    fn request(&self, offset: i64, max_bytes: i32, max_wait: Duration) -> FetchRequest {
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
            .with_topics(vec![topic])
    }

    /// Reads batches up to one whose checksum is wrong; that is an error if it comes first, until it has been so often enough.
    fn read(&mut self, offset: i64, high_watermark: i64, mut bytes: Bytes) -> Result<Batches, FetchError> {
        let mut all = Batches { next: offset, ..Batches::default() };
        while let Some(batch) = batch::take(&mut bytes) {
            if batch.next <= all.next {
                continue;
            }
            let first = batch.base_offset.max(all.next);
            let (reason, timestamp, value) = match batch.content {
                Content::Records(records) => {
                    all.records.extend(records.into_iter().filter(|record| record.offset >= first));
                    all.next = batch.next;
                    continue;
                }
                Content::Undecodable { reason, timestamp, bytes } => (reason, timestamp, bytes),
                Content::Corrupt { timestamp, bytes } => {
                    if all.next > offset {
                        break;
                    }
                    let before = self.corrupt.filter(|(corrupt, _)| *corrupt == first).map_or(0, |(_, times)| times);
                    self.corrupt = Some((first, before + 1));
                    if before + 1 < CORRUPT_FETCHES {
                        return Err(FetchError::Corrupt { partition: self.source.clone(), offset: first });
                    }
                    ("its checksum is wrong".to_owned(), timestamp, bytes)
                }
            };
            let reason = format!("the batch of the offsets {first} to {} cannot be read: {reason}", batch.next - 1);
            all.records.push(Record {
                offset: first,
                timestamp,
                key: None,
                value: Some(value),
                headers: Headers::default(),
            });
            all.undecodable.push(Undecodable { offset: first, reason });
            all.next = batch.next;
        }
        if all.next == offset && high_watermark > offset {
            return Err(FetchError::Nothing { partition: self.source.clone(), offset, high_watermark });
        }
        Ok(all)
    }
}
