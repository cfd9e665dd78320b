//! Answers to single requests, and how any frame from a server is told from a rejection.

use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use superhero_game::{Fighter, GameToken, HeroId, SeatSecret, UserToken};

use crate::request::seat_field;

/// The status of the extra answer to the first login of a name.
const USER_CREATED: &str = "USER CREATED";

/// An answer to a login: the first of a name is answered twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginAnswer {
    /// The name was new; the token follows in a frame of its own.
    Created,
    /// The user's token.
    Token(UserToken),
}

impl LoginAnswer {
    /// The answer's frame.
    pub fn to_json(&self) -> String {
        match self {
            Self::Created => format!(r#"{{"PAYLOAD":{{}},"STATUS":"{USER_CREATED}"}}"#),
            Self::Token(user) => format!(r#"{{"PAYLOAD":{{"USER_TOKEN":"{user}"}}}}"#),
        }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// A rejection, or a frame that is no such answer.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "USER_TOKEN")]
            user: UserToken,
        }

        let frame = match Frame::parse(text) {
            Err(AnswerError::Rejected(status)) if status == USER_CREATED => return Ok(Self::Created),
            frame => frame?,
        };
        let Payload { user } = frame.payload()?;
        Ok(Self::Token(user))
    }
}

/// The answer to a find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindAnswer {
    /// The game in which the user has a seat now.
    pub game: GameToken,
    /// The hero that it drew.
    pub hero: HeroId,
    /// The secret of the seat; a server that knows of none leaves it out.
    pub seat: Option<SeatSecret>,
}

impl FindAnswer {
    /// The answer's frame; "SUCESS" is how the specification spells it.
    pub fn to_json(&self) -> String {
        let Self { game, hero, seat } = self;
        let seat = seat_field(*seat);
        format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{game}","HERO_ID":{hero}{seat}}},"STATUS":{{"JOINED":"SUCESS"}}}}"#)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// A rejection, or a frame that is no such answer.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "GAME_TOKEN")]
            game: GameToken,
            #[serde(rename = "HERO_ID")]
            hero: Number,
            #[serde(rename = "SEAT", default)]
            seat: serde_json::Value,
        }

        let Payload { game, hero, seat } = Frame::parse(text)?.payload()?;
        // What another server may mean by the name is not ours to know.
        let seat = seat.as_str().and_then(|seat| seat.parse().ok());
        Ok(Self { game, hero: hero.hero()?, seat })
    }
}

/// The answer to the question for a player's hero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeroAnswer {
    /// The game that was asked for.
    pub game: GameToken,
    /// The player that was asked for.
    pub user: UserToken,
    /// Its hero; `None` when no such player is known.
    pub fighter: Option<Fighter>,
}

impl HeroAnswer {
    /// The answer's frame.
    pub fn to_json(&self) -> String {
        let Self { game, user, fighter } = self;
        let hero = HeroText { user: *user, fighter: *fighter };
        format!(
            r#"{{"PAYLOAD":{{"GAME_TOKEN":"{game}","USER_TOKEN":"{user}","HERO":{hero}}},"STATUS":{{"GAME":"HERO SPEC"}}}}"#
        )
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// A rejection, or a frame that is no such answer.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "GAME_TOKEN")]
            game: GameToken,
            #[serde(rename = "USER_TOKEN")]
            user: UserToken,
            #[serde(rename = "HERO")]
            hero: HeroWire,
        }

        let Payload { game, user, hero } = Frame::parse(text)?.payload()?;
        Ok(Self { game, user, fighter: hero.fighter()? })
    }
}

/// The answer to an action: of an [`AttackRecord`](superhero_game::AttackRecord) what a player needs, and nothing that a server
/// might write in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionAnswer {
    /// The enemy was hit.
    Attack {
        /// What is left of it.
        enemy_health: u64,
    },
    /// There was nobody to hit.
    NotAvailable,
}

impl ActionAnswer {
    /// Reads an answer.
    ///
    /// # Errors
    /// A rejection, or a frame that is no such answer.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        #[derive(Deserialize)]
        struct Status {
            #[serde(rename = "ACTION")]
            action: Action,
            #[serde(rename = "DETAILS")]
            details: Details,
        }
        #[derive(Deserialize)]
        enum Action {
            #[serde(rename = "ATTACK")]
            Attack,
            #[serde(rename = "NA")]
            NotAvailable,
        }
        #[derive(Deserialize)]
        struct Details {
            #[serde(rename = "ENEMY_HEALTH_POST")]
            enemy_health: Option<Number>,
        }

        let Status { action, details } = Frame::parse(text)?.status()?;
        Ok(match (action, details.enemy_health) {
            (Action::Attack, Some(Number(enemy_health))) => Self::Attack { enemy_health },
            (Action::Attack, None) => return Err(serde_json::Error::missing_field("ENEMY_HEALTH_POST").into()),
            (Action::NotAvailable, _) => Self::NotAvailable,
        })
    }
}

/// Why a frame from the server is not the answer that was expected.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The request was not taken; the `STATUS` that says why, which is some [`Rejection`](crate::Rejection)'s text
    /// when the server is ours.
    #[error("rejected by the server: {0}")]
    Rejected(String),
    /// Not JSON, or a field is missing or of another type.
    #[error("not the answer expected: {0}")]
    Json(#[from] serde_json::Error),
}

/// A frame from the server, its parts not yet read.
#[derive(Deserialize)]
pub(crate) struct Frame<'a> {
    #[serde(rename = "PAYLOAD", borrow)]
    payload: &'a RawValue,
    #[serde(rename = "STATUS", borrow)]
    status: Option<&'a RawValue>,
}

impl<'a> Frame<'a> {
    /// Reads a frame that is not a rejection.
    pub(crate) fn parse(text: &'a str) -> Result<Self, AnswerError> {
        let frame: Self = serde_json::from_str(text)?;
        match frame.status.map(|status| serde_json::from_str(status.get())) {
            Some(Ok(status)) => Err(AnswerError::Rejected(status)),
            // A status that is not a text belongs to the answer.
            Some(Err(_)) | None => Ok(frame),
        }
    }

    pub(crate) fn payload<T: Deserialize<'a>>(&self) -> Result<T, AnswerError> {
        Ok(serde_json::from_str(self.payload.get())?)
    }

    pub(crate) fn status<T: Deserialize<'a>>(&self) -> Result<T, AnswerError> {
        Ok(serde_json::from_str(self.status.map_or("null", RawValue::get))?)
    }
}

/// Writes a hero as the hero endpoint and the start of a game tell it.
pub(crate) struct HeroText {
    pub(crate) user: UserToken,
    pub(crate) fighter: Option<Fighter>,
}

impl fmt::Display for HeroText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"{{"token":"{}","id":"#, self.user)?;
        match self.fighter {
            Some(Fighter { hero, attack, health }) => {
                write!(f, r#"{hero},"attack":{attack},"health":{health}}}"#)
            }
            None => f.write_str(r#"null,"attack":0,"health":0}"#),
        }
    }
}

/// Reads what [`HeroText`] wrote. Whatever is left out counts as null or 0, since nothing but the health is relied on.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(crate) struct HeroWire {
    id: Option<Number>,
    attack: Number,
    health: Number,
}

impl HeroWire {
    pub(crate) fn fighter(&self) -> Result<Option<Fighter>, AnswerError> {
        let fighter = |id: &Number| Ok(Fighter { hero: id.hero()?, attack: self.attack.0, health: self.health.0 });
        self.id.as_ref().map(fighter).transpose()
    }
}

/// A JSON integer, or a text of one: Redis keeps texts, and not every server makes numbers of them.
#[derive(Default)]
struct Number(u64);

impl Number {
    fn hero(&self) -> Result<HeroId, AnswerError> {
        let id = u32::try_from(self.0).map_err(serde_json::Error::custom)?;
        Ok(HeroId(id))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;

        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(NumberVisitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use superhero_game::{Action, AttackRecord};

    use super::*;
    use crate::Rejection;

    const GAME: &str = "6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11";
    const USER: &str = "00000000-0000-0000-0000-000000000002";

    fn game() -> GameToken {
        GAME.parse().unwrap()
    }

    fn user() -> UserToken {
        USER.parse().unwrap()
    }

    #[test]
    fn login_answers_are_those_of_the_specification() {
        let token = LoginAnswer::Token(user());
        for (answer, json) in [
            (LoginAnswer::Created, r#"{"PAYLOAD":{},"STATUS":"USER CREATED"}"#.to_owned()),
            (token, format!(r#"{{"PAYLOAD":{{"USER_TOKEN":"{USER}"}}}}"#)),
        ] {
            assert_eq!(answer.to_json(), json);
            assert_eq!(LoginAnswer::parse(&json).unwrap(), answer);
        }
        let spaced = format!(r#"{{"PAYLOAD": {{"USER_TOKEN": "{USER}"}}, "STATUS": null}}"#);
        assert_eq!(LoginAnswer::parse(&spaced).unwrap(), token);
    }

    #[test]
    fn find_answers_are_those_of_the_specification() {
        let answer = FindAnswer { game: game(), hero: HeroId(70), seat: None };
        let json = format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{GAME}","HERO_ID":70}},"STATUS":{{"JOINED":"SUCESS"}}}}"#);
        assert_eq!(answer.to_json(), json);
        assert_eq!(FindAnswer::parse(&json).unwrap(), answer);
        assert_eq!(FindAnswer::parse(&json.replace("70", "\"70\"")).unwrap(), answer);
        assert_eq!(FindAnswer::parse(&json.replace("70", r#"70,"SEAT":[1]"#)).unwrap(), answer);
        let answer = FindAnswer { seat: Some(USER.parse().unwrap()), ..answer };
        let json = json.replace("70", &format!(r#"70,"SEAT":"{USER}""#));
        assert_eq!(answer.to_json(), json);
        assert_eq!(FindAnswer::parse(&json).unwrap(), answer);
        assert!(!format!("{answer:?}").contains(USER), "a secret is shown");
    }

    #[test]
    fn hero_answers_are_those_of_the_specification() {
        let fighter = Fighter { hero: HeroId(70), attack: 5, health: 9 };
        for (fighter, hero) in [
            (Some(fighter), format!(r#"{{"token":"{USER}","id":70,"attack":5,"health":9}}"#)),
            (None, format!(r#"{{"token":"{USER}","id":null,"attack":0,"health":0}}"#)),
        ] {
            let answer = HeroAnswer { game: game(), user: user(), fighter };
            let json = format!(
                r#"{{"PAYLOAD":{{"GAME_TOKEN":"{GAME}","USER_TOKEN":"{USER}","HERO":{hero}}},"STATUS":{{"GAME":"HERO SPEC"}}}}"#
            );
            assert_eq!(answer.to_json(), json);
            assert_eq!(HeroAnswer::parse(&json).unwrap(), answer);
        }
    }

    #[test]
    fn a_rejection_is_told_from_an_answer() {
        let rejection = Rejection::OutOfTurn;
        let status = |error: AnswerError| match error {
            AnswerError::Rejected(status) => status,
            other => panic!("{other}"),
        };
        let json = rejection.to_json();
        assert_eq!(status(LoginAnswer::parse(&json).unwrap_err()), rejection.to_string());
        assert_eq!(status(FindAnswer::parse(&json).unwrap_err()), rejection.to_string());
        assert_eq!(status(HeroAnswer::parse(&json).unwrap_err()), rejection.to_string());
        assert_eq!(status(ActionAnswer::parse(&json).unwrap_err()), rejection.to_string());
    }

    #[test]
    fn of_an_attack_record_only_what_a_player_needs_is_read() {
        let (timestamp, attack) =
            (DateTime::UNIX_EPOCH, Action::Attack { enemy: user(), damage: 5, health_prior: 9, health_post: 4 });
        let record = AttackRecord { timestamp, game: game(), user: user(), action: attack }.to_json();
        let expected = ActionAnswer::Attack { enemy_health: 4 };
        assert_eq!(ActionAnswer::parse(&record).unwrap(), expected);
        let other = r#"{"TIMESTAMP": 1795371321.5, "PAYLOAD": {}, "STATUS": {"ACTION": "ATTACK", "DETAILS": {"ENEMY_HEALTH_POST": "4"}}}"#;
        assert_eq!(ActionAnswer::parse(other).unwrap(), expected);
        let nobody = AttackRecord { timestamp, game: game(), user: user(), action: Action::NotAvailable }.to_json();
        assert_eq!(ActionAnswer::parse(&nobody).unwrap(), ActionAnswer::NotAvailable);
        let error = ActionAnswer::parse(&record.replace("POST", "AFTER")).unwrap_err().to_string();
        assert!(error.contains("missing field `ENEMY_HEALTH_POST`"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), json in r#"[\[\]{}:,"A-Z0-9_ ]{0,60}"#) {
            for text in [text, format!(r#"{{"PAYLOAD":{json}}}"#), json] {
                let _ = LoginAnswer::parse(&text);
                let _ = FindAnswer::parse(&text);
                let _ = HeroAnswer::parse(&text);
                let _ = ActionAnswer::parse(&text);
            }
        }
    }
}
