//! Topics and files compared by means of their own, not by the worker's code nor by `superhero verify`: the anomalies that Kafka
//! pipelines are known for, each by its name.

pub mod anomaly;
pub mod files;
pub mod games;
pub mod planted;
pub mod raw;
pub mod tables;
pub mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};

use self::anomaly::{Anomaly, Place};
pub use self::files::{by_first_offset, files_below, lines};
use self::games::{Endings, Game};
use self::topic::Record;

/// The totals of folders that were found right.
#[derive(Debug, PartialEq, Eq)]
pub struct Totals {
    /// Records in the topics, each once in the raw files.
    pub records: usize,
    /// Records that the broker holds twice.
    pub duplicates: usize,
    /// Completed games, each once in the tables.
    pub games: usize,
}

/// Compares topics and games with the published files of one folder; the anomalies are the error. The games are those of the Redis on
/// that port, or, where there is none, those of the topics' events.
pub async fn check(bootstrap: &str, redis_port: Option<u16>, output: &Path, topics: &[&str]) -> Result<Totals> {
    let mut values = Vec::new();
    let mut raw = Raw::default();
    topic::read(bootstrap, topics, |place, records| {
        let repetitions = raw.compare(&[output], &place, &records)?;
        let fresh = records.into_iter().filter(|record| !repetitions.contains(&record.offset));
        values.extend(fresh.map(|record| record.value));
        Ok(())
    })
    .await?;
    let games: BTreeMap<String, Game> = match redis_port {
        Some(port) => games::of_redis(port).await?,
        None => games::of_events(values.iter().map(Vec::as_slice))?,
    };
    let (meta, podium) = (tables::read(&[output], tables::META)?, tables::read(&[output], tables::PODIUM)?);
    raw.anomalies.extend(tables::compare(&games, &meta, &podium)?);
    raw.leftovers(&[output])?;
    ensure!(raw.anomalies.is_empty(), "{}", told(&raw.anomalies));
    Ok(Totals { records: raw.records, duplicates: raw.repetitions, games: games.len() })
}

/// Compares topics of the simulator with the union of the folders, after a run whose servers were killed: a game may have moved on
/// without an event to tell it, so of the tables only the membership counts. `delivered` is what producers that ended in good order say
/// they have delivered.
pub async fn check_after_kills(
    bootstrap: &str,
    outputs: &[&Path],
    topics: &[&str],
    delivered: &BTreeMap<String, u64>,
) -> Result<Vec<Anomaly>> {
    let (mut raw, mut endings) = (Raw::default(), Endings::default());
    topic::read(bootstrap, topics, |place, records| {
        records.iter().for_each(|record| endings.take(&record.value));
        raw.compare(outputs, &place, &records).map(drop)
    })
    .await?;
    raw.anomalies.extend(lost_tails(&raw.events, delivered));
    let (meta, podium) = (tables::read(outputs, tables::META)?, tables::read(outputs, tables::PODIUM)?);
    raw.anomalies.extend(tables::membership(&endings.ended(), &endings.known(), &meta, &podium));
    raw.leftovers(outputs)?;
    Ok(raw.anomalies)
}

/// What was found of all raw rows.
#[derive(Debug, Default)]
struct Raw {
    records: usize,
    repetitions: usize,
    events: BTreeMap<String, u64>,
    anomalies: Vec<Anomaly>,
}

impl Raw {
    /// Returns the offsets of records that repeat another.
    fn compare(&mut self, outputs: &[&Path], place: &Place, records: &[Record]) -> Result<BTreeSet<i64>> {
        let below = format!("superhero/raw/topic={}/partition={}", place.topic, place.partition);
        let mut files = Vec::new();
        for output in outputs {
            files.extend(by_first_offset(&output.join(&below))?);
        }
        files.sort();
        let found = raw::compare(place, records, &files);
        self.records += records.len() - found.repetitions.len();
        self.repetitions += found.repetitions.len();
        self.anomalies.extend(found.anomalies);
        for (producer, events) in found.events {
            *self.events.entry(producer).or_default() += events;
        }
        Ok(found.repetitions)
    }

    fn leftovers(&mut self, outputs: &[&Path]) -> Result<()> {
        for output in outputs {
            self.anomalies.extend(files::leftovers(output)?.into_iter().map(|path| Anomaly::Leftover { path }));
        }
        Ok(())
    }
}

/// What producers say they have delivered against what the topics hold of them.
fn lost_tails(events: &BTreeMap<String, u64>, delivered: &BTreeMap<String, u64>) -> Vec<Anomaly> {
    let found = |producer: &str| events.get(producer).copied().unwrap_or_default();
    let lost = delivered.iter().filter(|(producer, delivered)| found(producer) != **delivered);
    lost.map(|(producer, delivered)| Anomaly::LostTail {
        producer: producer.clone(),
        delivered: *delivered,
        found: found(producer),
    })
    .collect()
}

/// The first anomalies, a line each.
pub fn told(anomalies: &[Anomaly]) -> String {
    const LINES: usize = 20;
    let mut text = format!("{} anomalies:", anomalies.len());
    for anomaly in anomalies.iter().take(LINES) {
        text.push_str(&format!("\n  {anomaly}"));
    }
    text
}
