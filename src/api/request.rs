//! Requests: what a bot writes and a server reads.

use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};
use superhero_game::{GameToken, Refusal, UserToken};

use crate::Fault;

/// The longest user name, in bytes.
pub const MAX_USER_BYTES: usize = 256;

/// `/api/v1/login`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Login {
    /// The user's name.
    #[serde(rename = "USER")]
    pub user: String,
}

/// `/api/v1/game/find`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Find {
    /// Who looks for a game.
    #[serde(rename = "USER_TOKEN")]
    pub user: UserToken,
    /// How many players it shall have.
    #[serde(rename = "PARTICIPANTS")]
    pub participants: u32,
}

/// `/api/v1/game/lobby`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lobby {
    /// The game.
    #[serde(rename = "GAME_TOKEN")]
    pub game: GameToken,
    /// Who wants to be told of it.
    #[serde(rename = "USER_TOKEN")]
    pub user: UserToken,
}

/// `/api/v1/game/hero`: the tokens are kept as they came, since those of nobody are answered with themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hero {
    /// The game.
    #[serde(rename = "GAME_TOKEN")]
    pub game: String,
    /// Whose hero, anybody's.
    #[serde(rename = "USER_TOKEN")]
    pub user: String,
}

impl Hero {
    /// The tokens, if they can be some at all.
    pub fn tokens(&self) -> Option<(GameToken, UserToken)> {
        Some((self.game.parse().ok()?, self.user.parse().ok()?))
    }
}

/// `/api/v1/game/action`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Attack {
    /// The game.
    #[serde(rename = "GAME_TOKEN")]
    pub game: GameToken,
    /// Who attacks.
    #[serde(rename = "USER_TOKEN")]
    pub user: UserToken,
    /// Who is attacked; `None` when the attacker found nobody alive.
    #[serde(rename = "ENEMY_TOKEN")]
    pub enemy: Option<UserToken>,
}

const USER: (&str, &str) = ("USER", "USER");
const USER_TOKEN: (&str, &str) = ("USER_TOKEN", "USER TOKEN");
const GAME_TOKEN: (&str, &str) = ("GAME_TOKEN", "GAME TOKEN");
const ENEMY_TOKEN: (&str, &str) = ("ENEMY_TOKEN", "ENEMY TOKEN");
const PARTICIPANTS: (&str, &str) = ("PARTICIPANTS", "PARTICIPANTS");
const ACTION: (&str, &str) = ("ACTION", "ACTION");
const ATTACK: &str = "ATTACK";

impl Login {
    /// Reads a request.
    ///
    /// # Errors
    /// The [`Fault`] to answer with.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let user = payload(text)?.text(USER)?;
        if user.is_empty() || user.len() > MAX_USER_BYTES {
            return Err(Fault::UserLength { limit: MAX_USER_BYTES });
        }
        Ok(Self { user })
    }

    /// The frame to send.
    pub fn to_json(&self) -> String {
        frame(self)
    }
}

impl Find {
    /// Reads a request for a game of at most `limit` players.
    ///
    /// # Errors
    /// The [`Fault`] to answer with.
    pub fn parse(text: &str, limit: u32) -> Result<Self, Fault> {
        let payload = payload(text)?;
        let user = payload.text(USER_TOKEN)?;
        let asked = payload
            .field(PARTICIPANTS)?
            .as_i64()
            .ok_or(Fault::WrongType { field: PARTICIPANTS.1, expected: "AN INTEGER" })?;
        let participants = u32::try_from(asked).ok().filter(|asked| (2..=limit).contains(asked));
        let participants = participants.ok_or(Fault::Participants { asked, limit })?;
        Ok(Self { user: user.parse().map_err(|_| Fault::UnknownUser)?, participants })
    }

    /// The frame to send.
    pub fn to_json(&self) -> String {
        frame(self)
    }
}

impl Lobby {
    /// Reads a request.
    ///
    /// # Errors
    /// The [`Fault`] to answer with.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let payload = payload(text)?;
        let (game, user) = (payload.text(GAME_TOKEN)?, payload.text(USER_TOKEN)?);
        Ok(Self { game: known(&game, Refusal::UnknownGame)?, user: known(&user, Refusal::NotAPlayer)? })
    }

    /// The frame to send.
    pub fn to_json(&self) -> String {
        frame(self)
    }
}

impl Hero {
    /// Reads a request.
    ///
    /// # Errors
    /// The [`Fault`] to answer with.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let payload = payload(text)?;
        Ok(Self { game: payload.text(GAME_TOKEN)?, user: payload.text(USER_TOKEN)? })
    }

    /// The frame to send.
    pub fn to_json(&self) -> String {
        frame(self)
    }
}

impl Attack {
    /// Reads a request.
    ///
    /// # Errors
    /// The [`Fault`] to answer with.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let payload = payload(text)?;
        let (game, user) = (payload.text(GAME_TOKEN)?, payload.text(USER_TOKEN)?);
        let enemy = match payload.field(ENEMY_TOKEN)? {
            Value::Null => None,
            Value::String(enemy) => Some(enemy.clone()),
            _ => return Err(Fault::WrongType { field: ENEMY_TOKEN.1, expected: "A STRING OR NULL" }),
        };
        if payload.text(ACTION)? != ATTACK {
            return Err(Fault::UnknownAction);
        }
        Ok(Self {
            game: known(&game, Refusal::UnknownGame)?,
            user: known(&user, Refusal::NotAPlayer)?,
            enemy: enemy.map(|enemy| known(&enemy, Refusal::EnemyNotInGame)).transpose()?,
        })
    }

    /// The frame to send.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct WithAction<'a> {
            #[serde(flatten)]
            attack: &'a Attack,
            #[serde(rename = "ACTION")]
            action: &'static str,
        }
        frame(&WithAction { attack: self, action: ATTACK })
    }
}

struct Payload(Map<String, Value>);

impl Payload {
    /// A field by its name on the wire and in faults.
    fn field(&self, (name, said): (&str, &'static str)) -> Result<&Value, Fault> {
        self.0.get(name).ok_or(Fault::Missing(said))
    }

    fn text(&self, field: (&str, &'static str)) -> Result<String, Fault> {
        match self.field(field)? {
            Value::String(text) => Ok(text.clone()),
            _ => Err(Fault::WrongType { field: field.1, expected: "A STRING" }),
        }
    }
}

fn payload(text: &str) -> Result<Payload, Fault> {
    let Ok(Value::Object(mut message)) = serde_json::from_str(text) else { return Err(Fault::NotJson) };
    match message.remove("PAYLOAD") {
        None => Err(Fault::MissingPayload),
        Some(Value::Object(payload)) => Ok(Payload(payload)),
        Some(_) => Err(Fault::WrongType { field: "PAYLOAD", expected: "AN OBJECT" }),
    }
}

/// A token, or the refusal that one gets which nobody has.
fn known<T: FromStr>(token: &str, stranger: Refusal) -> Result<T, Fault> {
    token.parse().map_err(|_| Fault::Refused(stranger))
}

fn frame(payload: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Frame<'a, T> {
        #[serde(rename = "PAYLOAD")]
        payload: &'a T,
    }
    serde_json::to_string(&Frame { payload }).expect("strings and numbers always serialise")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const A: &str = "8c8fd1e4-3f64-4b5c-9c9a-0d9ed0f9a001";
    const B: &str = "8c8fd1e4-3f64-4b5c-9c9a-0d9ed0f9a002";

    fn status<T: std::fmt::Debug>(answer: Result<T, Fault>) -> String {
        answer.unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            (status(Login::parse("{}")), "MISSING PAYLOAD IN MESSAGE"),
            (status(Login::parse(r#"{"PAYLOAD":{}}"#)), "MISSING USER IN PAYLOAD"),
            (status(Find::parse(r#"{"PAYLOAD":{}}"#, 3)), "MISSING USER TOKEN IN PAYLOAD"),
            (status(Find::parse(r#"{"PAYLOAD":{"USER_TOKEN":"u"}}"#, 3)), "MISSING PARTICIPANTS IN PAYLOAD"),
            (status(Lobby::parse(r#"{"PAYLOAD":{}}"#)), "MISSING GAME TOKEN IN PAYLOAD"),
            (status(Hero::parse(r#"{"PAYLOAD":{"GAME_TOKEN":"g"}}"#)), "MISSING USER TOKEN IN PAYLOAD"),
            (
                status(Attack::parse(r#"{"PAYLOAD":{"GAME_TOKEN":"g","USER_TOKEN":"u"}}"#)),
                "MISSING ENEMY TOKEN IN PAYLOAD",
            ),
            (
                status(Attack::parse(r#"{"PAYLOAD":{"GAME_TOKEN":"g","USER_TOKEN":"u","ENEMY_TOKEN":null}}"#)),
                "MISSING ACTION IN PAYLOAD",
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let find = |participants: &str| {
            status(Find::parse(&format!(r#"{{"PAYLOAD":{{"USER_TOKEN":"{A}","PARTICIPANTS":{participants}}}}}"#), 10))
        };
        let attack = |enemy: &str, action: &str| {
            status(Attack::parse(&format!(
                r#"{{"PAYLOAD":{{"GAME_TOKEN":"{A}","USER_TOKEN":"{A}","ENEMY_TOKEN":{enemy},"ACTION":{action}}}}}"#
            )))
        };
        let cases = [
            (status(Login::parse("hello")), "MESSAGE IS NOT A JSON OBJECT"),
            (status(Login::parse("[]")), "MESSAGE IS NOT A JSON OBJECT"),
            (status(Login::parse(r#"{"PAYLOAD":1}"#)), "PAYLOAD IS NOT AN OBJECT"),
            (status(Login::parse(r#"{"PAYLOAD":{"USER":1}}"#)), "USER IS NOT A STRING"),
            (status(Login::parse(r#"{"PAYLOAD":{"USER":""}}"#)), "USER IS NOT OF 1 TO 256 BYTES"),
            (find("\"3\""), "PARTICIPANTS IS NOT AN INTEGER"),
            (find("2.5"), "PARTICIPANTS IS NOT AN INTEGER"),
            (find("1"), "PARTICIPANTS IS 1, NOT OF 2 TO 10"),
            (find("-5"), "PARTICIPANTS IS -5, NOT OF 2 TO 10"),
            (find("4294967298"), "PARTICIPANTS IS 4294967298, NOT OF 2 TO 10"),
            (status(Find::parse(r#"{"PAYLOAD":{"USER_TOKEN":"u","PARTICIPANTS":2}}"#, 3)), "UNKNOWN USER"),
            (status(Lobby::parse(r#"{"PAYLOAD":{"GAME_TOKEN":"g","USER_TOKEN":"u"}}"#)), "UNKNOWN GAME"),
            (attack("1", "\"ATTACK\""), "ENEMY TOKEN IS NOT A STRING OR NULL"),
            (attack("null", "\"RUN\""), "ACTION IS NOT ATTACK"),
            (attack("\"e\"", "\"ATTACK\""), "ENEMY IS NOT IN GAME"),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_a_bot_writes_a_server_reads() {
        let (a, b) = (A.parse().unwrap(), B.parse().unwrap());
        let (game, user) = (A.parse().unwrap(), a);
        let login = Login { user: "USER007".to_owned() };
        assert_eq!(Login::parse(&login.to_json()), Ok(login));
        let find = Find { user, participants: 3 };
        assert_eq!(Find::parse(&find.to_json(), 3), Ok(find));
        let lobby = Lobby { game, user };
        assert_eq!(Lobby::parse(&lobby.to_json()), Ok(lobby));
        let hero = Hero { game: A.to_owned(), user: B.to_owned() };
        assert_eq!(hero.tokens(), Some((game, b)));
        assert_eq!(Hero::parse(&hero.to_json()), Ok(hero));
        for enemy in [None, Some(b)] {
            let attack = Attack { game, user, enemy };
            assert_eq!(Attack::parse(&attack.to_json()), Ok(attack));
        }
        assert_eq!(
            Attack { game, user, enemy: Some(b) }.to_json(),
            format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{A}","USER_TOKEN":"{A}","ENEMY_TOKEN":"{B}","ACTION":"ATTACK"}}}}"#)
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_be_answered(text in ".{0,200}", inner in ".{0,40}") {
            let wrapped = format!("{{\"PAYLOAD\":{{\"USER\":{inner},\"USER_TOKEN\":\"{inner}\",\"PARTICIPANTS\":{inner}}}}}");
            for text in [&text, &wrapped] {
                let _ = (Login::parse(text), Find::parse(text, 3), Lobby::parse(text), Hero::parse(text), Attack::parse(text));
            }
        }
    }
}
