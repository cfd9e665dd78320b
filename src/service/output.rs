//! The one place that writes to standard output and standard error.
//!
//! A result is what was asked for, and goes to standard output. A reader that has left has read enough, which is no failure; a device
//! that takes no more is one. Whatever is said beside it, progress, the log, the reason of a failure, goes to standard error, and to
//! nobody if nobody can be told.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// A result that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct OutputError(#[source] io::Error);

/// Writes a result, and ends its last line.
///
/// # Errors
/// [`OutputError`], unless it is only that the reader has left.
pub fn print(result: impl Display) -> Result<(), OutputError> {
    let mut text = result.to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    written(stdout().write_all(text.as_bytes()))
}

/// Says on standard error how it goes on, or why it does not.
pub fn tell(message: impl Display) {
    // Nobody is left who could be told that he was not told.
    let _ = Log.write_all(format!("{message}\n").as_bytes());
}

/// Writes what clap has to say to the stream where it belongs, in colours if a terminal shows it.
///
/// # Errors
/// As [`print`], for help and version.
pub(crate) fn print_clap(message: &clap::Error) -> Result<(), OutputError> {
    match (message.print(), message.use_stderr()) {
        (_, true) => Ok(()),
        (printed, false) => written(printed),
    }
}

/// Standard error for the log, whose lines nobody misses who does not read them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard output keeps what follows the last end of a line, and would not say at the end of the process that it could not be written.
fn written(so_far: io::Result<()>) -> Result<(), OutputError> {
    match so_far.and_then(|()| stdout().flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(OutputError),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that writes to it")]
fn stdout() -> io::Stdout {
    io::stdout()
}

#[expect(clippy::disallowed_methods, reason = "the one place that writes to it")]
fn stderr() -> io::Stderr {
    io::stderr()
}
