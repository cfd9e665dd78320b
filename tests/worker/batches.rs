//! Batches of other producers, such as our own does not write.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use superhero_kafka::wire::Connection;
use tokio::process::Command;

use super::setting::{Producer, Setting};
use crate::process::Process;
use crate::python;
use crate::services::Kafka;

const TRANSACTED: usize = 20;

pub async fn those_of_other_producers_become_rows(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    let mut producer = Producer::new();
    setting.produce(0, producer.events(0, 10)).await?;
    for codec in ["lz4", "zstd"] {
        produce_by_java(kafka, &setting.topic, &format!("compression.type={codec}")).await?;
    }
    setting.produce(0, producer.events(0, 10)).await?;
    // A topic is read as it stands, what was aborted included; the marks behind either transaction are no records.
    let mut command = python::kafka_client("confluent", "transact", kafka, &setting.topic).await?;
    command.args(["--count", &TRANSACTED.to_string()]);
    Process::spawn("confluent-kafka", command)?.succeed().await?;
    setting.produce(0, producer.events(0, 10)).await?;

    let summary = setting.take_all().await?;
    let rows = setting.raw(0)?.len();
    ensure!((summary.missing, rows) == (0, 32 + 2 * TRANSACTED), "{rows} rows, {summary:?}");
    // What Java's tool sends is no JSON.
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean() && found.rows.raw == rows as u64, "{found}");
    ensure!(found.partitions[0].holes == 2, "the marks are no records: {found}");
    Ok(())
}

pub async fn one_that_nobody_can_read_is_a_dead_letter(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    let mut producer = Producer::new();
    setting.produce(0, producer.events(0, 5)).await?;
    let batch = batch_of_nothing();
    produce_as_it_is(&setting, batch.clone(), 5).await?;
    setting.produce(0, producer.events(0, 5)).await?;
    let summary = setting.take_all().await?;
    ensure!((summary.records, summary.dead_letters, summary.missing) == (11, 1, 0), "{summary:?}");
    let dead = setting.table("dead")?;
    let [row] = dead.as_slice() else { anyhow::bail!("{dead:?}") };
    ensure!(row["offset"] == 5 && row["key"] == "" && row["key_format"] == "none", "{row}");
    let reason = row["reason"].as_str().context("a reason")?;
    ensure!(reason.contains("offsets 5 to 7") && reason.contains("lz4"), "{reason}");
    let value = row["value_base64"].as_str().context("the batch")?;
    ensure!(value.len() == batch.len().div_ceil(3) * 4, "{value}");
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean() && (found.rows.raw, found.rows.dead) == (11, 1), "{found}");
    Ok(())
}

/// A batch of three records, said to be compressed with lz4, of bytes that are not.
fn batch_of_nothing() -> Vec<u8> {
    const LZ4: i16 = 3;
    batch(LZ4, 2, chrono::Utc::now().timestamp_millis(), 3, b"no frame of lz4")
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
