//! What a request is answered with when it is not taken: `{"PAYLOAD":{},"STATUS":"…"}`, and the connection stays.

use std::fmt;

use superhero_game::Refusal;

use crate::{MAX_NAME_BYTES, MIN_PARTICIPANTS};

/// A part of a request that can be missing or of a wrong type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `PAYLOAD`, the object around the others.
    Payload,
    /// `USER`, a name.
    User,
    /// `USER_TOKEN`.
    UserToken,
    /// `PARTICIPANTS`, an integer.
    Participants,
    /// `GAME_TOKEN`.
    GameToken,
    /// `ENEMY_TOKEN`, which may be null.
    EnemyToken,
    /// `ACTION`.
    Action,
    /// `SEAT`, the secret of the user's seat.
    Seat,
}

impl Field {
    /// The name in the JSON object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Payload => "PAYLOAD",
            Self::User => "USER",
            Self::UserToken => "USER_TOKEN",
            Self::Participants => "PARTICIPANTS",
            Self::GameToken => "GAME_TOKEN",
            Self::EnemyToken => "ENEMY_TOKEN",
            Self::Action => "ACTION",
            Self::Seat => "SEAT",
        }
    }

    /// What belongs there, as a status says it.
    const fn expected(self) -> &'static str {
        match self {
            Self::Payload => "AN OBJECT",
            Self::Participants => "AN INTEGER",
            Self::EnemyToken => "A STRING OR NULL",
            Self::User | Self::UserToken | Self::GameToken | Self::Action | Self::Seat => "A STRING",
        }
    }
}

impl fmt::Display for Field {
    /// The field and where it belongs, in a status's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Payload => "PAYLOAD IN MESSAGE",
            Self::User => "USER IN PAYLOAD",
            Self::UserToken => "USER TOKEN IN PAYLOAD",
            Self::Participants => "PARTICIPANTS IN PAYLOAD",
            Self::GameToken => "GAME TOKEN IN PAYLOAD",
            Self::EnemyToken => "ENEMY TOKEN IN PAYLOAD",
            Self::Action => "ACTION IN PAYLOAD",
            Self::Seat => "SEAT IN PAYLOAD",
        })
    }
}

/// Why a request was not taken. Its `Display` is the `STATUS` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A field is not there.
    #[error("MISSING {0}")]
    Missing(Field),
    /// The roster is empty.
    #[error("LIST OF SUPERHEROS NOT AVAILABLE")]
    NoHeroes,
    /// A frame that is not text.
    #[error("MESSAGE IS NOT TEXT")]
    NotText,
    /// Text that is not JSON.
    #[error("MESSAGE IS NOT JSON")]
    NotJson,
    /// JSON that is not an object.
    #[error("MESSAGE IS NOT AN OBJECT")]
    NotAnObject,
    /// A field holds something else than it should.
    #[error("{0} IS NOT {expected}", expected = .0.expected())]
    WrongType(Field),
    /// A number of participants that no game has.
    #[error("PARTICIPANTS IN PAYLOAD IS NOT FROM {MIN_PARTICIPANTS} TO {max}")]
    ParticipantsOutside {
        /// The most that a game has.
        max: u32,
    },
    /// A name that is not kept.
    #[error("USER IN PAYLOAD IS LONGER THAN {MAX_NAME_BYTES} BYTES")]
    NameTooLong,
    /// An action other than `ATTACK`.
    #[error("ACTION IN PAYLOAD IS NOT ATTACK")]
    UnknownAction,
    /// Nobody has this user token.
    #[error("UNKNOWN USER TOKEN")]
    UnknownUser,
    /// No game has this token.
    #[error("UNKNOWN GAME TOKEN")]
    UnknownGame,
    /// The game has not started, or is over.
    #[error("GAME IS NOT IN PROGRESS")]
    NotInProgress,
    /// The user has no seat in this game.
    #[error("USER IS NOT IN THIS GAME")]
    NotAPlayer,
    /// Not the secret of the user's seat. Where a seat's secret is missing, that is a field that is not there.
    #[error("WRONG SEAT IN PAYLOAD")]
    WrongSeat,
    /// Somebody else is on turn.
    #[error("NOT USER'S TURN")]
    OutOfTurn,
    /// The enemy has no seat in this game.
    #[error("ENEMY IS NOT IN THIS GAME")]
    EnemyNotInGame,
    /// The enemy is the user.
    #[error("ENEMY IS USER")]
    OneSelf,
    /// The enemy has fallen already.
    #[error("ENEMY IS DEAD")]
    EnemyDead,
    /// No enemy is named though others live.
    #[error("ENEMY TOKEN IS NULL WHILE OTHERS LIVE")]
    NoEnemy,
    /// The state of the games cannot be reached for now.
    #[error("GAMES NOT AVAILABLE")]
    Unavailable,
    /// As many seats of the user as there may be wait for it in vain.
    #[error("TOO MANY SEATS OF USER ARE NOT ATTENDED")]
    TooManySeats,
    /// As many games as there may be wait for players.
    #[error("TOO MANY GAMES WAIT FOR PLAYERS")]
    TooManyGames,
    /// The client's address has asked for more seats than it may for now.
    #[error("TOO MANY NEW GAMES FROM THIS ADDRESS")]
    TooOften,
    /// The server is about to stop and starts nothing new.
    #[error("SERVER IS STOPPING")]
    Stopping,
}

impl Rejection {
    /// The answer's frame.
    pub fn to_json(&self) -> String {
        // No status has a character that JSON escapes.
        format!(r#"{{"PAYLOAD":{{}},"STATUS":"{self}"}}"#)
    }

    /// Which refusal of a move a `STATUS` tells; `None` for any other rejection.
    pub fn refusal(status: &str) -> Option<Refusal> {
        [
            Refusal::UnknownGame,
            Refusal::NotInProgress,
            Refusal::NotAPlayer,
            Refusal::WrongSeat,
            Refusal::OutOfTurn,
            Refusal::EnemyNotInGame,
            Refusal::OneSelf,
            Refusal::EnemyDead,
        ]
        .into_iter()
        .find(|refusal| Self::from(*refusal).to_string() == status)
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownGame => Self::UnknownGame,
            Refusal::NotInProgress => Self::NotInProgress,
            Refusal::NotAPlayer => Self::NotAPlayer,
            Refusal::WrongSeat => Self::WrongSeat,
            Refusal::OutOfTurn => Self::OutOfTurn,
            Refusal::EnemyNotInGame => Self::EnemyNotInGame,
            Refusal::OneSelf => Self::OneSelf,
            Refusal::EnemyDead => Self::EnemyDead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_the_specification_are_spelt_as_there() {
        for (rejection, status) in [
            (Rejection::Missing(Field::Payload), "MISSING PAYLOAD IN MESSAGE"),
            (Rejection::Missing(Field::User), "MISSING USER IN PAYLOAD"),
            (Rejection::Missing(Field::UserToken), "MISSING USER TOKEN IN PAYLOAD"),
            (Rejection::Missing(Field::Participants), "MISSING PARTICIPANTS IN PAYLOAD"),
            (Rejection::Missing(Field::GameToken), "MISSING GAME TOKEN IN PAYLOAD"),
            (Rejection::Missing(Field::EnemyToken), "MISSING ENEMY TOKEN IN PAYLOAD"),
            (Rejection::Missing(Field::Action), "MISSING ACTION IN PAYLOAD"),
            (Rejection::NoHeroes, "LIST OF SUPERHEROS NOT AVAILABLE"),
            (Rejection::WrongType(Field::Payload), "PAYLOAD IN MESSAGE IS NOT AN OBJECT"),
            (Rejection::WrongType(Field::EnemyToken), "ENEMY TOKEN IN PAYLOAD IS NOT A STRING OR NULL"),
            (Rejection::ParticipantsOutside { max: 8 }, "PARTICIPANTS IN PAYLOAD IS NOT FROM 2 TO 8"),
        ] {
            assert_eq!(rejection.to_json(), format!(r#"{{"PAYLOAD":{{}},"STATUS":"{status}"}}"#));
        }
    }

    #[test]
    fn a_refused_move_is_known_by_its_status() {
        for refusal in [Refusal::UnknownGame, Refusal::OutOfTurn, Refusal::EnemyDead] {
            assert_eq!(Rejection::refusal(&Rejection::from(refusal).to_string()), Some(refusal));
        }
        assert_eq!(Rejection::refusal(&Rejection::Stopping.to_string()), None);
    }
}
