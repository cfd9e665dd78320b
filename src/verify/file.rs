//! One published file, read to its end.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use chrono::NaiveDate;
use superhero_files::Refused;
use superhero_sink::layout::filed_date;
use superhero_sink::{MAX_ROW_BYTES, PartitionId, ReadError, Table, read_rows_below};

use crate::row::NotARow;
use crate::survey::{Entry, Survey};
use crate::{Fault, Faults, Verification, VerifyError};

/// A reason says no more of what it found: a row may be a name of a hundred MiB.
const MAX_REASON_BYTES: usize = 400;

/// A file that is being read.
pub(crate) struct RowFile {
    pub(crate) about: About,
    pub(crate) rows: superhero_sink::Rows,
}

/// What is known of it while its rows are lent out.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) path: Arc<Path>,
    /// When it was published, as far as the file system tells: see [`Figures::latency`](crate::Figures::latency).
    pub(crate) published_at_micros: i64,
    partition: PartitionId,
    date: Option<NaiveDate>,
    named_offset: i64,
    /// Lines read.
    lines: u64,
    /// Told once for a file.
    told_misplaced: bool,
}

impl RowFile {
    /// Opens it and counts it. None if it is no file, or a link leads to it, as it was not when the folder was looked at; which is told.
    pub(crate) fn open(
        survey: &Survey,
        entry: &Entry,
        partition: &PartitionId,
        table: Table,
        found: &mut Verification,
    ) -> Result<Option<Self>, VerifyError> {
        const MICROS: i64 = 1_000_000;
        let (folder, path) = survey.path(entry, partition, table);
        let (rows, metadata) = match read_rows_below(folder, &path) {
            Ok(opened) => opened,
            Err(ReadError::Io { source, .. }) => {
                let Some(refused) = Refused::of(&source) else { return Err(VerifyError::Unreadable { path, source }) };
                found.faults.push(Fault::ForeignFile { reason: refused.to_string(), path });
                return Ok(None);
            }
            Err(error) => return Err(VerifyError::Unreadable { path, source: std::io::Error::other(error) }),
        };
        found.files += 1;
        found.bytes += metadata.len();
        let about = About {
            path: path.into(),
            published_at_micros: metadata.ctime() * MICROS + metadata.ctime_nsec() / 1000,
            partition: partition.clone(),
            date: entry.date,
            named_offset: entry.first_row,
            lines: 0,
            told_misplaced: false,
        };
        Ok(Some(Self { about, rows }))
    }
}

impl About {
    /// Counts the next line, and says how many there were.
    pub(crate) fn line(&mut self) -> u64 {
        self.lines += 1;
        self.lines
    }

    /// The first row's offset has to be that of the name.
    pub(crate) fn check_first(&self, offset: i64, faults: &mut Faults) {
        if self.lines == 1 && offset != self.named_offset {
            faults.push(Fault::FirstRow {
                topic: self.partition.topic().to_owned(),
                partition: self.partition.partition(),
                named_offset: self.named_offset,
                offset,
                path: self.path.to_path_buf(),
            });
        }
    }

    /// The date of every row's record has to be that of the folder.
    pub(crate) fn check_date(&mut self, offset: i64, date: Option<NaiveDate>, faults: &mut Faults) {
        let date = date.map(filed_date);
        if date != self.date {
            let of = date.map_or_else(|| "no date".to_owned(), |date| date.to_string());
            self.misplaced(offset, format!("the record is of {of}"), faults);
        }
    }

    /// Tells of a line that is no row of this file.
    pub(crate) fn refuse(&mut self, why: NotARow, faults: &mut Faults) {
        match why {
            NotARow::Shape(reason) => faults.push(Fault::BadRow {
                topic: self.partition.topic().to_owned(),
                partition: self.partition.partition(),
                path: self.path.to_path_buf(),
                row: self.lines,
                reason: short(reason),
            }),
            NotARow::Elsewhere { offset, reason } => self.misplaced(offset, short(reason), faults),
        }
    }

    /// Tells of a file that cannot be read on.
    pub(crate) fn torn(&self, error: &ReadError, faults: &mut Faults) {
        let reason = match error {
            ReadError::Io { source, .. } => source.to_string(),
            ReadError::Torn { rows: 0, .. } => "it holds no row".to_owned(),
            ReadError::Torn { .. } => "its last row is not complete".to_owned(),
            ReadError::TooLong { row, .. } => {
                format!(
                    "row {row} has more than {MAX_ROW_BYTES} bytes, and no worker writes such a one; what follows is not read"
                )
            }
            error => error.to_string(),
        };
        faults.push(Fault::Torn {
            topic: self.partition.topic().to_owned(),
            partition: self.partition.partition(),
            path: self.path.to_path_buf(),
            rows: self.lines,
            reason,
        });
    }

    fn misplaced(&mut self, offset: i64, reason: String, faults: &mut Faults) {
        if std::mem::replace(&mut self.told_misplaced, true) {
            return;
        }
        faults.push(Fault::Misplaced {
            topic: self.partition.topic().to_owned(),
            partition: self.partition.partition(),
            offset: Some(offset),
            path: self.path.to_path_buf(),
            reason,
        });
    }
}

fn short(mut reason: String) -> String {
    if reason.len() > MAX_REASON_BYTES {
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        reason.push('…');
    }
    reason.shrink_to_fit();
    reason
}
