//! How a result is shown.

use std::io::{ErrorKind, Write};

use clap::ValueEnum;
use superhero_service::Failure;

/// How a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Text for people.
    Text,
    /// One object on one line.
    Json,
}

/// Writes a result to standard output. Whoever closes it because he has read enough still gets the exit code.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
