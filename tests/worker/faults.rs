//! What goes wrong outside the worker.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use superhero_sink::{Folder, FolderError};
use superhero_worker::{WorkerConfig, WorkerError};

use super::setting::{PATIENCE, Producer, Setting, offsets};
use crate::process::eventually;

pub async fn an_output_that_cannot_be_written_holds_the_partition_up_until_it_can(
    bootstrap: &str,
    folder: &Path,
) -> Result<()> {
    let setting = Setting::new(bootstrap, folder, 1).await?;
    let mut producer = Producer::new();
    setting.produce(0, producer.events(0, 50)).await?;
    setting.take_all().await?;
    // Files cannot be made below a file, whoever tries; the same as a full disk to the worker.
    let writing = setting.root().join(".superhero/writing");
    let worker = setting.start(setting.config());
    setting.produce(0, producer.events(0, 1)).await?;
    setting.published(51).await?;
    std::fs::remove_dir(&writing).or_else(|_| std::fs::remove_dir_all(&writing))?;
    std::fs::write(&writing, "in the way")?;
    setting.produce(0, producer.events(0, 50)).await?;
    let lag = eventually("the worker has tried", PATIENCE, async || {
        let fetched = setting.cluster.end_offsets(&setting.topic).await?[&0] == 101;
        Ok(fetched && !worker.has_ended())
    });
    lag.await?;
    ensure!(setting.raw(0)?.len() == 51, "rows were published without a place to write them");
    std::fs::remove_file(&writing)?;
    std::fs::create_dir(&writing)?;
    setting.published(101).await?;
    let summary = worker.stopped().await?;
    ensure!((summary.records, summary.duplicates, summary.missing) == (51, 0, 0), "{summary:?}");
    setting.check_complete().await
}

pub async fn a_folder_of_another_cluster_is_refused(bootstrap: &str, folder: &Path) -> Result<()> {
    let setting = Setting::new(bootstrap, folder, 1).await?;
    Folder::open(folder, "another-cluster-s-id--")?;
    let refused = setting.start(setting.config()).outcome().await?;
    ensure!(matches!(refused, Err(WorkerError::Folder(FolderError::OtherCluster { .. }))), "{refused:?}");
    let unwritable = WorkerConfig { output_dir: "/proc/superhero".into(), ..setting.config() };
    let refused = setting.start(unwritable).outcome().await?;
    ensure!(matches!(refused, Err(WorkerError::Folder(FolderError::Unwritable { .. }))), "{refused:?}");
    Ok(())
}

pub async fn a_topic_that_was_made_again_is_refused(bootstrap: &str, folder: &Path) -> Result<()> {
    let setting = Setting::new(bootstrap, folder, 1).await?;
    setting.produce(0, Producer::new().events(0, 10)).await?;
    setting.take_all().await?;
    make_again(&setting).await?;
    setting.produce(0, Producer::new().events(0, 20)).await?;
    let refused = setting.start(setting.config()).outcome().await?;
    ensure!(matches!(refused, Err(WorkerError::Folder(FolderError::TopicReplaced { .. }))), "{refused:?}");
    ensure!(setting.raw(0)?.len() == 10, "rows of the new topic were written");
    Ok(())
}

pub async fn a_topic_that_is_made_again_meanwhile_ends_the_worker(bootstrap: &str, folder: &Path) -> Result<()> {
    let setting = Setting::new(bootstrap, folder, 1).await?;
    setting.produce(0, Producer::new().events(0, 10)).await?;
    let worker = setting.start(setting.config());
    setting.published(10).await?;
    make_again(&setting).await?;
    setting.produce(0, Producer::new().events(0, 20)).await?;
    let refused = worker.outcome().await?;
    ensure!(matches!(refused, Err(WorkerError::Folder(FolderError::TopicReplaced { .. }))), "{refused:?}");
    ensure!(setting.raw(0)?.len() == 10, "rows of the new topic were published");
    Ok(())
}

async fn make_again(setting: &Setting) -> Result<()> {
    let before = setting.cluster.metadata().await?.topics[&setting.topic].id;
    let client = rskafka::client::ClientBuilder::new(setting.kafka.bootstrap_servers.clone()).build().await?;
    client.controller_client()?.delete_topic(&setting.topic, 10_000).await?;
    eventually("the topic is gone", PATIENCE, async || {
        Ok(!setting.cluster.metadata().await?.topics.contains_key(&setting.topic))
    })
    .await?;
    setting.make_topic().await?;
    ensure!(setting.cluster.metadata().await?.topics[&setting.topic].id != before, "it is another topic");
    Ok(())
}

pub async fn records_that_the_broker_deleted_first_are_counted_as_lost(bootstrap: &str, folder: &Path) -> Result<()> {
    let setting = Setting::new(bootstrap, folder, 1).await?;
    let mut producer = Producer::new();
    setting.produce(0, producer.events(0, 10)).await?;
    setting.take_all().await?;
    setting.produce(0, producer.events(0, 10)).await?;
    setting.cluster.partition_client(&setting.topic, 0).await?.delete_records(15, 10_000).await?;
    let summary = setting.take_all().await?;
    ensure!((summary.records, summary.lost, summary.missing) == (5, 5, 5), "{summary:?}");
    let expected: Vec<i64> = (0..10).chain(15..20).collect();
    ensure!(offsets(&setting.raw(0)?)? == expected, "{:?}", setting.raw(0)?);
    Ok(())
}

pub async fn a_batch_that_cannot_be_decoded_holds_up_its_partition_only(bootstrap: &str, folder: &Path) -> Result<()> {
    let setting = Setting::new(bootstrap, folder, 2).await?;
    let mut producer = Producer::new();
    setting.produce(0, producer.events(0, 10)).await?;
    produce_by_java(bootstrap, &setting.topic, "compression.type=lz4").await?;
    let hit: Vec<i32> = {
        let ends = setting.cluster.end_offsets(&setting.topic).await?;
        ends.into_iter()
            .filter(|(partition, end)| *end > if *partition == 0 { 10 } else { 0 })
            .map(|(p, _)| p)
            .collect()
    };
    let free = 1 - *hit.first().context("some partition has the batch")?;
    ensure!(hit.len() == 1, "one batch goes to one partition");
    setting.produce(free, producer.events(free, 30)).await?;
    let worker = setting.start(setting.config());
    let expected = if free == 0 { 40 } else { 30 };
    eventually("the other partition is published", PATIENCE, async || Ok(setting.raw(free)?.len() == expected)).await?;
    ensure!(!worker.has_ended(), "the worker has ended");
    let summary = worker.stopped().await?;
    ensure!(summary.records >= expected as u64, "{summary:?}");
    Ok(())
}

/// One record of Kafka's own producer.
async fn produce_by_java(bootstrap: &str, topic: &str, property: &str) -> Result<()> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka-tool");
    let mut command = Command::new(tool);
    command.args(["org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", bootstrap, "--topic", topic]);
    command.args(["--num-records", "1", "--record-size", "400", "--throughput", "-1", "--command-property", property]);
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
