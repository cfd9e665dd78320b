#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use proptest::prelude::*;
use superhero_codec::put_varint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use bytes::Bytes;
use kafka_protocol::messages::ProducerId;
use kafka_protocol::messages::fetch_response::AbortedTransaction;

use super::batch::take;
use super::*;
use crate::KafkaConfig;

const CODECS: [u8; 6] = [0, 1, 2, 3, 4, BARE_SNAPPY];
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
    BatchFetcher::new(TopicPartition::new("t", 0), Isolation::Committed, Budget::default())
}

fn partition(end: i64, bytes: impl Into<Bytes>) -> PartitionData {
    PartitionData::default().with_high_watermark(end).with_last_stable_offset(-1).with_records(Some(bytes.into()))
}

/// What an answer comes to, a chunk after the other.
#[derive(Debug, Default, PartialEq)]
struct Told {
    records: Vec<Record>,
    odd: Vec<Odd>,
    next: i64,
    chunks: usize,
}

fn read_all(mut answer: Answer, from: i64) -> Told {
    let mut told = Told { next: from, ..Told::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    while let Some(chunk) = runtime.block_on(answer.next_chunk()) {
        assert!(chunk.next > told.next, "{chunk:?} behind {}", told.next);
        for record in &chunk.records {
            assert!((told.next..chunk.next).contains(&record.offset), "{record:?} of {}..{}", told.next, chunk.next);
            told.next = record.offset + 1;
        }
        let mut offsets = chunk.records.iter().map(|record| record.offset);
        assert!(chunk.odd.iter().all(|odd| offsets.any(|offset| offset == odd.offset)), "{chunk:?}");
        told.next = chunk.next;
        told.records.extend(chunk.records);
        told.odd.extend(chunk.odd);
        told.chunks += 1;
    }
    assert_eq!(told.next, answer.next().max(from));
    told
}

fn read(from: i64, end: i64, bytes: impl Into<Bytes>) -> Result<Told, FetchError> {
    fetcher().read(from, partition(end, bytes), None).map(|answer| read_all(answer, from))
}

/// The bytes of a record behind its length.
fn size(base: i64, (record, headers): &Written) -> usize {
    let batch = encode(base, 0, &[(record.clone(), headers.clone())]);
    let mut payload = &batch[61..];
    superhero_codec::varint(&mut payload).unwrap() as usize
}

/// The record as it is told, if its batch is read with this limit, and whether it is odd then.
fn as_told((record, _): &Written, size: usize, limit: usize) -> (Record, bool) {
    if size <= limit {
        return (record.clone(), false);
    }
    (Record { value: None, ..record.clone() }, true)
}

proptest! {
    #[test]
    fn records_come_back_whatever_they_were_compressed_with(
        records in records(100),
        codec in prop::sample::select(&CODECS[..]),
        from in 90_i64..120,
        cut: prop::sample::Index,
        limit in prop_oneof![Just(usize::MAX), 40_usize..400],
    ) {
        let batch = encode(100, codec, &records);
        for (record, headers) in &records {
            for (name, _) in headers {
                let last = headers.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_slice());
                prop_assert_eq!(record.headers.get(name), last);
            }
            prop_assert_eq!(record.headers.get("d"), None);
        }
        let end = records.last().unwrap().0.offset + 1;
        let mut bytes = Bytes::from(batch.clone());
        let whole = take(&mut bytes).unwrap();
        prop_assert_eq!((whole.base_offset, whole.next, bytes), (100, end, Bytes::new()));

        // What was cut off at the limit of the fetch is fetched again.
        let two = [batch.clone(), batch[..cut.index(batch.len())].to_vec()].concat();
        let mut answer = fetcher().read(from, partition(end, two), None).unwrap();
        answer.max_record_bytes = limit;
        let told = read_all(answer, from);
        let expected = records.iter().filter(|(record, _)| record.offset >= from);
        let expected: Vec<_> = expected.map(|record| as_told(record, size(100, record), limit)).collect();
        let odd: Vec<_> = expected.iter().filter(|(_, is_odd)| *is_odd).map(|(record, _)| record.offset).collect();
        let expected: Vec<_> = expected.into_iter().map(|(record, _)| record).collect();
        prop_assert_eq!((told.records, told.next), (expected, end.max(from)));
        prop_assert_eq!(told.odd.iter().map(|odd| odd.offset).collect::<Vec<_>>(), odd);
        prop_assert!(told.odd.iter().all(|odd| odd.is_left_out && odd.lost_records == 0));
    }

    #[test]
    fn what_is_before_the_place_where_a_batch_breaks_off_is_read(
        records in records(100),
        codec in prop::sample::select(&CODECS[..]),
        cut: prop::sample::Index,
        more: bool,
        from in 100_i64..110,
    ) {
        let whole = encode(100, codec, &records);
        let delta = (records.last().unwrap().0.offset - 100) as i32;
        let payload = if more { [&whole[61..], &b"\x02\0"[..]].concat() } else { whole[61..61 + cut.index(whole.len() - 61)].to_vec() };
        let attribute = if codec == BARE_SNAPPY { 2 } else { i16::from(codec) };
        let batch = wrap(100, delta, attribute, records.len() as i32, &payload);
        let end = records.last().unwrap().0.offset + 1;
        prop_assume!(from < end);
        let told = read(from, end, batch.clone()).unwrap();
        let expected: Vec<_> = records.iter().map(|(record, _)| record.clone()).filter(|record| record.offset >= from).collect();
        prop_assert_eq!(told.next, end);
        match told.odd.as_slice() {
            // The end of a frame may not be needed, and bytes behind it may not be looked at.
            [] => prop_assert!(codec != 0 && told.records == expected),
            [odd] => {
                let (last, before) = told.records.split_last().unwrap();
                prop_assert_eq!(before, &expected[..before.len()]);
                prop_assert_eq!((last.offset, last.value.as_deref(), odd.next), (odd.offset, Some(&*batch), end));
                prop_assert!(odd.lost_records >= (expected.len() - before.len()) as u64, "{:?}", odd);
                prop_assert!(odd.lost_records <= records.len() as u64 - before.len() as u64, "{:?}", odd);
                let offsets = format!("offsets {} to {}", odd.offset, end - 1);
                prop_assert!(odd.reason.contains(&offsets), "{:?}", odd);
            }
            more => prop_assert!(false, "{:?}", more),
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
        let told = read(7, 12, whole).unwrap();
        prop_assert_eq!(told.next, 13);
        let [Odd { offset, reason, lost_records, is_left_out: false, next: 12 }] = told.odd.as_slice() else { panic!("{told:?}") };
        let last = told.records.last().unwrap();
        prop_assert_eq!((last.offset, last.value.as_deref()), (*offset, Some(&*batch)));
        prop_assert_eq!(told.records.len() as u64 - 1 + lost_records, 5);
        prop_assert!(reason.contains("to 11"), "{}", reason);

        // A record that was changed on its way.
        let mut batch = encode(7, 0, &records);
        let place = 21 + change.index(batch.len() - 21);
        batch[place] ^= 0x40;
        let mut fetcher = fetcher();
        for _ in 1..CORRUPT_FETCHES {
            let read = fetcher.read(7, partition(100, batch.clone()), None).map(drop);
            let is_corrupt = matches!(read, Err(FetchError::Corrupt { offset: 7, .. }));
            prop_assert!(is_corrupt);
        }
        let told = read_all(fetcher.read(7, partition(100, batch.clone()), None).unwrap(), 7);
        prop_assert_eq!(told.records[0].value.as_deref(), Some(&*batch));
        prop_assert_eq!(told.odd.len(), 1);
    }

    #[test]
    fn any_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..400), codec in 0_u8..8, payload: Vec<u8>, count: i32, delta: i32,
        attributes: i16,
    ) {
        let mut rest = Bytes::from(bytes.clone());
        while take(&mut rest).is_some() {}
        let _ = read(0, 10, bytes);
        let _ = read(0, i64::MAX, wrap(i64::MAX - 3, delta, i16::from(codec), count, &payload));
        let _ = read(0, i64::MAX, wrap(1, delta, attributes, count, &payload));
    }

    #[test]
    fn a_codec_survives_bytes_that_are_damaged(
        records in records(0),
        codec in prop::sample::select(&CODECS[..]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut: prop::sample::Index,
        limit in prop_oneof![Just(usize::MAX), 40_usize..400],
        count in prop::option::of(0_i32..40),
    ) {
        let batch = encode(0, codec, &records);
        let mut payload = batch[61..].to_vec();
        for (place, byte) in damage {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        payload.truncate(cut.index(payload.len()) + 1);
        let attribute = if codec == BARE_SNAPPY { 2 } else { i16::from(codec) };
        let count = count.unwrap_or(records.len() as i32);
        let batch = wrap(0, 100, attribute, count, &payload);
        let mut answer = fetcher().read(0, partition(101, batch), None).unwrap();
        answer.max_record_bytes = limit;
        let told = read_all(answer, 0);
        let lost: u64 = told.odd.iter().map(|odd| odd.lost_records).sum();
        let standing = told.odd.iter().filter(|odd| !odd.is_left_out).count();
        prop_assert_eq!((told.records.len() - standing) as u64 + lost, count as u64);
    }

    #[test]
    fn snappy_as_a_stream_is_snappy(
        pieces in prop::collection::vec((any::<u8>(), 0_usize..30_000, prop::collection::vec(any::<u8>(), 0..300)), 0..9),
        step in 1_000_usize..100_000,
    ) {
        let mut plain = Vec::new();
        for (byte, count, random) in pieces {
            plain.extend(std::iter::repeat_n(byte, count));
            plain.extend(random);
        }
        let compressed = Bytes::from(snap::raw::Encoder::new().compress_vec(&plain).unwrap());
        let mut decoder = codec::Decoder::new(2, compressed, 0).unwrap().unwrap();
        let mut unfolded = Vec::new();
        while unfolded.len() < plain.len() {
            decoder.read(step, &mut unfolded).unwrap();
        }
        decoder.read(1, &mut unfolded).unwrap();
        prop_assert!(unfolded == plain);
    }

    #[test]
    fn any_blocks_of_snappy_are_survived(length in 0_u32.., bytes: Vec<u8>, is_framed: bool) {
        let mut block = Vec::new();
        let mut rest = length;
        while rest >= 0x80 {
            block.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
        block.extend(bytes);
        if is_framed {
            let header = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
            block = [&header[..], &(block.len() as u32).to_be_bytes(), &block].concat();
        }
        let mut decoder = codec::Decoder::new(2, block.into(), 0).unwrap().unwrap();
        let _ = decoder.read(1 << 20, &mut Vec::new());
    }
}

#[test]
fn marks_and_emptied_batches_are_stepped_over() {
    let mark = wrap(3, 0, 0b11_0000, 1, b"any");
    let emptied = wrap(4, 5, 0, 0, b"");
    let told = read(3, 10, [mark, emptied].concat()).unwrap();
    assert_eq!((told.next, told.records, told.odd), (10, Vec::new(), Vec::new()));
    assert!(matches!(read(3, 10, Bytes::new()), Err(FetchError::Nothing { offset: 3, high_watermark: 10, .. })));
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

/// Records of one value, and without anything else.
fn alike(count: i64, value: &[u8]) -> Vec<Written> {
    let record = |offset| Record {
        offset,
        timestamp: 1_000,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: Headers::default(),
    };
    (0..count).map(|offset| (record(offset), Vec::new())).collect()
}

#[test]
fn a_batch_of_any_size_is_read_record_by_record() {
    let value = vec![b'a'; 1_000_000];
    let records = alike(68, &value);
    for codec in CODECS {
        let told = read(0, 68, encode(0, codec, &records)).unwrap();
        assert_eq!((told.records.len(), told.odd.as_slice(), told.next), (68, &[][..], 68), "{codec}");
        assert!(told.records.iter().all(|record| record.value.as_deref() == Some(&*value)), "{codec}");
    }
}

#[tokio::test]
async fn whoever_holds_the_last_records_of_a_batch_holds_no_decoder() {
    let budget = Budget::new(Budget::MIN_BYTES);
    let mut fetcher = BatchFetcher::new(TopicPartition::new("t", 0), Isolation::Committed, budget.clone());
    let all = budget.max_answer_bytes();
    for codec in [1, 2, 3, 4] {
        let mut answer = fetcher.read(0, partition(6, encode(0, codec, &alike(6, b"value"))), None).unwrap();
        let chunk = answer.next_chunk().await.unwrap();
        assert_eq!(chunk.records.len(), 6);
        assert!(budget.try_take(Share::Decoders, all).is_some(), "{codec}");
    }
}

#[test]
fn a_record_that_is_too_large_is_told_by_its_size_and_a_hash_and_those_around_it_are_read() {
    let (small, large) = (vec![b'b'; 1000], vec![0; Budget::default().max_record_bytes() + 1]);
    for codec in CODECS {
        let mut records = alike(3, &small);
        records[1].0.value = Some(large.clone().into());
        records[1].0.key = Some("k".into());
        records[1].1 = vec![("h".to_owned(), b"v".to_vec())];
        let told = read(0, 3, encode(0, codec, &records)).unwrap();
        let [odd] = told.odd.as_slice() else { panic!("{codec}: {told:?}") };
        assert_eq!((odd.offset, odd.is_left_out, odd.lost_records, odd.next), (1, true, 0, 2));
        let hash = format!("value of {} bytes, whose CRC-32C is {:08x}", large.len(), crc32c::crc32c(&large));
        assert!(odd.reason.contains(&hash), "{codec}: {odd:?}");
        let [first, second, third] = told.records.as_slice() else { panic!("{codec}: {} records", told.records.len()) };
        assert_eq!((first.value.as_deref(), third.value.as_deref()), (Some(&*small), Some(&*small)));
        assert_eq!((second.key.as_deref(), second.value.as_deref()), (Some(&b"k"[..]), None));
        assert_eq!(second.headers.get("h"), Some(&b"v"[..]));
    }
}

#[test]
fn a_frame_whose_window_is_larger_than_the_memory_for_it_is_refused() {
    // A window of 2 GiB, then a block of one byte.
    let payload = b"\x28\xb5\x2f\xfd\0\xa8\x0b\0\0a";
    let told = read(0, 1, wrap(0, 0, 4, 1, payload)).unwrap();
    let [odd] = told.odd.as_slice() else { panic!("{told:?}") };
    assert!(odd.lost_records == 1 && odd.reason.contains("zstd") && odd.reason.contains("indow"), "{odd:?}");
}

#[test]
fn a_frame_that_asks_for_all_memory_that_there_can_be_is_refused() {
    // One segment of 2^64 − 1 bytes, which is its window.
    let payload = [&b"\x28\xb5\x2f\xfd\xe0"[..], &[0xff; 8], b"\0\0\0a"].concat();
    let told = read(0, 1, wrap(0, 0, 4, 1, &payload)).unwrap();
    let [odd] = told.odd.as_slice() else { panic!("{told:?}") };
    assert!(odd.lost_records == 1 && odd.reason.contains("zstd"), "{odd:?}");
}

#[test]
fn times_are_those_of_the_broker_where_it_sets_them() {
    let (offset, timestamp) = (0, 0);
    let record = Record { offset, timestamp, key: None, value: None, headers: Headers::default() };
    let mut batch = encode(0, 0, &[(record, Vec::new())]);
    batch[22] |= 0b1000;
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    let told = read(0, 1, batch).unwrap();
    assert_eq!(told.records[0].timestamp, 2_000);
}

/// A batch of two records of a transaction, or of none.
fn of_producer(base: i64, producer: i64, is_transactional: bool) -> Vec<u8> {
    let mut batch = encode(0, 0, &alike(2, b"v"));
    batch[..8].copy_from_slice(&base.to_be_bytes());
    batch[43..51].copy_from_slice(&producer.to_be_bytes());
    batch[22] |= if is_transactional { 0b1_0000 } else { 0 };
    sealed(batch)
}

/// The mark of a transaction's end.
fn mark(base: i64, producer: i64, is_commit: bool) -> Vec<u8> {
    let mut record = alike(1, b"\0\0\0\0\0\0");
    record[0].0.key = Some(Bytes::from(vec![0, 0, 0, u8::from(is_commit)]));
    let mut batch = encode(0, 0, &record);
    batch[..8].copy_from_slice(&base.to_be_bytes());
    batch[43..51].copy_from_slice(&producer.to_be_bytes());
    batch[22] |= 0b11_0000;
    sealed(batch)
}

fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    batch
}

#[test]
fn records_of_transactions_that_were_aborted_are_left_out_and_no_others() {
    let log = [
        of_producer(0, 7, true),
        of_producer(2, 8, true),
        of_producer(4, 7, false),
        of_producer(6, -1, false),
        mark(8, 7, false),
        of_producer(9, 7, true),
        mark(11, 8, true),
        mark(12, 7, true),
        of_producer(13, 8, true),
        of_producer(15, 7, true),
        mark(17, 8, false),
        mark(18, 7, true),
    ];
    let aborted = |first: i64, producer: i64| {
        AbortedTransaction::default().with_first_offset(first).with_producer_id(ProducerId(producer))
    };
    let offsets = |isolation, from: i64, aborted: Vec<AbortedTransaction>| {
        let mut fetcher = BatchFetcher::new(TopicPartition::new("t", 0), isolation, Budget::default());
        let partition = partition(19, log.concat()).with_aborted_transactions(Some(aborted));
        let told = read_all(fetcher.read(from, partition, None).unwrap(), from);
        assert_eq!(told.next, 19);
        told.records.iter().map(|record| record.offset).collect::<Vec<_>>()
    };
    let both = || vec![aborted(13, 8), aborted(0, 7)];
    assert_eq!(offsets(Isolation::Committed, 0, both()), [2, 3, 4, 5, 6, 7, 9, 10, 15, 16]);
    assert_eq!(offsets(Isolation::Committed, 1, both()), [2, 3, 4, 5, 6, 7, 9, 10, 15, 16]);
    assert_eq!(offsets(Isolation::Committed, 14, vec![aborted(13, 8)]), [15, 16]);
    let all = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 13, 14, 15, 16];
    assert_eq!(offsets(Isolation::Uncommitted, 0, both()), all);
}

#[test]
fn what_is_behind_an_open_transaction_waits_and_is_told() {
    let answer = |isolation, from, stable| {
        let mut fetcher = BatchFetcher::new(TopicPartition::new("t", 0), isolation, Budget::default());
        fetcher
            .read(from, partition(9, Bytes::new()).with_last_stable_offset(stable), None)
            .map(|answer| answer.held_back)
    };
    assert_eq!(answer(Isolation::Committed, 5, 5).unwrap(), Some(5..9));
    assert_eq!(answer(Isolation::Committed, 9, 9).unwrap(), None);
    assert_eq!(answer(Isolation::Committed, 9, -1).unwrap(), None);
    assert!(matches!(answer(Isolation::Committed, 3, 5), Err(FetchError::Nothing { high_watermark: 5, .. })));
    assert!(matches!(answer(Isolation::Uncommitted, 5, 5), Err(FetchError::Nothing { high_watermark: 9, .. })));
    let waiting = Waiting { offsets: 5..9, producer: 4, since: DateTime::from_timestamp_millis(1_795_371_321_101) };
    let told =
        "4 records from offset 5 on wait behind an open transaction of producer 4 since 2026-11-22T18:15:21.101Z";
    assert_eq!(waiting.to_string(), told);
}

/// The answer to a fetch of a connection's first request: after `throttled` milliseconds, about no partition at all.
fn about_nothing(throttled: u32) -> Vec<u8> {
    let mut answer = b"\0\0\0\x0c\0\0\0\x01".to_vec();
    answer.extend_from_slice(&throttled.to_be_bytes());
    answer.extend_from_slice(&[0; 4]);
    answer
}

async fn fetch_about_nothing(throttled: u32) -> (Result<Option<PartitionData>, FetchError>, bool) {
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
        let request = fetcher.request(7, 1 << 20, Duration::ZERO, Isolation::Committed);
        let asked = fetcher.ask(connection, request, 7, Duration::from_secs(10)).await;
        asked.map(|asked| asked.map(|(partition, _)| partition))
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
