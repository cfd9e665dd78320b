//! Where a run's files go, and what has gone there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDateTime, Utc};
use superhero_sink::layout::{ROOT, WORK_AREA};

/// More runs than begin within a second.
const MAX_RUNS_A_SECOND: u32 = 100;

/// What the name of a run's folder begins with.
const RUN: &str = "run-";

/// Where a run's log is in its folder.
pub const LOG: &str = "log";

/// The folders of the runs in `out` that have rows, the newest first; none if it cannot be read.
pub fn runs(out: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(out) else { return Vec::new() };
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut runs: Vec<_> = folders.filter_map(|folder| Some((begun(&folder)?, folder))).collect();
    runs.retain(|(_, folder)| is_folder(&folder.join(ROOT)));
    runs.sort_by(|a, b| b.cmp(a));
    runs.into_iter().map(|(_, folder)| folder).collect()
}

/// When a run began, by the name of its folder: the second, and its number among the runs of that second.
fn begun(folder: &Path) -> Option<(String, u32)> {
    let begun = folder.file_name()?.to_str()?.strip_prefix(RUN)?;
    // Whatever else is called like a run, a copy of one, was not begun at any time.
    NaiveDateTime::parse_from_str(begun.split('-').next()?, "%Y%m%dT%H%M%SZ").ok()?;
    match begun.split_once('-') {
        Some((second, number)) => Some((second.to_owned(), number.parse().ok()?)),
        None => Some((begun.to_owned(), 1)),
    }
}

/// Takes away, when it is dropped, what a run has left empty: its log without a line, and its folder, if that was made for it.
#[derive(Debug)]
pub struct Sweep {
    folder: PathBuf,
    is_of_the_run: bool,
    /// A log that was there before may be that of another run, which has no line yet.
    had_log: bool,
}

impl Sweep {
    /// Made before the run's log begins, and dropped after it has ended.
    pub(crate) fn new(folder: &Path, is_of_the_run: bool) -> Self {
        Self { folder: folder.to_owned(), is_of_the_run, had_log: folder.join(LOG).exists() }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        // Only what is empty can be taken away like this; whatever cannot be is left.
        let log = self.folder.join(LOG);
        if !self.had_log && is_folder(&log) {
            for file in fs::read_dir(&log).into_iter().flatten().flatten() {
                if file.metadata().is_ok_and(|file| file.is_file() && file.len() == 0) {
                    let _ = fs::remove_file(file.path());
                }
            }
            let _ = fs::remove_dir(log);
        }
        if self.is_of_the_run {
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Makes a folder of the run's own, named by when it begins; a number follows where there is one of that name.
pub(crate) fn make(out: &Path, now: DateTime<Utc>) -> io::Result<PathBuf> {
    fs::create_dir_all(out)?;
    let name = format!("{RUN}{}", now.format("%Y%m%dT%H%M%SZ"));
    for number in 1..MAX_RUNS_A_SECOND {
        let folder = match number {
            1 => out.join(&name),
            number => out.join(format!("{name}-{number}")),
        };
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{MAX_RUNS_A_SECOND} runs began in this second")))
}

/// Whether there is a folder, and not only a link that leads to one.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Whether workers have committed rows in the folder that they have not published yet.
pub(crate) fn has_sealed(folder: &Path) -> bool {
    let sealed = folder.join(ROOT).join(WORK_AREA).join("sealed");
    // Where it cannot be read nothing is waited for: whoever reads the files back says why.
    fs::read_dir(sealed).is_ok_and(|mut segments| segments.next().is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_the_same_second_have_a_folder_each() {
        let out = tempfile::tempdir().unwrap();
        let now = DateTime::from_timestamp(1_795_371_321, 0).unwrap();
        let made: Vec<_> = (0..3).map(|_| make(&out.path().join("new"), now).unwrap()).collect();
        let names: Vec<_> = made.iter().map(|folder| folder.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["run-20261122T181521Z", "run-20261122T181521Z-2", "run-20261122T181521Z-3"]);
    }

    #[test]
    fn runs_are_those_with_rows_and_the_newest_is_the_first() {
        let out = tempfile::tempdir().unwrap();
        let newest_first =
            ["run-20261122T181521Z-10", "run-20261122T181521Z-2", "run-20261122T181521Z", "run-20261121T181521Z"];
        for name in newest_first.into_iter().chain(["run", "other"]) {
            fs::create_dir_all(out.path().join(name).join(ROOT)).unwrap();
        }
        fs::create_dir_all(out.path().join("run-20270101T000000Z").join(LOG)).unwrap();
        let runs = runs(out.path());
        let names: Vec<_> = runs.iter().map(|folder| folder.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, newest_first);
        assert!(self::runs(&out.path().join("nowhere")).is_empty());
    }

    #[test]
    fn what_a_run_has_left_empty_is_taken_away() {
        let out = tempfile::tempdir().unwrap();
        let left = |name: &str, is_of_the_run, line: &str| {
            let folder = out.path().join(name);
            fs::create_dir(&folder).unwrap();
            let sweep = Sweep::new(&folder, is_of_the_run);
            fs::create_dir(folder.join(LOG)).unwrap();
            fs::write(folder.join(LOG).join("superhero.log"), line).unwrap();
            drop(sweep);
            (folder.exists(), folder.join(LOG).exists())
        };
        assert_eq!(left("empty", true, ""), (false, false));
        assert_eq!(left("told", true, "a line"), (true, true));
        assert_eq!(left("shared", false, ""), (true, false));

        let theirs = out.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("empty"), "").unwrap();
        let folder = out.path().join("planted");
        fs::create_dir(&folder).unwrap();
        let sweep = Sweep::new(&folder, false);
        std::os::unix::fs::symlink(&theirs, folder.join(LOG)).unwrap();
        drop(sweep);
        assert!(theirs.join("empty").exists(), "a link is not followed");
    }
}
