//! What can be wrong with published files: each finding with its place.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use superhero_sink::Table;
use superhero_text::shown::{self, OneLine};

use crate::coverage::Late;

/// One finding. Offsets and sequence numbers are inclusive on both sides.
///
/// As JSON: an object whose `kind` is the variant in snake case, with the variant's fields beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Offsets without rows, for which there is no explanation.
    Gap {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset without a row.
        first_offset: i64,
        /// The last offset without a row.
        last_offset: i64,
        /// The file of the row after it; none where rows end.
        #[serde(serialize_with = "lossy_option")]
        path: Option<PathBuf>,
    },
    /// Offsets that have a row already.
    Duplicate {
        /// The table's folder.
        table: &'static str,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first of the run.
        first_offset: i64,
        /// The last of the run.
        last_offset: i64,
        /// Where they stand again.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// Offsets that stand after higher ones, in the same file or in one that overlaps with another, and nowhere else.
    Inversion {
        /// The table's folder.
        table: &'static str,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first of the run.
        first_offset: i64,
        /// The last of the run.
        last_offset: i64,
        /// Where they stand.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// A row whose id an earlier row has that says the same: the record was written though it repeats one.
    DuplicateId {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// `<producer>-<sequence>`.
        id: String,
        /// Where it stands.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// Numbers of a producer that no row has, and no offset is left for: the records never came to the topic.
    Missing {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its 32 hexadecimal digits.
        producer: String,
        /// The first number that did not come.
        first_sequence: u64,
        /// The last number that did not come.
        last_sequence: u64,
        /// The record after them.
        offset: i64,
        /// The file of its row; none if it has none.
        #[serde(serialize_with = "lossy_option")]
        path: Option<PathBuf>,
    },
    /// A file that cannot be read to its end.
    Torn {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The file.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// Complete rows before that.
        rows: u64,
        /// Why.
        reason: String,
    },
    /// What is not of the sink's making.
    ForeignFile {
        /// The file, or the folder.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// Why it does not belong here.
        reason: String,
    },
    /// A file whose name or rows belong in another folder, or whose rows belong in another file.
    Misplaced {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset that tells it; none if the name does.
        offset: Option<i64>,
        /// The file.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// What says otherwise.
        reason: String,
    },
    /// A file's first row is not the one that its name tells.
    FirstRow {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset in the name.
        named_offset: i64,
        /// The offset of the first row.
        offset: i64,
        /// The file.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// A line that is not a row of its table.
    BadRow {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The file.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// The line, counted from 1.
        row: u64,
        /// Why.
        reason: String,
    },
    /// A segment that is sealed and not published, or not to its end.
    Unpublished {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset that it covers.
        first_offset: i64,
        /// The last offset that it covers.
        last_offset: i64,
        /// Its folder.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// A segment that is being written: by a worker that runs, or by one that crashed.
    Unfinished {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset of its first row, if it has any.
        first_offset: Option<i64>,
        /// Its folder.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// Records of the topic after the last row.
    Unread {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first of them.
        first_offset: i64,
        /// The last of them.
        last_offset: i64,
        /// How many they are: repetitions and holes do not count.
        records: u64,
    },
    /// Records of the topic in batches that cannot be read: the rows of others say so.
    Unreadable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset that is lost.
        first_offset: i64,
        /// The last of the batch.
        last_offset: i64,
        /// How many records are lost, by the batch's header.
        records: u64,
        /// Why.
        reason: String,
    },
    /// Rows of records whose transaction was aborted, or is open.
    Uncommitted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first of the run.
        first_offset: i64,
        /// The last of the run.
        last_offset: i64,
        /// Their file.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// Rows that the topic has no records for.
    ForeignRows {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first of the run.
        first_offset: i64,
        /// The last of the run.
        last_offset: i64,
        /// Their file.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// A row that does not say what its record says.
    Different {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// In what: `key`, `id`, `timestamp` or `value`.
        field: &'static str,
        /// Where the row stands.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// A game whose rows stand in a table already.
    RepeatedGame {
        /// The table's folder.
        table: &'static str,
        /// The game.
        game: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset of the event that made the rows.
        offset: i64,
        /// Where they stand again.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// A game whose rows in a table are not one for each user, or whose ranks are not 1 to their number.
    BadGame {
        /// The table's folder.
        table: &'static str,
        /// The game.
        game: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset of the event that made the rows.
        offset: i64,
        /// Where they stand.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A game that is over and has no rows in a table, or in none, though its event is not among the dead letters.
    MissingGame {
        /// The folder of the table that lacks it; none if both do.
        table: Option<&'static str>,
        /// The game.
        game: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset of an event that tells its end.
        offset: i64,
    },
    /// A game whose users in GAME_META are not those in GAME_PODIUM.
    OtherUsers {
        /// The game.
        game: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset of the event that made the rows.
        offset: i64,
        /// How many users GAME_META has.
        game_meta: u32,
        /// How many users GAME_PODIUM has.
        game_podium: u32,
    },
    /// A record that cannot be understood and is not among the dead letters.
    NoDeadLetter {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
    /// A row of a table, or of the dead letters, that the raw table does not bear out.
    Orphan {
        /// The table's folder.
        table: &'static str,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset of the record that it says it was made of.
        offset: i64,
        /// Where it stands.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// What the raw table tells of that offset.
        reason: String,
    },
}

impl Fault {
    /// Every kind, by its name in JSON.
    pub const KINDS: [&'static str; 23] = [
        "gap",
        "duplicate",
        "inversion",
        "duplicate_id",
        "missing",
        "torn",
        "foreign_file",
        "misplaced",
        "first_row",
        "bad_row",
        "unpublished",
        "unfinished",
        "unread",
        "unreadable",
        "uncommitted",
        "foreign_rows",
        "different",
        "repeated_game",
        "bad_game",
        "missing_game",
        "other_users",
        "no_dead_letter",
        "orphan",
    ];

    /// Its kind, as JSON names it: one of [`KINDS`](Self::KINDS).
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gap { .. } => "gap",
            Self::Duplicate { .. } => "duplicate",
            Self::Inversion { .. } => "inversion",
            Self::DuplicateId { .. } => "duplicate_id",
            Self::Missing { .. } => "missing",
            Self::Torn { .. } => "torn",
            Self::ForeignFile { .. } => "foreign_file",
            Self::Misplaced { .. } => "misplaced",
            Self::FirstRow { .. } => "first_row",
            Self::BadRow { .. } => "bad_row",
            Self::Unpublished { .. } => "unpublished",
            Self::Unfinished { .. } => "unfinished",
            Self::Unread { .. } => "unread",
            Self::Unreadable { .. } => "unreadable",
            Self::Uncommitted { .. } => "uncommitted",
            Self::ForeignRows { .. } => "foreign_rows",
            Self::Different { .. } => "different",
            Self::RepeatedGame { .. } => "repeated_game",
            Self::BadGame { .. } => "bad_game",
            Self::MissingGame { .. } => "missing_game",
            Self::OtherUsers { .. } => "other_users",
            Self::NoDeadLetter { .. } => "no_dead_letter",
            Self::Orphan { .. } => "orphan",
        }
    }

    /// A row that comes after higher offsets.
    pub(crate) fn late(late: Late, table: Table, topic: &str, partition: i32, offset: i64, path: &Path) -> Self {
        let (table, topic, path) = (table.name(), topic.to_owned(), path.to_owned());
        let (first_offset, last_offset) = (offset, offset);
        match late {
            Late::Duplicate => Self::Duplicate { table, topic, partition, first_offset, last_offset, path },
            Late::Inversion => Self::Inversion { table, topic, partition, first_offset, last_offset, path },
        }
    }

    /// Takes in the next finding, if it only goes on where this one ends.
    pub(crate) fn absorb(&mut self, next: &Self) -> bool {
        match (self, next) {
            (
                Self::Duplicate { table, last_offset, path, .. },
                Self::Duplicate { table: next_table, first_offset, last_offset: next_last, path: next_path, .. },
            )
            | (
                Self::Inversion { table, last_offset, path, .. },
                Self::Inversion { table: next_table, first_offset, last_offset: next_last, path: next_path, .. },
            ) if table == next_table && path == next_path && *first_offset == *last_offset + 1 => {
                *last_offset = *next_last;
                true
            }
            (
                Self::ForeignRows { last_offset, path, .. },
                Self::ForeignRows { first_offset, last_offset: next_last, path: next_path, .. },
            )
            | (
                Self::Uncommitted { last_offset, path, .. },
                Self::Uncommitted { first_offset, last_offset: next_last, path: next_path, .. },
            ) if path == next_path && *first_offset == *last_offset + 1 => {
                *last_offset = *next_last;
                true
            }
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    /// One line, whatever is in the names of files and in what was read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut OneLine(f);
        match self {
            Self::Gap { topic, partition, first_offset, last_offset, path } => {
                write!(f, "{topic}/{partition}: no row of {}", Offsets(*first_offset, *last_offset))?;
                match path {
                    Some(path) => write!(f, "; the next row is in {}", shown::path(path)),
                    None => Ok(()),
                }
            }
            Self::Duplicate { table, topic, partition, first_offset, last_offset, path } => write!(
                f,
                "{topic}/{partition}: {table} has {} again in {}",
                Offsets(*first_offset, *last_offset),
                shown::path(path)
            ),
            Self::Inversion { table, topic, partition, first_offset, last_offset, path } => write!(
                f,
                "{topic}/{partition}: {table} has {} after higher ones in {}",
                Offsets(*first_offset, *last_offset),
                shown::path(path)
            ),
            Self::DuplicateId { topic, partition, offset, id, path } => write!(
                f,
                "{topic}/{partition}: offset {offset} repeats an earlier row with the id {id}, in {}",
                shown::path(path)
            ),
            Self::Missing { topic, partition, producer, first_sequence, last_sequence, offset, path } => {
                write!(f, "{topic}/{partition}: the records {}", Range(*first_sequence, *last_sequence))?;
                write!(f, " of producer {producer} never came before offset {offset}")?;
                match path {
                    Some(path) => write!(f, " in {}", shown::path(path)),
                    None => Ok(()),
                }
            }
            Self::Torn { topic, partition, path, rows, reason } => {
                write!(f, "{topic}/{partition}: {} is torn after {rows} rows: {reason}", shown::path(path))
            }
            Self::ForeignFile { path, reason } => write!(f, "{} does not belong there: {reason}", shown::path(path)),
            Self::Misplaced { topic, partition, offset, path, reason } => {
                write!(f, "{topic}/{partition}: ")?;
                if let Some(offset) = offset {
                    write!(f, "from offset {offset} on, ")?;
                }
                write!(f, "{} is not the place: {reason}", shown::path(path))
            }
            Self::FirstRow { topic, partition, named_offset, offset, path } => write!(
                f,
                "{topic}/{partition}: {} is named for offset {named_offset}, but begins with offset {offset}",
                shown::path(path)
            ),
            Self::BadRow { topic, partition, path, row, reason } => {
                write!(f, "{topic}/{partition}: row {row} of {} is none: {reason}", shown::path(path))
            }
            Self::Unpublished { topic, partition, first_offset, last_offset, path } => write!(
                f,
                "{topic}/{partition}: {} sealed and not published: {}; a worker on this folder will publish or remove it",
                Are(*first_offset, *last_offset),
                shown::path(path)
            ),
            Self::Unfinished { topic, partition, first_offset, path } => {
                write!(f, "{topic}/{partition}: rows ")?;
                if let Some(offset) = first_offset {
                    write!(f, "from offset {offset} on ")?;
                }
                write!(
                    f,
                    "are being written, or were when a worker crashed: {}; stop the workers before the check, or let one remove it",
                    shown::path(path)
                )
            }
            Self::Unread { topic, partition, first_offset, last_offset, records } => write!(
                f,
                "{topic}/{partition}: {records} records at {} were never read; let the workers go on until there is no lag",
                Offsets(*first_offset, *last_offset)
            ),
            Self::Unreadable { topic, partition, first_offset, last_offset, records, reason } => write!(
                f,
                "{topic}/{partition}: {records} records at {} are lost in the topic: {reason}",
                Offsets(*first_offset, *last_offset)
            ),
            Self::Uncommitted { topic, partition, first_offset, last_offset, path } => write!(
                f,
                "{topic}/{partition}: the rows of {} in {} are of a transaction that is not committed",
                Offsets(*first_offset, *last_offset),
                path.display()
            ),
            Self::ForeignRows { topic, partition, first_offset, last_offset, path } => write!(
                f,
                "{topic}/{partition}: the topic has no record for the rows of {} in {}",
                Offsets(*first_offset, *last_offset),
                shown::path(path)
            ),
            Self::Different { topic, partition, offset, field, path } => write!(
                f,
                "{topic}/{partition}: the {field} of offset {offset} is not that of its record, in {}",
                shown::path(path)
            ),
            Self::RepeatedGame { table, game, topic, partition, offset, path } => write!(
                f,
                "{topic}/{partition}: {table} has game {game} again, made of offset {offset}, in {}",
                shown::path(path)
            ),
            Self::BadGame { table, game, topic, partition, offset, path, reason } => write!(
                f,
                "{topic}/{partition}: game {game} is wrong in {table}: {reason}; made of offset {offset}, in {}",
                shown::path(path)
            ),
            Self::MissingGame { table, game, topic, partition, offset } => {
                let table = table.unwrap_or("the tables");
                write!(f, "{topic}/{partition}: {table} lacks game {game}, which is over at offset {offset}")
            }
            Self::OtherUsers { game, topic, partition, offset, game_meta, game_podium } => write!(
                f,
                "{topic}/{partition}: game {game} has other users in GAME_META ({game_meta}) than in GAME_PODIUM ({game_podium}); \
                 made of offset {offset}"
            ),
            Self::NoDeadLetter { topic, partition, offset } => write!(
                f,
                "{topic}/{partition}: the record at offset {offset} cannot be understood, and is not among the dead letters"
            ),
            Self::Orphan { table, topic, partition, offset, path, reason } => write!(
                f,
                "{topic}/{partition}: {table} has a row made of offset {offset}, but {reason}: {}",
                shown::path(path)
            ),
        }
    }
}

/// "offset 5" or "offsets 5 to 9".
struct Offsets(i64, i64);

impl fmt::Display for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(first, last) if first == last => write!(f, "offset {first}"),
            Self(first, last) => write!(f, "offsets {first} to {last}"),
        }
    }
}

/// "offset 5 is" or "offsets 5 to 9 are".
struct Are(i64, i64);

impl fmt::Display for Are {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Offsets(self.0, self.1), if self.0 == self.1 { "is" } else { "are" })
    }
}

/// "5" or "5 to 9".
struct Range(u64, u64);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(first, last) if first == last => write!(f, "{first}"),
            Self(first, last) => write!(f, "{first} to {last}"),
        }
    }
}

/// A path that is not text is no reason to fail: its bytes are shown. JSON has escapes of its own for all others.
pub(crate) fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => serializer.serialize_str(&shown::path(path)),
    }
}

fn lossy_option<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => lossy(path, serializer),
        None => serializer.serialize_none(),
    }
}
