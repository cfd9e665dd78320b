//! Kafka's messages out of bytes that nobody vouches for: a client's requests, a broker's answers.
//!
//! kafka-protocol allocates for as many entries as an array claims to have before it reads the first, so that a message of ten
//! bytes could take gigabytes. It reads through [`Checked`] here, which sees every number on its way:
//!
//! * A length in compact form that is larger than all that is left is refused. No other number of that form is ever so large:
//!   the tags that are known are small.
//! * A length as an int32 cannot be told from any other int32. One that is larger than all that is left is replaced by a
//!   negative one, which ends the decoding if it was a length. If it was not, the message is decoded once more without that, and
//!   all its lengths are known to be good.
//!
//! What is left is that an entry may be larger in memory than on the wire, some hundred times in the worst case. For what is claimed
//! that is address space which is never touched, and the size of a message bounds it: whoever reads frames bounds them. For what is
//! there it is memory, and [`decode_within`] bounds it.

use bytes::{Buf, BufMut, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

/// Takes a message of `version` from the front of `bytes`, and leaves what is behind it.
///
/// # Errors
///
/// What is wrong with the bytes, in the codec's words; `bytes` are then as they were.
pub fn decode<M: Decodable>(bytes: &mut Bytes, version: i16) -> Result<M, String> {
    match decode_within(bytes, version, usize::MAX) {
        Ok((message, _)) => Ok(message),
        Err(Unread::Bad(reason)) => Err(reason),
        Err(Unread::TooLong) => Err(reason("it has more parts than can be counted")),
    }
}

/// As [`decode`], but not further than `max_reads` numbers, texts and bytes; tells how many there were. Each entry of an array has one
/// or more of them, so that they bound what a message takes in memory beyond its bytes.
///
/// # Errors
///
/// [`Unread`]; `bytes` are then as they were.
pub fn decode_within<M: Decodable>(bytes: &mut Bytes, version: i16, max_reads: usize) -> Result<(M, usize), Unread> {
    let mut checked =
        Checked { rest: bytes.clone(), replaces: true, replaced: false, reads_left: max_reads, ended: false };
    let mut decoded = M::decode(&mut checked, version);
    if decoded.is_ok() && checked.replaced {
        // Through the same type, since a second one would have all of the codec compiled twice.
        checked =
            Checked { rest: bytes.clone(), replaces: false, replaced: false, reads_left: max_reads, ended: false };
        decoded = M::decode(&mut checked, version);
    }
    if checked.ended {
        return Err(Unread::TooLong);
    }
    let decoded = decoded.map_err(|error| Unread::Bad(reason(error)))?;
    *bytes = checked.rest;
    Ok((decoded, max_reads - checked.reads_left))
}

/// Why a message is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It has more parts than were to be read.
    TooLong,
    /// What is wrong with the bytes, in the codec's words.
    Bad(String),
}

/// Takes a number in zigzag form, seven bits a byte, from the front of `bytes`; `None` if there is none, or it has more than 64 bits.
pub fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// Appends a number in zigzag form.
pub fn put_varint(out: &mut impl BufMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// On one line.
fn reason(error: impl std::fmt::Display) -> String {
    format!("{error:#}").trim_end().to_owned()
}

/// Bytes that look at the numbers which are read from them. What reads them is not inlined: every field of every message does it.
struct Checked {
    rest: Bytes,
    /// Whether lengths that cannot be are replaced; they are not where all are known to be good.
    replaces: bool,
    /// Whether an int32 was replaced.
    replaced: bool,
    /// How many more reads there may be.
    reads_left: usize,
    /// There were more, and nothing is left for them.
    ended: bool,
}

impl Checked {
    fn count(&mut self) {
        match self.reads_left.checked_sub(1) {
            Some(left) => self.reads_left = left,
            None => {
                self.ended = true;
                self.rest.clear();
            }
        }
    }
}

impl Buf for Checked {
    fn remaining(&self) -> usize {
        self.rest.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.rest.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.rest.advance(count);
        self.count();
    }

    #[inline(never)]
    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let bytes = self.rest.copy_to_bytes(length);
        self.count();
        bytes
    }

    #[inline(never)]
    fn try_get_i8(&mut self) -> Result<i8, TryGetError> {
        let value = self.rest.try_get_i8()?;
        self.count();
        Ok(value)
    }

    #[inline(never)]
    fn try_get_i16(&mut self) -> Result<i16, TryGetError> {
        let value = self.rest.try_get_i16()?;
        self.count();
        Ok(value)
    }

    #[inline(never)]
    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let value = self.rest.try_get_i32()?;
        self.count();
        if self.replaces && value > 0 && value as usize > self.rest.len() {
            self.replaced = true;
            return Ok(i32::MIN);
        }
        Ok(value)
    }

    #[inline(never)]
    fn try_get_i64(&mut self) -> Result<i64, TryGetError> {
        let value = self.rest.try_get_i64()?;
        self.count();
        Ok(value)
    }

    #[inline(never)]
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let first = self.rest.try_get_u8()?;
        self.count();
        if first & 0x80 != 0 {
            // The first byte of a compact number, or a later one, which makes a smaller number of the rest. Nothing is
            // remembered from byte to byte, so that nothing can be misled.
            let mut value = usize::from(first & 0x7f);
            for (at, byte) in self.rest.iter().take(4).enumerate() {
                value |= usize::from(byte & 0x7f) << (7 * (at + 1));
                if byte & 0x80 == 0 {
                    break;
                }
            }
            // A length in compact form is one more than what it tells.
            if value > self.rest.len() + 1 {
                return Err(TryGetError { requested: value, available: self.rest.len() });
            }
        }
        Ok(first)
    }
}

impl ByteBuf for Checked {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.rest.slice(range)
    }

    #[inline(never)]
    fn get_bytes(&mut self, size: usize) -> Bytes {
        let bytes = self.rest.split_to(size);
        self.count();
        bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
    use kafka_protocol::messages::{
        JoinGroupRequest, JoinGroupResponse, ListOffsetsRequest, MetadataRequest, MetadataResponse, SyncGroupResponse,
    };
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_in_zigzag_form_are_read_to_their_ends_and_written_as_they_were() {
        for (bytes, expected, left) in [
            (&[0x00][..], Some(0), 0),
            (&[0x01], Some(-1), 0),
            (&[0x02, 0x07], Some(1), 1),
            (&[0xac, 0x02], Some(150), 0),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Some(i64::MIN), 0),
            (&[0x80], None, 0),
            (&[], None, 0),
            (&[0x80; 11], None, 1),
        ] {
            let mut rest = bytes;
            assert_eq!((varint(&mut rest), rest.len()), (expected, left), "{bytes:x?}");
            if let Some(number) = expected {
                let mut written = Vec::new();
                put_varint(&mut written, number);
                assert_eq!(written, bytes[..bytes.len() - left]);
            }
        }
    }

    fn encoded(message: &impl Encodable, version: i16) -> Bytes {
        let mut out = BytesMut::new();
        message.encode(&mut out, version).unwrap();
        out.freeze()
    }

    fn refused<M: Decodable + std::fmt::Debug>(bytes: &'static [u8], version: i16) {
        let mut rest = Bytes::from_static(bytes);
        let error = decode::<M>(&mut rest, version).unwrap_err();
        assert_eq!(rest, bytes, "{error}");
        assert!(!error.is_empty() && !error.contains('\n'), "{error:?}");
    }

    #[test]
    fn a_message_is_read_and_what_is_behind_it_is_left() {
        // Numbers that are larger than the message, where lengths could be as well.
        let partition = MetadataResponsePartition::default().with_partition_index(i32::MAX).with_leader_epoch(1 << 20);
        let topic = MetadataResponseTopic::default().with_partitions(vec![partition.clone(), partition]);
        let message = MetadataResponse::default().with_throttle_time_ms(i32::MAX).with_topics(vec![topic]);
        for version in 8..=12 {
            let mut bytes: Bytes = [&encoded(&message, version)[..], b"behind"].concat().into();
            let read: MetadataResponse = decode(&mut bytes, version).unwrap();
            assert_eq!((read.throttle_time_ms, read.topics[0].partitions.len()), (i32::MAX, 2), "version {version}");
            assert_eq!(bytes, &b"behind"[..], "version {version}");
        }
    }

    /// Without the check each of these would be answered by the end of the process: there is no such memory.
    #[test]
    fn a_length_that_claims_more_than_there_is_allocates_nothing() {
        refused::<MetadataRequest>(b"\x7f\xff\xff\xff", 4);
        refused::<MetadataRequest>(b"\xff\xff\xff\xff\x0f", 12);
        refused::<MetadataResponse>(b"\0\0\0\0\xff\xff\xff\xff\x0f", 10);
        refused::<JoinGroupResponse>(b"\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x7f\xff\xff\xff", 5);
        refused::<SyncGroupResponse>(b"\0\0\0\0\0\0\x7f\xff\xff\xff", 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f)], 0..80),
            version in 0..=12i16,
        ) {
            let mut rest = Bytes::from(bytes);
            let _ = decode::<MetadataRequest>(&mut rest, version);
            let _ = decode::<MetadataResponse>(&mut rest, version);
            let _ = decode::<JoinGroupRequest>(&mut rest, version.min(9));
            let _ = decode::<ListOffsetsRequest>(&mut rest, version.clamp(1, 10));
        }
    }
}
