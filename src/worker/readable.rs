//! Which JSON may stand in a row as it is. To be valid is not enough: readers refuse some valid JSON, most of them with the whole file
//! that it stands in, and read some of it each in another way.
//!
//! What is refused here was tried with DuckDB, pandas, polars, Python's `json` and jq:
//!
//! * half of a surrogate pair (`"\ud800"`): DuckDB and jq refuse it, polars half of the time;
//! * more than [`MAX_DEPTH`] levels: DuckDB refuses 128 with those of the row, jq 256, Python 1,000;
//! * numbers beyond a double, which polars refuses and others make infinite; those whose digits in front of the point are beyond 64 bits,
//!   which pandas refuses, with or without a fraction; exponents that no double has, which polars refuses when they are long;
//! * objects with two fields of one name: DuckDB refuses them without types and takes the first with them, others take the last.

use std::hash::{BuildHasher, RandomState};
use std::ops::{Range, RangeInclusive};

/// Why a valid JSON text does not stand in a row as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It has half of a surrogate pair.
    Surrogate,
    /// Its arrays and objects stand in each other more than [`MAX_DEPTH`] deep.
    Depth,
    /// It has a number that does not fit.
    Number,
    /// It has an object with two fields of one name.
    Duplicate,
}

/// Levels of arrays and objects that a value may have; a value that is neither has none.
pub(crate) const MAX_DEPTH: usize = 100;

/// A number of so many bytes and no exponent fits, whatever it is.
const SHORT_NUMBER: usize = 15;

/// Powers of ten that doubles have, from the smallest above zero to the largest.
const EXPONENTS: RangeInclusive<i64> = -324..=308;

/// So many names are compared each with each.
const FEW_NAMES: usize = 16;

impl Unreadable {
    /// What `value_format` says of it.
    pub(crate) const fn format(self) -> &'static str {
        match self {
            Self::Surrogate => "base64:surrogate",
            Self::Depth => "base64:depth",
            Self::Number => "base64:number",
            Self::Duplicate => "base64:duplicate",
        }
    }
}

/// Looks for the first thing in a valid JSON text that readers refuse, in one pass and without recursion.
pub(crate) fn unreadable(json: &[u8]) -> Option<Unreadable> {
    // Of all open objects, where each name stands between its quotes; and of all that is open, how many there were before.
    let (mut names, mut open) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let start = at;
                at += match text_length(json.get(start..)?) {
                    Ok(length) => length,
                    Err(unreadable) => return Some(unreadable),
                };
                let text = start..at;
                at += 1;
                at += json.get(at..)?.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                // Only what is a name has a colon behind it.
                if json.get(at) == Some(&b':') {
                    names.push(text);
                }
            }
            b'{' | b'[' => {
                if open.len() == MAX_DEPTH {
                    return Some(Unreadable::Depth);
                }
                open.push(names.len());
            }
            b'}' | b']' => {
                let before = open.pop()?;
                if has_duplicate(json, names.get(before..)?) {
                    return Some(Unreadable::Duplicate);
                }
                names.truncate(before);
            }
            b'-' | b'0'..=b'9' => {
                let number = json.get(at - 1..)?;
                let is_in_number = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'e' | b'E');
                let number = number.get(..number.iter().take_while(is_in_number).count())?;
                if !is_readable_number(number) {
                    return Some(Unreadable::Number);
                }
                at += number.len() - 1;
            }
            _ => {}
        }
    }
    None
}

/// The length of a string behind its first quote, up to the last.
fn text_length(rest: &[u8]) -> Result<usize, Unreadable> {
    let mut at = 0;
    loop {
        let Some(found) = rest.get(at..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\')))
        else {
            // Valid JSON has a quote there.
            return Ok(rest.len());
        };
        at += found;
        if rest[at] == b'"' {
            return Ok(at);
        }
        at += match unit(&rest[at..]) {
            None => 2,
            Some(0xd800..=0xdbff) if rest.get(at + 6..).and_then(unit).is_some_and(|low| low & 0xfc00 == 0xdc00) => 12,
            Some(0xd800..=0xdfff) => return Err(Unreadable::Surrogate),
            Some(_) => 6,
        };
    }
}

/// The UTF-16 unit that an escape is, if it is one by its number.
fn unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn is_readable_number(number: &[u8]) -> bool {
    let exponent_at = number.iter().position(|byte| matches!(byte, b'e' | b'E'));
    if number.len() <= SHORT_NUMBER && exponent_at.is_none() {
        return true;
    }
    let Ok(text) = std::str::from_utf8(number) else { return false };
    let digits = text.split(['.', 'e', 'E']).next().unwrap_or_default();
    if digits.parse::<i64>().is_err() && digits.parse::<u64>().is_err() {
        return false;
    }
    let exponent = exponent_at.map(|at| text[at + 1..].parse::<i64>());
    match exponent {
        None => true,
        Some(Ok(exponent)) => EXPONENTS.contains(&exponent) && text.parse::<f64>().is_ok_and(f64::is_finite),
        Some(Err(_)) => false,
    }
}

/// Whether two of the names, which stand at these places, mean the same.
fn has_duplicate(json: &[u8], names: &[Range<usize>]) -> bool {
    if names.len() <= FEW_NAMES && !names.iter().any(|name| json[name.clone()].contains(&b'\\')) {
        return names
            .iter()
            .enumerate()
            .any(|(at, name)| names[..at].iter().any(|other| json[other.clone()] == json[name.clone()]));
    }
    // Numbers in the place of names, since there may be millions; that two of them are the same by chance is as good as impossible.
    let hasher = RandomState::new();
    let mut hashes: Vec<u64> = names
        .iter()
        .map(|name| {
            let text = &json[name.clone()];
            let quoted =
                text.contains(&b'\\').then(|| serde_json::from_slice::<String>(&json[name.start - 1..=name.end]));
            match quoted {
                Some(Ok(plain)) => hasher.hash_one(plain.as_bytes()),
                _ => hasher.hash_one(text),
            }
        })
        .collect();
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use serde::de::IgnoredAny;

    use super::*;

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn what_readers_refuse_is_found_wherever_it_stands() {
        use Unreadable::{Depth, Duplicate, Number, Surrogate};
        let (deepest, deeper) = (nested(MAX_DEPTH), nested(MAX_DEPTH + 1));
        let many: Vec<String> = (0..40).map(|n| format!("\"{n}\":0")).collect();
        let (distinct, doubled) = (many.join(","), format!("{},\"7\":1", many.join(",")));
        let cases = [
            (r#""\ud83d\ude00""#, None),
            (r#""\\ud800 \\\\udc00 \u0000 \uffff \"""#, None),
            (r#""\ud800""#, Some(Surrogate)),
            (r#""\uDC00""#, Some(Surrogate)),
            (r#""\\\ud800""#, Some(Surrogate)),
            (r#""\ud800\ud83d\ude00""#, Some(Surrogate)),
            (r#""\ud83d \ude00""#, Some(Surrogate)),
            (r#""\ud83d\\ude00""#, Some(Surrogate)),
            (r#""\ude00\ud83d""#, Some(Surrogate)),
            (r#"{"\udbff":1}"#, Some(Surrogate)),
            (&deepest, None),
            (&deeper, Some(Depth)),
            (r#"{"a":"[[[[","b":[{},{}]}"#, None),
            ("0", None),
            ("-0.0e-0", None),
            ("9223372036854775808", None),
            ("18446744073709551615", None),
            ("18446744073709551616", Some(Number)),
            ("-9223372036854775808", None),
            ("-9223372036854775809", Some(Number)),
            ("18446744073709551615.75", None),
            ("18446744073709551616.0", Some(Number)),
            ("18446744073709551616e-3", Some(Number)),
            ("1.7976931348623157e308", None),
            ("-1.7976931348623157E+308", None),
            ("1.8e308", Some(Number)),
            ("-1.8e308", Some(Number)),
            ("4.9E-324", None),
            ("1e-325", Some(Number)),
            ("1e309", Some(Number)),
            ("0e309", Some(Number)),
            ("1e-99999999999999999999", Some(Number)),
            ("1e-000000000000000000308", None),
            ("0.12345678901234567890123456789", None),
            (r#"[1,[2],{"a": 1e400 }]"#, Some(Number)),
            (r#"["1e400"]"#, None),
            (r#"{"a":1,"A":2,"b":{"a":1},"c":[{"a":1},{"a":1}]}"#, None),
            (r#"{"a":1,"b":2,"a":1}"#, Some(Duplicate)),
            (r#"{"a":1,"\u0061":1}"#, Some(Duplicate)),
            (r#"{"a":1,"\\u0061":1}"#, None),
            (r#"{"":1,"b":"","" :2}"#, Some(Duplicate)),
            (r#"[{"x":{"a" : "b","b":0,"b" :1}}]"#, Some(Duplicate)),
            (&format!("{{{distinct}}}"), None),
            (&format!("[{{{doubled}}}]"), Some(Duplicate)),
            (r#"["a","a"]"#, None),
        ];
        for (json, expected) in cases {
            assert!(serde_json::from_str::<IgnoredAny>(json).is_ok(), "{json}");
            assert_eq!(unreadable(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn a_large_value_takes_one_pass() {
        let fields: Vec<String> = (0..200_000).map(|n| format!("\"\\u0061{n}\":\"\\\\\"")).collect();
        assert_eq!(unreadable(format!("{{{}}}", fields.join(",")).as_bytes()), None);
        assert_eq!(unreadable(nested(1_000_000).as_bytes()), Some(Unreadable::Depth));
    }

    /// A JSON text, all that is unreadable about it, and its levels.
    type Made = (String, BTreeSet<&'static str>, usize);

    fn leaf() -> impl Strategy<Value = Made> {
        let of = |text: String, why: Option<Unreadable>| (text, why.iter().map(|why| why.format()).collect(), 0);
        let odd =
            |texts: &'static [&'static str], why| select(texts).prop_map(move |text| of(text.to_owned(), Some(why)));
        prop_oneof![
            4 => any::<String>().prop_map(move |text| of(serde_json::Value::from(text).to_string(), None)),
            2 => any::<i64>().prop_map(move |number| of(number.to_string(), None)),
            2 => any::<u64>().prop_map(move |number| of(number.to_string(), None)),
            2 => any::<f64>().prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(move |number| of(serde_json::Value::from(number).to_string(), None)),
            1 => any::<char>().prop_map(move |character| {
                let units: Vec<_> = character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect();
                of(format!("\"{}\"", units.concat()), None)
            }),
            1 => (0xd800..0xe000_u32).prop_map(move |half| of(format!("\"\\u{half:04x}\""), Some(Unreadable::Surrogate))),
            1 => odd(&[r#""\\\ud83dx""#, r#""\udc00\ud800""#, r#""\ud800\ud800\udc00""#], Unreadable::Surrogate),
            1 => (309..100_000_u32, any::<bool>()).prop_map(move |(power, small)| {
                of(format!("1e{}{power}", if small { "-1" } else { "" }), Some(Unreadable::Number))
            }),
            1 => "-?[1-9][0-9]{20,400}(\\.[0-9]{1,30})?".prop_map(move |number| of(number, Some(Unreadable::Number))),
        ]
    }

    fn any_json() -> impl Strategy<Value = Made> {
        leaf().prop_recursive(4, 24, 4, |inner| {
            let array = prop::collection::vec(inner.clone(), 0..4).prop_map(|items| {
                let found = items.iter().flat_map(|(_, found, _)| found.iter().copied()).collect();
                let levels = 1 + items.iter().map(|(.., levels)| *levels).max().unwrap_or_default();
                let items: Vec<_> = items.into_iter().map(|(text, ..)| text).collect();
                (format!("[ {} ]", items.join(" ,")), found, levels)
            });
            let object =
                prop::collection::vec(("[ab\"\\\\]{0,2}", any::<bool>(), inner.clone()), 0..4).prop_map(|fields| {
                    let mut found: BTreeSet<_> =
                        fields.iter().flat_map(|(.., (_, found, _))| found.iter().copied()).collect();
                    let names: BTreeSet<_> = fields.iter().map(|(name, ..)| name).collect();
                    found.extend((names.len() < fields.len()).then_some(Unreadable::Duplicate.format()));
                    let levels = 1 + fields.iter().map(|(.., (.., levels))| *levels).max().unwrap_or_default();
                    let fields = fields.iter().map(|(name, escaped, (text, ..))| {
                        let name: String = match escaped {
                            true => name.chars().map(|character| format!("\\u{:04x}", u32::from(character))).collect(),
                            false => {
                                let quoted = serde_json::Value::from(name.as_str()).to_string();
                                quoted[1..quoted.len() - 1].to_owned()
                            }
                        };
                        format!("\"{name}\" :\t{text}")
                    });
                    (format!("{{{}}}", fields.collect::<Vec<_>>().join(",")), found, levels)
                });
            let deep = (inner, 90..110usize).prop_map(|((text, found, levels), more)| {
                ("[".repeat(more) + &text + &"]".repeat(more), found, levels + more)
            });
            prop_oneof![4 => array, 4 => object, 1 => deep]
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_there_and_what_is_there_is_found((json, mut there, levels) in any_json()) {
            prop_assert!(serde_json::from_str::<IgnoredAny>(&json).is_ok(), "{json}");
            there.extend((levels > MAX_DEPTH).then_some(Unreadable::Depth.format()));
            match unreadable(json.as_bytes()) {
                Some(found) => prop_assert!(there.contains(found.format()), "{found:?} in {json}"),
                None => {
                    prop_assert!(there.is_empty(), "{there:?} in {json}");
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
                }
            }
        }

        #[test]
        fn any_bytes_come_to_an_end(
            (json, ..) in any_json(), changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4), cut: Index,
        ) {
            let mut bytes = json.into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let found = unreadable(&bytes);
            if let Ok(text) = std::str::from_utf8(&bytes) && serde_json::from_str::<IgnoredAny>(text).is_ok() {
                let is_read = serde_json::from_str::<serde_json::Value>(text).is_ok();
                prop_assert!(is_read || found.is_some(), "{text}");
                prop_assert!(!is_read || found != Some(Unreadable::Surrogate), "{text}");
            }
        }
    }
}
