//! Batches of records in the message format v2, the only one that is kept.
//!
//! A batch stays as it came, compressed or not. Only its first offset and its leader epoch are the broker's to write, and they
//! stand before what the checksum covers, so that they are kept beside the batch and written in front of it when it goes out.
//! The layout is told in [KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use superhero_codec::varint;
use thiserror::Error;

/// The first offset, the batch's length and the leader epoch: what is written anew.
const PREFIX_BYTES: usize = 16;
/// The header, up to the first record.
const HEADER_BYTES: usize = 61;
/// What the length in the header does not count: the first offset and the length itself.
const UNCOUNTED_BYTES: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
const CODEC_BITS: i16 = 0b111;
const ZSTD: i16 = 4;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// A batch, and what the broker has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer: Option<ProducerSequence>,
    pub(crate) compressed: bool,
    /// Everything after [`PREFIX_BYTES`].
    body: Bytes,
}

/// Where a batch stands in the order of its idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerSequence {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: i32,
    pub(crate) last: i32,
}

/// Why a set of records is not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum BatchError {
    #[error("a set of records without any batch")]
    Empty,
    #[error("a batch is cut off: {actual} of {expected} bytes are there")]
    CutOff { expected: usize, actual: usize },
    #[error("records of message format {magic}; this broker keeps format 2 only, which clients since Kafka 0.11 write")]
    Magic { magic: i8 },
    #[error("the checksum of a batch is {actual:#010x}, but {expected:#010x} was sent: it was damaged on its way")]
    Checksum { expected: u32, actual: u32 },
    #[error("a batch tells {records} records, but its last offset is its first + {last_offset_delta}")]
    Count { records: i32, last_offset_delta: i32 },
    #[error("a batch of {actual} bytes, and {limit} are the limit (max.message.bytes)")]
    TooLarge { actual: usize, limit: usize },
    #[error("a batch of a transaction; this broker has no transactions")]
    Transactional,
    #[error("a batch of control records, which only brokers write")]
    Control,
    #[error("compression codec {codec}, which nobody knows")]
    Codec { codec: i16 },
    #[error("zstd in Produce version {version}; clients that know zstd send version 7 or newer (KIP-110)")]
    Zstd { version: i16 },
    #[error("{batches} batches of an idempotent producer in one set, and their order can only be kept one by one")]
    ManySequences { batches: usize },
}

impl BatchError {
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::CutOff { .. } | Self::Checksum { .. } => ResponseError::CorruptMessage,
            Self::Magic { .. } => ResponseError::UnsupportedForMessageFormat,
            Self::TooLarge { .. } => ResponseError::MessageTooLarge,
            Self::Zstd { .. } | Self::Codec { .. } => ResponseError::UnsupportedCompressionType,
            Self::Empty | Self::Count { .. } | Self::Transactional | Self::Control | Self::ManySequences { .. } => {
                ResponseError::InvalidRecord
            }
        }
    }
}

/// Cuts what a Produce of `version` carries for one partition into its batches; takes all of them or none.
pub(crate) fn split(mut records: Bytes, max_batch_bytes: usize, version: i16) -> Result<Vec<Batch>, BatchError> {
    let mut batches = Vec::new();
    while !records.is_empty() {
        if records.len() > MAGIC_AT {
            // Older formats have their magic at the same place, but not the length of a batch.
            let magic = records[MAGIC_AT] as i8;
            if magic != 2 {
                return Err(BatchError::Magic { magic });
            }
        }
        if records.len() < HEADER_BYTES {
            return Err(BatchError::CutOff { expected: HEADER_BYTES, actual: records.len() });
        }
        let length = (&records[8..UNCOUNTED_BYTES]).get_i32();
        let length = usize::try_from(length).unwrap_or(0) + UNCOUNTED_BYTES;
        if length < HEADER_BYTES || length > records.len() {
            return Err(BatchError::CutOff { expected: length.max(HEADER_BYTES), actual: records.len() });
        }
        if length > max_batch_bytes {
            return Err(BatchError::TooLarge { actual: length, limit: max_batch_bytes });
        }
        batches.push(parse(records.split_to(length), version)?);
    }
    match batches.len() {
        0 => Err(BatchError::Empty),
        1 => Ok(batches),
        many if batches.iter().any(|batch| batch.producer.is_some()) => {
            Err(BatchError::ManySequences { batches: many })
        }
        _ => Ok(batches),
    }
}

fn parse(mut batch: Bytes, version: i16) -> Result<Batch, BatchError> {
    let expected = (&batch[CRC_AT..CRC_FROM]).get_u32();
    let actual = crc32c::crc32c(&batch[CRC_FROM..]);
    if expected != actual {
        return Err(BatchError::Checksum { expected, actual });
    }
    let mut header = &batch[CRC_FROM..HEADER_BYTES];
    let attributes = header.get_i16();
    let last_offset_delta = header.get_i32();
    let base_timestamp = header.get_i64();
    let max_timestamp = header.get_i64();
    let (id, epoch, first) = (header.get_i64(), header.get_i16(), header.get_i32());
    let records = header.get_i32();
    if records < 1 || last_offset_delta != records - 1 {
        return Err(BatchError::Count { records, last_offset_delta });
    }
    if attributes & CONTROL_BIT != 0 {
        return Err(BatchError::Control);
    }
    if attributes & TRANSACTIONAL_BIT != 0 {
        return Err(BatchError::Transactional);
    }
    let codec = attributes & CODEC_BITS;
    match codec {
        0..ZSTD => {}
        ZSTD if version >= 7 => {}
        ZSTD => return Err(BatchError::Zstd { version }),
        _ => return Err(BatchError::Codec { codec }),
    }
    let producer = (id >= 0).then(|| ProducerSequence { id, epoch, first, last: advance(first, last_offset_delta) });
    batch.advance(PREFIX_BYTES);
    Ok(Batch { last_offset_delta, base_timestamp, max_timestamp, producer, compressed: codec != 0, body: batch })
}

/// A sequence number `by` further; after the last one comes 0.
pub(crate) fn advance(sequence: i32, by: i32) -> i32 {
    let numbers = i64::from(i32::MAX) + 1;
    ((i64::from(sequence) + i64::from(by)).rem_euclid(numbers)) as i32
}

impl Batch {
    /// What the batch takes on the wire.
    pub(crate) fn wire_bytes(&self) -> usize {
        PREFIX_BYTES + self.body.len()
    }

    /// A copy that does not keep the request alive that it came in.
    pub(crate) fn detached(self) -> Self {
        Self { body: Bytes::copy_from_slice(&self.body), ..self }
    }

    /// Writes the batch as one that begins at `base_offset`.
    pub(crate) fn put(&self, base_offset: i64, out: &mut BytesMut) {
        out.put_i64(base_offset);
        // It was read from an i32.
        out.put_i32((self.body.len() + PREFIX_BYTES - UNCOUNTED_BYTES) as i32);
        out.put_i32(crate::LEADER_EPOCH);
        out.put_slice(&self.body);
    }

    /// The (offset delta, timestamp) of each record, for as long as they can be read: of a compressed batch, none.
    pub(crate) fn timestamps(&self) -> impl Iterator<Item = (i32, i64)> + '_ {
        let mut rest: &[u8] = if self.compressed { &[] } else { &self.body[HEADER_BYTES - PREFIX_BYTES..] };
        std::iter::from_fn(move || {
            let length = usize::try_from(varint(&mut rest)?).ok()?;
            let mut record = rest.get(..length)?;
            rest = &rest[length..];
            // One byte of attributes, of which none is used.
            record = record.get(1..)?;
            let timestamp = self.base_timestamp.checked_add(varint(&mut record)?)?;
            let offset_delta = i32::try_from(varint(&mut record)?).ok()?;
            (0..=self.last_offset_delta).contains(&offset_delta).then_some((offset_delta, timestamp))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use superhero_codec::put_varint;

    use super::*;

    /// A batch as a client writes it; its records have the timestamps given.
    pub(crate) fn encoded(timestamps: &[i64], producer: Option<ProducerSequence>, value_bytes: usize) -> BytesMut {
        let mut records = BytesMut::new();
        for (delta, timestamp) in timestamps.iter().enumerate() {
            let mut record = BytesMut::new();
            record.put_i8(0);
            put_varint(&mut record, timestamp - timestamps[0]);
            put_varint(&mut record, delta as i64);
            put_varint(&mut record, -1);
            put_varint(&mut record, value_bytes as i64);
            record.put_bytes(b'v', value_bytes);
            put_varint(&mut record, 0);
            put_varint(&mut records, record.len() as i64);
            records.extend_from_slice(&record);
        }
        let (id, epoch, first) = producer.map_or((-1, -1, -1), |p| (p.id, p.epoch, p.first));
        let mut batch = BytesMut::new();
        batch.put_i64(77);
        batch.put_i32((HEADER_BYTES - UNCOUNTED_BYTES + records.len()) as i32);
        batch.put_i32(-1);
        batch.put_i8(2);
        batch.put_u32(0);
        batch.put_i16(0);
        batch.put_i32(timestamps.len() as i32 - 1);
        batch.put_i64(timestamps.first().copied().unwrap_or(0));
        batch.put_i64(timestamps.iter().copied().max().unwrap_or(0));
        batch.put_i64(id);
        batch.put_i16(epoch);
        batch.put_i32(first);
        batch.put_i32(timestamps.len() as i32);
        batch.extend_from_slice(&records);
        seal(&mut batch);
        batch
    }

    pub(crate) fn batch(timestamps: &[i64]) -> Batch {
        split(encoded(timestamps, None, 1).freeze(), usize::MAX, 7).unwrap().remove(0)
    }

    fn seal(batch: &mut BytesMut) {
        let crc = crc32c::crc32c(&batch[CRC_FROM..]);
        batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    }

    /// The batch with other bytes at `at`, and the checksum for them.
    fn with(at: usize, bytes: &[u8]) -> Bytes {
        let mut batch = encoded(&[5, 6], None, 3);
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut batch);
        batch.freeze()
    }

    #[test]
    fn a_batch_goes_out_as_it_came_but_for_its_offset_and_epoch() {
        let came = encoded(&[5, 9, 7], None, 3);
        let batch = split(came.clone().freeze(), usize::MAX, 7).unwrap().remove(0);
        assert_eq!((batch.last_offset_delta, batch.base_timestamp, batch.max_timestamp), (2, 5, 9));
        assert_eq!(batch.timestamps().collect::<Vec<_>>(), [(0, 5), (1, 9), (2, 7)]);
        let mut out = BytesMut::new();
        batch.put(1234, &mut out);
        assert_eq!(out.len(), batch.wire_bytes());
        assert_eq!(out[..8], 1234i64.to_be_bytes());
        assert_eq!(out[8..12], came[8..12]);
        assert_eq!(out[12..16], crate::LEADER_EPOCH.to_be_bytes());
        assert_eq!(out[16..], came[16..]);
    }

    #[test]
    fn what_is_no_batch_of_format_2_is_told_apart() {
        let good = encoded(&[5, 6], None, 3).freeze();
        let mut damaged = BytesMut::from(&good[..]);
        damaged[70] ^= 1;
        let two_sequences = {
            let sequence = ProducerSequence { id: 1, epoch: 0, first: 0, last: 0 };
            let one = encoded(&[5], Some(sequence), 3);
            [&one[..], &one[..]].concat()
        };
        let cases: &[(&str, Bytes, ResponseError)] = &[
            ("nothing", Bytes::new(), ResponseError::InvalidRecord),
            ("a few bytes", good.slice(..10), ResponseError::CorruptMessage),
            ("a header's part", good.slice(..40), ResponseError::CorruptMessage),
            ("cut off", good.slice(..good.len() - 1), ResponseError::CorruptMessage),
            ("a second one cut off", [&good[..], &good[..20]].concat().into(), ResponseError::CorruptMessage),
            ("a negative length", with(8, &(-5i32).to_be_bytes()), ResponseError::CorruptMessage),
            ("too short a length", with(8, &20i32.to_be_bytes()), ResponseError::CorruptMessage),
            ("the largest length", with(8, &i32::MAX.to_be_bytes()), ResponseError::CorruptMessage),
            ("format 1", with(MAGIC_AT, &[1]), ResponseError::UnsupportedForMessageFormat),
            ("damaged", damaged.freeze(), ResponseError::CorruptMessage),
            ("no records", with(57, &0i32.to_be_bytes()), ResponseError::InvalidRecord),
            ("fewer offsets than records", with(23, &0i32.to_be_bytes()), ResponseError::InvalidRecord),
            ("of a transaction", with(21, &TRANSACTIONAL_BIT.to_be_bytes()), ResponseError::InvalidRecord),
            ("control", with(21, &CONTROL_BIT.to_be_bytes()), ResponseError::InvalidRecord),
            ("codec 5", with(21, &5i16.to_be_bytes()), ResponseError::UnsupportedCompressionType),
            ("zstd too early", with(21, &ZSTD.to_be_bytes()), ResponseError::UnsupportedCompressionType),
            ("two sequences", two_sequences.into(), ResponseError::InvalidRecord),
        ];
        for (what, records, expected) in cases {
            let error = split(records.clone(), usize::MAX, 6).unwrap_err();
            assert_eq!(error.code(), *expected, "{what}: {error}");
        }
        assert_eq!(split(with(21, &ZSTD.to_be_bytes()), usize::MAX, 7).unwrap().len(), 1);
        assert_eq!(split([&good[..], &good[..]].concat().into(), usize::MAX, 6).unwrap().len(), 2);
        assert_eq!(split(good.clone(), good.len(), 6).unwrap().len(), 1);
        let error = split(good.clone(), good.len() - 1, 6).unwrap_err();
        assert_eq!(error, BatchError::TooLarge { actual: good.len(), limit: good.len() - 1 });
    }

    #[test]
    fn sequence_numbers_begin_anew_after_the_last() {
        for (sequence, by, expected) in [(0, 0, 0), (4, 3, 7), (i32::MAX, 1, 0), (i32::MAX - 1, 3, 1)] {
            assert_eq!(advance(sequence, by), expected);
        }
    }
}
