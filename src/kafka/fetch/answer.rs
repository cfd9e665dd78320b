//! An answer to a fetch, read as it is asked for.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::AbortedTransaction;

use super::aborted::Aborted;
use super::batch::{self, Limits, Open, Progress};
use super::budget::{Budget, Permit, Share};
use super::chunk::Chunk;

/// What a fetch has brought.
pub struct Answer {
    /// All batches that came to their ends, up to one whose checksum is wrong.
    batches: Bytes,
    /// Those that are not opened yet.
    rest: Bytes,
    /// The checksum of the first is wrong, all the same.
    is_corrupt: bool,
    open: Option<Open>,
    /// Everything below it was told.
    position: i64,
    next: i64,
    aborted: Aborted,
    budget: Budget,
    pub(super) memory: Option<Arc<Permit>>,
    /// What decoders take, one after the other.
    decoder: Option<Permit>,
    pub(super) max_record_bytes: usize,
    /// What the next record takes, if it is larger than what there is room for at first.
    room_bytes: usize,
    /// Offsets that are there and wait for the end of a transaction, when the broker answered.
    pub held_back: Option<Range<i64>>,
}

/// Where reading stops for a moment.
enum Stop {
    End,
    Full,
    Yield,
    Larger(usize),
    /// A decoder needs memory.
    Decoder(usize),
}

impl Answer {
    pub(super) fn new(offset: i64, batches: Bytes, budget: Budget) -> Self {
        let mut rest = batches.clone();
        let (mut next, mut is_corrupt, mut end) = (offset, false, 0);
        while let Some(batch) = batch::take(&mut rest) {
            if batch.next > next {
                if batch.is_corrupt() {
                    is_corrupt = next == offset;
                    break;
                }
                next = batch.next;
            }
            end = batches.len() - rest.len();
        }
        Self {
            rest: if is_corrupt { batches.clone() } else { batches.slice(..end) },
            batches: batches.slice(..end),
            is_corrupt,
            open: None,
            position: offset,
            next,
            aborted: Aborted::default(),
            max_record_bytes: budget.max_record_bytes(),
            budget,
            memory: None,
            decoder: None,
            room_bytes: 0,
            held_back: None,
        }
    }

    /// Where the next fetch goes on; the offset that was asked for at the end of the partition.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Everything below it was told.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The batches as they came, for whoever wants to look for himself.
    pub fn batches(&self) -> Bytes {
        self.batches.clone()
    }

    /// The first offset that a batch stands for whose checksum is wrong, if it comes first.
    pub(super) fn corrupt_first(&self) -> Option<i64> {
        self.is_corrupt.then_some(self.position)
    }

    /// Takes it as it is, and only that.
    pub(super) fn take_corrupt_first(&mut self) {
        let mut rest = self.rest.clone();
        while let Some(batch) = batch::take(&mut rest) {
            if batch.next > self.position {
                self.next = batch.next;
                break;
            }
        }
        self.rest.truncate(self.rest.len() - rest.len());
        self.batches = self.rest.clone();
    }

    pub(super) fn leave_out_aborted(&mut self, aborted: Vec<AbortedTransaction>) {
        self.aborted = Aborted::new(aborted);
    }

    /// The next records; none at the end. The chunk before is to be dropped first: it holds memory that this one may need.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn next_chunk(&mut self) -> Option<Chunk> {
        loop {
            let room_bytes = self.room_bytes.max(Chunk::first_room_bytes(self.budget.share_bytes()));
            let mut memory = self.budget.take(Share::Chunks, Chunk::most_bytes(room_bytes)).await;
            let mut chunk = Chunk::default();
            chunk.next = self.position;
            let stop = self.fill(&mut chunk, room_bytes);
            self.room_bytes = 0;
            if chunk.next > self.position || !chunk.is_empty() {
                self.position = chunk.next;
                if self.open.is_none() {
                    // Whoever takes the records may wait for long, and needs it no more.
                    self.decoder = None;
                }
                memory.shrink_to(chunk.bytes());
                chunk.memory = (Some(memory), self.memory.clone());
                return Some(chunk);
            }
            drop((chunk, memory));
            match stop {
                Stop::End => {
                    self.decoder = None;
                    return None;
                }
                Stop::Full | Stop::Yield => tokio::task::yield_now().await,
                Stop::Larger(bytes) => self.room_bytes = bytes,
                Stop::Decoder(bytes) => {
                    self.decoder = None;
                    self.decoder = Some(self.budget.take(Share::Decoders, bytes).await);
                }
            }
        }
    }

    fn fill(&mut self, chunk: &mut Chunk, room_bytes: usize) -> Stop {
        loop {
            let limits = Limits {
                from: self.position.max(chunk.next),
                max_record_bytes: self.max_record_bytes,
                max_window_bytes: self.budget.max_window_bytes(),
                room_bytes: room_bytes.min(self.max_record_bytes),
            };
            if let Some(open) = &mut self.open {
                let progress = open.read(chunk, &limits);
                if let Some(record) = chunk.records.last() {
                    chunk.next = chunk.next.max(record.offset.saturating_add(1));
                }
                match progress {
                    Progress::Done => {
                        chunk.next = chunk.next.max(open.next);
                        self.open = None;
                    }
                    Progress::Full => return Stop::Full,
                    Progress::Yield => return Stop::Yield,
                    Progress::Larger(bytes) => return Stop::Larger(bytes),
                }
                if chunk.is_full() {
                    return Stop::Full;
                }
            }
            let mut rest = self.rest.clone();
            let Some(batch) = batch::take(&mut rest) else { return Stop::End };
            if batch.next <= limits.from.max(chunk.next) {
                self.rest = rest;
                continue;
            }
            let is_left_out = !self.is_corrupt && self.aborted.leaves_out(&batch);
            if is_left_out {
                chunk.next = chunk.next.max(batch.next);
                self.rest = rest;
                continue;
            }
            let decoder_bytes = batch.decoder_bytes().min(self.budget.max_answer_bytes());
            if decoder_bytes > self.decoder.as_ref().map_or(0, Permit::bytes) && !self.is_corrupt {
                // Of two, only one is held while another is waited for.
                self.decoder = None;
                self.decoder = self.budget.try_take(Share::Decoders, decoder_bytes);
                if self.decoder.is_none() {
                    return Stop::Decoder(decoder_bytes);
                }
            }
            self.open = Some(Open::new(batch, self.is_corrupt, &limits));
            self.rest = rest;
        }
    }
}
