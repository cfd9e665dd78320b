//! Tokens: what names a user and a game on the wire, in the store and in Kafka.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! token {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Shown and serialised as a hyphenated lower-case UUID; its order is that of the text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The token of a given UUID, such as one drawn at random.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID that it is.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }
    };
}

/// Shows that a seat is one's own: drawn at random when the seat is taken, and told to whoever took it.
///
/// Neither logs nor events may have it, so it has no `Display`, and its `Debug` says nothing.
#[derive(Clone, Copy)]
pub struct SeatSecret(Uuid);

impl SeatSecret {
    /// The secret of a given UUID, one that nobody can guess.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID that it is: for the wire, and for a digest.
    pub const fn reveal(self) -> Uuid {
        self.0
    }
}

impl PartialEq for SeatSecret {
    /// Takes the same time wherever the two differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_u128() ^ other.0.as_u128() == 0
    }
}

impl Eq for SeatSecret {}

impl fmt::Debug for SeatSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeatSecret(***)")
    }
}

impl FromStr for SeatSecret {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self)
    }
}

token!(UserToken, "Names a user; given out at the first login of a name.");
token!(GameToken, "Names a game; the Kafka key of all its events.");
