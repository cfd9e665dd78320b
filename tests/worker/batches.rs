//! Batches of other producers, such as our own does not write.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use rskafka::record::Record;
use superhero_event::Task;
use superhero_kafka::Isolation;
use superhero_kafka::fetch::Budget;
use superhero_kafka::wire::Connection;
use superhero_verify::{Fault, VerifyConfig, verify};
use superhero_worker::WorkerConfig;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::setting::{PATIENCE, Producer, Setting};
use crate::process::{Process, binary, eventually};
use crate::python;
use crate::services::{Kafka, Redis};

const TRANSACTED: usize = 20;

pub async fn those_of_other_producers_become_rows(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    let mut producer = Producer::new();
    setting.produce(0, producer.events(0, 10)).await?;
    for codec in ["lz4", "zstd"] {
        produce_by_java(kafka, &setting.topic, &format!("compression.type={codec}")).await?;
    }
    setting.produce(0, producer.events(0, 10)).await?;
    // What was aborted is no row, and neither are the marks behind either transaction.
    let mut command = python::kafka_client("confluent", "transact", kafka, &setting.topic).await?;
    command.args(["--count", &TRANSACTED.to_string()]);
    Process::spawn("confluent-kafka", command)?.succeed().await?;
    setting.produce(0, producer.events(0, 10)).await?;

    let summary = setting.take_all().await?;
    let rows = setting.raw(0)?.len();
    ensure!((summary.missing, rows) == (0, 32 + TRANSACTED), "{rows} rows, {summary:?}");
    // What Java's tool sends is no JSON.
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean() && found.rows.raw == rows as u64, "{found}");
    ensure!(found.partitions[0].holes == 2 + TRANSACTED as u64, "aborted records and marks are none: {found}");

    // To a worker that takes everything, they are; and a check by the other rule finds that wrong.
    let elsewhere = tempfile::tempdir()?;
    let setting = Setting::of_topic(kafka, elsewhere.path(), &setting.topic, 1).await?;
    let mut config = WorkerConfig { until_end: true, ..setting.config() };
    config.fetch.isolation = Isolation::Uncommitted;
    setting.start(config).ended().await?;
    ensure!(setting.raw(0)?.len() == 32 + 2 * TRANSACTED, "all are rows");
    let found = setting.verify(&[elsewhere.path()]).await?;
    ensure!(found.faults.count("uncommitted") == 1 && found.faults.total() == 1, "{found}");
    let found = setting.verify_with(&[elsewhere.path()], Isolation::Uncommitted).await?;
    ensure!(found.is_clean(), "{found}");
    Ok(())
}

pub async fn what_is_behind_an_open_transaction_waits_and_is_told(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    let mut producer = Producer::new();
    setting.produce(0, producer.events(0, 3)).await?;
    let mut command = python::kafka_client("confluent", "hold", kafka, &setting.topic).await?;
    command.args(["--count", "1"]);
    let mut holding = Process::spawn("confluent-kafka", command)?;
    holding.prints("held").await?;
    setting.produce(0, producer.events(0, 5)).await?;

    const WAITING: &str = "6 records from offset 3 on wait behind an open transaction of producer ";
    let ended = setting.take_all().await;
    let Err(error) = ended else { anyhow::bail!("{ended:?}") };
    ensure!(error.to_string().contains(WAITING) && error.to_string().contains(" since 2"), "{error:#}");
    ensure!(setting.raw(0)?.len() == 3, "what is before it is there");
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean() && found.to_string().contains(WAITING), "{found}");

    // Whoever goes on gets the rest when it is over.
    let worker = setting.start(setting.config());
    holding.stop().await?;
    eventually("the rest is there", PATIENCE, async || Ok(setting.raw(0)?.len() == 8)).await?;
    worker.stopped().await?;
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean() && found.partitions[0].waiting.is_none(), "{found}");
    Ok(())
}

pub async fn one_of_any_size_is_read_record_by_record(kafka: &Kafka, folder: &Path) -> Result<()> {
    const RECORDS: i32 = 68;
    let setting = Setting::new(kafka, folder, 1).await?;
    let record = |number| record(number, &[b'a'; 1_000_000]);
    let plain: Vec<u8> = (0..RECORDS).flat_map(record).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain)?;
    let zstd =
        (0..RECORDS).flat_map(|number| alike(number, b'a', 1_000_000, number == RECORDS - 1)).collect::<Vec<_>>();
    let mut offset = 0;
    for (codec, payload) in [(1, gzip.finish()?), (4, [ZSTD_FRAME, &zstd].concat())] {
        produce_as_it_is(&setting, packed(codec, RECORDS, &payload), offset).await?;
        offset += i64::from(RECORDS);
    }
    let summary = setting.take_all().await?;
    // They are no events, and yet rows: none stands for another.
    ensure!((summary.records, summary.unreadable) == (2 * RECORDS as u64, 0), "{summary:?}");
    ensure!(setting.raw(0)?.len() == 2 * RECORDS as usize, "{summary:?}");
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean() && found.rows.raw == 2 * RECORDS as u64, "{found}");
    Ok(())
}

/// Batches of some kilobytes that come to gigabytes, and the worker and the check as processes with no more than 2 GiB of addresses.
pub async fn those_that_would_take_all_memory_do_not(kafka: &Kafka, folder: &Path) -> Result<()> {
    const RECORDS: u64 = 36;
    let setting = Setting::new(kafka, folder, 1).await?;
    let bomb = packed(4, 1, &[ZSTD_FRAME, &alike(0, 0, 60 << 20, true)].concat());
    let mut producer = Producer::new();
    setting.produce(0, producer.events(0, 5)).await?;
    for number in 0..RECORDS as i64 {
        produce_as_it_is(&setting, bomb.clone(), 5 + number).await?;
    }
    let many_records: Vec<u8> = (0..100_000).flat_map(|number| record(number, b"")).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&many_records)?;
    produce_as_it_is(&setting, packed(1, 100_000, &gzip.finish()?), 5 + RECORDS as i64).await?;
    setting.produce(0, producer.events(0, 5)).await?;

    let mut worker = limited(setting.binary(folder, Redis::shared()?.as_ref()));
    worker.args(["--until-end", "--sink-rotate-records", "1000000000"]);
    let told = Process::spawn("superhero-worker", worker)?.succeed().await?;
    ensure!(told.contains("100046 records") && told.contains("(100036 of them dead letters"), "{told}");
    let mut check = limited(binary("superhero"));
    check
        .args(["verify", "--kafka", &kafka.bootstrap, "--topics", &setting.topic, "--fetch-memory-bytes", "805306368"])
        .arg(folder);
    let told = Process::spawn("superhero verify", check)?.succeed().await?;
    ensure!(told.contains("nothing is wrong"), "{told}");
    let dead = setting.table("dead")?;
    let large: Vec<_> = dead.iter().filter(|row| row["value_format"] == "left_out").collect();
    ensure!(large.len() as u64 == RECORDS, "{} are left out", large.len());
    let reason = large[0]["reason"].as_str().context("a reason")?;
    ensure!(reason.contains("its value of 62914560 bytes, whose CRC-32C is "), "{reason}");
    Ok(())
}

pub async fn one_that_is_too_large_repeats_nothing_and_nothing_repeats_it(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    let mut producer = Producer::new();
    let first = producer.event(0, "first", Task::None);
    // From the second on, what was said is remembered.
    setting.produce(0, vec![first.clone(), Record { value: Some(b"{}".to_vec()), ..first }]).await?;
    let tombstone = Record { value: None, ..producer.event(0, "deleted", Task::None) };
    let large = numbered(&tombstone, &[b'a'; 2 << 20])?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&large)?;
    let large = packed(1, 1, &gzip.finish()?);
    produce_as_it_is(&setting, large.clone(), 2).await?;
    setting.produce(0, vec![tombstone.clone()]).await?;
    produce_as_it_is(&setting, large, 4).await?;
    setting.produce(0, vec![tombstone]).await?;

    let mut config = WorkerConfig { until_end: true, ..setting.config() };
    config.fetch.budget = Budget::new(Budget::MIN_BYTES);
    let summary = setting.start(config).ended().await?;
    ensure!((summary.records, summary.duplicates) == (5, 1), "{summary:?}");
    let formats: Vec<_> = setting.raw(0)?.iter().map(|row| row["value_format"].clone()).collect();
    ensure!(formats == ["json", "json", "left_out", "none", "left_out"], "{formats:?}");
    let config = setting.verification(&[folder]);
    let found =
        verify(VerifyConfig { budget: Budget::new(Budget::MIN_BYTES), ..config }, CancellationToken::new()).await?;
    ensure!(found.is_clean() && found.duplicates_left_out() == 1, "{found}");
    Ok(())
}

/// A process with so many addresses.
fn limited(command: Command) -> Command {
    let command = command.into_std();
    let mut limited = std::process::Command::new("sh");
    limited
        .env_clear()
        .args(["-c", "ulimit -v 2097152; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    limited.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    limited.into()
}

pub async fn one_that_nobody_can_read_is_a_dead_letter(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    let mut producer = Producer::new();
    setting.produce(0, producer.events(0, 5)).await?;
    let batch = batch_of_nothing();
    produce_as_it_is(&setting, batch.clone(), 5).await?;
    setting.produce(0, producer.events(0, 5)).await?;
    let summary = setting.take_all().await?;
    ensure!(
        (summary.records, summary.dead_letters, summary.unreadable, summary.missing) == (11, 1, 3, 0),
        "{summary:?}"
    );
    let dead = setting.table("dead")?;
    let [row] = dead.as_slice() else { anyhow::bail!("{dead:?}") };
    ensure!(row["offset"] == 5 && row["key"] == "" && row["key_format"] == "none", "{row}");
    let reason = row["reason"].as_str().context("a reason")?;
    ensure!(reason.contains("offsets 5 to 7") && reason.contains("lz4"), "{reason}");
    let value = row["value_base64"].as_str().context("the batch")?;
    ensure!(value.len() == batch.len().div_ceil(3) * 4, "{value}");
    let found = setting.verify(&[folder]).await?;
    ensure!((found.rows.raw, found.rows.dead) == (11, 1), "{found}");
    let [Fault::Unreadable { first_offset: 5, last_offset: 7, records: 3, .. }] = found.faults.first() else {
        anyhow::bail!("{found}");
    };
    Ok(())
}

/// A batch of three records, said to be compressed with lz4, of bytes that are not.
fn batch_of_nothing() -> Vec<u8> {
    const LZ4: i16 = 3;
    batch(LZ4, 2, chrono::Utc::now().timestamp_millis(), 3, b"no frame of lz4")
}

/// A batch of now around what its records are compressed to.
fn packed(codec: i16, count: i32, payload: &[u8]) -> Vec<u8> {
    batch(codec, count - 1, chrono::Utc::now().timestamp_millis(), count, payload)
}

/// All of whose records have one timestamp.
fn batch(attributes: i16, last: i32, timestamp: i64, count: i32, records: &[u8]) -> Vec<u8> {
    let mut checked = Vec::new();
    checked.extend_from_slice(&attributes.to_be_bytes());
    checked.extend_from_slice(&last.to_be_bytes());
    checked.extend_from_slice(&timestamp.to_be_bytes().repeat(2));
    checked.extend_from_slice(&[0xff; 14]);
    checked.extend_from_slice(&count.to_be_bytes());
    checked.extend_from_slice(records);
    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend_from_slice(&(checked.len() as i32 + 9).to_be_bytes());
    batch.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 2]);
    batch.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
    batch.extend_from_slice(&checked);
    batch
}

/// A record with a short value, and a timestamp that need not be one of the calendar.
pub async fn produce_at(setting: &Setting, timestamp: i64, value: &[u8], offset: i64) -> Result<()> {
    // Numbers below 64 are a byte in zigzag form; it has no key and no headers.
    let zigzag = |length: usize| u8::try_from(2 * length).ok().filter(|byte| *byte < 0x80).context("a short value");
    let body = [&[0, 0, 0, 1, zigzag(value.len())?], value, &[0]].concat();
    let record = [&[zigzag(body.len())?], body.as_slice()].concat();
    produce_as_it_is(setting, batch(0, 0, timestamp, 1, &record), offset).await
}

/// A record of a value, with its length in front.
fn record(number: i32, value: &[u8]) -> Vec<u8> {
    let [start, end] = around(number, value.len());
    [&start, value, &end].concat()
}

/// A record with the key and the headers of another.
fn numbered(other: &Record, value: &[u8]) -> Result<Vec<u8>> {
    let mut body = vec![0, 0, 0];
    let put = |body: &mut Vec<u8>, bytes: &[u8]| {
        put_varint(body, bytes.len() as i64);
        body.extend_from_slice(bytes);
    };
    put(&mut body, other.key.as_deref().context("a key")?);
    put(&mut body, value);
    put_varint(&mut body, other.headers.len() as i64);
    for (name, value) in &other.headers {
        put(&mut body, name.as_bytes());
        put(&mut body, value);
    }
    let mut record = Vec::new();
    put(&mut record, &body);
    Ok(record)
}

/// What stands before and behind the value.
fn around(number: i32, length: usize) -> [Vec<u8>; 2] {
    // Neither attributes, nor a time of its own, nor a key; no headers.
    let mut body = vec![0, 0];
    put_varint(&mut body, number.into());
    body.push(1);
    put_varint(&mut body, length as i64);
    let mut start = Vec::new();
    put_varint(&mut start, (body.len() + length + 1) as i64);
    start.extend(body);
    [start, vec![0]]
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The header of a frame of zstd with a window of 2 MiB.
const ZSTD_FRAME: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0, 11 << 3];

/// Blocks of zstd that come to a record whose value is one byte, again and again.
fn alike(number: i32, byte: u8, count: usize, is_last: bool) -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    let header = |length: usize, kind: u32, is_last: bool| {
        ((length as u32) << 3 | kind << 1 | u32::from(is_last)).to_le_bytes()[..3].to_vec()
    };
    let [start, end] = around(number, count);
    let mut blocks = [header(start.len(), 0, false), start].concat();
    for at in (0..count).step_by(BLOCK) {
        blocks.extend(header(BLOCK.min(count - at), 1, false));
        blocks.push(byte);
    }
    blocks.extend([header(end.len(), 0, is_last), end].concat());
    blocks
}

/// Into partition 0, whose end is at `offset`.
async fn produce_as_it_is(setting: &Setting, batch: Vec<u8>, offset: i64) -> Result<()> {
    const VERSION: i16 = 8;
    const LIMIT: Duration = Duration::from_secs(10);
    let mut connection = Connection::open(&setting.kafka.servers(), &setting.kafka).await?;
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(Bytes::from(batch)));
    let topic = TopicName(StrBytes::from_string(setting.topic.clone()));
    let topic = TopicProduceData::default().with_name(topic).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5_000).with_topic_data(vec![topic]);
    let answer = connection.call(VERSION, &request, LIMIT).await?;
    let answer = &answer.responses[0].partition_responses[0];
    ensure!((answer.error_code, answer.base_offset) == (0, offset), "{answer:?}");
    Ok(())
}

/// One record of Kafka's own producer.
async fn produce_by_java(kafka: &Kafka, topic: &str, property: &str) -> Result<()> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka-tool");
    let mut command = Command::new(tool);
    command.args([
        "org.apache.kafka.tools.ProducerPerformance",
        "--bootstrap-server",
        &kafka.bootstrap,
        "--topic",
        topic,
    ]);
    command.args(["--num-records", "1", "--record-size", "400", "--throughput", "-1", "--command-property", property]);
    let output = command.stdin(Stdio::null()).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
