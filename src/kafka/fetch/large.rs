//! A record that is larger than any row is to be: read through, and remembered only by its size and a hash.

use std::cmp::min;

use bytes::{Buf, Bytes};

use super::record::{Headers, Record};
use superhero_codec::varint;

/// A key of up to this size is kept, and headers of as much together.
const KEPT_BYTES: u64 = 64 << 10;

/// Such a record, as far as it was read.
#[derive(Debug)]
pub(super) struct Large {
    /// Of all of it, behind its length.
    bytes: u64,
    left: u64,
    part: Part,
    timestamp_delta: i64,
    offset_delta: i64,
    key_bytes: Option<u64>,
    key: Vec<u8>,
    value_bytes: Option<u64>,
    crc32c: u32,
    header_count: i64,
    headers: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// Attributes, time, offset, and the key's length.
    Start,
    Key(u64),
    ValueLength,
    Value(u64),
    HeaderCount,
    Headers,
}

/// The most that stands in front of the key, and is looked at together.
const START_BYTES: usize = 32;

impl Large {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            bytes,
            left: bytes,
            part: Part::Start,
            timestamp_delta: 0,
            offset_delta: 0,
            key_bytes: None,
            key: Vec::new(),
            value_bytes: None,
            crc32c: 0,
            header_count: 0,
            headers: Vec::new(),
        }
    }

    /// Takes what it can off the front of `bytes`; what is left then is too little to go on with. True at the record's end.
    ///
    /// None: it is no record.
    pub(super) fn feed(&mut self, bytes: &mut Bytes) -> Option<bool> {
        loop {
            match self.part {
                Part::Start => {
                    if bytes.len() < START_BYTES {
                        return Some(false);
                    }
                    let mut rest = &bytes[1..];
                    self.timestamp_delta = varint(&mut rest)?;
                    self.offset_delta = varint(&mut rest)?;
                    self.key_bytes = length(varint(&mut rest)?)?;
                    let read = bytes.len() - rest.len();
                    self.pass(bytes, read)?;
                    self.part = Part::Key(self.key_bytes.unwrap_or(0));
                }
                Part::Key(0) => self.part = Part::ValueLength,
                Part::Key(left) => {
                    let piece = self.take(bytes, left)?;
                    if piece.is_empty() {
                        return Some(false);
                    }
                    if self.key_bytes.is_some_and(|bytes| bytes <= KEPT_BYTES) {
                        self.key.extend_from_slice(&piece);
                    }
                    self.part = Part::Key(left - piece.len() as u64);
                }
                Part::ValueLength => {
                    let Some(number) = self.number(bytes)? else { return Some(false) };
                    self.value_bytes = length(number)?;
                    self.part = Part::Value(self.value_bytes.unwrap_or(0));
                }
                Part::Value(0) => self.part = Part::HeaderCount,
                Part::Value(left) => {
                    let piece = self.take(bytes, left)?;
                    if piece.is_empty() {
                        return Some(false);
                    }
                    self.crc32c = crc32c::crc32c_append(self.crc32c, &piece);
                    self.part = Part::Value(left - piece.len() as u64);
                }
                Part::HeaderCount => {
                    let Some(number) = self.number(bytes)? else { return Some(false) };
                    self.header_count = number;
                    self.part = Part::Headers;
                }
                Part::Headers if self.left == 0 => return Some(true),
                Part::Headers => {
                    let is_kept = self.headers.len() as u64 + self.left <= KEPT_BYTES;
                    let piece = self.take(bytes, self.left)?;
                    if piece.is_empty() {
                        return Some(false);
                    }
                    if is_kept {
                        self.headers.extend_from_slice(&piece);
                    }
                }
            }
        }
    }

    /// The record without its value, and why.
    pub(super) fn finish(self, limit: usize, at: impl Fn(i64, i64) -> Option<(i64, i64)>) -> Option<(Record, String)> {
        let Self { bytes, key_bytes, value_bytes, crc32c, header_count, .. } = self;
        let (offset, timestamp) = at(self.offset_delta, self.timestamp_delta)?;
        let mut reason = format!(
            "the record takes {bytes} bytes, and {limit} are the limit of what gets a row of all that it says; "
        );
        match value_bytes {
            Some(value) => {
                reason.push_str(&format!("left out: its value of {value} bytes, whose CRC-32C is {crc32c:08x}"))
            }
            None => reason.push_str("it has no value"),
        }
        let key = match key_bytes {
            Some(bytes) if bytes > KEPT_BYTES => {
                reason.push_str(&format!(", and its key of {bytes} bytes"));
                None
            }
            Some(_) => Some(self.key.into()),
            None => None,
        };
        // They are of no use if a part of them is missing.
        let headers = Headers::read(self.headers.into(), header_count).unwrap_or_default();
        Some((Record { offset, timestamp, key, value: None, headers }, reason))
    }

    fn take(&mut self, bytes: &mut Bytes, count: u64) -> Option<Bytes> {
        let piece = bytes.split_to(min(count, bytes.len() as u64) as usize);
        self.left = self.left.checked_sub(piece.len() as u64)?;
        Some(piece)
    }

    /// The inner `None` is that it does not stand there to its end.
    fn number(&mut self, bytes: &mut Bytes) -> Option<Option<i64>> {
        let mut rest = &**bytes;
        match varint(&mut rest) {
            Some(number) => {
                let read = bytes.len() - rest.len();
                self.pass(bytes, read)?;
                Some(Some(number))
            }
            None => (bytes.len() < 10).then_some(None),
        }
    }

    fn pass(&mut self, bytes: &mut Bytes, count: usize) -> Option<()> {
        self.left = self.left.checked_sub(count as u64)?;
        bytes.advance(count);
        Some(())
    }
}

/// The outer `None` is that it is no length; −1 stands for nothing at all.
fn length(number: i64) -> Option<Option<u64>> {
    if number == -1 { Some(None) } else { u64::try_from(number).ok().map(Some) }
}
