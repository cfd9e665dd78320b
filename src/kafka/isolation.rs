//! Whether records of transactions count before these are committed, as Kafka's own consumers call it.

use std::fmt;
use std::str::FromStr;

use crate::ConfigError;

/// The isolation level of a reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Records of transactions that were aborted are left out, and reading stops at the first that is open.
    #[default]
    Committed,
    /// Every record, whatever comes of its transaction.
    Uncommitted,
}

impl Isolation {
    /// As requests carry it.
    pub(crate) fn wire(self) -> i8 {
        match self {
            Self::Uncommitted => 0,
            Self::Committed => 1,
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        })
    }
}

impl FromStr for Isolation {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "read_committed" => Ok(Self::Committed),
            "read_uncommitted" => Ok(Self::Uncommitted),
            _ => Err(ConfigError::setting("isolation level", text, "give read_committed or read_uncommitted")),
        }
    }
}
