//! The envelope: one JSON object around every event, as the reference's workers read it.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use superhero_game::{GameToken, TimestampText, UserToken, parse_timestamp};
use superhero_text::{append, escape};

use crate::message;

/// The level of a log call, in the envelope's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// `DEBUG` (and tracing's `TRACE`).
    Debug,
    /// `INFO`.
    Info,
    /// `WARNING`.
    Warning,
    /// `ERROR`.
    Error,
    /// `CRITICAL`; never written here, but read.
    Critical,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// The envelope's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task<'a> {
    /// The envelope has no `task`.
    None,
    /// A text, which the envelope carries as a JSON string: JSON text in most events.
    Text(&'a str),
    /// A JSON object, which the envelope carries as it is. It has to be one line of valid JSON.
    Object(&'a str),
}

/// Appends an event's envelope, one line of JSON without its end.
///
/// `timestamp` is told in microseconds; the logger's name becomes `<transport>.<queue>`.
pub fn encode(
    out: &mut Vec<u8>,
    level: Level,
    timestamp: DateTime<Utc>,
    transport: &str,
    queue: &str,
    message: &str,
    task: Task<'_>,
) {
    let task_len = match task {
        Task::None => 0,
        // Most of what stands in quotes is JSON, whose every quote becomes two bytes.
        Task::Text(task) => task.len() + task.len() / 4,
        Task::Object(task) => task.len(),
    };
    out.reserve(FRAME_LEN + transport.len() + queue.len() + message.len() + task_len);
    out.extend_from_slice(br#"{"level":""#);
    append(out, level.as_str().as_bytes());
    out.extend_from_slice(br#"","timestamp":""#);
    append(out, TimestampText::new(timestamp).as_bytes());
    out.extend_from_slice(br#"","name":""#);
    escape(out, transport);
    out.push(b'.');
    escape(out, queue);
    out.extend_from_slice(br#"","log_message":""#);
    escape(out, message);
    match task {
        Task::None => out.extend_from_slice(br#""}"#),
        Task::Text(task) => {
            out.extend_from_slice(br#"","task":""#);
            escape(out, task);
            out.extend_from_slice(br#""}"#);
        }
        Task::Object(task) => {
            out.extend_from_slice(br#"","task":"#);
            append(out, task.as_bytes());
            out.push(b'}');
        }
    }
}

/// What an envelope takes beside its texts: the names, the longest level and the timestamp.
const FRAME_LEN: usize = 112;

/// An event's envelope, borrowed from the record's bytes where it can be.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<'a> {
    /// The level.
    pub level: Level,
    /// When the call was made; microseconds, UTC.
    pub timestamp: DateTime<Utc>,
    /// `<transport>.<module>`.
    pub name: Cow<'a, str>,
    /// What happened.
    pub log_message: Cow<'a, str>,
    /// The JSON of `task` as it stands in the envelope (a JSON string or an object); `None` where there is none.
    pub task: Option<&'a str>,
}

/// Why bytes are not an envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON, or a field is missing or of another type.
    #[error("not an event envelope: {0}")]
    Json(#[from] serde_json::Error),
    /// The `task` of a [`CLEANING`](message::CLEANING) event is not what it has to be.
    #[error("task of {:?} is not an object of game_token and user_token: {source}", message::CLEANING)]
    Cleaning {
        /// What it is.
        #[source]
        source: serde_json::Error,
    },
}

impl<'a> Envelope<'a> {
    /// Reads an envelope in one pass; fields that it does not know are left alone, and `null` is no task.
    ///
    /// # Errors
    /// Bytes that are no JSON object, or a field that is missing or of another type, named.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        // A derived reader would take an array of the fields' values as well.
        if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
            return Err(serde_json::Error::custom("expected a JSON object").into());
        }
        let Wire { level, timestamp, name, log_message, task } = serde_json::from_slice(bytes)?;
        let timestamp = parse_timestamp(&timestamp).ok_or_else(|| {
            serde_json::Error::custom(format!("timestamp {timestamp:?} is not like 2026-11-22T18:15:21.101031"))
        })?;
        Ok(Self { level, timestamp, name, log_message, task: task.map(RawValue::get) })
    }

    /// The game that is over and for whom, when this is a [`CLEANING`](message::CLEANING) event.
    ///
    /// # Errors
    /// It is one, but its task is not what it has to be.
    pub fn cleaning(&self) -> Result<Option<Cleaning>, EnvelopeError> {
        if self.log_message != message::CLEANING {
            return Ok(None);
        }
        match serde_json::from_str(self.task.unwrap_or("null")) {
            Ok(cleaning) => Ok(Some(cleaning)),
            Err(source) => Err(EnvelopeError::Cleaning { source }),
        }
    }
}

/// The task of a [`CLEANING`](message::CLEANING) event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaning {
    /// The game that is over.
    pub game_token: GameToken,
    /// The participant for whom it is.
    pub user_token: UserToken,
}

impl Cleaning {
    /// The JSON object that goes into the envelope.
    pub fn to_json(&self) -> String {
        format!(r#"{{"game_token":"{}","user_token":"{}"}}"#, self.game_token, self.user_token)
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    level: Level,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    log_message: Cow<'a, str>,
    // The raw text is skipped over, not taken apart: most readers never look into it.
    #[serde(borrow)]
    task: Option<&'a RawValue>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn time() -> DateTime<Utc> {
        parse_timestamp("2026-11-22T18:15:21.101031").unwrap()
    }

    fn encoded(message: &str, task: Task<'_>) -> String {
        let mut out = Vec::new();
        encode(&mut out, Level::Info, time(), "kafka", "lib.server.lobby", message, task);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn envelopes_are_those_of_the_specification() {
        let start = r#"{"level":"INFO","timestamp":"2026-11-22T18:15:21.101031","name":"kafka.lib.server.lobby","log_message":"It's \"on\"""#;
        for (task, end) in [
            (Task::None, "}"),
            (Task::Text("{\"a\":\"b\\n\"}\n\u{1}é"), r#","task":"{\"a\":\"b\\n\"}\n\u0001é"}"#),
            (Task::Object(r#"{"game_token":"g"}"#), r#","task":{"game_token":"g"}}"#),
        ] {
            assert_eq!(encoded("It's \"on\"", task), format!("{start}{end}"));
        }
    }

    #[test]
    fn the_references_envelopes_are_read() {
        let json =
            br#" {"level": "CRITICAL", "timestamp": "2026-11-22T18:15:21.101031", "name": "kafka.lib.server.lobby",
            "log_message": "H\u00e9ro", "task": {"a" : "}"}, "pid": [1, {"x": null}]} "#;
        let envelope = Envelope::parse(json).unwrap();
        assert_eq!(
            envelope,
            Envelope {
                level: Level::Critical,
                timestamp: time(),
                name: "kafka.lib.server.lobby".into(),
                log_message: "Héro".into(),
                task: Some(r#"{"a" : "}"}"#),
            }
        );
        assert!(matches!(envelope.name, Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_not_an_envelope_is_named() {
        let good = json!({"level": "INFO", "timestamp": "2026-11-22T18:15:21.101031", "name": "n", "log_message": "m"});
        let error = |json: &[u8]| Envelope::parse(json).unwrap_err().to_string();
        for field in ["level", "timestamp", "name", "log_message"] {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(field);
            let error = error(without.to_string().as_bytes());
            assert!(error.contains(&format!("missing field `{field}`")), "{error}");
        }
        for (field, value, expected) in [
            ("level", json!("LOUD"), "unknown variant `LOUD`"),
            ("timestamp", json!("today"), r#"timestamp "today" is not like 2026-11-22T18:15:21.101031"#),
            ("name", json!(7), "invalid type: integer `7`, expected a string"),
        ] {
            let mut wrong = good.clone();
            wrong[field] = value;
            let error = error(wrong.to_string().as_bytes());
            assert!(error.contains(expected), "{error}");
        }
        for (bytes, expected) in [
            (&b""[..], "EOF while parsing"),
            (b"plain text", "expected a JSON object"),
            (br#"["INFO","2026-11-22T18:15:21.101031","n","m",null]"#, "expected a JSON object"),
            (b"{\"name\":\"\xff\"}", "invalid unicode"),
            (b"{} {}", "missing field `level`"),
        ] {
            let error = error(bytes);
            assert!(error.contains(expected), "{error}");
        }
        assert!(Envelope::parse(format!("{good} {good}").as_bytes()).is_err());
    }

    #[test]
    fn a_cleaning_event_names_the_game_and_the_participant() {
        let game_token = "6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11".parse().unwrap();
        let cleaning = Cleaning { game_token, user_token: "00000000-0000-0000-0000-000000000002".parse().unwrap() };
        let json = encoded(message::CLEANING, Task::Object(&cleaning.to_json()));
        assert_eq!(Envelope::parse(json.as_bytes()).unwrap().cleaning().unwrap(), Some(cleaning));

        let other = encoded(message::TURN, Task::Object(&cleaning.to_json()));
        assert_eq!(Envelope::parse(other.as_bytes()).unwrap().cleaning().unwrap(), None);
        for task in [Task::None, Task::Text("{}"), Task::Object(r#"{"game_token":"x"}"#)] {
            let json = encoded(message::CLEANING, task);
            let error = Envelope::parse(json.as_bytes()).unwrap().cleaning().unwrap_err();
            assert!(matches!(error, EnvelopeError::Cleaning { .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_what_serde_json_writes_and_reads_back(
            level in proptest::sample::select(&Level::ALL[..]),
            micros in 0i64..4_000_000_000_000_000,
            transport in any::<String>(),
            queue in any::<String>(),
            message in any::<String>(),
            task in proptest::option::of(any::<String>()),
        ) {
            let timestamp = DateTime::from_timestamp_micros(micros).unwrap();
            let text = task.as_deref().map_or(Task::None, Task::Text);
            let mut out = b"before".to_vec();
            encode(&mut out, level, timestamp, &transport, &queue, &message, text);
            let json = out.strip_prefix(b"before").unwrap();

            let name = format!("{transport}.{queue}");
            let quoted = |text: &str| Value::from(text).to_string();
            let mut expected = format!(
                r#"{{"level":"{}","timestamp":"{}","name":{},"log_message":{}"#,
                level.as_str(), timestamp.format("%Y-%m-%dT%H:%M:%S%.6f"), quoted(&name), quoted(&message),
            );
            if let Some(task) = &task {
                expected.push_str(&format!(r#","task":{}"#, quoted(task)));
            }
            expected.push('}');
            prop_assert_eq!(std::str::from_utf8(json).unwrap(), expected);

            let envelope = Envelope::parse(json).unwrap();
            prop_assert_eq!((envelope.level, envelope.timestamp), (level, timestamp));
            prop_assert_eq!((&*envelope.name, &*envelope.log_message), (&*name, &*message));
            prop_assert_eq!(envelope.task.map(|task| serde_json::from_str::<String>(task).unwrap()), task);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = Envelope::parse(&bytes);
        }
    }
}
