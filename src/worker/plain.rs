//! Envelopes exactly as the transport writes most of them, recognised without being taken apart: a fifth of the worker's
//! time would go into parsing them, only to learn that nothing is to be done.
//!
//! Whatever is not plain (another order, white space, escapes other than `\"`, text beyond ASCII, an object as its task)
//! is for [`Envelope::parse`](superhero_event::Envelope::parse); what is plain, that accepts.

use superhero_event::Level;
use superhero_game::parse_timestamp;

/// The `log_message` of a plain envelope, which is then valid JSON on one line.
pub(crate) fn log_message(value: &[u8]) -> Option<&[u8]> {
    let (level, rest) = text(value.strip_prefix(br#"{"level":""#)?)?;
    if !Level::ALL.iter().any(|known| known.as_str().as_bytes() == level) {
        return None;
    }
    let (timestamp, rest) = text(rest.strip_prefix(br#","timestamp":""#)?)?;
    parse_timestamp(std::str::from_utf8(timestamp).ok()?)?;
    let (_, rest) = text(rest.strip_prefix(br#","name":""#)?)?;
    let (message, rest) = text(rest.strip_prefix(br#","log_message":""#)?)?;
    let is_plain = match rest.strip_prefix(br#","task":""#) {
        Some(task) => task.strip_suffix(b"}").is_some_and(is_quoted_json),
        None => rest == b"}",
    };
    is_plain.then_some(message)
}

/// Splits behind the quote that ends a text without escapes.
fn text(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = value.iter().position(|byte| *byte == b'"')?;
    let (text, rest) = (&value[..end], &value[end + 1..]);
    let is_plain = !text.iter().fold(false, |found, byte| found | !is_plain(*byte) | (*byte == b'\\'));
    is_plain.then_some((text, rest))
}

/// Whether `rest` is the rest of a JSON string behind its first quote, with every quote in it behind a backslash and every
/// backslash in front of a quote: JSON text without nested escapes.
fn is_quoted_json(rest: &[u8]) -> bool {
    let Some((b'"', inner)) = rest.split_last() else { return false };
    let (Some(first), Some(last)) = (inner.first(), inner.last()) else { return true };
    let pairs = inner.iter().zip(&inner[1..]);
    // Without a branch in the loop, the compiler looks at many bytes at once.
    let strange = pairs.fold(!is_plain(*last), |found, (byte, following)| {
        found | !is_plain(*byte) | ((*byte == b'\\') != (*following == b'"'))
    });
    !strange && *first != b'"' && *last != b'\\'
}

/// Neither a control character nor a part of a character beyond ASCII.
fn is_plain(byte: u8) -> bool {
    (0x20..0x80).contains(&byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use superhero_event::{Envelope, Task, encode};

    use super::*;

    fn envelope(level: Level, micros: i64, queue: &str, message: &str, task: Task<'_>) -> Vec<u8> {
        let mut value = Vec::new();
        let timestamp = DateTime::from_timestamp_micros(micros).unwrap();
        encode(&mut value, level, timestamp, "kafka", queue, message, task);
        value
    }

    #[test]
    fn what_the_transport_writes_for_attacks_and_turns_is_plain() {
        let attack =
            r#"{"TIMESTAMP":"2026-11-22T18:15:21.101031","STATUS":{"ACTION":"ATTACK","DETAILS":{"ENEMY_TOKEN":null}}}"#;
        for task in [Task::None, Task::Text(attack), Task::Text(""), Task::Text("x"), Task::Text("\"")] {
            for level in Level::ALL {
                let value = envelope(level, 0, "lib.server.game", "Attack Completed", task);
                assert_eq!(log_message(&value), Some(&b"Attack Completed"[..]), "{}", String::from_utf8_lossy(&value));
            }
        }
    }

    #[test]
    fn what_has_to_be_looked_at_is_not() {
        for task in [Task::Object("{}"), Task::Text("\\"), Task::Text("a\nb"), Task::Text("é"), Task::Text("\\\"")] {
            assert_eq!(log_message(&envelope(Level::Info, 0, "q", "m", task)), None, "{task:?}");
        }
        assert_eq!(log_message(&envelope(Level::Info, 0, "q", "a \"quote\"", Task::None)), None);
        assert_eq!(log_message(b""), None);
    }

    proptest! {
        #[test]
        fn what_is_plain_is_an_envelope_on_one_line(
            micros in 0_i64..253_000_000_000_000_000, queue in "[a-z._]{0,20}", message in "[ -~]{0,20}",
            task in prop_oneof![Just(None), "[ -~]{0,40}".prop_map(Some), "(\"|[a-z]|\\\\){0,12}".prop_map(Some), any::<String>().prop_map(Some)],
            changes in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(b'"'), Just(b'\\'), Just(b'}'), any::<u8>()]), 0..3),
        ) {
            let task = task.as_deref().map_or(Task::None, Task::Text);
            let mut value = envelope(Level::Info, micros, &queue, &message, task);
            for (index, byte) in changes {
                let at = index.index(value.len());
                value[at] = byte;
            }
            if let Some(message) = log_message(&value) {
                let parsed = Envelope::parse(&value).unwrap();
                prop_assert_eq!(parsed.log_message.as_bytes(), message);
                prop_assert!(value.is_ascii() && crate::row::is_single_line(&value));
            }
        }
    }
}
