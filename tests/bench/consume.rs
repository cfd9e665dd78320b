//! What a record costs from Kafka to its row in a published file, beside `kcat -C -J` into a file.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rskafka::client::partition::{Compression, PartitionClient};
use rskafka::record::Record;
use superhero_event::{Level, Task};
use superhero_kafka::readiness::{ReadinessConfig, wait_ready};
use superhero_kafka::{Cluster, KafkaConfig};
use superhero_store::memory::Memory;
use superhero_verify::VerifyConfig;
use superhero_worker::WorkerConfig;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::usage;

const PARTITIONS: i32 = 4;
const ENVELOPE_BYTES: usize = 515;
/// As many as the transport puts into a batch of its default size.
const RECORDS_PER_BATCH: usize = 400;
/// Attacks of one game, which share a key.
const ATTACKS_PER_GAME: usize = 25;

/// Microseconds of CPU time per record.
#[derive(Clone, Copy, Debug)]
pub struct Consume {
    /// The worker, archive and files included; no compression.
    pub ours_us: f64,
    /// `kcat -C -J` into a file.
    pub kcat_us: f64,
    /// The worker's records per second of wall time.
    pub ours_per_s: f64,
    /// `superhero verify` of the worker's files by themselves.
    pub verify_us: f64,
    /// The same, each row compared with its record.
    pub compare_us: f64,
}

/// Takes `records` records of 515 bytes each way from the Kafka at `bootstrap`.
pub fn run(bootstrap: &str, records: usize) -> Result<Consume> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let topic = format!("bench.consume.{}", Uuid::new_v4().simple());
    let config = KafkaConfig::new(bootstrap, "superhero-bench")?;
    let records = records.next_multiple_of(PARTITIONS as usize);
    runtime.block_on(fill(&config, &topic, records))?;
    let folder = tempfile::tempdir()?;
    let kcat_us = kcat(bootstrap, &topic, folder.path(), records)?;
    let (ours_us, ours_per_s) = runtime.block_on(ours(config.clone(), &topic, folder.path(), records))?;
    let verify_us = runtime.block_on(verify(None, &topic, folder.path(), records))?;
    let compare_us = runtime.block_on(verify(Some(config), &topic, folder.path(), records))?;
    Ok(Consume { ours_us, kcat_us, ours_per_s, verify_us, compare_us })
}

async fn ours(kafka: KafkaConfig, topic: &str, folder: &std::path::Path, records: usize) -> Result<(f64, f64)> {
    let mut config = WorkerConfig::new(kafka, [topic], folder);
    config.group.group_id = topic.to_owned();
    config.sink.compression = superhero_sink::Compression::None;
    config.until_end = true;
    let (cpu, start) = (usage::own_seconds()?, Instant::now());
    let summary = superhero_worker::run(config, Memory::new(), CancellationToken::new()).await?;
    let (spent, lasted) = (usage::own_seconds()? - cpu, start.elapsed());
    ensure!(summary.records == records as u64 && summary.dead_letters == 0, "{records} records, and {summary}");
    Ok((spent * 1e6 / records as f64, records as f64 / lasted.as_secs_f64()))
}

async fn verify(kafka: Option<KafkaConfig>, topic: &str, folder: &std::path::Path, records: usize) -> Result<f64> {
    let config = VerifyConfig {
        folders: vec![folder.to_owned()],
        kafka,
        topics: Some(vec![topic.to_owned()]),
        ..VerifyConfig::default()
    };
    let before = usage::own_seconds()?;
    let found = superhero_verify::verify(config, CancellationToken::new()).await?;
    let spent = usage::own_seconds()? - before;
    ensure!(found.is_clean() && found.rows.raw == records as u64, "{found}");
    Ok(spent * 1e6 / records as f64)
}

fn kcat(bootstrap: &str, topic: &str, folder: &std::path::Path, records: usize) -> Result<f64> {
    let path = folder.join("kcat");
    let before = usage::children_seconds()?;
    let status = Command::new("kcat")
        .args(["-C", "-J", "-q", "-e", "-o", "beginning", "-b", bootstrap, "-t", topic])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&path)?)
        .status()
        .context("starting kcat")?;
    let spent = usage::children_seconds()? - before;
    ensure!(status.success(), "kcat ended with {status}");
    let lines = std::fs::read(&path)?.iter().filter(|byte| **byte == b'\n').count();
    ensure!(lines == records, "kcat wrote {lines} lines for {records} records");
    std::fs::remove_file(&path)?;
    Ok(spent * 1e6 / records as f64)
}

/// Makes the topic and fills it as the transport would.
async fn fill(config: &KafkaConfig, topic: &str, records: usize) -> Result<()> {
    let ready = ReadinessConfig { partitions: PARTITIONS, ..ReadinessConfig::new([topic]) };
    wait_ready(config, &ready).await?;
    let cluster = Cluster::connect(config, tokio::time::Instant::now() + Duration::from_secs(10)).await?;
    for partition in 0..PARTITIONS {
        let client = cluster.partition_client(topic, partition).await?;
        fill_partition(&client, records / PARTITIONS as usize).await?;
    }
    Ok(())
}

async fn fill_partition(client: &PartitionClient, records: usize) -> Result<()> {
    let producer = Uuid::new_v4().simple().to_string();
    let place = format!("{}/{}", client.topic(), client.partition());
    let mut game = Uuid::new_v4();
    let mut next = 0;
    while next < records {
        let batch = RECORDS_PER_BATCH.min(records - next);
        let now = chrono::Utc::now();
        let batch = (next..next + batch).map(|sequence| {
            if sequence % ATTACKS_PER_GAME == 0 {
                game = Uuid::new_v4();
            }
            let headers = BTreeMap::from([
                ("superhero-producer".to_owned(), producer.clone().into_bytes()),
                ("superhero-place".to_owned(), place.clone().into_bytes()),
                ("superhero-sequence".to_owned(), sequence.to_string().into_bytes()),
            ]);
            Record {
                key: Some(game.to_string().into_bytes()),
                value: Some(envelope(game, sequence, now)),
                headers,
                timestamp: now,
            }
        });
        let batch: Vec<_> = batch.collect();
        next += batch.len();
        client.produce(batch, Compression::NoCompression).await?;
    }
    Ok(())
}

/// An attack, with a module's name that makes it as long as the budget speaks of.
fn envelope(game: Uuid, sequence: usize, now: chrono::DateTime<chrono::Utc>) -> Vec<u8> {
    let at = now.format("%Y-%m-%dT%H:%M:%S%.6f");
    let (user, enemy) =
        (Uuid::from_u64_pair(1, sequence as u64 % 2), Uuid::from_u64_pair(1, (sequence as u64 + 1) % 2));
    let attack = format!(
        r#"{{"TIMESTAMP":"{at}","PAYLOAD":{{"GAME_TOKEN":"{game}","USER_TOKEN":"{user}"}},"STATUS":{{"ACTION":"ATTACK","DETAILS":{{"ENEMY_TOKEN":"{enemy}","ENEMY_DAMAGE":4000,"ENEMY_HEALTH_PRIOR":50000,"ENEMY_HEALTH_POST":46000}}}}}}"#
    );
    let encode = |module: &str| {
        let mut value = Vec::new();
        superhero_event::encode(&mut value, Level::Info, now, "kafka", module, "Attack Completed", Task::Text(&attack));
        value
    };
    let plain = encode("");
    encode(&"m".repeat(ENVELOPE_BYTES.saturating_sub(plain.len())))
}
