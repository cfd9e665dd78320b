//! The columns of the files, which readers take from the first file that they open: each stands in every row, with one type.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rskafka::record::Record;
use serde_json::Value;
use superhero_event::{Task, message, topic};
use superhero_store::memory::Memory;
use superhero_worker::WorkerConfig;

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
    ("timestamp", "string"),
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

/// Each with how a row shows it.
const KEYS: [(Option<&[u8]>, &str, &str); 5] = [
    (None, "none", ""),
    (Some(b""), "text", ""),
    (Some(b"a-game"), "text", "a-game"),
    (Some(b"null"), "text", "null"),
    (Some(b"\xff"), "base64", "/w=="),
];

/// Each with its format and what stands in `value_base64`.
const VALUES: [(Option<&[u8]>, &str, &str); 11] = [
    (None, "none", ""),
    (Some(b""), "base64", ""),
    (Some(b"no json"), "base64", "bm8ganNvbg=="),
    (Some(b"\xff"), "base64", "/w=="),
    (Some(b"{\n}"), "base64", "ewp9"),
    (Some(b"null"), "base64", "bnVsbA=="),
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
    let (setting, shown, dead_letters) = odd_records(kafka, folder).await?;
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
    let found = setting.verify(&[folder]).await?;
    ensure!(found.is_clean(), "{found}");
    Ok(())
}

/// How a row shows a record: `key`, `key_format`, `value_format` and `value_base64`.
type Shown = [&'static str; 4];

/// Produces records with every key and value, ours and others', and then the end of a game. Each stands in a file of its own, so that what is
/// the same in all files does not depend on what stands beside it. Returns how the first are to be shown, and the number of dead letters.
pub async fn odd_records(kafka: &Kafka, folder: &Path) -> Result<(Setting, Vec<Shown>, usize)> {
    let setting = Setting::of_topic(kafka, folder, topic::LOBBY, 1).await?;
    let (store, mut producer) = (Memory::new(), Producer::new());
    let mut shown = Vec::new();
    for (key, key_format, key_shown) in KEYS {
        for (value, value_format, value_base64) in VALUES {
            for is_ours in [false, true] {
                let headers = if is_ours { producer.event(0, "", Task::None).headers } else { BTreeMap::new() };
                let key = key.map(<[u8]>::to_vec);
                setting.produce(0, vec![Record { key, headers, ..foreign(value) }]).await?;
                shown.push([key_shown, key_format, value_format, value_base64]);
            }
        }
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
    Ok((setting, shown, summary.dead_letters as usize))
}

fn check(line: &str, columns: &[(&str, &str)]) -> Result<()> {
    let row: BTreeMap<String, Value> = serde_json::from_str(line)?;
    for (name, expected) in columns {
        let value = row.get(*name).with_context(|| format!("no {name}"))?;
        let found = match value {
            Value::String(_) => "string",
            Value::Number(_) => "number",
            _ => "another",
        };
        ensure!(*expected == "any" || found == *expected, "{name} is {value}, no {expected}");
    }
    ensure!(row.len() == columns.len(), "more columns than {columns:?}");
    Ok(())
}
