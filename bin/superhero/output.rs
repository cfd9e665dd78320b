//! How a result is shown.

use clap::ValueEnum;

/// How a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Text for people.
    Text,
    /// One object on one line.
    Json,
}
