//! `superhero`: the whole pipeline in one process, and what belongs to no role.

mod broker;
#[path = "../kafka.rs"]
mod kafka;
mod output;
mod settings;
mod trial;
mod up;
mod verify;
mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use superhero_service::{Failure, Settings, run_with_words};
use tokio_util::sync::CancellationToken;

/// The whole pipeline in one process, and what belongs to no role of it
#[derive(Debug, Parser)]
#[command(name = "superhero", version = env!("SUPERHERO_VERSION"))]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    #[command(subcommand)]
    Trial(trial::Trial),
    Verify(verify::Verify),
    Broker(broker::Broker),
    Wait(wait::Wait),
}

impl Settings for Arguments {
    fn validate(&self) -> Result<(), Failure> {
        match &self.command {
            Command::Up(up) => up.validate(),
            Command::Trial(trial) => trial.validate(),
            Command::Verify(verify) => verify.validate(),
            Command::Wait(wait) => wait.validate(),
            Command::Broker(_) => Ok(()),
        }
    }
}

fn main() -> ExitCode {
    run_with_words(async |arguments: Arguments, stop: CancellationToken| match arguments.command {
        Command::Up(up) => up.run(stop).await,
        Command::Trial(trial) => trial.run(stop).await,
        Command::Verify(verify) => verify.run(stop).await,
        Command::Broker(broker) => broker.run(stop).await,
        Command::Wait(wait) => wait.run(stop).await,
    })
}
