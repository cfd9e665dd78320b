//! `superhero-player`: bots.

use std::process::ExitCode;

use superhero_roles::Player;

fn main() -> ExitCode {
    superhero_service::run(env!("SUPERHERO_VERSION"), Player::run)
}
