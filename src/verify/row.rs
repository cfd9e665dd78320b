//! The rows of the raw table and of the dead letters, read in one pass and without copying where they are as the worker writes them.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use superhero_game::GameToken;
use superhero_sink::{PartitionId, Table};

use crate::id::Id;
use crate::readers;

/// Why a line is not a row of the file that it stands in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotARow {
    /// It is none of the table.
    Shape(String),
    /// It is of another partition, at this offset.
    Elsewhere { offset: i64, reason: String },
}

impl NotARow {
    fn shape(reason: impl ToString) -> Self {
        Self::Shape(reason.to_string())
    }
}

/// A row of the raw table.
#[derive(Debug)]
pub(crate) struct RawRow<'a> {
    pub(crate) offset: i64,
    pub(crate) timestamp: Timestamp,
    pub(crate) id: Option<Id>,
    /// The partition that the record was counted for, if that is another: then it is a copy.
    pub(crate) copied_from: Option<&'a str>,
    key: Bytes<'a>,
    value: Bytes<'a>,
    line: &'a [u8],
    /// The line behind the brace, or behind the reason of a dead letter.
    record: &'a [u8],
}

/// A key or a value.
#[derive(Debug)]
enum Bytes<'a> {
    /// As JSON.
    Json(&'a str),
    Base64(&'a str),
    Absent,
    /// Left out, since it is too large or cannot be read.
    LeftOut,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFields<'a> {
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    topic: &'a str,
    partition: i32,
    offset: i64,
    #[serde(borrow, deserialize_with = "nullable")]
    timestamp: Option<&'a str>,
    /// In none of the earlier rows.
    timestamp_raw: Option<i64>,
    #[serde(borrow)]
    key: &'a RawValue,
    key_format: Option<&'a str>,
    /// Of earlier rows only.
    key_base64: Option<&'a str>,
    // An option with a reader of its own has to be there, if only as null.
    #[serde(borrow, deserialize_with = "nullable")]
    id: Option<&'a str>,
    value_format: Option<&'a str>,
    value_base64: Option<&'a str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// What a row says of its record's key, id and value.
struct Content<'a> {
    key: Bytes<'a>,
    id: Option<&'a str>,
    value: Bytes<'a>,
}

impl<'a> RecordFields<'a> {
    /// Rows of versions without the two formats have null for what is absent, and a column for base64 only where it is needed; both
    /// kinds may stand side by side.
    fn content(&self) -> Result<Content<'a>, NotARow> {
        match (self.key_format, self.value_format) {
            (Some(key_format), Some(value_format)) => self.with_formats(key_format, value_format),
            (None, None) => self.with_nulls(),
            (Some(_), None) => Err(NotARow::shape("it has key_format and no value_format")),
            (None, Some(_)) => Err(NotARow::shape("it has value_format and no key_format")),
        }
    }

    fn with_formats(&self, key_format: &str, value_format: &str) -> Result<Content<'a>, NotARow> {
        let (key, value) = (self.key.get(), self.value.get());
        let Some(key_text) = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')) else {
            return Err(NotARow::shape("the key is not text"));
        };
        let key = match key_format {
            "text" => Bytes::Json(key),
            "base64" => decodable("key", key_text)?,
            "none" if key_text.is_empty() => Bytes::Absent,
            "none" => return Err(NotARow::shape("it has a key, and key_format says none")),
            other => return Err(NotARow::Shape(format!("key_format {other:?} is not text, base64 or none"))),
        };
        let Some(id) = self.id else { return Err(NotARow::shape("the id is not text")) };
        let Some(value_base64) = self.value_base64 else { return Err(NotARow::shape("missing field `value_base64`")) };
        let is_current = self.timestamp_raw.is_some();
        let (encoding, why) = match value_format.split_once(':') {
            Some((encoding, why)) if is_current => (encoding, Some(why)),
            _ => (value_format, None),
        };
        let value = match (encoding, why) {
            ("json", None) if value_base64.is_empty() => {
                if is_current && let Some(oddity) = readers::oddity(value) {
                    return Err(NotARow::Shape(format!("value has what readers refuse: {oddity}")));
                }
                Bytes::Json(value)
            }
            ("base64", None) if value == "null" => decodable("value_base64", value_base64)?,
            ("base64", Some(why)) if value == "null" => match STANDARD.decode(value_base64) {
                Ok(json) if readers::has(&json, why) => Bytes::Base64(value_base64),
                Ok(_) => {
                    return Err(NotARow::Shape(format!("value_base64 is not as value_format says, {value_format}")));
                }
                Err(_) => return Err(NotARow::shape("value_base64 is no base64")),
            },
            ("none", None) if value == "null" && value_base64.is_empty() => Bytes::Absent,
            ("left_out", None) if value == "null" && value_base64.is_empty() => Bytes::LeftOut,
            ("json" | "base64" | "none" | "left_out", None) | ("base64", Some(_)) => {
                return Err(NotARow::Shape(format!(
                    "value and value_base64 are not as value_format says, {value_format}"
                )));
            }
            _ => {
                return Err(NotARow::Shape(format!(
                    "value_format {value_format:?} is not json, base64, none or left_out"
                )));
            }
        };
        if self.key_base64.is_some() {
            return Err(NotARow::shape("it has both key_format and key_base64"));
        }
        Ok(Content { key, id: (!id.is_empty()).then_some(id), value })
    }

    fn with_nulls(&self) -> Result<Content<'a>, NotARow> {
        let key = bytes("key", self.key, self.key_base64)?;
        if matches!(key, Bytes::Json(json) if !json.starts_with('"')) {
            return Err(NotARow::shape("the key is neither text nor null"));
        }
        Ok(Content { key, id: self.id, value: bytes("value", self.value, self.value_base64)? })
    }
}

fn nullable<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a str>, D::Error> {
    Option::deserialize(deserializer)
}

impl<'a> RawRow<'a> {
    /// The line is a row of `table`, which is [`Table::Raw`] or [`Table::Dead`], and of the partition.
    pub(crate) fn read(
        line: &'a [u8],
        table: Table,
        partition: &PartitionId,
        clock: &mut Clock,
    ) -> Result<Self, NotARow> {
        let fields: RecordFields<'_> = object(line)?;
        let record = match (table, fields.reason) {
            (Table::Dead, Some(reason)) if reason.get().starts_with('"') => {
                let start = r#"{"reason":"#.len() + reason.get().len() + ",".len();
                line.get(start..).unwrap_or_default()
            }
            (Table::Dead, _) => return Err(NotARow::shape("it has no reason")),
            (_, Some(_)) => return Err(NotARow::shape("it has a reason, as only dead letters have")),
            (_, None) => &line[1..],
        };
        let offset = origin(fields.topic, fields.partition, fields.offset, partition)?;
        let timestamp = Timestamp::read(fields.timestamp, fields.timestamp_raw, clock)?;
        let Content { key, id, value } = fields.content()?;
        let (id, copied_from) = match id {
            Some(text) => Id::from_row(text)
                .map(|(id, place)| (Some(id), place))
                .ok_or_else(|| NotARow::Shape(format!("{text:?} is no id")))?,
            None => (None, None),
        };
        Ok(Self { offset, timestamp, id, copied_from, key, value, line, record })
    }

    /// The number of its record, if that counts in this partition.
    pub(crate) fn number(&self) -> Option<Id> {
        self.id.filter(|_| self.copied_from.is_none())
    }

    /// The key of its record.
    pub(crate) fn key(&self) -> Option<Cow<'a, [u8]>> {
        match self.key {
            Bytes::Json(json) => match json.as_bytes() {
                [b'"', text @ .., b'"'] if !text.contains(&b'\\') => Some(text.into()),
                [b'"', ..] => serde_json::from_str(json).ok().map(|text: String| text.into_bytes().into()),
                _ => None,
            },
            Bytes::Base64(text) => STANDARD.decode(text).ok().map(Cow::Owned),
            Bytes::Absent | Bytes::LeftOut => None,
        }
    }

    /// The value of its record but for white space around JSON; none for a tombstone, and for the JSON text `null`.
    pub(crate) fn value(&self) -> Option<Cow<'a, [u8]>> {
        match self.value {
            Bytes::Json(json) => Some(json.as_bytes().into()),
            Bytes::Base64(text) => STANDARD.decode(text).ok().map(Cow::Owned),
            Bytes::Absent | Bytes::LeftOut => None,
        }
    }

    /// Whether it has no value, though its record may have one.
    pub(crate) fn leaves_value_out(&self) -> bool {
        matches!(self.value, Bytes::LeftOut)
    }

    /// The game that the key names, as the keys of our own events do.
    pub(crate) fn game(&self) -> Option<GameToken> {
        match self.key {
            Bytes::Json(json) => json.strip_prefix('"')?.strip_suffix('"')?.parse().ok(),
            Bytes::Base64(_) | Bytes::Absent | Bytes::LeftOut => None,
        }
    }

    /// What stands in a dead letter behind the reason, and in the raw row all alone; as a number, to be remembered.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.record);
        hasher.finish()
    }

    /// Whether the row has this key.
    pub(crate) fn has_key(&self, key: Option<&[u8]>) -> bool {
        match (&self.key, key) {
            (Bytes::Absent, None) => true,
            (Bytes::Json(json), Some(key)) => match json.as_bytes() {
                [b'"', text @ .., b'"'] if !text.contains(&b'\\') => text == key,
                json => serde_json::from_slice::<String>(json).is_ok_and(|text| text.as_bytes() == key),
            },
            (Bytes::Base64(text), Some(key)) => *text == STANDARD.encode(key),
            _ => false,
        }
    }

    /// Whether the row has this value, verbatim.
    pub(crate) fn has_value(&self, value: Option<&[u8]>) -> bool {
        match (&self.value, value) {
            (Bytes::Absent, None) => true,
            (Bytes::Json(json), Some(value)) => json.as_bytes() == value || self.ends_with_value(value),
            // The record's value is the JSON text itself.
            (Bytes::Absent, Some(value)) => self.ends_with_value(value),
            (Bytes::Base64(text), Some(value)) => *text == STANDARD.encode(value),
            (Bytes::Json(_), None) | (Bytes::Base64(_), None) | (Bytes::LeftOut, _) => false,
        }
    }

    /// JSON may have white space around it, which is not a part of the value as it was read.
    fn ends_with_value(&self, value: &[u8]) -> bool {
        let before = self.line.strip_suffix(b"}").and_then(|line| line.strip_suffix(value));
        before.is_some_and(|before| before.ends_with(b"\"value\":"))
    }
}

fn bytes<'a>(name: &str, json: &'a RawValue, base64: Option<&'a str>) -> Result<Bytes<'a>, NotARow> {
    match (json.get(), base64) {
        ("null", None) => Ok(Bytes::Absent),
        ("null", Some(text)) => decodable(&format!("{name}_base64"), text),
        (json, None) => Ok(Bytes::Json(json)),
        (_, Some(_)) => Err(NotARow::Shape(format!("it has both {name} and {name}_base64"))),
    }
}

fn decodable<'a>(name: &str, text: &'a str) -> Result<Bytes<'a>, NotARow> {
    match STANDARD.decode(text) {
        Ok(_) => Ok(Bytes::Base64(text)),
        Err(_) => Err(NotARow::Shape(format!("{name} is no base64"))),
    }
}

/// When a record was made, as far as it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp {
    /// UTC; none if its number is no plausible time.
    pub(crate) date: Option<NaiveDate>,
    /// The number as it came; milliseconds from 1970 if it is plausible.
    pub(crate) millis: i64,
    /// As rows of earlier versions have it: beyond all calendars it was told as the beginning of 1970.
    is_earlier: bool,
}

impl Timestamp {
    /// Whether the row has the timestamp of its record.
    pub(crate) fn is_of(&self, record_millis: i64) -> bool {
        let is_beyond = || DateTime::from_timestamp_millis(record_millis).is_none();
        self.millis == record_millis || self.is_earlier && self.millis == 0 && is_beyond()
    }

    /// Of the two columns: the one is a time, and the other nothing, or the other way around.
    fn read(text: Option<&str>, raw: Option<i64>, clock: &mut Clock) -> Result<Self, NotARow> {
        let is_plausible = |date: NaiveDate| (1971..=9999).contains(&date.year());
        match (text, raw) {
            (Some(text), raw) => {
                let Some(Time { date, millis }) = clock.read(text) else {
                    return Err(NotARow::Shape(format!("timestamp {text:?} is not like 2026-11-22T18:15:21.101Z")));
                };
                match raw {
                    None => Ok(Self { date: Some(date), millis, is_earlier: true }),
                    Some(0) if is_plausible(date) => Ok(Self { date: Some(date), millis, is_earlier: false }),
                    Some(0) => Err(NotARow::Shape(format!("timestamp {text} is none of the years 1971 to 9999"))),
                    Some(_) => Err(NotARow::shape("it has both timestamp and timestamp_raw")),
                }
            }
            (None, Some(millis)) => match DateTime::from_timestamp_millis(millis) {
                Some(time) if is_plausible(time.date_naive()) => {
                    Err(NotARow::Shape(format!("timestamp is null, and timestamp_raw {millis} is a plausible time")))
                }
                _ => Ok(Self { date: None, millis, is_earlier: false }),
            },
            (None, None) => Err(NotARow::shape("timestamp is null, and there is no timestamp_raw")),
        }
    }
}

/// A time that a row tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Time {
    date: NaiveDate,
    millis: i64,
}

/// Reads timestamps, most of which are of the same day.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    latest: Option<([u8; 10], NaiveDate)>,
}

impl Clock {
    fn read(&mut self, text: &str) -> Option<Time> {
        let Ok(fixed) = <&[u8; 24]>::try_from(text.as_bytes()) else { return Self::read_any(text) };
        let (day, time) = fixed.split_first_chunk::<10>()?;
        let date = match self.latest {
            Some((latest, date)) if latest == *day => date,
            _ => return Self::read_any(text).inspect(|found| self.latest = Some((*day, found.date))),
        };
        let &[b'T', h1, h2, b':', m1, m2, b':', s1, s2, b'.', f1, f2, f3, b'Z'] = time else { return None };
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0, |number, digit| match digit {
                b'0'..=b'9' => Some(number * 10 + i64::from(digit - b'0')),
                _ => None,
            })
        };
        let (hour, minute, second) = (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let midnight = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
        let millis = midnight + ((hour * 60 + minute) * 60 + second) * 1000 + number(&[f1, f2, f3])?;
        Some(Time { date, millis })
    }

    /// Years of more or fewer than four digits have a sign.
    fn read_any(text: &str) -> Option<Time> {
        let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.3fZ").ok()?;
        let rewritten = time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        (rewritten == text).then(|| Time { date: time.date(), millis: time.and_utc().timestamp_millis() })
    }
}

/// A row as the lanes beside the raw one need it.
pub(crate) trait TableRow: Copy {
    const TABLE: Table;

    /// Whether a record makes several rows, which stand side by side in one file.
    const IS_ONE_OF_SEVERAL: bool;

    /// The line is a row of the table, and of the partition.
    fn read(line: &[u8], partition: &PartitionId, clock: &mut Clock) -> Result<Self, NotARow>;

    /// Of the record that it was made of.
    fn offset(&self) -> i64;

    /// The date of that record, or that it has none; where the row tells it.
    fn date(&self) -> Option<Option<NaiveDate>> {
        None
    }
}

/// A dead letter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadRow {
    offset: i64,
    date: Option<NaiveDate>,
    /// See [`RawRow::fingerprint`].
    pub(crate) fingerprint: u64,
}

impl TableRow for DeadRow {
    const TABLE: Table = Table::Dead;
    const IS_ONE_OF_SEVERAL: bool = false;

    fn read(line: &[u8], partition: &PartitionId, clock: &mut Clock) -> Result<Self, NotARow> {
        let row = RawRow::read(line, Table::Dead, partition, clock)?;
        Ok(Self { offset: row.offset, date: row.timestamp.date, fingerprint: row.fingerprint() })
    }

    fn offset(&self) -> i64 {
        self.offset
    }

    fn date(&self) -> Option<Option<NaiveDate>> {
        Some(self.date)
    }
}

/// A derived reader would take an array of the fields' values as well.
pub(crate) fn object<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, NotARow> {
    if line.first() != Some(&b'{') {
        return Err(NotARow::shape("it is no JSON object"));
    }
    serde_json::from_slice(line).map_err(NotARow::shape)
}

/// The row's offset, if it is one of the file's partition.
pub(crate) fn origin(topic: &str, partition: i32, offset: i64, file: &PartitionId) -> Result<i64, NotARow> {
    if offset < 0 {
        return Err(NotARow::Shape(format!("offset {offset} is negative")));
    }
    if offset == i64::MAX {
        return Err(NotARow::Shape(format!("offset {offset} is beyond all that a topic can hold")));
    }
    if topic != file.topic() || partition != file.partition() {
        return Err(NotARow::Elsewhere { offset, reason: format!("the row is one of {topic}/{partition}") });
    }
    Ok(offset)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn partition() -> PartitionId {
        PartitionId::new("t", 3).unwrap()
    }

    /// Of a row as it is written now, without an id.
    fn fields(key: &str, key_format: &str, value_format: &str, value_base64: &str, value: &str) -> String {
        format!(
            r#""key":{key},"key_format":"{key_format}","id":"","value_format":"{value_format}","value_base64":"{value_base64}","value":{value}"#
        )
    }

    const ID: &str = "0123456789abcdef0123456789abcdef-17";

    /// A row as it is written now, with a timestamp and a raw one.
    fn dated(timestamp: &str, timestamp_raw: &str) -> String {
        let times = format!(r#""timestamp":{timestamp},"timestamp_raw":{timestamp_raw},"key""#);
        raw(&fields(r#""k""#, "text", "json", "", "{}"))
            .replace(r#""timestamp":"2026-11-22T18:15:21.101Z","key""#, &times)
    }

    fn raw(fields: &str) -> String {
        format!(r#"{{"topic":"t","partition":3,"offset":42,"timestamp":"2026-11-22T18:15:21.101Z",{fields}}}"#)
    }

    fn read(line: &str) -> Result<RawRow<'_>, NotARow> {
        RawRow::read(line.as_bytes(), Table::Raw, &partition(), &mut Clock::default())
    }

    #[test]
    fn a_row_has_the_key_and_the_value_of_its_record_verbatim() {
        type Record<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);
        let cases: [(&str, Record<'_>); 15] = [
            (&fields(r#""k""#, "text", "json", "", r#"{"a": 1}"#), (Some(b"k"), Some(br#"{"a": 1}"#))),
            (&fields(r#""\"k\"""#, "text", "json", "", r#" {"a":1}  "#), (Some(b"\"k\""), Some(br#" {"a":1}  "#))),
            (&fields(r#""""#, "none", "none", "", "null"), (None, None)),
            (&fields(r#""""#, "text", "base64", "", "null"), (Some(b""), Some(b""))),
            (&fields(r#""""#, "base64", "base64", "bnVsbA==", "null"), (Some(b""), Some(b"null"))),
            (&fields(r#""/w==""#, "base64", "base64", "bm8ganNvbg==", "null"), (Some(b"\xff"), Some(b"no json"))),
            (&fields(r#""null""#, "text", "json", "", "\"\""), (Some(b"null"), Some(b"\"\""))),
            (&fields(r#""none""#, "text", "json", "", "1"), (Some(b"none"), Some(b"1"))),
            // Of earlier versions.
            (r#""key":"k","id":null,"value":{"a": 1}"#, (Some(b"k"), Some(br#"{"a": 1}"#))),
            (r#""key":"\"k\"","id":null,"value": {"a":1}  "#, (Some(b"\"k\""), Some(br#" {"a":1}  "#))),
            (r#""key":null,"id":null,"value":null"#, (None, None)),
            (r#""key":"","id":null,"value":null"#, (Some(b""), Some(b"null"))),
            (r#""key":null,"id":null,"value": null"#, (None, Some(b" null"))),
            (
                r#""key":null,"key_base64":"/w==","id":null,"value":null,"value_base64":"bm8ganNvbg==""#,
                (Some(b"\xff"), Some(b"no json")),
            ),
            (r#""key":null,"id":null,"value":null,"value_base64":"""#, (None, Some(b""))),
        ];
        for (fields, (key, value)) in cases {
            let line = raw(fields);
            let row = read(&line).unwrap();
            assert!(row.has_key(key) && row.has_value(value), "{line}");
            assert!(!row.has_key(Some(b"other")) && !row.has_value(Some(b"other")), "{line}");
            assert!(!row.has_key(key.map_or(Some(&b""[..]), |_| None)), "{line}");
        }
    }

    #[test]
    fn a_row_of_our_own_tells_who_produced_it() {
        let now = fields(r#""k""#, "text", "json", "", "{}").replace(r#""id":"""#, &format!(r#""id":"{ID}""#));
        for line in [raw(&now), raw(&format!(r#""key":"k","id":"{ID}","value":{{}}"#))] {
            let row = read(&line).unwrap();
            assert_eq!((row.offset, row.id), (42, Id::from_row(ID).map(|(id, _)| id)));
            assert_eq!(row.timestamp.millis, 1_795_371_321_101);
            assert_eq!(row.value().as_deref(), Some(&b"{}"[..]));
        }
    }

    #[test]
    fn what_is_no_row_is_refused() {
        let now = fields(r#""k""#, "text", "json", "", "{}");
        let good = r#""key":"k","id":null,"value":{}"#;
        assert!(read(&raw(&now)).is_ok() && read(&raw(good)).is_ok());
        let without = |column: &str| raw(&now.replace(column, ""));
        let cases = [
            (String::new(), "no JSON object"),
            ("[\"t\",3,42]".to_owned(), "no JSON object"),
            (raw(good).replace("42", "-1"), "negative"),
            (raw(good).replace("42", "9223372036854775807"), "beyond all"),
            (raw(good).replace("42", "9223372036854775808"), "invalid"),
            (raw(good).replace("18:15", "24:15"), "is not like"),
            (raw(good).replace(".101Z", ".1010Z"), "is not like"),
            (raw(&format!("{good},\"more\":1")), "unknown field"),
            (raw(&format!("{good},\"reason\":\"x\"")), "only dead letters"),
            (raw(r#""id":null,"value":{}"#), "missing field `key`"),
            (raw(r#""key":"k","value":{}"#), "missing field `id`"),
            (raw(r#""key":"k","id":null"#), "missing field `value`"),
            (raw(r#""key":7,"id":null,"value":{}"#), "neither text nor null"),
            (raw(r#""key":"k","id":"7","value":{}"#), "is no id"),
            (raw(r#""key":"k","id":null,"value":{"}"#), "EOF while parsing"),
            (raw(r#""key":"k","id":null,"value":{},"value_base64":"""#), "both value and value_base64"),
            (raw(r#""key":"k","id":null,"value":null,"value_base64":"?""#), "no base64"),
            (format!("{} {{}}", raw(good)), "trailing"),
            (without(r#""key":"k","#), "missing field `key`"),
            (without(r#""key_format":"text","#), "no key_format"),
            (without(r#""id":"","#), "missing field `id`"),
            (without(r#""value_format":"json","#), "no value_format"),
            (without(r#""value_base64":"","#), "missing field `value_base64`"),
            (without(r#","value":{}"#), "missing field `value`"),
            (raw(&now.replace("\"k\"", "null")), "the key is not text"),
            (raw(&now.replace("\"id\":\"\"", "\"id\":null")), "the id is not text"),
            (raw(&now.replace("\"id\":\"\"", "\"id\":\"7\"")), "is no id"),
            (raw(&format!("{now},\"key_base64\":\"\"")), "both key_format and key_base64"),
            (raw(&fields(r#""k""#, "none", "json", "", "{}")), "key_format says none"),
            (raw(&fields(r#""?""#, "base64", "json", "", "{}")), "key is no base64"),
            (raw(&fields(r#""k""#, "utf-8", "json", "", "{}")), "not text, base64 or none"),
            (raw(&fields(r#""k""#, "text", "json", "e30=", "{}")), "as value_format says, json"),
            (raw(&fields(r#""k""#, "text", "base64", "e30=", "{}")), "as value_format says, base64"),
            (raw(&fields(r#""k""#, "text", "none", "", "{}")), "as value_format says, none"),
            (raw(&fields(r#""k""#, "text", "none", "e30=", "null")), "as value_format says, none"),
            (raw(&fields(r#""k""#, "text", "base64", "?", "null")), "value_base64 is no base64"),
            (raw(&fields(r#""k""#, "text", "avro", "", "{}")), "not json, base64, none or left_out"),
        ];
        for (line, reason) in cases {
            match read(&line) {
                Err(NotARow::Shape(said)) => assert!(said.contains(reason), "{line}: {said}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        for line in [raw(good).replace("\"t\"", "\"u\""), raw(good).replace(":3,", ":4,")] {
            assert!(matches!(read(&line), Err(NotARow::Elsewhere { offset: 42, .. })), "{line}");
        }
    }

    #[test]
    fn a_timestamp_is_a_plausible_time_or_stands_beside_as_it_came() {
        for (timestamp, timestamp_raw, expected) in [
            (r#""2026-11-22T18:15:21.101Z""#, "0", Ok((1_795_371_321_101, Some("2026-11-22")))),
            (r#""1971-01-01T00:00:00.000Z""#, "0", Ok((31_536_000_000, Some("1971-01-01")))),
            (r#""9999-12-31T23:59:59.999Z""#, "0", Ok((253_402_300_799_999, Some("9999-12-31")))),
            ("null", "-1", Ok((-1, None))),
            ("null", "0", Ok((0, None))),
            ("null", "31535999999", Ok((31_535_999_999, None))),
            ("null", "253402300800000", Ok((253_402_300_800_000, None))),
            ("null", "1795371321101000000", Ok((1_795_371_321_101_000_000, None))),
            (r#""1970-12-31T23:59:59.999Z""#, "0", Err("none of the years")),
            (r#""+58879-01-01T00:00:00.000Z""#, "0", Err("none of the years")),
            (r#""2026-11-22T18:15:21.101Z""#, "1795371321101", Err("both timestamp and timestamp_raw")),
            ("null", "1795371321101", Err("is a plausible time")),
            ("null", "null", Err("no timestamp_raw")),
            ("null", "1.5", Err("invalid type")),
        ] {
            let line = dated(timestamp, timestamp_raw);
            match (read(&line), expected) {
                (Ok(row), Ok((millis, date))) => {
                    let found = row.timestamp.date.map(|date| date.to_string());
                    assert_eq!((row.timestamp.millis, found.as_deref()), (millis, date), "{line}");
                    assert!(row.timestamp.is_of(millis) && !row.timestamp.is_of(millis ^ 1), "{line}");
                }
                (Err(NotARow::Shape(said)), Err(reason)) => assert!(said.contains(reason), "{line}: {said}"),
                (found, _) => panic!("{line}: {found:?}"),
            }
        }
        // Of earlier versions, for whom nanoseconds were the beginning of 1970.
        let line =
            raw(r#""key":"k","id":null,"value":1"#).replace("2026-11-22T18:15:21.101Z", "1970-01-01T00:00:00.000Z");
        let timestamp = read(&line).unwrap().timestamp;
        assert!(timestamp.is_of(0) && timestamp.is_of(i64::MAX) && !timestamp.is_of(-1), "{timestamp:?}");
    }

    #[test]
    fn values_that_readers_refuse_stand_in_base64_with_the_reason() {
        let now = |format: &str, base64: &str, value: &str| {
            let fields = fields(r#""k""#, "text", format, base64, value);
            raw(&fields).replace("\"key\":", "\"timestamp_raw\":0,\"key\":")
        };
        let surrogate = r#"{"a":"\ud800"}"#;
        let encoded = STANDARD.encode(surrogate);
        let line = now("base64:surrogate", &encoded, "null");
        let row = read(&line).unwrap();
        assert!(row.has_value(Some(surrogate.as_bytes())) && !row.has_value(Some(b"{}")));
        for (line, reason) in [
            (now("json", "", surrogate), "value has what readers refuse: surrogate"),
            (now("json", "", "[1,1e400]"), "value has what readers refuse: number"),
            (now("base64:depth", &encoded, "null"), "not as value_format says, base64:depth"),
            (now("base64:surrogate", "e30=", "null"), "not as value_format says, base64:surrogate"),
            (now("base64:surrogate", &encoded, "{}"), "not as value_format says, base64:surrogate"),
            (now("base64:other", &encoded, "null"), "not as value_format says, base64:other"),
            (now("json:surrogate", "", surrogate), "is not json, base64, none or left_out"),
            (
                raw(&fields(r#""k""#, "text", "base64:surrogate", &encoded, "null")),
                "is not json, base64, none or left_out",
            ),
        ] {
            match read(&line) {
                Err(NotARow::Shape(said)) => assert!(said.contains(reason), "{line}: {said}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        // Of earlier versions.
        assert!(read(&raw(&fields(r#""k""#, "text", "json", "", surrogate))).is_ok());
    }

    #[test]
    fn dead_letters_have_a_reason() {
        let check = |fields: &str| DeadRow::read(raw(fields).as_bytes(), &partition(), &mut Clock::default());
        let dead = raw(r#""key":null,"id":null,"value":null"#).replacen('{', r#"{"reason":"no \"value\"","#, 1);
        let dead = DeadRow::read(dead.as_bytes(), &partition(), &mut Clock::default()).unwrap();
        let same = raw(r#""key":null,"id":null,"value":null"#);
        let other = raw(r#""key":null,"id":null,"value":1"#);
        assert_eq!((dead.offset(), dead.fingerprint), (42, read(&same).unwrap().fingerprint()));
        assert_ne!(dead.fingerprint, read(&other).unwrap().fingerprint());
        assert!(check(r#""key":null,"id":null,"value":null"#).is_err());
        assert!(check(r#""reason":7,"key":null,"id":null,"value":null"#).is_err());
    }

    #[test]
    fn timestamps_have_one_spelling_whatever_the_year() {
        let mut clock = Clock::default();
        for (text, millis) in [
            ("2026-11-22T18:15:21.101Z", Some(1_795_371_321_101)),
            ("2026-11-22T00:00:00.000Z", Some(1_795_305_600_000)),
            ("2026-11-22T23:59:60.000Z", None),
            ("2026-11-22 18:15:21.101Z", None),
            ("2026-11-22T18:15:21.101", None),
            ("2026-02-30T18:15:21.101Z", None),
            ("1970-01-01T00:00:00.001Z", Some(1)),
            ("+12345-01-01T00:00:00.000Z", Some(327_403_468_800_000)),
            ("-0001-12-31T23:59:59.999Z", Some(-62_198_755_200_001 + 31_536_000_000 + 31_622_400_000)),
        ] {
            let found = clock.read(text);
            match millis {
                Some(_) => assert!(found.is_some(), "{text}"),
                None => assert_eq!(found, None, "{text}"),
            }
            if let (Some(millis), Some(found)) = (millis, found)
                && !text.starts_with(['+', '-'])
            {
                assert_eq!(found.millis, millis, "{text}");
            }
        }
    }
}
