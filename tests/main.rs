//! The integration tests: real sockets, real processes, a real Apache Kafka and a real Redis.
//!
//! Services are started on free ports by the scripts in `tests/services/`, the first time that a test wants them, and
//! stopped by process id at the end. A missing Java, Maven or redis-server fails the tests that need it, with the line that says what to install.

// One binary: what its modules share is `pub` for their readers, not for another crate.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod checker;
mod cli;
mod heroes;
mod kafka;
mod process;
mod python;
mod readme;
mod services;
mod store;
mod transport;
mod trials;
mod worker;

use std::future::Future;
use std::process::ExitCode;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Trial};

/// Longer than any test takes on a slow machine; a hung one then says its name instead of hanging the run.
const TEST_DEADLINE: std::time::Duration = std::time::Duration::from_secs(300);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each test runs several processes of its own; more than two at once would only make each other late.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let tests = [
        cli::tests(),
        heroes::tests(),
        kafka::tests(),
        python::tests(),
        readme::tests(),
        store::tests(),
        transport::tests(),
        trials::tests(),
        worker::tests(),
    ];
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().flatten().collect());
    services::stop_shared();
    conclusion.exit_code()
}

/// A test that awaits, on a runtime of its own, within [`TEST_DEADLINE`].
fn test<F, Fut>(name: &str, body: F) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>>,
{
    Trial::test(name.to_owned(), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        runtime
            .block_on(async {
                tokio::time::timeout(TEST_DEADLINE, body()).await.context("the test's deadline passed")?
            })
            .map_err(|error| format!("{error:#}").into())
    })
}
