//! The records of a partition fetched from Kafka, in bounded memory and with bounded waits.

use std::time::Duration;

use rskafka::client::error::{Error as KafkaError, ProtocolError};
use rskafka::client::partition::{OffsetAt, PartitionClient};
use superhero_kafka::{ClientError, Cluster, TopicPartition, within};
use tokio::sync::mpsc;
use tracing::warn;

use crate::VerifyError;
use crate::log::{Fetched, Record};

/// Bytes asked for at a time; a larger batch comes all the same.
const FETCH_BYTES: i32 = 1 << 20;
/// As many where a fetch brought nothing though the log goes on, to be over many emptied batches at once.
const LARGEST_FETCH_BYTES: i32 = 8 << 20;
/// How long a broker may hold a fetch back: records below the end are there, so there is nothing to wait for.
const MAX_WAIT_MS: i32 = 500;
/// A leader election takes some seconds; each attempt may take the cluster's request timeout besides.
const ATTEMPTS: u32 = 8;
/// Between attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// One partition of the topic.
pub(crate) struct Fetcher<'a> {
    cluster: &'a Cluster,
    source: TopicPartition,
    client: Option<PartitionClient>,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(cluster: &'a Cluster, source: TopicPartition) -> Self {
        Self { cluster, source, client: None }
    }

    /// The first offset that the topic holds, and the one after its last.
    ///
    /// # Cancellation
    /// Safe: it is only asked again.
    pub(crate) async fn bounds(&mut self) -> Result<(i64, i64), VerifyError> {
        Ok((self.offset(OffsetAt::Earliest).await?, self.offset(OffsetAt::Latest).await?))
    }

    /// Sends all records from `position` to `end`, as far as anybody takes them; the last thing sent is the error, if there is one.
    ///
    /// # Cancellation
    /// The receiver cannot tell it from the end: whoever drops this has to stop the receiver as well.
    pub(crate) async fn send_all(
        mut self,
        mut position: i64,
        end: i64,
        steps: mpsc::Sender<Result<Fetched, VerifyError>>,
    ) {
        while position < end {
            let step = self.step(&mut position).await;
            let goes_on = step.is_ok();
            if steps.send(step).await.is_err() || !goes_on {
                return;
            }
        }
    }

    /// Fetches from `position`, and moves it behind what came, or over an offset that has no record any more.
    ///
    /// A broker always sends at least one whole batch of those that begin at the position or hold it
    /// ([KIP-74](https://cwiki.apache.org/confluence/x/cgFJAw)). So when nothing comes below the end, the position was compacted
    /// away, or is that of a transaction's marker.
    async fn step(&mut self, position: &mut i64) -> Result<Fetched, VerifyError> {
        let mut max_bytes = FETCH_BYTES;
        loop {
            match self.fetch(*position, max_bytes).await {
                Ok((records, end)) => match records.last() {
                    Some(last) => {
                        *position = last.offset + 1;
                        return Ok(Fetched { records, earliest: None });
                    }
                    // The log was cut off at its end, and there will be no more.
                    None if end <= *position => {
                        *position = i64::MAX;
                        return Ok(Fetched::default());
                    }
                    None if max_bytes == FETCH_BYTES => max_bytes = LARGEST_FETCH_BYTES,
                    None => {
                        *position += 1;
                        return Ok(Fetched::default());
                    }
                },
                Err(VerifyError::Kafka(error)) if is_out_of_range(&error) => {
                    let earliest = self.offset(OffsetAt::Earliest).await?;
                    // Beyond its end, if it was cut off there.
                    let moved = earliest > *position;
                    *position = if moved { earliest } else { i64::MAX };
                    return Ok(Fetched { records: Vec::new(), earliest: moved.then_some(earliest) });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Records, and where the log ends now.
    async fn fetch(&mut self, position: i64, max_bytes: i32) -> Result<(Vec<Record>, i64), VerifyError> {
        let limit = self.cluster.config().request_timeout + Duration::from_millis(MAX_WAIT_MS.unsigned_abs().into());
        let mut failed = 0;
        loop {
            let what = format!("fetch {} from offset {position}", self.source);
            let fetching = async {
                let client = self.client().await?;
                let answer = within(limit, what, client.fetch_records(position, 1..max_bytes, MAX_WAIT_MS)).await;
                self.note(client, answer)
            };
            match fetching.await {
                Ok((records, end)) => return Ok((records.into_iter().map(Record::from).collect(), end)),
                Err(error) => self.pause_or_give_up(&mut failed, error).await?,
            }
        }
    }

    async fn offset(&mut self, at: OffsetAt) -> Result<i64, VerifyError> {
        let limit = self.cluster.config().request_timeout;
        let mut failed = 0;
        loop {
            let what = format!("offsets of {}", self.source);
            let asking = async {
                let client = self.client().await?;
                let answer = within(limit, what, client.get_offset(at)).await;
                self.note(client, answer)
            };
            match asking.await {
                Ok(offset) => return Ok(offset),
                Err(error) => self.pause_or_give_up(&mut failed, error).await?,
            }
        }
    }

    async fn client(&mut self) -> Result<PartitionClient, ClientError> {
        match self.client.take() {
            Some(client) => Ok(client),
            None => self.cluster.partition_client(&self.source.topic, self.source.partition).await,
        }
    }

    /// After an error a new connection also looks for the partition's leader anew.
    fn note<T>(&mut self, client: PartitionClient, answer: Result<T, ClientError>) -> Result<T, ClientError> {
        self.client = answer.is_ok().then_some(client);
        answer
    }

    /// Pauses before another attempt, unless there were too many, or another cannot mend it.
    async fn pause_or_give_up(&self, failed: &mut u32, error: ClientError) -> Result<(), VerifyError> {
        *failed += 1;
        if *failed == ATTEMPTS || is_final(&error) {
            return Err(error.into());
        }
        warn!(partition = %self.source, %error, "cannot be compared now; trying again");
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

fn is_final(error: &ClientError) -> bool {
    is_out_of_range(error) || matches!(error, ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. })
}

fn is_out_of_range(error: &ClientError) -> bool {
    let ClientError::Rskafka { source, .. } = error else { return false };
    matches!(**source, KafkaError::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. })
}
