//! What the folders remember of where their rows came from, and whether that is one place.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use superhero_files::{Folder, Refused};
use superhero_sink::layout::{ROOT, WORK_AREA, check_topic_name};
use superhero_sink::{FileError, read_text};

use crate::VerifyError;

/// What the folders remember, each with the folder that does.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// The cluster's id; none if none of them remembers, as copies without hidden files do.
    cluster: Option<(PathBuf, String)>,
    /// The ids of topics, by name.
    topics: BTreeMap<String, (PathBuf, String)>,
}

/// Looks at each folder, which is an `OUTPUT_DIR`.
///
/// # Errors
/// A folder that is none, was given twice, or is none of the others'.
pub(crate) fn look(folders: &[PathBuf]) -> Result<Origins, VerifyError> {
    if folders.is_empty() {
        return Err(VerifyError::NoFolders);
    }
    let mut origins = Origins::default();
    let mut known: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for folder in folders {
        if !folder.is_dir() {
            return Err(VerifyError::NoDirectory { path: folder.clone() });
        }
        let root = folder.join(ROOT);
        match Folder::open_below(folder, &root) {
            Ok(_) => {}
            Err(source) if Refused::of(&source).is_some() => {
                return Err(VerifyError::Unreadable { path: root, source });
            }
            Err(_) => return Err(VerifyError::NoRows { path: folder.clone() }),
        }
        let real = root.canonicalize().map_err(|source| VerifyError::Unreadable { path: root.clone(), source })?;
        if let Some(first) = known.insert(real, folder) {
            return Err(VerifyError::SameFolder { first: first.to_owned(), second: folder.clone() });
        }
        origins.add(folder, &root.join(WORK_AREA))?;
    }
    Ok(origins)
}

impl Origins {
    /// Refuses a cluster whose offsets are not those of the folders.
    pub(crate) fn check_cluster(&self, servers: &str, connected: &str) -> Result<(), VerifyError> {
        match &self.cluster {
            Some((path, holds)) if holds != connected => Err(VerifyError::OtherCluster {
                path: path.clone(),
                holds: holds.clone(),
                servers: servers.to_owned(),
                connected: connected.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a topic that only has its name in common with that of the rows.
    pub(crate) fn check_topic(&self, topic: &str, found: &str) -> Result<(), VerifyError> {
        match self.topics.get(topic) {
            Some((path, holds)) if holds != found => Err(VerifyError::TopicReplaced {
                path: path.clone(),
                topic: topic.to_owned(),
                holds: holds.clone(),
                found: found.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn add(&mut self, folder: &Path, work_area: &Path) -> Result<(), VerifyError> {
        if let Some(holds) = text(folder, &work_area.join("cluster"))? {
            let first = self.cluster.get_or_insert_with(|| (folder.to_owned(), holds.clone()));
            same(first, folder, holds, "Kafka cluster")?;
        }
        let topics = work_area.join("topics");
        let unreadable = |source| VerifyError::Unreadable { path: topics.clone(), source };
        let names = match Folder::open_below(folder, &topics).and_then(|topics| topics.list()) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(error)),
        };
        for (name, _) in names {
            let Some(topic) = name.to_str().filter(|name| check_topic_name(name).is_ok()) else { continue };
            let Some(holds) = text(folder, &topics.join(topic))? else { continue };
            let first = self.topics.entry(topic.to_owned()).or_insert_with(|| (folder.to_owned(), holds.clone()));
            same(first, folder, holds, &format!("topic {topic}"))?;
        }
        Ok(())
    }
}

fn same(first: &(PathBuf, String), folder: &Path, holds: String, what: &str) -> Result<(), VerifyError> {
    let (first, first_holds) = first;
    if *first_holds == holds {
        return Ok(());
    }
    let difference = format!("{what}, but of {first_holds} and of {holds}");
    Err(VerifyError::NotOneSource { first: first.clone(), second: folder.to_owned(), difference })
}

fn text(folder: &Path, path: &Path) -> Result<Option<String>, VerifyError> {
    read_text(folder, path).map_err(|FileError { path, source, .. }| VerifyError::Unreadable { path, source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use superhero_sink::Folder;

    use super::*;

    #[test]
    fn the_cluster_and_the_topics_of_the_folder_are_the_only_ones_to_compare_with() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path(), "cluster-a").unwrap().check_topic("t", "id-1").unwrap();
        let origins = look(&[dir.path().to_owned()]).unwrap();
        origins.check_cluster("localhost:9092", "cluster-a").unwrap();
        let message = origins.check_cluster("localhost:9092", "cluster-b").unwrap_err().to_string();
        for part in ["cluster-a", "cluster-b", "localhost:9092", dir.path().to_str().unwrap()] {
            assert!(message.contains(part), "{message}");
        }
        origins.check_topic("t", "id-1").unwrap();
        origins.check_topic("u", "id-9").unwrap();
        let message = origins.check_topic("t", "id-2").unwrap_err().to_string();
        for part in ["topic t ", "id-1", "id-2"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn folders_of_different_topics_are_no_union() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Folder::open(one.path(), "cluster").unwrap().check_topic("t", "id-1").unwrap();
        Folder::open(two.path(), "cluster").unwrap().check_topic("t", "id-2").unwrap();
        let message = look(&[one.path().to_owned(), two.path().to_owned()]).unwrap_err().to_string();
        for part in ["topic t", "id-1", "id-2", two.path().to_str().unwrap()] {
            assert!(message.contains(part), "{message}");
        }
    }
}
