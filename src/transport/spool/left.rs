//! What an earlier start left: its events, in order, into lanes that count as its own did.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::entry::{self, Broken};
use super::ledger::Ledger;
use super::{Folder, LeftOver, SpoolError};
use crate::batch::Producer;
use crate::lanes::{BatchConfig, Lanes};
use crate::queue::Settled;

/// A folder that was left, and is this transport's to deliver.
#[derive(Debug)]
pub(super) struct Left {
    folder: Folder,
    producer: Uuid,
    ledger: Ledger,
    first: u64,
    /// Those that are not in the lanes yet.
    segments: VecDeque<PathBuf>,
    bytes: u64,
    /// Events that are not settled.
    events: u64,
    /// A file from whose middle on nothing can be read.
    damage: Option<SpoolError>,
}

impl Left {
    /// Looks at what is there. A folder without events is removed.
    pub(super) fn open(folder: Folder, producer: Uuid) -> Result<Option<Self>, SpoolError> {
        let ledger = match Ledger::read(&folder.files, &folder.path) {
            Ok(Some(ledger)) => ledger,
            Ok(None) => return folder.remove().map(|()| None),
            Err(damage @ SpoolError::Damaged { .. }) => return set_aside(&folder, &damage).map(|()| None),
            Err(error) => return Err(error),
        };
        let segments = segments(&folder)?;
        let Some(first) = segments.first().map(|(number, _)| *number) else { return folder.remove().map(|()| None) };
        let account = ledger.account();
        let Some(begin) = account.begins.get(&first) else {
            let path = folder.segment(first);
            let damage = SpoolError::Damaged { path, reason: "the ledger does not know it".to_owned() };
            return set_aside(&folder, &damage).map(|()| None);
        };
        let settled = account.settled.iter().map(|((topic, partition), below)| {
            let next = begin.get(topic).and_then(|counting| counting.next.get(*partition as usize));
            below.saturating_sub(next.copied().unwrap_or(0))
        });
        let settled: u64 = settled.sum();
        let (mut entries, mut bytes, mut damage) = (0, 0, None);
        for (place, (_, path)) in segments.iter().enumerate() {
            let content = content_of(&folder, path)?;
            bytes += content.len() as u64;
            let (whole, broken) = count(&content);
            entries += whole;
            // Only the last write can have been cut off by the end of the process.
            let last = segments[place + 1..].iter().all(|(_, path)| is_empty(&folder, path));
            match broken {
                None => {}
                Some((_, Broken::CutOff)) if last => {}
                Some((at, _)) if damage.is_none() => {
                    let reason = format!("what begins at byte {at} is no event");
                    damage = Some(SpoolError::Damaged { path: path.clone(), reason });
                }
                Some(_) => {}
            }
            if damage.is_some() {
                break;
            }
        }
        let events = entries.saturating_sub(settled);
        if events == 0 && damage.is_none() {
            let before: u64 = begin.values().flat_map(|counting| &counting.next).sum();
            tell_delivered(producer, before + entries);
            return folder.remove().map(|()| None);
        }
        tracing::info!(producer = %producer.simple(), events, "events of an earlier start are sent again");
        let segments = segments.into_iter().map(|(_, path)| path).collect();
        Ok(Some(Self { folder, producer, ledger, first, segments, bytes, events, damage }))
    }

    pub(super) fn left_over(&self) -> LeftOver {
        LeftOver { producer: self.producer, events: self.events }
    }

    /// Of its segments on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Lanes that count from the first segment on as the process did.
    pub(super) fn lanes(&self, batches: BatchConfig) -> Lanes {
        let account = self.ledger.account();
        let counted = account.begins.get(&self.first).cloned().unwrap_or_default();
        Lanes::resume(Producer::new(self.producer), batches, &account.partitions, &counted, &account.settled)
    }

    pub(super) fn settle(&mut self, settled: Settled) {
        self.events = self.events.saturating_sub(settled.acknowledged + settled.dropped);
    }

    /// Hands the next segments to the lanes, until these have something to do; `false` if there is no segment.
    pub(super) fn feed(&mut self, lanes: &mut Lanes) -> Result<bool, SpoolError> {
        while let Some(path) = self.segments.front() {
            let content = content_of(&self.folder, path)?;
            let mut rest = content.as_slice();
            while let Ok(Some(event)) = entry::decode(&mut rest) {
                lanes.accept(&event);
            }
            let is_damaged = matches!(&self.damage, Some(SpoolError::Damaged { path: damaged, .. }) if damaged == path);
            self.segments.pop_front();
            if is_damaged {
                self.segments.clear();
            }
            if !lanes.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All that can be read is settled; `numbered` events have been this producer's in all.
    pub(super) fn delivered(self, numbered: u64) {
        tell_delivered(self.producer, numbered);
        let removed = match &self.damage {
            Some(damage) => set_aside(&self.folder, damage),
            None => self.folder.remove(),
        };
        if let Err(error) = removed {
            tracing::warn!("events that are delivered may be sent once more at the next start: {error}");
        }
    }
}

fn tell_delivered(producer: Uuid, emitted: u64) {
    let producer = producer.simple().to_string();
    tracing::info!(producer, emitted, "the events of an earlier start are delivered");
}

/// Keeps what cannot be read for whoever wants to look into it, out of the way of later starts.
fn set_aside(folder: &Folder, damage: &SpoolError) -> Result<(), SpoolError> {
    let with_ending = |name: &OsStr| {
        let mut aside = name.to_owned();
        aside.push(".damaged");
        aside
    };
    let renamed = folder.dir.rename(&folder.name, &folder.dir, with_ending(&folder.name));
    renamed.map_err(SpoolError::of("rename", &folder.path))?;
    let aside = PathBuf::from(with_ending(folder.path.as_os_str()));
    tracing::error!("events are lost: {damage}; what is left of them is kept in {}", aside.display());
    Ok(())
}

/// The segments of a folder, by number.
fn segments(folder: &Folder) -> Result<Vec<(u64, PathBuf)>, SpoolError> {
    let mut all = Vec::new();
    for (name, _) in folder.files.list().map_err(SpoolError::of("list", &folder.path))? {
        let path = folder.path.join(name);
        let is_segment = path.extension().is_some_and(|extension| extension == "events");
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        all.extend(number.filter(|_| is_segment).map(|number| (number, path)));
    }
    all.sort();
    Ok(all)
}

fn content_of(folder: &Folder, path: &Path) -> Result<Vec<u8>, SpoolError> {
    let mut content = Vec::new();
    let read = open(folder, path).and_then(|mut segment| segment.read_to_end(&mut content));
    read.map(|_| content).map_err(SpoolError::of("read", path))
}

fn is_empty(folder: &Folder, path: &Path) -> bool {
    open(folder, path).and_then(|segment| segment.metadata()).is_ok_and(|segment| segment.len() == 0)
}

fn open(folder: &Folder, path: &Path) -> io::Result<File> {
    folder.files.read(path.file_name().unwrap_or_default())
}

/// The entries of a segment, and where the first one is that is none.
fn count(content: &[u8]) -> (u64, Option<(usize, Broken)>) {
    let mut rest = content;
    let mut entries = 0;
    loop {
        match entry::decode(&mut rest) {
            Ok(Some(_)) => entries += 1,
            Ok(None) => return (entries, None),
            Err(broken) => return (entries, Some((content.len() - rest.len(), broken))),
        }
    }
}
