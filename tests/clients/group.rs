//! A group of our worker and a member from Python.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::client;
use crate::process::{Process, eventually};
use crate::python;
use crate::services::Kafka;
use crate::worker::setting::{PATIENCE, Setting};

const PARTITIONS: i32 = 12;
const RECORDS: usize = 600;

pub async fn aiokafka() -> Result<()> {
    shares_a_group("aiokafka").await
}

pub async fn confluent() -> Result<()> {
    shares_a_group("confluent").await
}

/// The worker has all partitions, then half of them, then all again; whoever has a partition reads on where the other has
/// committed, so that every record is taken once.
async fn shares_a_group(library: &str) -> Result<()> {
    let broker = Kafka::embedded()?;
    let folder = tempfile::tempdir()?;
    let setting = Setting::new(&broker, folder.path(), PARTITIONS).await?;
    let worker = setting.start(setting.config());
    produce(library, &broker, &setting).await?;
    setting.published(RECORDS).await?;

    let mut command = python::kafka_client(library, "consume", &broker, &setting.topic).await?;
    command.args(["--group", setting.group()]);
    let stranger = Process::spawn(library, command)?;
    let has_half = async || Ok(said(&stranger, "assigned")?.last().is_some_and(|last| last.len() == 6));
    eventually("the stranger has half of the partitions", PATIENCE, has_half).await?;
    produce(library, &broker, &setting).await?;
    let shared = async || Ok(rows(&setting)?.len() + consumed(&stranger)?.len() >= 2 * RECORDS);
    eventually("both have taken what is theirs", PATIENCE, shared).await?;

    let strange = consumed(&stranger)?;
    ensure!(!strange.is_empty(), "{library} consumed nothing");
    stranger.stop().await?;
    produce(library, &broker, &setting).await?;
    setting.published(3 * RECORDS - strange.len()).await?;
    worker.stopped().await?;

    let ours = rows(&setting)?;
    let both: BTreeSet<_> = ours.iter().chain(&strange).copied().collect();
    ensure!(
        both.len() == ours.len() + strange.len(),
        "{} records were taken twice",
        ours.len() + strange.len() - both.len()
    );
    let mut expected = BTreeSet::new();
    for (partition, end) in setting.cluster.end_offsets(&setting.topic).await? {
        expected.extend((0..end).map(|offset| (partition, offset)));
    }
    ensure!(expected.len() == 3 * RECORDS, "{library} produced {} records, not {}", expected.len(), 3 * RECORDS);
    ensure!(both == expected, "{} records were taken of {}", both.len(), expected.len());
    Ok(())
}

async fn produce(library: &str, broker: &Kafka, setting: &Setting) -> Result<()> {
    let mut command = python::kafka_client(library, "produce", broker, &setting.topic).await?;
    command.args(["--count", &RECORDS.to_string()]);
    let printed: Value = serde_json::from_str(client(command, "").await?.trim())?;
    ensure!(printed["acknowledged"] == RECORDS, "{library} says {printed}");
    Ok(())
}

/// The values that the script has printed under `name`, each a list.
fn said(stranger: &Process, name: &str) -> Result<Vec<Vec<Value>>> {
    let printed = stranger.printed();
    // The last line may be on its way; libraries print their own lines between.
    let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let objects = whole.lines().filter(|line| line.starts_with('{'));
    let values = objects.map(|line| Ok(serde_json::from_str::<Value>(line)?[name].as_array().cloned()));
    values.filter_map(Result::transpose).collect()
}

fn consumed(stranger: &Process) -> Result<Vec<(i32, i64)>> {
    let pairs = said(stranger, "consumed")?.into_iter().flatten();
    pairs.map(|pair| serde_json::from_value(pair).context("not [partition, offset]")).collect()
}

fn rows(setting: &Setting) -> Result<Vec<(i32, i64)>> {
    let mut rows = Vec::new();
    for partition in 0..PARTITIONS {
        for row in setting.raw(partition)? {
            rows.push((partition, row["offset"].as_i64().context("a row without an offset")?));
        }
    }
    Ok(rows)
}
