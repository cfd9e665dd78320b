//! The topics to compare with: which they are, and each partition's walk beside its log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use superhero_event::topic;
use superhero_kafka::fetch::Budget;
use superhero_kafka::{Cluster, Isolation, KafkaConfig, TopicPartition};
use superhero_sink::PartitionId;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::fetch::Fetcher;
use crate::log::Log;
use crate::origin::Origins;
use crate::survey::Survey;
use crate::walk::walk;
use crate::{Verification, VerifyError, blocking};

/// A cluster that is there answers at once; this is for one that is being started.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// Answers of some MiB between the network and the disk, for each partition.
const FETCHED_AHEAD: usize = 2;

/// A cluster that has the topics of the folders.
pub(crate) struct Topics {
    cluster: Cluster,
    cluster_id: String,
    isolation: Isolation,
    budget: Budget,
    partitions: BTreeSet<PartitionId>,
    /// Topics whose records brokers may take out of the midst.
    compacted: BTreeSet<String>,
}

impl Topics {
    /// Finds the topics that are `wanted`; if that is not said, all of the files' partitions, and all that the simulator writes.
    pub(crate) async fn connect(
        kafka: &KafkaConfig,
        (isolation, budget): (Isolation, Budget),
        origins: &Origins,
        wanted: Option<&BTreeSet<String>>,
        in_files: &BTreeSet<PartitionId>,
    ) -> Result<Self, VerifyError> {
        let cluster = Cluster::connect(kafka, Instant::now() + CONNECT_PATIENCE).await?;
        let metadata = cluster.metadata().await?;
        let servers = kafka.servers();
        origins.check_cluster(&servers, &metadata.cluster_id)?;

        let named = in_files.iter().map(PartitionId::topic).chain(wanted.into_iter().flatten().map(String::as_str));
        let mut topics: BTreeSet<&str> = named.collect();
        if wanted.is_none() {
            topics.extend(topic::ALL.into_iter().filter(|topic| metadata.topics.contains_key(*topic)));
        }
        let mut partitions = BTreeSet::new();
        let mut compacted = BTreeSet::new();
        for (topic, is_compacted) in are_compacted(&cluster, &topics).await? {
            compacted.extend(is_compacted.then_some(topic));
        }
        for topic in topics {
            let Some(known) = metadata.topics.get(topic) else {
                return Err(VerifyError::NoTopic { servers, topic: topic.to_owned() });
            };
            origins.check_topic(topic, &known.id.to_string())?;
            // No files can be of a topic whose name the sink refuses, nor of a negative partition.
            partitions.extend(known.partitions.keys().filter_map(|number| PartitionId::new(topic, *number).ok()));
        }
        Ok(Self { cluster, cluster_id: metadata.cluster_id, isolation, budget, partitions, compacted })
    }

    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Those that are compared.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &PartitionId> {
        self.partitions.iter()
    }

    /// Checks one partition beside its log.
    pub(crate) async fn check(
        &self,
        survey: Arc<Survey>,
        partition: PartitionId,
        figures_of: Option<u128>,
        stop: CancellationToken,
    ) -> Result<Verification, VerifyError> {
        let source = TopicPartition::new(partition.topic(), partition.partition());
        let is_compacted = self.compacted.contains(partition.topic());
        let mut fetcher = Fetcher::new(&self.cluster, source, self.isolation, self.budget.clone());
        // The files were listed before this, so no row is of a record behind the end.
        let (earliest, end) = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(VerifyError::Stopped),
            bounds = fetcher.bounds() => bounds?,
        };
        let (sender, mut steps) = mpsc::channel(FETCHED_AHEAD);
        let walking = {
            let stop = stop.clone();
            blocking(move || {
                let log = Log::new(earliest, end, std::iter::from_fn(move || steps.blocking_recv()));
                let log = log.compacted(is_compacted);
                walk(&survey, &partition, Some(log), figures_of, &stop)
            })
        };
        let sending = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = fetcher.send_all(earliest, end, sender) => {}
            }
        };
        let (walked, ()) = tokio::join!(walking, sending);
        // The walk takes the end of what is sent for the end of the log.
        if stop.is_cancelled() { Err(VerifyError::Stopped) } else { walked }
    }
}

/// Which topics are compacted. Holes in a log would be no proof: whatever a wrong row is of, it has one.
async fn are_compacted(cluster: &Cluster, topics: &BTreeSet<&str>) -> Result<BTreeMap<String, bool>, VerifyError> {
    let mut asked: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let told = cluster.compacted(&asked).await?;
    asked.retain(|topic| !told.contains_key(topic));
    if !asked.is_empty() {
        warn!(
            topics = asked.join(", "),
            "the cluster does not tell whether these topics are compacted, so that rows whose records are gone are called \
             foreign; let this user describe their configurations (DescribeConfigs)"
        );
    }
    Ok(told)
}
