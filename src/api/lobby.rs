//! The lobby's pushes: what a player is told of its game.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use superhero_game::{Fighter, GameToken, TimestampText, UserToken};

use crate::AnswerError;
use crate::answer::{Frame, HeroText};

/// One push of a lobby.
///
/// A stream of them has [`Start`](Self::Start), then [`Turn`](Self::Turn) for each turn of the player, then
/// [`Complete`](Self::Complete); or [`TimedOut`](Self::TimedOut) alone. Timestamps are the texts of [`TimestampText`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LobbyPush {
    /// All seats are taken.
    Start {
        /// When.
        timestamp: DateTime<Utc>,
        /// The game.
        game: GameToken,
        /// Everybody who plays, and with which hero.
        fighters: BTreeMap<UserToken, Fighter>,
    },
    /// The player is on turn.
    Turn {
        /// The game.
        game: GameToken,
    },
    /// The game is over.
    Complete {
        /// The game.
        game: GameToken,
    },
    /// The seats were not filled in time; there will be no game.
    TimedOut {
        /// When.
        timestamp: DateTime<Utc>,
        /// The game.
        game: GameToken,
    },
}

impl LobbyPush {
    /// The push's frame.
    pub fn to_json(&self) -> String {
        match self {
            Self::Start { timestamp, game, fighters } => start(*timestamp, *game, fighters),
            Self::Turn { game } => {
                format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{game}"}},"STATUS":{{"GAME":"USER'S TURN"}}}}"#)
            }
            Self::Complete { game } => {
                format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{game}"}},"STATUS":{{"GAME":"COMPLETE"}}}}"#)
            }
            Self::TimedOut { timestamp, game } => format!(
                r#"{{"TIMESTAMP":"{}","PAYLOAD":{{"GAME_TOKEN":"{game}"}},"STATUS":{{"GAME":"TIMED OUT"}}}}"#,
                TimestampText::new(*timestamp)
            ),
        }
    }
}

/// Of a [`LobbyPush`] what a player needs, and nothing that a server might write in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LobbyNews {
    /// All seats are taken.
    Start {
        /// Everybody who plays; a user who has several seats stands here once.
        participants: BTreeSet<UserToken>,
    },
    /// The player is on turn; some servers say so again and again until its action comes.
    Turn,
    /// The game is over.
    Complete,
    /// The seats were not filled in time; there will be no game.
    TimedOut,
}

impl LobbyNews {
    /// Reads a push.
    ///
    /// # Errors
    /// A rejection of the request for the lobby, or a frame that is no push.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        let frame = Frame::parse(text)?;
        let Status { game: status } = frame.status()?;
        Ok(match status {
            Stage::Start => Self::Start { participants: frame.payload::<Started>()?.participants },
            Stage::Turn => Self::Turn,
            Stage::Complete => Self::Complete,
            Stage::TimedOut => Self::TimedOut,
        })
    }
}

fn start(timestamp: DateTime<Utc>, game: GameToken, fighters: &BTreeMap<UserToken, Fighter>) -> String {
    let timestamp = TimestampText::new(timestamp);
    let mut json = format!(r#"{{"TIMESTAMP":"{timestamp}","PAYLOAD":{{"GAME_TOKEN":"{game}","PARTICIPANTS":["#);
    let mut push = |part: std::fmt::Arguments<'_>| json.write_fmt(part).expect("a String takes all that is written");
    for (at, user) in fighters.keys().enumerate() {
        let separator = if at == 0 { "" } else { "," };
        push(format_args!(r#"{separator}"{user}""#));
    }
    push(format_args!(r#"],"PARTICIPANTS_HEROS":{{"#));
    for (at, (user, fighter)) in fighters.iter().enumerate() {
        let separator = if at == 0 { "" } else { "," };
        let hero = HeroText { user: *user, fighter: Some(*fighter) };
        push(format_args!(r#"{separator}"{user}":{hero}"#));
    }
    push(format_args!(r#"}}}},"STATUS":{{"GAME":"START"}}}}"#));
    json
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "GAME")]
    game: Stage,
}

#[derive(Deserialize)]
enum Stage {
    #[serde(rename = "START")]
    Start,
    #[serde(rename = "USER'S TURN")]
    Turn,
    #[serde(rename = "COMPLETE")]
    Complete,
    #[serde(rename = "TIMED OUT")]
    TimedOut,
}

#[derive(Deserialize)]
struct Started {
    #[serde(rename = "PARTICIPANTS")]
    participants: BTreeSet<UserToken>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use superhero_game::{HeroId, parse_timestamp};

    use super::*;

    const GAME: &str = "6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11";
    const TIME: &str = "2026-11-22T18:15:21.101031";

    #[test]
    fn pushes_are_those_of_the_specification() {
        let [one, two] = ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"];
        let (game, timestamp) = (GAME.parse().unwrap(), parse_timestamp(TIME).unwrap());
        let fighters = BTreeMap::from([
            (two.parse().unwrap(), Fighter { hero: HeroId(7), attack: 5, health: 9 }),
            (one.parse().unwrap(), Fighter { hero: HeroId(8), attack: 6, health: 10 }),
        ]);
        let heroes = format!(
            r#"{{"{one}":{{"token":"{one}","id":8,"attack":6,"health":10}},"{two}":{{"token":"{two}","id":7,"attack":5,"health":9}}}}"#
        );
        let started =
            format!(r#""GAME_TOKEN":"{GAME}","PARTICIPANTS":["{one}","{two}"],"PARTICIPANTS_HEROS":{heroes}"#);
        let participants = BTreeSet::from([one.parse().unwrap(), two.parse().unwrap()]);
        for (push, json, news) in [
            (
                LobbyPush::Start { timestamp, game, fighters },
                format!(r#"{{"TIMESTAMP":"{TIME}","PAYLOAD":{{{started}}},"STATUS":{{"GAME":"START"}}}}"#),
                LobbyNews::Start { participants },
            ),
            (
                LobbyPush::Turn { game },
                format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{GAME}"}},"STATUS":{{"GAME":"USER'S TURN"}}}}"#),
                LobbyNews::Turn,
            ),
            (
                LobbyPush::Complete { game },
                format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{GAME}"}},"STATUS":{{"GAME":"COMPLETE"}}}}"#),
                LobbyNews::Complete,
            ),
            (
                LobbyPush::TimedOut { timestamp, game },
                format!(
                    r#"{{"TIMESTAMP":"{TIME}","PAYLOAD":{{"GAME_TOKEN":"{GAME}"}},"STATUS":{{"GAME":"TIMED OUT"}}}}"#
                ),
                LobbyNews::TimedOut,
            ),
        ] {
            assert_eq!(push.to_json(), json);
            assert_eq!(LobbyNews::parse(&json).unwrap(), news);
            let spaced = json.replace("\":", "\": ").replace(",\"", ", \"");
            assert_eq!(LobbyNews::parse(&spaced).unwrap(), news);
        }
    }

    #[test]
    fn another_servers_start_is_read_for_who_plays() {
        let participants = BTreeSet::from([GAME.parse().unwrap()]);
        // A user with two seats, a hero that is not known, a time in other words, and none.
        for json in [
            format!(
                r#"{{"TIMESTAMP":1795371321.5,"PAYLOAD":{{"PARTICIPANTS":["{GAME}","{GAME}"],"PARTICIPANTS_HEROS":{{"{GAME}":{{"id":null}}}}}},"STATUS":{{"GAME":"START"}}}}"#
            ),
            format!(r#"{{"PAYLOAD":{{"PARTICIPANTS":["{GAME}"],"MORE":1}},"STATUS":{{"GAME":"START","MORE":1}}}}"#),
        ] {
            assert_eq!(LobbyNews::parse(&json).unwrap(), LobbyNews::Start { participants: participants.clone() });
        }
    }

    #[test]
    fn what_is_no_push_is_told() {
        for (json, expected) in [
            (r#"{"PAYLOAD":{},"STATUS":{"GAME":"START"}}"#.to_owned(), "missing field `PARTICIPANTS`".to_owned()),
            (r#"{"PAYLOAD":{},"STATUS":{"GAME":"PAUSED"}}"#.to_owned(), "unknown variant `PAUSED`".to_owned()),
            (
                r#"{"PAYLOAD":{},"STATUS":"UNKNOWN GAME TOKEN"}"#.to_owned(),
                "rejected by the server: UNKNOWN GAME TOKEN".to_owned(),
            ),
        ] {
            let error = LobbyNews::parse(&json).unwrap_err().to_string();
            assert!(error.contains(&expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), json in r#"[\[\]{}:,"A-Z0-9_ ]{0,60}"#) {
            let _ = LobbyNews::parse(&text);
            let _ = LobbyNews::parse(&format!(r#"{{"PAYLOAD":{json},"STATUS":{{"GAME":"START"}}}}"#));
        }
    }
}
