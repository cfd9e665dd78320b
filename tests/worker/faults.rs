//! What goes wrong outside the worker.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use superhero_sink::layout::NameError;
use superhero_sink::{Folder, FolderError};
use superhero_worker::{WorkerConfig, WorkerError};

use super::setting::{PATIENCE, Producer, Setting, foreign, offsets};
use crate::process::{Process, Signal, eventually};
use crate::services::{Kafka, Redis};

pub async fn an_output_that_cannot_be_written_holds_the_partition_up_until_it_can(
    kafka: &Kafka,
    folder: &Path,
) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    let mut producer = Producer::new();
    let config = setting.config();
    let troubles = config.troubles.watch();
    let worker = setting.start(config);
    setting.produce(0, producer.events(0, 50)).await?;
    setting.published(50).await?;
    ensure!(troubles.borrow().is_none(), "{:?}", troubles.borrow());
    // Nothing can be moved below a file, whoever tries; to the worker it is the same as a full disk.
    let (writing, sealed) = (setting.root().join(".superhero/writing"), setting.root().join(".superhero/sealed"));
    // Rows are seen a moment before their segment is no longer among the sealed.
    eventually("nothing is sealed", PATIENCE, async || Ok(std::fs::remove_dir(&sealed).is_ok())).await?;
    std::fs::write(&sealed, "in the way")?;
    setting.produce(0, producer.events(0, 50)).await?;
    let told = || troubles.borrow().clone().unwrap_or_default();
    let place = sealed.display().to_string();
    eventually("the trouble is told", PATIENCE, async || Ok(told().contains(&place))).await?;
    let is_empty = || Ok(std::fs::read_dir(&writing)?.next().is_none());
    for attempt in 0..2 {
        eventually(&format!("attempt {attempt} is written"), PATIENCE, async || Ok(!is_empty()?)).await?;
        eventually(&format!("attempt {attempt} is thrown away"), PATIENCE, async || is_empty()).await?;
    }
    ensure!(setting.raw(0)?.len() == 50 && !worker.has_ended(), "the worker has gone on, or ended");
    std::fs::remove_file(&sealed)?;
    std::fs::create_dir(&sealed)?;
    setting.published(100).await?;
    eventually("it is told to be over", PATIENCE, async || Ok(told().is_empty())).await?;
    let summary = worker.stopped().await?;
    ensure!((summary.records, summary.duplicates, summary.missing) == (100, 0, 0), "{summary:?}");
    setting.check_complete().await
}

pub async fn a_folder_of_another_cluster_is_refused(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    Folder::open(folder, "another-cluster-s-id--")?;
    let refused = setting.start(setting.config()).outcome().await?;
    ensure!(matches!(refused, Err(WorkerError::Folder(FolderError::OtherCluster { .. }))), "{refused:?}");
    let unwritable = WorkerConfig { output_dir: "/proc/superhero".into(), ..setting.config() };
    let refused = setting.start(unwritable).outcome().await?;
    ensure!(matches!(refused, Err(WorkerError::Folder(FolderError::Unwritable { .. }))), "{refused:?}");
    Ok(())
}

pub async fn a_fetch_that_a_quota_holds_back_is_no_error(kafka: &Kafka, folder: &Path) -> Result<()> {
    let (setting, redis) = (Setting::new(kafka, folder, 3).await?, Redis::shared()?);
    // More than the broker lets the worker have in the ten seconds that it looks at.
    for partition in 0..3 {
        let record = || foreign(Some(&[b'x'; 1000]));
        setting.produce(partition, (0..300).map(|_| record()).collect()).await?;
    }
    let quota = ["--alter", "--add-config", "consumer_byte_rate=50000"];
    let client = ["--entity-type", "clients", "--entity-name", "superhero-worker"];
    kafka.tool("kafka.admin.ConfigCommand", &[&quota[..], &client[..]].concat())?;
    let mut command = setting.binary(folder, &redis);
    command.args(["--until-end", "--log-level", "debug"]);
    let printed = Process::spawn("superhero-worker", command)?.succeed().await?;
    ensure!(printed.contains("the broker's quota holds the fetch back"), "there was no quota:\n{printed}");
    ensure!(!printed.contains("fetching failed") && !printed.contains("UnknownServerError"), "{printed}");
    setting.check_complete().await
}

pub async fn a_topic_whose_name_is_too_long_for_files_is_left_out(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    setting.produce(0, Producer::new().events(0, 10)).await?;
    let too_long = format!("{}-{}", "x".repeat(180), uuid::Uuid::new_v4());
    let other = Setting::of_topic(kafka, folder, &too_long, 1).await?;
    other.produce(0, Producer::new().events(0, 10)).await?;
    let mut config = WorkerConfig { until_end: true, ..setting.config() };
    config.group.topics.insert(0, too_long.clone());
    let summary = setting.start(config).ended().await?;
    ensure!(summary.records == 10 && setting.raw(0)?.len() == 10, "{summary:?}");
    let refused = other.start(other.config()).outcome().await?;
    ensure!(matches!(refused, Err(WorkerError::Topic(NameError::TooLong { .. }))), "{refused:?}");
    let verified = other.verify(&[folder]).await.err().context("nobody takes that topic")?.to_string();
    ensure!(verified.contains(&too_long) && verified.contains("217 bytes"), "{verified}");
    Ok(())
}

pub async fn a_topic_that_was_made_again_is_refused(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    setting.produce(0, Producer::new().events(0, 10)).await?;
    setting.take_all().await?;
    make_again(&setting).await?;
    setting.produce(0, Producer::new().events(0, 20)).await?;
    let refused = setting.start(setting.config()).outcome().await?;
    ensure!(matches!(refused, Err(WorkerError::Folder(FolderError::TopicReplaced { .. }))), "{refused:?}");
    ensure!(setting.raw(0)?.len() == 10, "rows of the new topic were written");
    Ok(())
}

pub async fn a_topic_that_is_made_again_meanwhile_ends_the_worker(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
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

pub async fn make_again(setting: &Setting) -> Result<()> {
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

pub async fn records_that_the_broker_deleted_first_are_counted_as_lost(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
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

pub async fn a_broker_that_stands_still_costs_no_record_and_doubles_none(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 4).await?;
    let mut producer = Producer::new();
    let (mut rows, mut records) = (0, 0);
    // With the short session the partitions are lost meanwhile; with the long one, commits are sent again.
    for (session, rounds) in [(Duration::from_secs(2), 1), (Duration::from_secs(60), 2)] {
        let mut config = setting.config();
        config.sink.rotation.max_age = Duration::from_millis(50);
        config.group.session_timeout = session;
        let workers = [setting.start(config.clone()), setting.start(config)];
        for _ in 0..rounds {
            for _ in 0..5 {
                for partition in 0..4 {
                    setting.produce(partition, producer.events(partition, 10)).await?;
                }
                rows += 40;
            }
            setting.published(rows - 100).await?;
            kafka.signal(Signal::STOP)?;
            for _ in 0..3 {
                ensure!(setting.cluster.metadata().await.is_err(), "a broker that stands still has answered");
            }
            kafka.signal(Signal::CONT)?;
            setting.published(rows).await?;
        }
        for worker in workers {
            records += worker.stopped().await?.records as usize;
        }
    }
    // What a worker loses sight of before it knows that it is committed, nobody counts; nothing is counted twice.
    ensure!(records <= rows, "{records} records counted, and {rows} rows");
    setting.check_complete().await
}
