//! One partition from its first row to its last: every offset, every number of a producer, everything that stands beside it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use superhero_sink::{PartitionId, Table};
use tokio_util::sync::CancellationToken;

use crate::coverage::{Coverage, Gap, Known, Verdict};
use crate::dead::DeadLetters;
use crate::envelope::{self, Event};
use crate::file::{About, RowFile};
use crate::id::Id;
use crate::log::{Log, Lost, Record};
use crate::producers::{Producers, Seen};
use crate::row::{Clock, RawRow};
use crate::said::Said;
use crate::survey::Survey;
use crate::tables::Tables;
use crate::{Fault, Figures, PartitionSummary, Verification, VerifyError, Waiting};

/// A gap holds repetitions only if all go on who were heard of in so many offsets before it: enough to see every producer that is at work,
/// and few enough to forget one that has ended.
const RECENT_OFFSETS: i64 = 1024;
/// So many producers at work at once make no proof any more.
const MAX_AWAITED: usize = 64;
/// A look at the stop signal takes as long as some rows.
const ROWS_BETWEEN_STOP_CHECKS: u64 = 1024;

/// The key and the value of a record.
type Says<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Checks one partition, and compares it with its log if that is given. Blocks on file operations, and on the log.
///
/// What is returned holds only what was found of this partition.
pub(crate) fn walk(
    survey: &Arc<Survey>,
    partition: &PartitionId,
    log: Option<Log>,
    figures_of: Option<u128>,
    stop: &CancellationToken,
) -> Result<Verification, VerifyError> {
    let mut found = Verification { figures: figures_of.map(Figures::new), ..Verification::default() };
    let mut walk = Walk {
        dead: DeadLetters::open(survey, partition, &mut found)?,
        tables: Tables::open(survey, partition, &mut found)?,
        makes_tables: envelope::makes_tables(partition.topic()),
        summary: PartitionSummary {
            topic: partition.topic().to_owned(),
            partition: partition.partition(),
            ..PartitionSummary::default()
        },
        coverage: Coverage::default(),
        producers: Producers::default(),
        said: Said::default(),
        same_producer: (0, 0),
        latest_stranger: None,
        refused: 0,
        sealed: survey.sealed(partition),
        log,
        found,
    };
    let mut clock = Clock::default();
    for entry in survey.files(partition, Table::Raw) {
        walk.summary.files += 1;
        let opened = RowFile::open(survey, entry, partition, Table::Raw, &mut walk.found)?;
        let Some(RowFile { mut about, mut rows }) = opened else { continue };
        if stop.is_cancelled() {
            return Err(VerifyError::Stopped);
        }
        loop {
            match rows.next_row() {
                Ok(Some(line)) => {
                    if about.line().is_multiple_of(ROWS_BETWEEN_STOP_CHECKS) && stop.is_cancelled() {
                        return Err(VerifyError::Stopped);
                    }
                    match RawRow::read(line, Table::Raw, partition, &mut clock) {
                        Ok(row) => walk.row(&row, &mut about)?,
                        Err(why) => {
                            about.refuse(why, &mut walk.found.faults);
                            walk.refused += 1;
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    about.torn(&error, &mut walk.found.faults);
                    break;
                }
            }
        }
    }
    walk.finish(survey.published_next(partition))
}

struct Walk {
    found: Verification,
    summary: PartitionSummary,
    makes_tables: bool,
    coverage: Coverage,
    producers: Producers,
    said: Said,
    dead: DeadLetters,
    tables: Tables,
    log: Option<Log>,
    /// Rows of the producer that the latest row is of, not yet counted with the others.
    same_producer: (u128, u64),
    /// The offset of the latest row without an id.
    latest_stranger: Option<i64>,
    /// Lines since the latest row that could not be read as rows.
    refused: u64,
    /// Offsets whose rows are told to be sealed and not published.
    sealed: Vec<Range<i64>>,
}

impl Walk {
    fn row(&mut self, row: &RawRow<'_>, about: &mut About) -> Result<(), VerifyError> {
        let offset = row.offset;
        about.check_first(offset, &mut self.found.faults);
        about.check_date(offset, row.timestamp.date, &mut self.found.faults);
        let event = envelope::read(row.value().as_deref(), self.makes_tables);
        self.count(row, &event, about);
        if offset < self.coverage.next() {
            self.late(offset, about);
            return Ok(());
        }
        self.pass_without_rows(offset, Some(&about.path))?;
        self.coverage.pass(offset);
        let record = self.compare(row, &about.path)?;
        self.tell_lost();
        let is_left_out = row.leaves_value_out() || record.as_ref().is_some_and(|record| record.is_left_out);
        match (record, row.number()) {
            (_, Some(id)) if is_left_out => self.see(id, offset, None, Some(&about.path)),
            (Some(record), Some(id)) => {
                self.see(id, offset, Some((record.key.as_deref(), record.value.as_deref())), Some(&about.path));
            }
            (None, Some(id)) => {
                let (key, value) = (row.key(), row.value());
                self.see(id, offset, Some((key.as_deref(), value.as_deref())), Some(&about.path));
            }
            // Nobody misses the record of a stranger, or a copy.
            (_, None) => self.latest_stranger = Some(offset),
        }
        self.refused = 0;
        let is_dead = self.dead.meet(row, event.kind, &mut self.found)?;
        self.tables.meet(row, event.kind, is_dead, &mut self.found)
    }

    fn count(&mut self, row: &RawRow<'_>, event: &Event, about: &About) {
        self.found.count_row(Table::Raw);
        self.summary.rows += 1;
        self.summary.undated += u64::from(row.timestamp.date.is_none());
        self.summary.first_offset = Some(self.summary.first_offset.map_or(row.offset, |first| first.min(row.offset)));
        self.summary.last_offset = self.summary.last_offset.max(Some(row.offset));
        let Some(Id { producer, .. }) = row.number() else { return };
        if self.same_producer.0 != producer {
            self.count_same_producer();
            self.same_producer.0 = producer;
        }
        self.same_producer.1 += 1;
        if let Some(figures) = self.found.figures_of(row.number()) {
            figures.count(event, about.published_at_micros);
        }
    }

    fn count_same_producer(&mut self) {
        let (producer, rows) = std::mem::take(&mut self.same_producer);
        if rows > 0 {
            self.found.count_producer(producer, rows);
        }
    }

    fn late(&mut self, offset: i64, about: &About) {
        let (late, PartitionSummary { topic, partition, .. }) = (self.coverage.late(offset), &self.summary);
        self.found.faults.push(Fault::late(late, Table::Raw, topic, *partition, offset, &about.path));
    }

    /// Passes all offsets below `offset`, which have no rows.
    fn pass_without_rows(&mut self, offset: i64, before: Option<&Arc<Path>>) -> Result<(), VerifyError> {
        if self.coverage.next() >= offset {
            return Ok(());
        }
        while let Some(record) = self.next_record_below(offset)? {
            self.pass_record(&record, Known::Lost, before);
        }
        self.pass_without_records(offset, before);
        Ok(())
    }

    /// Passes a record without a row, which is `due` if nothing excuses it; says whether that is so.
    fn pass_record(&mut self, record: &Record, due: Known, before: Option<&Arc<Path>>) -> bool {
        self.pass_without_records(record.offset, before);
        if record.is_aborted {
            self.leave_out(record.offset + 1, Verdict::Known(Known::Holes), before);
            return false;
        }
        let (number, key, value) = (record.number(), record.key.as_deref(), record.value.as_deref());
        let is_repetition = !record.is_left_out && number.is_some_and(|id| self.said.has(id, key, value));
        let was_told = !is_repetition && self.was_told(record.offset..record.offset + 1);
        let known = match (is_repetition, was_told) {
            (true, _) => Known::Repetitions,
            (false, true) => Known::Told,
            (false, false) => due,
        };
        self.leave_out(record.offset + 1, Verdict::Known(known), before);
        if let (false, Some(id)) = (is_repetition, number) {
            self.see(id, record.offset, (!record.is_left_out).then_some((key, value)), None);
        }
        !is_repetition && !was_told
    }

    /// Passes all offsets below `offset`, which have neither rows nor, as far as the topic tells, records.
    fn pass_without_records(&mut self, offset: i64, before: Option<&Arc<Path>>) {
        let held = self.log.as_ref().map_or(i64::MAX, Log::earliest).min(offset);
        if self.coverage.next() < held {
            let was_told = self.was_told(self.coverage.next()..held);
            let verdict = if was_told { Verdict::Known(Known::Told) } else { Verdict::Unexplained };
            self.leave_out(held, verdict, before);
        }
        if self.coverage.next() < offset {
            let is_compacted = self.log.as_ref().is_some_and(Log::is_compacted);
            self.leave_out(offset, Verdict::Known(if is_compacted { Known::Compacted } else { Known::Holes }), before);
        }
    }

    fn next_record_below(&mut self, offset: i64) -> Result<Option<Record>, VerifyError> {
        match &mut self.log {
            Some(log) => log.next_below(offset),
            None => Ok(None),
        }
    }

    /// Whether it was told already that these offsets have no rows: by a line that is none, or by a segment that is not published.
    fn was_told(&mut self, offsets: Range<i64>) -> bool {
        if self.sealed.iter().any(|sealed| sealed.start <= offsets.start && offsets.end <= sealed.end) {
            return true;
        }
        let length = offsets.end.abs_diff(offsets.start);
        let is_refused = length <= self.refused;
        if is_refused {
            self.refused -= length;
        }
        is_refused
    }

    fn leave_out(&mut self, end: i64, verdict: Verdict, before: Option<&Arc<Path>>) {
        if let Some(gap) = self.coverage.leave_out(end, verdict, before) {
            self.judge(gap);
        }
    }

    /// Says for good what a gap is.
    fn judge(&mut self, Gap { offsets, verdict, before }: Gap) {
        let length = offsets.end.abs_diff(offsets.start);
        let is_held = self.log.as_ref().is_none_or(|log| offsets.end > log.earliest());
        match verdict {
            Verdict::Repetitions | Verdict::Known(Known::Repetitions) => self.summary.duplicates_left_out += length,
            Verdict::Known(Known::Holes | Known::Compacted) => self.summary.holes += length,
            Verdict::Known(Known::Told) => {}
            Verdict::Unexplained | Verdict::Awaiting(_) if !is_held => self.summary.expired += length,
            Verdict::Unexplained | Verdict::Awaiting(_) | Verdict::Known(Known::Lost) => {
                self.found.faults.push(Fault::Gap {
                    topic: self.summary.topic.clone(),
                    partition: self.summary.partition,
                    first_offset: offsets.start,
                    last_offset: offsets.end - 1,
                    path: before.map(|path| path.to_path_buf()),
                });
            }
        }
    }

    /// Compares a row with its record, which is returned if there is one.
    fn compare(&mut self, row: &RawRow<'_>, path: &Path) -> Result<Option<Record>, VerifyError> {
        let Some(log) = &mut self.log else { return Ok(None) };
        let (topic, partition) = (&self.summary.topic, self.summary.partition);
        let record = log.next_at(row.offset)?;
        let is_open = log.waiting().is_some_and(|waiting| waiting.offsets.contains(&row.offset));
        if is_open || record.as_ref().is_some_and(|record| record.is_aborted) {
            let (topic, path) = (topic.clone(), path.to_owned());
            let (first_offset, last_offset) = (row.offset, row.offset);
            self.found.faults.push(Fault::Uncommitted { topic, partition, first_offset, last_offset, path });
            return Ok(None);
        }
        let Some(record) = record else {
            if row.offset < log.earliest() {
                return Ok(None);
            }
            if log.is_compacted() && row.offset < log.end() {
                self.summary.compacted += 1;
            } else {
                self.found.faults.push(Fault::ForeignRows {
                    topic: topic.clone(),
                    partition,
                    first_offset: row.offset,
                    last_offset: row.offset,
                    path: path.to_owned(),
                });
            }
            return Ok(None);
        };
        self.summary.compared += 1;
        for (is_same, field) in [
            (row.has_key(record.key.as_deref()), "key"),
            ((row.id, row.copied_from) == (record.id, record.copied_from.as_deref()), "id"),
            (row.timestamp.is_of(record.timestamp_millis), "timestamp"),
            (if record.is_left_out { row.leaves_value_out() } else { row.has_value(record.value.as_deref()) }, "value"),
        ] {
            if !is_same {
                let (topic, offset, path) = (topic.clone(), row.offset, path.to_owned());
                self.found.faults.push(Fault::Different { topic, partition, offset, field, path });
            }
        }
        Ok(Some(record))
    }

    /// Takes the number of the next record, and what it says: key and value; none if that is not known, since its value is left out.
    /// Such a record repeats nothing, and nothing repeats it.
    fn see(&mut self, id: Id, offset: i64, says: Option<Says<'_>>, path: Option<&Path>) {
        let is_new = says.is_none_or(|(key, value)| self.said.take(id, key, value));
        let partition = self.summary.partition;
        let topic = || self.summary.topic.clone();
        match self.producers.see(id, offset, self.coverage.unknown()) {
            Seen::Next { awaited_since } => {
                if let Some(since) = awaited_since {
                    self.coverage.prove(id.producer, since);
                }
                self.await_others(id.producer, offset);
            }
            // What says something else under a number that was used before is no repetition.
            Seen::Behind => {
                if let Some(path) = path.filter(|_| !is_new) {
                    let (id, path) = (id.to_string(), path.to_owned());
                    self.found.faults.push(Fault::DuplicateId { topic: topic(), partition, offset, id, path });
                }
            }
            Seen::Leap { missing, since, room } => {
                self.coverage.doubt(since);
                let (first_sequence, last_sequence) = missing.into_inner();
                if last_sequence - first_sequence >= room {
                    self.found.faults.push(Fault::Missing {
                        topic: topic(),
                        partition,
                        producer: format!("{:032x}", id.producer),
                        first_sequence,
                        last_sequence,
                        offset,
                        path: path.map(Path::to_owned),
                    });
                }
            }
        }
    }

    /// A producer goes on behind a gap. If all others do that were at work before it, only repetitions were left out: a record that
    /// was not would be missed among somebody's numbers.
    fn await_others(&mut self, present: u128, offset: i64) {
        let Some(start) = self.coverage.unexplained_before(offset) else { return };
        let since = (start - RECENT_OFFSETS).max(0);
        // Records without numbers are not missed, and at the beginning there is nothing to repeat.
        if start == 0 || self.latest_stranger.is_some_and(|stranger| stranger >= since) {
            return;
        }
        let others = self.producers.await_recent(since, present);
        if others.len() <= MAX_AWAITED {
            self.coverage.await_producers(others);
        }
    }

    /// Tells of records that the topic itself has lost.
    fn tell_lost(&mut self) {
        let Some(log) = &mut self.log else { return };
        for Lost { first_offset, last_offset, records, reason } in log.take_lost() {
            let PartitionSummary { topic, partition, .. } = &self.summary;
            let (topic, partition) = (topic.clone(), *partition);
            self.found.faults.push(Fault::Unreadable { topic, partition, first_offset, last_offset, records, reason });
        }
    }

    /// Tells of what comes after the last row, and of all that was left open.
    fn finish(mut self, published_next: i64) -> Result<Verification, VerifyError> {
        self.refused = 0;
        let end = self.log.as_ref().map_or(published_next, |log| published_next.min(log.end()));
        self.pass_without_rows(end, None)?;
        self.tell_unread()?;
        self.tell_lost();
        self.summary.waiting = self.log.as_ref().and_then(Log::waiting).map(|waiting| Waiting {
            records: waiting.offsets.end.abs_diff(waiting.offsets.start),
            first_offset: waiting.offsets.start,
            producer: waiting.producer,
            since: waiting.since.map(|since| since.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
        });
        for gap in self.coverage.take_gaps() {
            self.judge(gap);
        }
        self.count_same_producer();
        let Self { mut found, summary, dead, tables, .. } = self;
        dead.finish(&mut found)?;
        tables.finish(&mut found)?;
        found.partitions.push(summary);
        Ok(found)
    }

    /// Records that no segment covers yet.
    fn tell_unread(&mut self) -> Result<(), VerifyError> {
        let mut unread: Option<(Range<i64>, u64)> = None;
        while let Some(record) = self.next_record_below(i64::MAX)? {
            self.tell_lost();
            if self.pass_record(&record, Known::Told, None) {
                let (offsets, records) = unread.get_or_insert((record.offset..record.offset, 0));
                offsets.end = record.offset;
                *records += 1;
            }
        }
        if let Some((offsets, records)) = unread {
            self.found.faults.push(Fault::Unread {
                topic: self.summary.topic.clone(),
                partition: self.summary.partition,
                first_offset: offsets.start,
                last_offset: offsets.end,
                records,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
