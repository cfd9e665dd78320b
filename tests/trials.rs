//! Whole runs of the pipeline: the main job and the reference's three evaluations. On real services by the binaries, on the embedded
//! parts by `superhero up` and `superhero trial`; the same checks hold for both.

mod binaries;
mod embedded;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::checker::Totals;
use crate::{services, test};

/// What the simulator writes, as the specification names it.
const TOPICS: [&str; 3] = ["client.__main__", "lib.server.game", "lib.server.lobby"];
const PARTITIONS: usize = 4;

/// The whole runs.
pub fn tests() -> Vec<Trial> {
    vec![
        test("two servers and two workers: every record once in the files, the tables equal what was played", main_job),
        test("one worker gets everything", one_worker),
        test("four workers: every partition has one owner and no record stands twice", four_workers),
        test("four workers catch up with a run that had none", workers_afterwards),
    ]
}

/// What is played.
#[derive(Clone, Copy)]
struct Play {
    servers: usize,
    players: usize,
    games: usize,
    workers: usize,
    /// Whether the workers start after the last game.
    afterwards: bool,
}

const SMALL: Play = Play { servers: 1, players: 10, games: 2, workers: 1, afterwards: false };

async fn main_job() -> Result<()> {
    let totals = play(Play { servers: 2, players: 40, workers: 2, ..SMALL }).await?;
    ensure!(totals.games >= 20, "40 bots × 2 games of at most 3 players are more than {} games", totals.games);
    Ok(())
}

async fn one_worker() -> Result<()> {
    play(SMALL).await.map(drop)
}

async fn four_workers() -> Result<()> {
    play(Play { workers: 4, ..SMALL }).await.map(drop)
}

async fn workers_afterwards() -> Result<()> {
    play(Play { workers: 4, afterwards: true, ..SMALL }).await.map(drop)
}

/// A run whose games are over and whose workers have committed everything.
enum Run {
    Binaries(binaries::Run),
    Embedded(embedded::Run),
}

async fn play(play: Play) -> Result<Totals> {
    let mut run = match services::are_real() {
        true => Run::Binaries(binaries::Run::play(play).await?),
        false => Run::Embedded(embedded::Run::play(play).await?),
    };
    let members = match &run {
        Run::Binaries(run) => run.members()?,
        Run::Embedded(run) => run.members().await?,
    };
    ensure!(members.lag == 0, "the group lags by {} after the workers took everything", members.lag);
    if !play.afterwards {
        let (ids, owned, partitions) = (members.ids(), members.owners.len(), TOPICS.len() * PARTITIONS);
        ensure!(ids.len() == play.workers, "{} workers, but the group's members are {ids:?}", play.workers);
        ensure!(owned == partitions, "{owned} of {partitions} partitions have an owner");
    }
    let totals = match &mut run {
        Run::Binaries(run) => run.check().await?,
        Run::Embedded(run) => run.check().await?,
    };
    println!("{totals:?}");
    ensure!(totals.records > 0 && totals.games > 0, "nothing was played: {totals:?}");
    match run {
        Run::Binaries(_) => Ok(totals),
        Run::Embedded(run) => run.end().await.map(|()| totals),
    }
}

/// The worker group with its members.
#[derive(Debug, Default)]
struct Members {
    lag: u64,
    /// Which member has a partition.
    owners: BTreeMap<(String, i32), String>,
}

impl Members {
    fn ids(&self) -> BTreeSet<&String> {
        self.owners.values().collect()
    }
}
