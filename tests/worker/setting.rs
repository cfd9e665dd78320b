//! A topic, a group and a folder of a case's own, and workers to let loose on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use rskafka::client::partition::Compression;
use rskafka::record::Record;
use serde_json::Value;
use superhero_event::{Level, Task};
use superhero_kafka::readiness::{ReadinessConfig, wait_ready};
use superhero_kafka::{Cluster, Isolation, KafkaConfig, LagMeter};
use superhero_store::GameStore;
use superhero_store::memory::Memory;
use superhero_verify::{Verification, VerifyConfig, VerifyError, verify};
use superhero_worker::{Summary, WorkerConfig, WorkerError};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::checker::{by_first_offset, lines};
use crate::process::{binary, eventually};
use crate::services::{Kafka, Redis};

/// Longer than a session, a rebalance and a pause together.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Short, so that a case can see one pass.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Setting {
    pub topic: String,
    pub partitions: i32,
    pub cluster: Cluster,
    pub kafka: KafkaConfig,
    group: String,
    output: PathBuf,
}

/// A worker in this process; dropping it is a kill.
pub struct Worker {
    stop: CancellationToken,
    running: AbortOnDropHandle<Result<Summary, WorkerError>>,
}

/// Numbers its records as the transport does.
pub struct Producer {
    id: String,
    next: BTreeMap<i32, u64>,
}

impl Setting {
    /// With a new topic.
    pub async fn new(kafka: &Kafka, output: &Path, partitions: i32) -> Result<Self> {
        let topic = format!("test-{}", Uuid::new_v4());
        Self::of_topic(kafka, output, &topic, partitions).await
    }

    /// With a topic of that name, made if it is missing.
    pub async fn of_topic(kafka: &Kafka, output: &Path, topic: &str, partitions: i32) -> Result<Self> {
        let setting = Self::without_topic(&kafka.bootstrap, output, topic, partitions).await?;
        setting.make_topic().await?;
        Ok(setting)
    }

    pub async fn without_topic(servers: &str, output: &Path, topic: &str, partitions: i32) -> Result<Self> {
        let mut kafka = KafkaConfig::new(servers, "superhero-test")?;
        kafka.request_timeout = REQUEST_TIMEOUT;
        let cluster = Cluster::connect(&kafka, tokio::time::Instant::now() + PATIENCE).await?;
        let group = format!("group-{}", Uuid::new_v4());
        Ok(Self { topic: topic.to_owned(), partitions, cluster, kafka, group, output: output.to_owned() })
    }

    pub async fn make_topic(&self) -> Result<()> {
        let topics = [self.topic.clone()];
        let config = ReadinessConfig { partitions: self.partitions, timeout: PATIENCE, ..ReadinessConfig::new(topics) };
        wait_ready(&self.kafka, &config).await?;
        Ok(())
    }

    /// The same topic and group with another folder: a worker on another host.
    pub async fn elsewhere(&self, output: &Path) -> Result<Self> {
        let cluster = Cluster::connect(&self.kafka, tokio::time::Instant::now() + PATIENCE).await?;
        let Self { topic, partitions, kafka, group, .. } = self;
        let (topic, kafka, group) = (topic.clone(), kafka.clone(), group.clone());
        Ok(Self { topic, partitions: *partitions, cluster, kafka, group, output: output.to_owned() })
    }

    /// The workers' consumer group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Uncompressed files; a worker that is killed is missed after the shortest session that the broker allows.
    pub fn config(&self) -> WorkerConfig {
        let mut config = WorkerConfig::new(self.kafka.clone(), [&self.topic], &self.output);
        config.group.group_id.clone_from(&self.group);
        config.group.session_timeout = Duration::from_secs(2);
        config.sink.compression = superhero_sink::Compression::None;
        config.sink.rotation.max_age = Duration::from_millis(500);
        config
    }

    /// `superhero-worker` on another folder.
    pub fn binary(&self, output: &Path, redis: &Redis) -> Command {
        let mut command = binary("superhero-worker");
        command
            .args(["--kafka-bootstrap-servers", &self.kafka.servers(), "--worker-channel", &self.topic])
            .args(["--group", &self.group, "--redis-port", &redis.port.to_string()])
            .arg("--output-dir")
            .arg(output);
        command
    }

    /// How far the group is behind.
    pub async fn lag(&self) -> Result<LagMeter> {
        let cluster = Cluster::connect(&self.kafka, tokio::time::Instant::now() + PATIENCE).await?;
        Ok(LagMeter::new(cluster, &self.group, [&self.topic]))
    }

    /// The folders together, compared with the topic.
    pub async fn verify(&self, folders: &[&Path]) -> Result<Verification, VerifyError> {
        self.verify_with(folders, Isolation::Committed).await
    }

    pub async fn verify_with(&self, folders: &[&Path], isolation: Isolation) -> Result<Verification, VerifyError> {
        let config = VerifyConfig { isolation, ..self.verification(folders) };
        verify(config, CancellationToken::new()).await
    }

    /// Of the folders together with the topic.
    pub fn verification(&self, folders: &[&Path]) -> VerifyConfig {
        VerifyConfig {
            folders: folders.iter().map(|folder| (*folder).to_owned()).collect(),
            kafka: Some(self.kafka.clone()),
            topics: Some(vec![self.topic.clone()]),
            ..VerifyConfig::default()
        }
    }

    pub fn start(&self, config: WorkerConfig) -> Worker {
        self.start_with(config, Memory::new())
    }

    pub fn start_with<S: GameStore>(&self, config: WorkerConfig, store: S) -> Worker {
        let stop = CancellationToken::new();
        let running = AbortOnDropHandle::new(tokio::spawn(superhero_worker::run(config, store, stop.clone())));
        Worker { stop, running }
    }

    /// Takes what is there now.
    pub async fn take_all(&self) -> Result<Summary> {
        self.start(WorkerConfig { until_end: true, ..self.config() }).ended().await
    }

    pub async fn produce(&self, partition: i32, records: Vec<Record>) -> Result<()> {
        let client = self.cluster.partition_client(&self.topic, partition).await?;
        client.produce(records, Compression::NoCompression).await?;
        Ok(())
    }

    /// The published rows of a partition, in the order of the files' names.
    pub fn raw(&self, partition: i32) -> Result<Vec<Value>> {
        let folder = self.root().join(format!("raw/topic={}/partition={partition}", self.topic));
        rows_below(&folder)
    }

    /// The published rows of a table that all partitions share.
    pub fn table(&self, name: &str) -> Result<Vec<Value>> {
        rows_below(&self.root().join(name))
    }

    pub fn root(&self) -> PathBuf {
        self.output.join("superhero")
    }

    /// The published rows must be those of all records, each once and in order.
    pub async fn check_complete(&self) -> Result<()> {
        let (begins, ends) =
            (self.cluster.earliest_offsets(&self.topic).await?, self.cluster.end_offsets(&self.topic).await?);
        for (partition, end) in ends {
            let expected: Vec<i64> = (begins[&partition]..end).collect();
            let found = offsets(&self.raw(partition)?)?;
            ensure!(found == expected, "partition {partition} has {found:?}, not all up to {end}");
        }
        Ok(())
    }

    /// Waits until so many rows are published over all partitions.
    pub async fn published(&self, rows: usize) -> Result<()> {
        let counted = async || {
            let counts: Result<Vec<usize>> = (0..self.partitions).map(|p| Ok(self.raw(p)?.len())).collect();
            Ok(counts?.iter().sum::<usize>() >= rows)
        };
        eventually(&format!("{rows} rows are published"), PATIENCE, counted).await
    }
}

impl Worker {
    /// Asks it to stop, and waits.
    pub async fn stopped(self) -> Result<Summary> {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<Summary> {
        Ok(self.outcome().await??)
    }

    /// As [`Self::ended`], with the worker's own error.
    pub async fn outcome(self) -> Result<Result<Summary, WorkerError>> {
        Ok(tokio::time::timeout(PATIENCE, self.running).await.context("the worker does not end")??)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.running.is_finished()
    }
}

impl Producer {
    pub fn new() -> Self {
        Self { id: Uuid::new_v4().simple().to_string(), next: BTreeMap::new() }
    }

    /// So many records for a partition.
    pub fn events(&mut self, partition: i32, count: usize) -> Vec<Record> {
        (0..count).map(|n| self.event(partition, &format!("event {n}"), Task::None)).collect()
    }

    pub fn event(&mut self, partition: i32, message: &str, task: Task<'_>) -> Record {
        let sequence = self.next.entry(partition).or_default();
        let headers = BTreeMap::from([
            ("superhero-producer".to_owned(), self.id.clone().into_bytes()),
            ("superhero-sequence".to_owned(), sequence.to_string().into_bytes()),
        ]);
        *sequence += 1;
        let mut value = Vec::new();
        superhero_event::encode(&mut value, Level::Info, Utc::now(), "kafka", "lib.server.test", message, task);
        Record { key: Some(b"a-game".to_vec()), value: Some(value), headers, timestamp: Utc::now() }
    }
}

/// A record of somebody else.
pub fn foreign(value: Option<&[u8]>) -> Record {
    Record { key: None, value: value.map(<[u8]>::to_vec), headers: BTreeMap::new(), timestamp: Utc::now() }
}

/// The same record on another day.
pub fn dated(record: Record, date: &str) -> Result<Record> {
    Ok(Record { timestamp: DateTime::parse_from_rfc3339(&format!("{date}T12:00:00Z"))?.to_utc(), ..record })
}

pub fn offsets(rows: &[Value]) -> Result<Vec<i64>> {
    rows.iter().map(|row| row["offset"].as_i64().context("a row without an offset")).collect()
}

fn rows_below(folder: &Path) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for (_, file) in by_first_offset(folder)? {
        for line in lines(&file)? {
            rows.push(serde_json::from_str(&line)?);
        }
    }
    Ok(rows)
}
