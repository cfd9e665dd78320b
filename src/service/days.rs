//! The log's files: one for each day, by UTC, that only the process's user may read, since games' tokens stand in it.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{NaiveDate, Utc};
use superhero_files::{Folder, PRIVATE_FILE, PRIVATE_FOLDER};

/// Where there can be no file for a new day, it is tried again so often.
const AGAIN: Duration = Duration::from_secs(60);

/// Appends to the file of the day.
#[derive(Debug)]
pub(crate) struct Days {
    folder: PathBuf,
    name: String,
    day: NaiveDate,
    file: File,
    /// When the file of a new day could not be opened.
    failed: Option<Instant>,
}

impl Days {
    /// Makes the folder if it is missing. It may be a link, a file in it may not.
    pub(crate) fn begin(folder: &Path, name: &str, day: NaiveDate) -> io::Result<Self> {
        let file = open(folder, name, day)?;
        Ok(Self { folder: folder.to_owned(), name: name.to_owned(), day, file, failed: None })
    }

    fn write_on(&mut self, line: &[u8], day: NaiveDate) -> io::Result<usize> {
        if day != self.day && self.failed.is_none_or(|failed| failed.elapsed() >= AGAIN) {
            // Where there can be no new file, the old one goes on.
            match open(&self.folder, &self.name, day) {
                Ok(file) => (self.file, self.day, self.failed) = (file, day, None),
                Err(_) => self.failed = Some(Instant::now()),
            }
        }
        self.file.write(line)
    }
}

impl Write for Days {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_on(line, Utc::now().date_naive())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The folder is made again if it has gone meanwhile.
fn open(folder: &Path, name: &str, day: NaiveDate) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder)?;
    Folder::open(folder)?.append(format!("{name}.{}.log", day.format("%Y-%m-%d")), PRIVATE_FILE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn each_day_has_a_file_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("made/log");
        let day = NaiveDate::from_ymd_opt(2026, 11, 29).unwrap();
        let mut days = Days::begin(&folder, "superhero", day).unwrap();
        days.write_on(b"one\n", day).unwrap();
        days.write_on(b"two\n", day.succ_opt().unwrap()).unwrap();
        drop(days);
        let first = folder.join("superhero.2026-11-29.log");
        // Of a version that let everybody read it.
        fs::set_permissions(&first, Permissions::from_mode(0o644)).unwrap();
        Days::begin(&folder, "superhero", day).unwrap().write_on(b"three\n", day).unwrap();
        assert_eq!(fs::read_to_string(&first).unwrap(), "one\nthree\n");
        assert_eq!(fs::read_to_string(folder.join("superhero.2026-11-30.log")).unwrap(), "two\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(
            (mode(&folder), mode(&first), mode(&folder.join("superhero.2026-11-30.log"))),
            (0o700, 0o600, 0o600)
        );
    }

    #[test]
    fn a_day_whose_file_cannot_be_made_is_written_to_the_one_before_and_a_folder_that_has_gone_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("log");
        let day = NaiveDate::from_ymd_opt(2026, 11, 29).unwrap();
        let (second, third) = (day.succ_opt().unwrap(), day.succ_opt().unwrap().succ_opt().unwrap());
        let mut days = Days::begin(&folder, "superhero", day).unwrap();
        fs::create_dir(folder.join("superhero.2026-11-30.log")).unwrap();
        days.write_on(b"one\n", second).unwrap();
        assert_eq!(fs::read_to_string(folder.join("superhero.2026-11-29.log")).unwrap(), "one\n");
        fs::remove_dir(folder.join("superhero.2026-11-30.log")).unwrap();
        days.write_on(b"two\n", second).unwrap();
        assert_eq!(fs::read_to_string(folder.join("superhero.2026-11-29.log")).unwrap(), "one\ntwo\n", "not yet");
        days.failed = None;
        days.write_on(b"three\n", second).unwrap();
        assert_eq!(fs::read_to_string(folder.join("superhero.2026-11-30.log")).unwrap(), "three\n");
        fs::remove_dir_all(&folder).unwrap();
        days.write_on(b"four\n", third).unwrap();
        assert_eq!(fs::read_to_string(folder.join("superhero.2026-12-01.log")).unwrap(), "four\n");
    }

    #[test]
    fn a_link_in_the_place_of_the_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let day = NaiveDate::from_ymd_opt(2026, 11, 29).unwrap();
        fs::write(dir.path().join("theirs"), "").unwrap();
        symlink("theirs", dir.path().join("superhero.2026-11-29.log")).unwrap();
        let said = Days::begin(dir.path(), "superhero", day).unwrap_err().to_string();
        assert!(said.contains("superhero.2026-11-29.log is a link"), "{said}");
    }
}
