//! Record batches, version 2, written straight into the bytes that go to the broker.
//!
//! Format: <https://kafka.apache.org/documentation/#recordbatch>. A record is one copy of its key and value; a client that
//! models records as objects spends several times as long on allocating them as everything else takes.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;
use superhero_event::header;
use superhero_text::append;
use uuid::Uuid;

use crate::chunk::Event;

/// Everything before the first record.
const BATCH_HEADER_BYTES: usize = 61;
/// Where the part begins that the checksum covers.
const CHECKED_FROM: usize = 21;
/// A first allocation that fits a batch of a quiet server.
const INITIAL_BYTES: usize = 4 * 1024;

/// Level 3 is the best trade on these events; more costs time and saves little.
const GZIP_LEVEL: u32 = 3;
/// The block size of snappy-java, whose framing Kafka's snappy is.
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
/// The header of snappy-java's framing: its magic, then version and compatible version, both 1.
const SNAPPY_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With gzip, level 3.
    Gzip,
    /// With snappy.
    Snappy,
}

impl Compression {
    /// Its number in a batch's attributes.
    const fn attribute(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
        }
    }

    fn compress(self, records: &[u8], out: &mut Vec<u8>) {
        const IN_MEMORY: &str = "writing to memory does not fail";
        match self {
            Self::None => out.extend_from_slice(records),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(records).expect(IN_MEMORY);
                encoder.finish().expect(IN_MEMORY);
            }
            Self::Snappy => {
                out.extend_from_slice(&SNAPPY_HEADER);
                let mut encoder = snap::raw::Encoder::new();
                for block in records.chunks(SNAPPY_BLOCK_BYTES) {
                    let compressed = encoder.compress_vec(block).expect("a block of 32 KiB is below snappy's limit");
                    out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
                    out.extend_from_slice(&compressed);
                }
            }
        }
    }
}

/// A start of a transport: the identity under which its records count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Producer(Uuid);

/// What the headers of all records have in common that a producer sends to a partition: all but the sequence's value.
#[derive(Clone, Debug)]
pub(crate) struct Headers(Vec<u8>);

impl Producer {
    pub(crate) fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Of its records of a partition, which is that for which they are counted.
    pub(crate) fn headers(self, topic: &str, partition: i32) -> Headers {
        let mut headers = Vec::new();
        put_varint(&mut headers, 3);
        let (id, place) = (self.0.simple().to_string(), format!("{topic}/{partition}"));
        for text in [header::PRODUCER, &id, header::PLACE, &place, header::SEQUENCE] {
            put_varint(&mut headers, text.len() as i64);
            headers.extend_from_slice(text.as_bytes());
        }
        Headers(headers)
    }
}

/// A batch that takes more events.
#[derive(Debug)]
pub(crate) struct Batch {
    buffer: Vec<u8>,
    events: u32,
    first_timestamp_ms: i64,
    max_timestamp_ms: i64,
    held_bytes: u64,
}

/// A batch as it is sent, as often as it needs to be.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    /// The batch without compression, for [splitting](Self::split) it.
    plain: Bytes,
    wire: Bytes,
    events: u32,
    first_timestamp_ms: i64,
    max_timestamp_ms: i64,
    held_bytes: u64,
}

/// A record's own parts.
struct Record<'a> {
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: &'a [u8],
    /// Their number and the headers themselves, as they are written, in two parts.
    headers: [&'a [u8]; 2],
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut buffer = Vec::with_capacity(INITIAL_BYTES);
        buffer.resize(BATCH_HEADER_BYTES, 0);
        Self { buffer, events: 0, first_timestamp_ms: 0, max_timestamp_ms: 0, held_bytes: 0 }
    }

    pub(crate) fn events(&self) -> u64 {
        u64::from(self.events)
    }

    pub(crate) fn has_room_for(&self, event: &Event<'_>, batch_bytes: usize) -> bool {
        self.events == 0 || self.buffer.len() + event.held_bytes() <= batch_bytes
    }

    /// Adds an event as the producer's record number `sequence` of the partition that the headers are for.
    pub(crate) fn push(&mut self, headers: &Headers, sequence: u64, event: &Event<'_>) {
        let mut digits = [0; 21];
        let sequence = decimal_header(sequence, &mut digits);
        self.write(&Record {
            timestamp_ms: event.timestamp_ms,
            key: event.key,
            value: event.value,
            headers: [&headers.0, sequence],
        });
        self.held_bytes += event.held_bytes() as u64;
    }

    fn write(&mut self, record: &Record<'_>) {
        if self.events == 0 {
            self.first_timestamp_ms = record.timestamp_ms;
            self.max_timestamp_ms = record.timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        let timestamp_delta = record.timestamp_ms - self.first_timestamp_ms;
        let offset_delta = i64::from(self.events);
        let key_bytes = record.key.map_or(-1, |key| key.len() as i64);
        let value_bytes = record.value.len() as i64;
        let key = record.key.unwrap_or_default();
        let body = 1
            + varint_bytes(timestamp_delta)
            + varint_bytes(offset_delta)
            + varint_bytes(key_bytes)
            + key.len()
            + varint_bytes(value_bytes)
            + record.value.len()
            + record.headers[0].len()
            + record.headers[1].len();
        let out = &mut self.buffer;
        out.reserve(body + 5);
        put_varint(out, body as i64);
        out.push(0);
        put_varint(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_varint(out, key_bytes);
        append(out, key);
        put_varint(out, value_bytes);
        append(out, record.value);
        append(out, record.headers[0]);
        append(out, record.headers[1]);
        self.events += 1;
    }

    /// Ends the batch: nothing can be added, and its bytes do not change any more.
    pub(crate) fn seal(mut self, compression: Compression) -> Sealed {
        if compression == Compression::None {
            self.fill_header(compression);
            let wire = Bytes::from(self.buffer);
            return Sealed {
                plain: wire.clone(),
                wire,
                events: self.events,
                first_timestamp_ms: self.first_timestamp_ms,
                max_timestamp_ms: self.max_timestamp_ms,
                held_bytes: self.held_bytes,
            };
        }
        let plain = Bytes::from(std::mem::take(&mut self.buffer));
        self.buffer = vec![0; BATCH_HEADER_BYTES];
        compression.compress(&plain[BATCH_HEADER_BYTES..], &mut self.buffer);
        self.fill_header(compression);
        Sealed {
            plain,
            wire: Bytes::from(self.buffer),
            events: self.events,
            first_timestamp_ms: self.first_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            held_bytes: self.held_bytes,
        }
    }

    fn fill_header(&mut self, compression: Compression) {
        // A producer id of -1 is none: the brokers' idempotence is for clients that speak all of it.
        const NO_PRODUCER: (i64, i16, i32) = (-1, -1, -1);
        let mut header = Vec::with_capacity(BATCH_HEADER_BYTES);
        header.extend_from_slice(&0_i64.to_be_bytes());
        header.extend_from_slice(&((self.buffer.len() - 12) as i32).to_be_bytes());
        header.extend_from_slice(&(-1_i32).to_be_bytes());
        header.push(2);
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&compression.attribute().to_be_bytes());
        header.extend_from_slice(&(self.events as i32 - 1).to_be_bytes());
        header.extend_from_slice(&self.first_timestamp_ms.to_be_bytes());
        header.extend_from_slice(&self.max_timestamp_ms.to_be_bytes());
        header.extend_from_slice(&NO_PRODUCER.0.to_be_bytes());
        header.extend_from_slice(&NO_PRODUCER.1.to_be_bytes());
        header.extend_from_slice(&NO_PRODUCER.2.to_be_bytes());
        header.extend_from_slice(&(self.events as i32).to_be_bytes());
        self.buffer[..BATCH_HEADER_BYTES].copy_from_slice(&header);
        let checksum = crc32c::crc32c(&self.buffer[CHECKED_FROM..]);
        self.buffer[CHECKED_FROM - 4..CHECKED_FROM].copy_from_slice(&checksum.to_be_bytes());
    }
}

impl Sealed {
    pub(crate) fn wire(&self) -> &Bytes {
        &self.wire
    }

    pub(crate) fn events(&self) -> u64 {
        u64::from(self.events)
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The same records so much earlier or later that the last has the time `now_ms`.
    pub(crate) fn retimed(&self, now_ms: i64, compression: Compression) -> Self {
        let batch = Batch {
            buffer: self.plain.to_vec(),
            events: self.events,
            // The records themselves only tell the difference to the first.
            first_timestamp_ms: now_ms - (self.max_timestamp_ms - self.first_timestamp_ms),
            max_timestamp_ms: now_ms,
            held_bytes: self.held_bytes,
        };
        batch.seal(compression)
    }

    /// The two halves of a batch of at least two events of `topic`, each record as it was.
    pub(crate) fn split(&self, topic: &str, compression: Compression) -> (Self, Self) {
        debug_assert!(self.events > 1, "one event is not split");
        let mut halves = [Batch::new(), Batch::new()];
        let mut rest = &self.plain[BATCH_HEADER_BYTES..];
        for index in 0..self.events {
            let record = take_record(&mut rest, self.first_timestamp_ms);
            let half = &mut halves[usize::from(index >= self.events / 2)];
            half.write(&record);
            let event = Event { topic, key: record.key, value: record.value, timestamp_ms: record.timestamp_ms };
            half.held_bytes += event.held_bytes() as u64;
        }
        let [first, second] = halves;
        (first.seal(compression), second.seal(compression))
    }
}

/// Reads back what [`Batch::write`] has written.
fn take_record<'a>(rest: &mut &'a [u8], first_timestamp_ms: i64) -> Record<'a> {
    let take = |rest: &mut &'a [u8], bytes: i64| {
        let (taken, left) = rest.split_at(usize::try_from(bytes).unwrap_or(0));
        *rest = left;
        taken
    };
    let body = take_varint(rest);
    let mut record = take(rest, body);
    take(&mut record, 1);
    let timestamp_ms = first_timestamp_ms + take_varint(&mut record);
    take_varint(&mut record);
    let key_bytes = take_varint(&mut record);
    let key = (key_bytes >= 0).then(|| take(&mut record, key_bytes));
    let value_bytes = take_varint(&mut record);
    let value = take(&mut record, value_bytes);
    Record { timestamp_ms, key, value, headers: [record, &[]] }
}

/// A number's decimal digits as a header's value: their count, then themselves.
fn decimal_header(mut number: u64, digits: &mut [u8; 21]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    // At most 20 digits, whose count as a zigzag number takes one byte.
    let count = digits.len() - start;
    start -= 1;
    digits[start] = (count as u8) << 1;
    &digits[start..]
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn varint_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take_varint(rest: &mut &[u8]) -> i64 {
    let mut value = 0_u64;
    let mut shift = 0;
    while let Some((byte, left)) = rest.split_first() {
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use kafka_protocol::records::RecordBatchDecoder;
    use proptest::prelude::*;

    use super::*;

    /// A record as another implementation reads it.
    #[derive(Clone, Debug, PartialEq)]
    pub(crate) struct Read {
        pub(crate) timestamp_ms: i64,
        pub(crate) key: Option<Vec<u8>>,
        pub(crate) value: Vec<u8>,
        pub(crate) producer: String,
        pub(crate) place: String,
        pub(crate) sequence: u64,
    }

    /// Reads a batch with the codec of kafka-protocol, its checksum included.
    pub(crate) fn read(wire: &Bytes) -> Vec<Read> {
        let set = RecordBatchDecoder::decode_with_custom_compression(&mut wire.clone(), Some(decompress)).unwrap();
        let text = |record: &kafka_protocol::records::Record, name: &str| {
            let (_, value) = record.headers.iter().find(|(key, _)| key.as_str() == name).unwrap();
            String::from_utf8(value.as_ref().unwrap().to_vec()).unwrap()
        };
        let records = set.records.iter().map(|record| {
            assert_eq!(record.headers.len(), 3);
            Read {
                timestamp_ms: record.timestamp,
                key: record.key.as_ref().map(|key| key.to_vec()),
                value: record.value.as_ref().unwrap().to_vec(),
                producer: text(record, header::PRODUCER),
                place: text(record, header::PLACE),
                sequence: text(record, header::SEQUENCE).parse().unwrap(),
            }
        });
        records.collect()
    }

    fn decompress(bytes: &mut Bytes, compression: kafka_protocol::records::Compression) -> anyhow::Result<Bytes> {
        use std::io::Read as _;
        Ok(match compression {
            kafka_protocol::records::Compression::None => bytes.clone(),
            kafka_protocol::records::Compression::Gzip => {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
                plain.into()
            }
            kafka_protocol::records::Compression::Snappy => {
                assert_eq!(bytes[..16], SNAPPY_HEADER);
                let mut rest = &bytes[16..];
                let mut plain = Vec::new();
                while !rest.is_empty() {
                    let (length, left) = rest.split_first_chunk::<4>().unwrap();
                    let (block, left) = left.split_at(u32::from_be_bytes(*length) as usize);
                    plain.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap());
                    rest = left;
                }
                plain.into()
            }
            other => unreachable!("{other:?} is not written"),
        })
    }

    fn owned_event() -> impl Strategy<Value = (Option<Vec<u8>>, Vec<u8>, i64)> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..200);
        (prop::option::of(bytes()), bytes(), 1_600_000_000_000_i64..1_900_000_000_000)
    }

    proptest! {
        #[test]
        fn another_implementation_reads_what_was_written(
            events in prop::collection::vec(owned_event(), 1..40),
            first_sequence in prop::sample::select(vec![0, 9, 10, 99, 127, 128, 1 << 40, u64::MAX - 100]),
            compression in prop::sample::select(vec![Compression::None, Compression::Gzip, Compression::Snappy]),
        ) {
            let id = Uuid::from_u128(0x1234);
            let headers = Producer::new(id).headers("t", 17);
            let mut batch = Batch::new();
            let mut expected = Vec::new();
            let mut held = 0;
            for ((key, value, timestamp_ms), sequence) in events.into_iter().zip(first_sequence..) {
                let event = Event { topic: "t", key: key.as_deref(), value: &value, timestamp_ms };
                batch.push(&headers, sequence, &event);
                held += event.held_bytes() as u64;
                let (producer, place) = (id.simple().to_string(), "t/17".to_owned());
                expected.push(Read { timestamp_ms, key, value, producer, place, sequence });
            }
            let sealed = batch.seal(compression);
            prop_assert_eq!(sealed.held_bytes(), held);
            prop_assert_eq!(&read(sealed.wire()), &expected);

            let now_ms = 1_950_000_000_000;
            let shift = now_ms - expected.iter().map(|record| record.timestamp_ms).max().unwrap();
            let later: Vec<_> =
                expected.iter().map(|record| Read { timestamp_ms: record.timestamp_ms + shift, ..record.clone() }).collect();
            let retimed = sealed.retimed(now_ms, compression);
            prop_assert_eq!((retimed.events(), retimed.held_bytes()), (sealed.events(), held));
            prop_assert_eq!(read(retimed.wire()), later);

            if expected.len() > 1 {
                let (first, second) = sealed.split("t", compression);
                prop_assert_eq!(first.events() + second.events(), expected.len() as u64);
                prop_assert_eq!(first.held_bytes() + second.held_bytes(), held);
                let mut halves = read(first.wire());
                halves.extend(read(second.wire()));
                prop_assert_eq!(halves, expected);
            }
        }

        #[test]
        fn numbers_take_the_bytes_they_are_said_to(value: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_bytes(value));
            prop_assert_eq!(take_varint(&mut out.as_slice()), value);
        }
    }
}
