//! Workers that come and go.

use std::path::Path;

use anyhow::{Result, ensure};
use superhero_verify::Fault;

use super::setting::{PATIENCE, Producer, Setting};
use crate::process::{Process, eventually};
use crate::services::{Kafka, Redis};

pub async fn two_workers_share_and_the_one_that_stays_takes_over(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 4).await?;
    let mut producer = Producer::new();
    let (one, other) = (setting.start(setting.config()), setting.start(setting.config()));
    let mut rows = 0;
    for round in 0..4 {
        for partition in 0..4 {
            setting.produce(partition, producer.events(partition, 50)).await?;
        }
        rows += 200;
        if round == 1 {
            setting.published(rows).await?;
        }
    }
    let first = one.stopped().await?;
    for partition in 0..4 {
        setting.produce(partition, producer.events(partition, 50)).await?;
    }
    setting.published(rows + 200).await?;
    let second = other.stopped().await?;
    setting.check_complete().await?;
    ensure!(first.records + second.records == 1000, "{first:?} and {second:?}");
    ensure!(first.duplicates + second.duplicates + first.missing + second.missing == 0, "{first:?} and {second:?}");
    Ok(())
}

/// On folders of their own: what the killed one had committed and not published, it publishes when it returns.
pub async fn a_killed_workers_partitions_are_taken_over(kafka: &Kafka, folder: &Path) -> Result<()> {
    let shared = Setting::new(kafka, &folder.join("shared"), 4).await?;
    let mut producer = Producer::new();
    let mut rows = 0;
    let other = shared.start(shared.config());
    for _ in 0..3 {
        let killed = shared.start(shared.config());
        for partition in 0..4 {
            shared.produce(partition, producer.events(partition, 100)).await?;
        }
        // Somewhere between the first rows and the last.
        shared.published(rows + 30).await?;
        rows += 400;
        drop(killed);
        shared.published(rows).await?;
    }
    other.stopped().await?;
    shared.check_complete().await?;

    let (here, there) = (folder.join("here"), folder.join("there"));
    let here = shared.elsewhere(&here).await?;
    let there = shared.elsewhere(&there).await?;
    let killed = here.start(here.config());
    for partition in 0..4 {
        shared.produce(partition, producer.events(partition, 100)).await?;
    }
    here.published(1).await?;
    drop(killed);
    for partition in 0..4 {
        shared.produce(partition, producer.events(partition, 100)).await?;
    }
    there.take_all().await?;
    here.take_all().await?;
    let mut sum = 0;
    for partition in 0..4 {
        let mut found = super::setting::offsets(&here.raw(partition)?)?;
        found.extend(super::setting::offsets(&there.raw(partition)?)?);
        found.sort_unstable();
        let expected: Vec<i64> = (300..500).collect();
        ensure!(found == expected, "partition {partition} has {found:?} over both folders");
        sum += found.len();
    }
    ensure!(sum == 800, "{sum} rows");
    Ok(())
}

pub async fn a_host_that_stays_away_leaves_its_own_sealed_segments_and_they_are_named(
    kafka: &Kafka,
    folder: &Path,
) -> Result<()> {
    let (gone, there) = (folder.join("gone"), folder.join("there"));
    let shared = Setting::new(kafka, &gone, 2).await?;
    let mut producer = Producer::new();
    let killed = shared.start(shared.config());
    for partition in 0..2 {
        shared.produce(partition, producer.events(partition, 10)).await?;
    }
    shared.published(20).await?;
    // From now on rows can be sealed and committed there, and not published.
    let (raw, aside) = (shared.root().join("raw"), gone.join("aside"));
    std::fs::rename(&raw, &aside)?;
    std::fs::write(&raw, "in the way of the folder")?;
    for partition in 0..2 {
        shared.produce(partition, producer.events(partition, 90)).await?;
    }
    let mut lag = shared.lag().await?;
    eventually("everything is committed", PATIENCE, async || Ok(lag.look().await.is_ok_and(|lag| lag.records() == 0)))
        .await?;
    drop(killed);
    std::fs::remove_file(&raw)?;
    std::fs::rename(&aside, &raw)?;

    for partition in 0..2 {
        shared.produce(partition, producer.events(partition, 50)).await?;
    }
    let redis = tokio::task::spawn_blocking(Redis::shared).await??;
    let mut worker = shared.binary(&there, &redis);
    worker.arg("--until-end");
    let said = Process::spawn("the worker on the other host", worker)?.succeed().await?;
    let folder_id = std::fs::read_to_string(shared.root().join(".superhero/folder"))?;
    let named = said.lines().filter(|line| line.contains("committed rows wait in another folder"));
    ensure!(named.filter(|line| line.contains(folder_id.trim())).count() == 2, "the log names them: {said}");

    let verified = shared.verify(&[&gone, &there]).await?;
    let unpublished: Vec<_> =
        verified.faults.first().iter().filter(|fault| matches!(fault, Fault::Unpublished { .. })).collect();
    ensure!(unpublished.len() == 2 && verified.faults.total() == 2, "exactly its own segments: {verified}");
    ensure!(verified.rows.raw == 120, "and all that came before and later is there: {verified}");

    // It comes back.
    shared.take_all().await?;
    let verified = shared.verify(&[&gone, &there]).await?;
    ensure!(verified.is_clean() && verified.rows.raw == 300, "{verified}");
    Ok(())
}

pub async fn repetitions_are_left_out_across_a_rebalance(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 2).await?;
    let mut producer = Producer::new();
    let one = setting.start(setting.config());
    let batches: Vec<_> = (0..2).map(|partition| producer.events(partition, 30)).collect();
    for (partition, batch) in (0..).zip(&batches) {
        setting.produce(partition, batch.clone()).await?;
    }
    setting.published(60).await?;
    let other = setting.start(setting.config());
    for (partition, batch) in (0..).zip(batches) {
        setting.produce(partition, batch).await?;
        setting.produce(partition, producer.events(partition, 5)).await?;
    }
    setting.published(70).await?;
    let (first, second) = (one.stopped().await?, other.stopped().await?);
    ensure!(first.records + second.records == 70, "{first:?} and {second:?}");
    ensure!(first.duplicates + second.duplicates == 60, "{first:?} and {second:?}");
    Ok(())
}

pub async fn a_worker_waits_for_a_topic_that_is_made_later(kafka: &Kafka, folder: &Path) -> Result<()> {
    let topic = format!("later-{}", uuid::Uuid::new_v4());
    let setting = Setting::without_topic(&kafka.bootstrap, folder, &topic, 2).await?;
    let worker = setting.start(setting.config());
    eventually("the worker has made its folder", PATIENCE, async || Ok(setting.root().exists())).await?;
    ensure!(!setting.cluster.topics().await?.contains_key(&topic), "to wait for a topic makes it");
    setting.make_topic().await?;
    setting.produce(1, Producer::new().events(1, 10)).await?;
    setting.published(10).await?;
    ensure!(worker.stopped().await?.records == 10, "all of them");
    Ok(())
}
