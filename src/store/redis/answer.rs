//! What the scripts answer: a word, then the fields that belong to it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use fred::types::Value;
use superhero_game::{AttackRecord, Fighter, GameToken, HeroId, Refusal, UserToken};

use crate::{Outcome, Snapshot, Status, StoreError};

/// What `malformed` in `keys.lua` and the readers here expect; the script's text becomes the entry of this list.
const EXPECTED: [&str; 13] = [
    "a hash",
    "a list",
    "a list of players",
    "a seat",
    "a seat's claim, presence and digest",
    "a set",
    "a set with fewer heroes than seats",
    "a sorted set",
    "a status",
    "a string",
    "a user token",
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
            "full" => Err(match fields.text().as_str() {
                "seats" => StoreError::TooManySeats,
                "games" => StoreError::TooManyGames,
                other => not_ours(&format!("full: {other}")),
            }),
            "malformed" => {
                let (key, value, expected) = (fields.text(), fields.text(), fields.text());
                let expected = EXPECTED.into_iter().find(|known| *known == expected);
                Err(malformed(&key, value, expected.unwrap_or("what the table of keys says")))
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
            Self::None => Err(not_ours("none")),
            Self::Refused(refusal) => Err(not_ours(&format!("refused: {refusal}"))),
        }
    }
}

fn refusal(word: &str) -> Result<Refusal, StoreError> {
    Ok(match word {
        "UnknownGame" => Refusal::UnknownGame,
        "NotInProgress" => Refusal::NotInProgress,
        "NotAPlayer" => Refusal::NotAPlayer,
        "WrongSeat" => Refusal::WrongSeat,
        "OutOfTurn" => Refusal::OutOfTurn,
        "OneSelf" => Refusal::OneSelf,
        "EnemyNotInGame" => Refusal::EnemyNotInGame,
        "EnemyDead" => Refusal::EnemyDead,
        other => return Err(not_ours(other)),
    })
}

fn not_ours(answer: &str) -> StoreError {
    let answer = shortened(answer.to_owned());
    StoreError::Unavailable(format!("a script answered {answer:?}, which it cannot; is this a Redis?"))
}

fn malformed(key: &str, value: String, expected: &'static str) -> StoreError {
    StoreError::Malformed { key: shortened(key.escape_debug().to_string()), value: shortened(value), expected }
}

/// What an error shows of a text, in bytes. An attack record has some 400.
const MAX_SHOWN_BYTES: usize = 500;

fn shortened(mut text: String) -> String {
    if text.len() > MAX_SHOWN_BYTES {
        const END: &str = "…";
        text.truncate(text.floor_char_boundary(MAX_SHOWN_BYTES - END.len()));
        text.push_str(END);
    }
    text
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
        value.parse().map_err(|_| malformed(key, value, expected))
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
        AttackRecord::from_json(&value).map_err(|_| malformed(&format!("games:{game}:logs"), value, "an attack record"))
    }

    fn status(&mut self, game: GameToken) -> Result<Status, StoreError> {
        let value = self.text();
        let known = Status::ALL.into_iter().find(|status| status.as_str() == value);
        known.ok_or_else(|| malformed(&format!("games:{game}:status"), value, "a status"))
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
        let waits = match self.text().as_str() {
            "" => None,
            text => Some(Duration::from_millis(
                text.parse().map_err(|_| malformed("games:waiting", text.to_owned(), "a whole number"))?,
            )),
        };
        Ok(Snapshot { status, seats, host, waits, fighters, order, records })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use fred::types::Map;
    use proptest::prelude::*;
    use proptest::sample::select;
    use superhero_game::Action;

    use super::*;

    const GAME: &str = "6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11";
    const USER: &str = "00000000-0000-0000-0000-000000000002";
    /// A key, a value, and the words between them, each text with its escapes.
    const MAX_ERROR_BYTES: usize = 10 * MAX_SHOWN_BYTES;

    fn record() -> String {
        let (timestamp, game, user) = (chrono::DateTime::UNIX_EPOCH, GAME.parse().unwrap(), USER.parse().unwrap());
        AttackRecord { timestamp, game, user, action: Action::NotAvailable }.to_json()
    }

    /// The answer of the script for snapshots.
    fn snapshot() -> Vec<Value> {
        let list = |texts: &[&str]| Value::Array(texts.iter().map(|text| Value::from(*text)).collect());
        let mut fields: Vec<Value> = ["ok", Status::Completed.as_str(), "2", USER].map(Value::from).to_vec();
        fields.extend([list(&[USER]), list(&[&record()]), list(&[USER, "7", "30", "50"]), "".into()]);
        fields
    }

    /// What Redis can answer, of the words that our scripts use and of any others.
    fn any_value() -> impl Strategy<Value = Value> {
        let words = [
            "ok",
            "none",
            "refused",
            "malformed",
            "OutOfTurn",
            "IN_PROGRESS",
            "COMPLETED",
            "2",
            "0",
            "-1",
            "",
            USER,
            GAME,
        ];
        let leaf = prop_oneof![
            5 => select(words.to_vec()).prop_map(Value::from),
            1 => Just(Value::from(record())),
            1 => any::<String>().prop_map(Value::from),
            1 => (0..5_000usize).prop_map(|length| Value::from("é".repeat(length))),
            1 => any::<i64>().prop_map(Value::Integer),
            1 => any::<f64>().prop_map(Value::Double),
            1 => any::<bool>().prop_map(Value::Boolean),
            1 => any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
            1 => Just(Value::Null),
            1 => Just(Value::Queued),
        ];
        leaf.prop_recursive(4, 40, 8, |inner| {
            prop_oneof![
                3 => prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                1 => ("[a-z]{0,3}", inner).prop_map(|entry| Value::Map(Map::try_from(vec![entry]).unwrap())),
            ]
        })
    }

    /// A snapshot with anything in place of one of its fields, or behind them.
    fn snapshots() -> impl Strategy<Value = Value> {
        (0..9usize, prop::option::of(any_value())).prop_map(|(at, strange)| {
            let mut fields = snapshot();
            match strange {
                Some(value) if at < fields.len() => fields[at] = value,
                Some(value) => fields.push(value),
                None => {}
            }
            Value::Array(fields)
        })
    }

    fn is_a_line<T>(read: Result<T, StoreError>) -> Result<(), TestCaseError> {
        if let Err(error) = read {
            let text = error.to_string();
            prop_assert!(text.len() <= MAX_ERROR_BYTES && !text.contains('\n'), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_snapshot_is_read() {
        let snapshot =
            Answer::read(Value::Array(snapshot())).unwrap().done().unwrap().snapshot(GAME.parse().unwrap()).unwrap();
        assert_eq!((snapshot.status, snapshot.seats, snapshot.records.len()), (Status::Completed, 2, 1));
        let fighter = Fighter { hero: HeroId(7), attack: 30, health: 50 };
        assert_eq!(snapshot.fighters, BTreeMap::from([(USER.parse().unwrap(), fighter)]));
    }

    #[test]
    fn an_answer_that_no_script_gives_is_told_in_a_line() {
        let long = "é\n".repeat(100_000);
        for answer in
            [vec![Value::from(long.as_str())], vec!["malformed".into(), long.as_str().into(), long.as_str().into()]]
        {
            is_a_line(Answer::read(Value::Array(answer)).and_then(Answer::done)).unwrap();
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(value in prop_oneof![any_value(), snapshots()]) {
            let game: GameToken = GAME.parse().unwrap();
            let done = || Answer::read(value.clone()).and_then(Answer::done);
            is_a_line(done().and_then(|fields| fields.snapshot(game)))?;
            is_a_line(done().and_then(|fields| fields.outcome(game)))?;
            is_a_line(done().and_then(|mut fields| fields.fighter("key")))?;
            is_a_line(done().and_then(|mut fields| fields.parse::<UserToken>("key", "a user token")))?;
        }
    }
}
