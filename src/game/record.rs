//! The record of a move: answered to the player, kept in `games:<g>:logs`, and the `task` of `lib.server.game` events.

use std::borrow::Cow;
use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde::de::Error;
use serde::{Deserialize, Serialize};

use crate::timestamp::{TimestampText, parse_timestamp};
use crate::{GameToken, UserToken};

/// One move of one player, as it stands on the wire, see [`AttackRecord::to_json`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttackRecord {
    /// When the move was made; microseconds are kept.
    pub timestamp: DateTime<Utc>,
    /// The game.
    pub game: GameToken,
    /// Who moved.
    pub user: UserToken,
    /// What the move was.
    pub action: Action,
}

/// What a player did with its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// `ATTACK`: hit an enemy.
    Attack {
        /// Who was hit.
        enemy: UserToken,
        /// The attacker's attack value, not capped by the health left.
        damage: u64,
        /// The enemy's health before the hit.
        health_prior: u64,
        /// The enemy's health after it: never below 0.
        health_post: u64,
    },
    /// `NA`: the player found nobody alive.
    NotAvailable,
    /// `FORFEIT`: the player let its turn's deadline pass; its hero's health is 0.
    Forfeit,
}

// The pieces between the values, so that a record composed elsewhere from them is the same byte for byte.
const BEFORE_TIMESTAMP: &str = r#"{"TIMESTAMP":""#;
const BEFORE_GAME: &str = r#"","PAYLOAD":{"GAME_TOKEN":""#;
const BEFORE_USER: &str = r#"","USER_TOKEN":""#;
const BEFORE_ENEMY: &str = r#""},"STATUS":{"ACTION":"ATTACK","DETAILS":{"ENEMY_TOKEN":""#;
const BEFORE_DAMAGE: &str = r#"","ENEMY_DAMAGE":"#;
const BEFORE_PRIOR: &str = r#","ENEMY_HEALTH_PRIOR":"#;
const BEFORE_POST: &str = r#","ENEMY_HEALTH_POST":"#;
const END: &str = "}}}";
const NOT_AVAILABLE: &str = r#""},"STATUS":{"ACTION":"NA","DETAILS":{"ENEMY_TOKEN":null,"ENEMY_STATUS":"DEAD"}}}"#;
const FORFEIT: &str = r#""},"STATUS":{"ACTION":"FORFEIT","DETAILS":{"ENEMY_TOKEN":null,"ENEMY_STATUS":"DEAD"}}}"#;

/// Room for the longest record of the usual health values, so that writing one allocates once.
const USUAL_LEN: usize = 384;

impl AttackRecord {
    /// The JSON text of the specification, field for field in its order.
    pub fn to_json(&self) -> String {
        let mut json = until_user(self.timestamp, self.game);
        push(&mut json, self.user);
        match self.action {
            Action::Attack { enemy, damage, health_prior, health_post } => {
                json.push_str(BEFORE_ENEMY);
                push(&mut json, enemy);
                json.push_str(BEFORE_DAMAGE);
                push(&mut json, damage);
                json.push_str(BEFORE_PRIOR);
                push(&mut json, health_prior);
                json.push_str(BEFORE_POST);
                push(&mut json, health_post);
                json.push_str(END);
            }
            Action::NotAvailable => json.push_str(NOT_AVAILABLE),
            Action::Forfeit => json.push_str(FORFEIT),
        }
        json
    }

    /// The JSON of an attack around the values that only the store's script knows:
    /// `parts[0] damage parts[1] health_prior parts[2] health_post parts[3]` is what [`to_json`](Self::to_json) writes.
    ///
    /// `parts[0]` holds the time, the game, the player and its enemy, so a record that starts with it is this very attack.
    pub fn attack_parts(timestamp: DateTime<Utc>, game: GameToken, user: UserToken, enemy: UserToken) -> [String; 4] {
        let mut first = until_user(timestamp, game);
        push(&mut first, user);
        first.push_str(BEFORE_ENEMY);
        push(&mut first, enemy);
        first.push_str(BEFORE_DAMAGE);
        [first, BEFORE_PRIOR.to_owned(), BEFORE_POST.to_owned(), END.to_owned()]
    }

    /// The JSON of a forfeit around the player on turn: `parts[0] user parts[1]` is what [`to_json`](Self::to_json) writes.
    pub fn forfeit_parts(timestamp: DateTime<Utc>, game: GameToken) -> [String; 2] {
        [until_user(timestamp, game), FORFEIT.to_owned()]
    }

    /// Reads what [`to_json`](Self::to_json) wrote, whatever the order of its fields.
    ///
    /// # Errors
    /// Text that is not such a record.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        let wire: Wire<'_> = serde_json::from_str(json)?;
        let timestamp = parse_timestamp(&wire.timestamp).ok_or_else(|| {
            let expected = "is not like 2026-11-22T18:15:21.101031";
            serde_json::Error::custom(format!("TIMESTAMP {:?} {expected}", wire.timestamp))
        })?;
        let details = wire.status.details;
        let action = match &*wire.status.action {
            "ATTACK" => Action::Attack {
                enemy: present(details.enemy, "ENEMY_TOKEN")?,
                damage: present(details.damage, "ENEMY_DAMAGE")?,
                health_prior: present(details.health_prior, "ENEMY_HEALTH_PRIOR")?,
                health_post: present(details.health_post, "ENEMY_HEALTH_POST")?,
            },
            "NA" => Action::NotAvailable,
            "FORFEIT" => Action::Forfeit,
            other => return Err(serde_json::Error::custom(format!("ACTION {other:?} is not ATTACK, NA or FORFEIT"))),
        };
        Ok(Self { timestamp, game: wire.payload.game, user: wire.payload.user, action })
    }
}

fn until_user(timestamp: DateTime<Utc>, game: GameToken) -> String {
    let mut json = String::with_capacity(USUAL_LEN);
    json.push_str(BEFORE_TIMESTAMP);
    json.push_str(&TimestampText::new(timestamp));
    json.push_str(BEFORE_GAME);
    push(&mut json, game);
    json.push_str(BEFORE_USER);
    json
}

fn push(json: &mut String, value: impl std::fmt::Display) {
    write!(json, "{value}").expect("a String takes all that is written");
}

fn present<T>(value: Option<T>, field: &str) -> Result<T, serde_json::Error> {
    value.ok_or_else(|| serde_json::Error::custom(format!("{field} is missing in DETAILS")))
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "TIMESTAMP", borrow)]
    timestamp: Cow<'a, str>,
    #[serde(rename = "PAYLOAD")]
    payload: Payload,
    #[serde(rename = "STATUS", borrow)]
    status: Status<'a>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "GAME_TOKEN")]
    game: GameToken,
    #[serde(rename = "USER_TOKEN")]
    user: UserToken,
}

#[derive(Deserialize)]
struct Status<'a> {
    #[serde(rename = "ACTION", borrow)]
    action: Cow<'a, str>,
    #[serde(rename = "DETAILS")]
    details: Details,
}

#[derive(Deserialize)]
struct Details {
    #[serde(rename = "ENEMY_TOKEN")]
    enemy: Option<UserToken>,
    #[serde(rename = "ENEMY_DAMAGE")]
    damage: Option<u64>,
    #[serde(rename = "ENEMY_HEALTH_PRIOR")]
    health_prior: Option<u64>,
    #[serde(rename = "ENEMY_HEALTH_POST")]
    health_post: Option<u64>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn record(action: Action) -> AttackRecord {
        AttackRecord {
            timestamp: parse_timestamp("2026-11-22T18:15:21.001031").unwrap(),
            game: GameToken::new(Uuid::from_u128(1)),
            user: UserToken::new(Uuid::from_u128(2)),
            action,
        }
    }

    #[test]
    fn json_is_that_of_the_specification() {
        let start = r#"{"TIMESTAMP":"2026-11-22T18:15:21.001031","PAYLOAD":{"GAME_TOKEN":"00000000-0000-0000-0000-000000000001","USER_TOKEN":"00000000-0000-0000-0000-000000000002"},"STATUS":{"ACTION":"#;
        let attack =
            Action::Attack { enemy: UserToken::new(Uuid::from_u128(3)), damage: 10, health_prior: 7, health_post: 0 };
        let table = [
            (
                attack,
                r#""ATTACK","DETAILS":{"ENEMY_TOKEN":"00000000-0000-0000-0000-000000000003","ENEMY_DAMAGE":10,"ENEMY_HEALTH_PRIOR":7,"ENEMY_HEALTH_POST":0}}}"#,
            ),
            (Action::NotAvailable, r#""NA","DETAILS":{"ENEMY_TOKEN":null,"ENEMY_STATUS":"DEAD"}}}"#),
            (Action::Forfeit, r#""FORFEIT","DETAILS":{"ENEMY_TOKEN":null,"ENEMY_STATUS":"DEAD"}}}"#),
        ];
        for (action, end) in table {
            assert_eq!(record(action).to_json(), format!("{start}{end}"));
        }
    }

    #[test]
    fn python_spacing_and_another_order_of_fields_are_read() {
        let json = r#"{"STATUS": {"DETAILS": {"ENEMY_STATUS": "DEAD", "ENEMY_TOKEN": null}, "ACTION": "NA"}, "PAYLOAD": {"USER_TOKEN": "00000000-0000-0000-0000-000000000002", "GAME_TOKEN": "00000000-0000-0000-0000-000000000001", "MORE": 1}, "TIMESTAMP": "2026-11-22T18:15:21.001031"}"#;
        assert_eq!(AttackRecord::from_json(json).unwrap(), record(Action::NotAvailable));
    }

    #[test]
    fn what_is_not_a_record_is_named() {
        let json = record(Action::NotAvailable).to_json();
        for (from, to, expected) in [
            ("NA", "ATTACK", "ENEMY_TOKEN is missing"),
            ("NA", "RUN", "ACTION \"RUN\""),
            ("2026", "year", "TIMESTAMP \"year-"),
            ("GAME_TOKEN", "GAME", "missing field `GAME_TOKEN`"),
        ] {
            let error = AttackRecord::from_json(&json.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    prop_compose! {
        fn any_record()(
            micros in 0i64..4_000_000_000_000_000,
            game in any::<u128>(),
            user in any::<u128>(),
            enemy in any::<u128>(),
            numbers in any::<[u64; 3]>(),
            kind in 0..3,
        ) -> AttackRecord {
            let [damage, health_prior, health_post] = numbers;
            AttackRecord {
                timestamp: DateTime::from_timestamp_micros(micros).unwrap(),
                game: GameToken::new(Uuid::from_u128(game)),
                user: UserToken::new(Uuid::from_u128(user)),
                action: match kind {
                    0 => Action::NotAvailable,
                    1 => Action::Forfeit,
                    _ => Action::Attack { enemy: UserToken::new(Uuid::from_u128(enemy)), damage, health_prior, health_post },
                },
            }
        }
    }

    proptest! {
        #[test]
        fn json_reads_back(record in any_record()) {
            prop_assert_eq!(AttackRecord::from_json(&record.to_json()).unwrap(), record);
        }

        #[test]
        fn parts_around_their_values_are_the_json(record in any_record()) {
            let (timestamp, game, user) = (record.timestamp, record.game, record.user);
            match record.action {
                Action::Attack { enemy, damage, health_prior, health_post } => {
                    let [a, b, c, d] = AttackRecord::attack_parts(timestamp, game, user, enemy);
                    prop_assert_eq!(format!("{a}{damage}{b}{health_prior}{c}{health_post}{d}"), record.to_json());
                }
                Action::Forfeit => {
                    let [a, b] = AttackRecord::forfeit_parts(timestamp, game);
                    prop_assert_eq!(format!("{a}{user}{b}"), record.to_json());
                }
                Action::NotAvailable => {}
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = AttackRecord::from_json(&text);
        }
    }
}
