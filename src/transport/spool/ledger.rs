//! What has to be known beside the events to give them their ids again: how many partitions each topic had, the sequences at the
//! start of each segment, and what is settled. It is a file of JSON lines that is appended to, and written anew when a segment goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use superhero_files::{Folder as Files, PRIVATE_FILE};

use super::{FIRST_SEGMENT, SpoolError};
use crate::lanes::Counting;

const LEDGER: &str = "ledger";
const NEW_LEDGER: &str = "ledger.new";

/// A line of the file. A later one overrules an earlier one of the same subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// How topics are counted before the first event of a segment; a topic that is missing has had no event before.
    Begin { segment: u64, topics: BTreeMap<String, Counting> },
    /// The partitions of a topic, which do not change while it is counted.
    Topic { name: String, partitions: usize },
    /// All events of a partition with sequences below this one are acknowledged, or given up.
    Settled { topic: String, partition: i32, below: u64 },
}

/// What the lines say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// By segment.
    pub(super) begins: BTreeMap<u64, BTreeMap<String, Counting>>,
    pub(super) partitions: BTreeMap<String, usize>,
    pub(super) settled: BTreeMap<(String, i32), u64>,
}

impl Account {
    fn apply(&mut self, line: Line) {
        match line {
            Line::Begin { segment, topics } => drop(self.begins.insert(segment, topics)),
            Line::Topic { name, partitions } => drop(self.partitions.insert(name, partitions)),
            Line::Settled { topic, partition, below } => drop(self.settled.insert((topic, partition), below)),
        }
    }

    fn lines(&self) -> impl Iterator<Item = Line> {
        let topics = self
            .partitions
            .iter()
            .map(|(name, partitions)| Line::Topic { name: name.clone(), partitions: *partitions });
        let begins =
            self.begins.iter().map(|(segment, topics)| Line::Begin { segment: *segment, topics: topics.clone() });
        let settled = self.settled.iter().map(|((topic, partition), below)| Line::Settled {
            topic: topic.clone(),
            partition: *partition,
            below: *below,
        });
        topics.chain(begins).chain(settled)
    }

    /// Whether all events before `segment` are settled.
    fn is_settled_before(&self, segment: u64) -> bool {
        self.begins.get(&segment).is_some_and(|topics| {
            topics.iter().all(|(topic, counting)| {
                counting.next.iter().zip(0..).all(|(next, partition)| {
                    *next == 0 || self.settled.get(&(topic.clone(), partition)).is_some_and(|below| below >= next)
                })
            })
        })
    }
}

/// The file, and what it says or is to say.
#[derive(Debug)]
pub(super) struct Ledger {
    files: Files,
    folder: PathBuf,
    file: File,
    account: Account,
    /// Topics that a segment began with before their partitions were known: they hold it until they are counted.
    uncounted: BTreeMap<u64, usize>,
    unwritten: Vec<Line>,
    /// The file ends in a line that was not written to its end.
    torn: bool,
}

impl Ledger {
    /// A new one in `folder`.
    pub(super) fn create(files: &Files, folder: &Path) -> Result<Self, SpoolError> {
        let account = Account { begins: [(FIRST_SEGMENT, BTreeMap::new())].into(), ..Account::default() };
        Self::of(files, folder, account)
    }

    /// That which a process left in `folder`; `None` if it had not come to make one, and so had taken no event.
    pub(super) fn read(files: &Files, folder: &Path) -> Result<Option<Self>, SpoolError> {
        let path = folder.join(LEDGER);
        let mut text = Vec::new();
        match files.read(LEDGER).and_then(|mut file| file.read_to_end(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SpoolError::of("read", &path)(error)),
        };
        let mut account = Account::default();
        for (line, number) in text.split_inclusive(|byte| *byte == b'\n').zip(1..) {
            // The process was killed over a last line without an end, and had told nobody what it says.
            let Some(line) = line.strip_suffix(b"\n") else { break };
            let line = serde_json::from_slice(line).map_err(|error| SpoolError::Damaged {
                path: path.clone(),
                reason: format!("line {number}: {error}"),
            })?;
            account.apply(line);
        }
        Self::of(files, folder, account).map(Some)
    }

    fn of(files: &Files, folder: &Path, account: Account) -> Result<Self, SpoolError> {
        let file = rewrite(files, folder, &account)?;
        let files = files.clone();
        let (folder, uncounted, unwritten) = (folder.to_owned(), BTreeMap::new(), Vec::new());
        Ok(Self { files, folder, file, account, uncounted, unwritten, torn: false })
    }

    /// Removes the file, if there is one.
    pub(super) fn remove(files: &Files, folder: &Path) -> Result<(), SpoolError> {
        let path = folder.join(LEDGER);
        match files.remove(LEDGER) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SpoolError::of("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// A segment begins; `uncounted` topics have events before it whose partitions are not known.
    pub(super) fn begin(&mut self, segment: u64, topics: BTreeMap<String, Counting>, uncounted: usize) {
        if uncounted > 0 {
            self.uncounted.insert(segment, uncounted);
        }
        self.note(Line::Begin { segment, topics });
    }

    /// A topic's partitions are known, and how it was counted at the start of the segments that began with it uncounted.
    pub(super) fn learned(&mut self, topic: &str, partitions: usize, counted: Vec<(u64, Counting)>) {
        self.note(Line::Topic { name: topic.to_owned(), partitions });
        for (segment, counting) in counted {
            let mut topics = self.account.begins.get(&segment).cloned().unwrap_or_default();
            topics.insert(topic.to_owned(), counting);
            self.note(Line::Begin { segment, topics });
            if let Some(uncounted) = self.uncounted.get_mut(&segment) {
                *uncounted -= 1;
            }
        }
    }

    pub(super) fn settled(&mut self, topic: &str, partition: i32, below: u64) {
        self.note(Line::Settled { topic: topic.to_owned(), partition, below });
    }

    /// Writes what has been noted.
    pub(super) fn write(&mut self) -> Result<(), SpoolError> {
        if self.torn {
            self.file = rewrite(&self.files, &self.folder, &self.account)?;
            self.torn = false;
            self.unwritten.clear();
        }
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let text = text(self.unwritten.iter().cloned());
        if let Err(error) = self.file.write_all(&text) {
            self.torn = true;
            return Err(SpoolError::of("write", &self.folder.join(LEDGER))(error));
        }
        self.unwritten.clear();
        Ok(())
    }

    /// The segments of which every event is settled; the last segment is never one.
    pub(super) fn settled_segments(&self) -> Vec<u64> {
        let begins: Vec<u64> = self.account.begins.keys().copied().collect();
        let is_settled = |next: u64| {
            self.uncounted.get(&next).is_none_or(|uncounted| *uncounted == 0) && self.account.is_settled_before(next)
        };
        begins.windows(2).take_while(|pair| is_settled(pair[1])).map(|pair| pair[0]).collect()
    }

    /// A segment is gone.
    pub(super) fn forget(&mut self, segment: u64) -> Result<(), SpoolError> {
        self.account.begins.remove(&segment);
        self.uncounted.remove(&segment);
        self.file = rewrite(&self.files, &self.folder, &self.account)?;
        self.torn = false;
        self.unwritten.clear();
        Ok(())
    }

    fn note(&mut self, line: Line) {
        self.account.apply(line.clone());
        self.unwritten.push(line);
    }
}

/// Replaces the file by one that says `account`.
fn rewrite(files: &Files, folder: &Path, account: &Account) -> Result<File, SpoolError> {
    let new = folder.join(NEW_LEDGER);
    let mut file = files.create(NEW_LEDGER, PRIVATE_FILE).map_err(SpoolError::of("create", &new))?;
    file.write_all(&text(account.lines())).map_err(SpoolError::of("write", &new))?;
    files.rename(NEW_LEDGER, files, LEDGER).map_err(SpoolError::of("rename", &new))?;
    Ok(file)
}

fn text(lines: impl Iterator<Item = Line>) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, &line).expect("names and numbers become JSON, and memory takes them");
        text.push(b'\n');
    }
    text
}
