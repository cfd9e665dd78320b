//! The columns of the files, which readers take from the first file that they open: each stands in every row, with one type.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rskafka::record::Record;
use serde_json::Value;
use superhero_event::{Task, message, topic};
use superhero_store::memory::Memory;
use superhero_worker::WorkerConfig;

use super::batches::produce_at;
use super::setting::{Producer, Setting, foreign};
use super::tables::{cleaning, played};
use crate::checker::{files_below, lines};
use crate::services::Kafka;

/// The columns of a table and their types in JSON; that of `value` is its producer's own.
type Columns = &'static [(&'static str, &'static str)];

const RAW: Columns = &[
    ("topic", "string"),
    ("partition", "number"),
    ("offset", "number"),
    ("timestamp", "time"),
    ("timestamp_raw", "number"),
    ("key", "string"),
    ("key_format", "string"),
    ("id", "string"),
    ("value_format", "string"),
    ("value_base64", "string"),
    ("value", "any"),
];

const GAME_META: Columns = &[
    ("game_token", "string"),
    ("user_token", "string"),
    ("superhero_id", "number"),
    ("topic", "string"),
    ("partition", "number"),
    ("offset", "number"),
];

const GAME_PODIUM: Columns = &[
    ("game_token", "string"),
    ("user_token", "string"),
    ("rounds", "number"),
    ("rank", "number"),
    ("damage_delivered", "number"),
    ("damage_received", "number"),
    ("topic", "string"),
    ("partition", "number"),
    ("offset", "number"),
];

const README: &str = include_str!("../../README.md");

/// Levels that a value may have.
const MAX_DEPTH: usize = 100;

/// No plausible times: none, unset, in seconds, before the first, after the last, in microseconds and nanoseconds, and the ends.
pub const TIMES: [i64; 9] = [
    -1,
    0,
    1_795_371_321,
    31_535_999_999,
    253_402_300_800_000,
    1_795_371_321_101_031,
    1_795_371_321_101_031_000,
    i64::MIN,
    i64::MAX,
];

/// Each with how a row shows it.
const KEYS: [(Option<&[u8]>, &str, &str); 5] = [
    (None, "none", ""),
    (Some(b""), "text", ""),
    (Some(b"a-game"), "text", "a-game"),
    (Some(b"null"), "text", "null"),
    (Some(b"\xff"), "base64", "/w=="),
];

/// With its format and what stands in `value_base64`.
type Valued = (Option<&'static [u8]>, &'static str, &'static str);

const VALUES: [Valued; 22] = [
    (None, "none", ""),
    (Some(b""), "base64", ""),
    (Some(b"no json"), "base64", "bm8ganNvbg=="),
    (Some(b"\xff"), "base64", "/w=="),
    (Some(b"{\n}"), "base64", "ewp9"),
    (Some(b"null"), "base64", "bnVsbA=="),
    (Some(br#"{"a":"\ud800"}"#), "base64:surrogate", "eyJhIjoiXHVkODAwIn0="),
    (Some(br#"{"\udc00":1}"#), "base64:surrogate", "eyJcdWRjMDAiOjF9"),
    (Some(br#""\ud83d\ude00""#), "json", ""),
    (Some(b"1e400"), "base64:number", "MWU0MDA="),
    (Some(b"[18446744073709551616]"), "base64:number", "WzE4NDQ2NzQ0MDczNzA5NTUxNjE2XQ=="),
    (Some(b"18446744073709551616.5"), "base64:number", "MTg0NDY3NDQwNzM3MDk1NTE2MTYuNQ=="),
    (Some(b"[18446744073709551615,-9223372036854775808,1.7976931348623157e308,4.9E-324]"), "json", ""),
    (Some(br#"{"a":1,"a":2}"#), "base64:duplicate", "eyJhIjoxLCJhIjoyfQ=="),
    (Some(br#"{"a":1,"\u0061":"x"}"#), "base64:duplicate", "eyJhIjoxLCJcdTAwNjEiOiJ4In0="),
    // An event all the same, but for a field that is there twice.
    (
        Some(br#"{"level":"INFO","timestamp":"2026-11-22T18:15:21.101031","name":"n","log_message":"m","x":0,"x":0}"#),
        "base64:duplicate",
        "eyJsZXZlbCI6IklORk8iLCJ0aW1lc3RhbXAiOiIyMDI2LTExLTIyVDE4OjE1OjIxLjEwMTAzMSIsIm5hbWUiOiJuIiwibG9nX21lc3NhZ2UiOiJtIiwieCI6MCwieCI6MH0=",
    ),
    (Some(b"1e-400"), "base64:number", "MWUtNDAw"),
    (Some(b"1"), "json", ""),
    (Some(b"\"text\""), "json", ""),
    (Some(b"[true]"), "json", ""),
    (Some(b"{\"a\": {\"b\":null}}"), "json", ""),
    (
        Some(br#"{"level":"INFO","timestamp":"2026-11-22T18:15:21.101031","name":"kafka.x","log_message":"x"}"#),
        "json",
        "",
    ),
];

pub async fn each_stands_in_every_row_with_one_type(kafka: &Kafka, folder: &Path) -> Result<()> {
    // A broker may refuse what is too far ahead.
    check_odd_records(kafka, folder, &TIMES[..4]).await
}

pub async fn a_timestamp_of_any_number_is_told(kafka: &Kafka, folder: &Path) -> Result<()> {
    check_odd_records(kafka, folder, &TIMES).await
}

async fn check_odd_records(kafka: &Kafka, folder: &Path, times: &[i64]) -> Result<()> {
    let (setting, shown, dead_letters) = odd_records(kafka, folder, times).await?;
    let dead: Vec<_> = [("reason", "string")].iter().chain(RAW).copied().collect();
    for (table, columns, files) in [
        ("raw", RAW, shown.len() + 2),
        ("dead", &dead, dead_letters),
        ("GAME_META", GAME_META, 1),
        ("GAME_PODIUM", GAME_PODIUM, 1),
    ] {
        let found = files_below(&setting.root().join(table))?;
        ensure!(found.len() == files, "{table} has {} files, not {files}", found.len());
        for file in found {
            for line in lines(&file)? {
                check(&line, columns).with_context(|| format!("{table}: {line}"))?;
            }
        }
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let is_told = table == "dead" || README.contains(&format!("`{}`", names.join(", ")));
        ensure!(is_told, "the README does not tell the columns of {table}: {names:?}");
    }
    for (row, shown) in setting.raw(0)?.iter().zip(shown) {
        let found =
            ["key", "key_format", "value_format", "value_base64"].map(|name| row[name].as_str().unwrap_or("no text"));
        ensure!(found == shown, "{row} shows {found:?}, not {shown:?}");
        ensure!(row["value"].is_null() == (row["value_format"] != "json"), "{row}");
    }
    let undated: Vec<_> = setting.raw(0)?.into_iter().filter(|row| row["timestamp"].is_null()).collect();
    let raw: Vec<_> = undated.iter().filter_map(|row| row["timestamp_raw"].as_i64()).collect();
    ensure!(raw == times, "{undated:?} are not those of {times:?}");
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean(), "{found}");
    ensure!(found.partitions[0].undated == times.len() as u64, "{found}");
    Ok(())
}

/// How a row shows a record: `key`, `key_format`, `value_format` and `value_base64`.
type Shown = [&'static str; 4];

/// Produces records with every key and value, ours and others', some with these timestamps, and then the end of a game. Each stands in a file of
/// its own, so that what is the same in all files does not depend on what stands beside it. Returns how the first are to be shown, and the
/// number of dead letters.
pub async fn odd_records(kafka: &Kafka, folder: &Path, times: &[i64]) -> Result<(Setting, Vec<Shown>, usize)> {
    let setting = Setting::of_topic(kafka, folder, topic::LOBBY, 1).await?;
    let (store, mut producer) = (Memory::new(), Producer::new());
    let mut shown = Vec::new();
    for (key, key_format, key_shown) in KEYS {
        for (value, value_format, value_base64) in odd_values() {
            for is_ours in [false, true] {
                let headers = if is_ours { producer.event(0, "", Task::None).headers } else { BTreeMap::new() };
                let key = key.map(<[u8]>::to_vec);
                setting.produce(0, vec![Record { key, headers, ..foreign(value) }]).await?;
                shown.push([key_shown, key_format, value_format, value_base64]);
            }
        }
    }
    for time in times {
        produce_at(&setting, *time, b"{}", shown.len() as i64).await?;
        shown.push(["", "none", "json", ""]);
    }
    let (game, players) = played(&store).await?;
    for user in players {
        let told = producer.event(0, message::CLEANING, Task::Object(&cleaning(game, user)));
        setting.produce(0, vec![told]).await?;
    }
    let mut config = WorkerConfig { until_end: true, ..setting.config() };
    config.sink.rotation.max_records = 1;
    config.sink.compression = superhero_sink::Compression::Gzip;
    let summary = setting.start_with(config, store).ended().await?;
    ensure!((summary.records, summary.games) == (shown.len() as u64 + 2, 1), "{summary:?}");
    ensure!(summary.undated == times.len() as u64, "{summary:?}");
    Ok((setting, shown, summary.dead_letters as usize))
}

/// All values, those included that are as deep as they may be, and deeper.
pub fn odd_values() -> Vec<Valued> {
    let nested = |depth: usize| &*("[".repeat(depth) + &"]".repeat(depth)).leak();
    let deeper = ("W1tb".repeat(34) + &"XV1d".repeat(34)).leak();
    let deep = [
        (Some(nested(MAX_DEPTH).as_bytes()), "json", ""),
        (Some(nested(MAX_DEPTH + 2).as_bytes()), "base64:depth", &*deeper),
    ];
    VALUES.into_iter().chain(deep).collect()
}

fn check(line: &str, columns: &[(&str, &str)]) -> Result<()> {
    let row: BTreeMap<String, Value> = serde_json::from_str(line)?;
    for (name, expected) in columns {
        let value = row.get(*name).with_context(|| format!("no {name}"))?;
        let found = match value {
            Value::String(_) | Value::Null if *expected == "time" => "time",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            _ => "another",
        };
        ensure!(*expected == "any" || found == *expected, "{name} is {value}, no {expected}");
    }
    ensure!(row.len() == columns.len(), "more columns than {columns:?}");
    Ok(())
}
