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

token!(UserToken, "Names a user; given out at the first login of a name.");
token!(GameToken, "Names a game; the Kafka key of all its events.");
