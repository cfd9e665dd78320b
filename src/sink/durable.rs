//! The few file operations that survive a crash, each durable when it returns.
//!
//! A name stands on disk for good only once the directory that holds it has been synced, so whoever makes a name here also
//! syncs its directory.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::fault::{Point, step, step_or_half};

/// A file operation failed: what, where, and why the system says so.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// A verb, as in "cannot … the path".
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`.
    pub(crate) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

/// Syncs a directory, so that the names in it survive.
pub(crate) fn sync_dir(path: &Path, point: Point) -> Result<(), FileError> {
    let sync = || File::open(path).and_then(|dir| dir.sync_all());
    step(point, sync).map_err(FileError::of("sync the directory", path))
}

/// Makes `path` and what is missing above it, and syncs the directory above each.
///
/// The one that stood there before is synced too: whoever made it may have crashed, or be about to.
pub(crate) fn create_dir(path: &Path) -> Result<(), FileError> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let create = || step(Point::CreateDirectory, || fs::create_dir(path));
    match create() {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().ok_or(error).map_err(FileError::of("create the directory", path))?;
            create_dir(parent)?;
            match create() {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(FileError { action: "create the directory", path: path.to_owned(), source: error });
                }
                _ => {}
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(FileError { action: "create the directory", path: path.to_owned(), source: error }),
    }
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new("."), Point::SyncParent),
        Some(parent) => sync_dir(parent, Point::SyncParent),
        None => Ok(()),
    }
}

/// What came of giving a file a second name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Linked {
    /// The name is new.
    New,
    /// The name was there and means the very same file: an attempt that crashed had come this far.
    Already,
    /// The name is taken by another file.
    Taken,
    /// There is no such file to name; somebody else is done with it.
    Gone,
    /// The directory of the new name is missing.
    NoDirectory,
}

/// Gives the file `from` the name `to` as well, never replacing what stands there.
pub(crate) fn link(from: &Path, to: &Path, point: Point) -> Result<Linked, FileError> {
    match step(point, || fs::hard_link(from, to)) {
        Ok(()) => Ok(Linked::New),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let ours = match fs::symlink_metadata(from) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Linked::Gone),
                Err(source) => return Err(FileError { action: "look at", path: from.to_owned(), source }),
            };
            let theirs = fs::symlink_metadata(to).map_err(FileError::of("look at", to))?;
            let same = (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino());
            Ok(if same { Linked::Already } else { Linked::Taken })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(if fs::symlink_metadata(from).is_err() { Linked::Gone } else { Linked::NoDirectory })
        }
        Err(error) if is_no_links(&error) => {
            let reason = format!(
                "{error}; a file gets its name by a hard link, so that it never replaces another: use a file system that has them, as \
                 FAT and exFAT have not"
            );
            let source = io::Error::new(io::ErrorKind::Unsupported, reason);
            Err(FileError { action: "link a file to", path: to.to_owned(), source })
        }
        Err(source) => Err(FileError { action: "link a file to", path: to.to_owned(), source }),
    }
}

/// Whether the file system has no hard links: link(2) is not permitted (which is not the same as denied), not supported, or each
/// file may have one name only.
fn is_no_links(error: &io::Error) -> bool {
    const EPERM: i32 = 1;
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::TooManyLinks)
        || error.raw_os_error() == Some(EPERM)
}

/// Sees to it that `path` holds a text once and for all: the one that stands there already, or `text`. Returns that text.
///
/// Whoever comes first decides, whatever the number of processes that try at once; nobody ever sees half of it.
/// `attempt` must be a path of the caller's own on the same file system.
pub(crate) fn write_once(path: &Path, attempt: &Path, text: &str) -> Result<String, FileError> {
    if let Some(standing) = read_text(path)? {
        return Ok(standing);
    }
    let write = || {
        let file = step(Point::WriteOnce, || {
            let mut file = File::create(attempt)?;
            file.write_all(text.as_bytes())?;
            Ok(file)
        })?;
        step(Point::SyncOnce, || file.sync_all())
    };
    write().map_err(FileError::of("write", attempt))?;
    let linked = link(attempt, path, Point::NameOnce);
    step(Point::RemoveAttempt, || fs::remove_file(attempt)).map_err(FileError::of("remove", attempt))?;
    linked?;
    if let Some(parent) = path.parent() {
        sync_dir(parent, Point::SyncNames)?;
    }
    read_text(path)?.ok_or_else(|| FileError {
        action: "read back",
        path: path.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })
}

fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError { action: "read", path: path.to_owned(), source }),
    }
}

/// Removes a directory and what is in it; that it is gone already is as well.
pub(crate) fn remove_dir(path: &Path, point: Point) -> Result<(), FileError> {
    let half = || match fs::read_dir(path)?.next() {
        Some(entry) => fs::remove_file(entry?.path()),
        None => Ok(()),
    };
    match step_or_half(point, || fs::remove_dir_all(path), half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError { action: "remove the directory", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// The names in a directory; none if there is no such directory. Names that are not text are none of ours: empty.
pub(crate) fn list(path: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(FileError { action: "list", path: path.to_owned(), source }),
    };
    entries
        .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
        .collect::<io::Result<_>>()
        .map_err(FileError::of("list", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fault::{Fault, arm};

    #[test]
    fn a_link_never_replaces_and_knows_its_own_file_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "rows").unwrap();
        assert_eq!(link(&at("a"), &at("b"), Point::Publish).unwrap(), Linked::New);
        assert_eq!(link(&at("a"), &at("b"), Point::Publish).unwrap(), Linked::Already);
        fs::write(at("other"), "rows").unwrap();
        assert_eq!(link(&at("a"), &at("other"), Point::Publish).unwrap(), Linked::Taken);
        assert_eq!(link(&at("nothing"), &at("c"), Point::Publish).unwrap(), Linked::Gone);
        assert_eq!(link(&at("a"), &at("missing/c"), Point::Publish).unwrap(), Linked::NoDirectory);
        assert_eq!(link(&at("nothing"), &at("b"), Point::Publish).unwrap(), Linked::Gone);
    }

    #[test]
    fn a_file_system_without_links_is_told_to_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "rows").unwrap();
        // EPERM, EMLINK, EOPNOTSUPP; EACCES.
        for (number, expected) in [(1, true), (31, true), (95, true), (13, false)] {
            arm([(Point::Publish, Fault::Refused(number), 0)]);
            let said = link(&at("a"), &at("b"), Point::Publish).unwrap_err().to_string();
            assert_eq!(said.contains("by a hard link") && said.contains("FAT"), expected, "{said}");
            assert!(
                said.contains(&format!("(os error {number})")) && said.contains(at("b").to_str().unwrap()),
                "{said}"
            );
        }
    }

    #[test]
    fn of_many_that_write_once_one_wins_and_all_read_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        let texts: Vec<String> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|n| {
                    let (path, attempt) = (&path, dir.path().join(format!("attempt{n}")));
                    scope.spawn(move || write_once(path, &attempt, &format!("text {n}")).unwrap())
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        assert_eq!(list(dir.path()).unwrap(), ["id"], "no attempt is left behind");
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(create_dir(&dir.path().join("file")).is_err());
        assert!(create_dir(&dir.path().join("file/below")).is_err());
        create_dir(&dir.path().join("a/b/c")).unwrap();
        create_dir(&dir.path().join("a/b/c")).unwrap();
    }
}
