//! The records of a partition fetched from Kafka, in bounded memory and with bounded waits.

use std::time::Duration;

use superhero_kafka::fetch::{Answer, BatchFetcher, Budget, FetchError};
use superhero_kafka::{ClientError, Cluster, Isolation, OffsetAt, TopicPartition};
use tokio::sync::mpsc;
use tracing::warn;

use crate::VerifyError;
use crate::batches::{Batches, Judge};
use crate::log::Fetched;

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
    /// Reads ahead for the ends of transactions.
    scout: BatchFetcher,
    isolation: Isolation,
    judge: Judge,
    answer: Option<Answer>,
}

impl<'a> Fetcher<'a> {
    /// Reads what stands in the log, whatever `isolation`, and decides for itself what of it is committed.
    pub(crate) fn new(cluster: &'a Cluster, source: TopicPartition, isolation: Isolation, budget: Budget) -> Self {
        let here = source.to_string();
        let fetcher = |budget| BatchFetcher::new(source.clone(), Isolation::Uncommitted, budget);
        // The scout fetches while an answer is held, and never holds two of its own.
        let (scout, batches) = (fetcher(budget.apart()), fetcher(budget));
        Self { cluster, batches, scout, here, source, isolation, judge: Judge::default(), answer: None }
    }

    /// The first offset that the topic holds, and the one after its last.
    ///
    /// # Cancellation
    /// Safe: it is only asked again.
    pub(crate) async fn bounds(&mut self) -> Result<(i64, i64), VerifyError> {
        let (earliest, committed) = (self.offset(OffsetAt::Earliest).await?, self.offset(OffsetAt::Latest).await?);
        let mut failed = 0;
        loop {
            match self.scout.ends(self.cluster, committed).await {
                Ok(ends) => return Ok((earliest, ends.end)),
                // Retention was here meanwhile, which is told where it is read.
                Err(error) if error.is_out_of_range() => return Ok((earliest, committed)),
                Err(error) => self.pause_or_give_up(&mut failed, error).await?,
            }
        }
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
            let step = self.step(&mut position, end).await;
            let goes_on = step.is_ok();
            if steps.send(step).await.is_err() || !goes_on {
                return;
            }
        }
    }

    /// Goes on from `position`, and moves it behind what came.
    async fn step(&mut self, position: &mut i64, end: i64) -> Result<Fetched, VerifyError> {
        let mut failed = 0;
        loop {
            if let Some(answer) = &mut self.answer {
                if let Some(chunk) = answer.next_chunk().await {
                    *position = chunk.next;
                    let fetched = self.judge.judge(chunk, &self.here);
                    if fetched.waiting.is_some() {
                        *position = i64::MAX;
                    }
                    return Ok(fetched);
                }
                self.answer = None;
            }
            match self.batches.fetch(self.cluster, *position, FETCH_BYTES, MAX_WAIT).await {
                Ok(answer) => {
                    if answer.next() == *position {
                        // The log was cut off at its end, and there will be no more.
                        *position = i64::MAX;
                        return Ok(Fetched::default());
                    }
                    if let Some(earliest) = self.look_ahead(&answer, *position, end).await? {
                        return Ok(self.move_on(position, earliest));
                    }
                    self.answer = Some(answer);
                }
                Err(error) if error.is_out_of_range() => {
                    let earliest = self.offset(OffsetAt::Earliest).await?;
                    if earliest > *position {
                        return Ok(self.move_on(position, earliest));
                    }
                    // Beyond its end, which was cut off there.
                    *position = i64::MAX;
                    return Ok(Fetched::default());
                }
                Err(error) => self.pause_or_give_up(&mut failed, error).await?,
            }
        }
    }

    /// Goes on at the first offset that the log still holds.
    fn move_on(&mut self, position: &mut i64, earliest: i64) -> Fetched {
        // What is known is of batches that are gone.
        self.judge = Judge::default();
        *position = earliest;
        Fetched { earliest: Some(earliest), ..Fetched::default() }
    }

    /// Finds out what became of each transaction that has records in the answer, as far as `end`.
    ///
    /// Or what the log begins with now, if it is behind the answer: nobody knows any more what became of them.
    async fn look_ahead(&mut self, answer: &Answer, position: i64, end: i64) -> Result<Option<i64>, VerifyError> {
        let mut failed = 0;
        for batch in Batches::of(answer.batches()) {
            while self.isolation == Isolation::Committed && self.judge.is_unknown(&batch, position, end) {
                match self.scout.fetch(self.cluster, self.judge.seen(), FETCH_BYTES, MAX_WAIT).await {
                    Ok(answer) => self.judge.see(Batches::of(answer.batches()), answer.next()),
                    Err(error) if error.is_out_of_range() => {
                        let earliest = self.offset(OffsetAt::Earliest).await?;
                        if earliest > self.judge.seen() {
                            return Ok(Some(earliest));
                        }
                        // The log was cut off at its end.
                        self.judge.see(Batches::default(), end);
                    }
                    Err(error) => self.pause_or_give_up(&mut failed, error).await?,
                }
            }
            self.judge.expect(batch, position, end);
        }
        Ok(None)
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

#[cfg(test)]
mod tests;
