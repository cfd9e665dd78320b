//! What the common readers of rows refuse in JSON that is valid, found by serde_json: level by level, each text by itself.
//!
//! The worker looks for the same in one pass of its own; neither knows of the other.

use std::collections::BTreeSet;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::envelope;

/// Levels that a value may have.
const LEVELS: usize = 100;

/// What a value has that readers refuse; none if nothing.
pub(crate) fn oddity(json: &str) -> Option<&'static str> {
    // An envelope as ours are, without an escape by number, is one level of five different names and no number.
    if envelope::is_flat(json) && !json.contains("\\u") {
        return None;
    }
    let mut found = Found::default();
    found.look(json, 0);
    found.0.first().copied()
}

/// Whether a value is valid JSON and has this.
pub(crate) fn has(json: &[u8], oddity: &str) -> bool {
    let Ok(json) = std::str::from_utf8(json) else { return false };
    let mut found = Found::default();
    found.look(json, 0);
    serde_json::from_str::<IgnoredAny>(json).is_ok() && found.0.contains(oddity)
}

#[derive(Default)]
struct Found(BTreeSet<&'static str>);

impl Found {
    /// Looks at a value that stands in so many others.
    fn look(&mut self, json: &str, depth: usize) {
        match json.trim_ascii_start().as_bytes().first() {
            Some(b'{' | b'[') if depth == LEVELS => {
                self.0.insert("depth");
            }
            Some(b'{') => {
                let Ok(Fields(fields)) = serde_json::from_str(json) else { return };
                let mut names = BTreeSet::new();
                for (name, value) in fields {
                    match text(name.get()) {
                        Some(name) if names.insert(name.clone()) => {}
                        Some(_) => drop(self.0.insert("duplicate")),
                        None => drop(self.0.insert("surrogate")),
                    }
                    self.look(value.get(), depth + 1);
                }
            }
            Some(b'[') => {
                let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json) else { return };
                items.iter().for_each(|item| self.look(item.get(), depth + 1));
            }
            Some(b'"') if text(json).is_none() => drop(self.0.insert("surrogate")),
            Some(b'-' | b'0'..=b'9') if !fits(json.trim_ascii()) => drop(self.0.insert("number")),
            _ => {}
        }
    }
}

/// The text that a JSON string is; none if it has half of a surrogate pair.
fn text(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// Whether a number is a double, with no more than 64 bits in front of its point and an exponent that doubles have.
fn fits(number: &str) -> bool {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let whole = mantissa.split_once('.').map_or(mantissa, |(whole, _)| whole);
    let is_whole =
        whole.parse::<i128>().is_ok_and(|whole| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&whole));
    let is_exponent = exponent.parse::<i128>().is_ok_and(|exponent| (-324..=308).contains(&exponent));
    is_whole && is_exponent && number.parse::<f64>().is_ok_and(f64::is_finite)
}

/// An object's fields in their order, those of one name as well.
struct Fields<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Each).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_refuse_is_found_each_for_itself() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let all = format!(r#"{{"a":"\ud800","\u0061":[1e400],"b":{}}}"#, nested(100));
        let cases: [(&str, &[&str]); 21] = [
            (r#""\ud83d\ude00 \\ud800""#, &[]),
            (r#""\ud83d""#, &["surrogate"]),
            (r#"[{"\udc00":1}]"#, &["surrogate"]),
            (&nested(100), &[]),
            (&nested(101), &["depth"]),
            (&nested(20_000), &["depth"]),
            ("18446744073709551615", &[]),
            ("18446744073709551616", &["number"]),
            ("-9223372036854775808.5", &[]),
            ("-9223372036854775809.5", &["number"]),
            (" 1.7e308", &[]),
            ("1.8e308", &["number"]),
            ("4.9E-324", &[]),
            ("1e-325", &["number"]),
            ("0e309", &["number"]),
            ("1e99999999999999999999999999999999999999999999", &["number"]),
            (r#"{"a":1,"A":2,"b":{"a":1}}"#, &[]),
            (r#"{"a":1,"\u0061":2}"#, &["duplicate"]),
            (r#"[{ "a" : {"b":1, "b" :1}}]"#, &["duplicate"]),
            ("\"text\"", &[]),
            (&all, &["depth", "duplicate", "number", "surrogate"]),
        ];
        for (json, expected) in cases {
            assert_eq!(oddity(json), expected.first().copied(), "{json}");
            for one in ["depth", "duplicate", "number", "surrogate", "other", ""] {
                assert_eq!(has(json.as_bytes(), one), expected.contains(&one), "{one} in {json}");
            }
        }
        assert!(!has(b"[1e400", "number") && !has(b"\xff", "surrogate"));
    }
}
