//! Records of whoever can write to the topics: each has one raw row that gives it back, and a dead letter if it is no event.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;
use superhero_kafka::TopicPartition;
use superhero_kafka::fetch::Headers;

use super::*;
use crate::id::Ids;
use crate::row::{Row, RowWriter};

const TOKEN: &str = "00000000-0000-0000-0000-00000000000a";
const PRODUCER: &str = "0123456789abcdef0123456789abcdef";

/// JSON that readers trip over: escapes that are half a character, numbers beyond all types, depth, white space, `null`.
const STRANGE: [&str; 22] = [
    "null",
    " null\t",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"\u{2028}\u{feff}\"",
    "1e999999",
    "-0",
    "18446744073709551616",
    "\"\"",
    "[]",
    "{}",
    "{\"a\":1,\"a\":2}",
    "\n{}",
    "{}\r",
    "{\"\\\"\":\"\\\\\"}",
    "\u{feff}{}",
    "nul",
    "\"",
    "{\"level\":\"INFO\"}",
    "'a'",
    "NaN",
    "01",
];

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(&STRANGE[..]).prop_map(str::to_owned),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        (1..3_000usize).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::btree_map("[a-z_]{0,6}", inner, 0..4).prop_map(|fields| {
                let fields: Vec<_> = fields.into_iter().map(|(name, value)| format!(r#""{name}": {value}"#)).collect();
                format!("{{{}}}", fields.join(" ,"))
            }),
        ]
    })
}

prop_compose! {
    /// An envelope, mostly of the end of a game, with fields that were taken away, doubled, or filled with anything.
    fn changed_envelope()(
        other: bool,
        task in prop_oneof![
            Just(format!(r#"{{"game_token":"{TOKEN}","user_token":"{TOKEN}"}}"#)),
            Just(format!(r#"{{"game_token":"x","user_token":"{TOKEN}"}}"#)),
            any_json(),
        ],
        changes in prop::collection::vec((0..6usize, prop_oneof![Just(None), any_json().prop_map(Some)]), 0..3),
        with_more: bool,
    ) -> String {
        let message = if other { message::TURN } else { message::CLEANING };
        let mut fields = vec![
            ("level", r#""INFO""#.to_owned()),
            ("timestamp", r#""2026-11-22T18:15:21.101031""#.to_owned()),
            ("name", r#""kafka.lib.server.lobby""#.to_owned()),
            ("log_message", format!("{message:?}")),
            ("task", task),
        ];
        if with_more {
            fields.push(("more", "[1]".to_owned()));
        }
        for (at, change) in changes {
            match change {
                Some(value) if at < fields.len() => fields[at].1 = value,
                None if at < fields.len() => drop(fields.remove(at)),
                _ => fields.push(fields[0].clone()),
            }
        }
        let fields: Vec<_> = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }
}

fn any_value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let json = prop_oneof![3 => changed_envelope(), 1 => any_json()];
    let byte = prop_oneof![Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b'\n'), Just(0), any::<u8>()];
    let damaged = (json, prop::collection::vec((any::<Index>(), byte), 0..3)).prop_map(|(json, changes)| {
        let mut bytes = json.into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![
        1 => Just(None),
        2 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Some),
        9 => damaged.prop_map(Some),
    ]
}

/// A row's fields, each as it stands in the row.
fn fields(line: &[u8]) -> BTreeMap<String, Box<RawValue>> {
    assert!(is_single_line(line));
    serde_json::from_slice(line).unwrap()
}

/// The columns, each with the type that it has in every row; that of `value` is its producer's own.
const COLUMNS: [(&str, Option<Type>); 11] = [
    ("topic", Some(Type::Text)),
    ("partition", Some(Type::Integer)),
    ("offset", Some(Type::Integer)),
    ("timestamp", None),
    ("timestamp_raw", Some(Type::Integer)),
    ("key", Some(Type::Text)),
    ("key_format", Some(Type::Text)),
    ("id", Some(Type::Text)),
    ("value_format", Some(Type::Text)),
    ("value_base64", Some(Type::Text)),
    ("value", None),
];

#[derive(Clone, Copy)]
enum Type {
    Text,
    Integer,
}

fn check_columns(row: &BTreeMap<String, Box<RawValue>>) {
    for (name, expected) in COLUMNS {
        let json = row[name].get();
        match expected {
            Some(Type::Text) => assert!(json.starts_with('"'), "{name} is {json}"),
            Some(Type::Integer) => assert!(json.parse::<i64>().is_ok(), "{name} is {json}"),
            None => {}
        }
    }
    assert_eq!(row.len(), COLUMNS.len(), "{row:?}");
}

fn text(row: &BTreeMap<String, Box<RawValue>>, name: &str) -> String {
    serde_json::from_str(row[name].get()).unwrap()
}

/// The key that a row gives back.
fn given_back_key(row: &BTreeMap<String, Box<RawValue>>) -> Option<Vec<u8>> {
    let key = text(row, "key");
    match text(row, "key_format").as_str() {
        "none" => {
            assert_eq!(key, "");
            None
        }
        "text" => Some(key.into_bytes()),
        "base64" => Some(STANDARD.decode(key).unwrap()),
        other => panic!("a key as {other}"),
    }
}

/// The value that a row gives back.
fn given_back_value(row: &BTreeMap<String, Box<RawValue>>) -> Option<Vec<u8>> {
    let (json, base64) = (row["value"].get(), text(row, "value_base64"));
    match text(row, "value_format").as_str() {
        "json" => {
            assert_eq!(base64, "");
            Some(json.as_bytes().to_vec())
        }
        "none" => {
            assert_eq!((json, base64.as_str()), ("null", ""));
            None
        }
        "base64" | "base64:surrogate" | "base64:depth" | "base64:number" | "base64:duplicate" => {
            assert_eq!(json, "null");
            Some(STANDARD.decode(base64).unwrap())
        }
        other => panic!("a value as {other}"),
    }
}

/// White space around JSON is in the row, where it means nothing.
fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn every_record_has_a_raw_row_that_gives_it_back_and_a_dead_letter_if_it_is_no_event(
        value in any_value(),
        key: Option<Vec<u8>>,
        producer in prop_oneof![Just(PRODUCER.as_bytes().to_vec()), any::<Vec<u8>>()],
        sequence in prop_oneof![any::<u64>().prop_map(|n| n.to_string().into_bytes()), any::<Vec<u8>>()],
        place in prop::option::of(prop_oneof![
            Just(b"lib.server.lobby/3".to_vec()),
            "[a-z]{0,3}[/.\"]?[0-9]{0,11}".prop_map(String::into_bytes),
            any::<Vec<u8>>(),
        ]),
        tables: bool,
        offset in 0..i64::MAX,
        timestamp: i64,
    ) {
        let (shown, request) = read(tables, value.as_deref());
        let mut headers = vec![("superhero-producer", producer.as_slice()), ("superhero-sequence", &sequence)];
        headers.extend(place.as_deref().map(|place| ("superhero-place", place)));
        let headers: Headers = headers.into_iter().collect();
        let id = Ids::new(&TopicPartition::new("lib.server.lobby", 3)).identify(&headers);
        let row = Row { offset, timestamp, key: key.as_deref(), id, value: shown };
        let mut rows = RowWriter::new("lib.server.lobby", 3);
        let mut raw = Vec::new();
        rows.raw(&mut raw, &row);

        let found = fields(&raw);
        check_columns(&found);
        prop_assert_eq!(found["offset"].get(), offset.to_string());
        let given = given_back_value(&found);
        prop_assert_eq!(given.as_deref().map(trimmed), value.as_deref().map(trimmed));
        match shown {
            Value::Json(json) => {
                let end = [b"\"value\":", json, b"}"].concat();
                prop_assert!(raw.ends_with(&end));
            }
            Value::Bytes(_) | Value::Unreadable(..) | Value::Absent | Value::LeftOut => prop_assert_eq!(&given, &value),
        }
        // What stands as it is, serde_json takes apart whole: no half characters, no numbers beyond a double, no depth.
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&raw).is_ok());
        prop_assert_eq!(given_back_key(&found), key.clone());
        let expected = id.map(|id| {
            let place = place.as_deref().map(|place| std::str::from_utf8(place).unwrap());
            let copied = place.filter(|place| *place != "lib.server.lobby/3").map(|place| format!("@{place}"));
            assert_eq!(id.number().is_none(), copied.is_some());
            format!("{PRODUCER}-{}{}", std::str::from_utf8(&sequence).unwrap(), copied.unwrap_or_default())
        });
        prop_assert_eq!(text(&found, "id"), expected.unwrap_or_default());

        let utf8 = value.as_deref().filter(|value| std::str::from_utf8(value).is_ok());
        let envelope = utf8.and_then(|text| Envelope::parse(text).ok());
        let cleaning = envelope.as_ref().map(|envelope| if tables { envelope.cleaning() } else { Ok(None) });
        match (cleaning, &request) {
            (Some(Ok(Some(expected))), Request::Game(cleaning)) => prop_assert_eq!(*cleaning, expected),
            (Some(Ok(None)), Request::Archive) => {}
            (None | Some(Err(_)), Request::DeadLetter(reason)) => {
                prop_assert!((1..=MAX_REASON_BYTES).contains(&reason.len()), "{reason}");
                let mut dead = Vec::new();
                rows.dead_letter(&mut dead, reason, &row);
                prop_assert_eq!(&serde_json::from_str::<String>(fields(&dead)["reason"].get()).unwrap(), reason);
                prop_assert!(dead.ends_with(&raw[1..]));
            }
            (expected, request) => prop_assert!(false, "{request:?}, expected {expected:?}"),
        }
    }
}
