//! How a process ends: the exit codes, and the error that carries one.

use std::process::ExitCode;

/// What kind of failure ends a process, which decides its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1: it did not work.
    Failed,
    /// 2: the command line or the environment is wrong.
    Usage,
    /// 3: a service that it needs is not there.
    NotReady,
    /// 4: what was checked is not right.
    NotVerified,
    /// 130: it was interrupted a second time.
    Interrupted,
}

impl Kind {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotReady => 3,
            Self::NotVerified => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> Self {
        Self::from(kind.code())
    }
}

/// An error that ends the process, with its kind. Any error can be made one with `?`, and is a [`Kind::Failed`] then.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    error: Box<dyn std::error::Error + Send + Sync>,
    lines: Vec<String>,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: Kind, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind, error: error.into(), lines: Vec::new() }
    }

    /// With lines that are said behind the error.
    pub fn with_lines(mut self, lines: Vec<String>) -> Self {
        self.lines = lines;
        self
    }

    /// Those lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The error and what caused it, in one line. A cause that its effect's message ends with already is not said again.
    pub fn chain(&self) -> String {
        let mut said = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !said.contains(&message) {
                said = format!("{said}: {message}");
            }
            cause = error.source();
        }
        said
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Kind::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the shop")]
    struct Shop(#[source] std::num::ParseIntError);

    #[test]
    fn a_failure_tells_its_causes_in_one_line() {
        let cause = "x".parse::<u8>().expect_err("x is no number");
        let failure = Failure::from(Shop(cause));
        assert_eq!(failure.chain(), "cannot open the shop: invalid digit found in string");
        assert_eq!(failure.kind(), Kind::Failed);
    }
}
