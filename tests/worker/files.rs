//! What stands in the files when nothing goes wrong but the records.

use std::path::Path;

use anyhow::{Result, ensure};
use superhero_event::Task;
use superhero_kafka::TopicPartition;
use superhero_kafka::group::{Committer, GenerationId, OffsetToCommit};

use super::setting::{Producer, Setting, dated, foreign, offsets};
use crate::checker::{by_first_offset, files_below};
use crate::services::Kafka;

pub async fn every_record_stands_once_in_rotated_files_that_are_named_by_their_first_offset(
    kafka: &Kafka,
    folder: &Path,
) -> Result<()> {
    let setting = Setting::new(kafka, folder, 2).await?;
    let mut producer = Producer::new();
    for partition in 0..2 {
        let mut records = producer.events(partition, 250);
        records.push(dated(producer.event(partition, "another day", Task::None), "2026-01-02")?);
        setting.produce(partition, records).await?;
    }
    let mut config = setting.config();
    config.until_end = true;
    config.sink.rotation.max_records = 100;
    config.sink.compression = superhero_sink::Compression::Gzip;
    let summary = setting.start(config).ended().await?;
    setting.check_complete().await?;
    ensure!((summary.records, summary.rows, summary.files) == (502, 502, 8), "{summary:?}");
    for partition in 0..2 {
        let raw = setting.root().join(format!("raw/topic={}/partition={partition}", setting.topic));
        let files = by_first_offset(&raw)?;
        let firsts: Vec<i64> = files.iter().map(|(first, _)| *first).collect();
        ensure!(firsts == [0, 100, 200, 250], "files begin at {firsts:?}");
        ensure!(files.iter().all(|(_, file)| file.extension().is_some_and(|extension| extension == "gz")), "{files:?}");
        ensure!(files[3].1.starts_with(raw.join("dt=2026-01-02")), "{files:?}");
    }
    let left = files_below(&setting.root().join(".superhero/sealed"))?;
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

pub async fn a_restart_goes_on_without_a_gap_or_a_repetition(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 3).await?;
    let mut producer = Producer::new();
    let mut taken = 0;
    for round in 1..=3 {
        for partition in 0..3 {
            setting.produce(partition, producer.events(partition, 40 * round)).await?;
        }
        // In turn: to the end, and stopped in its work.
        let summary = if round == 2 {
            let worker = setting.start(setting.config());
            setting.published(taken + 1).await?;
            worker.stopped().await?
        } else {
            setting.take_all().await?
        };
        taken += summary.records as usize;
        ensure!(summary.duplicates == 0 && summary.missing == 0, "{summary:?}");
    }
    ensure!(taken == 3 * (40 + 80 + 120), "{taken} records taken");
    setting.check_complete().await
}

pub async fn bad_records_are_kept_among_the_dead_letters(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    let mut producer = Producer::new();
    let bad: [Option<&[u8]>; 5] =
        [Some(b"no json"), Some(b"\xff\xfe\n"), Some(b"{\"level\":\"INFO\"}"), None, Some(b"")];
    for value in bad {
        let mut records = producer.events(0, 1);
        records.push(foreign(value));
        setting.produce(0, records).await?;
    }
    let summary = setting.take_all().await?;
    ensure!((summary.records, summary.dead_letters, summary.rows) == (10, 5, 15), "{summary:?}");
    setting.check_complete().await?;
    let dead = setting.table("dead")?;
    ensure!(offsets(&dead)? == [1, 3, 5, 7, 9], "{dead:?}");
    let raw = setting.raw(0)?;
    for (letter, expected) in dead.iter().zip([
        ("not an event envelope", "bm8ganNvbg=="),
        ("not UTF-8", "//4K"),
        ("missing field", ""),
        ("no value", ""),
        ("not an event envelope", ""),
    ]) {
        let (reason, base64) = expected;
        ensure!(letter["reason"].as_str().is_some_and(|found| found.contains(reason)), "{letter}");
        ensure!(letter["value_base64"] == base64, "{letter}");
        let offset = letter["offset"].as_u64().unwrap_or_default() as usize;
        let mut raw = raw[offset].clone();
        raw["reason"] = letter["reason"].clone();
        ensure!(*letter == raw, "{letter} is not {raw}");
    }
    ensure!(dead[2]["value"]["level"] == "INFO" && dead[2]["id"] == "", "{}", dead[2]);
    Ok(())
}

pub async fn repetitions_are_left_out_across_restarts(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    let mut producer = Producer::new();
    let first = producer.events(0, 20);
    let again = first[15..].to_vec();
    setting.produce(0, first.clone()).await?;
    setting.produce(0, again.clone()).await?;
    let summary = setting.take_all().await?;
    ensure!((summary.records, summary.duplicates) == (20, 5), "{summary:?}");
    // The producer repeats its last batch after the worker has been started anew, and leaves two records out.
    setting.produce(0, again).await?;
    let next = producer.events(0, 10).split_off(2);
    setting.produce(0, next).await?;
    let summary = setting.take_all().await?;
    ensure!((summary.records, summary.duplicates, summary.missing) == (8, 5, 2), "{summary:?}");
    let expected: Vec<i64> = (0..20).chain(30..38).collect();
    let raw = setting.raw(0)?;
    ensure!(offsets(&raw)? == expected, "{:?}", offsets(&raw)?);
    ensure!(raw[19]["id"].as_str().is_some_and(|id| id.ends_with("-19")), "{}", raw[19]);
    // Nothing but repetitions moves the offset on and makes no file.
    setting.produce(0, first).await?;
    let summary = setting.take_all().await?;
    ensure!((summary.records, summary.duplicates, summary.files) == (0, 20, 0), "{summary:?}");
    ensure!(setting.take_all().await?.duplicates == 0, "repetitions are read again");
    Ok(())
}

pub async fn what_others_have_committed_is_where_reading_begins(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 1).await?;
    setting.produce(0, Producer::new().events(0, 10)).await?;
    let committer = Committer::new(setting.kafka.clone(), setting.config().group.group_id);
    let partition = TopicPartition::new(&setting.topic, 0);
    let offset = OffsetToCommit { partition, offset: 6, leader_epoch: -1, metadata: "somebody else's".to_owned() };
    committer.commit(&GenerationId::standalone(), &[offset]).await;
    let summary = setting.take_all().await?;
    ensure!((summary.records, summary.missing) == (4, 6), "{summary:?}");
    ensure!(offsets(&setting.raw(0)?)? == [6, 7, 8, 9], "{:?}", setting.raw(0)?);
    Ok(())
}

pub async fn until_the_end_of_nothing_is_at_once(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::new(kafka, folder, 4).await?;
    let summary = setting.take_all().await?;
    ensure!(summary == superhero_worker::Summary::default(), "{summary:?}");
    Ok(())
}
