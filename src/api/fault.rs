//! Why a request is not carried out: the `STATUS` of its answer.

use std::fmt;

use superhero_game::Refusal;

/// Why a request is not carried out. Shown as the answer's `STATUS`; the connection stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no `PAYLOAD`.
    MissingPayload,
    /// The payload lacks a field, named as the message names it, such as `USER TOKEN`.
    Missing(&'static str),
    /// The store has no heroes to draw from.
    NoHeroes,
    /// The frame is not text.
    NotText,
    /// The text is not JSON, or not an object.
    NotJson,
    /// A field has another type than it must have.
    WrongType {
        /// The field, as in `Missing`.
        field: &'static str,
        /// What it must be, such as `A STRING`.
        expected: &'static str,
    },
    /// `USER` is empty or longer than it may be, in bytes.
    UserLength {
        /// The most that it may have.
        limit: usize,
    },
    /// `PARTICIPANTS` is outside 2..=limit.
    Participants {
        /// What was asked for.
        asked: i64,
        /// The most that a game may have.
        limit: u32,
    },
    /// `ACTION` is none that there is.
    UnknownAction,
    /// The user token names nobody who is known here.
    UnknownUser,
    /// The null enemy of a player that finds nobody alive, while somebody is.
    EnemiesAlive,
    /// A rule of the game refuses it.
    Refused(Refusal),
    /// The server is about to end and begins no more games.
    Stopping,
    /// The store does not answer; the same request may be sent again.
    Unavailable,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingPayload => f.write_str("MISSING PAYLOAD IN MESSAGE"),
            Self::Missing(field) => write!(f, "MISSING {field} IN PAYLOAD"),
            Self::NoHeroes => f.write_str("LIST OF SUPERHEROS NOT AVAILABLE"),
            Self::NotText => f.write_str("MESSAGE IS NOT TEXT"),
            Self::NotJson => f.write_str("MESSAGE IS NOT A JSON OBJECT"),
            Self::WrongType { field, expected } => write!(f, "{field} IS NOT {expected}"),
            Self::UserLength { limit } => write!(f, "USER IS NOT OF 1 TO {limit} BYTES"),
            Self::Participants { asked, limit } => write!(f, "PARTICIPANTS IS {asked}, NOT OF 2 TO {limit}"),
            Self::UnknownAction => f.write_str("ACTION IS NOT ATTACK"),
            Self::UnknownUser => f.write_str("UNKNOWN USER"),
            Self::EnemiesAlive => f.write_str("ENEMIES ARE ALIVE"),
            Self::Refused(refusal) => f.write_str(match refusal {
                Refusal::UnknownGame => "UNKNOWN GAME",
                Refusal::NotInProgress => "GAME IS NOT IN PROGRESS",
                Refusal::NotAPlayer => "USER IS NOT IN GAME",
                Refusal::OutOfTurn => "NOT USER'S TURN",
                Refusal::EnemyNotInGame => "ENEMY IS NOT IN GAME",
                Refusal::OneSelf => "ENEMY IS USER",
                Refusal::EnemyDead => "ENEMY IS DEAD",
            }),
            Self::Stopping => f.write_str("SERVER IS STOPPING, TRY ANOTHER"),
            Self::Unavailable => f.write_str("SERVICE UNAVAILABLE, TRY AGAIN"),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
