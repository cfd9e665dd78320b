//! The integration tests: real sockets and real processes, on the embedded broker with nothing installed, or, with
//! `TEST_SERVICES=real`, on an Apache Kafka and a Redis and with other people's clients.
//!
//! Services are started on free ports, the first time that a test wants them, and stopped by process id at the end. With
//! `TEST_SERVICES=real` a missing Java, Maven, redis-server, kcat or Python fails the tests that need it, with the line that says what to install.

// One binary: what its modules share is `pub` for their readers, not for another crate.
#![allow(unreachable_pub, clippy::unwrap_used)]
// A test that cannot print has nobody to tell.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

mod broker;
mod chaos;
mod checker;
mod cli;
mod clients;
mod deploy;
mod figures;
mod ghosts;
mod heroes;
mod kafka;
mod leaders;
mod others;
mod peers;
mod process;
mod python;
mod readme;
mod services;
mod spool;
mod store;
mod terminal;
mod transport;
mod trials;
mod up;
mod worker;

use std::future::Future;
use std::process::ExitCode;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Trial};

/// Longer than any test takes on a slow machine; a hung one then says its name instead of hanging the run.
const TEST_DEADLINE: std::time::Duration = std::time::Duration::from_secs(300);

fn main() -> ExitCode {
    let rest = || std::env::args().skip(2);
    let other_than_tests = match std::env::args().nth(1).as_deref() {
        Some("chaos") => Some(chaos::run(rest())),
        Some(spool::EMIT) => Some(spool::emit(rest())),
        _ => None,
    };
    if let Some(ended) = other_than_tests {
        return ended.unwrap_or_else(|error| {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        });
    }
    let mut arguments = Arguments::from_args();
    // Each test runs several processes of its own; more than two at once would only make each other late.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let tests = [
        broker::tests(),
        checker::planted::tests(),
        cli::tests(),
        clients::tests(),
        deploy::tests(),
        figures::tests(),
        ghosts::tests(),
        heroes::tests(),
        kafka::tests(),
        leaders::tests(),
        others::tests(),
        peers::tests(),
        python::tests(),
        readme::tests(),
        spool::tests(),
        store::tests(),
        transport::tests(),
        trials::tests(),
        up::tests(),
        worker::tests(),
    ];
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().flatten().collect());
    services::stop_shared();
    conclusion.exit_code()
}

/// A [`test`] that needs what has to be installed; ignored where the tests run on the embedded parts.
fn real<F, Fut>(name: &str, body: F) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>>,
{
    test(name, body).with_ignored_flag(!services::are_real())
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
