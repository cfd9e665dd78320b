#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use proptest::prelude::*;
use superhero_codec::put_varint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::batch::{Batch, Content, take};
use super::*;
use crate::KafkaConfig;

const CODECS: [u8; 5] = [0, 1, 2, 3, 4];
/// Snappy as one block, without snappy-java's framing.
const BARE_SNAPPY: u8 = 12;

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn compress(codec: u8, plain: &[u8]) -> Vec<u8> {
    match codec {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        2 => {
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in plain.chunks(100) {
                let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                out.extend_from_slice(&block);
            }
            out
        }
        BARE_SNAPPY => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        4 => ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest),
        _ => plain.to_vec(),
    }
}

/// A batch around a payload, its checksum right.
fn wrap(base_offset: i64, last_offset_delta: i32, attributes: i16, count: i32, payload: &[u8]) -> Vec<u8> {
    let mut checked = Vec::new();
    checked.extend_from_slice(&attributes.to_be_bytes());
    checked.extend_from_slice(&last_offset_delta.to_be_bytes());
    checked.extend_from_slice(&1_000_i64.to_be_bytes());
    checked.extend_from_slice(&2_000_i64.to_be_bytes());
    checked.extend_from_slice(&[0xff; 14]);
    checked.extend_from_slice(&count.to_be_bytes());
    checked.extend_from_slice(payload);
    let mut batch = base_offset.to_be_bytes().to_vec();
    batch.extend_from_slice(&(checked.len() as i32 + 9).to_be_bytes());
    batch.extend_from_slice(&[0, 0, 0, 0, 2]);
    batch.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
    batch.extend_from_slice(&checked);
    batch
}

/// A record and its headers, which it has as bytes.
type Written = (Record, Vec<(String, Vec<u8>)>);

fn encode(base_offset: i64, codec: u8, records: &[Written]) -> Vec<u8> {
    let mut plain = Vec::new();
    for (record, headers) in records {
        let mut body = vec![0];
        put_varint(&mut body, record.timestamp.wrapping_sub(1_000));
        put_varint(&mut body, record.offset - base_offset);
        put_bytes(&mut body, record.key.as_deref());
        put_bytes(&mut body, record.value.as_deref());
        put_varint(&mut body, headers.len() as i64);
        for (name, value) in headers {
            put_bytes(&mut body, Some(name.as_bytes()));
            put_bytes(&mut body, Some(value));
        }
        put_varint(&mut plain, body.len() as i64);
        plain.extend_from_slice(&body);
    }
    let last = records.last().map_or(0, |(record, _)| (record.offset - base_offset) as i32);
    let attribute = if codec == BARE_SNAPPY { 2 } else { i16::from(codec) };
    wrap(base_offset, last, attribute, records.len() as i32, &compress(codec, &plain))
}

/// At offset 0.
fn record() -> impl Strategy<Value = Written> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..80);
    let part = || prop::option::of(bytes().prop_map(Bytes::from));
    let headers = prop::collection::vec(("[a-c]{1,2}", bytes()), 0..3);
    (part(), part(), headers, any::<i64>()).prop_map(|(key, value, named, timestamp)| {
        let headers = named.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        (Record { offset: 0, timestamp, key, value, headers }, named)
    })
}

/// Records with offsets from `base` on, some of which are missing.
fn records(base: i64) -> impl Strategy<Value = Vec<Written>> {
    prop::collection::vec((record(), 0_i64..3), 1..20).prop_map(move |records| {
        let mut next = base;
        let numbered = records.into_iter().map(|((record, headers), skipped)| {
            let offset = next + skipped;
            next = offset + 1;
            (Record { offset, ..record }, headers)
        });
        numbered.collect()
    })
}

fn fetcher() -> BatchFetcher {
    BatchFetcher::new(TopicPartition::new("t", 0))
}

proptest! {
    #[test]
    fn records_come_back_whatever_they_were_compressed_with(
        records in records(100),
        codec in prop::sample::select(&[0, 1, 2, 3, 4, BARE_SNAPPY][..]),
        from in 90_i64..120,
        cut: prop::sample::Index,
    ) {
        let batch = encode(100, codec, &records);
        for (record, headers) in &records {
            for (name, _) in headers {
                let last = headers.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_slice());
                prop_assert_eq!(record.headers.get(name), last);
            }
            prop_assert_eq!(record.headers.get("d"), None);
        }
        let records: Vec<_> = records.into_iter().map(|(record, _)| record).collect();
        let end = records.last().unwrap().offset + 1;
        let mut bytes = Bytes::from(batch.clone());
        let read = take(&mut bytes).unwrap();
        prop_assert_eq!((read.base_offset, read.next, bytes), (100, end, Bytes::new()));
        prop_assert_eq!(read.content, Content::Records(records.clone()));

        // What was cut off at the limit of the fetch is fetched again.
        let two = [batch.clone(), batch[..cut.index(batch.len())].to_vec()].concat();
        let answer = fetcher().read(from, end, two.into());
        if from < end {
            let answer = answer.unwrap();
            let expected: Vec<_> = records.into_iter().filter(|record| record.offset >= from).collect();
            prop_assert_eq!((answer.records, answer.next), (expected, end));
        } else {
            prop_assert_eq!(answer.unwrap().next, from);
        }
    }

    #[test]
    fn a_batch_that_cannot_be_read_stands_as_one_record(
        records in records(7),
        codec in 0_u8..8,
        payload in prop::collection::vec(any::<u8>(), 0..200),
        change in any::<prop::sample::Index>(),
    ) {
        // Bytes that are no records, in a batch that says they are, with its checksum right.
        let batch = wrap(7, 4, i16::from(codec), 5, &payload);
        let whole = [batch.clone(), encode(12, 0, &[])].concat();
        let answer = fetcher().read(7, 12, whole.into()).unwrap();
        prop_assert_eq!(answer.next, 13);
        prop_assert_eq!(answer.records.len(), 1);
        prop_assert_eq!(answer.records[0].value.as_deref(), Some(&*batch));
        let Undecodable { offset, reason } = &answer.undecodable[0];
        prop_assert_eq!(*offset, 7);
        prop_assert!(reason.contains("offsets 7 to 11"), "{}", reason);

        // A record that was changed on its way.
        let mut batch = encode(7, 0, &records);
        let place = 21 + change.index(batch.len() - 21);
        batch[place] ^= 0x40;
        let mut fetcher = fetcher();
        for _ in 1..CORRUPT_FETCHES {
            let is_corrupt = matches!(fetcher.read(7, 100, batch.clone().into()), Err(FetchError::Corrupt { offset: 7, .. }));
            prop_assert!(is_corrupt);
        }
        let answer = fetcher.read(7, 100, batch.clone().into()).unwrap();
        prop_assert_eq!(answer.records[0].value.as_deref(), Some(&*batch));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), codec in 0_u8..8, payload: Vec<u8>, count: i32, delta: i32) {
        let bytes = Bytes::from(bytes);
        let mut rest = bytes.clone();
        while take(&mut rest).is_some() {}
        let _ = fetcher().read(0, 10, bytes);
        let batch = wrap(i64::MAX - 3, delta, i16::from(codec), count, &payload);
        let _ = fetcher().read(0, i64::MAX, batch.into());
    }

    #[test]
    fn a_codec_survives_bytes_that_are_damaged(
        records in records(0),
        codec in prop::sample::select(&CODECS[..]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut: prop::sample::Index,
    ) {
        let batch = encode(0, codec, &records);
        let mut payload = batch[61..].to_vec();
        for (place, byte) in damage {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        payload.truncate(cut.index(payload.len()) + 1);
        let _ = take(&mut wrap(0, 100, i16::from(codec), records.len() as i32, &payload).into());
    }
}

#[test]
fn marks_and_emptied_batches_are_stepped_over() {
    let mark = wrap(3, 0, 0b11_0000, 1, b"any");
    let emptied = wrap(4, 5, 0, 0, b"");
    let answer = fetcher().read(3, 10, [mark, emptied].concat().into()).unwrap();
    assert_eq!((answer.next, answer.records, answer.undecodable), (10, Vec::new(), Vec::new()));
    assert!(matches!(
        fetcher().read(3, 10, Bytes::new()),
        Err(FetchError::Nothing { offset: 3, high_watermark: 10, .. })
    ));
}

#[test]
fn a_batch_may_be_at_any_offset() {
    let (offset, timestamp) = (0, 0);
    let record = Record { offset, timestamp, key: None, value: None, headers: Headers::default() };
    let batch = encode(0, 0, &[(record, Vec::new())]);
    // The checksum does not cover the offset.
    let batch = [&i64::MIN.to_be_bytes(), &batch[8..]].concat();
    assert_eq!(take(&mut batch.into()).unwrap().base_offset, i64::MIN);
}

#[test]
fn what_would_take_all_memory_is_not_read() {
    let zeros = vec![0; MAX_PLAIN_BYTES + 1];
    for codec in [1, 2, 3, 4, BARE_SNAPPY] {
        let payload = compress(codec, &zeros);
        let attribute = if codec == BARE_SNAPPY { 2 } else { i16::from(codec) };
        let read = take(&mut wrap(0, 0, attribute, 1, &payload).into()).unwrap();
        let Batch { content: Content::Undecodable { reason, .. }, .. } = read else { panic!("codec {codec}") };
        assert!(reason.contains("more than 67108864 bytes"), "{codec}: {reason}");
    }
}

#[test]
fn times_are_those_of_the_broker_where_it_sets_them() {
    let (offset, timestamp) = (0, 0);
    let record = Record { offset, timestamp, key: None, value: None, headers: Headers::default() };
    let mut batch = encode(0, 0, &[(record, Vec::new())]);
    batch[22] |= 0b1000;
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    let Content::Records(records) = take(&mut batch.into()).unwrap().content else { panic!("records") };
    assert_eq!(records[0].timestamp, 2_000);
}

/// The answer to a fetch of a connection's first request: after `throttled` milliseconds, about no partition at all.
fn about_nothing(throttled: u32) -> Vec<u8> {
    let mut answer = b"\0\0\0\x0c\0\0\0\x01".to_vec();
    answer.extend_from_slice(&throttled.to_be_bytes());
    answer.extend_from_slice(&[0; 4]);
    answer
}

async fn fetch_about_nothing(throttled: u32) -> (Result<Option<Batches>, FetchError>, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = KafkaConfig::new(&address, "test").unwrap();
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_i32().await.unwrap();
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        stream.write_all(&about_nothing(throttled)).await.unwrap();
        stream
    };
    let mut fetcher = fetcher();
    let asking = async {
        let connection = Connection::open(&address, &config).await.unwrap();
        let request = fetcher.request(7, 1 << 20, Duration::ZERO);
        fetcher.ask(connection, request, 7, Duration::from_secs(10)).await
    };
    let (_stream, answer) = tokio::join!(answering, asking);
    (answer, fetcher.connection.is_some())
}

#[tokio::test]
async fn what_a_quota_holds_back_is_no_error_and_not_the_end_of_the_log() {
    let (answer, is_kept) = fetch_about_nothing(20).await;
    let batches = answer.unwrap();
    assert!(batches.is_none() && is_kept, "{batches:?}");
}

#[tokio::test]
async fn an_answer_without_the_partition_is_told_as_what_it_is() {
    let error = fetch_about_nothing(0).await.0.unwrap_err().to_string();
    assert!(error.contains("t/0 from offset 7 leaves the partition out"), "{error}");
}
