//! The checker itself: files and topics with one thing wrong each, which it must find, and name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::json;
use tempfile::TempDir;

use super::anomaly::{Anomaly, Place};
use super::raw::compare;
use super::tables::{self, META, PODIUM, Table};
use super::topic::Record;
use super::{Raw, lost_tails};

const PRODUCER: &str = "0123456789abcdef0123456789abcdef";

pub fn tests() -> Vec<Trial> {
    let case = |name: &str, body: fn() -> Result<()>| {
        Trial::test(format!("checker::{name}"), move || body().map_err(|error| Failed::from(format!("{error:#}"))))
    };
    vec![
        case("finds nothing wrong where nothing is", nothing),
        case("finds a lost write", lost_write),
        case("finds a duplicate", duplicate),
        case("finds a row of a repetition", row_of_a_repetition),
        case("finds a reordering", reordering),
        case("finds a poll skip", poll_skip),
        case("finds a non-monotonic offset", non_monotonic_offset),
        case("finds a torn file", torn_file),
        case("finds a foreign row", foreign_row),
        case("finds the tail of a producer that was lost", lost_tail),
        case("finds what was never published", leftover),
        case("finds rows that tell something else than was played", wrong_rows),
        case("finds rows without their game, and games without their rows", games),
    ]
}

/// A partition with the offsets 0 to 5, in files of three rows.
struct Planted {
    folder: TempDir,
    place: Place,
    records: Vec<Record>,
    /// The lines of each file, by the offset in its name.
    files: BTreeMap<i64, Vec<String>>,
}

impl Planted {
    fn new() -> Result<Self> {
        let records = (0..6).map(|offset| record(offset, offset as u64)).collect();
        let files = [0, 3].map(|first| (first, (first..first + 3).map(|offset| row(offset, offset as u64)).collect()));
        let place = Place { topic: "lib.server.game".to_owned(), partition: 2 };
        Ok(Self { folder: tempfile::tempdir()?, place, records, files: files.into() })
    }

    fn path(&self, first: i64) -> PathBuf {
        self.folder.path().join(format!("lib.server.game+2+{first:020}.jsonl"))
    }

    fn found(&self) -> Result<Vec<Anomaly>> {
        let mut files = Vec::new();
        for (first, lines) in &self.files {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            fs::write(self.path(*first), text)?;
            files.push((*first, self.path(*first)));
        }
        Ok(compare(&self.place, &self.records, &files).anomalies)
    }

    fn must_find(&self, expected: impl IntoIterator<Item = Anomaly>) -> Result<()> {
        let (found, expected) = (self.found()?, Vec::from_iter(expected));
        ensure!(found == expected, "found {found:?}, expected {expected:?}");
        Ok(())
    }
}

fn record(offset: i64, number: u64) -> Record {
    Record { offset, key: Some(b"g".to_vec()), value: value(number), id: Some((PRODUCER.to_owned(), number)) }
}

fn value(number: u64) -> Vec<u8> {
    format!(r#"{{"log_message":"event {number}"}}"#).into_bytes()
}

fn row(offset: i64, number: u64) -> String {
    let value = String::from_utf8(value(number)).unwrap_or_default();
    format!(
        concat!(
            r#"{{"topic":"lib.server.game","partition":2,"offset":{},"key":"g","key_format":"text","id":"{}-{}","#,
            r#""value_format":"json","value_base64":"","value":{}}}"#
        ),
        offset, PRODUCER, number, value
    )
}

fn nothing() -> Result<()> {
    let mut planted = Planted::new()?;
    planted.must_find([])?;
    // What the topic holds twice has one row.
    planted.records.push(record(6, 4));
    planted.must_find([])?;
    // Records of others have no numbers, and rows all the same.
    planted.records.push(Record { offset: 7, key: None, value: b"{}".to_vec(), id: None });
    let foreign = concat!(
        r#"{"topic":"lib.server.game","partition":2,"offset":7,"key":"","key_format":"none","id":"","#,
        r#""value_format":"json","value_base64":"","value":{}}"#
    );
    planted.files.insert(7, vec![foreign.to_owned()]);
    planted.must_find([])
}

fn lost_write() -> Result<()> {
    let mut planted = Planted::new()?;
    planted.records.push(record(6, 8));
    planted.files.insert(6, vec![row(6, 8)]);
    let (place, producer) = (planted.place.clone(), PRODUCER.to_owned());
    planted.must_find([Anomaly::LostWrite { place, producer, first: 6, last: 7 }])
}

fn duplicate() -> Result<()> {
    let mut planted = Planted::new()?;
    planted.files.insert(5, vec![row(5, 5)]);
    let (place, file) = (planted.place.clone(), planted.path(5));
    planted.must_find([Anomaly::Duplicate { place, offset: 5, file }])
}

fn row_of_a_repetition() -> Result<()> {
    let mut planted = Planted::new()?;
    planted.records.push(record(6, 5));
    planted.files.insert(6, vec![row(6, 5)]);
    let (place, file) = (planted.place.clone(), planted.path(6));
    planted.must_find([Anomaly::Duplicate { place, offset: 6, file }])
}

fn reordering() -> Result<()> {
    let mut planted = Planted::new()?;
    planted.files.entry(0).or_default().swap(0, 1);
    let (place, file) = (planted.place.clone(), planted.path(0));
    let reason = "the file's name says that it begins with 0".to_owned();
    planted.must_find([
        Anomaly::ForeignRow { place: place.clone(), offset: 1, file: file.clone(), reason },
        Anomaly::NonMonotonicOffset { place: place.clone(), offset: 0, after: 1, file },
        Anomaly::Reordering { place, offset: 0, number: 0, after: 1 },
    ])
}

fn poll_skip() -> Result<()> {
    let mut planted = Planted::new()?;
    planted.files.entry(3).or_default().remove(1);
    let place = planted.place.clone();
    planted.must_find([Anomaly::PollSkip { place, offset: 4 }])
}

fn non_monotonic_offset() -> Result<()> {
    let mut planted = Planted::new()?;
    // Records of others, so that nothing but their offsets tells their order.
    planted.records.iter_mut().for_each(|record| record.id = None);
    let without_id = |line: &String| line.replace(&format!("\"{PRODUCER}-"), "\"\",\"x\":\"");
    planted.files.values_mut().for_each(|lines| *lines = lines.iter().map(without_id).collect());
    planted.files.entry(3).or_default().swap(1, 2);
    let (place, file) = (planted.place.clone(), planted.path(3));
    planted.must_find([Anomaly::NonMonotonicOffset { place, offset: 4, after: 5, file }])
}

fn torn_file() -> Result<()> {
    let planted = Planted::new()?;
    planted.must_find([])?;
    let path = planted.path(3);
    let whole = fs::read(&path)?;
    fs::write(&path, &whole[..whole.len() - 1])?;
    let files = [(0, planted.path(0)), (3, path.clone())];
    let found = compare(&planted.place, &planted.records, &files).anomalies;
    let torn =
        matches!(&found[..], [Anomaly::TornFile { file, .. }, Anomaly::PollSkip { offset: 5, .. }] if *file == path);
    ensure!(torn, "{found:?}");
    Ok(())
}

fn foreign_row() -> Result<()> {
    let mut planted = Planted::new()?;
    planted.files.entry(3).or_default()[2] = row(5, 5).replace("event 5", "event X");
    planted.files.insert(9, vec![row(9, 9)]);
    planted.records[1].key = None;
    let (place, file) = (planted.place.clone(), planted.path(3));
    planted.must_find([
        Anomaly::ForeignRow {
            place: place.clone(),
            offset: 1,
            file: planted.path(0),
            reason: r#"its key is "g" as "text", and the record's is "" as none"#.to_owned(),
        },
        Anomaly::ForeignRow { place: place.clone(), offset: 5, file, reason: "the value is not verbatim".to_owned() },
        Anomaly::ForeignRow {
            place,
            offset: 9,
            file: planted.path(9),
            reason: "the topic has no such record".to_owned(),
        },
    ])
}

fn lost_tail() -> Result<()> {
    let delivered = BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 7)]);
    ensure!(lost_tails(&delivered, &delivered).is_empty());
    let found = lost_tails(&BTreeMap::from([("a".to_owned(), 5), ("c".to_owned(), 1)]), &delivered);
    ensure!(found == [Anomaly::LostTail { producer: "b".to_owned(), delivered: 7, found: 0 }], "{found:?}");
    Ok(())
}

fn leftover() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut raw = Raw::default();
    raw.leftovers(&[folder.path()])?;
    ensure!(raw.anomalies.is_empty(), "{:?}", raw.anomalies);
    let sealed = folder.path().join("superhero/.superhero/sealed/a+0+0+1+1+w");
    fs::create_dir_all(&sealed)?;
    fs::write(sealed.join("rows"), "")?;
    raw.leftovers(&[folder.path()])?;
    ensure!(raw.anomalies == [Anomaly::Leftover { path: sealed.join("rows") }], "{:?}", raw.anomalies);
    Ok(())
}

fn wrong_rows() -> Result<()> {
    let text = |value: serde_json::Value| value.to_string();
    let heroes = json!({"u": {"id": 1, "health": 10}, "v": {"id": 2, "health": 10}});
    let starting = text(json!({"PAYLOAD": {"GAME_TOKEN": "g", "PARTICIPANTS_HEROS": heroes}}));
    let details = json!({"ENEMY_TOKEN": "v", "ENEMY_DAMAGE": 10, "ENEMY_HEALTH_POST": 0});
    let attack =
        json!({"PAYLOAD": {"GAME_TOKEN": "g", "USER_TOKEN": "u"}, "STATUS": {"ACTION": "ATTACK", "DETAILS": details}});
    let events = [
        json!({"log_message": "Starting Match", "task": starting}),
        json!({"log_message": "Attack Completed", "task": text(attack)}),
        json!({"log_message": "Cleaning Game Records", "task": {"game_token": "g", "user_token": "u"}}),
    ]
    .map(text);
    let games = super::games::of_events(events.iter().map(String::as_bytes))?;
    let rows = |rows: [serde_json::Value; 2]| Table::from([("g".to_owned(), rows.to_vec())]);
    let meta = |hero: u64| {
        rows([json!({"user_token": "u", "superhero_id": 1}), json!({"user_token": "v", "superhero_id": hero})])
    };
    let podium = |rank: u64| {
        let row = |user, rounds, rank, delivered, received| json!({"user_token": user, "rounds": rounds, "rank": rank, "damage_delivered": delivered, "damage_received": received});
        rows([row("u", 1, 1, 10, 0), row("v", 0, rank, 0, 10)])
    };
    let found = tables::compare(&games, &meta(2), &podium(2))?;
    ensure!(found.is_empty(), "{found:?}");
    for (table, found) in [
        (META, tables::compare(&games, &meta(3), &podium(2))?),
        (PODIUM, tables::compare(&games, &meta(2), &podium(1))?),
    ] {
        let wrong =
            matches!(&found[..], [Anomaly::WrongRows { table: found, game, .. }] if *found == table && game == "g");
        ensure!(wrong, "{found:?}");
    }
    Ok(())
}

fn games() -> Result<()> {
    let table = |games: &[&str]| -> Table {
        games
            .iter()
            .map(|game| ((*game).to_owned(), vec![json!({"game_token": game}), json!({"game_token": game})]))
            .collect()
    };
    let ended = BTreeMap::from([("a", 2), ("b", 2)]);
    let known = BTreeSet::from(["a", "b", "c"]);
    ensure!(tables::membership(&ended, &known, &table(&["a", "b", "c"]), &table(&["a", "b"])).is_empty());
    let found = tables::membership(&ended, &known, &table(&["a"]), &table(&["a", "b", "d"]));
    let expected = [
        Anomaly::GameWithoutRows { table: META, game: "b".to_owned() },
        Anomaly::RowsWithoutGame { table: PODIUM, game: "d".to_owned() },
    ];
    ensure!(found == expected, "{found:?}");
    Ok(())
}
