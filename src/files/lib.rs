//! Files in folders where others may write too: below a folder no link is followed, and what is opened is a regular file, so that nothing
//! that was put there leads out of the folder, or makes whoever opens it wait.
//!
//! The folder itself is its user's choice, and may be a link. From it on each name is opened by itself (`O_NOFOLLOW`), in the directory that was
//! opened before it, so that a name which changes meanwhile leads nowhere either.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;
use superhero_text::shown;

/// Of files and folders that only their owner may read: they hold tokens.
pub const PRIVATE_FILE: u32 = 0o600;
/// The same for folders.
pub const PRIVATE_FOLDER: u32 = 0o700;
/// What is for others to read, as far as the process's umask lets it.
pub const FILE: u32 = 0o666;
/// The same for folders.
pub const FOLDER: u32 = 0o777;

/// So many folders in each other are removed; ours have one.
const MAX_REMOVED_DEPTH: usize = 32;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, whatever it leads to.
    Link,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device, of characters or of blocks.
    Device,
}

impl Kind {
    fn of(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice | FileType::BlockDevice => Self::Device,
            FileType::RegularFile | FileType::Unknown => Self::File,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Directory => "a folder",
            Self::Link => "a link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
        })
    }
}

/// Why something was not opened that the system would open; the reason within an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A link below the folder.
    #[error(
        "{} is a link, and below {} none is followed; put what it leads to in its place",
        shown::path(path),
        shown::path(folder)
    )]
    Link {
        /// Below the folder.
        path: PathBuf,
        /// As it was given.
        folder: PathBuf,
    },
    /// Neither a file nor a folder, or the one where the other is to be.
    #[error("it is {0}, not a regular file")]
    NotAFile(Kind),
    /// Folders in each other without end.
    #[error("there are more than {MAX_REMOVED_DEPTH} folders in each other")]
    TooDeep,
}

impl Refused {
    /// The refusal in a system's error, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::other(refused)
    }
}

/// An open directory. Clones share it.
#[derive(Clone, Debug)]
pub struct Folder {
    directory: Arc<OwnedFd>,
    /// That of the folder which was opened by its path, and the way from it to here: for messages.
    path: PathBuf,
    below: PathBuf,
}

impl Folder {
    /// Opens a folder that its user has chosen; links are followed.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let opened = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, opened, flags, Mode::empty())?;
        Ok(Self { directory: Arc::new(directory), path: path.to_owned(), below: PathBuf::new() })
    }

    /// Opens the folder `path`, which lies below `base` or is it; links are followed on the way to `base`, and not behind it.
    ///
    /// # Errors
    /// The system's; [`Refused::Link`].
    pub fn open_below(base: &Path, path: &Path) -> io::Result<Self> {
        Self::open(base)?.below(path.strip_prefix(base).map_err(io::Error::other)?)
    }

    /// Opens the folder in which `path` lies, which is below `base`, and says what it is called in there.
    ///
    /// # Errors
    /// As [`Self::open_below`].
    pub fn of<'a>(base: &Path, path: &'a Path) -> io::Result<(Self, &'a OsStr)> {
        let below = path.strip_prefix(base).map_err(io::Error::other)?;
        let (Some(parent), Some(name)) = (below.parent(), below.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok((Self::open(base)?.below(parent)?, name))
    }

    /// Opens a folder in this one, of any depth; no link is followed.
    ///
    /// # Errors
    /// The system's; [`Refused::Link`].
    pub fn below(&self, path: &Path) -> io::Result<Self> {
        let mut folder = self.clone();
        for name in path {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&*folder.directory, name, flags, Mode::empty());
            let directory = opened.map_err(|error| folder.reason(name, error))?;
            folder.directory = Arc::new(directory);
            folder.below.push(name);
        }
        Ok(folder)
    }

    /// What stands under a name; none if nothing does.
    ///
    /// # Errors
    /// The system's.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Kind>> {
        match self.status(name.as_ref()) {
            Ok(status) => Ok(Some(Kind::of(FileType::from_raw_mode(status.st_mode)))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What tells a file from every other: its device and its number.
    ///
    /// # Errors
    /// The system's.
    pub fn identity(&self, name: impl AsRef<OsStr>) -> io::Result<(u64, u64)> {
        let status = self.status(name.as_ref())?;
        Ok((status.st_dev, status.st_ino))
    }

    /// Opens a regular file for reading. Never waits, as the system's own call does where a FIFO stands that nobody writes to.
    ///
    /// # Errors
    /// The system's; [`Refused`].
    pub fn read(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::RDONLY, 0)
    }

    /// Makes a file that must not be there yet.
    ///
    /// # Errors
    /// The system's; [`Refused`].
    pub fn create_new(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)
    }

    /// Makes a file, or empties the one that is there.
    ///
    /// # Errors
    /// The system's; [`Refused`].
    pub fn create(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let file = self.file(name.as_ref(), OFlags::WRONLY | OFlags::CREATE, mode)?;
        // Not before it is known to be a file of ours to write to.
        file.set_len(0)?;
        Ok(file)
    }

    /// Opens a file to write behind what it holds, or makes it.
    ///
    /// # Errors
    /// The system's; [`Refused`].
    pub fn append(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND, mode)
    }

    /// Opens a private file that is there for writing to it, or for locking it.
    ///
    /// # Errors
    /// The system's; [`Refused`].
    pub fn write_private(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::WRONLY, PRIVATE_FILE)
    }

    /// Makes a folder in this one.
    ///
    /// # Errors
    /// The system's.
    pub fn make(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&*self.directory, name.as_ref(), Mode::from_raw_mode(mode as RawMode))?)
    }

    /// Gives this folder the mode of those that only their owner may read.
    ///
    /// # Errors
    /// The system's.
    pub fn make_private(&self) -> io::Result<()> {
        File::from(self.readable()?).set_permissions(Permissions::from_mode(PRIVATE_FOLDER))
    }

    /// What is in this folder, in no order.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&self) -> io::Result<Vec<(OsString, Kind)>> {
        let mut all = Vec::new();
        for entry in rustix::fs::Dir::new(self.readable()?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                // Not every file system says it here.
                FileType::Unknown => match self.kind(OsStr::from_bytes(name))? {
                    Some(kind) => kind,
                    None => continue,
                },
                kind => Kind::of(kind),
            };
            all.push((OsString::from_vec(name.to_owned()), kind));
        }
        Ok(all)
    }

    /// Gives what is called `name` here the name `to` in another folder.
    ///
    /// # Errors
    /// The system's.
    pub fn rename(&self, name: impl AsRef<OsStr>, other: &Self, to: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::renameat(&*self.directory, name.as_ref(), &*other.directory, to.as_ref())?)
    }

    /// Gives a file a second name, never replacing what has that name.
    ///
    /// # Errors
    /// The system's.
    pub fn link(&self, name: impl AsRef<OsStr>, other: &Self, to: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::linkat(&*self.directory, name.as_ref(), &*other.directory, to.as_ref(), AtFlags::empty())?)
    }

    /// Removes a file, or a link.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&*self.directory, name.as_ref(), AtFlags::empty())?)
    }

    /// Removes whatever has this name with all that is in it; that it is gone already is as well.
    ///
    /// # Errors
    /// The system's; [`Refused::TooDeep`].
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.remove_to(name.as_ref(), MAX_REMOVED_DEPTH)
    }

    /// Makes the names in this folder last.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.readable()?)?)
    }

    fn remove_to(&self, name: &OsStr, depth: usize) -> io::Result<()> {
        match rustix::fs::unlinkat(&*self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // POSIX's way to say that it is a directory, beside Linux's own.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(depth) = depth.checked_sub(1) else { return Err(Refused::TooDeep.into()) };
        match self.below(Path::new(name)) {
            Ok(folder) => {
                for (name, _) in folder.list()? {
                    folder.remove_to(&name, depth)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        match rustix::fs::unlinkat(&*self.directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn file(&self, name: &OsStr, flags: OFlags, mode: u32) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&*self.directory, name, flags, Mode::from_raw_mode(mode as RawMode));
        let file = opened.map_err(|error| self.reason(name, error))?;
        let status = rustix::fs::fstat(&file)?;
        let kind = Kind::of(FileType::from_raw_mode(status.st_mode));
        if kind != Kind::File {
            return Err(Refused::NotAFile(kind).into());
        }
        let file = File::from(file);
        // One that was there already, from a time when more could read it.
        if mode == PRIVATE_FILE && status.st_mode as u32 & !PRIVATE_FILE & FOLDER != 0 {
            file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
        }
        Ok(file)
    }

    /// To be read and synced; what only leads on need not be readable.
    fn readable(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&*self.directory, ".", flags, Mode::empty())?)
    }

    fn status(&self, name: &OsStr) -> rustix::io::Result<rustix::fs::Stat> {
        rustix::fs::statat(self.directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What the system's refusal comes from: a link, or what no file can be opened of, is told in words of its own.
    fn reason(&self, name: &OsStr, error: Errno) -> io::Error {
        match (error, self.kind(name)) {
            (Errno::LOOP | Errno::NOTDIR | Errno::EXIST, Ok(Some(Kind::Link))) => {
                Refused::Link { path: self.below.join(name), folder: self.path.clone() }.into()
            }
            // A socket, a FIFO without a reader, a device without a driver.
            (Errno::NXIO | Errno::NODEV | Errno::ISDIR, Ok(Some(kind))) if kind != Kind::File => {
                Refused::NotAFile(kind).into()
            }
            _ => error.into(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
