//! What a folder holds of a partition, and what becomes of it when the partition changes hands.

use std::path::PathBuf;

use crate::{
    SinkError,
    dedupe::Dedupe,
    durable,
    fault::Point,
    folder::Folder,
    layout::{NamedSegment, PartitionId, PublishedName, SegmentName, Table, WritingName, table_dir},
    sealed::{Sealed, marks},
    segment::remove_or_warn,
};

/// When the group has lost its offset altogether, so many of the newest files tell what was seen of the producers: a producer
/// repeats what it has just sent, and an archive of years is not to be read for that.
const MAX_REREAD_FILES: usize = 16;

/// Publishes the segments of this folder that the group's metadata names. Blocks on file operations.
///
/// Anybody may ask for this at any time, owner of the partition or not: a worker that has just started does so for every
/// partition of [`partitions_with_sealed`].
pub fn publish_named(folder: &Folder, partition: &PartitionId, named: &[NamedSegment]) -> Result<(), SinkError> {
    for segment in named.iter().filter(|segment| segment.folder == folder.id()) {
        Sealed::of(folder, SegmentName::of(partition, segment)).publish()?;
    }
    Ok(())
}

/// Throws away this folder's sealed segments of the partition, and what was being written of it, of generations below `below`.
///
/// Only for the owner of the partition in the generation `below`, after [`publish_named`] with metadata that was fetched in that
/// generation: what is left then was never committed and never will be. What cannot be removed is left with a warning.
pub fn sweep(folder: &Folder, partition: &PartitionId, below: i32) -> Result<(), SinkError> {
    for name in sealed_segments(folder)? {
        if name.partition == *partition && name.generation < below {
            tracing::info!(segment = %name, "a sealed segment that was never committed is thrown away");
            Sealed::of(folder, name).discard_or_warn();
        }
    }
    for name in durable::list(folder.base(), &folder.writing_area())? {
        match WritingName::parse(&name) {
            Ok(name) if name.partition == *partition && name.generation < below => {
                remove_or_warn(folder, &folder.writing_dir(&name), Point::RemoveWriting);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a foreign name in the work area is ignored"),
        }
    }
    Ok(())
}

/// Every partition that has a sealed segment in this folder: it was left by a crash, or is about to be committed.
pub fn partitions_with_sealed(folder: &Folder) -> Result<Vec<PartitionId>, SinkError> {
    let mut partitions: Vec<_> = sealed_segments(folder)?.into_iter().map(|name| name.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

/// The offset of the last row of the partition that is published in this folder.
///
/// Reads the newest file to its end; a torn one is an error.
pub fn last_row_offset(folder: &Folder, partition: &PartitionId) -> Result<Option<i64>, SinkError> {
    let mut last = None;
    if let Some(file) = published_files(folder, partition, Table::Raw)?.last() {
        let mut rows = folder.read_rows(&file.path)?;
        while let Some(origin) = rows.next_origin()? {
            last = last.max(Some(origin.offset));
        }
    }
    Ok(last)
}

/// The offset after the last published row of the partition, if that is beyond `committed`. Blocks on file operations.
///
/// Mostly it is not, and the latest segment's mark says so without a file being read. If it is, the group has lost an offset, and
/// with it what was seen of the producers of those rows: `dedupe` gets it from the rows themselves.
pub fn beyond(
    folder: &Folder,
    partition: &PartitionId,
    committed: Option<i64>,
    dedupe: &mut Dedupe,
) -> Result<Option<i64>, SinkError> {
    let files = published_files(folder, partition, Table::Raw)?;
    let Some(newest) = files.last() else { return Ok(None) };
    if let Some(committed) = committed {
        let covered =
            |mark: &SegmentName| (mark.first..mark.next).contains(&newest.first_row) && mark.next <= committed;
        if marks(folder, partition).iter().any(covered) {
            return Ok(None);
        }
    }
    let from = committed.unwrap_or(0);
    // The last file that begins at or before the offset is the first that may reach beyond it.
    let reaching = files.partition_point(|file| file.first_row <= from).saturating_sub(1);
    let mut next = None;
    for file in &files[reaching.max(files.len().saturating_sub(MAX_REREAD_FILES))..] {
        let mut rows = folder.read_rows(&file.path)?;
        while let Some(origin) = rows.next_origin()? {
            if origin.offset >= from {
                next = next.max(Some(origin.offset + 1));
                if let Some((producer, sequence)) = origin.producer_and_sequence() {
                    dedupe.observe(producer, sequence);
                }
            }
        }
    }
    Ok(next)
}

/// A published file of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// Where it is.
    pub path: PathBuf,
    /// The offset of its first row.
    pub first_row: i64,
}

/// The published files of a table that hold rows of this partition, in the order of their offsets. Foreign names are ignored.
pub fn published_files(
    folder: &Folder,
    partition: &PartitionId,
    table: Table,
) -> Result<Vec<PublishedFile>, SinkError> {
    let table_dir = folder.root().join(table_dir(table, partition));
    let mut files = Vec::new();
    for date in durable::list(folder.base(), &table_dir)? {
        if !date.starts_with("dt=") {
            continue;
        }
        let dir = table_dir.join(date);
        for name in durable::list(folder.base(), &dir)? {
            match PublishedName::parse(&name) {
                Ok(published) if published.partition == *partition => {
                    files.push(PublishedFile { path: dir.join(name), first_row: published.first_row });
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(dir = %dir.display(), %error, "a foreign file among the rows is ignored"),
            }
        }
    }
    files.sort_unstable_by_key(|file| file.first_row);
    Ok(files)
}

fn sealed_segments(folder: &Folder) -> Result<Vec<SegmentName>, SinkError> {
    let mut segments = Vec::new();
    for name in durable::list(folder.base(), &folder.sealed_area())? {
        match SegmentName::parse(&name) {
            Ok(segment) => segments.push(segment),
            Err(error) => tracing::warn!(%error, "a foreign name among the sealed segments is ignored"),
        }
    }
    Ok(segments)
}
