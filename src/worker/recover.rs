//! What the commits of others, or of this worker before a crash, leave to be done.

use serde::Deserialize;
use superhero_game::GameToken;
use superhero_kafka::TopicPartition;
use superhero_sink::metadata::{Decoded, decode};
use superhero_sink::recover::{publish_named, published_files};
use superhero_sink::{Folder, NamedSegment, PartitionId, SinkError, Table};

/// Publishes the segments of this folder that a commit's metadata names; anybody may, at any time. Blocks on file operations.
pub(crate) fn publish_named_here(folder: &Folder, source: &TopicPartition, metadata: &str) -> Result<(), SinkError> {
    let Ok(partition) = PartitionId::new(&source.topic, source.partition) else { return Ok(()) };
    publish_named(folder, &partition, &named_here(folder, metadata)?)
}

/// The segments of this folder that a commit's metadata names.
pub(crate) fn named_here(folder: &Folder, metadata: &str) -> Result<Vec<NamedSegment>, SinkError> {
    Ok(named(metadata)?.filter(|segment| segment.folder == folder.id()).collect())
}

/// The segments of other folders that it names: committed, and published when a worker is started there.
pub(crate) fn named_elsewhere(folder: &Folder, metadata: &str) -> Result<Vec<NamedSegment>, SinkError> {
    Ok(named(metadata)?.filter(|segment| segment.folder != folder.id()).collect())
}

fn named(metadata: &str) -> Result<impl Iterator<Item = NamedSegment>, SinkError> {
    let named = match decode(metadata)? {
        Decoded::Ours(metadata) => metadata.named,
        Decoded::Foreign => Vec::new(),
    };
    Ok(named.into_iter())
}

/// The games in the published segments that a commit's metadata names: whoever published them may have crashed before it
/// cleaned the games. A worker that gives a partition up in good order takes the name back. Blocks on file operations.
pub(crate) fn games_named(
    folder: &Folder,
    source: &TopicPartition,
    metadata: &str,
) -> Result<Vec<GameToken>, SinkError> {
    #[derive(Deserialize)]
    struct MetaRow {
        game_token: GameToken,
    }

    let mut games = Vec::new();
    let named = named_here(folder, metadata)?;
    if named.is_empty() {
        return Ok(games);
    }
    let Ok(partition) = PartitionId::new(&source.topic, source.partition) else { return Ok(games) };
    for file in published_files(folder, &partition, Table::GameMeta)? {
        if !named.iter().any(|segment| (segment.first..segment.next).contains(&file.first_row)) {
            continue;
        }
        let mut rows = folder.read_rows(&file.path)?;
        while let Some(row) = rows.next_row()? {
            // A row that cannot be read is not one of ours to act upon.
            if let Ok(MetaRow { game_token }) = serde_json::from_slice(row) {
                // A game's rows stand together.
                if games.last() != Some(&game_token) {
                    games.push(game_token);
                }
            }
        }
    }
    Ok(games)
}
