//! Segments of JSON lines on disk: written, sealed, published, recovered, so that every record stands there exactly once.
//!
//! # How it goes
//!
//! A worker opens a [`Folder`] and asks it about each topic. For every partition that the group assigns to it, it makes a
//! [`PartitionSink`], and does what the [`Step`] that each call returns says:
//!
//! ```text
//! joined(generation, offset, metadata) ─▶ Write
//!   seen(producer, sequence), append(offset, date, rows) …     one record, all its rows, in one call
//!   Room::Full or should_seal(now) ─▶ seal() ─▶ Commit         flushed, synced, named
//!     answered(Accepted) ─▶ Write                              published; fetch on
//!     answered(Unknown) ─▶ Commit                              the same again, until the answer is definite
//!     answered(Refused) ─▶ Rejoin                              thrown away, or decided by the next joined(…)
//! revoked: seal() … Write, released() ─▶ Commit, Idle          the last commit only takes a name back
//! taken away: lost() ─▶ Idle
//! ```
//!
//! A failed `append` or `seal` (a full disk) loses nothing: [`PartitionSink::resume`] throws the segment away and tells the
//! offset to fetch from again. A failed publishing is [`Step::Retry`]. An error with [`SinkError::stops_partition`] needs a
//! human being.
//!
//! # How it is built
//!
//! [`layout`] knows names, [`folder`] what a folder remembers, [`segment`] how rows are written, [`sealed`] how a segment is
//! published, [`recover`] what a crash has left. [`metadata`] is what a commit carries, [`dedupe`] what has been seen of each
//! producer. [`protocol`] is the order of it all: a state machine without I/O, which a model checker drives in this crate's
//! tests. [`partition`] puts them together; [`reader`] reads published files back.
//!
//! Nothing here knows Kafka but by topic, partition and offset; nothing is async, and everything that touches a disk says so.
//!
//! # What stands in a folder
//!
//! ```text
//! OUTPUT_DIR/superhero/
//!   raw/topic=<t>/partition=<p>/dt=<date>/<t>+<p>+<first offset>.jsonl[.gz]
//!   GAME_META/dt=<date>/…   GAME_PODIUM/dt=<date>/…   dead/dt=<date>/…
//!   .superhero/
//!     folder, cluster, topics/<t>                                      ids, each written once
//!     …/<table>+<date>+<t>+<p>+<first offset>[.gz].part                files until they are published, in the next three
//!     writing/<writer>+<generation>+<t>+<p>/                           nobody else looks at it
//!     sealed/<t>+<p>+<first>+<next>+<generation>+<writer>/             durable; the group's commit decides
//!     published/<t>+<p>+<first>+<next>+<generation>+<writer>/          the latest one's mark; empty
//! ```
//!
//! A date is that of the record, UTC, or `__HIVE_DEFAULT_PARTITION__` of one that tells none.

pub mod dedupe;
mod durable;
mod fault;
pub mod folder;
pub mod layout;
pub mod metadata;
pub mod partition;
pub mod protocol;
pub mod reader;
pub mod recover;
pub mod sealed;
pub mod segment;

#[cfg(test)]
mod runs;

use std::path::PathBuf;

use superhero_text::shown;
use thiserror::Error;

pub use crate::{
    dedupe::{Dedupe, Verdict},
    durable::{FileError, read_text},
    folder::{Folder, FolderError},
    layout::{Compression, FolderId, NamedSegment, PartitionId, Table, WriterId},
    metadata::MetadataError,
    partition::{CommitRequest, Membership, PartitionSink, Step},
    protocol::CommitAnswer,
    reader::{MAX_ROW_BYTES, ReadError, Rows, read_rows, read_rows_below},
    segment::{Fill, Room, Rotation, Settings},
};

/// Why a partition's rows cannot be written, published or recovered.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The disk, or whatever it is, does not do what it should; the only error that time may heal.
    #[error(transparent)]
    File(#[from] FileError),
    /// An offset came twice or out of order.
    #[error(
        "partition {partition} was given the record at offset {offset}, but everything below {next} is written already"
    )]
    Backwards {
        /// The partition.
        partition: PartitionId,
        /// The record's offset.
        offset: i64,
        /// The lowest offset that may come.
        next: i64,
    },
    /// The sink is not in the state for this call: an error was not resumed from, or the partition is not held.
    #[error("partition {partition} takes no records now")]
    NotWriting {
        /// The partition.
        partition: PartitionId,
    },
    /// A final name is taken by another file.
    #[error(
        "{} stands where the rows of partition {partition} {segment} are to be published; it is another file: find out whose it \
         is and move it away",
        shown::path(path)
    )]
    InTheWay {
        /// The final name.
        path: PathBuf,
        /// The partition.
        partition: PartitionId,
        /// The segment that is being published.
        segment: NamedSegment,
    },
    /// Committed rows are lost.
    #[error(
        "partition {partition} {segment} is committed, but lies in {} neither sealed nor published: its rows are lost from this \
         folder; restore the folder, or commit offset {} anew with another client to read them again", shown::path(folder), segment.first
    )]
    Nowhere {
        /// The partition.
        partition: PartitionId,
        /// What is missing.
        segment: NamedSegment,
        /// Where it should be.
        folder: PathBuf,
    },
    /// So many other folders have committed segments that were never published that no commit can name them all.
    #[error(
        "{waiting} segments of partition {partition} are committed and wait in other folders than {}: start workers on those \
         folders, or, if they are gone for good, commit the offset anew with another client",
        shown::path(folder)
    )]
    TooManyNamed {
        /// The partition.
        partition: PartitionId,
        /// How many.
        waiting: usize,
        /// This folder.
        folder: PathBuf,
    },
    /// What the offset was committed with.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A published file.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl SinkError {
    /// Whether waiting is of no use: the partition stops, and its offset stays.
    pub fn stops_partition(&self) -> bool {
        !matches!(self, Self::File(_))
    }
}
