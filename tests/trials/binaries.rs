//! A run by the binaries of the roles, on a Kafka and a Redis of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Members, PARTITIONS, Play, TOPICS};
use crate::checker::{self, Totals};
use crate::process::{Process, binary, eventually};
use crate::services::{Kafka, Redis};

pub struct Run {
    kafka: Kafka,
    redis: Redis,
    output: TempDir,
    workers: Vec<Process>,
}

impl Run {
    /// Starts the services, makes the topics, plays, and waits until the group has committed everything.
    pub async fn play(play: Play) -> Result<Self> {
        let (kafka, redis, output) = (Kafka::start()?, Redis::start()?, tempfile::tempdir()?);
        let mut run = Self { kafka, redis, output, workers: Vec::new() };
        let mut wait = run.command("superhero");
        wait.args(["wait", "--timeout", "60"]);
        Process::spawn("superhero wait", wait)?.succeed().await?;
        if play.afterwards {
            run.let_bots_play(play).await?;
            for worker in run.start_workers(play.workers, &["--until-end"])? {
                worker.succeed().await?;
            }
            return Ok(run);
        }
        run.workers = run.start_workers(play.workers, &[])?;
        run.let_bots_play(play).await?;
        eventually("the workers have committed every record", Duration::from_secs(90), async || {
            let members = run.members()?;
            Ok(members.lag == 0 && members.owners.len() == TOPICS.len() * PARTITIONS)
        })
        .await?;
        Ok(run)
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

    fn start_workers(&self, count: usize, arguments: &[&str]) -> Result<Vec<Process>> {
        let start = |number: usize| {
            let mut command = self.command("superhero-worker");
            command.args(arguments);
            Process::spawn(&format!("worker {number}"), command)
        };
        (0..count).map(start).collect()
    }

    /// Starts servers, lets bots play against all of them, and stops the servers, which flushes their events.
    async fn let_bots_play(&self, play: Play) -> Result<()> {
        let mut running = Vec::new();
        let mut addresses = Vec::new();
        for number in 0..play.servers {
            let mut server = Process::spawn(&format!("server {number}"), self.command("superhero-server"))?;
            addresses.push(server.listening().await?);
            running.push(server);
        }
        let mut bots = self.command("superhero-player");
        bots.args(["--players", &play.players.to_string(), "--games", &play.games.to_string(), "--seed", "7"])
            .args(["--servers", &addresses.join(",")]);
        Process::spawn("players", bots)?.succeed().await?;
        for server in running {
            server.stop().await?;
        }
        Ok(())
    }

    /// `kafka-consumer-groups --describe`: GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID …
    pub fn members(&self) -> Result<Members> {
        let printed = self.kafka.tool(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            &["--describe", "--group", "superhero_sim"],
        )?;
        let mut members = Members::default();
        for line in printed.lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            let ["superhero_sim", topic, partition, current, end, lag, member, ..] = fields[..] else { continue };
            // A partition without records has no committed offset, shown as a dash, and lags by nothing.
            members.lag += match (current, end) {
                ("-", "0") => 0,
                _ => lag.parse().unwrap_or(end.parse().context("a log end offset")?),
            };
            if member != "-" {
                let owner = members.owners.insert((topic.to_owned(), partition.parse()?), member.to_owned());
                ensure!(owner.is_none(), "{topic}/{partition} has two owners: {printed}");
            }
        }
        Ok(members)
    }

    /// Stops the workers and checks what they wrote.
    pub async fn check(&mut self) -> Result<Totals> {
        for worker in self.workers.drain(..) {
            worker.stop().await?;
        }
        checker::check(&self.kafka.bootstrap, Some(self.redis.port), self.output.path(), &TOPICS).await
    }
}
