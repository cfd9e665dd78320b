//! The few file operations that survive a crash, each durable when it returns.
//!
//! A name stands on disk for good only once the directory that holds it has been synced, so whoever makes a name here also
//! syncs its directory. Whatever lies below `base`, which is `OUTPUT_DIR`, is reached without following a link.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use superhero_files::{Folder, Kind, PRIVATE_FILE, Refused};
use superhero_text::shown;
use thiserror::Error;

use crate::fault::{Point, step, step_or_half};

/// More than any id: Kafka's texts have at most half as many.
const MAX_TEXT_BYTES: u64 = 64 * 1024;

/// A file operation failed: what, where, and why the system says so.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", shown::path(path))]
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
pub(crate) fn sync_dir(base: &Path, path: &Path, point: Point) -> Result<(), FileError> {
    let sync = || Folder::open_below(base, path).and_then(|dir| dir.sync());
    step(point, sync).map_err(FileError::of("sync the directory", path))
}

/// Makes `path` with that mode and what is missing above it, and syncs the directory above each.
///
/// The one that stood there before is synced too: whoever made it may have crashed, or be about to.
pub(crate) fn create_dir(base: &Path, path: &Path, mode: u32) -> Result<(), FileError> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let is_below = path != base && path.starts_with(base);
    let failed = |source| FileError { action: "create the directory", path: path.to_owned(), source };
    let create = || match is_below {
        true => step(Point::CreateDirectory, || Folder::of(base, path).and_then(|(dir, name)| dir.make(name, mode))),
        false => step(Point::CreateDirectory, || fs::create_dir(path)),
    };
    match create() {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dir(base, path.parent().ok_or(error).map_err(failed)?, mode)?;
            match create() {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let standing = if is_below { Folder::open_below(base, path) } else { Folder::open(path) };
            standing.map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    match path.parent() {
        Some(parent) if is_below => sync_dir(base, parent, Point::SyncParent),
        Some(parent) => sync_dir(parent, parent, Point::SyncParent),
        None => Ok(()),
    }
}

/// Whether there is such a directory, to which no link leads.
pub(crate) fn is_dir(base: &Path, path: &Path) -> bool {
    Folder::open_below(base, path).is_ok()
}

/// Opens a file for a segment's rows, which must not be there yet.
pub(crate) fn create_file(base: &Path, path: &Path, point: Point) -> Result<File, FileError> {
    let create = || Folder::of(base, path).and_then(|(dir, name)| dir.create_new(name, superhero_files::FILE));
    step(point, create).map_err(FileError::of("create", path))
}

/// Gives a directory another name.
pub(crate) fn rename(base: &Path, from: &Path, to: &Path, point: Point) -> io::Result<()> {
    let rename = || {
        let ((from, old), (to, new)) = (Folder::of(base, from)?, Folder::of(base, to)?);
        from.rename(old, &to, new)
    };
    step(point, rename)
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
pub(crate) fn link(base: &Path, from: &Path, to: &Path, point: Point) -> Result<Linked, FileError> {
    let (old, name) = match Folder::of(base, from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Linked::Gone),
        found => found.map_err(FileError::of("look at", from))?,
    };
    let kind = match old.kind(name).map_err(FileError::of("look at", from))? {
        None => return Ok(Linked::Gone),
        Some(kind) => kind,
    };
    if kind != Kind::File {
        return Err(FileError::of("publish", from)(Refused::NotAFile(kind).into()));
    }
    let (new, new_name) = match Folder::of(base, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Linked::NoDirectory),
        found => found.map_err(FileError::of("link a file to", to))?,
    };
    match step(point, || old.link(name, &new, new_name)) {
        Ok(()) => Ok(Linked::New),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => same(&old, name, from, &new, new_name, to),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(if old.identity(name).is_err() { Linked::Gone } else { Linked::NoDirectory })
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

/// Whether a name that is taken means the very same file.
fn same(
    old: &Folder,
    name: &OsStr,
    from: &Path,
    new: &Folder,
    new_name: &OsStr,
    to: &Path,
) -> Result<Linked, FileError> {
    let ours = match old.identity(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Linked::Gone),
        ours => ours.map_err(FileError::of("look at", from))?,
    };
    let theirs = new.identity(new_name).map_err(FileError::of("look at", to))?;
    Ok(if ours == theirs { Linked::Already } else { Linked::Taken })
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
pub(crate) fn write_once(base: &Path, path: &Path, attempt: &Path, text: &str) -> Result<String, FileError> {
    if let Some(standing) = read_text(base, path)? {
        return Ok(standing);
    }
    let (dir, name) = Folder::of(base, attempt).map_err(FileError::of("write", attempt))?;
    let write = || {
        let file = step(Point::WriteOnce, || {
            let mut file = dir.create(name, PRIVATE_FILE)?;
            file.write_all(text.as_bytes())?;
            Ok(file)
        })?;
        step(Point::SyncOnce, || file.sync_all())
    };
    write().map_err(FileError::of("write", attempt))?;
    let linked = link(base, attempt, path, Point::NameOnce);
    step(Point::RemoveAttempt, || dir.remove(name)).map_err(FileError::of("remove", attempt))?;
    linked?;
    if let Some(parent) = path.parent() {
        sync_dir(base, parent, Point::SyncNames)?;
    }
    read_text(base, path)?.ok_or_else(|| FileError {
        action: "read back",
        path: path.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })
}

/// A short text, such as an id; none if there is no such file. `path` lies below `base`, and no link is followed from there on.
///
/// # Errors
/// The system's; a text of more than 64 KiB.
pub fn read_text(base: &Path, path: &Path) -> Result<Option<String>, FileError> {
    let read = || {
        let (dir, name) = Folder::of(base, path)?;
        let mut text = String::new();
        let bytes = dir.read(name)?.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text)?;
        match bytes as u64 {
            0..=MAX_TEXT_BYTES => Ok(text),
            _ => Err(io::Error::other(format!("it holds more than {MAX_TEXT_BYTES} bytes, and no id does"))),
        }
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError { action: "read", path: path.to_owned(), source }),
    }
}

/// Removes a directory and what is in it; that it is gone already is as well.
pub(crate) fn remove_dir(base: &Path, path: &Path, point: Point) -> Result<(), FileError> {
    let half = || match fs::read_dir(path)?.next() {
        Some(entry) => fs::remove_file(entry?.path()),
        None => Ok(()),
    };
    let whole = || Folder::of(base, path).and_then(|(dir, name)| dir.remove_all(name));
    match step_or_half(point, whole, half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError { action: "remove the directory", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// The names in a directory; none if there is no such directory. Names that are not text are none of ours: empty.
pub(crate) fn list(base: &Path, path: &Path) -> Result<Vec<String>, FileError> {
    match Folder::open_below(base, path).and_then(|dir| dir.list()) {
        Ok(names) => Ok(names.into_iter().map(|(name, _)| name.into_string().unwrap_or_default()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(FileError { action: "list", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fault::{Fault, arm};
    use superhero_files::FOLDER;

    #[test]
    fn a_link_never_replaces_and_knows_its_own_file_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "rows").unwrap();
        assert_eq!(link(dir.path(), &at("a"), &at("b"), Point::Publish).unwrap(), Linked::New);
        assert_eq!(link(dir.path(), &at("a"), &at("b"), Point::Publish).unwrap(), Linked::Already);
        fs::write(at("other"), "rows").unwrap();
        assert_eq!(link(dir.path(), &at("a"), &at("other"), Point::Publish).unwrap(), Linked::Taken);
        assert_eq!(link(dir.path(), &at("nothing"), &at("c"), Point::Publish).unwrap(), Linked::Gone);
        assert_eq!(link(dir.path(), &at("a"), &at("missing/c"), Point::Publish).unwrap(), Linked::NoDirectory);
        assert_eq!(link(dir.path(), &at("nothing"), &at("b"), Point::Publish).unwrap(), Linked::Gone);
    }

    #[test]
    fn a_file_system_without_links_is_told_to_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "rows").unwrap();
        // EPERM, EMLINK, EOPNOTSUPP; EACCES.
        for (number, expected) in [(1, true), (31, true), (95, true), (13, false)] {
            arm([(Point::Publish, Fault::Refused(number), 0)]);
            let said = link(dir.path(), &at("a"), &at("b"), Point::Publish).unwrap_err().to_string();
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
                    scope.spawn(move || {
                        write_once(path.parent().unwrap(), path, &attempt, &format!("text {n}")).unwrap()
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        assert_eq!(list(dir.path(), dir.path()).unwrap(), ["id"], "no attempt is left behind");
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(create_dir(dir.path(), &dir.path().join("file"), FOLDER).is_err());
        assert!(create_dir(dir.path(), &dir.path().join("file/below"), FOLDER).is_err());
        create_dir(dir.path(), &dir.path().join("a/b/c"), FOLDER).unwrap();
        create_dir(dir.path(), &dir.path().join("a/b/c"), FOLDER).unwrap();
    }
}
