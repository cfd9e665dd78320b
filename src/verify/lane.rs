//! A table's rows of one partition as one stream, a row ahead: what stands beside the raw rows.

use std::path::Path;
use std::sync::Arc;

use chrono::NaiveDate;
use superhero_sink::PartitionId;

use crate::coverage::{Coverage, Known, Late, Verdict};
use crate::file::RowFile;
use crate::row::{Clock, TableRow};
use crate::survey::{Entry, Survey};
use crate::{Fault, Verification, VerifyError};

/// The files of a table that hold rows of one partition, read one after the other.
pub(crate) struct Lane<R> {
    survey: Arc<Survey>,
    partition: PartitionId,
    files: std::vec::IntoIter<Entry>,
    open: Option<RowFile>,
    /// The offset of the row read last in the open file, and whether it came late.
    latest: Option<(i64, Option<Late>)>,
    ahead: Option<Ahead<R>>,
    /// Something between the row that was taken last and the one ahead cannot be read.
    blind: bool,
    coverage: Coverage,
    clock: Clock,
}

/// A row that was read and not yet judged.
#[derive(Clone)]
pub(crate) struct Ahead<R> {
    pub(crate) row: R,
    /// It comes after rows of higher offsets, or after those of its own; which is told already.
    pub(crate) late: Option<Late>,
    /// Its file.
    pub(crate) path: Arc<Path>,
}

impl<R: TableRow> Lane<R> {
    /// Reads the first row.
    pub(crate) fn open(
        survey: &Arc<Survey>,
        partition: &PartitionId,
        found: &mut Verification,
    ) -> Result<Self, VerifyError> {
        let mut lane = Self {
            survey: Arc::clone(survey),
            partition: partition.clone(),
            files: survey.files(partition, R::TABLE).to_vec().into_iter(),
            open: None,
            latest: None,
            ahead: None,
            blind: false,
            coverage: Coverage::default(),
            clock: Clock::default(),
        };
        lane.advance(found)?;
        Ok(lane)
    }

    /// The row ahead, if it is of an offset up to this one.
    pub(crate) fn up_to(&self, offset: i64) -> Option<&Ahead<R>> {
        self.ahead.as_ref().filter(|ahead| ahead.row.offset() <= offset)
    }

    /// Whether rows between the one taken last and the one ahead may be there without having been read.
    pub(crate) fn is_blind(&self) -> bool {
        self.blind
    }

    /// The record at this offset is of this date, and so are the rows ahead that are made of it; those of games do not tell it
    /// themselves.
    pub(crate) fn check_date(&mut self, offset: i64, date: Option<NaiveDate>, found: &mut Verification) {
        let is_ahead = self.ahead.as_ref().is_some_and(|ahead| ahead.row.offset() == offset);
        if let Some(file) = self.open.as_mut().filter(|_| is_ahead) {
            file.about.check_date(offset, date, &mut found.faults);
        }
    }

    /// Moves on to the next row that can be read, and tells what cannot, and what comes late.
    pub(crate) fn advance(&mut self, found: &mut Verification) -> Result<(), VerifyError> {
        self.ahead = None;
        self.blind = false;
        loop {
            let RowFile { about, rows } = match &mut self.open {
                Some(file) => file,
                None => match self.files.next() {
                    Some(entry) => {
                        self.latest = None;
                        match RowFile::open(&self.survey, &entry, &self.partition, R::TABLE, found)? {
                            Some(file) => self.open.insert(file),
                            None => {
                                self.blind = true;
                                continue;
                            }
                        }
                    }
                    None => return Ok(()),
                },
            };
            match rows.next_row() {
                Ok(Some(line)) => {
                    about.line();
                    match R::read(line, &self.partition, &mut self.clock) {
                        Ok(row) => {
                            found.count_row(R::TABLE);
                            about.check_first(row.offset(), &mut found.faults);
                            if let Some(date) = row.date() {
                                about.check_date(row.offset(), date, &mut found.faults);
                            }
                            let path = Arc::clone(&about.path);
                            let late = self.pass(row.offset(), &path, found);
                            self.ahead = Some(Ahead { row, late, path });
                            return Ok(());
                        }
                        Err(why) => {
                            about.refuse(why, &mut found.faults);
                            self.blind = true;
                        }
                    }
                }
                Ok(None) => self.open = None,
                Err(error) => {
                    about.torn(&error, &mut found.faults);
                    self.blind = true;
                    self.open = None;
                }
            }
        }
    }

    /// Whether a row comes late, which is told.
    fn pass(&mut self, offset: i64, path: &Path, found: &mut Verification) -> Option<Late> {
        let late = match self.latest {
            Some((latest, late)) if R::IS_ONE_OF_SEVERAL && latest == offset => late,
            _ => self.pass_record(offset, path, found),
        };
        self.latest = Some((offset, late));
        late
    }

    fn pass_record(&mut self, offset: i64, path: &Path, found: &mut Verification) -> Option<Late> {
        if offset >= self.coverage.next() {
            if offset > self.coverage.next() {
                // Most records have no row here.
                self.coverage.leave_out(offset, Verdict::Known(Known::Told), None);
            }
            self.coverage.pass(offset);
            return None;
        }
        let late = self.coverage.late(offset);
        let (topic, partition) = (self.partition.topic(), self.partition.partition());
        found.faults.push(Fault::late(late, R::TABLE, topic, partition, offset, path));
        Some(late)
    }
}
