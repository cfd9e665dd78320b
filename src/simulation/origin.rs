//! Whether the folder that the run's files go to can take them, asked before anything is played.

use std::path::Path;

use superhero_event::topic;
use superhero_kafka::{Cluster, KafkaConfig};
use superhero_sink::{Folder, FolderError};
use tokio::time::Instant;

use crate::SimulationError;
use crate::pipeline::CONNECT_TIMEOUT;

/// Refuses a folder that cannot be written, that has rows of another cluster, or of topics that were deleted and made again since.
pub(crate) async fn check(folder: &Path, kafka: &KafkaConfig) -> Result<(), SimulationError> {
    let metadata = Cluster::connect(kafka, Instant::now() + CONNECT_TIMEOUT).await?.metadata().await?;
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
