//! What a raw row's event asks for beside its row, as the worker judges it: nothing, tables, or a dead letter.

use superhero_event::{Cleaning, Envelope, Level, message, topic};
use superhero_game::parse_timestamp;

/// What has to be known of the event in a raw row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// When it was logged, in microseconds from 1970; none if it is no event.
    pub(crate) logged_at_micros: Option<i64>,
    pub(crate) kind: Kind,
}

/// What it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but its row.
    Plain,
    /// The same; but a game has one more participant.
    HeroSelected,
    /// The same; but a game has not begun, for want of participants.
    TimedOut,
    /// A game is over for a participant; the host's event makes the tables.
    Cleaning(Cleaning),
    /// It cannot be understood: a dead letter.
    Bad,
}

/// Whether the events of a topic make the tables.
pub(crate) fn makes_tables(name: &str) -> bool {
    name == topic::LOBBY
}

/// Reads a record's value.
pub(crate) fn read(value: Option<&[u8]>, makes_tables: bool) -> Event {
    match value.and_then(glance) {
        Some((_, log_message)) if makes_tables && log_message == message::CLEANING => read_whole(value, makes_tables),
        Some((logged_at_micros, log_message)) => {
            Event { logged_at_micros: Some(logged_at_micros), kind: plain(log_message, makes_tables) }
        }
        None => read_whole(value, makes_tables),
    }
}

/// As [`read`], but takes the envelope apart whatever it looks like.
pub(crate) fn read_whole(value: Option<&[u8]>, makes_tables: bool) -> Event {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    let Some(envelope) = text.and_then(|text| Envelope::parse(text.as_bytes()).ok()) else {
        return Event { logged_at_micros: None, kind: Kind::Bad };
    };
    let kind = match envelope.cleaning() {
        _ if !makes_tables => Kind::Plain,
        Ok(Some(cleaning)) => Kind::Cleaning(cleaning),
        Ok(None) => plain(&envelope.log_message, makes_tables),
        Err(_) => Kind::Bad,
    };
    Event { logged_at_micros: Some(envelope.timestamp.timestamp_micros()), kind }
}

/// What an event is that makes no rows in other tables.
fn plain(log_message: &str, makes_tables: bool) -> Kind {
    match log_message {
        message::HERO_SELECTED if makes_tables => Kind::HeroSelected,
        message::GAME_TIMED_OUT if makes_tables => Kind::TimedOut,
        _ => Kind::Plain,
    }
}

/// Reads the head of an envelope as the transport writes it, of JSON that is known to be valid: whoever takes every row's envelope
/// apart to learn two things of it spends half of the time on that. Returns when it was logged, and the `log_message`.
fn glance(value: &[u8]) -> Option<(i64, &str)> {
    let json = std::str::from_utf8(value).ok()?;
    let (level, rest) = text(json.strip_prefix(r#"{"level":""#)?)?;
    let (timestamp, rest) = text(rest.strip_prefix(r#","timestamp":""#)?)?;
    let (_, rest) = text(rest.strip_prefix(r#","name":""#)?)?;
    let (log_message, rest) = text(rest.strip_prefix(r#","log_message":""#)?)?;
    let is_whole = rest == "}" || rest.starts_with(r#","task":"#);
    let is_ours = is_whole && Level::ALL.iter().any(|known| known.as_str() == level);
    Some((parse_timestamp(timestamp)?.timestamp_micros(), log_message)).filter(|_| is_ours)
}

/// Whether JSON that is known to be valid is an envelope as the transport writes most of them: five different names, texts all of them.
pub(crate) fn is_flat(json: &str) -> bool {
    let Some(at) = json.find(r#","task":"#) else { return json.ends_with("\"}") && glance(json.as_bytes()).is_some() };
    let (head, task) = (&json[..at], &json[at + r#","task":"#.len()..]);
    let Some(task) = task.strip_prefix('"').and_then(|task| task.strip_suffix("\"}")) else { return false };
    // A quote that ends the text early is behind an even number of backslashes.
    let ends_early = task.match_indices('"').any(|(at, _)| {
        let escapes = task.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        escapes % 2 == 0
    });
    !ends_early && glance(format!("{head}}}").as_bytes()).is_some()
}

/// Splits behind the quote that ends a text without escapes.
fn text(json: &str) -> Option<(&str, &str)> {
    let end = json.bytes().position(|byte| byte == b'"' || byte == b'\\')?;
    let rest = json[end..].strip_prefix('"')?;
    Some((&json[..end], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"{"level":"INFO","timestamp":"2026-11-22T18:15:21.101031","name":"kafka.lib.server.lobby","log_message":"Game Finished","task":"{}"}"#;
    const MICROS: i64 = 1_795_371_321_101_031;

    fn kind(json: &str) -> Kind {
        read(Some(json.as_bytes()), true).kind
    }

    #[test]
    fn our_own_envelopes_are_read_at_a_glance_and_others_all_the_same() {
        let spaced = OURS.replace(':', ": ").replace("18: 15: 21", "18:15:21");
        assert!(glance(OURS.as_bytes()).is_some() && glance(spaced.as_bytes()).is_none());
        for json in [OURS, &spaced] {
            let expected = Event { logged_at_micros: Some(MICROS), kind: Kind::Plain };
            assert_eq!(read(Some(json.as_bytes()), true), expected, "{json}");
        }
        for bad in ["{}", "null", r#""text""#, "no json", &OURS.replace("2026", "today"), &OURS.replace("INFO", "LOUD")]
        {
            let expected = Event { logged_at_micros: None, kind: Kind::Bad };
            assert_eq!(read(Some(bad.as_bytes()), true), expected, "{bad}");
        }
        assert_eq!(read(None, true).kind, Kind::Bad);
        assert_eq!(read(Some(b"\xff"), true).kind, Kind::Bad);
    }

    #[test]
    fn an_envelope_of_texts_is_flat_and_no_other_json_is() {
        for flat in [OURS, &OURS.replace(r#","task":"{}""#, ""), &OURS.replace("{}", r#"{\"a\":\"\\\\\"}"#)] {
            assert!(serde_json::from_str::<serde_json::Value>(flat).is_ok() && is_flat(flat), "{flat}");
        }
        for other in [
            "1",
            r#"{"task":1,"task":2}"#,
            &OURS.replace(r#""{}""#, r#"{"a":1e400}"#),
            &OURS.replace(r#""{}""#, r#""{}","task":"{}""#),
            &OURS.replace(r#""{}""#, r#""\\","more":"{}""#),
            &OURS.replace(r#","task":"{}""#, r#","more":[1]"#),
            &OURS.replace(r#","task""#, r#","name":"n","task""#),
        ] {
            assert!(serde_json::from_str::<&serde_json::value::RawValue>(other).is_ok() && !is_flat(other), "{other}");
        }
    }

    #[test]
    fn only_the_lobby_tells_of_games() {
        let game = "6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11";
        let task = format!(r#"{{"game_token":"{game}","user_token":"{game}"}}"#);
        let ending = OURS.replace("Game Finished", message::CLEANING).replace(r#""{}""#, &task);
        for json in [&ending, &ending.replace("{\"level\"", "{ \"level\"")] {
            assert!(
                matches!(kind(json), Kind::Cleaning(cleaning) if cleaning.game_token.to_string() == game),
                "{json}"
            );
            assert_eq!(read(Some(json.as_bytes()), false).kind, Kind::Plain, "{json}");
        }
        assert_eq!(kind(&ending.replace(&task, "\"a text\"")), Kind::Bad);
        assert_eq!(kind(&OURS.replace("\"{}\"", &task)), Kind::Plain);
        let selected = OURS.replace("Game Finished", message::HERO_SELECTED);
        assert_eq!(kind(&selected), Kind::HeroSelected);
        assert_eq!(read(Some(selected.as_bytes()), false).kind, Kind::Plain);
    }
}
