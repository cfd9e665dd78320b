//! The spool: accepted events on local disk until they are settled, so that they survive the process that accepted them.
//!
//! ```text
//! LOGGER_SPOOL_DIR/00000007-<producer>/lock              held as long as the process lives
//!                                     /00000001.events   the events in the order of their acceptance
//!                                     /ledger            what gives them their ids again, and what is settled
//! ```
//!
//! A log call appends its event to a segment before it returns: one write to the page cache, which outlives the process, though not
//! the machine. Only what is in a segment is sent. Ids are not written: partitions and sequences follow from the order of the
//! events and from what the ledger knew at the start of a segment. A segment goes when all its events are settled, the folder when
//! the transport has delivered everything.
//!
//! A transport that starts takes over every folder whose lock is free, sends what is not settled under its old producer and
//! sequences, and only then what is new, so that the events of a game stay in order. Transports of one user may share the directory.
//!
//! Events carry tokens: only their owner may read the folders and the files. The directory may be a link, and nothing in it.

mod entry;
mod ledger;
mod left;
mod segments;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use superhero_files::{Folder as Files, PRIVATE_FILE, PRIVATE_FOLDER};
use superhero_text::shown;
use uuid::Uuid;

pub(crate) use segments::{Blocked, Segments};

use crate::batch::Producer;
use crate::chunk::Chunk;
use crate::lanes::{BatchConfig, Lanes, Learned, Waiting};
use crate::queue::{Queue, Settled};
use ledger::Ledger;
use left::Left;

const FIRST_SEGMENT: u64 = 1;
const LOCK: &str = "lock";
/// Others hold the directory's lock while they list it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Room for segments of events of a MiB.
const MIN_CAPACITY_BYTES: u64 = 4 * 1024 * 1024;

/// Where accepted events are kept until they are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The directory; it is made if it is missing, and can be shared by the transports of one host.
    pub dir: PathBuf,
    /// The most bytes that this transport keeps there, what it took over included, at least 4 MiB. From half of them on, down to a
    /// quarter, the game is held back as by a full queue; what comes when they are used up is in memory only until there is room.
    pub capacity_bytes: u64,
}

/// The spool does not work.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system refuses.
    #[error(
        "cannot {action} {}: {source}; LOGGER_SPOOL_DIR must be a directory that can be written",
        shown::path(path)
    )]
    Io {
        /// A verb, as in "cannot … the path".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{} is damaged: {reason}", shown::path(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, and how.
        reason: String,
    },
    /// It is too small.
    #[error("a spool of {capacity_bytes} bytes is too small; LOGGER_SPOOL_BYTES must be at least {MIN_CAPACITY_BYTES}")]
    TooSmall {
        /// What was asked for.
        capacity_bytes: u64,
    },
    /// Another process does not let go of the directory.
    #[error("{} is locked by another process for more than {} s", shown::path(path), LOCK_TIMEOUT.as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
}

impl SpoolError {
    /// For `map_err`.
    fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// What an earlier start had accepted and not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOver {
    /// Under which producer it is sent again.
    pub producer: Uuid,
    /// How many events.
    pub events: u64,
}

/// The publisher's side of the spool; the log calls' side are the [`Segments`] in the queue.
#[derive(Debug)]
pub(crate) struct Spool {
    config: SpoolConfig,
    batches: BatchConfig,
    producer: Producer,
    folder: Folder,
    ledger: Ledger,
    /// The newest segment whose events the lanes know.
    entered: u64,
    /// Of earlier starts, oldest first; the lanes are the first one's until it is delivered.
    left: VecDeque<Left>,
    /// New events, which wait for that.
    held: VecDeque<Chunk>,
}

/// A transport's own folder, for as long as it has the lock.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    files: Files,
    /// The directory that it is in, and what it is called there.
    dir: Files,
    name: OsString,
    _lock: File,
}

impl Folder {
    /// `None` if it belongs to a process that lives, or to none that had come to take an event.
    fn take(dir: &Files, name: OsString, path: PathBuf) -> Result<Option<Self>, SpoolError> {
        let files = dir.below(Path::new(&name)).map_err(SpoolError::of("open", &path))?;
        let lock = path.join(LOCK);
        let file = match files.write_private(LOCK) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return dir.remove_all(&name).map(|()| None).map_err(SpoolError::of("remove", &path));
            }
            Err(error) => return Err(SpoolError::of("open", &lock)(error)),
        };
        match file.try_lock() {
            Ok(()) => {
                // One of a version that let everybody look into it.
                files.make_private().map_err(SpoolError::of("change the mode of", &path))?;
                Ok(Some(Self { path, files, dir: dir.clone(), name, _lock: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(SpoolError::of("lock", &lock)(error)),
        }
    }

    fn make(dir: &Files, name: OsString, path: PathBuf) -> Result<Self, SpoolError> {
        let made = dir.make(&name, PRIVATE_FOLDER).and_then(|()| dir.below(Path::new(&name)));
        let files = made.map_err(SpoolError::of("create", &path))?;
        let lock = path.join(LOCK);
        let file = files.create_new(LOCK, PRIVATE_FILE).map_err(SpoolError::of("create", &lock))?;
        file.lock().map_err(SpoolError::of("lock", &lock))?;
        Ok(Self { path, files, dir: dir.clone(), name, _lock: file })
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.path.join(segment_name(number))
    }

    fn make_segment(&self, number: u64) -> Result<File, SpoolError> {
        let made = self.files.append(segment_name(number), PRIVATE_FILE);
        made.map_err(SpoolError::of("create", &self.segment(number)))
    }

    fn remove(self) -> Result<(), SpoolError> {
        // Without a ledger the rest is nothing, however far this comes.
        Ledger::remove(&self.files, &self.path)?;
        self.dir.remove_all(&self.name).map_err(SpoolError::of("remove", &self.path))
    }
}

fn segment_name(number: u64) -> String {
    format!("{number:08}.events")
}

impl Spool {
    /// Takes over what lies in the directory, and makes a folder for the events of `id`. It blocks its thread.
    pub(crate) fn open(config: SpoolConfig, id: Uuid, batches: BatchConfig) -> Result<(Self, Segments), SpoolError> {
        let SpoolConfig { dir, capacity_bytes } = &config;
        if *capacity_bytes < MIN_CAPACITY_BYTES {
            return Err(SpoolError::TooSmall { capacity_bytes: *capacity_bytes });
        }
        let made = DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(dir);
        let files = made.and_then(|()| Files::open(dir)).map_err(SpoolError::of("create", dir))?;
        let lock = lock(&files, &dir.join(LOCK))?;
        let mut number = 0;
        let mut folders = Vec::new();
        for (of, producer, path) in list(dir)? {
            number = number.max(of);
            let Some(name) = path.file_name().map(ToOwned::to_owned) else { continue };
            folders.extend(Folder::take(&files, name, path)?.map(|folder| (folder, producer)));
        }
        let name = format!("{:08}-{}", number + 1, id.simple());
        let folder = Folder::make(&files, name.clone().into(), dir.join(name))?;
        drop(lock);
        let mut left = VecDeque::new();
        for (folder, producer) in folders {
            left.extend(Left::open(folder, producer)?);
        }
        let ledger = Ledger::create(&folder.files, &folder.path)?;
        let held_bytes = left.iter().map(Left::bytes).sum();
        let segments = Segments::new(folder.make_segment(FIRST_SEGMENT)?, *capacity_bytes, held_bytes);
        let producer = Producer::new(id);
        let spool =
            Self { config, batches, producer, folder, ledger, entered: FIRST_SEGMENT, left, held: VecDeque::new() };
        Ok((spool, segments))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.config.dir
    }

    pub(crate) fn left_over(&self) -> Vec<LeftOver> {
        self.left.iter().map(Left::left_over).collect()
    }

    /// The lanes to begin with.
    pub(crate) fn lanes(&self) -> Lanes {
        match self.left.front() {
            Some(left) => left.lanes(self.batches),
            None => Lanes::new(self.producer, self.batches),
        }
    }

    /// Whether the lanes are those of an earlier start.
    pub(crate) fn is_replaying(&self) -> bool {
        !self.left.is_empty()
    }

    /// Hands new events to the lanes, in their time.
    pub(crate) fn accept(&mut self, chunk: Chunk, lanes: &mut Lanes) -> Option<Chunk> {
        if self.is_replaying() {
            self.held.push_back(chunk);
            return None;
        }
        while self.entered < chunk.segment() {
            self.entered += 1;
            let (topics, uncounted) = lanes.mark(self.entered);
            self.ledger.begin(self.entered, topics, uncounted);
        }
        for event in chunk.events() {
            lanes.accept(&event);
        }
        Some(chunk)
    }

    /// The partitions of a topic of the lanes are known.
    pub(crate) fn learned(&mut self, topic: &str, learned: Learned) {
        self.ledger_in_use().learned(topic, learned.partitions, learned.counted);
    }

    /// All events of a partition below a sequence are settled.
    pub(crate) fn settled(&mut self, queue: &Queue, topic: &str, partition: i32, below: u64) {
        // What was sent past the spool has numbers that nothing in it has, so that counting them would hide what it has.
        if self.is_replaying() || queue.bypassed() == 0 {
            self.ledger_in_use().settled(topic, partition, below);
        }
    }

    /// What the lanes have settled, while they are those of an earlier start: none of it is in the queue's account.
    pub(crate) fn replayed(&mut self, settled: Settled) {
        if let Some(left) = self.left.front_mut() {
            left.settle(settled);
        }
    }

    /// Writes down what has been noted. Nothing may be sent before that: ids depend on it.
    pub(crate) fn record(&mut self) -> Result<(), SpoolError> {
        self.ledger_in_use().write()
    }

    /// Goes on with what earlier starts left, in their own lanes, until that is delivered and the lanes are those of the new events.
    pub(crate) fn replay(&mut self, queue: &Queue, lanes: &mut Lanes) -> Result<(), SpoolError> {
        while let Some(left) = self.left.front_mut() {
            if !lanes.is_empty() || left.feed(lanes)? {
                return Ok(());
            }
            let Some(left) = self.left.pop_front() else { return Ok(()) };
            queue.spool_freed(left.bytes());
            left.delivered(lanes.numbered());
            *lanes = self.lanes();
        }
        for chunk in std::mem::take(&mut self.held) {
            if let Some(chunk) = self.accept(chunk, lanes) {
                queue.recycle(chunk);
            }
        }
        Ok(())
    }

    /// Makes room: the next segment, and that of segments which are settled.
    pub(crate) fn make_room(&mut self, queue: &Queue) -> Result<(), SpoolError> {
        for number in self.ledger.settled_segments() {
            let path = self.folder.segment(number);
            let (files, name) = (&self.folder.files, segment_name(number));
            let length = files.read(&name).and_then(|segment| Ok(segment.metadata()?.len()));
            let bytes = length.map_err(SpoolError::of("look at", &path))?;
            files.remove(&name).map_err(SpoolError::of("remove", &path))?;
            queue.spool_freed(bytes);
            self.ledger.forget(number)?;
        }
        if let Some(number) = queue.wants_segment() {
            queue.provide_segment(self.folder.make_segment(number)?);
        }
        Ok(())
    }

    /// New events that wait for those of earlier starts.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let mut by_topic: BTreeMap<&str, u64> = BTreeMap::new();
        for event in self.held.iter().flat_map(Chunk::events) {
            *by_topic.entry(event.topic).or_default() += 1;
        }
        let waiting = by_topic.into_iter().map(|(topic, events)| (topic.to_owned(), events));
        waiting.map(|(topic, events)| Waiting { topic, partition: None, events }).collect()
    }

    /// The end of the transport: what is settled need not be kept.
    pub(crate) fn end(mut self, is_delivered: bool) -> Kept {
        let earlier = self.left.iter().map(|left| left.left_over().events).sum();
        let ended = self.record().and_then(|()| if is_delivered { self.folder.remove() } else { Ok(()) });
        if let Err(error) = ended {
            tracing::warn!("events that are delivered may be sent once more at the next start: {error}");
        }
        Kept { dir: self.config.dir, earlier, unspooled: 0 }
    }

    fn ledger_in_use(&mut self) -> &mut Ledger {
        match self.left.front_mut() {
            Some(left) => left.ledger(),
            None => &mut self.ledger,
        }
    }
}

/// What a transport leaves for the next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where.
    pub dir: PathBuf,
    /// Events of starts before this one.
    pub earlier: u64,
    /// The last of this start's events, for which there was no room: what of them is not delivered is not kept either.
    pub unspooled: u64,
}

/// Takes the lock of the directory.
fn lock(files: &Files, path: &Path) -> Result<File, SpoolError> {
    let file = files.append(LOCK, PRIVATE_FILE).map_err(SpoolError::of("open", path))?;
    let until = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(SpoolError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(SpoolError::of("lock", path)(error)),
        }
    }
}

/// The folders of transports in the directory, in the order of their starts.
fn list(dir: &Path) -> Result<Vec<(u64, Uuid, PathBuf)>, SpoolError> {
    let mut all = Vec::new();
    let names = Files::open(dir).and_then(|files| files.list()).map_err(SpoolError::of("list", dir))?;
    for (name, _) in names {
        let parts = name.to_str().and_then(|name| name.split_once('-'));
        let parts = parts.and_then(|(number, id)| Some((number.parse().ok()?, Uuid::try_parse(id).ok()?)));
        all.extend(parts.map(|(number, producer)| (number, producer, dir.join(&name))));
    }
    all.sort();
    Ok(all)
}
