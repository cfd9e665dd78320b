//! What lies in the folders, by name: the published files of each partition, and whatever else is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use superhero_files::{Folder, Kind};
use superhero_sink::layout::{
    NameError, PublishedName, ROOT, SegmentFileName, SegmentName, WORK_AREA, WritingName, check_topic_name,
};
use superhero_sink::{Compression, PartitionId, Table};

use crate::{Fault, Faults, VerifyError};

/// A published file, told so short that a year of them fits into memory: 24 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// By its name.
    pub(crate) first_row: i64,
    /// By its folder; none where records are that tell no plausible time.
    pub(crate) date: Option<NaiveDate>,
    compression: Compression,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Where its name belongs, in this one of the folders.
    Folder(u32),
    /// Among the strays.
    Stray(u32),
}

/// The folders, and their files.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// As they were given: below them no link is followed.
    folders: Vec<PathBuf>,
    partitions: BTreeMap<PartitionId, Listed>,
    strays: Vec<(u32, PathBuf)>,
}

#[derive(Debug, Default)]
struct Listed {
    /// At the place of each table's discriminant, its files.
    files: [Vec<Entry>; Table::ALL.len()],
    sealed: Vec<Sealed>,
    /// The end of the latest segments that the folders remember to have published.
    published_next: i64,
}

/// A segment that is sealed and not published to its end.
#[derive(Debug)]
struct Sealed {
    folder: u32,
    offsets: Range<i64>,
}

impl Survey {
    /// Walks through the folders, which are `OUTPUT_DIR`s, and tells what does not belong there. `topics` are all if none are given.
    pub(crate) fn take(
        folders: &[PathBuf],
        topics: Option<&BTreeSet<String>>,
        faults: &mut Faults,
    ) -> Result<Self, VerifyError> {
        let mut survey = Self::default();
        for (index, folder) in folders.iter().enumerate() {
            let root = folder.join(ROOT);
            survey.folders.push(folder.clone());
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            Surveyor { survey: &mut survey, base: folder, folder: index, topics, faults }.root(&root)?;
        }
        for listed in survey.partitions.values_mut() {
            let Listed { files, sealed, .. } = listed;
            for files in files {
                // A segment is told as one that is not published, so what is published of it makes no more findings.
                files.retain(|file| !sealed.iter().any(|sealed| sealed.covers(file)));
                files.sort_by_key(|file| file.first_row);
            }
        }
        Ok(survey)
    }

    /// Every partition that has a file, or had one.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &PartitionId> {
        self.partitions.keys()
    }

    /// The files of a table with rows of the partition, in the order of their first offsets.
    pub(crate) fn files(&self, partition: &PartitionId, table: Table) -> &[Entry] {
        self.partitions.get(partition).map_or(&[], |listed| &listed.files[table as usize])
    }

    /// Offsets whose rows are sealed and not published to their end.
    pub(crate) fn sealed(&self, partition: &PartitionId) -> Vec<Range<i64>> {
        let listed = self.partitions.get(partition);
        listed.map_or(Vec::new(), |listed| listed.sealed.iter().map(|sealed| sealed.offsets.clone()).collect())
    }

    /// The offset after the last that a published segment covers, as far as the folders remember it.
    pub(crate) fn published_next(&self, partition: &PartitionId) -> i64 {
        self.partitions.get(partition).map_or(0, |listed| listed.published_next)
    }

    /// The folder that a file is in, and where in it.
    pub(crate) fn path(&self, entry: &Entry, partition: &PartitionId, table: Table) -> (&Path, PathBuf) {
        match entry.place {
            Place::Stray(index) => {
                let (folder, path) = &self.strays[index as usize];
                (&self.folders[*folder as usize], path.clone())
            }
            Place::Folder(index) => {
                let published = PublishedName {
                    partition: partition.clone(),
                    first_row: entry.first_row,
                    compression: entry.compression,
                };
                let name = SegmentFileName { table, date: entry.date, published };
                let folder = &self.folders[index as usize];
                (folder, folder.join(ROOT).join(name.published_path()))
            }
        }
    }
}

impl Sealed {
    fn covers(&self, file: &Entry) -> bool {
        matches!(file.place, Place::Folder(folder) if folder == self.folder) && self.offsets.contains(&file.first_row)
    }
}

impl Entry {
    fn new(name: &PublishedName, date: Option<NaiveDate>, place: Place) -> Self {
        Self { first_row: name.first_row, date, compression: name.compression, place }
    }
}

/// Walks through one folder.
struct Surveyor<'a> {
    survey: &'a mut Survey,
    base: &'a Path,
    folder: u32,
    topics: Option<&'a BTreeSet<String>>,
    faults: &'a mut Faults,
}

impl Surveyor<'_> {
    fn root(&mut self, root: &Path) -> Result<(), VerifyError> {
        // Before the files, so that those of all marks are there.
        self.work_area(&root.join(WORK_AREA))?;
        for found in self.list(root)? {
            let path = root.join(&found.name);
            let table = Table::ALL.into_iter().find(|table| found.name.to_str() == Some(table.name()));
            match (found.name.to_str(), table) {
                (Some(WORK_AREA), _) if found.is_dir() => {}
                (_, Some(Table::Raw)) if found.is_dir() => self.raw(&path)?,
                (_, Some(table)) if found.is_dir() => self.dates(&path, table, None)?,
                _ => self.foreign(path, found.kind, "neither a table nor the work area"),
            }
        }
        Ok(())
    }

    fn raw(&mut self, dir: &Path) -> Result<(), VerifyError> {
        for found in self.list(dir)? {
            let path = dir.join(&found.name);
            let topic = found.name.to_str().and_then(|name| name.strip_prefix("topic="));
            let Some(topic) = topic.filter(|topic| found.is_dir() && check_topic_name(topic).is_ok()) else {
                self.foreign(path, found.kind, "it is no folder topic=…");
                continue;
            };
            if self.is_wanted(topic) {
                self.topic(&path, topic)?;
            }
        }
        Ok(())
    }

    fn topic(&mut self, dir: &Path, topic: &str) -> Result<(), VerifyError> {
        for found in self.list(dir)? {
            let path = dir.join(&found.name);
            let number = found.name.to_str().and_then(|name| name.strip_prefix("partition="));
            // A number has one spelling.
            let number = number.and_then(|text| text.parse::<i32>().ok().filter(|number| number.to_string() == text));
            match number.and_then(|number| PartitionId::new(topic, number).ok()).filter(|_| found.is_dir()) {
                Some(partition) => self.dates(&path, Table::Raw, Some(&partition))?,
                None => self.foreign(path, found.kind, "it is no folder partition=…"),
            }
        }
        Ok(())
    }

    /// A folder that has a folder for each date; `partition` is the one that the folder is for.
    fn dates(&mut self, dir: &Path, table: Table, partition: Option<&PartitionId>) -> Result<(), VerifyError> {
        for found in self.list(dir)? {
            let path = dir.join(&found.name);
            match date_of(&found.name).filter(|_| found.is_dir()) {
                Some(date) => self.files(&path, table, date, partition)?,
                None => self.foreign(path, found.kind, "it is no folder dt=…"),
            }
        }
        Ok(())
    }

    fn files(
        &mut self,
        dir: &Path,
        table: Table,
        date: Option<NaiveDate>,
        partition: Option<&PartitionId>,
    ) -> Result<(), VerifyError> {
        for found in self.list(dir)? {
            let path = dir.join(&found.name);
            let name = match published(&found.name) {
                Ok(name) if found.kind == Kind::File => name,
                Ok(_) => {
                    self.foreign(path, found.kind, format!("it is {}", found.kind));
                    continue;
                }
                Err(error) => {
                    self.foreign(path, found.kind, error.to_string());
                    continue;
                }
            };
            if !self.is_wanted(name.partition.topic()) {
                continue;
            }
            let misplaced = partition.is_some_and(|partition| *partition != name.partition);
            let entry = if misplaced {
                self.faults.push(Fault::Misplaced {
                    topic: name.partition.topic().to_owned(),
                    partition: name.partition.partition(),
                    offset: None,
                    path: path.clone(),
                    reason: format!("the file is named for {}", name.partition),
                });
                let stray = u32::try_from(self.survey.strays.len()).unwrap_or(u32::MAX);
                self.survey.strays.push((self.folder, path));
                Entry::new(&name, date, Place::Stray(stray))
            } else {
                Entry::new(&name, date, Place::Folder(self.folder))
            };
            let listed = self.survey.partitions.entry(name.partition).or_default();
            listed.files[table as usize].push(entry);
        }
        Ok(())
    }

    fn work_area(&mut self, dir: &Path) -> Result<(), VerifyError> {
        let sealed = dir.join("sealed");
        for found in self.list(&sealed)? {
            let path = sealed.join(&found.name);
            match found.name.to_str().and_then(|name| SegmentName::parse(name).ok()) {
                Some(SegmentName { partition, first, next, .. }) => {
                    if self.is_wanted(partition.topic()) {
                        let sealed = Sealed { folder: self.folder, offsets: first..next };
                        self.survey.partitions.entry(partition.clone()).or_default().sealed.push(sealed);
                        self.faults.push(Fault::Unpublished {
                            topic: partition.topic().to_owned(),
                            partition: partition.partition(),
                            first_offset: first,
                            last_offset: next - 1,
                            path,
                        });
                    }
                }
                None => self.foreign(path, found.kind, "it is no sealed segment"),
            }
        }
        let published = dir.join("published");
        for found in self.list(&published)? {
            match found.name.to_str().and_then(|name| SegmentName::parse(name).ok()) {
                Some(SegmentName { partition, next, .. }) if self.is_wanted(partition.topic()) => {
                    let listed = self.survey.partitions.entry(partition).or_default();
                    listed.published_next = listed.published_next.max(next);
                }
                Some(_) => {}
                None => self.foreign(published.join(&found.name), found.kind, "it is no mark of a published segment"),
            }
        }
        let writing = dir.join("writing");
        for found in self.list(&writing)? {
            let path = writing.join(&found.name);
            match found.name.to_str().and_then(|name| WritingName::parse(name).ok()) {
                Some(WritingName { partition, .. }) => {
                    if self.is_wanted(partition.topic()) {
                        let names = if found.is_dir() { self.list(&path)? } else { Vec::new() };
                        let names = names.iter().filter_map(|found| SegmentFileName::parse(found.name.to_str()?).ok());
                        self.faults.push(Fault::Unfinished {
                            topic: partition.topic().to_owned(),
                            partition: partition.partition(),
                            first_offset: names.map(|name| name.published.first_row).min(),
                            path,
                        });
                    }
                }
                None => self.foreign(path, found.kind, "it is no segment that is being written"),
            }
        }
        Ok(())
    }

    fn is_wanted(&self, topic: &str) -> bool {
        self.topics.is_none_or(|topics| topics.contains(topic))
    }

    /// Tells of what does not belong there: for what it is, or, where a file or a folder might have been, for `reason`.
    fn foreign(&mut self, path: PathBuf, kind: Kind, reason: impl Into<String>) {
        let reason = match kind {
            Kind::File | Kind::Directory => reason.into(),
            Kind::Link => "it is a link, and none is followed here".to_owned(),
            Kind::Fifo | Kind::Socket | Kind::Device => format!("it is {kind}"),
        };
        self.faults.push(Fault::ForeignFile { path, reason });
    }

    /// What is in a directory, by name; nothing if there is no such directory.
    fn list(&self, dir: &Path) -> Result<Vec<Found>, VerifyError> {
        let names = match Folder::open_below(self.base, dir).and_then(|dir| dir.list()) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(VerifyError::Unreadable { path: dir.to_owned(), source }),
        };
        let mut found: Vec<_> = names.into_iter().map(|(name, kind)| Found { name, kind }).collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }
}

fn published(name: &OsString) -> Result<PublishedName, NameError> {
    PublishedName::parse(&name.to_string_lossy())
}

/// The date of a folder `dt=…`, in the one spelling that the sink gives it. The outer `None` is that it is no such folder, the inner that
/// it is the one for records without a date.
fn date_of(name: &OsString) -> Option<Option<NaiveDate>> {
    let text = name.to_str()?.strip_prefix("dt=")?;
    if text == "__HIVE_DEFAULT_PARTITION__" {
        return Some(None);
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    (date.format("%Y-%m-%d").to_string() == text).then_some(Some(date))
}

struct Found {
    name: OsString,
    kind: Kind,
}

impl Found {
    fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }
}
