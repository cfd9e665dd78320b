//! A segment being written: all files of one partition from one offset on, until they are sealed and committed together.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chrono::NaiveDate;
use flate2::write::GzEncoder;
use superhero_files::PRIVATE_FOLDER;

use crate::{
    SinkError,
    durable::{self, FileError},
    fault::{Point, step, step_or_half},
    folder::Folder,
    layout::{Compression, PartitionId, PublishedName, SegmentFileName, SegmentName, Table, WritingName, filed_date},
    sealed::Sealed,
};

/// Rows gathered for a table before they go to the encoder or the file; four tables at most are open for a partition.
const BUFFER_BYTES: usize = 128 * 1024;

/// The best trade of time for size on rows like ours; higher levels gain a few percent for twice the time.
const GZIP_LEVEL: u32 = 3;

/// A segment is full when it has so many files. Only dates that change to and fro make many; each costs a sync.
pub const MAX_FILES: usize = 64;

/// When a segment is to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of rows, before compression and over all tables.
    pub max_bytes: u64,
    /// Records, whether they made rows or not.
    pub max_records: u64,
    /// Since the segment's first record.
    pub max_age: Duration,
}

impl Rotation {
    /// 64 MiB of rows: some 6 MiB compressed, and as much to read again after a crash.
    pub const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;
    /// 100,000 records.
    pub const DEFAULT_MAX_RECORDS: u64 = 100_000;
    /// 10 s: how late a row can be on disk when there is little to do.
    pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(10);

    /// Whether a segment that is filled so far is to be sealed.
    pub fn should_seal(&self, fill: &Fill, age: Duration) -> bool {
        self.is_full(fill) || age >= self.max_age
    }

    #[inline]
    fn is_full(&self, fill: &Fill) -> bool {
        fill.bytes >= self.max_bytes || fill.records >= self.max_records || fill.files >= MAX_FILES
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            max_bytes: Self::DEFAULT_MAX_BYTES,
            max_records: Self::DEFAULT_MAX_RECORDS,
            max_age: Self::DEFAULT_MAX_AGE,
        }
    }
}

/// How much a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fill {
    /// Bytes of rows, before compression and over all tables.
    pub bytes: u64,
    /// Records, whether they made rows or not.
    pub records: u64,
    /// Files begun.
    pub files: usize,
}

/// Whether a segment takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a full segment is to be sealed before the next record"]
pub enum Room {
    /// The next record may be appended.
    Left,
    /// The segment is to be sealed now.
    Full,
}

/// How segments are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// When they are sealed.
    pub rotation: Rotation,
    /// How their files are packed.
    pub compression: Compression,
}

/// Writes the rows of one partition. Nothing is on disk before the first row; nothing counts before [`SegmentWriter::seal`].
///
/// After an error the segment is of no use any more: discard it, and read again from where it began. Dropping it removes its
/// files as well as may be.
pub struct SegmentWriter {
    folder: Folder,
    name: WritingName,
    settings: Settings,
    dir: PathBuf,
    first: Option<i64>,
    next: Option<i64>,
    fill: Fill,
    since: Option<Instant>,
    /// At the place of each table's discriminant, the file that its rows go to.
    open: [Option<TableFile>; Table::ALL.len()],
}

struct TableFile {
    date: Option<NaiveDate>,
    path: PathBuf,
    out: BufWriter<Packer>,
}

/// What the buffer is emptied into.
enum Packer {
    Plain(Rows),
    Gzip(Box<GzEncoder<Rows>>),
}

/// A file of rows.
struct Rows(File);

impl SegmentWriter {
    /// Of a partition from the offset `first` on; none means from the first record that is appended.
    pub fn open(
        folder: &Folder,
        partition: &PartitionId,
        generation: i32,
        first: Option<i64>,
        settings: Settings,
    ) -> Self {
        let name = WritingName { writer: folder.writer(), generation, partition: partition.clone() };
        Self {
            dir: folder.writing_dir(&name),
            folder: folder.clone(),
            name,
            settings,
            first,
            next: first,
            fill: Fill::default(),
            since: None,
            open: [const { None }; Table::ALL.len()],
        }
    }

    /// Takes a record with all its rows (none, if it makes none), each without its line feed.
    ///
    /// They come in one call because a record's rows are never divided between files or segments. `now` is when the record
    /// came; one reading of the clock for a batch of records is good enough. A record that tells no date has none.
    #[inline]
    pub fn append(
        &mut self,
        offset: i64,
        date: impl Into<Option<NaiveDate>>,
        rows: &[(Table, &[u8])],
        now: Instant,
    ) -> Result<Room, SinkError> {
        if self.next.is_some_and(|next| offset < next) {
            return Err(self.backwards(offset));
        }
        if self.fill.records == 0 {
            self.first.get_or_insert(offset);
            self.since.get_or_insert(now);
        }
        let date = date.into().map(filed_date);
        for &(table, row) in rows {
            debug_assert!(!row.contains(&b'\n'), "a row is one line");
            let file = match &mut self.open[table as usize] {
                Some(file) if file.date == date => file,
                _ => self.begin_file(table, date, offset)?,
            };
            file.write_row(row).map_err(FileError::of("write", &file.path))?;
            self.fill.bytes += row.len() as u64 + 1;
        }
        self.next = Some(offset + 1);
        self.fill.records += 1;
        Ok(if self.settings.rotation.is_full(&self.fill) { Room::Full } else { Room::Left })
    }

    /// Moves on over offsets that have no record: compaction and control batches leave them.
    pub fn advance_to(&mut self, next: i64, now: Instant) {
        if self.next.is_none_or(|known| known < next) {
            self.first.get_or_insert(next);
            self.next = Some(next);
            self.since.get_or_insert(now);
        }
    }

    /// Whether it is time to seal, by the clock too.
    pub fn should_seal(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| self.settings.rotation.should_seal(&self.fill, now.saturating_duration_since(since)))
    }

    /// What it holds.
    pub fn fill(&self) -> Fill {
        self.fill
    }

    /// Where it began; none while nothing is known.
    pub fn first(&self) -> Option<i64> {
        self.first
    }

    /// The offset after the last that it covers; none while nothing is known.
    pub fn next(&self) -> Option<i64> {
        self.next
    }

    /// Makes everything durable and gives the segment its name; none if it holds no rows. After an error nothing is left of it.
    pub fn seal(mut self) -> Result<Option<Sealed>, SinkError> {
        let (Some(first), Some(next), true) = (self.first, self.next, self.fill.files > 0) else { return Ok(None) };
        for file in &mut self.open {
            if let Some(file) = file.take() {
                file.finish()?;
            }
        }
        durable::sync_dir(self.folder.base(), &self.dir, Point::SyncWriting)?;
        let WritingName { writer, generation, ref partition } = self.name;
        let name = SegmentName { partition: partition.clone(), writer, generation, first, next };
        let sealed_dir = self.folder.sealed_dir(&name);
        // Only an attempt of this very writer that failed can have left the name, and it never was in a commit.
        durable::remove_dir(self.folder.base(), &sealed_dir, Point::ClearSealed)?;
        durable::rename(self.folder.base(), &self.dir, &sealed_dir, Point::Seal)
            .map_err(FileError::of("seal", &sealed_dir))?;
        let sealed = Sealed::of(&self.folder, name);
        if let Err(error) = durable::sync_dir(self.folder.base(), &self.folder.sealed_area(), Point::SyncSealed) {
            sealed.discard_or_warn();
            return Err(error.into());
        }
        Ok(Some(sealed))
    }

    /// Throws everything away.
    pub fn discard(self) {
        drop(self);
    }

    fn begin_file(
        &mut self,
        table: Table,
        date: Option<NaiveDate>,
        first_row: i64,
    ) -> Result<&mut TableFile, SinkError> {
        if let Some(file) = self.open[table as usize].take() {
            file.finish()?;
        }
        if self.fill.files == 0 {
            // A failed attempt in the same generation may have left files here.
            durable::remove_dir(self.folder.base(), &self.dir, Point::ClearWriting)?;
            durable::create_dir(self.folder.base(), &self.dir, PRIVATE_FOLDER)?;
        }
        let compression = self.settings.compression;
        let published = PublishedName { partition: self.name.partition.clone(), first_row, compression };
        let path = self.dir.join(SegmentFileName { table, date, published }.to_string());
        let file = durable::create_file(self.folder.base(), &path, Point::CreateFile)?;
        self.fill.files += 1;
        let out = BufWriter::with_capacity(BUFFER_BYTES, Packer::new(file, compression));
        Ok(self.open[table as usize].insert(TableFile { date, path, out }))
    }

    #[cold]
    fn backwards(&self, offset: i64) -> SinkError {
        SinkError::Backwards { partition: self.name.partition.clone(), offset, next: self.next.unwrap_or_default() }
    }
}

impl Drop for SegmentWriter {
    /// What was not sealed is of no use to anybody; a crash leaves it to the partition's next owner.
    fn drop(&mut self) {
        if self.fill.files > 0 {
            self.open = [const { None }; Table::ALL.len()];
            remove_or_warn(&self.folder, &self.dir, Point::RemoveWriting);
        }
    }
}

/// Removes a directory that does no harm if it stays: only the partition's next owner sweeps it then.
pub(crate) fn remove_or_warn(folder: &Folder, dir: &Path, point: Point) {
    if let Err(error) = durable::remove_dir(folder.base(), dir, point) {
        tracing::warn!(%error, "temporary files stay until the partition changes hands");
    }
}

impl TableFile {
    #[inline]
    fn write_row(&mut self, row: &[u8]) -> io::Result<()> {
        self.out.write_all(row)?;
        self.out.write_all(b"\n")
    }

    /// Writes what is buffered and makes the file durable.
    fn finish(self) -> Result<(), FileError> {
        let Self { path, out, .. } = self;
        let finish = || {
            let Rows(file) = out.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
            step(Point::SyncRows, || file.sync_all())
        };
        finish().map_err(FileError::of("write", &path))
    }
}

impl Packer {
    fn new(file: File, compression: Compression) -> Self {
        match compression {
            Compression::None => Self::Plain(Rows(file)),
            Compression::Gzip => Self::Gzip(Box::new(GzEncoder::new(Rows(file), flate2::Compression::new(GZIP_LEVEL)))),
        }
    }

    fn finish(self) -> io::Result<Rows> {
        match self {
            Self::Plain(file) => Ok(file),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl Write for Rows {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = &self.0;
        let half = || file.write_all(&bytes[..bytes.len() / 2]);
        step_or_half(Point::WriteRows, || (&self.0).write(bytes), half)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::reader::read_rows;

    const DAY: NaiveDate = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();

    fn open(dir: &Path, settings: Settings) -> SegmentWriter {
        let folder = Folder::open(dir, "cluster").unwrap();
        SegmentWriter::open(&folder, &PartitionId::new("t", 0).unwrap(), 1, Some(0), settings)
    }

    fn append(writer: &mut SegmentWriter, offset: i64, date: NaiveDate) -> Room {
        writer.append(offset, date, &[(Table::Raw, format!("row {offset}").as_bytes())], Instant::now()).unwrap()
    }

    #[test]
    fn a_segment_is_due_by_bytes_records_files_and_age() {
        let rotation = Rotation { max_bytes: 100, max_records: 10, max_age: Duration::from_secs(5) };
        let check = |bytes, records, files, age_s, expected| {
            let fill = Fill { bytes, records, files };
            assert_eq!(rotation.should_seal(&fill, Duration::from_secs(age_s)), expected, "{fill:?} after {age_s} s");
        };
        check(99, 9, 1, 4, false);
        check(100, 1, 1, 0, true);
        check(1, 10, 1, 0, true);
        check(1, 1, MAX_FILES, 0, true);
        check(1, 1, 1, 5, true);
    }

    #[test]
    fn a_segment_ages_from_its_first_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path(), Settings::default());
        let now = Instant::now();
        assert!(!writer.should_seal(now + Duration::from_secs(1000)), "with nothing in it there is nothing to seal");
        let _ = writer.append(0, DAY, &[], now).unwrap();
        assert!(!writer.should_seal(now + Duration::from_secs(9)));
        assert!(writer.should_seal(now + Duration::from_secs(10)));
    }

    #[test]
    fn a_change_of_date_begins_a_file_and_too_many_fill_the_segment() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { compression: Compression::None, ..Settings::default() };
        let mut writer = open(dir.path(), settings);
        let days = [DAY, DAY.succ_opt().unwrap()];
        let mut offset = 0;
        while append(&mut writer, offset, days[offset as usize / 2 % 2]) == Room::Left {
            offset += 1;
        }
        assert_eq!(writer.fill().files, MAX_FILES);
        writer.seal().unwrap().unwrap().publish().unwrap();
        let root = dir.path().join("superhero/raw/topic=t/partition=0");
        for first in (0..=offset).step_by(2) {
            let date = days[first as usize / 2 % 2];
            let path = root.join(format!("dt={date}/t+0+{first:020}.jsonl"));
            let rows: Vec<_> = read_rows(&path).unwrap().map(Result::unwrap).collect();
            let expected = (first..=offset.min(first + 1)).map(|offset| format!("row {offset}").into_bytes());
            assert_eq!(rows, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn offsets_never_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open(dir.path(), Settings::default());
        let _ = append(&mut writer, 5, DAY);
        for offset in [5, 4] {
            let error = writer.append(offset, DAY, &[], Instant::now()).unwrap_err();
            assert!(matches!(error, SinkError::Backwards { next: 6, .. }), "{error}");
        }
        let _ = append(&mut writer, 9, DAY);
        writer.advance_to(3, Instant::now());
        assert_eq!((writer.first(), writer.next()), (Some(0), Some(10)));
    }

    #[test]
    fn what_is_dropped_is_gone_and_what_has_no_rows_never_was() {
        let dir = tempfile::tempdir().unwrap();
        let writing = dir.path().join("superhero/.superhero/writing");
        let names = || fs::read_dir(&writing).unwrap().count();
        let mut writer = open(dir.path(), Settings::default());
        assert_eq!(names(), 0, "no row, no file");
        let _ = append(&mut writer, 0, DAY);
        assert_eq!(names(), 1);
        writer.discard();
        assert_eq!(names(), 0);
        let mut empty = open(dir.path(), Settings::default());
        empty.advance_to(7, Instant::now());
        assert!(empty.seal().unwrap().is_none());
    }
}
