//! `superhero`: the whole pipeline in one process, every role by itself, and what belongs to none.

mod broker;
mod output;
mod settings;
mod trial;
mod up;
mod verify;
mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use superhero_roles::{BuildDb, Player, Server, Worker};
use superhero_service::{Failure, Settings, run};
use tokio_util::sync::CancellationToken;

/// The whole pipeline in one process, each of its roles by itself, and what belongs to none
#[derive(Debug, Parser)]
#[command(name = "superhero")]
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
    Server(Server),
    Worker(Worker),
    Player(Player),
    BuildDb(BuildDb),
}

impl Settings for Arguments {
    fn validate(&self) -> Result<(), Failure> {
        match &self.command {
            Command::Up(up) => up.validate(),
            Command::Trial(trial) => trial.validate(),
            Command::Verify(verify) => verify.validate(),
            Command::Wait(wait) => wait.validate(),
            Command::Broker(_) => Ok(()),
            Command::Server(server) => server.validate(),
            Command::Worker(worker) => worker.validate(),
            Command::Player(player) => player.validate(),
            Command::BuildDb(build_db) => build_db.validate(),
        }
    }
}

fn main() -> ExitCode {
    run(env!("SUPERHERO_VERSION"), async |arguments: Arguments, stop: CancellationToken| match arguments.command {
        Command::Up(up) => up.run(stop).await,
        Command::Trial(trial) => trial.run(stop).await,
        Command::Verify(verify) => verify.run(stop).await,
        Command::Broker(broker) => broker.run(stop).await,
        Command::Wait(wait) => wait.run(stop).await,
        Command::Server(server) => server.run(stop).await,
        Command::Worker(worker) => Box::pin(worker.run(stop)).await,
        Command::Player(player) => player.run(stop).await,
        Command::BuildDb(build_db) => build_db.run(stop).await,
    })
}
