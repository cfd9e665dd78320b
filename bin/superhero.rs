//! `superhero`: what belongs to no role.

mod kafka;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use superhero_event::topic;
use superhero_service::{Failure, KafkaArguments, LogArguments, run, seconds};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::Identity;

/// What belongs to no role of the pipeline
#[derive(Debug, Parser)]
#[command(name = "superhero", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create missing topics and wait until Kafka truly serves; exit 3 if it does not in time
    ///
    /// Every partition must have a leader, a record must come back from a topic of its own, and a consumer group must keep an offset.
    Wait(Wait),
}

#[derive(Debug, clap::Args)]
struct Wait {
    /// Seconds to wait
    #[arg(long, env = "WAIT_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    timeout: Duration,

    /// The topics that there must be, separated by commas
    #[arg(long, env = "WORKER_CHANNEL", value_name = "TOPIC,…", value_delimiter = ',', default_values_t = topic::ALL.map(String::from))]
    topics: Vec<String>,

    #[command(flatten)]
    kafka: KafkaArguments,
    #[command(flatten)]
    log: LogArguments,
}

fn main() -> ExitCode {
    run(async |arguments: Arguments, stop: CancellationToken| match arguments.command {
        Command::Wait(wait) => wait.run(stop).await,
    })
}

impl Wait {
    async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let _log = self.log.start("superhero", Identity::new())?;
        let kafka = kafka::config(&self.kafka, "superhero-wait")?;
        tokio::select! {
            ended = kafka::wait(&kafka, &self.kafka, &self.topics, self.timeout) => ended,
            () = stop.cancelled() => Err("stopped before Kafka was ready".into()),
        }
    }
}
