//! The records of a partition fetched from Kafka, in bounded memory and with bounded waits.

use std::time::Duration;

use rskafka::client::partition::{OffsetAt, PartitionClient};
use superhero_kafka::fetch::{BatchFetcher, Batches, FetchError};
use superhero_kafka::{ClientError, Cluster, TopicPartition, within};
use tokio::sync::mpsc;
use tracing::warn;

use crate::VerifyError;
use crate::log::{Fetched, Record};

/// Bytes asked for at a time; a larger batch comes all the same.
const FETCH_BYTES: i32 = 1 << 20;
/// How long a broker may hold a fetch back: records below the end are there, so there is nothing to wait for.
const MAX_WAIT_MS: u64 = 500;
/// A leader election takes some seconds; each attempt may take the cluster's request timeout besides.
const ATTEMPTS: u32 = 8;
/// Between attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// One partition of the topic.
pub(crate) struct Fetcher<'a> {
    cluster: &'a Cluster,
    source: TopicPartition,
    client: Option<PartitionClient>,
    batches: BatchFetcher,
    /// rskafka cannot read what comes next, or finds nothing there.
    as_batches: bool,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(cluster: &'a Cluster, source: TopicPartition) -> Self {
        Self { cluster, batches: BatchFetcher::new(source.clone()), source, client: None, as_batches: false }
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

    /// Fetches from `position`, and moves it behind what came.
    ///
    /// A broker always sends at least one whole batch of those that begin at the position or hold it
    /// ([KIP-74](https://cwiki.apache.org/confluence/x/cgFJAw)). So when nothing comes below the end, the batch has no record that
    /// can be read, and is read as a batch.
    async fn step(&mut self, position: &mut i64) -> Result<Fetched, VerifyError> {
        let mut failed = 0;
        loop {
            let fetched = if self.as_batches {
                self.fetch_batches(position).await.map(Some)
            } else {
                self.fetch(position).await.map_err(FetchError::Cluster)
            };
            match fetched {
                Ok(Some(records)) => return Ok(Fetched { records, earliest: None }),
                Ok(None) => {}
                Err(FetchError::Cluster(error)) if error.is_out_of_range() => {
                    let earliest = self.offset(OffsetAt::Earliest).await?;
                    // Beyond its end, if it was cut off there.
                    let moved = earliest > *position;
                    *position = if moved { earliest } else { i64::MAX };
                    return Ok(Fetched { records: Vec::new(), earliest: moved.then_some(earliest) });
                }
                Err(FetchError::Cluster(error)) if error.is_undecodable() => self.as_batches = true,
                Err(error) => self.pause_or_give_up(&mut failed, error).await?,
            }
        }
    }

    /// Records; none if they are to be asked for as batches.
    async fn fetch(&mut self, position: &mut i64) -> Result<Option<Vec<Record>>, ClientError> {
        let limit = self.cluster.config().request_timeout + Duration::from_millis(MAX_WAIT_MS);
        let what = format!("fetch {} from offset {position}", self.source);
        let client = self.client().await?;
        let fetching = client.fetch_records(*position, 1..FETCH_BYTES, MAX_WAIT_MS as i32);
        let answer = within(limit, what, fetching).await;
        let (records, end) = self.note(client, answer)?;
        match records.last() {
            Some(last) => *position = last.offset + 1,
            // The log was cut off at its end, and there will be no more.
            None if end <= *position => *position = i64::MAX,
            None => {
                self.as_batches = true;
                return Ok(None);
            }
        }
        Ok(Some(records.into_iter().map(Record::from).collect()))
    }

    /// The same, read by ourselves.
    async fn fetch_batches(&mut self, position: &mut i64) -> Result<Vec<Record>, FetchError> {
        let wait = Duration::from_millis(MAX_WAIT_MS);
        let fetched = self.batches.fetch(self.cluster, *position, FETCH_BYTES, wait).await;
        self.as_batches = matches!(&fetched, Ok(Batches { is_plain: false, .. }) | Err(FetchError::Corrupt { .. }));
        let Batches { records, next, .. } = fetched?;
        *position = if next > *position { next } else { i64::MAX };
        Ok(records.into_iter().map(Record::from).collect())
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
                Err(error) => self.pause_or_give_up(&mut failed, error.into()).await?,
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
    async fn pause_or_give_up(&self, failed: &mut u32, error: FetchError) -> Result<(), VerifyError> {
        *failed += 1;
        if *failed == ATTEMPTS || is_final(&error) {
            return Err(error.into());
        }
        warn!(partition = %self.source, %error, "cannot be compared now; trying again");
        self.cluster.ask_another().await;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

fn is_final(error: &FetchError) -> bool {
    let FetchError::Cluster(error) = error else { return false };
    error.is_out_of_range() || matches!(error, ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. })
}
