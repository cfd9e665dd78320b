//! Whole runs of the pipeline, by its own binaries: the main job and the reference's three evaluations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use tempfile::TempDir;
use tokio::process::Command;

use crate::checker::{self, Totals};
use crate::process::{Process, binary, eventually};
use crate::services::{Kafka, Redis};
use crate::test;

/// What the simulator writes, as the specification names it.
const TOPICS: [&str; 3] = ["client.__main__", "lib.server.game", "lib.server.lobby"];
const PARTITIONS: usize = 4;

/// The whole runs.
pub fn tests() -> Vec<Trial> {
    vec![
        test("two servers and two workers: every record once in the files, the tables equal Redis", main_job),
        test("one worker gets everything", one_worker),
        test("four workers: every partition has one owner and no record stands twice", four_workers),
        test("four workers catch up with a run that had none", workers_afterwards),
    ]
}

async fn main_job() -> Result<()> {
    let trial = Pipeline::start().await?;
    let workers = trial.workers(2)?;
    trial.play(2, 40, 2).await?;
    let group = trial.caught_up().await?;
    ensure!(group.members().len() == 2, "two workers, but the group's members are {:?}", group.members());
    let totals = trial.stop(workers).await?;
    ensure!(totals.games >= 20, "40 bots × 2 games of at most 3 players are more than {} games", totals.games);
    Ok(())
}

async fn one_worker() -> Result<()> {
    let trial = Pipeline::start().await?;
    let workers = trial.workers(1)?;
    trial.play(1, 10, 2).await?;
    let group = trial.caught_up().await?;
    ensure!(group.members().len() == 1, "one worker, but the group's members are {:?}", group.members());
    trial.stop(workers).await?;
    Ok(())
}

async fn four_workers() -> Result<()> {
    let trial = Pipeline::start().await?;
    let workers = trial.workers(4)?;
    trial.play(1, 10, 2).await?;
    let group = trial.caught_up().await?;
    ensure!(group.members().len() == 4, "four workers, but the group's members are {:?}", group.members());
    ensure!(
        group.owners.len() == TOPICS.len() * PARTITIONS,
        "{} of {} partitions have an owner",
        group.owners.len(),
        TOPICS.len() * PARTITIONS
    );
    trial.stop(workers).await?;
    Ok(())
}

async fn workers_afterwards() -> Result<()> {
    let trial = Pipeline::start().await?;
    trial.play(1, 10, 2).await?;
    let mut workers = Vec::new();
    for number in 0..4 {
        let mut command = trial.command("superhero-worker");
        command.arg("--until-end");
        workers.push(Process::spawn(&format!("worker {number}"), command)?);
    }
    for worker in workers {
        worker.succeed().await?;
    }
    let group = trial.group()?;
    ensure!(group.lag == 0, "the group lags by {} after all workers took everything", group.lag);
    trial.check().await?;
    Ok(())
}

/// A Kafka, a Redis and an output folder of a run's own.
struct Pipeline {
    kafka: Kafka,
    redis: Redis,
    output: TempDir,
}

/// The worker group as Kafka's own tool describes it.
#[derive(Debug, Default)]
struct Group {
    lag: u64,
    /// Which member has a partition.
    owners: BTreeMap<(String, i32), String>,
}

impl Group {
    fn members(&self) -> BTreeSet<&String> {
        self.owners.values().collect()
    }
}

impl Pipeline {
    /// Starts the services and makes the topics.
    async fn start() -> Result<Self> {
        let pipeline = Self { kafka: Kafka::start()?, redis: Redis::start()?, output: tempfile::tempdir()? };
        let mut wait = pipeline.command("superhero");
        wait.args(["wait", "--timeout", "60"]);
        Process::spawn("superhero wait", wait)?.succeed().await?;
        Ok(pipeline)
    }

    /// One of the binaries, told by the reference's names where the services are.
    fn command(&self, name: &str) -> Command {
        let mut command = binary(name);
        let (host, port) = self.kafka.bootstrap.split_once(':').unwrap_or_default();
        command
            .env("KAFKA_HOST", host)
            .env("KAFKA_PORT", port)
            .env("KAFKA_PARTITIONS", PARTITIONS.to_string())
            .env("REDIS_HOST", "127.0.0.1")
            .env("REDIS_PORT", self.redis.port.to_string())
            .env("LOGGER_MODULE", "kafka")
            .env("WEBSOCKET_HOST", "127.0.0.1")
            .env("WEBSOCKET_PORT", "0")
            .env("SERVER_SLEEP", "0.01")
            .env("LOBBY_TIMEOUT", "5")
            .env("OUTPUT_DIR", self.output.path())
            .env("SINK_ROTATE_SECS", "1");
        command
    }

    fn workers(&self, count: usize) -> Result<Vec<Process>> {
        (0..count).map(|number| Process::spawn(&format!("worker {number}"), self.command("superhero-worker"))).collect()
    }

    /// Starts servers, lets bots play against all of them, and stops the servers, which flushes their events.
    async fn play(&self, servers: usize, players: usize, games: usize) -> Result<()> {
        let mut running = Vec::new();
        let mut addresses = Vec::new();
        for number in 0..servers {
            let mut server = Process::spawn(&format!("server {number}"), self.command("superhero-server"))?;
            addresses.push(server.listening().await?);
            running.push(server);
        }
        let mut bots = self.command("superhero-player");
        bots.args(["--players", &players.to_string(), "--games", &games.to_string(), "--seed", "7"])
            .args(["--servers", &addresses.join(",")]);
        Process::spawn("players", bots)?.succeed().await?;
        for server in running {
            server.stop().await?;
        }
        Ok(())
    }

    /// Waits until the group has committed everything.
    async fn caught_up(&self) -> Result<Group> {
        eventually("the workers have committed every record", Duration::from_secs(90), async || {
            let group = self.group()?;
            Ok(group.lag == 0 && group.owners.len() == TOPICS.len() * PARTITIONS)
        })
        .await?;
        self.group()
    }

    /// Stops the workers and checks what they wrote.
    async fn stop(&self, workers: Vec<Process>) -> Result<Totals> {
        for worker in workers {
            worker.stop().await?;
        }
        self.check().await
    }

    async fn check(&self) -> Result<Totals> {
        let totals = checker::check(&self.kafka.bootstrap, self.redis.port, self.output.path(), &TOPICS).await?;
        println!("{totals:?}");
        ensure!(totals.records > 0 && totals.games > 0, "nothing was played: {totals:?}");
        Ok(totals)
    }

    /// `kafka-consumer-groups --describe`: GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID …
    fn group(&self) -> Result<Group> {
        let printed = self.kafka.tool(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            &["--describe", "--group", "superhero_sim"],
        )?;
        let mut group = Group::default();
        for line in printed.lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            let ["superhero_sim", topic, partition, current, end, lag, member, ..] = fields[..] else { continue };
            // A partition without records has no committed offset, shown as a dash, and lags by nothing.
            group.lag += match (current, end) {
                ("-", "0") => 0,
                _ => lag.parse().unwrap_or(end.parse().context("a log end offset")?),
            };
            if member != "-" {
                let owner = group.owners.insert((topic.to_owned(), partition.parse()?), member.to_owned());
                ensure!(owner.is_none(), "{topic}/{partition} has two owners: {printed}");
            }
        }
        Ok(group)
    }
}
