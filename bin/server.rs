//! `superhero-server`: the game server.

use std::process::ExitCode;

use superhero_roles::Server;

fn main() -> ExitCode {
    superhero_service::run(env!("SUPERHERO_VERSION"), Server::run)
}
