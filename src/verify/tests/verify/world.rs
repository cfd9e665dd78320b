//! Folders as workers make them: written, sealed, committed and published by the real sink.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{Days, NaiveDate};
use flate2::write::GzEncoder;
use superhero_event::table::{Origin, write_meta, write_podium};
use superhero_game::{GameToken, HeroId, PodiumRow, UserToken};
use superhero_sink::{
    CommitAnswer, Compression, Folder, Membership, PartitionId, PartitionSink, Settings, Step, Table, read_rows,
};
use superhero_verify::{Fault, Verification, VerifyConfig, VerifyError, verify};
use tokio_util::sync::CancellationToken;

pub(crate) const LOBBY: &str = "lib.server.lobby";
pub(crate) const TODAY: NaiveDate = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();

pub(crate) fn game(number: u32) -> GameToken {
    format!("aaaaaaaa-0000-0000-0000-{number:012}").parse().unwrap()
}

pub(crate) fn user(number: u32) -> UserToken {
    format!("00000000-0000-0000-0000-{number:012}").parse().unwrap()
}

pub(crate) fn envelope(message: &str, rest: &str) -> String {
    format!(
        r#"{{"level":"INFO","timestamp":"2026-11-22T18:15:21.101031","name":"kafka.lib","log_message":"{message}"{rest}}}"#
    )
}

/// The row of a game table that a test wants instead of the right one.
pub(crate) type Users = Vec<(UserToken, u64)>;

/// One partition and its worker.
pub(crate) struct Worker {
    sink: PartitionSink,
    topic: String,
    partition: i32,
    /// Of the next record.
    pub(crate) offset: i64,
    pub(crate) date: NaiveDate,
    /// The next number of each producer.
    pub(crate) numbers: HashMap<u128, u64>,
}

impl Worker {
    pub(crate) fn new(dir: &Path, topic: &str, partition: i32) -> Self {
        Self::from(dir, topic, partition, Compression::Gzip, 0)
    }

    pub(crate) fn from(dir: &Path, topic: &str, partition: i32, compression: Compression, offset: i64) -> Self {
        let folder = Folder::open(dir, "cluster").unwrap();
        folder.check_topic(topic, "topic-id").unwrap();
        let id = PartitionId::new(topic, partition).unwrap();
        let mut sink = PartitionSink::new(&folder, id, Settings { compression, ..Settings::default() });
        let membership = Membership { generation: 1, owner: true, committed: Some(offset), metadata: "" };
        assert!(matches!(sink.joined(membership).unwrap(), Step::Write));
        Self { sink, topic: topic.to_owned(), partition, offset, date: TODAY, numbers: HashMap::new() }
    }

    pub(crate) fn event(&mut self, producer: u128) {
        self.record(Some(producer), None, &envelope("Attack Completed", r#","task":"{}""#), None, &[]);
    }

    pub(crate) fn events(&mut self, producer: u128, count: usize) {
        (0..count).for_each(|_| self.event(producer));
    }

    /// Of a producer that does not number its records, nor key them.
    pub(crate) fn stranger(&mut self) {
        self.record(None, None, &envelope("Anything", ""), None, &[]);
    }

    pub(crate) fn bad(&mut self, producer: Option<u128>, value: &str) {
        self.record(producer, None, value, Some("it is bad"), &[]);
    }

    /// A record that repeats one that was seen.
    pub(crate) fn repeat(&mut self, count: i64) {
        for _ in 0..count {
            self.append(&[]);
        }
    }

    pub(crate) fn select(&mut self, producer: u128, game: GameToken) {
        self.record(Some(producer), Some(game), &envelope("Hero Selected", r#","task":"{}""#), None, &[]);
    }

    /// The end of a game for one user, who is the host if rows are given.
    pub(crate) fn end(&mut self, producer: u128, game: GameToken, user: UserToken, rows: Option<(Users, Users)>) {
        let origin = Origin { topic: &self.topic, partition: self.partition, offset: self.offset };
        let (meta, podium) = rows.unwrap_or_default();
        let mut made = Vec::new();
        for (user, hero) in meta {
            let mut row = Vec::new();
            write_meta(&mut row, game, user, HeroId(hero as u32), origin);
            made.push((Table::GameMeta, row));
        }
        for (user, rank) in podium {
            let mut row = Vec::new();
            let fields = PodiumRow { user, rounds: 1, rank: rank as u32, damage_delivered: 2, damage_received: 3 };
            write_podium(&mut row, game, &fields, origin);
            made.push((Table::GamePodium, row));
        }
        self.record(Some(producer), Some(game), &cleaning(game, user), None, &made);
    }

    /// A game of two from the first to the last of its events, of which the second user's makes the tables.
    pub(crate) fn whole_game(&mut self, producer: u128, number: u32) {
        let users = [user(1), user(2)];
        users.iter().for_each(|_| self.select(producer, game(number)));
        self.end(producer, game(number), users[0], None);
        let rows = || vec![(users[0], 1), (users[1], 2)];
        self.end(producer, game(number), users[1], Some((rows(), rows())));
    }

    pub(crate) fn record(
        &mut self,
        producer: Option<u128>,
        key: Option<GameToken>,
        value: &str,
        reason: Option<&str>,
        rows: &[(Table, Vec<u8>)],
    ) {
        let id = producer.map_or(String::new(), |producer| {
            let number = self.numbers.entry(producer).or_default();
            *number += 1;
            format!("{producer:032x}-{}", *number - 1)
        });
        let (key, key_format) = key.map_or((String::new(), "none"), |key| (key.to_string(), "text"));
        let (value_format, value_base64, value) = match serde_json::from_str::<serde_json::Value>(value) {
            Ok(json) if !json.is_null() => ("json", String::new(), value),
            _ => ("base64", STANDARD.encode(value), "null"),
        };
        let (topic, partition, offset, date) = (&self.topic, self.partition, self.offset, self.date);
        let fields = format!(
            concat!(
                r#""topic":"{}","partition":{},"offset":{},"timestamp":"{}T18:15:21.101Z","key":"{}","key_format":"{}","#,
                r#""id":"{}","value_format":"{}","value_base64":"{}","value":{}}}"#
            ),
            topic, partition, offset, date, key, key_format, id, value_format, value_base64, value
        );
        let mut made = vec![(Table::Raw, format!("{{{fields}").into_bytes())];
        if let Some(reason) = reason {
            made.push((Table::Dead, format!("{{\"reason\":\"{reason}\",{fields}").into_bytes()));
        }
        made.extend_from_slice(rows);
        let made: Vec<_> = made.iter().map(|(table, row)| (*table, row.as_slice())).collect();
        self.append(&made);
    }

    fn append(&mut self, rows: &[(Table, &[u8])]) {
        let _ = self.sink.append(self.offset, self.date, rows, Instant::now()).unwrap();
        self.offset += 1;
    }

    pub(crate) fn publish(&mut self) {
        self.seal();
        assert!(matches!(self.sink.answered(CommitAnswer::Accepted).unwrap(), Step::Write));
    }

    /// Without the commit that publishes it.
    pub(crate) fn seal(&mut self) {
        assert!(matches!(self.sink.seal().unwrap(), Step::Commit(_)));
    }

    pub(crate) fn next_day(&mut self) {
        self.date = self.date.checked_add_days(Days::new(1)).unwrap();
    }

    /// As a crash leaves it.
    pub(crate) fn crash(self) {
        std::mem::forget(self.sink);
    }
}

pub(crate) fn cleaning(game: GameToken, user: UserToken) -> String {
    envelope("Cleaning Game Records", &format!(r#","task":{{"game_token":"{game}","user_token":"{user}"}}"#))
}

/// Two partitions with all that there is: two producers that take turns, games, dead letters, files of several days.
pub(crate) fn everything() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut lobby = Worker::new(dir.path(), LOBBY, 0);
    for number in 0..3 {
        lobby.whole_game(1, 2 * number);
        lobby.bad(Some(1), "no json");
        lobby.event(2);
        lobby.whole_game(2, 2 * number + 1);
        lobby.event(1);
        lobby.publish();
    }
    let mut other = Worker::from(dir.path(), "other", 3, Compression::None, 0);
    for _ in 0..2 {
        other.events(1, 4);
        other.bad(Some(1), r#"{"a":1}"#);
        other.next_day();
        other.events(1, 2);
        other.publish();
    }
    dir
}

pub(crate) fn try_check(folders: &[&Path]) -> Result<Verification, VerifyError> {
    let folders = folders.iter().map(|folder| folder.to_path_buf()).collect();
    let config = VerifyConfig { folders, ..VerifyConfig::default() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(verify(config, CancellationToken::new()))
}

pub(crate) fn check(folder: &Path) -> Verification {
    try_check(&[folder]).unwrap()
}

pub(crate) fn faults(folder: &Path) -> Vec<Fault> {
    check(folder).faults.first().to_vec()
}

/// All files below the tables, by path.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with(".superhero") {
            found.extend(files(&entry));
        } else if entry.is_file() {
            found.push(entry);
        }
    }
    found.sort();
    found
}

/// The only file whose path has all of these parts.
pub(crate) fn file(dir: &Path, parts: &[&str]) -> PathBuf {
    let fits = |path: &PathBuf| parts.iter().all(|part| path.to_str().unwrap().contains(part));
    let mut found = files(dir).into_iter().filter(fits);
    let file = found.next().unwrap();
    assert_eq!(found.next(), None, "{parts:?}");
    file
}

pub(crate) fn rows(path: &Path) -> Vec<String> {
    read_rows(path).unwrap().map(|row| String::from_utf8(row.unwrap()).unwrap()).collect()
}

pub(crate) fn write(path: &Path, rows: &[String]) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let bytes = match path.extension().is_some_and(|extension| extension == "gz") {
        true => {
            let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap()
        }
        false => text.into_bytes(),
    };
    fs::write(path, bytes).unwrap();
}

pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let mut rows = rows(path);
    change(&mut rows);
    write(path, &rows);
}
