//! The segments that take events, as the queue holds them under its lock: an append is one write to the page cache.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};

use super::entry;
use crate::chunk::Event;

/// Segments of a spool; fewer would keep much that is settled for the sake of little that is not.
const SEGMENTS: u64 = 16;
const MIN_SEGMENT_BYTES: u64 = 64 * 1024;
const MAX_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// Where events are appended.
#[derive(Debug)]
pub(crate) struct Segments {
    current: Segment,
    /// The one that follows, made beforehand, so that no log call has to.
    next: Option<File>,
    /// Of all segments on disk, those of earlier starts included.
    used_bytes: u64,
    capacity_bytes: u64,
    entry: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    file: File,
    bytes: u64,
    /// A write failed half-way, and what it left is still there.
    torn: bool,
}

/// Why the spool takes no event now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// Its capacity is used up.
    Full { capacity_bytes: u64 },
    /// The file system says why.
    Io(String),
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { capacity_bytes } => {
                write!(f, "it holds its {capacity_bytes} bytes of events that are not acknowledged")
            }
            Self::Io(reason) => f.write_str(reason),
        }
    }
}

impl Segments {
    /// Takes events into `first`, which is empty; `held_bytes` are those of earlier starts.
    pub(super) fn new(first: File, capacity_bytes: u64, held_bytes: u64) -> Self {
        let current = Segment { number: super::FIRST_SEGMENT, file: first, bytes: 0, torn: false };
        Self { current, next: None, used_bytes: held_bytes, capacity_bytes, entry: Vec::new() }
    }

    /// Appends an event, and tells in which segment it is: as soon as this returns, the end of the process cannot undo it.
    pub(crate) fn append(&mut self, event: &Event<'_>) -> Result<u64, Blocked> {
        self.entry.clear();
        entry::encode(event, &mut self.entry);
        let bytes = self.entry.len() as u64;
        if self.used_bytes + bytes > self.capacity_bytes {
            return Err(Blocked::Full { capacity_bytes: self.capacity_bytes });
        }
        self.current.mend().map_err(|error| Blocked::Io(error.to_string()))?;
        let is_full = self.current.bytes > 0 && self.current.bytes + bytes > segment_bytes(self.capacity_bytes);
        // While the next one is not made yet, a segment grows beyond its size.
        if let Some(file) = self.next.take_if(|_| is_full) {
            self.current = Segment { number: self.current.number + 1, file, bytes: 0, torn: false };
        }
        self.current.append(&self.entry).map_err(|error| Blocked::Io(error.to_string()))?;
        self.used_bytes += bytes;
        Ok(self.current.number)
    }

    /// Whether the game is to be held back: half of the room is left to those who act already.
    pub(crate) fn is_scarce(&self) -> bool {
        self.used_bytes > self.capacity_bytes / 2
    }

    /// Whether the game may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.used_bytes <= self.capacity_bytes / 4
    }

    /// The number of the segment to be made.
    pub(crate) fn wants(&self) -> Option<u64> {
        self.next.is_none().then_some(self.current.number + 1)
    }

    /// Takes the segment that it [wants](Self::wants).
    pub(crate) fn provide(&mut self, next: File) {
        self.next = Some(next);
    }

    /// So many bytes are gone from the disk.
    pub(crate) fn freed(&mut self, bytes: u64) {
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
    }
}

impl Segment {
    fn append(&mut self, entry: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(entry) {
            self.torn = true;
            return Err(error);
        }
        self.bytes += entry.len() as u64;
        Ok(())
    }

    /// Cuts off what a failed write left.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.bytes)?;
            self.torn = false;
        }
        Ok(())
    }
}

/// The size from which a segment takes no more events.
fn segment_bytes(capacity_bytes: u64) -> u64 {
    (capacity_bytes / SEGMENTS).clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES)
}
