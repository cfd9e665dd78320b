//! Record batches as a broker sends them, read without trusting a byte of them.
//!
//! Format: <https://kafka.apache.org/documentation/#recordbatch>.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rskafka::record::{Record, RecordAndOffset};
use superhero_codec::varint;

use super::codec::decompress;

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

const CODEC: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 0b1000;
const CONTROL: i16 = 0b10_0000;

/// A batch, or what stands in its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Batch {
    pub(super) base_offset: i64,
    /// The offset behind its last.
    pub(super) next: i64,
    pub(super) content: Content,
    /// Whether rskafka reads it as well.
    pub(super) is_plain: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Its records: none if they were compacted away, or it is the mark of a transaction's end.
    Records(Vec<RecordAndOffset>),
    /// It is whole, and cannot be read, for this reason.
    Undecodable { reason: String, timestamp: DateTime<Utc>, bytes: Vec<u8> },
    /// Its checksum is not that of its bytes: the wire may be at fault, or the disk.
    Corrupt { timestamp: DateTime<Utc>, bytes: Vec<u8> },
}

/// Takes the first batch off `bytes`; `None` at their end, which may be within a batch: a broker cuts where its limit is.
pub(super) fn take(bytes: &mut &[u8]) -> Option<Batch> {
    let base_offset = i64::from_be_bytes(array(bytes, 0)?);
    let length = usize::try_from(i32::from_be_bytes(array(bytes, 8)?)).ok()?;
    let (batch, rest) = bytes.split_at_checked(PREFIX_BYTES + length)?;
    *bytes = rest;
    Some(read(base_offset, batch))
}

fn read(base_offset: i64, batch: &[u8]) -> Batch {
    let undecodable = |next, timestamp, reason: String| Batch {
        base_offset,
        next,
        content: Content::Undecodable { reason, timestamp, bytes: batch.to_vec() },
        is_plain: false,
    };
    let magic = batch.get(MAGIC_AT).copied();
    let Some(header) = Header::of(batch).filter(|_| magic == Some(MAGIC)) else {
        let reason = magic.map_or_else(
            || "it is too short for a batch".to_owned(),
            |magic| format!("it is a batch of {} bytes in version {magic}, and 2 is read here", batch.len()),
        );
        return undecodable(base_offset.saturating_add(1), DateTime::UNIX_EPOCH, reason);
    };
    let next = base_offset.saturating_add(i64::from(header.last_offset_delta.max(0))).saturating_add(1);
    let last_time = time(header.max_timestamp_ms);
    if crc32c::crc32c(&batch[CHECKED_FROM..]) != header.checksum {
        let content = Content::Corrupt { timestamp: last_time, bytes: batch.to_vec() };
        return Batch { base_offset, next, content, is_plain: false };
    }
    let records = |records| Batch { base_offset, next, content: Content::Records(records), is_plain: false };
    if header.attributes & CONTROL != 0 {
        return records(Vec::new());
    }
    let codec = (header.attributes & CODEC) as u8;
    match decompress(codec, &batch[HEADER_BYTES..]).and_then(|plain| header.records(base_offset, next, &plain)) {
        Ok(read) => Batch { is_plain: codec <= 2 && !read.is_empty(), ..records(read) },
        Err(reason) => undecodable(next, last_time, reason),
    }
}

struct Header {
    checksum: u32,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    count: i32,
}

impl Header {
    fn of(batch: &[u8]) -> Option<Self> {
        Some(Self {
            checksum: u32::from_be_bytes(array(batch, CHECKSUM_AT)?),
            attributes: i16::from_be_bytes(array(batch, 21)?),
            last_offset_delta: i32::from_be_bytes(array(batch, 23)?),
            base_timestamp_ms: i64::from_be_bytes(array(batch, 27)?),
            max_timestamp_ms: i64::from_be_bytes(array(batch, 35)?),
            count: i32::from_be_bytes(array(batch, 57)?),
        })
    }

    /// Reads the records behind the header, all of which must be below `next`, in the order of their offsets.
    fn records(&self, base_offset: i64, next: i64, mut plain: &[u8]) -> Result<Vec<RecordAndOffset>, String> {
        let mut records = Vec::new();
        for number in 0..self.count.max(0) {
            let broken = || format!("its record {number} of {} cannot be read", self.count);
            let (offset, record) = self.record(base_offset, &mut plain).ok_or_else(broken)?;
            let before = records.last().map_or(base_offset - 1, |record: &RecordAndOffset| record.offset);
            if offset <= before || offset >= next {
                return Err(format!(
                    "its record {number} has the offset {offset}, which is behind {before} or not below {next}"
                ));
            }
            records.push(RecordAndOffset { record, offset });
        }
        if plain.is_empty() { Ok(records) } else { Err(format!("{} bytes follow its last record", plain.len())) }
    }

    fn record(&self, base_offset: i64, plain: &mut &[u8]) -> Option<(i64, Record)> {
        let length = usize::try_from(varint(plain)?).ok()?;
        let (mut body, rest) = plain.split_at_checked(length)?;
        *plain = rest;
        let body = &mut body;
        // No attribute has a meaning.
        take_bytes(body, 1)?;
        let timestamp_ms = self.base_timestamp_ms.checked_add(varint(body)?)?;
        let timestamp_ms = if self.attributes & LOG_APPEND_TIME != 0 { self.max_timestamp_ms } else { timestamp_ms };
        let offset = base_offset.checked_add(varint(body)?)?;
        let key = nullable(body)?;
        let value = nullable(body)?;
        let mut headers = BTreeMap::new();
        for _ in 0..varint(body)? {
            let name = nullable(body)??;
            headers.insert(String::from_utf8_lossy(&name).into_owned(), nullable(body)?.unwrap_or_default());
        }
        body.is_empty().then_some((offset, Record { key, value, headers, timestamp: time(timestamp_ms) }))
    }
}

/// A time that no calendar has is the beginning of time.
fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH)
}

/// Bytes with their length in front; the outer `None` is that there are none such.
fn nullable(bytes: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    match varint(bytes)? {
        -1 => Some(None),
        length => take_bytes(bytes, usize::try_from(length).ok()?).map(|taken| Some(taken.to_vec())),
    }
}

fn take_bytes<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
