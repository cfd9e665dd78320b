//! The records of a partition fetched from Kafka, in bounded memory and with bounded waits.

use std::time::Duration;

use superhero_kafka::fetch::{BatchFetcher, FetchError};
use superhero_kafka::{ClientError, Cluster, OffsetAt, TopicPartition};
use tokio::sync::mpsc;
use tracing::warn;

use crate::VerifyError;
use crate::log::{Fetched, Record};

/// Bytes asked for at a time; a larger batch comes all the same.
const FETCH_BYTES: i32 = 1 << 20;
/// How long a broker may hold a fetch back: records below the end are there, so there is nothing to wait for.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// A leader election takes some seconds; each attempt may take the cluster's request timeout besides.
const ATTEMPTS: u32 = 8;
/// Between attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// One partition of the topic.
pub(crate) struct Fetcher<'a> {
    cluster: &'a Cluster,
    source: TopicPartition,
    /// The source as headers name it.
    here: String,
    batches: BatchFetcher,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(cluster: &'a Cluster, source: TopicPartition) -> Self {
        Self { cluster, batches: BatchFetcher::new(source.clone()), here: source.to_string(), source }
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
    async fn step(&mut self, position: &mut i64) -> Result<Fetched, VerifyError> {
        let mut failed = 0;
        loop {
            match self.batches.fetch(self.cluster, *position, FETCH_BYTES, MAX_WAIT).await {
                Ok(fetched) => {
                    // Where nothing comes the log was cut off at its end, and there will be no more.
                    *position = if fetched.next > *position { fetched.next } else { i64::MAX };
                    let records = fetched.records.into_iter();
                    let records = records.map(|record| Record::read(record, &self.here)).collect();
                    return Ok(Fetched { records, earliest: None });
                }
                Err(error) if error.is_out_of_range() => {
                    let earliest = self.offset(OffsetAt::Earliest).await?;
                    // Beyond its end, if it was cut off there.
                    let moved = earliest > *position;
                    *position = if moved { earliest } else { i64::MAX };
                    return Ok(Fetched { records: Vec::new(), earliest: moved.then_some(earliest) });
                }
                Err(error) => self.pause_or_give_up(&mut failed, error).await?,
            }
        }
    }

    async fn offset(&mut self, at: OffsetAt) -> Result<i64, VerifyError> {
        let mut failed = 0;
        loop {
            match self.cluster.offset(&self.source, at).await {
                Ok(offset) => return Ok(offset),
                Err(error) => self.pause_or_give_up(&mut failed, error.into()).await?,
            }
        }
    }

    /// Pauses before another attempt, unless there were too many, or another cannot mend it.
    async fn pause_or_give_up(&self, failed: &mut u32, error: FetchError) -> Result<(), VerifyError> {
        *failed += 1;
        if *failed == ATTEMPTS || is_final(&error) {
            return Err(error.into());
        }
        warn!(partition = %self.source, %error, "cannot be compared now; trying again");
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

fn is_final(error: &FetchError) -> bool {
    matches!(error, FetchError::Cluster(ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. }))
}
