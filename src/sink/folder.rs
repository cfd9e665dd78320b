//! A folder of published rows, and what it remembers of where they came from.

use std::{
    collections::HashSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use superhero_files::{FOLDER, PRIVATE_FILE, PRIVATE_FOLDER, Refused};
use superhero_text::shown;
use thiserror::Error;

use crate::{
    durable::{self, FileError},
    fault::{Point, step},
    layout::{FolderId, NameError, ROOT, SegmentName, Table, WORK_AREA, WriterId, WritingName, check_topic_name},
    reader::{ReadError, Rows, read_rows_below},
};

/// Why a folder cannot be written to.
#[derive(Debug, Error)]
pub enum FolderError {
    /// A file stands where the directory should be.
    #[error("{} is not a directory; choose another OUTPUT_DIR or move the file away", shown::path(path))]
    NotADirectory {
        /// What is in the way.
        path: PathBuf,
    },
    /// A link below `OUTPUT_DIR`, which may be one itself.
    #[error(transparent)]
    Link(FileError),
    /// The system does not let us.
    #[error("the folder {} cannot be written: {source}; {}", shown::path(path), advice(source))]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: FileError,
    },
    /// The offsets in this folder are those of other topics that only share their names with ours.
    #[error(
        "the folder {} holds records of the Kafka cluster {holds}, but the connected one is {connected}; connect to the cluster of \
         the folder, or give this one a folder of its own (OUTPUT_DIR)",
        shown::path(path)
    )]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// The cluster that the folder was made for.
        holds: String,
        /// The cluster that we are connected to.
        connected: String,
    },
    /// The topic was deleted and made again: its offsets have begun anew and would collide with those in the folder.
    #[error(
        "the folder {} holds records of a topic {topic} with the id {holds}, but the topic's id is {found} now: it was deleted \
         and made again, and its offsets begin anew; use a new folder for it (OUTPUT_DIR)",
        shown::path(path)
    )]
    TopicReplaced {
        /// The folder.
        path: PathBuf,
        /// The topic's name.
        topic: String,
        /// The id of the topic whose rows lie in the folder.
        holds: String,
        /// The id that the topic has now.
        found: String,
    },
    /// The topic cannot be a part of file names.
    #[error(transparent)]
    Topic(#[from] NameError),
    /// A file of the work area does not hold what belongs there.
    #[error(
        "{} should hold the folder's id, and holds {content:?}; restore it from a backup or use a new OUTPUT_DIR",
        shown::path(path)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it holds.
        content: String,
    },
}

/// What to do about a folder that cannot be written.
fn advice(error: &FileError) -> &'static str {
    match error.source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "check OUTPUT_DIR, its owner and its permissions"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or choose an OUTPUT_DIR on another disk"
        }
        _ => "choose another OUTPUT_DIR if this one cannot be mended",
    }
}

/// An open folder. Clones share it; every process that writes to the same place opens it for itself.
#[derive(Clone)]
pub struct Folder(Arc<Opened>);

struct Opened {
    /// `OUTPUT_DIR`, below which no link is followed.
    base: PathBuf,
    root: PathBuf,
    id: FolderId,
    writer: WriterId,
    /// Directories that this process has made durable, so that each publishing does not sync the whole way up again.
    durable_dirs: Mutex<HashSet<PathBuf>>,
}

impl Folder {
    /// Opens `<output_dir>/superhero`, making what is missing, as a writer that has never been before.
    ///
    /// Any number of workers may open one folder at once: its id and its cluster are those of whoever comes first.
    /// Blocks on file operations.
    pub fn open(output_dir: &Path, cluster_id: &str) -> Result<Self, FolderError> {
        let root = output_dir.join(ROOT);
        let is_other =
            |found: io::Result<fs::Metadata>| found.is_ok_and(|found| !found.is_dir() && !found.is_symlink());
        if is_other(fs::metadata(output_dir)) {
            return Err(FolderError::NotADirectory { path: output_dir.to_owned() });
        }
        if is_other(fs::symlink_metadata(&root)) {
            return Err(FolderError::NotADirectory { path: root });
        }
        let unwritable = |source: FileError| match source.source.kind() {
            _ if matches!(Refused::of(&source.source), Some(Refused::Link { .. })) => FolderError::Link(source),
            io::ErrorKind::NotADirectory => FolderError::NotADirectory { path: output_dir.to_owned() },
            _ => FolderError::Unwritable { path: root.clone(), source },
        };
        let work_area = root.join(WORK_AREA);
        durable::create_dir(output_dir, &root, FOLDER).map_err(unwritable)?;
        for part in ["topics", "writing", "sealed", "published"] {
            durable::create_dir(output_dir, &work_area.join(part), PRIVATE_FOLDER).map_err(unwritable)?;
        }
        for table in Table::ALL {
            let path = root.join(table.name());
            // One that is a link is told before there is anything to write.
            if path.is_symlink() {
                durable::create_dir(output_dir, &path, FOLDER).map_err(unwritable)?;
            }
        }

        let writer = WriterId::random();
        let attempt = work_area.join(format!("attempt+{writer}"));
        // Written even if the id stands already: a folder that has become read-only must be noticed now, not at the first row.
        let probe = || {
            let (dir, name) = superhero_files::Folder::of(output_dir, &attempt)?;
            dir.create(name, PRIVATE_FILE).and_then(|_| dir.remove(name))
        };
        step(Point::Probe, probe).map_err(FileError::of("write", &attempt)).map_err(unwritable)?;

        let path = work_area.join("folder");
        let content =
            durable::write_once(output_dir, &path, &attempt, &FolderId::random().to_string()).map_err(unwritable)?;
        let id = FolderId::parse(&content).map_err(|_| FolderError::Damaged { path, content })?;
        let holds =
            durable::write_once(output_dir, &work_area.join("cluster"), &attempt, cluster_id).map_err(unwritable)?;
        if holds != cluster_id {
            return Err(FolderError::OtherCluster { path: root, holds, connected: cluster_id.to_owned() });
        }
        let base = output_dir.to_owned();
        Ok(Self(Arc::new(Opened { base, root, id, writer, durable_dirs: Mutex::default() })))
    }

    /// Refuses a topic that was deleted and made again since this folder took its first record of it.
    ///
    /// To be asked before the first row of a topic is written. Blocks on file operations.
    pub fn check_topic(&self, topic: &str, topic_id: &str) -> Result<(), FolderError> {
        check_topic_name(topic)?;
        let path = self.work_area().join("topics").join(topic);
        let attempt = self.work_area().join(format!("attempt+{}+{topic}", self.writer()));
        let holds = durable::write_once(self.base(), &path, &attempt, topic_id)
            .map_err(|source| FolderError::Unwritable { path: self.root().to_owned(), source })?;
        if holds == topic_id {
            return Ok(());
        }
        let found = topic_id.to_owned();
        Err(FolderError::TopicReplaced { path: self.root().to_owned(), topic: topic.to_owned(), holds, found })
    }

    /// `<output_dir>`.
    pub(crate) fn base(&self) -> &Path {
        &self.0.base
    }

    /// `<output_dir>/superhero`.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Opens a published file of this folder.
    ///
    /// # Errors
    /// As [`read_rows`](crate::read_rows).
    pub fn read_rows(&self, path: &Path) -> Result<Rows, ReadError> {
        Ok(read_rows_below(self.base(), path)?.0)
    }

    /// Which folder this is.
    pub fn id(&self) -> FolderId {
        self.0.id
    }

    /// Which start of a worker this is.
    pub fn writer(&self) -> WriterId {
        self.0.writer
    }

    fn work_area(&self) -> PathBuf {
        self.root().join(WORK_AREA)
    }

    pub(crate) fn writing_area(&self) -> PathBuf {
        self.work_area().join("writing")
    }

    pub(crate) fn sealed_area(&self) -> PathBuf {
        self.work_area().join("sealed")
    }

    pub(crate) fn published_area(&self) -> PathBuf {
        self.work_area().join("published")
    }

    pub(crate) fn writing_dir(&self, name: &WritingName) -> PathBuf {
        self.writing_area().join(name.to_string())
    }

    pub(crate) fn sealed_dir(&self, name: &SegmentName) -> PathBuf {
        self.sealed_area().join(name.to_string())
    }

    /// What is left of a published segment: a mark that outlives its files, which others may take away at any time.
    pub(crate) fn published_mark(&self, name: &SegmentName) -> PathBuf {
        self.published_area().join(name.to_string())
    }

    /// Makes the directory `below` the root and everything above it durable, once in this process.
    pub(crate) fn durable_dir(&self, below: &Path) -> Result<PathBuf, FileError> {
        let path = self.root().join(below);
        let mut durable_dirs = self.0.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if !durable_dirs.contains(&path) || !durable::is_dir(self.base(), &path) {
            durable::create_dir(self.base(), &path, FOLDER)?;
            durable_dirs.insert(path.clone());
        }
        Ok(path)
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder")
            .field("root", &self.0.root)
            .field("id", &self.0.id)
            .field("writer", &self.0.writer)
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::{
        fs::{MetadataExt, symlink},
        net::UnixListener,
    };

    use super::*;

    #[test]
    fn a_folder_keeps_its_id_and_each_opening_is_another_writer() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(&dir.path().join("made/on/the/way"), "cluster-a").unwrap();
        let second = Folder::open(&dir.path().join("made/on/the/way"), "cluster-a").unwrap();
        assert_eq!(first.id(), second.id());
        assert_ne!(first.writer(), second.writer());
        assert_ne!(Folder::open(&dir.path().join("other"), "cluster-a").unwrap().id(), first.id());
    }

    #[test]
    fn workers_that_start_at_the_same_time_agree_on_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let ids: HashSet<FolderId> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let folder = Folder::open(dir.path(), "cluster-a").unwrap();
                        folder.check_topic("t", "id-1").unwrap();
                        folder.id()
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn the_folder_of_another_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path(), "cluster-a").unwrap();
        let message = Folder::open(dir.path(), "cluster-b").unwrap_err().to_string();
        for part in ["superhero", "cluster-a", "cluster-b", "OUTPUT_DIR"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_topic_that_was_made_again_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), "cluster-a").unwrap();
        folder.check_topic("t", "id-1").unwrap();
        folder.check_topic("t", "id-1").unwrap();
        folder.check_topic("u", "id-2").unwrap();
        let message = folder.check_topic("t", "id-3").unwrap_err().to_string();
        for part in ["id-1", "id-3", "topic t ", "superhero"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(matches!(folder.check_topic("../t", "id"), Err(FolderError::Topic(_))));
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Folder::open(&file, "c"), Err(FolderError::NotADirectory { path }) if path == file));
        assert!(matches!(Folder::open(&file.join("below"), "c"), Err(FolderError::NotADirectory { .. })));
    }

    #[test]
    fn a_folder_where_nothing_can_be_made_is_unwritable() {
        // Not even the superuser can make a directory there.
        let error = Folder::open(Path::new("/proc/superhero-output"), "c").unwrap_err();
        assert!(matches!(error, FolderError::Unwritable { .. }), "{error}");
    }

    #[test]
    fn a_link_below_the_folder_is_named_and_not_followed_and_the_folder_may_be_one() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let names = [
            "superhero",
            "superhero/.superhero",
            "superhero/.superhero/writing",
            "superhero/raw",
            "superhero/GAME_META",
        ];
        for (number, name) in names.into_iter().enumerate() {
            let out = dir.path().join(number.to_string());
            let planted = out.join(name);
            fs::create_dir_all(planted.parent().unwrap()).unwrap();
            symlink(elsewhere.path(), &planted).unwrap();
            let refused = Folder::open(&out, "c").unwrap_err();
            let message = refused.to_string();
            assert!(
                matches!(refused, FolderError::Link(_)) && message.contains(&format!("{name} is a link")),
                "{message}"
            );
        }
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        symlink(elsewhere.path(), dir.path().join("chosen")).unwrap();
        Folder::open(&dir.path().join("chosen"), "c").unwrap();
        assert!(elsewhere.path().join("superhero/.superhero/folder").is_file());
    }

    #[test]
    fn what_the_folder_remembers_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path(), "c").unwrap().check_topic("t", "id").unwrap();
        let mode =
            |name: &str| fs::metadata(dir.path().join("superhero/.superhero").join(name)).unwrap().mode() & 0o777;
        for folder in ["", "topics", "writing", "sealed", "published"] {
            assert_eq!(mode(folder), 0o700, "{folder:?}");
        }
        for file in ["folder", "cluster", "topics/t"] {
            assert_eq!(mode(file), 0o600, "{file}");
        }
    }

    #[test]
    fn an_id_that_is_no_file_or_far_too_long_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("superhero/.superhero/cluster");
        Folder::open(dir.path(), "c").unwrap();
        fs::remove_file(&path).unwrap();
        let _socket = UnixListener::bind(&path).unwrap();
        let said = || Folder::open(dir.path(), "c").unwrap_err().to_string();
        assert!(said().contains("cluster: it is a socket"), "{}", said());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "c".repeat(100_000)).unwrap();
        assert!(said().contains("cluster: it holds more than 65536 bytes"), "{}", said());
    }

    #[test]
    fn a_damaged_id_is_named() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path(), "c").unwrap();
        fs::write(dir.path().join("superhero/.superhero/folder"), "torn").unwrap();
        assert!(
            matches!(Folder::open(dir.path(), "c"), Err(FolderError::Damaged { content, .. }) if content == "torn")
        );
    }
}
