//! What a record asks for beyond its row in the raw archive: nothing, a place among the dead letters, or the tables of
//! a game that ended. Pure; whoever calls asks the store.

use serde::de::IgnoredAny;
use superhero_event::table::{Origin, write_meta, write_podium};
use superhero_event::{Cleaning, Envelope, message, topic};
use superhero_game::{GameToken, HeroId, PodiumRow, UserToken, podium};
use superhero_store::{Snapshot, Status};

use crate::plain;
use crate::readable::unreadable;
use crate::row::{Value, is_single_line};

/// What is to be done with a record, besides archiving it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Nothing.
    Archive,
    /// Keep it among the dead letters, for this reason.
    DeadLetter(String),
    /// A game is over for a participant: see [`judge`].
    Game(Cleaning),
}

/// What a game's state makes of a [`Cleaning`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another participant's event makes the tables.
    NotTheHost,
    /// The game's place in the tables.
    Tables(GameTables),
    /// The state does not bear it out.
    DeadLetter(String),
}

/// A completed game, as the tables tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GameTables {
    /// Which game.
    pub(crate) game: GameToken,
    heroes: Vec<(UserToken, HeroId)>,
    podium: Vec<PodiumRow>,
}

/// Whether the events of a topic make the tables.
pub(crate) fn makes_tables(name: &str) -> bool {
    name == topic::LOBBY
}

/// Reads a record's value.
pub(crate) fn read(makes_tables: bool, value: Option<&[u8]>) -> (Value<'_>, Request) {
    let Some(value) = value else {
        return (Value::Absent, Request::DeadLetter("the record has no value".to_owned()));
    };
    if plain::log_message(value).is_some_and(|found| found != message::CLEANING.as_bytes()) {
        return (Value::Json(value), Request::Archive);
    }
    // Fields that the envelope's reader leaves alone are not checked for being text.
    let Ok(text) = std::str::from_utf8(value) else {
        return (Value::Bytes(value), Request::DeadLetter("the value is not UTF-8 text".to_owned()));
    };
    let envelope = match Envelope::parse(value) {
        Ok(envelope) => envelope,
        Err(error) => {
            let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
            let value = if is_json { verbatim(value) } else { Value::Bytes(value) };
            return (value, Request::DeadLetter(reason(&error)));
        }
    };
    let request = match makes_tables.then(|| envelope.cleaning()).transpose() {
        Ok(cleaning) => cleaning.flatten().map_or(Request::Archive, Request::Game),
        Err(error) => Request::DeadLetter(reason(&error)),
    };
    (verbatim(value), request)
}

/// What a reason may have, in bytes: an error may quote a text of the record, whose row has it anyway.
const MAX_REASON_BYTES: usize = 500;

/// The reason for a dead letter.
pub(crate) fn reason(error: &impl ToString) -> String {
    let mut reason = error.to_string();
    if reason.len() > MAX_REASON_BYTES {
        const END: &str = "…";
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES - END.len()));
        reason.push_str(END);
    }
    reason
}

/// Valid JSON as it stands, if a row can have it so: on one line, not as a tombstone has it, and as all readers take it.
pub(crate) fn verbatim(json: &[u8]) -> Value<'_> {
    if !is_single_line(json) || json.trim_ascii() == b"null" {
        return Value::Bytes(json);
    }
    match unreadable(json) {
        None => Value::Json(json),
        Some(why) => Value::Unreadable(json, why),
    }
}

/// Makes the tables' rows of a game from its state in the store.
pub(crate) fn judge(cleaning: Cleaning, snapshot: Option<&Snapshot>) -> Verdict {
    let Cleaning { game_token: game, user_token: user } = cleaning;
    let Some(snapshot) = snapshot else {
        return Verdict::DeadLetter(format!("the state of game {game} is gone from the store"));
    };
    if snapshot.status != Status::Completed {
        return Verdict::DeadLetter(format!(
            "game {game} is not completed but {} in the store",
            snapshot.status.as_str()
        ));
    }
    if snapshot.host != user {
        return Verdict::NotTheHost;
    }
    let health = snapshot.fighters.iter().map(|(user, fighter)| (*user, fighter.health)).collect();
    Verdict::Tables(GameTables {
        game,
        heroes: snapshot.fighters.iter().map(|(user, fighter)| (*user, fighter.hero)).collect(),
        podium: podium(&health, &snapshot.records),
    })
}

impl GameTables {
    /// The rows of `GAME_META`, by participant.
    pub(crate) fn meta(&self, origin: Origin<'_>) -> Vec<Vec<u8>> {
        let row = |&(user, hero)| {
            let mut row = Vec::new();
            write_meta(&mut row, self.game, user, hero, origin);
            row
        };
        self.heroes.iter().map(row).collect()
    }

    /// The rows of `GAME_PODIUM`, by rank.
    pub(crate) fn podium(&self, origin: Origin<'_>) -> Vec<Vec<u8>> {
        let row = |podium| {
            let mut row = Vec::new();
            write_podium(&mut row, self.game, podium, origin);
            row
        };
        self.podium.iter().map(row).collect()
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use superhero_game::{Action, AttackRecord, Fighter};

    use super::*;
    use crate::readable::Unreadable;

    const GAME: &str = "00000000-0000-0000-0000-00000000000a";
    const HOST: &str = "00000000-0000-0000-0000-000000000001";
    const GUEST: &str = "00000000-0000-0000-0000-000000000002";

    fn envelope(message: &str, rest: &str) -> String {
        format!(
            r#"{{"level":"INFO","timestamp":"2026-11-22T18:15:21.101031","name":"kafka.lib.server.lobby","log_message":"{message}"{rest}}}"#
        )
    }

    fn cleaning(user: &str) -> Cleaning {
        Cleaning { game_token: GAME.parse().unwrap(), user_token: user.parse().unwrap() }
    }

    fn snapshot(status: Status) -> Snapshot {
        let (host, guest) = (HOST.parse().unwrap(), GUEST.parse().unwrap());
        let fighter = |hero, health| Fighter { hero: HeroId(hero), attack: 30, health };
        let action = Action::Attack { enemy: guest, damage: 30, health_prior: 20, health_post: 0 };
        let timestamp = chrono::DateTime::UNIX_EPOCH;
        Snapshot {
            status,
            seats: 2,
            host,
            waits: None,
            fighters: BTreeMap::from([(host, fighter(7, 50)), (guest, fighter(9, 0))]),
            order: vec![host],
            records: vec![AttackRecord { timestamp, game: GAME.parse().unwrap(), user: host, action }],
        }
    }

    #[test]
    fn an_envelope_is_archived_as_it_stands() {
        let value = envelope("Attack Completed", r#","task":"{}","more":[1]"#);
        let (shown, request) = read(true, Some(value.as_bytes()));
        assert!(matches!(shown, Value::Json(json) if json == value.as_bytes()));
        assert_eq!(request, Request::Archive);
    }

    #[test]
    fn the_end_of_a_game_asks_for_its_tables_on_the_lobbys_topic_only() {
        let value =
            envelope("Cleaning Game Records", &format!(r#","task":{{"game_token":"{GAME}","user_token":"{HOST}"}}"#));
        assert_eq!(read(true, Some(value.as_bytes())).1, Request::Game(cleaning(HOST)));
        assert_eq!(read(false, Some(value.as_bytes())).1, Request::Archive);
        assert!(makes_tables("lib.server.lobby") && !makes_tables("lib.server.game"));
    }

    #[test]
    fn bad_records_are_dead_letters_whose_value_is_verbatim_where_it_is_one_line_of_json() {
        let strange_task = envelope("Cleaning Game Records", r#","task":"a text""#);
        let hidden_bytes = [envelope("Turn", r#","more":"x"#).as_bytes(), b"\xff\"}"].concat();
        for (value, verbatim, reason) in [
            (None, false, "no value"),
            (Some(&b"no json"[..]), false, "not an event envelope"),
            (Some(b""), false, "not an event envelope"),
            (Some(b"{\"level\":\"INFO\"}"), true, "missing field"),
            (Some(b"[1,2]"), true, "expected a JSON object"),
            (Some(b"null"), false, "expected a JSON object"),
            (Some(b"{\"a\":\n1}"), false, "missing field"),
            (Some(b"\xff\xfe"), false, "not UTF-8"),
            (Some(strange_task.as_bytes()), true, "game_token and user_token"),
            (Some(&hidden_bytes), false, "not UTF-8"),
        ] {
            let (shown, request) = read(true, value);
            assert_eq!(matches!(shown, Value::Json(json) if Some(json) == value), verbatim, "{value:?}");
            assert!(matches!(&request, Request::DeadLetter(why) if why.contains(reason)), "{value:?}: {request:?}");
        }
    }

    #[test]
    fn what_readers_refuse_is_not_verbatim_whether_it_is_an_event_or_not() {
        let deep = envelope("Turn", &format!(r#","task":{}1{}"#, "[".repeat(100), "]".repeat(100)));
        for (value, why, reason) in [
            (envelope("Turn", r#","task":"\ud800""#), Unreadable::Surrogate, None),
            (envelope("Turn", r#","more":1e400"#), Unreadable::Number, None),
            (envelope("Turn", r#","more":1,"more":1"#), Unreadable::Duplicate, None),
            (deep, Unreadable::Depth, None),
            (envelope("Turn", r#","level":"INFO""#), Unreadable::Duplicate, Some("duplicate field `level`")),
            (r#"{"name":"\udc00"}"#.to_owned(), Unreadable::Surrogate, Some("not an event envelope")),
        ] {
            let (shown, request) = read(true, Some(value.as_bytes()));
            assert!(
                matches!(shown, Value::Unreadable(json, found) if json == value.as_bytes() && found == why),
                "{value}"
            );
            match (&request, reason) {
                (Request::Archive, None) => {}
                (Request::DeadLetter(said), Some(reason)) if said.contains(reason) => {}
                other => panic!("{value}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_reason_does_not_repeat_a_record_of_any_length() {
        let level = "é".repeat(1_000_000);
        let value = envelope("Turn", "").replace("INFO", &level);
        let (_, request) = read(true, Some(value.as_bytes()));
        let Request::DeadLetter(reason) = request else { panic!("{request:?}") };
        assert!(reason.len() <= MAX_REASON_BYTES && reason.ends_with("é…"), "{reason}");
        assert!(reason.starts_with("not an event envelope: unknown variant `é"), "{reason}");
    }

    #[test]
    fn an_envelope_over_several_lines_is_archived_in_base64() {
        let value = envelope("Turn", ",\n\"task\":null");
        let (shown, request) = read(true, Some(value.as_bytes()));
        assert!(matches!(shown, Value::Bytes(bytes) if bytes == value.as_bytes()));
        assert_eq!(request, Request::Archive);
    }

    #[test]
    fn the_hosts_event_makes_the_tables_and_nobody_elses() {
        let completed = snapshot(Status::Completed);
        assert_eq!(judge(cleaning(GUEST), Some(&completed)), Verdict::NotTheHost);
        let Verdict::Tables(tables) = judge(cleaning(HOST), Some(&completed)) else { panic!("the host's event") };
        let origin = Origin { topic: "t", partition: 1, offset: 5 };
        let text = |rows: Vec<Vec<u8>>| rows.into_iter().map(|row| String::from_utf8(row).unwrap()).collect::<Vec<_>>();
        let rows = text(tables.meta(origin));
        assert_eq!(rows.len(), 2);
        assert!(rows[0].contains(HOST) && rows[0].contains(r#""superhero_id":7"#), "{rows:?}");
        let rows = text(tables.podium(origin));
        assert_eq!(rows.len(), 2);
        assert!(
            rows[0].contains(HOST) && rows[0].contains(r#""rank":1"#) && rows[0].contains(r#""offset":5"#),
            "{rows:?}"
        );
    }

    #[test]
    fn a_game_that_is_gone_or_not_completed_is_a_dead_letter_whoever_tells_of_its_end() {
        for status in
            [Status::WaitingLobby, Status::Starting, Status::InProgress, Status::WaitingPlayer, Status::TimedOut]
        {
            for user in [HOST, GUEST] {
                assert!(matches!(judge(cleaning(user), Some(&snapshot(status))), Verdict::DeadLetter(_)), "{status:?}");
            }
        }
        assert!(matches!(judge(cleaning(HOST), None), Verdict::DeadLetter(why) if why.contains("gone")));
    }
}
