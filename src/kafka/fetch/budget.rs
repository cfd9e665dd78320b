//! The memory for all that fetches bring and come to, shared by everybody in a process who fetches.
//!
//! It has three equal shares, and whoever holds some of one only ever waits for memory of a later one:
//!
//! ```text
//! answers, as they come ▶ decoders of compressed batches ▶ chunks: their plain bytes, their records, the rows made of them
//! ```
//!
//! A chunk is given back before the next one of its partition is asked for, a decoder at the end of its batch. So as far as memory goes,
//! somebody always goes on: at worst one partition at a time, one record at a time. A partition whose records wait for something else, such as
//! the store, holds their answer and their chunk meanwhile, and a decoder if they end within a batch; others go on with what is left.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted: permits are of 32 bits.
const UNIT_BYTES: usize = 1024;
const SHARES: usize = 3;
/// Six times as much, and what stands around it, is less than the longest row that `superhero_sink::MAX_ROW_BYTES` lets anybody read.
const MAX_RECORD_BYTES: usize = 16 << 20;

/// The memory of a process for what it fetches; clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    shares: Arc<Shares>,
    apart: Arc<Shares>,
}

#[derive(Debug)]
struct Shares {
    share_bytes: usize,
    answers: Arc<Semaphore>,
    decoders: Arc<Semaphore>,
    chunks: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Share {
    Answers,
    Decoders,
    Chunks,
}

/// A part of it, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(OwnedSemaphorePermit);

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::DEFAULT_BYTES)
    }
}

impl Budget {
    /// 768 MiB: a process stays below 1 GiB, whatever comes; and below 2 GiB if it has to read as much [apart](Self::apart): earlier records
    /// again, or ahead for the ends of transactions.
    pub const DEFAULT_BYTES: usize = 768 << 20;
    /// Below this, batches that brokers take by default might not be read.
    pub const MIN_BYTES: usize = 48 << 20;
    /// What a semaphore can count.
    pub const MAX_BYTES: usize = 1 << 40;

    /// So many bytes, [`MIN_BYTES`](Self::MIN_BYTES) at least and [`MAX_BYTES`](Self::MAX_BYTES) at most.
    pub fn new(bytes: usize) -> Self {
        let share_bytes = bytes.clamp(Self::MIN_BYTES, Self::MAX_BYTES) / SHARES / UNIT_BYTES * UNIT_BYTES;
        let share = || Arc::new(Semaphore::new(share_bytes / UNIT_BYTES));
        let shares = || Arc::new(Shares { share_bytes, answers: share(), decoders: share(), chunks: share() });
        Self { shares: shares(), apart: shares() }
    }

    /// Memory of as many bytes, for whoever fetches while he holds what was fetched; all clones share that as well.
    pub fn apart(&self) -> Self {
        Self { shares: Arc::clone(&self.apart), apart: Arc::clone(&self.apart) }
    }

    /// The largest answer, which may be one batch: a third.
    pub fn max_answer_bytes(&self) -> usize {
        self.shares.share_bytes
    }

    /// The largest record that gets a row of all that it has, by its bytes in the batch: a 48th, and 16 MiB at most, since rows are read
    /// up to a bound. Its row may take six times as much, for example of control characters, and stands twice if it is a dead letter.
    pub fn max_record_bytes(&self) -> usize {
        (self.shares.share_bytes / 16).min(MAX_RECORD_BYTES)
    }

    /// Of each share.
    pub(super) fn share_bytes(&self) -> usize {
        self.shares.share_bytes
    }

    /// The largest window of a compressed frame: as Kafka's own consumers allow it, if there is room.
    pub(crate) fn max_window_bytes(&self) -> usize {
        (self.shares.share_bytes / 2).min(128 << 20)
    }

    /// Waits for its turn. Whoever wants more than there is gets all.
    ///
    /// # Cancellation
    /// Safe: it loses its turn.
    pub(crate) async fn take(&self, share: Share, bytes: usize) -> Permit {
        let (semaphore, units) = self.asked(share, bytes);
        loop {
            // A semaphore that is never closed always answers.
            if let Ok(permit) = Arc::clone(semaphore).acquire_many_owned(units).await {
                return Permit(permit);
            }
        }
    }

    /// If there is so much right now.
    pub(crate) fn try_take(&self, share: Share, bytes: usize) -> Option<Permit> {
        let (semaphore, units) = self.asked(share, bytes);
        Arc::clone(semaphore).try_acquire_many_owned(units).ok().map(Permit)
    }

    fn asked(&self, share: Share, bytes: usize) -> (&Arc<Semaphore>, u32) {
        let semaphore = match share {
            Share::Answers => &self.shares.answers,
            Share::Decoders => &self.shares.decoders,
            Share::Chunks => &self.shares.chunks,
        };
        (semaphore, units(bytes.min(self.shares.share_bytes)))
    }
}

impl Permit {
    pub(crate) fn bytes(&self) -> usize {
        self.0.num_permits() * UNIT_BYTES
    }

    /// Gives back what is more than this.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.0.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
        drop(self.0.split(surplus));
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[test]
    fn no_record_is_too_large_for_the_reader_of_its_row() {
        assert_eq!(Budget::new(Budget::MIN_BYTES).max_record_bytes(), 1 << 20);
        assert_eq!(Budget::default().max_record_bytes(), 16 << 20);
        assert_eq!(Budget::new(Budget::MAX_BYTES).max_record_bytes(), 16 << 20);
    }

    #[tokio::test]
    async fn whoever_wants_more_than_there_is_waits_for_all_of_it_and_gives_the_rest_back() {
        let budget = Budget::new(Budget::MIN_BYTES);
        let mut first = budget.take(Share::Chunks, usize::MAX).await;
        assert_eq!(first.bytes(), Budget::MIN_BYTES / 3);
        assert!(budget.try_take(Share::Chunks, 2048).is_none() && budget.try_take(Share::Answers, 2048).is_some());
        let mut second = pin!(budget.take(Share::Chunks, usize::MAX));
        let pending = poll_fn(|context| Poll::Ready(second.as_mut().poll(context).is_pending())).await;
        assert!(pending);
        first.shrink_to(5000);
        assert_eq!(first.bytes(), 5120);
        drop(first);
        assert_eq!(second.await.bytes(), Budget::MIN_BYTES / 3);
    }
}
