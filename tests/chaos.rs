//! Chaos: the binaries under load, with faults that are drawn from a seed, and what topics and files say afterwards.
//!
//! `just chaos`, `just chaos seed=7 minutes=3`, `just chaos faults=kill-worker,zombie minutes=1`; `just chaos help` tells the rest.
//!
//! Three brokers (replication 3, two in sync) behind proxies, a Redis that keeps its data, two servers, four workers, bots in two
//! processes: all of them real, the first two started by `tests/services/up`. The servers share a spool, so that what a killed one had
//! accepted comes too, and the spool is empty at the end; all that came to a topic, and all that a server says it has delivered, must
//! stand in the files. Faults of different kinds overlap;
//! [`plan`] says which, when and for how long. At the end everything is healed and stopped in the order of flow, and the [`verdict`]
//! reads topics and files. The exit code is 1 if anything is wrong; then the folder with data and logs stays.

mod clock;
pub mod cluster;
mod disk;
mod fleet;
mod inject;
mod others;
mod plan;
mod proxy;
mod run;
mod settings;
mod verdict;
mod witness;

use std::process::ExitCode;

use anyhow::Result;

use self::run::Run;
use self::settings::Settings;

/// A run as the words say; the exit code is its verdict.
pub fn run(words: impl Iterator<Item = String>) -> Result<ExitCode> {
    let Some(settings) = Settings::from_words(words)? else { return Ok(ExitCode::SUCCESS) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let minutes = settings.length.as_secs_f64() / 60.0;
    println!("seed={} minutes={minutes:.1} in {}", settings.seed, settings.work.display());
    let played = runtime.block_on(async { Run::start(&settings).await?.play().await });
    match played {
        Ok(verdict) => {
            print!("{verdict}");
            if verdict.is_right() {
                if settings.temporary {
                    std::fs::remove_dir_all(&settings.work)?;
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
        Err(error) => println!("WRONG: {error:#}"),
    }
    println!(
        "the data is left in {}; replay with: just chaos seed={} minutes={minutes:.1}",
        settings.work.display(),
        settings.seed
    );
    Ok(ExitCode::FAILURE)
}
