//! What is taken of an answer at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::PIECE_BYTES;
use super::budget::Permit;
use super::record::Record;

/// Records of a chunk, at most.
const MAX_RECORDS: usize = if cfg!(test) { 7 } else { 4096 };
/// What a record of any size takes besides its bytes.
const RECORD_BYTES: usize = size_of::<Record>();

/// Some records of an answer, and the memory that they take: it is given back when this is dropped.
#[derive(Debug, Default)]
pub struct Chunk {
    /// In the order of offsets, none before the one that was asked for.
    pub records: Vec<Record>,
    /// Which of them do not say all that was sent, in their order.
    pub odd: VecDeque<Odd>,
    /// Everything below this offset has been dealt with.
    pub next: i64,
    /// Plain bytes of compressed batches.
    pub(super) plain_bytes: usize,
    /// What the rows of the largest record may take.
    rows_bytes: usize,
    /// Of this chunk, and of the answer that it is from.
    pub(super) memory: (Option<Permit>, Option<Arc<Permit>>),
}

/// A record that does not say all that was sent: it is too large, or it stands for records that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    /// Of the record.
    pub offset: i64,
    /// Why, with its offsets.
    pub reason: String,
    /// Whether its value is left out, which is not the same as that it has none. Otherwise it is the batch, as it came.
    pub is_left_out: bool,
    /// Records that are lost from there on, by their batch's header.
    pub lost_records: u64,
    /// The offset behind all that it stands for.
    pub next: i64,
}

impl Chunk {
    /// What a chunk may take before it is known, where no record takes more than `room_bytes`.
    pub(super) fn most_bytes(room_bytes: usize) -> usize {
        2 * PIECE_BYTES + 2 * room_bytes.max(PIECE_BYTES) + MAX_RECORDS * RECORD_BYTES + rows_bytes(room_bytes, 0)
    }

    /// So much room is made at first: no chunk asks for more than half of what there is before it is known to need it, so that others go on
    /// while one is held.
    pub(super) fn first_room_bytes(share_bytes: usize) -> usize {
        let left = (share_bytes / 2).saturating_sub(Self::most_bytes(0));
        (left / rows_bytes(1, 0)).min(PIECE_BYTES)
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        let plain_bytes = if self.is_empty() { 0 } else { self.plain_bytes };
        plain_bytes + self.records.len() * RECORD_BYTES + self.rows_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= MAX_RECORDS || !self.odd.is_empty()
    }

    /// Makes room for as many as it takes of so many records.
    pub(super) fn reserve(&mut self, records: usize) {
        self.records.reserve(records.min(MAX_RECORDS.saturating_sub(self.records.len())));
    }

    #[inline]
    pub(super) fn push(&mut self, record: Record) {
        let bytes = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
        self.rows_bytes = self.rows_bytes.max(rows_bytes(bytes(&record.key), bytes(&record.value)));
        self.records.push(record);
    }

    /// Takes the last record back, if it is that of this offset.
    pub(super) fn take_back(&mut self, offset: i64) {
        self.records.pop_if(|record| record.offset == offset);
        self.odd.pop_back_if(|odd| odd.offset == offset);
    }
}

/// What the rows of a record may take: two, where a character of a key may take six, and four of a value stand for three; and a copy of the
/// value while one is made.
fn rows_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    12 * key_bytes + 6 * value_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_chunk_asks_for_more_than_half_at_first() {
        let room_bytes = Chunk::first_room_bytes(8 << 10);
        assert!(room_bytes > 0 && Chunk::most_bytes(room_bytes) <= 4 << 10, "{room_bytes}");
        assert_eq!(Chunk::first_room_bytes(1 << 20), PIECE_BYTES);
    }
}
