//! `healthcheck`: a look from outside at a process of the same settings, for containers without a shell.

use clap::Subcommand;
use superhero_monitor::ask;
use superhero_service::{Failure, address};

/// What a role can be asked for besides its work.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Also {
    /// Ask the process that runs with these settings whether it is ready, and exit with 1 unless it is
    Healthcheck,
}

/// Asks the process that listens there; what listens on every address is asked on the loopback.
///
/// # Errors
/// [`superhero_monitor::NotReady`].
pub(crate) async fn healthcheck(host: &str, port: u16) -> Result<(), Failure> {
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    Ok(ask(&address(host, port)).await?)
}
