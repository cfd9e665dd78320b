//! A topic that is not the simulator's: what other producers put there, how it grows, and what retention takes from it.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use rskafka::client::partition::{Compression, OffsetAt};
use rskafka::record::Record;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::cluster::Services;

pub const TOPIC: &str = "chaos.others";
/// Partitions at first.
pub const PARTITIONS: i32 = 2;
/// It grows no further.
const MAX_PARTITIONS: usize = 8;
/// Below the 1 MiB that a broker takes, with room for the batch around it.
const LARGE_BYTES: usize = 1_000_000;
/// Records of a partition that retention takes, but for the last few.
const SHORT_LIVED: u64 = 200;
/// Records of a compressed batch.
const COMPRESSED: usize = 50;
const KEPT: i64 = 10;
/// Well below a session.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// The bound of one request, on a cluster of which some may be away.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was done to the topic.
#[derive(Debug, Default)]
pub struct Others {
    /// Offsets below which nothing is left, by partition.
    pub deleted: BTreeMap<i32, i64>,
    pub counts: Arc<Counts>,
}

/// Records of others: what counts is what the topic holds, so a cluster that cannot take them now is no failure.
#[derive(Debug, Default)]
pub struct Counts {
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    /// Those that were taken, and those of which that is not known.
    pub fn get(&self) -> (u64, u64) {
        (self.taken.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    fn add(&self, records: u64, taken: bool) {
        if taken { &self.taken } else { &self.refused }.fetch_add(records, Ordering::Relaxed);
    }
}

impl Others {
    /// Records that are gone before anybody can read them; whether the cluster has done it. Nobody may be kept waiting for long: the
    /// workers stand still meanwhile.
    pub async fn overtake(&mut self, services: &Services, pick: u64) -> bool {
        let partition = partition(pick);
        let records = (0..SHORT_LIVED).map(|n| record(None, Some(format!("short-lived {n}").as_bytes())));
        let overtaking = async {
            let client = services.cluster.partition_client(TOPIC, partition).await?;
            client.produce(records.collect(), Compression::NoCompression).await?;
            self.counts.add(SHORT_LIVED, true);
            let below = client.get_offset(OffsetAt::Latest).await? - KEPT;
            // It may be done even if nobody says so.
            self.deleted.insert(partition, below);
            anyhow::Ok(client.delete_records(below, SHORT_PATIENCE.as_millis() as i32).await?)
        };
        matches!(tokio::time::timeout(SHORT_PATIENCE, overtaking).await, Ok(Ok(())))
    }

    /// Asks again for what was deleted, of a cluster that is whole. A broker writes where its logs begin to disk once a minute, so those that
    /// were killed may hold deleted records again, which nobody has to have read.
    pub async fn delete_again(&self, services: &Services) -> Result<()> {
        for (partition, below) in &self.deleted {
            let client = services.cluster.partition_client(TOPIC, *partition).await?;
            let deleting = client.delete_records(*below, PATIENCE.as_millis() as i32);
            tokio::time::timeout(PATIENCE, deleting)
                .await
                .map_err(anyhow::Error::from)
                .and_then(|deleted| Ok(deleted?))
                .with_context(|| {
                    format!("deleting the records of {TOPIC} partition {partition} below {below} again")
                })?;
        }
        Ok(())
    }
}

/// Records that are no events, each of another kind.
pub async fn produce_foreign(services: &Services, counts: &Counts, pick: u64) -> Result<()> {
    let large = vec![b'x'; LARGE_BYTES];
    let values: [Option<&[u8]>; 6] =
        [Some(b"no JSON"), Some(b"\xff\xfe\x00 no text"), Some(b"[1,2,3]"), None, Some(b""), Some(&large)];
    for (n, value) in values.into_iter().enumerate() {
        let record = record(n.is_multiple_of(2).then_some(b"a key"), value);
        let producing = async {
            let client = services.cluster.partition_client(TOPIC, partition(pick)).await?;
            anyhow::Ok(client.produce(vec![record], Compression::NoCompression).await?)
        };
        let taken = matches!(tokio::time::timeout(PATIENCE, producing).await, Ok(Ok(_)));
        counts.add(1, taken);
        ensure!(taken, "a record of somebody else was not taken");
    }
    // What rskafka does not write.
    for codec in ["lz4", "zstd"] {
        let taken = compressed(services, partition(pick), codec).await;
        counts.add(COMPRESSED as u64, taken.is_ok());
        taken?;
    }
    Ok(())
}

/// Records of kcat, worth compressing.
async fn compressed(services: &Services, partition: i32, codec: &str) -> Result<()> {
    let timeout = format!("message.timeout.ms={}", PATIENCE.as_millis());
    let mut kcat = Command::new("kcat");
    kcat.args(["-q", "-P", "-b", &services.kafka.servers(), "-t", TOPIC, "-p", &partition.to_string()])
        .args(["-z", codec, "-X", &timeout])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut kcat = kcat.spawn().context("kcat does not start; it is in Debian's package of that name")?;
    let lines = format!("{{\"compressed\":\"with {codec}\"}}\n").repeat(COMPRESSED);
    let mut input = kcat.stdin.take().context("a piped standard input")?;
    input.write_all(lines.as_bytes()).await?;
    drop(input);
    let ended = tokio::time::timeout(2 * PATIENCE, kcat.wait()).await??;
    ensure!(ended.success(), "kcat ended with {ended}");
    Ok(())
}

/// One more partition.
pub async fn grow(services: &Services) -> Result<()> {
    let metadata = services.cluster.metadata().await?;
    let partitions = metadata.topics.get(TOPIC).context("the topic is not known now")?.partitions.len();
    ensure!(partitions < MAX_PARTITIONS, "it has {partitions} partitions");
    services.grow(TOPIC, partitions + 1).await
}

fn partition(pick: u64) -> i32 {
    (pick % PARTITIONS as u64) as i32
}

fn record(key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
    Record {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: BTreeMap::new(),
        timestamp: Utc::now(),
    }
}
