//! What the scripts answer: a word, then the fields that belong to it.

use std::collections::BTreeMap;
use std::str::FromStr;

use fred::types::Value;
use superhero_game::{AttackRecord, Fighter, GameToken, HeroId, Refusal, UserToken};

use crate::{Outcome, Snapshot, Status, StoreError};

/// What `malformed` in `keys.lua` and the readers here expect; the script's text becomes the entry of this list.
const EXPECTED: [&str; 11] = [
    "a hash",
    "a list",
    "a list of players",
    "a seat",
    "a set",
    "a set with fewer heroes than seats",
    "a sorted set",
    "a status",
    "a string",
    "a whole number",
    "an attack record",
];

#[derive(Debug)]
pub(super) enum Answer {
    Done(Fields),
    None,
    Refused(Refusal),
}

impl Answer {
    /// # Errors
    /// [`StoreError::Malformed`], which the script found.
    pub(super) fn read(value: Value) -> Result<Self, StoreError> {
        let mut fields = Fields::of(value.into_array());
        match fields.text().as_str() {
            "ok" => Ok(Self::Done(fields)),
            "none" => Ok(Self::None),
            "refused" => refusal(&fields.text()).map(Self::Refused),
            "malformed" => {
                let (key, value, expected) = (fields.text(), fields.text(), fields.text());
                let expected = EXPECTED.into_iter().find(|known| *known == expected);
                Err(StoreError::Malformed { key, value, expected: expected.unwrap_or("what the table of keys says") })
            }
            other => Err(not_ours(other)),
        }
    }

    /// The fields of an operation that was done.
    ///
    /// # Errors
    /// When the script has another answer than its operation can have.
    pub(super) fn done(self) -> Result<Fields, StoreError> {
        match self {
            Self::Done(fields) => Ok(fields),
            other => Err(not_ours(&format!("{other:?}"))),
        }
    }
}

fn refusal(word: &str) -> Result<Refusal, StoreError> {
    Ok(match word {
        "UnknownGame" => Refusal::UnknownGame,
        "NotInProgress" => Refusal::NotInProgress,
        "NotAPlayer" => Refusal::NotAPlayer,
        "OutOfTurn" => Refusal::OutOfTurn,
        "OneSelf" => Refusal::OneSelf,
        "EnemyNotInGame" => Refusal::EnemyNotInGame,
        "EnemyDead" => Refusal::EnemyDead,
        other => return Err(not_ours(other)),
    })
}

fn not_ours(answer: &str) -> StoreError {
    StoreError::Unavailable(format!("a script answered {answer:?}, which it cannot; is this a Redis?"))
}

/// The fields of an answer, taken in their order; one that is missing is empty, and so is refused by what it should be.
#[derive(Debug)]
pub(super) struct Fields {
    values: std::vec::IntoIter<Value>,
}

impl Fields {
    pub(super) fn of(values: Vec<Value>) -> Self {
        Self { values: values.into_iter() }
    }

    fn text(&mut self) -> String {
        self.values.next().and_then(Value::into_string).unwrap_or_default()
    }

    fn list(&mut self) -> Self {
        Self::of(self.values.next().map(Value::into_array).unwrap_or_default())
    }

    fn is_empty(&self) -> bool {
        self.values.len() == 0
    }

    /// The next field, which stands in `key`.
    ///
    /// # Errors
    /// [`StoreError::Malformed`].
    pub(super) fn parse<T: FromStr>(&mut self, key: &str, expected: &'static str) -> Result<T, StoreError> {
        let value = self.text();
        value.parse().map_err(|_| StoreError::Malformed { key: key.to_owned(), value, expected })
    }

    fn rest<T: FromStr>(mut self, key: &str, expected: &'static str) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::with_capacity(self.values.len());
        while !self.is_empty() {
            all.push(self.parse(key, expected)?);
        }
        Ok(all)
    }

    pub(super) fn fighter(&mut self, key: &str) -> Result<Fighter, StoreError> {
        let expected = "a whole number";
        Ok(Fighter {
            hero: HeroId(self.parse(key, expected)?),
            attack: self.parse(key, expected)?,
            health: self.parse(key, expected)?,
        })
    }

    fn record(&mut self, game: GameToken) -> Result<AttackRecord, StoreError> {
        let value = self.text();
        AttackRecord::from_json(&value).map_err(|_| StoreError::Malformed {
            key: format!("games:{game}:logs"),
            value,
            expected: "an attack record",
        })
    }

    fn status(&mut self, game: GameToken) -> Result<Status, StoreError> {
        let value = self.text();
        Status::ALL.into_iter().find(|status| status.as_str() == value).ok_or_else(|| StoreError::Malformed {
            key: format!("games:{game}:status"),
            value,
            expected: "a status",
        })
    }

    pub(super) fn outcome(mut self, game: GameToken) -> Result<Outcome, StoreError> {
        let record = self.record(game)?;
        let next = self.text();
        let next = match next.as_str() {
            "" => None,
            _ => Some(Self::of(vec![next.into()]).parse(&format!("games:{game}:order"), "a user token")?),
        };
        let moves = self.parse(&format!("games:{game}:logs"), "a whole number")?;
        let mut participants: Vec<UserToken> = self.list().rest(&format!("games:{game}"), "a user token")?;
        participants.sort_unstable();
        Ok(Outcome { record, next, moves, participants })
    }

    pub(super) fn snapshot(mut self, game: GameToken) -> Result<Snapshot, StoreError> {
        let status = self.status(game)?;
        let seats = self.parse(&format!("games:{game}:participants"), "a whole number")?;
        let host = self.parse(&format!("games:{game}:host"), "a user token")?;
        let order = self.list().rest(&format!("games:{game}:order"), "a user token")?;
        let mut texts = self.list();
        let mut records = Vec::with_capacity(texts.values.len());
        while !texts.is_empty() {
            records.push(texts.record(game)?);
        }
        let mut players = self.list();
        let mut fighters = BTreeMap::new();
        while !players.is_empty() {
            let user: UserToken = players.parse(&format!("games:{game}"), "a user token")?;
            fighters.insert(user, players.fighter(&format!("games:{game}:superheros:{user}"))?);
        }
        Ok(Snapshot { status, seats, host, fighters, order, records })
    }
}
