//! Record batches as a broker sends them, read without trusting a byte of them.
//!
//! Format: <https://kafka.apache.org/documentation/#recordbatch>.

use bytes::Bytes;
use superhero_codec::varint;

use super::codec::decompress;
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
/// A record without key, value and headers.
const MIN_RECORD_BYTES: usize = 7;

/// As Kafka tells that there is none.
const NO_TIMESTAMP: i64 = -1;

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
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Its records: none if they were compacted away, or it is the mark of a transaction's end.
    Records(Vec<Record>),
    /// It is whole, and cannot be read, for this reason.
    Undecodable { reason: String, timestamp: i64, bytes: Bytes },
    /// Its checksum is not that of its bytes: the wire may be at fault, or the disk.
    Corrupt { timestamp: i64, bytes: Bytes },
}

/// Takes the first batch off `bytes`; `None` at their end, which may be within a batch: a broker cuts where its limit is.
pub(super) fn take(bytes: &mut Bytes) -> Option<Batch> {
    let base_offset = i64::from_be_bytes(array(bytes, 0)?);
    let length = usize::try_from(i32::from_be_bytes(array(bytes, 8)?)).ok()?;
    let end = PREFIX_BYTES.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some(read(base_offset, bytes.split_to(end)))
}

fn read(base_offset: i64, batch: Bytes) -> Batch {
    let undecodable = |next, timestamp, reason: String| Batch {
        base_offset,
        next,
        content: Content::Undecodable { reason, timestamp, bytes: batch.clone() },
    };
    let magic = batch.get(MAGIC_AT).copied();
    let Some(header) = Header::of(&batch).filter(|_| magic == Some(MAGIC)) else {
        let reason = magic.map_or_else(
            || "it is too short for a batch".to_owned(),
            |magic| format!("it is a batch of {} bytes in version {magic}, and 2 is read here", batch.len()),
        );
        return undecodable(base_offset.saturating_add(1), NO_TIMESTAMP, reason);
    };
    let next = base_offset.saturating_add(i64::from(header.last_offset_delta.max(0))).saturating_add(1);
    let last_time = header.max_timestamp_ms;
    if crc32c::crc32c(&batch[CHECKED_FROM..]) != header.checksum {
        return Batch { base_offset, next, content: Content::Corrupt { timestamp: last_time, bytes: batch } };
    }
    if header.attributes & CONTROL != 0 {
        return Batch { base_offset, next, content: Content::Records(Vec::new()) };
    }
    let codec = (header.attributes & CODEC) as u8;
    match decompress(codec, batch.slice(HEADER_BYTES..)).and_then(|plain| header.records(base_offset, next, &plain)) {
        Ok(records) => Batch { base_offset, next, content: Content::Records(records) },
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
    fn records(&self, base_offset: i64, next: i64, plain: &Bytes) -> Result<Vec<Record>, String> {
        let mut rest = &**plain;
        // What the header says is believed only as far as there are bytes for it.
        let mut records = Vec::with_capacity((self.count.max(0) as usize).min(plain.len() / MIN_RECORD_BYTES));
        for number in 0..self.count.max(0) {
            let broken = || format!("its record {number} of {} cannot be read", self.count);
            let record = self.record(base_offset, plain, &mut rest).ok_or_else(broken)?;
            let (offset, before) =
                (record.offset, records.last().map_or(base_offset.saturating_sub(1), |record: &Record| record.offset));
            if offset <= before || offset >= next {
                return Err(format!(
                    "its record {number} has the offset {offset}, which is behind {before} or not below {next}"
                ));
            }
            records.push(record);
        }
        if rest.is_empty() { Ok(records) } else { Err(format!("{} bytes follow its last record", rest.len())) }
    }

    /// Takes a record off `rest`, the end of `plain`.
    fn record(&self, base_offset: i64, plain: &Bytes, rest: &mut &[u8]) -> Option<Record> {
        let length = usize::try_from(varint(rest)?).ok()?;
        let body = &mut take_bytes(rest, length)?;
        // No attribute has a meaning.
        take_bytes(body, 1)?;
        // As the difference was made, whatever the producer takes for a time.
        let timestamp_ms = self.base_timestamp_ms.wrapping_add(varint(body)?);
        let timestamp_ms = if self.attributes & LOG_APPEND_TIME != 0 { self.max_timestamp_ms } else { timestamp_ms };
        let offset = base_offset.checked_add(varint(body)?)?;
        let key = nullable(body)?.map(|key| plain.slice_ref(key));
        let value = nullable(body)?.map(|value| plain.slice_ref(value));
        let count = varint(body)?;
        let headers = Headers::read(plain.slice_ref(body), count)?;
        Some(Record { offset, timestamp: timestamp_ms, key, value, headers })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
