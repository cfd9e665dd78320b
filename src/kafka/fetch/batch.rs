//! Record batches as a broker sends them, read record by record, without trusting a byte of them.
//!
//! Format: <https://kafka.apache.org/documentation/#recordbatch>.

use bytes::{Buf, Bytes};
use superhero_codec::varint;

use super::chunk::{Chunk, Odd};
use super::codec::{Decoder, decoder_bytes};
use super::large::Large;
use super::record::{Headers, Record, nullable, take_bytes};

/// The base offset and the length of what follows them.
const PREFIX_BYTES: usize = 12;
/// Where the magic stands, in every version of the format.
const MAGIC_AT: usize = 16;
/// The only version that a broker of Kafka 4 keeps.
const MAGIC: u8 = 2;
/// Where the checksum stands, and the part begins that it covers.
const CHECKSUM_AT: usize = 17;
const CHECKED_FROM: usize = 21;
/// Everything before the first record.
const HEADER_BYTES: usize = 61;

/// As Kafka tells that there is none.
const NO_TIMESTAMP: i64 = -1;

const CODEC: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 0b1000;
const TRANSACTIONAL: i16 = 0b1_0000;
const CONTROL: i16 = 0b10_0000;
/// What a mark of a transaction's end says in its key, behind a version.
const ABORT: i16 = 0;

/// Plain bytes of a compressed batch that are unfolded together, and held by the records in them.
/// Tests have many pieces of few bytes.
pub(super) const PIECE_BYTES: usize = if cfg!(test) { 512 } else { 1 << 20 };
/// A batch that cannot be read is kept as it came, if it is no larger than brokers take by default.
const MAX_KEPT_BATCH_BYTES: usize = 1 << 20;
/// Pieces that are read through in one go without a record that is wanted; then others get their turn.
const PIECES_AT_ONCE: u32 = 4;
/// A number with its length in front takes no more.
const MAX_VARINT_BYTES: usize = 10;
/// A record without key, value and headers.
const MIN_RECORD_BYTES: usize = 7;
/// A batch that is compressed comes to some times as much.
const USUAL_RATIO: usize = 8;

/// A batch that has come to its end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Batch {
    pub(super) base_offset: i64,
    /// The offset behind its last.
    pub(super) next: i64,
    bytes: Bytes,
}

/// Takes the first batch off `bytes`; `None` at their end, which may be within a batch: a broker cuts where its limit is.
pub(super) fn take(bytes: &mut Bytes) -> Option<Batch> {
    let base_offset = i64::from_be_bytes(array(bytes, 0)?);
    let length = usize::try_from(i32::from_be_bytes(array(bytes, 8)?)).ok()?;
    let end = PREFIX_BYTES.checked_add(length).filter(|end| *end <= bytes.len())?;
    let bytes = bytes.split_to(end);
    let last_offset_delta = Header::of(&bytes).map_or(0, |header| header.last_offset_delta.max(0));
    let next = base_offset.saturating_add(i64::from(last_offset_delta)).saturating_add(1);
    Some(Batch { base_offset, next, bytes })
}

impl Batch {
    /// Whether its checksum is not that of its bytes: the wire may be at fault, or the disk.
    pub(super) fn is_corrupt(&self) -> bool {
        Header::of(&self.bytes).is_some_and(|header| crc32c::crc32c(&self.bytes[CHECKED_FROM..]) != header.checksum)
    }

    /// Of a transaction, its producer.
    pub(super) fn transaction(&self) -> Option<i64> {
        let header = Header::of(&self.bytes)?;
        (header.attributes & TRANSACTIONAL != 0).then_some(header.producer_id)
    }

    /// When its first record was made, by its producer's clock.
    pub(super) fn base_timestamp_ms(&self) -> Option<i64> {
        Header::of(&self.bytes).map(|header| header.base_timestamp_ms)
    }

    /// Whether it is the mark of a transaction's end; then, whether that was aborted.
    pub(super) fn mark(&self) -> Option<bool> {
        Header::of(&self.bytes).filter(|header| header.attributes & CONTROL != 0)?;
        let is_abort = || {
            let mut rest = self.bytes.get(HEADER_BYTES..)?;
            let _length = varint(&mut rest)?;
            take_bytes(&mut rest, 1)?;
            let (_timestamp, _offset) = (varint(&mut rest)?, varint(&mut rest)?);
            Some(i16::from_be_bytes(array(nullable(&mut rest)??, 2)?) == ABORT)
        };
        Some(is_abort().unwrap_or(false))
    }

    /// What it takes to read it besides the records themselves, in bytes; 0 if it is not compressed.
    pub(super) fn decoder_bytes(&self) -> usize {
        let bytes =
            Header::of(&self.bytes).map_or(0, |header| decoder_bytes(header.codec(), &self.bytes[HEADER_BYTES..]));
        // With what was unfolded of it and is not read yet.
        if bytes == 0 { 0 } else { bytes.saturating_add(2 * PIECE_BYTES) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Header {
    checksum: u32,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    producer_id: i64,
    count: i32,
}

impl Header {
    /// None of what is no batch of the present version.
    fn of(batch: &[u8]) -> Option<Self> {
        batch.get(MAGIC_AT).filter(|magic| **magic == MAGIC)?;
        Some(Self {
            checksum: u32::from_be_bytes(array(batch, CHECKSUM_AT)?),
            attributes: i16::from_be_bytes(array(batch, 21)?),
            last_offset_delta: i32::from_be_bytes(array(batch, 23)?),
            base_timestamp_ms: i64::from_be_bytes(array(batch, 27)?),
            max_timestamp_ms: i64::from_be_bytes(array(batch, 35)?),
            producer_id: i64::from_be_bytes(array(batch, 43)?),
            count: i32::from_be_bytes(array(batch, 57)?),
        })
    }

    fn codec(&self) -> u8 {
        (self.attributes & CODEC) as u8
    }
}

/// How far reading a batch has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// To its end.
    Done,
    /// The chunk takes no more.
    Full,
    /// Others should get their turn.
    Yield,
    /// The next record takes so many bytes.
    Larger(usize),
}

/// A batch that is being read.
pub(super) struct Open {
    base_offset: i64,
    pub(super) next: i64,
    batch: Bytes,
    /// None of what is no batch of the present version.
    header: Option<Header>,
    decoder: Option<Decoder>,
    /// What was unfolded, read up to a place in it.
    plain: Bytes,
    at: usize,
    /// There is no more.
    is_all: bool,
    /// Why there is no more, if it is not the end.
    broken: Option<String>,
    /// Records that were read.
    read: i32,
    /// The offset of the last of them.
    before: i64,
    large: Option<Large>,
}

/// Bounds of what is read together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Records below this offset are not wanted.
    pub(super) from: i64,
    /// A larger record gets no row of all that it says.
    pub(super) max_record_bytes: usize,
    pub(super) max_window_bytes: usize,
    /// A larger record waits until there is room for it.
    pub(super) room_bytes: usize,
}

impl Open {
    /// `corrupt`: its checksum was found to be wrong, again and again.
    pub(super) fn new(batch: Batch, is_corrupt: bool, limits: &Limits) -> Self {
        let Batch { base_offset, next, bytes } = batch;
        let header = Header::of(&bytes);
        let mut open = Self {
            base_offset,
            next,
            header,
            decoder: None,
            plain: Bytes::new(),
            at: 0,
            is_all: true,
            broken: None,
            read: 0,
            before: base_offset.saturating_sub(1),
            large: None,
            batch: bytes,
        };
        let Some(header) = header else {
            let magic = open.batch.get(MAGIC_AT).filter(|magic| **magic != MAGIC);
            open.broken = Some(magic.map_or_else(
                || "it is too short for a batch".to_owned(),
                |magic| format!("it is a batch of {} bytes in version {magic}, and 2 is read here", open.batch.len()),
            ));
            return open;
        };
        if is_corrupt {
            open.broken = Some("its checksum is wrong".to_owned());
            return open;
        }
        let payload = open.batch.slice(HEADER_BYTES..);
        match Decoder::new(header.codec(), payload.clone(), limits.max_window_bytes) {
            Ok(None) => open.plain = payload,
            Ok(decoder) => (open.decoder, open.is_all) = (decoder, false),
            Err(reason) => open.broken = Some(reason),
        }
        open
    }

    /// Reads on into `chunk`.
    pub(super) fn read(&mut self, chunk: &mut Chunk, limits: &Limits) -> Progress {
        match self.records(chunk, limits) {
            Ok(progress) => progress,
            Err(reason) => {
                self.give_up(chunk, limits, reason);
                Progress::Done
            }
        }
    }

    /// All of the batch's records, in the order of their offsets, and nothing behind them.
    fn records(&mut self, chunk: &mut Chunk, limits: &Limits) -> Result<Progress, String> {
        let Some(header) = self.header.filter(|_| self.decoder.is_some() || self.broken.is_none()) else {
            return Err(self.cannot_be_read());
        };
        let left = header.count.saturating_sub(self.read).max(0) as usize;
        // What the header says is believed only as far as there are bytes for it.
        chunk.reserve(left.min((self.plain.len() - self.at) / MIN_RECORD_BYTES));
        let mut pieces = 0;
        while self.read < header.count {
            if chunk.is_full() {
                return Ok(Progress::Full);
            }
            let wanted = if self.large.is_some() {
                match self.feed_large(&header, chunk, limits)? {
                    true => continue,
                    false => PIECE_BYTES,
                }
            } else {
                let mut rest = &self.plain[self.at..];
                match varint(&mut rest).map(usize::try_from) {
                    Some(Ok(length)) if length <= rest.len() && length <= limits.room_bytes => {
                        let body = &rest[..length];
                        let record = self.record(&header, body).ok_or_else(|| self.cannot_be_read())?;
                        self.at = self.plain.len() - rest.len() + length;
                        self.push(record, &header, chunk, limits)?;
                        continue;
                    }
                    Some(Ok(length)) if length > limits.max_record_bytes => {
                        self.plain.advance(self.plain.len() - rest.len());
                        self.at = 0;
                        self.large = Some(Large::new(length as u64));
                        continue;
                    }
                    Some(Ok(length)) if length > limits.room_bytes => {
                        return Ok(if chunk.is_empty() { Progress::Larger(length) } else { Progress::Full });
                    }
                    Some(Ok(length)) => PIECE_BYTES.max(length + MAX_VARINT_BYTES),
                    None if self.plain.len() - self.at < MAX_VARINT_BYTES => PIECE_BYTES,
                    None | Some(Err(_)) => return Err(self.cannot_be_read()),
                }
            };
            if chunk.plain_bytes >= PIECE_BYTES && !chunk.is_empty() {
                return Ok(Progress::Full);
            }
            if pieces == PIECES_AT_ONCE {
                return Ok(Progress::Yield);
            }
            self.refill(wanted, chunk)?;
            pieces += 1;
        }
        self.check_end(chunk, limits)
    }

    /// What is behind the last record speaks against that one.
    fn check_end(&mut self, chunk: &mut Chunk, limits: &Limits) -> Result<Progress, String> {
        while self.at == self.plain.len() && !self.is_all {
            self.refill(1, chunk)?;
        }
        let wrong = match (&self.broken, self.plain.len() - self.at) {
            (Some(reason), _) => reason.clone(),
            (None, 0) => return Ok(Progress::Done),
            (None, 1..) => "bytes follow its last record".to_owned(),
        };
        if self.read > 0 {
            self.read -= 1;
            chunk.take_back(self.before);
            self.before = self.before.saturating_sub(1).max(limits.from.saturating_sub(1));
        }
        Err(wrong)
    }

    /// Says that what is left of the batch is lost: from the offset behind the last record that was read.
    fn give_up(&mut self, chunk: &mut Chunk, limits: &Limits, reason: String) {
        let first = self.before.saturating_add(1).max(limits.from).min(self.next.saturating_sub(1));
        let timestamp = self.header.map_or(NO_TIMESTAMP, |header| header.max_timestamp_ms);
        let count = self.header.map_or(1, |header| header.count);
        let lost = count.saturating_sub(self.read).max(0).unsigned_abs();
        let what = if self.read == 0 { "the batch" } else { "the rest of the batch" };
        let mut reason = format!(
            "{what} of the offsets {first} to {} cannot be read, with {lost} of its {count} records: {reason}",
            self.next - 1
        );
        let value = (self.batch.len() <= MAX_KEPT_BATCH_BYTES).then(|| self.batch.clone());
        if value.is_none() {
            let (bytes, crc32c) = (self.batch.len(), crc32c::crc32c(&self.batch));
            reason.push_str(&format!("; left out: the batch of {bytes} bytes, whose CRC-32C is {crc32c:08x}"));
        }
        let is_left_out = value.is_none();
        chunk.push(Record { offset: first, timestamp, key: None, value, headers: Headers::default() });
        chunk.odd.push_back(Odd { offset: first, reason, is_left_out, lost_records: lost.into(), next: self.next });
    }

    fn cannot_be_read(&self) -> String {
        let count = self.header.map_or(0, |header| header.count);
        let broken = || format!("its record {} of {count} cannot be read", self.read);
        self.broken.clone().unwrap_or_else(broken)
    }

    #[inline]
    fn push(&mut self, record: Record, header: &Header, chunk: &mut Chunk, limits: &Limits) -> Result<(), String> {
        let offset = record.offset;
        // Each of those behind it has an offset of its own, below the end.
        let end = self.next.saturating_sub(i64::from(header.count - self.read - 1));
        if offset <= self.before || offset >= end {
            return Err(self.misplaced(offset, end));
        }
        self.read += 1;
        self.before = offset;
        if offset >= limits.from {
            chunk.push(record);
        }
        Ok(())
    }

    #[cold]
    fn misplaced(&self, offset: i64, end: i64) -> String {
        let (number, before) = (self.read, self.before);
        format!("its record {number} has the offset {offset}, which is not behind {before}, or not below {end}")
    }

    /// Goes on with a record that is too large; true at its end.
    #[cold]
    fn feed_large(&mut self, header: &Header, chunk: &mut Chunk, limits: &Limits) -> Result<bool, String> {
        let base_offset = self.base_offset;
        let at = |offset_delta, timestamp_delta| header.at(base_offset, offset_delta, timestamp_delta);
        self.plain.advance(self.at);
        self.at = 0;
        let is_at_end = self.large.as_mut().and_then(|large| large.feed(&mut self.plain));
        if !is_at_end.ok_or_else(|| self.cannot_be_read())? {
            return Ok(false);
        }
        let large = self.large.take().and_then(|large| large.finish(limits.max_record_bytes, at));
        let (record, reason) = large.ok_or_else(|| self.cannot_be_read())?;
        let offset = record.offset;
        self.push(record, header, chunk, limits)?;
        if offset >= limits.from {
            chunk.odd.push_back(Odd {
                offset,
                reason,
                is_left_out: true,
                lost_records: 0,
                next: offset.saturating_add(1),
            });
        }
        Ok(true)
    }

    /// Unfolds more behind what is left, up to `bytes` in all.
    #[cold]
    fn refill(&mut self, bytes: usize, chunk: &mut Chunk) -> Result<(), String> {
        let Some(decoder) = self.decoder.as_mut().filter(|_| !self.is_all) else { return Err(self.cannot_be_read()) };
        let left = &self.plain[self.at..];
        let mut piece = Vec::with_capacity(bytes.min(left.len() + USUAL_RATIO * self.batch.len()));
        piece.extend_from_slice(left);
        if let Err(reason) = decoder.read(bytes.saturating_sub(piece.len()), &mut piece) {
            self.broken = Some(reason);
        }
        self.is_all = piece.len() < bytes || self.broken.is_some();
        if chunk.is_empty() {
            // Nothing of the earlier pieces is held.
            chunk.plain_bytes = 0;
        }
        chunk.plain_bytes += piece.capacity();
        self.plain = piece.into();
        self.at = 0;
        let left = self.plain.len() / MIN_RECORD_BYTES;
        chunk.reserve(left.min(self.header.map_or(0, |header| header.count.saturating_sub(self.read).max(0)) as usize));
        Ok(())
    }

    /// Reads what stands behind a record's length.
    #[inline]
    fn record(&self, header: &Header, mut body: &[u8]) -> Option<Record> {
        let (plain, body) = (&self.plain, &mut body);
        // No attribute has a meaning.
        take_bytes(body, 1)?;
        let timestamp_delta = varint(body)?;
        let (offset, timestamp) = header.at(self.base_offset, varint(body)?, timestamp_delta)?;
        let key = nullable(body)?.map(|key| plain.slice_ref(key));
        let value = nullable(body)?.map(|value| plain.slice_ref(value));
        let count = varint(body)?;
        let headers = Headers::read(plain.slice_ref(body), count)?;
        Some(Record { offset, timestamp, key, value, headers })
    }
}

impl Header {
    /// The offset and the time of a record.
    fn at(&self, base_offset: i64, offset_delta: i64, timestamp_delta: i64) -> Option<(i64, i64)> {
        // As the difference was made, whatever the producer takes for a time.
        let timestamp_ms = self.base_timestamp_ms.wrapping_add(timestamp_delta);
        let timestamp_ms = if self.attributes & LOG_APPEND_TIME != 0 { self.max_timestamp_ms } else { timestamp_ms };
        Some((base_offset.checked_add(offset_delta)?, timestamp_ms))
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
