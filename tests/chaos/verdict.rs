//! What a run has come to: the files against the topics, the topics against what the servers have said, and the totals.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use superhero_verify::{Verification, VerifyConfig, verify};
use tokio_util::sync::CancellationToken;

use super::others;
use super::plan::{AT_LEAST, Fault};
use super::run::{Run, TOPICS};
use super::settings::Folders;
use super::witness::Testimony;
use crate::checker;

/// How much a median may grow from the first to the last third of a run.
const FLAT: f64 = 1.1;

/// The verdict; [`fmt::Display`] is the whole of it.
#[derive(Debug)]
pub struct Verdict {
    seed: u64,
    minutes: f64,
    folders: Folders,
    happened: BTreeMap<Fault, u64>,
    skipped: Vec<&'static str>,
    kills: u64,
    standstills: u64,
    stops: u64,
    told: u64,
    /// Producers that all is known of, and their events.
    delivered: (usize, u64),
    lost_answers: u64,
    foreign: (u64, u64),
    verification: Verification,
    testimonies: Vec<Testimony>,
    wrong: Vec<String>,
}

impl Verdict {
    pub async fn of(run: &Run<'_>, folders: Vec<PathBuf>, testimonies: Vec<Testimony>) -> Result<Self> {
        let Run { settings, services, fleet, others, .. } = run;
        let folders: Vec<_> = folders.into_iter().filter(|folder| folder.join("superhero").is_dir()).collect();
        let outputs: Vec<_> = folders.iter().map(PathBuf::as_path).collect();
        let servers = services.kafka.servers();
        let anomalies = checker::check_after_kills(&servers, &outputs, &TOPICS[..3], &fleet.delivered).await?;
        let config = VerifyConfig {
            folders: folders.clone(),
            kafka: Some(services.kafka.clone()),
            topics: Some(TOPICS.map(str::to_owned).to_vec()),
            ..VerifyConfig::default()
        };
        let verification = verify(config, CancellationToken::new()).await?;
        let mut verdict = Self {
            seed: settings.seed,
            minutes: settings.length.as_secs_f64() / 60.0,
            folders: settings.folders,
            happened: run.happened.clone(),
            skipped: run.skipped.keys().map(|fault| fault.name()).collect(),
            kills: fleet.kills,
            standstills: fleet.standstills,
            stops: fleet.stops,
            told: fleet.told,
            delivered: (fleet.delivered.len(), fleet.delivered.values().sum()),
            lost_answers: services.rules.lost(),
            foreign: others.counts.get(),
            verification,
            testimonies,
            wrong: if anomalies.is_empty() { Vec::new() } else { vec![checker::told(&anomalies)] },
        };
        verdict.judge(run);
        Ok(verdict)
    }

    /// Whether anything is wrong.
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty() && self.verification.is_clean()
    }

    fn judge(&mut self, Run { settings, others, skipped, .. }: &Run<'_>) {
        for fault in settings.faults.iter().filter(|fault| !skipped.contains_key(*fault)) {
            let times = self.happened.get(fault).copied().unwrap_or_default();
            if times < AT_LEAST as u64 {
                self.wrong.push(format!("{} happened {times} times, and {AT_LEAST} were wanted", fault.name()));
            }
        }
        for partition in &self.verification.partitions {
            let name = format!("{} partition {}", partition.topic, partition.partition);
            let deleted =
                others.deleted.get(&partition.partition).copied().filter(|_| partition.topic == others::TOPIC);
            match (partition.expired, deleted) {
                (0, _) => {}
                (expired, None) => self.wrong.push(format!("{name}: {expired} records expired that nobody deleted")),
                (expired, Some(below)) if expired > below.unsigned_abs() => {
                    self.wrong.push(format!("{name}: {expired} records expired, but {below} were deleted"));
                }
                _ => {}
            }
        }
        if self.verification.games == 0 {
            self.wrong.push("not a single game was played to its end".to_owned());
        }
        for Testimony { name, rss_kib, descriptors, .. } in &self.testimonies {
            for (what, values) in [("memory", rss_kib), ("descriptors", descriptors)] {
                if let Some((first, last)) = values
                    && *last as f64 > *first as f64 * FLAT
                {
                    self.wrong.push(format!("{what} of {name} grew from {first} to {last}"));
                }
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verification)?;
        let happened = self.happened.iter().map(|(fault, count)| format!("{} {count}", fault.name()));
        writeln!(f, "faults        {}", happened.collect::<Vec<_>>().join(", "))?;
        if !self.skipped.is_empty() {
            writeln!(f, "SKIPPED       {}", self.skipped.join(", "))?;
        }
        writeln!(
            f,
            "processes     {} killed, {} stood still, {} asked to stop ({} said what they could not do in time)",
            self.kills, self.standstills, self.stops, self.told
        )?;
        let (producers, events) = self.delivered;
        writeln!(f, "delivered     {events} events of {producers} starts of servers, as the servers say")?;
        writeln!(f, "answers lost  {} after their request was carried out", self.lost_answers)?;
        writeln!(f, "of others     {} records taken, {} refused or unknown", self.foreign.0, self.foreign.1)?;
        for Testimony { name, rss_kib, descriptors, peak_kib, peak_descriptors, tenths_kib } in &self.testimonies {
            write!(f, "{name:13} peak {} MiB, {peak_descriptors} descriptors", peak_kib >> 10)?;
            match (rss_kib, descriptors) {
                (Some(rss), Some(descriptors)) => writeln!(
                    f,
                    "; medians of first and last third: {} and {} MiB, {} and {} descriptors",
                    rss.0 >> 10,
                    rss.1 >> 10,
                    descriptors.0,
                    descriptors.1
                )?,
                _ => writeln!(f)?,
            }
            let tenths: Vec<_> = tenths_kib.iter().map(|kib| (kib >> 10).to_string()).collect();
            writeln!(f, "              from tenth to tenth of the run {} MiB", tenths.join(", "))?;
        }
        let totals = &self.verification;
        let folders = match self.folders {
            Folders::Shared => "one folder",
            Folders::Each => "a folder for each worker",
        };
        writeln!(
            f,
            "verdict       {}: seed={} minutes={:.1}, {folders}: {} events, {} repetitions left out, {} games",
            if self.is_right() { "nothing lost, nothing twice, all in order" } else { "WRONG" },
            self.seed,
            self.minutes,
            totals.rows.raw,
            totals.duplicates_left_out(),
            totals.games
        )?;
        self.wrong.iter().try_for_each(|wrong| writeln!(f, "WRONG: {wrong}"))
    }
}
