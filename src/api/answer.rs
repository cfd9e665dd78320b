//! Answers and pushes: what a server writes and a bot reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use superhero_game::{Fighter, GameToken, HeroId, UserToken};

use crate::{Fault, request};

/// A player's hero, as START and `/api/v1/game/hero` show it. Nobody's has no id, no attack and no health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeroState {
    /// Whose it is.
    pub token: String,
    /// Its number in the roster.
    pub id: Option<HeroId>,
    /// Damage of one attack, in health points.
    pub attack: u64,
    /// Health points left.
    pub health: u64,
}

impl HeroState {
    /// The hero of `user`, `None` if it has none.
    pub fn new(user: impl ToString, fighter: Option<&Fighter>) -> Self {
        Self {
            token: user.to_string(),
            id: fighter.map(|fighter| fighter.hero),
            attack: fighter.map_or(0, |fighter| fighter.attack),
            health: fighter.map_or(0, |fighter| fighter.health),
        }
    }
}

/// The answer to a request that is not carried out.
pub fn fault(fault: &Fault) -> String {
    json(&Frame { timestamp: None, payload: Empty {}, status: Some(fault.to_string()) })
}

/// The first of two answers to the first login of a name.
pub fn user_created() -> String {
    json(&Frame { timestamp: None, payload: Empty {}, status: Some("USER CREATED") })
}

/// The answer to a login.
pub fn logged_in(user: UserToken) -> String {
    json(&Frame { timestamp: None, payload: UserPayload { user }, status: None::<&str> })
}

/// The answer to `find`.
pub fn joined(game: GameToken, hero: HeroId) -> String {
    let status = Joined { joined: "SUCESS" };
    json(&Frame { timestamp: None, payload: SeatPayload { game, hero }, status: Some(status) })
}

/// The answer to `hero`: whose hero was asked for, and what it is.
pub fn hero(asked: &request::Hero, fighter: Option<&Fighter>) -> String {
    let hero = HeroState::new(&asked.user, fighter);
    let payload = HeroPayload { game: &asked.game, user: &asked.user, hero };
    json(&Frame { timestamp: None, payload, status: Some(Game { game: "HERO SPEC" }) })
}

/// Pushed to every player when all seats are taken; `timestamp` as [`superhero_game::format_timestamp`] makes it.
pub fn start(timestamp: &str, game: GameToken, fighters: &BTreeMap<UserToken, Fighter>) -> String {
    let heroes = fighters.iter().map(|(user, fighter)| (*user, HeroState::new(user, Some(fighter)))).collect();
    let payload = StartPayload { game, participants: fighters.keys().copied().collect(), heroes };
    json(&Frame { timestamp: Some(timestamp), payload, status: Some(Game { game: START }) })
}

/// Pushed to the player whose turn it is.
pub fn turn(game: GameToken) -> String {
    json(&Frame { timestamp: None, payload: GamePayload { game }, status: Some(Game { game: TURN }) })
}

/// Pushed to every player at the end.
pub fn complete(game: GameToken) -> String {
    json(&Frame { timestamp: None, payload: GamePayload { game }, status: Some(Game { game: COMPLETE }) })
}

/// Pushed to every player of a game whose seats were not filled in time.
pub fn timed_out(timestamp: &str, game: GameToken) -> String {
    json(&Frame { timestamp: Some(timestamp), payload: GamePayload { game }, status: Some(Game { game: TIMED_OUT }) })
}

/// What a bot reads on `/api/v1/login`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginAnswer {
    /// The name was new; the token follows.
    Created,
    /// The user's token.
    Token(UserToken),
}

/// What a bot reads on `/api/v1/game/find`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindAnswer {
    /// The game.
    pub game: GameToken,
    /// The hero drawn.
    pub hero: HeroId,
}

/// What a bot reads on `/api/v1/game/lobby`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// All seats are taken, by these.
    Start(Vec<UserToken>),
    /// The bot is on turn.
    Turn,
    /// The game is over.
    Complete,
    /// The seats were not filled in time.
    TimedOut,
}

/// Why a bot cannot go on with an answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The server did not carry the request out.
    #[error("the server answered {0:?}")]
    Refused(String),
    /// The text is not an answer of this endpoint.
    #[error("not an answer of this endpoint: {text}")]
    Foreign {
        /// The text, cut to [`SHOWN_CHARACTERS`].
        text: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// How much of a foreign answer an error shows.
pub const SHOWN_CHARACTERS: usize = 200;

const START: &str = "START";
const TURN: &str = "USER'S TURN";
const COMPLETE: &str = "COMPLETE";
const TIMED_OUT: &str = "TIMED OUT";

impl LoginAnswer {
    /// Reads an answer.
    ///
    /// # Errors
    /// A refusal, or text that is no such answer.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(rename = "USER_TOKEN")]
            user: Option<UserToken>,
        }
        let frame: Frame<Token, String> = parse(text)?;
        match (frame.payload.user, frame.status.as_deref()) {
            (Some(user), _) => Ok(Self::Token(user)),
            (None, Some("USER CREATED")) => Ok(Self::Created),
            (None, status) => Err(AnswerError::Refused(status.unwrap_or_default().to_owned())),
        }
    }
}

impl FindAnswer {
    /// Reads an answer.
    ///
    /// # Errors
    /// A refusal, or text that is no such answer.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        let frame: Frame<SeatPayload, serde_json::Value> = parse(text)?;
        Ok(Self { game: frame.payload.game, hero: frame.payload.hero })
    }
}

impl HeroState {
    /// Reads an answer of `/api/v1/game/hero`.
    ///
    /// # Errors
    /// A refusal, or text that is no such answer.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "HERO")]
            hero: HeroState,
        }
        let frame: Frame<Payload, serde_json::Value> = parse(text)?;
        Ok(frame.payload.hero)
    }
}

impl Push {
    /// Reads a push.
    ///
    /// # Errors
    /// A refusal, or text that is no such push.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "PARTICIPANTS", default)]
            participants: Vec<UserToken>,
        }
        #[derive(Deserialize)]
        struct Status {
            #[serde(rename = "GAME")]
            game: String,
        }
        let frame: Frame<Payload, Status> = parse(text)?;
        let status = frame.status.map(|status| status.game).unwrap_or_default();
        match status.as_str() {
            START => Ok(Self::Start(frame.payload.participants)),
            TURN => Ok(Self::Turn),
            COMPLETE => Ok(Self::Complete),
            TIMED_OUT => Ok(Self::TimedOut),
            _ => Err(AnswerError::Refused(status)),
        }
    }
}

/// Reads the answer to an attack: `Ok` if the server carried it out.
///
/// # Errors
/// A refusal, or text that is no such answer.
pub fn parse_attack(text: &str) -> Result<(), AnswerError> {
    #[derive(Deserialize)]
    struct Payload {
        #[serde(rename = "GAME_TOKEN")]
        _game: GameToken,
    }
    parse::<Payload, serde_json::Value>(text).map(drop)
}

/// An answer's frame, or the refusal that stands in its place: a status that is a text beside an empty payload.
fn parse<'a, P: Deserialize<'a>, S: Deserialize<'a>>(text: &'a str) -> Result<Frame<'a, P, S>, AnswerError> {
    serde_json::from_str(text).map_err(|source| match serde_json::from_str(text) {
        Ok(Frame::<Empty, String> { status: Some(status), .. }) => AnswerError::Refused(status),
        _ => AnswerError::Foreign { text: text.chars().take(SHOWN_CHARACTERS).collect(), source },
    })
}

fn json(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).expect("strings, numbers and tokens always serialise")
}

#[derive(Serialize, Deserialize)]
struct Frame<'a, P, S> {
    #[serde(rename = "TIMESTAMP", skip_serializing_if = "Option::is_none", skip_deserializing)]
    timestamp: Option<&'a str>,
    #[serde(rename = "PAYLOAD")]
    payload: P,
    #[serde(rename = "STATUS", skip_serializing_if = "Option::is_none", default = "Option::default")]
    status: Option<S>,
}

#[derive(Serialize, Deserialize)]
struct Empty {}

#[derive(Serialize)]
struct UserPayload {
    #[serde(rename = "USER_TOKEN")]
    user: UserToken,
}

#[derive(Serialize, Deserialize)]
struct SeatPayload {
    #[serde(rename = "GAME_TOKEN")]
    game: GameToken,
    #[serde(rename = "HERO_ID")]
    hero: HeroId,
}

#[derive(Serialize)]
struct HeroPayload<'a> {
    #[serde(rename = "GAME_TOKEN")]
    game: &'a str,
    #[serde(rename = "USER_TOKEN")]
    user: &'a str,
    #[serde(rename = "HERO")]
    hero: HeroState,
}

#[derive(Serialize)]
struct StartPayload {
    #[serde(rename = "GAME_TOKEN")]
    game: GameToken,
    #[serde(rename = "PARTICIPANTS")]
    participants: Vec<UserToken>,
    #[serde(rename = "PARTICIPANTS_HEROS")]
    heroes: BTreeMap<UserToken, HeroState>,
}

#[derive(Serialize)]
struct GamePayload {
    #[serde(rename = "GAME_TOKEN")]
    game: GameToken,
}

#[derive(Serialize)]
struct Joined {
    #[serde(rename = "JOINED")]
    joined: &'static str,
}

#[derive(Serialize)]
struct Game {
    #[serde(rename = "GAME")]
    game: &'static str,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const G: &str = "8c8fd1e4-3f64-4b5c-9c9a-0d9ed0f9a000";
    const U: &str = "8c8fd1e4-3f64-4b5c-9c9a-0d9ed0f9a001";

    fn game() -> GameToken {
        G.parse().unwrap()
    }

    fn user() -> UserToken {
        U.parse().unwrap()
    }

    fn fighter() -> Fighter {
        Fighter { hero: HeroId(70), attack: 12, health: 500 }
    }

    #[test]
    fn answers_stand_on_the_wire_as_the_reference_writes_them() {
        let asked = request::Hero { game: G.to_owned(), user: U.to_owned() };
        let fighters = BTreeMap::from([(user(), fighter())]);
        let cases = [
            (fault(&Fault::MissingPayload), r#"{"PAYLOAD":{},"STATUS":"MISSING PAYLOAD IN MESSAGE"}"#.to_owned()),
            (user_created(), r#"{"PAYLOAD":{},"STATUS":"USER CREATED"}"#.to_owned()),
            (logged_in(user()), format!(r#"{{"PAYLOAD":{{"USER_TOKEN":"{U}"}}}}"#)),
            (
                joined(game(), HeroId(70)),
                format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{G}","HERO_ID":70}},"STATUS":{{"JOINED":"SUCESS"}}}}"#),
            ),
            (
                hero(&asked, Some(&fighter())),
                format!(
                    r#"{{"PAYLOAD":{{"GAME_TOKEN":"{G}","USER_TOKEN":"{U}","HERO":{{"token":"{U}","id":70,"attack":12,"health":500}}}},"STATUS":{{"GAME":"HERO SPEC"}}}}"#
                ),
            ),
            (
                hero(&asked, None),
                format!(
                    r#"{{"PAYLOAD":{{"GAME_TOKEN":"{G}","USER_TOKEN":"{U}","HERO":{{"token":"{U}","id":null,"attack":0,"health":0}}}},"STATUS":{{"GAME":"HERO SPEC"}}}}"#
                ),
            ),
            (
                start("T", game(), &fighters),
                format!(
                    r#"{{"TIMESTAMP":"T","PAYLOAD":{{"GAME_TOKEN":"{G}","PARTICIPANTS":["{U}"],"PARTICIPANTS_HEROS":{{"{U}":{{"token":"{U}","id":70,"attack":12,"health":500}}}}}},"STATUS":{{"GAME":"START"}}}}"#
                ),
            ),
            (turn(game()), format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{G}"}},"STATUS":{{"GAME":"USER'S TURN"}}}}"#)),
            (complete(game()), format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{G}"}},"STATUS":{{"GAME":"COMPLETE"}}}}"#)),
            (
                timed_out("T", game()),
                format!(r#"{{"TIMESTAMP":"T","PAYLOAD":{{"GAME_TOKEN":"{G}"}},"STATUS":{{"GAME":"TIMED OUT"}}}}"#),
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_a_server_writes_a_bot_reads() {
        assert_eq!(LoginAnswer::parse(&user_created()).unwrap(), LoginAnswer::Created);
        assert_eq!(LoginAnswer::parse(&logged_in(user())).unwrap(), LoginAnswer::Token(user()));
        let answer = FindAnswer::parse(&joined(game(), HeroId(70))).unwrap();
        assert_eq!(answer, FindAnswer { game: game(), hero: HeroId(70) });
        let asked = request::Hero { game: G.to_owned(), user: U.to_owned() };
        let state = HeroState::parse(&hero(&asked, Some(&fighter()))).unwrap();
        assert_eq!(state, HeroState::new(user(), Some(&fighter())));
        let fighters = BTreeMap::from([(user(), fighter())]);
        let pushes = [
            (start("T", game(), &fighters), Push::Start(vec![user()])),
            (turn(game()), Push::Turn),
            (complete(game()), Push::Complete),
            (timed_out("T", game()), Push::TimedOut),
        ];
        for (frame, push) in pushes {
            assert_eq!(Push::parse(&frame).unwrap(), push);
        }
    }

    #[test]
    fn a_refusal_is_told_from_foreign_text() {
        let refusal = fault(&Fault::UnknownUser);
        let refused = |error: AnswerError| matches!(error, AnswerError::Refused(status) if status == "UNKNOWN USER");
        assert!(refused(LoginAnswer::parse(&refusal).unwrap_err()));
        assert!(refused(FindAnswer::parse(&refusal).unwrap_err()));
        assert!(refused(HeroState::parse(&refusal).unwrap_err()));
        assert!(refused(Push::parse(&refusal).unwrap_err()));
        assert!(refused(parse_attack(&refusal).unwrap_err()));
        assert!(matches!(Push::parse("hello"), Err(AnswerError::Foreign { .. })));
    }

    #[test]
    fn an_answer_with_a_timestamp_is_read() {
        let record = format!(
            r#"{{"TIMESTAMP":"2026-11-22T18:15:21.101031","PAYLOAD":{{"GAME_TOKEN":"{G}","USER_TOKEN":"{U}"}},"STATUS":{{"ACTION":"ATTACK"}}}}"#
        );
        assert!(parse_attack(&record).is_ok());
    }
}
