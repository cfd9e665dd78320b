//! How far a group is behind: the ends of its partitions against what it has committed.

use std::collections::BTreeMap;

use rskafka::client::partition::{OffsetAt, PartitionClient};

use crate::group::{Committer, FetchError};
use crate::{ClientError, Cluster, KafkaConfig, TopicPartition, within};

/// Looks at a group's lag, again and again. It has a connection to each partition's leader, so that a look is a round trip each.
#[derive(Debug)]
pub struct LagMeter {
    cluster: Cluster,
    committer: Committer,
    topics: Vec<String>,
    /// Empty before the first look, and after one that failed: rskafka would keep a connection that hangs.
    leaders: BTreeMap<TopicPartition, PartitionClient>,
}

/// The lag of each partition at one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lag {
    /// By partition.
    pub partitions: BTreeMap<TopicPartition, PartitionLag>,
}

/// Offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLag {
    /// The end of what is committed: the offset that the next record will have, or that of the first of an open transaction.
    pub end: i64,
    /// Everything below it is done; the earliest offset that is there where the group has committed nothing yet.
    pub done: i64,
}

/// Why the lag is not known.
#[derive(Debug, thiserror::Error)]
pub enum LagError {
    /// The partitions' ends.
    #[error(transparent)]
    Ends(#[from] ClientError),
    /// The group's offsets.
    #[error(transparent)]
    Committed(#[from] FetchError),
}

impl PartitionLag {
    /// Records that are not done. Offsets without records count too.
    pub fn records(self) -> u64 {
        self.end.saturating_sub(self.done).max(0).unsigned_abs()
    }
}

impl Lag {
    /// Records of all partitions that are not done.
    pub fn records(&self) -> u64 {
        self.partitions.values().map(|partition| partition.records()).sum()
    }

    /// Offsets of all partitions that are done.
    pub fn done(&self) -> u64 {
        self.partitions.values().map(|partition| partition.done.max(0).unsigned_abs()).sum()
    }
}

impl LagMeter {
    /// For a group and the topics that it reads; connects at the first look.
    pub fn new(
        cluster: Cluster,
        group: impl Into<String>,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let committer = Committer::new(cluster.config().clone(), group);
        Self { cluster, committer, topics: topics.into_iter().map(Into::into).collect(), leaders: BTreeMap::new() }
    }

    /// One look. Committed offsets are asked for before the ends, so that the lag is never told too small.
    ///
    /// # Errors
    /// [`LagError`]; the next look connects anew.
    ///
    /// # Cancellation
    /// Safe; the next look connects anew.
    pub async fn look(&mut self) -> Result<Lag, LagError> {
        let mut leaders = std::mem::take(&mut self.leaders);
        if leaders.is_empty() {
            leaders = self.connect().await?;
        }
        let config = self.cluster.config();
        let partitions: Vec<_> = leaders.keys().cloned().collect();
        let committed = self.committer.fetch(&partitions).await?;
        let mut lag = Lag::default();
        for known in committed {
            let Some(leader) = leaders.get(&known.partition) else { continue };
            let end = offset(config, &known.partition, leader, OffsetAt::Latest).await?;
            let done = match known.offset {
                Some(offset) => offset,
                None => offset(config, &known.partition, leader, OffsetAt::Earliest).await?,
            };
            lag.partitions.insert(known.partition, PartitionLag { end, done });
        }
        self.leaders = leaders;
        Ok(lag)
    }

    async fn connect(&self) -> Result<BTreeMap<TopicPartition, PartitionClient>, ClientError> {
        let counts = self.cluster.topics().await?;
        let mut leaders = BTreeMap::new();
        for topic in &self.topics {
            let partitions = counts.get(topic).copied().unwrap_or(0);
            for partition in (0..).take(partitions) {
                let leader = self.cluster.partition_client(topic, partition).await?;
                leaders.insert(TopicPartition::new(topic, partition), leader);
            }
        }
        Ok(leaders)
    }
}

async fn offset(
    config: &KafkaConfig,
    partition: &TopicPartition,
    leader: &PartitionClient,
    at: OffsetAt,
) -> Result<i64, ClientError> {
    within(config.request_timeout, format!("offset of {partition}"), leader.get_offset(at)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_the_sum_of_what_its_partitions_have_not_done() {
        let partition = |number| TopicPartition::new("t", number);
        let lag = Lag {
            partitions: BTreeMap::from([
                (partition(0), PartitionLag { end: 10, done: 4 }),
                (partition(1), PartitionLag { end: 7, done: 7 }),
                // A topic that was made again under a group that had read the old one.
                (partition(2), PartitionLag { end: 3, done: 5 }),
            ]),
        };
        assert_eq!((lag.records(), lag.done()), (6, 16));
    }
}
