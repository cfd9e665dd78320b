//! One record as one line of JSON, written by hand into a buffer that is used again for the next ones.
//!
//! This is the worker's hot path: what is the same for many records (the topic, the second of the timestamp) is turned
//! into text once, and the value is copied as it stands.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, Utc};
use superhero_text::{append, escape};

use crate::id::RecordId;
use crate::readable::Unreadable;

/// A record as the rows show it, borrowed from what was fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    /// Its offset in the partition.
    pub(crate) offset: i64,
    /// Its timestamp as it came: milliseconds since 1970, if its producer keeps to that.
    pub(crate) timestamp: i64,
    /// Its key, as bytes.
    pub(crate) key: Option<&'a [u8]>,
    /// Who produced it as its how-manieth.
    pub(crate) id: Option<RecordId<'a>>,
    /// What it says.
    pub(crate) value: Value<'a>,
}

/// The value of a record by what may be done with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// Valid JSON on a single line that readers take, and so can stand in a row as it is.
    Json(&'a [u8]),
    /// Valid JSON on a single line that they do not.
    Unreadable(&'a [u8], Unreadable),
    /// Anything else.
    Bytes(&'a [u8]),
    /// A tombstone.
    Absent,
    /// It is too large, or cannot be read.
    LeftOut,
}

/// Timestamps that are taken for times: from 1971 to 9999. All others are told as they came. `-1` is none, 0 mostly is none as well;
/// seconds in the place of milliseconds come to January 1970, microseconds and nanoseconds to years of five and more digits, with
/// which no reader can do anything.
const PLAUSIBLE_MILLIS: RangeInclusive<i64> = 31_536_000_000..=253_402_300_799_999;

/// Writes the rows of one partition, each appended to a buffer of the caller's, without a line feed.
#[derive(Debug)]
pub(crate) struct RowWriter {
    /// `"topic":"…","partition":…,"offset":`
    prefix: Vec<u8>,
    /// `,"timestamp":"YYYY-MM-DDThh:mm:ss.` of `second`.
    clock: Vec<u8>,
    second: i64,
    /// Of `second`; none before the first record.
    date: Option<NaiveDate>,
}

impl RowWriter {
    /// For the records of one partition.
    pub(crate) fn new(topic: &str, partition: i32) -> Self {
        let mut prefix = b"\"topic\":".to_vec();
        push_text(&mut prefix, topic);
        prefix.extend_from_slice(format!(",\"partition\":{partition},\"offset\":").as_bytes());
        Self { prefix, clock: Vec::new(), second: 0, date: None }
    }

    /// The date of a record with that timestamp, UTC; none if it is no plausible time.
    pub(crate) fn date(&mut self, timestamp: i64) -> Option<NaiveDate> {
        self.turn_to(timestamp).then_some(self.date).flatten()
    }

    /// The row of the raw archive.
    pub(crate) fn raw(&mut self, out: &mut Vec<u8>, row: &Row<'_>) {
        out.push(b'{');
        self.fields(out, row);
    }

    /// The row of the dead letters: the raw one with the reason in front.
    pub(crate) fn dead_letter(&mut self, out: &mut Vec<u8>, reason: &str, row: &Row<'_>) {
        out.extend_from_slice(b"{\"reason\":");
        push_text(out, reason);
        out.push(b',');
        self.fields(out, row);
    }

    fn fields(&mut self, out: &mut Vec<u8>, row: &Row<'_>) {
        append(out, &self.prefix);
        push_integer(out, row.offset);
        self.timestamp(out, row.timestamp);
        // Each column stands in every row, with one type: readers take the columns of many files from the first ones. Text is empty
        // where there is nothing to say, and the formats tell what was empty from what was not there.
        match row.key.map(|key| (key, std::str::from_utf8(key))) {
            None => out.extend_from_slice(b"\",\"key_format\":\"none\""),
            Some((_, Ok(text))) => {
                escape(out, text);
                out.extend_from_slice(b"\",\"key_format\":\"text\"");
            }
            Some((bytes, Err(_))) => {
                push_base64(out, bytes);
                out.extend_from_slice(b"\",\"key_format\":\"base64\"");
            }
        }
        out.extend_from_slice(b",\"id\":\"");
        if let Some(id) = row.id {
            append(out, id.producer_text);
            out.push(b'-');
            append(out, id.sequence_text);
            // What a copy is of is no number of this partition, and does not look like one.
            if let Some(place) = id.copied_from {
                out.push(b'@');
                append(out, place);
            }
        }
        match row.value {
            Value::Json(text) => {
                out.extend_from_slice(b"\",\"value_format\":\"json\",\"value_base64\":\"\",\"value\":");
                append(out, text);
            }
            Value::Absent => {
                out.extend_from_slice(b"\",\"value_format\":\"none\",\"value_base64\":\"\",\"value\":null");
            }
            Value::Bytes(bytes) => push_value_base64(out, "base64", bytes),
            Value::Unreadable(json, why) => push_value_base64(out, why.format(), json),
            Value::LeftOut => {
                out.extend_from_slice(b"\",\"value_format\":\"left_out\",\"value_base64\":\"\",\"value\":null");
            }
        }
        out.push(b'}');
    }

    /// Up to the first quote of the key.
    fn timestamp(&mut self, out: &mut Vec<u8>, timestamp: i64) {
        if !self.turn_to(timestamp) {
            out.extend_from_slice(b",\"timestamp\":null,\"timestamp_raw\":");
            push_integer(out, timestamp);
            out.extend_from_slice(b",\"key\":\"");
            return;
        }
        append(out, &self.clock);
        let millis = (timestamp % 1000) as u32;
        out.extend_from_slice(&[digit(millis / 100), digit(millis / 10), digit(millis)]);
        out.extend_from_slice(b"Z\",\"timestamp_raw\":0,\"key\":\"");
    }

    /// Turns the clock to the second of a plausible time; false for any other, which leaves it where it is.
    fn turn_to(&mut self, timestamp: i64) -> bool {
        if !PLAUSIBLE_MILLIS.contains(&timestamp) {
            return false;
        }
        let second = timestamp / 1000;
        if self.second != second
            && let Some(time) = DateTime::<Utc>::from_timestamp(second, 0)
        {
            (self.second, self.date) = (second, Some(time.date_naive()));
            self.clock.clear();
            self.clock.extend_from_slice(time.format(",\"timestamp\":\"%Y-%m-%dT%H:%M:%S.").to_string().as_bytes());
        }
        true
    }
}

/// Whether nothing in `text` ends a line; inside valid JSON only white space between tokens can.
pub(crate) fn is_single_line(text: &[u8]) -> bool {
    // Without a branch in the loop, the compiler looks at many bytes at once.
    !text.iter().fold(false, |found, byte| found | (*byte == b'\n') | (*byte == b'\r'))
}

fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

/// Appends a decimal number.
fn push_integer(row: &mut Vec<u8>, number: i64) {
    /// As many as u64::MAX has.
    const DIGITS: usize = 20;
    if number < 0 {
        row.push(b'-');
    }
    let mut digits = [0_u8; DIGITS];
    let mut first = DIGITS;
    let mut rest = number.unsigned_abs();
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    append(row, &digits[first..]);
}

/// Appends a JSON string.
fn push_text(row: &mut Vec<u8>, text: &str) {
    row.push(b'"');
    escape(row, text);
    row.push(b'"');
}

/// Appends what stands between the quotes of a JSON string.
fn push_base64(row: &mut Vec<u8>, bytes: &[u8]) {
    row.extend_from_slice(STANDARD.encode(bytes).as_bytes());
}

/// Appends the last quote of the id, and a value that cannot stand as it is.
fn push_value_base64(row: &mut Vec<u8>, format: &str, bytes: &[u8]) {
    row.extend_from_slice(b"\",\"value_format\":\"");
    row.extend_from_slice(format.as_bytes());
    row.extend_from_slice(b"\",\"value_base64\":\"");
    push_base64(row, bytes);
    row.extend_from_slice(b"\",\"value\":null");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};
    use superhero_kafka::TopicPartition;
    use superhero_kafka::fetch::Headers;

    use super::*;
    use crate::id::Ids;

    fn ids() -> Ids {
        Ids::new(&TopicPartition::new("lib.server.lobby", 3))
    }

    fn headers(place: &str) -> Headers {
        let id = [("superhero-producer", "0123456789abcdef0123456789abcdef"), ("superhero-sequence", "17")];
        id.into_iter().chain([("superhero-place", place)]).map(|(name, value)| (name, value.as_bytes())).collect()
    }

    fn row<'a>(key: Option<&'a [u8]>, id: Option<RecordId<'a>>, value: Value<'a>) -> Row<'a> {
        Row { offset: 42, timestamp: 1_795_371_321_101, key, id, value }
    }

    fn check(row: Row<'_>, expected: &str) {
        let mut out = Vec::new();
        RowWriter::new("lib.server.lobby", 3).raw(&mut out, &row);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_envelope_stands_in_its_row_byte_for_byte() {
        let headers = headers("lib.server.lobby/3");
        check(
            row(Some(b"a-game"), ids().identify(&headers), Value::Json(b"{ \"level\" :\"INFO\"}")),
            concat!(
                r#"{"topic":"lib.server.lobby","partition":3,"offset":42,"timestamp":"2026-11-22T18:15:21.101Z","timestamp_raw":0,"key":"a-game","#,
                r#""key_format":"text","id":"0123456789abcdef0123456789abcdef-17","#,
                r#""value_format":"json","value_base64":"","value":{ "level" :"INFO"}}"#
            ),
        );
    }

    #[test]
    fn the_id_of_a_copy_tells_where_it_was_counted() {
        let headers = headers("lib.server.lobby/2");
        check(
            row(None, ids().identify(&headers), Value::Json(b"{}")),
            concat!(
                r#"{"topic":"lib.server.lobby","partition":3,"offset":42,"timestamp":"2026-11-22T18:15:21.101Z","timestamp_raw":0,"key":"","#,
                r#""key_format":"none","id":"0123456789abcdef0123456789abcdef-17@lib.server.lobby/2","#,
                r#""value_format":"json","value_base64":"","value":{}}"#
            ),
        );
    }

    #[test]
    fn what_is_not_text_stands_in_base64() {
        check(
            row(Some(b"\xff"), None, Value::Bytes(b"no json")),
            concat!(
                r#"{"topic":"lib.server.lobby","partition":3,"offset":42,"timestamp":"2026-11-22T18:15:21.101Z","timestamp_raw":0,"#,
                r#""key":"/w==","key_format":"base64","id":"","value_format":"base64","value_base64":"bm8ganNvbg==","value":null}"#
            ),
        );
    }

    #[test]
    fn a_tombstone_has_neither_key_nor_value() {
        check(
            row(None, None, Value::Absent),
            concat!(
                r#"{"topic":"lib.server.lobby","partition":3,"offset":42,"timestamp":"2026-11-22T18:15:21.101Z","timestamp_raw":0,"#,
                r#""key":"","key_format":"none","id":"","value_format":"none","value_base64":"","value":null}"#
            ),
        );
    }

    #[test]
    fn what_is_empty_is_not_what_is_absent() {
        check(
            row(Some(b""), None, Value::Bytes(b"")),
            concat!(
                r#"{"topic":"lib.server.lobby","partition":3,"offset":42,"timestamp":"2026-11-22T18:15:21.101Z","timestamp_raw":0,"#,
                r#""key":"","key_format":"text","id":"","value_format":"base64","value_base64":"","value":null}"#
            ),
        );
    }

    #[test]
    fn json_that_readers_refuse_stands_in_base64_and_the_format_says_why() {
        check(
            row(None, None, Value::Unreadable(br#""\ud800""#, Unreadable::Surrogate)),
            concat!(
                r#"{"topic":"lib.server.lobby","partition":3,"offset":42,"timestamp":"2026-11-22T18:15:21.101Z","timestamp_raw":0,"#,
                r#""key":"","key_format":"none","id":"","value_format":"base64:surrogate","value_base64":"Ilx1ZDgwMCI=","value":null}"#
            ),
        );
    }

    #[test]
    fn a_timestamp_that_is_no_plausible_time_is_null_and_stands_beside_it() {
        let mut rows = RowWriter::new("t", 0);
        for (timestamp, expected, date) in [
            (1_795_371_321_101, r#""2026-11-22T18:15:21.101Z","timestamp_raw":0"#, Some("2026-11-22")),
            (-1, r#"null,"timestamp_raw":-1"#, None),
            (0, r#"null,"timestamp_raw":0"#, None),
            (1_795_371_321, r#"null,"timestamp_raw":1795371321"#, None),
            (31_535_999_999, r#"null,"timestamp_raw":31535999999"#, None),
            (31_536_000_000, r#""1971-01-01T00:00:00.000Z","timestamp_raw":0"#, Some("1971-01-01")),
            (253_402_300_799_999, r#""9999-12-31T23:59:59.999Z","timestamp_raw":0"#, Some("9999-12-31")),
            (253_402_300_800_000, r#"null,"timestamp_raw":253402300800000"#, None),
            (1_795_371_321_101_000, r#"null,"timestamp_raw":1795371321101000"#, None),
            (1_795_371_321_101_000_000, r#"null,"timestamp_raw":1795371321101000000"#, None),
            (i64::MIN, r#"null,"timestamp_raw":-9223372036854775808"#, None),
            (1_795_371_321_007, r#""2026-11-22T18:15:21.007Z","timestamp_raw":0"#, Some("2026-11-22")),
        ] {
            let mut out = Vec::new();
            rows.raw(&mut out, &Row { timestamp, ..row(None, None, Value::Absent) });
            let found = String::from_utf8(out).unwrap();
            assert!(found.contains(&format!("\"timestamp\":{expected},\"key\"")), "{found}");
            assert_eq!(rows.date(timestamp).map(|date| date.to_string()).as_deref(), date, "{timestamp}");
        }
    }

    #[test]
    fn a_dead_letter_is_the_row_with_its_reason() {
        let mut out = Vec::new();
        RowWriter::new("t", 0).dead_letter(&mut out, "no \"level\"", &row(None, None, Value::Json(b"{}")));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"reason":"no \"level\"","topic":"t","partition":0,"offset":42,"timestamp":"2026-11-22T18:15:21.101Z","timestamp_raw":0,"#,
                r#""key":"","key_format":"none","id":"","value_format":"json","value_base64":"","value":{}}"#
            )
        );
    }

    #[test]
    fn line_ends_are_found_wherever_they_are() {
        for place in 0..40 {
            let mut text = [b' '; 40];
            assert!(is_single_line(&text));
            text[place] = if place % 2 == 0 { b'\n' } else { b'\r' };
            assert!(!is_single_line(&text), "at {place}");
        }
    }

    proptest! {
        #[test]
        fn every_row_is_one_line_of_json_that_says_what_the_record_said(
            topic in "\\PC*", partition in any::<i32>(), offset in any::<i64>(), key in any::<Option<String>>(),
            millis in proptest::collection::vec(prop_oneof![31_536_000_000_i64..253_402_300_800_000, any::<i64>()], 1..4),
            text in any::<String>(),
        ) {
            let mut rows = RowWriter::new(&topic, partition);
            let value = json!({"text": text}).to_string();
            for millis in millis {
                let mut line = Vec::new();
                rows.raw(&mut line, &Row {
                    offset, timestamp: millis, key: key.as_deref().map(str::as_bytes), id: None,
                    value: Value::Json(value.as_bytes()),
                });
                prop_assert!(is_single_line(&line));
                let found: Json = serde_json::from_slice(&line).unwrap();
                let is_plausible = (31_536_000_000..253_402_300_800_000).contains(&millis);
                prop_assert_eq!(&found["timestamp_raw"], if is_plausible { 0 } else { millis });
                match found["timestamp"].as_str().map(|text| DateTime::parse_from_rfc3339(text).unwrap()) {
                    Some(time) => {
                        prop_assert!(is_plausible);
                        prop_assert_eq!(time.timestamp_millis(), millis);
                        prop_assert_eq!(rows.date(millis), Some(time.date_naive()));
                    }
                    None => {
                        prop_assert!(found["timestamp"].is_null() && !is_plausible);
                        prop_assert_eq!(rows.date(millis), None);
                    }
                }
                prop_assert_eq!(&found["topic"], &json!(topic));
                prop_assert_eq!(&found["partition"], &json!(partition));
                prop_assert_eq!(&found["offset"], &json!(offset));
                prop_assert_eq!(&found["key"], &json!(key.clone().unwrap_or_default()));
                prop_assert_eq!(&found["key_format"], if key.is_some() { "text" } else { "none" });
                prop_assert_eq!(&found["value"]["text"], &json!(text));
            }
        }
    }
}
