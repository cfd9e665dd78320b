//! The one place that writes to standard output and standard error.
//!
//! A result is what was asked for, and goes to standard output. A reader that has left has read enough, which is no failure; a device
//! that takes no more is one. Whatever is said beside it, progress, the log, the reason of a failure, goes to standard error, and to
//! nobody if nobody can be told.
//!
//! Names of files, of topics, what a broker or a file says: much of it others have chosen. Nothing that a terminal would obey is passed on, and
//! what is one line stays one.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use superhero_text::shown;

/// A result that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct OutputError(#[source] io::Error);

/// Writes a result, and ends its last line. Lines and tabs are kept; in JSON, what is escaped is the same JSON.
///
/// # Errors
/// [`OutputError`], unless it is only that the reader has left.
pub fn print(result: impl Display) -> Result<(), OutputError> {
    print_as_it_is(&shown::lines(&result.to_string()))
}

/// The same for a text of our own.
pub(crate) fn print_as_it_is(text: &str) -> Result<(), OutputError> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    written(stdout().write_all(format!("{text}{end}").as_bytes()))
}

/// Says on standard error how it goes on, or why it does not: one line.
pub fn tell(message: impl Display) {
    // Nobody is left who could be told that he was not told.
    let _ = Log.write_all(format!("{}\n", shown::one_line(&message.to_string())).as_bytes());
}

/// Keeps each line of a log one line. A write is a line, as those of `tracing_appender` are.
#[derive(Debug)]
pub(crate) struct Lines<W>(pub(crate) W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        let line = written.strip_suffix(b"\n").unwrap_or(written);
        let text = String::from_utf8_lossy(line);
        match shown::one_line(&text) {
            Cow::Borrowed(_) if line.len() == text.len() => self.0.write_all(written)?,
            shown => self.0.write_all(format!("{shown}\n").as_bytes())?,
        }
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_stays_one_and_nothing_in_it_is_obeyed() {
        let mut log = Vec::new();
        let mut lines = Lines(&mut log);
        for line in [&b"INFO as it is \xc3\xa9\n"[..], b"INFO one\nERROR two \x1b[2J\n", b"not text \xff\n"] {
            lines.write_all(line).unwrap();
        }
        assert_eq!(
            String::from_utf8(log).unwrap(),
            "INFO as it is é\nINFO one\\nERROR two \\u001b[2J\nnot text \u{fffd}\n"
        );
    }
}
