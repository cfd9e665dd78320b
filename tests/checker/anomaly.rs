//! What can be wrong between what was said, what a topic holds, and what stands in the files.

use std::fmt;
use std::path::PathBuf;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// Numbers of a producer that never came to the topic: events that were accepted and are gone.
    LostWrite { place: Place, producer: String, first: u64, last: u64 },
    /// Events that a producer says are delivered, and that no partition has.
    LostTail { producer: String, delivered: u64, found: u64 },
    /// A record that has two rows, or a row though it repeats another.
    Duplicate { place: Place, offset: i64, file: PathBuf },
    /// A producer's record that stands after one of its later ones.
    Reordering { place: Place, offset: i64, number: u64, after: u64 },
    /// A record without a row.
    PollSkip { place: Place, offset: i64 },
    /// A row that stands after one of a higher offset.
    NonMonotonicOffset { place: Place, offset: i64, after: i64, file: PathBuf },
    /// A file that cannot be read to its end, or has half a row.
    TornFile { file: PathBuf, reason: String },
    /// A row that is of no record, or says something else than its record.
    ForeignRow { place: Place, offset: i64, file: PathBuf, reason: String },
    /// Rows of a game that did not end, or of none.
    RowsWithoutGame { table: &'static str, game: String },
    /// A game that ended and has no rows, or not those of all its players.
    GameWithoutRows { table: &'static str, game: String },
    /// Rows that tell something else than what was played.
    WrongRows { table: &'static str, game: String, reason: String },
    /// A segment that was begun or sealed and never published.
    Leftover { path: PathBuf },
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LostWrite { place, producer, first, last } => {
                write!(f, "lost write: {place} lacks the events {first} to {last} of producer {producer}")
            }
            Self::LostTail { producer, delivered, found } => {
                write!(
                    f,
                    "lost write: producer {producer} has delivered {delivered} events, and the topics hold {found}"
                )
            }
            Self::Duplicate { place, offset, file } => {
                write!(f, "duplicate: {place} offset {offset} stands in {} once more", file.display())
            }
            Self::Reordering { place, offset, number, after } => {
                write!(f, "reordering: {place} offset {offset} is event {number} of its producer, after {after}")
            }
            Self::PollSkip { place, offset } => write!(f, "poll skip: {place} offset {offset} has no row"),
            Self::NonMonotonicOffset { place, offset, after, file } => {
                write!(f, "non-monotonic offset: {place} offset {offset} stands after {after} in {}", file.display())
            }
            Self::TornFile { file, reason } => write!(f, "torn file: {}: {reason}", file.display()),
            Self::ForeignRow { place, offset, file, reason } => {
                write!(f, "foreign row: {place} offset {offset} in {}: {reason}", file.display())
            }
            Self::RowsWithoutGame { table, game } => write!(f, "rows without their game: {game} in {table}"),
            Self::GameWithoutRows { table, game } => write!(f, "game without its rows: {game} in {table}"),
            Self::WrongRows { table, game, reason } => write!(f, "wrong rows: {game} in {table}: {reason}"),
            Self::Leftover { path } => write!(f, "never published: {}", path.display()),
        }
    }
}
