//! What the worker has written, compared with its topic by `superhero verify`'s own check.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use superhero_verify::{Fault, VerifyError};

use super::faults::make_again;
use super::setting::{PATIENCE, Producer, Setting, foreign};
use crate::checker::by_first_offset;
use crate::process::eventually;
use crate::services::Kafka;

pub async fn files_agree_with_their_topic_whatever_is_in_it(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 2).await?;
    let mut producer = Producer::new();
    let events = producer.events(0, 30);
    let again = events[20..].to_vec();
    for records in [
        events,
        again,
        vec![foreign(None), foreign(Some(b"no json")), foreign(Some(b" {\"a\": 1} ")), foreign(Some(b"null"))],
    ] {
        setting.produce(0, records).await?;
    }
    setting.produce(1, Producer::new().events(1, 500)).await?;
    setting.take_all().await?;
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean(), "{found}");
    ensure!((found.rows.raw, found.rows.dead, found.duplicates_left_out()) == (534, 4, 10), "{found}");
    ensure!(found.partitions.iter().map(|partition| partition.compared).sum::<u64>() == 534, "{found}");
    ensure!(found.cluster_id.is_some(), "{found}");

    // What has been deleted from the topic since is shown, and no fault.
    setting.cluster.partition_client(&setting.topic, 1).await?.delete_records(100, 10_000).await?;
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean(), "{found}");
    ensure!(found.partitions.iter().map(|partition| partition.compared).sum::<u64>() == 434, "{found}");

    // What nobody has read yet is told.
    setting.produce(1, Producer::new().events(1, 7)).await?;
    let found = setting.verify(&[folder]).await?;
    let [Fault::Unread { partition: 1, first_offset: 500, last_offset: 506, records: 7, .. }] = found.faults.first()
    else {
        anyhow::bail!("{found}");
    };
    Ok(())
}

pub async fn what_differs_from_the_topic_is_told_with_its_offset(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    setting.produce(0, Producer::new().events(0, 3)).await?;
    setting.take_all().await?;
    let raw = setting.root().join(format!("raw/topic={}/partition=0", setting.topic));
    let (_, file) = by_first_offset(&raw)?.into_iter().next().context("a file of rows")?;
    let written = std::fs::read_to_string(&file)?;
    let lines: Vec<_> = written.lines().collect();

    std::fs::write(&file, format!("{}\n{}\n", lines[0], lines[2]))?;
    let found = setting.verify(&[folder]).await?;
    ensure!(matches!(found.faults.first(), [Fault::Gap { first_offset: 1, last_offset: 1, .. }]), "{found}");

    std::fs::write(&file, written.replace("event 1", "event 7"))?;
    let found = setting.verify(&[folder]).await?;
    ensure!(matches!(found.faults.first(), [Fault::Different { offset: 1, field: "value", .. }]), "{found}");

    std::fs::write(&file, &written)?;
    make_again(&setting).await?;
    let refused = setting.verify(&[folder]).await;
    ensure!(matches!(refused, Err(VerifyError::TopicReplaced { .. })), "{refused:?}");
    Ok(())
}

pub async fn rows_whose_records_were_compacted_away_are_no_fault(kafka: &Kafka, folder: &Path) -> Result<()> {
    // A cleaner that looks often, at a segment for each batch. The broker is the test's own.
    let cleaner =
        ["--entity-type", "brokers", "--entity-default", "--alter", "--add-config", "log.cleaner.backoff.ms=100"];
    kafka.tool("kafka.admin.ConfigCommand", &cleaner)?;
    let configs =
        ["cleanup.policy=compact", "segment.ms=10", "min.cleanable.dirty.ratio=0.001", "max.compaction.lag.ms=10"];
    let mut create = vec!["--create", "--topic", "compacted", "--partitions", "1"];
    create.extend(configs.iter().flat_map(|config| ["--config", config]));
    kafka.tool("org.apache.kafka.tools.TopicCommand", &create)?;
    let setting = Setting::of_topic(kafka, folder, "compacted", 1).await?;
    let mut producer = Producer::new();
    // All have the same key.
    setting.produce(0, producer.events(0, 20)).await?;
    setting.take_all().await?;
    eventually("records are compacted away", PATIENCE, async || {
        let events = producer.events(0, 2);
        setting.produce(0, events.clone()).await?;
        setting.produce(0, events).await?;
        setting.take_all().await?;
        let found = setting.verify(&[folder]).await?;
        ensure!(found.is_clean(), "{found}");
        Ok(found.partitions[0].compacted > 20)
    })
    .await?;
    // Some are gone before any worker has seen them.
    setting.produce(0, producer.events(0, 20)).await?;
    eventually("holes come before the worker", PATIENCE, async || {
        setting.produce(0, producer.events(0, 1)).await?;
        let first = setting.cluster.partition_client("compacted", 0).await?.fetch_records(0, 1..1 << 20, 100).await?;
        Ok(first.0.len() < 5)
    })
    .await?;
    setting.take_all().await?;
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean() && found.partitions[0].holes > 0, "{found}");
    Ok(())
}
