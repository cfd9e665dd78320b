//! What every process of the project needs: settings from flags and environment, logging, the stop signal, exit codes.
//!
//! A binary's `main` flattens the groups it needs into its own [`clap::Parser`], and hands the rest to [`run`]:
//!
//! ```text
//! fn main() -> std::process::ExitCode {
//!     superhero_service::run("0.1.0", async |arguments: Arguments, stop| { … })
//! }
//! ```
//!
//! Each setting is a flag with an environment variable; an environment variable that is set to nothing counts as not set.
//! A setting can be a word too: `players=10` is `--players 10`.

mod allocator;
mod check;
mod completions;
mod days;
mod exit;
mod files;
mod kafka;
mod keys;
mod logging;
mod output;
mod redis;
mod run;
mod unit;
mod wait;

pub use exit::{Failure, Kind};
pub use files::max_open_files;
pub use kafka::KafkaArguments;
pub use logging::{LogArguments, LogError, LogFormat, LogGuard, LogLevel};
pub use output::{OutputError, print, tell};
pub use redis::{RedisArguments, Secret};
pub use run::{Settings, run};
pub use unit::{SEEDS, Whole, address, host, host_and_port, listen_address, positive, seconds, whole, whole_of};
pub use wait::WaitArguments;
