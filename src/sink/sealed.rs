//! A sealed segment: durable, nobody's yet, until the group's commit decides whether it is published or thrown away.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    SinkError,
    durable::{self, FileError, Linked},
    fault::{Point, step},
    folder::Folder,
    layout::{NamedSegment, PartitionId, SegmentFileName, SegmentName, Table},
    recover::published_files,
    segment::remove_or_warn,
};

/// A sealed segment of this folder.
#[derive(Debug, Clone)]
pub struct Sealed {
    folder: Folder,
    name: SegmentName,
}

impl Sealed {
    /// The segment of that name, whether it is there or not.
    pub fn of(folder: &Folder, name: SegmentName) -> Self {
        Self { folder: folder.clone(), name }
    }

    /// As a commit names it.
    pub fn named(&self) -> NamedSegment {
        self.name.named_in(self.folder.id())
    }

    /// Gives every file its final name, never replacing one, and makes the names durable. Blocks on file operations.
    ///
    /// Only to be asked for once the segment is committed; then by anybody, at any time, any number of times at once: what an
    /// attempt that crashed has begun is completed, and what is done already is done. A committed segment that is neither here
    /// nor published is [`SinkError::Nowhere`]; a final name that another file has is [`SinkError::InTheWay`].
    pub fn publish(&self) -> Result<(), SinkError> {
        let sealed_dir = self.folder.sealed_dir(&self.name);
        let files = self.files()?;
        if files.is_empty() {
            return self.must_be_published();
        }
        let mut dirs: Vec<PathBuf> = Vec::new();
        for (name, file) in &files {
            let from = sealed_dir.join(name);
            match self.link(&from, file)? {
                Linked::New | Linked::Already => {}
                Linked::Taken => {
                    let path = self.folder.root().join(file.published_path());
                    return Err(SinkError::InTheWay {
                        path,
                        segment: self.named(),
                        partition: self.name.partition.clone(),
                    });
                }
                // Another worker is publishing it at the same time, and has finished.
                Linked::Gone | Linked::NoDirectory => return self.must_be_published(),
            }
            let dir = file.published_dir();
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        for dir in dirs {
            durable::sync_dir(self.folder.base(), &self.folder.root().join(dir), Point::SyncPublished)?;
        }
        // From here on the segment is published, whatever becomes of its files. The mark comes last, and in one step.
        let mark = self.folder.published_mark(&self.name);
        match durable::rename(self.folder.base(), &sealed_dir, &mark, Point::MarkPublished) {
            Ok(()) => self.clear_marks(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(FileError { action: "mark as published", path: mark, source }.into()),
        }
        Ok(())
    }

    /// Throws it away. Only to be asked for when its commit was refused for good.
    pub fn discard(&self) -> Result<(), SinkError> {
        Ok(durable::remove_dir(self.folder.base(), &self.folder.sealed_dir(&self.name), Point::RemoveSealed)?)
    }

    /// As [`Self::discard`]; what stays is of a generation that is over, and is swept by the partition's next owner.
    pub(crate) fn discard_or_warn(&self) {
        remove_or_warn(&self.folder, &self.folder.sealed_dir(&self.name), Point::RemoveSealed);
    }

    /// Links one file to its final name, making the directory for it if need be: the directory of a date may be taken away by
    /// whoever carries its files off.
    fn link(&self, from: &Path, file: &SegmentFileName) -> Result<Linked, SinkError> {
        const ATTEMPTS: usize = 3;
        let mut linked = Linked::NoDirectory;
        for _ in 0..ATTEMPTS {
            let dir = self.folder.durable_dir(&file.published_dir())?;
            linked = durable::link(self.folder.base(), from, &dir.join(file.published.to_string()), Point::Publish)?;
            if linked != Linked::NoDirectory {
                break;
            }
        }
        Ok(linked)
    }

    /// Each with the name that it was found under: earlier versions gave it another ending.
    fn files(&self) -> Result<Vec<(String, SegmentFileName)>, SinkError> {
        let sealed_dir = self.folder.sealed_dir(&self.name);
        let mut files = Vec::new();
        for name in durable::list(self.folder.base(), &sealed_dir)? {
            match SegmentFileName::parse(&name) {
                Ok(file) => files.push((name, file)),
                Err(error) => {
                    tracing::warn!(dir = %sealed_dir.display(), %error, "a foreign file in a sealed segment is ignored")
                }
            }
        }
        Ok(files)
    }

    /// A committed segment that is not sealed must have been published: its mark stands, or a file of its offsets does.
    fn must_be_published(&self) -> Result<(), SinkError> {
        let SegmentName { partition, first, next, .. } = &self.name;
        if durable::is_dir(self.folder.base(), &self.folder.published_mark(&self.name)) {
            return Ok(());
        }
        for table in Table::ALL {
            let files = published_files(&self.folder, partition, table)?;
            if files.iter().any(|file| (*first..*next).contains(&file.first_row)) {
                return Ok(());
            }
        }
        Err(SinkError::Nowhere {
            segment: self.named(),
            partition: partition.clone(),
            folder: self.folder.root().to_owned(),
        })
    }

    /// Empties this segment's mark, and removes those of the segments before it: no commit names them any more.
    fn clear_marks(&self) {
        let SegmentName { partition, first, .. } = &self.name;
        let mark = self.folder.published_mark(&self.name);
        if let Ok(dir) = superhero_files::Folder::open_below(self.folder.base(), &mark) {
            for (name, _) in dir.list().unwrap_or_default() {
                // What stays goes with the mark.
                let _ = step(Point::EmptyMark, || dir.remove(name));
            }
        }
        for older in marks(&self.folder, partition) {
            if older.next <= *first {
                remove_or_warn(&self.folder, &self.folder.published_mark(&older), Point::RemoveMark);
            }
        }
    }
}

/// The marks of the partition's latest published segments in this folder.
pub(crate) fn marks(folder: &Folder, partition: &PartitionId) -> Vec<SegmentName> {
    let names = durable::list(folder.base(), &folder.published_area()).unwrap_or_default();
    names.iter().filter_map(|name| SegmentName::parse(name).ok()).filter(|name| name.partition == *partition).collect()
}
