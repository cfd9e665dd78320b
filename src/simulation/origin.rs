//! Whether the folder that the run's files go to can take them, asked before anything is played.

use std::path::Path;

use superhero_event::topic;
use superhero_kafka::group::Committer;
use superhero_kafka::{Cluster, KafkaConfig, LagError, Metadata, TopicPartition};
use superhero_sink::layout::ROOT;
use superhero_sink::{Folder, FolderError};
use superhero_worker::DEFAULT_GROUP;
use tokio::time::Instant;

use crate::SimulationError;
use crate::pipeline::CONNECT_TIMEOUT;

/// Refuses a folder that cannot be written, that has rows of another cluster, or of topics that were deleted and made again since, and a
/// new one where the workers' group has taken records already: their rows lie elsewhere, and are missing from all that is said of it.
pub(crate) async fn check(folder: &Path, kafka: &KafkaConfig) -> Result<(), SimulationError> {
    let metadata = Cluster::connect(kafka, Instant::now() + CONNECT_TIMEOUT).await?.metadata().await?;
    if !folder.join(ROOT).exists() {
        let records = taken(kafka, &metadata).await?;
        if records > 0 {
            let (servers, folder) = (kafka.servers(), folder.to_owned());
            return Err(SimulationError::OtherFolder { servers, group: DEFAULT_GROUP, records, folder });
        }
    }
    let out = folder.to_owned();
    let checking = tokio::task::spawn_blocking(move || {
        let folder = Folder::open(&out, &metadata.cluster_id)?;
        let known =
            topic::ALL.into_iter().filter_map(|topic| Some((topic, metadata.topics.get(topic)?.id.to_string())));
        known.into_iter().try_for_each(|(topic, id)| folder.check_topic(topic, &id))
    });
    let checked: Result<(), FolderError> = match checking.await {
        Ok(checked) => checked,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    };
    checked.map_err(|error| match error {
        source @ (FolderError::OtherCluster { .. } | FolderError::TopicReplaced { .. }) => {
            SimulationError::Origin { servers: kafka.servers(), source }
        }
        error => SimulationError::Output(error),
    })
}

/// The records that the workers' group has committed.
async fn taken(kafka: &KafkaConfig, metadata: &Metadata) -> Result<u64, SimulationError> {
    let partitions = topic::ALL.into_iter().flat_map(|topic| {
        let count = metadata.topics.get(topic).map_or(0, |known| known.partitions.len());
        (0..).take(count).map(move |number| TopicPartition::new(topic, number))
    });
    let committed = Committer::new(kafka.clone(), DEFAULT_GROUP).fetch(&partitions.collect::<Vec<_>>()).await;
    let offsets = committed.map_err(LagError::from)?.into_iter().filter_map(|known| known.offset);
    Ok(offsets.map(|offset| offset.max(0).unsigned_abs()).sum())
}
