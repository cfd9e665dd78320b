//! The topics and what they hold together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kafka_protocol::ResponseError;
use thiserror::Error;
use uuid::Uuid;

use crate::BrokerConfig;
use crate::batch::{Batch, ProducerSequence};
use crate::log::{Limits, Log, OutOfRange};
use crate::long_poll::FetchId;
use crate::producers::{MAX_PRODUCERS_OF_ALL, Producers};
use crate::topic_config::TopicConfig;

/// Kafka's own bound, which comes from file names.
const MAX_NAME_BYTES: usize = 249;

/// All topics of the broker.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: HashMap<Uuid, String>,
    partitions: usize,
    bytes: usize,
    /// That partitions remember.
    producers: usize,
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) config: TopicConfig,
    partitions: Vec<Partition>,
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) log: Log,
    pub(crate) producers: Producers,
    /// The fetches that wait for records of this partition.
    pub(crate) waiting: BTreeSet<FetchId>,
}

/// Why a topic is not made or changed.
#[derive(Debug, Error)]
pub(crate) enum TopicError {
    #[error("topic {name} is there already")]
    Exists { name: String },
    #[error("there is no topic {name}")]
    Unknown { name: String },
    #[error(
        "{name:?} is no name for a topic: 1 to {MAX_NAME_BYTES} letters, digits, '.', '_' and '-', and not '.' or '..'"
    )]
    Name { name: String },
    #[error("a topic of {count} partitions; give 1 or more, or -1 for {default}")]
    Partitions { count: i32, default: i32 },
    #[error("topic {name} has {current} partitions, and {count} are asked for; partitions can only become more")]
    NotMore { name: String, current: usize, count: i32 },
    #[error("{count} partitions more, and this broker holds {limit} of all topics together, {current} of them now")]
    TooManyPartitions { count: usize, current: usize, limit: usize },
    #[error("a replication factor of {factor}, and this broker is alone; give 1 or -1")]
    Replication { factor: i16 },
    #[error("partitions assigned to other brokers than {node}, and this broker is alone")]
    Assignment { node: i32 },
    #[error("topic configuration {name}: {reason}")]
    Config { name: String, reason: String },
}

impl TopicError {
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::Exists { .. } => ResponseError::TopicAlreadyExists,
            Self::Unknown { .. } => ResponseError::UnknownTopicOrPartition,
            Self::Name { .. } => ResponseError::InvalidTopicException,
            Self::Partitions { .. } | Self::NotMore { .. } => ResponseError::InvalidPartitions,
            Self::TooManyPartitions { .. } => ResponseError::PolicyViolation,
            Self::Replication { .. } => ResponseError::InvalidReplicationFactor,
            Self::Assignment { .. } => ResponseError::InvalidReplicaAssignment,
            Self::Config { .. } => ResponseError::InvalidConfig,
        }
    }
}

/// Whether Apache Kafka keeps a topic of that name to itself. There are none here, but for clients it is the same.
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state")
}

impl Topics {
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    /// The name of the topic with this id.
    pub(crate) fn name_of(&self, id: Uuid) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// By name, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Topic)> {
        self.by_name.iter().map(|(name, topic)| (name.as_str(), topic))
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.get_mut(topic)?.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    /// Whether a topic could be made; tells how many partitions it would have.
    pub(crate) fn check_new(&self, name: &str, count: i32, broker: &BrokerConfig) -> Result<usize, TopicError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.chars().all(legal) || matches!(name, "." | "..") {
            return Err(TopicError::Name { name: name.chars().take(MAX_NAME_BYTES).collect() });
        }
        if self.by_name.contains_key(name) {
            return Err(TopicError::Exists { name: name.to_owned() });
        }
        let default = broker.default_partitions;
        let count = if count == -1 { default } else { count };
        let wanted = usize::try_from(count).ok().filter(|wanted| *wanted > 0);
        let wanted = wanted.ok_or(TopicError::Partitions { count, default })?;
        self.check_room(wanted, broker)?;
        Ok(wanted)
    }

    /// Makes a topic; a `count` of -1 is the broker's default.
    pub(crate) fn create(
        &mut self,
        name: &str,
        count: i32,
        config: TopicConfig,
        broker: &BrokerConfig,
    ) -> Result<&Topic, TopicError> {
        let count = self.check_new(name, count, broker)?;
        let id = Uuid::new_v4();
        let mut partitions = Vec::new();
        partitions.resize_with(count, Partition::default);
        self.partitions += count;
        self.names.insert(id, name.to_owned());
        Ok(self.by_name.entry(name.to_owned()).or_insert(Topic { id, config, partitions }))
    }

    /// Whether a topic could have `count` partitions from now on.
    pub(crate) fn check_growth(&self, name: &str, count: i32, broker: &BrokerConfig) -> Result<usize, TopicError> {
        let topic = self.get(name).ok_or_else(|| TopicError::Unknown { name: name.to_owned() })?;
        let current = topic.partitions.len();
        let wanted = usize::try_from(count).ok().filter(|wanted| *wanted > current);
        let wanted = wanted.ok_or_else(|| TopicError::NotMore { name: name.to_owned(), current, count })?;
        self.check_room(wanted - current, broker)?;
        Ok(wanted)
    }

    /// Gives a topic more partitions.
    pub(crate) fn grow(&mut self, name: &str, count: i32, broker: &BrokerConfig) -> Result<(), TopicError> {
        let wanted = self.check_growth(name, count, broker)?;
        if let Some(topic) = self.by_name.get_mut(name) {
            self.partitions += wanted - topic.partitions.len();
            topic.partitions.resize_with(wanted, Partition::default);
        }
        Ok(())
    }

    /// Deletes a topic and hands out what it was.
    pub(crate) fn delete(&mut self, name: &str) -> Option<Topic> {
        let topic = self.by_name.remove(name)?;
        self.names.remove(&topic.id);
        self.partitions -= topic.partitions.len();
        self.bytes -= topic.partitions.iter().map(|partition| partition.log.bytes()).sum::<usize>();
        self.producers -= topic.partitions.iter().map(|partition| partition.producers.len()).sum::<usize>();
        Some(topic)
    }

    /// Remembers a batch of an idempotent producer that is appended to a partition, so that it is known again.
    pub(crate) fn remember(&mut self, topic: &str, partition: i32, sequence: &ProducerSequence, base_offset: i64) {
        let Some(at) = self.partition_mut(topic, partition) else { return };
        let before = at.producers.len();
        at.producers.appended(sequence, base_offset);
        let after = at.producers.len();
        self.producers = self.producers + after - before;
        if self.producers > MAX_PRODUCERS_OF_ALL {
            let all = self.by_name.values_mut().flat_map(|topic| &mut topic.partitions);
            if let Some(most) = all.max_by_key(|partition| partition.producers.len()) {
                most.producers.forget_silent();
                self.producers -= 1;
            }
        }
    }

    /// Appends a batch, for which the partition has to be there, and tells its first offset.
    pub(crate) fn append(&mut self, topic: &str, partition: i32, batch: Batch, broker: &BrokerConfig) -> Option<i64> {
        let limits = self.get(topic)?.config.limits(broker);
        let log = &mut self.partition_mut(topic, partition)?.log;
        let before = log.bytes();
        let base_offset = log.append(batch, &limits);
        let after = log.bytes();
        self.bytes = self.bytes + after - before;
        self.make_room(broker.max_log_bytes);
        Some(base_offset)
    }

    /// Moves the start of a partition's log; none if there is no such partition.
    pub(crate) fn truncate_before(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Option<Result<i64, OutOfRange>> {
        let log = &mut self.partition_mut(topic, partition)?.log;
        let before = log.bytes();
        // -1 is the end (KIP-107).
        let truncated = log.truncate_before(if offset == -1 { log.end() } else { offset });
        let (start, after) = (log.start(), log.bytes());
        self.bytes = self.bytes + after - before;
        Some(truncated.map(|()| start))
    }

    /// Changes a topic's configuration, and drops what is then too much.
    pub(crate) fn configure(&mut self, name: &str, config: TopicConfig, broker: &BrokerConfig) {
        let Limits { retention_bytes, .. } = config.limits(broker);
        let Some(topic) = self.by_name.get_mut(name) else {
            return;
        };
        topic.config = config;
        for partition in &mut topic.partitions {
            let before = partition.log.bytes();
            partition.log.retain(retention_bytes);
            self.bytes = self.bytes + partition.log.bytes() - before;
        }
    }

    fn check_room(&self, count: usize, broker: &BrokerConfig) -> Result<(), TopicError> {
        let (current, limit) = (self.partitions, broker.max_partitions);
        match current.checked_add(count) {
            Some(all) if all <= limit => Ok(()),
            _ => Err(TopicError::TooManyPartitions { count, current, limit }),
        }
    }

    /// Looks through all partitions, but only once for a segment's worth of records.
    fn make_room(&mut self, max_log_bytes: usize) {
        while self.bytes > max_log_bytes {
            let all = self.by_name.values_mut().flat_map(|topic| &mut topic.partitions);
            let Some(largest) = all.max_by_key(|partition| partition.log.bytes()) else {
                return;
            };
            let before = largest.log.bytes();
            largest.log.drop_oldest_segment();
            self.bytes = self.bytes + largest.log.bytes() - before;
        }
    }
}

impl Topic {
    pub(crate) fn partitions(&self) -> &[Partition] {
        &self.partitions
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::batch::tests::batch;

    #[test]
    fn a_name_is_what_kafka_takes_for_one() {
        let topics = Topics::default();
        for (name, good) in [
            ("a", true),
            ("raw.events_2-x", true),
            ("", false),
            (".", false),
            ("..", false),
            ("...", true),
            ("a b", false),
            ("ä", false),
            ("a/b", false),
        ] {
            assert_eq!(topics.check_new(name, 1, &BrokerConfig::default()).is_ok(), good, "{name:?}");
        }
        assert!(topics.check_new(&"x".repeat(249), 1, &BrokerConfig::default()).is_ok());
        assert!(topics.check_new(&"x".repeat(250), 1, &BrokerConfig::default()).is_err());
    }

    #[test]
    fn partitions_are_bounded_over_all_topics() {
        let broker = BrokerConfig { max_partitions: 5, default_partitions: 3, ..BrokerConfig::default() };
        let mut topics = Topics::default();
        topics.create("a", -1, TopicConfig::default(), &broker).unwrap();
        let code = |result: Result<_, TopicError>| result.map(|_: ()| ()).unwrap_err().code();
        assert_eq!(
            code(topics.create("b", 3, TopicConfig::default(), &broker).map(|_| ())),
            ResponseError::PolicyViolation
        );
        assert_eq!(
            code(topics.create("b", i32::MAX, TopicConfig::default(), &broker).map(|_| ())),
            ResponseError::PolicyViolation
        );
        assert_eq!(
            code(topics.create("b", 0, TopicConfig::default(), &broker).map(|_| ())),
            ResponseError::InvalidPartitions
        );
        assert_eq!(
            code(topics.create("a", 1, TopicConfig::default(), &broker).map(|_| ())),
            ResponseError::TopicAlreadyExists
        );
        assert_eq!(code(topics.grow("a", 3, &broker)), ResponseError::InvalidPartitions);
        assert_eq!(code(topics.grow("a", 6, &broker)), ResponseError::PolicyViolation);
        topics.grow("a", 5, &broker).unwrap();
        assert!(topics.partition("a", 4).is_some() && topics.partition("a", 5).is_none());
        let id = topics.delete("a").unwrap().id;
        assert_eq!(topics.name_of(id), None);
        topics.create("b", 5, TopicConfig::default(), &broker).unwrap();
    }

    #[test]
    fn producers_are_bounded_over_all_partitions() {
        let broker = BrokerConfig::default();
        let mut topics = Topics::default();
        topics.create("t", 150, TopicConfig::default(), &broker).unwrap();
        let mut id = 0;
        for partition in 0..150 {
            for _ in 0..700 {
                topics.remember("t", partition, &ProducerSequence { id, epoch: 0, first: 0, last: 0 }, 0);
                id += 1;
            }
        }
        let remembered = || topics.get("t").unwrap().partitions().iter().map(|partition| partition.producers.len());
        assert_eq!((remembered().sum::<usize>(), topics.producers), (MAX_PRODUCERS_OF_ALL, MAX_PRODUCERS_OF_ALL));
        assert!(remembered().all(|count| count >= 600));
        topics.delete("t").unwrap();
        assert_eq!(topics.producers, 0);
    }

    #[test]
    fn the_largest_partition_loses_records_when_all_take_too_much() {
        let broker = BrokerConfig { max_log_bytes: 2500, segment_bytes: 500, ..BrokerConfig::default() };
        let mut topics = Topics::default();
        topics.create("large", 1, TopicConfig::default(), &broker).unwrap();
        topics.create("small", 1, TopicConfig::default(), &broker).unwrap();
        topics.append("small", 0, batch(&[1]), &broker).unwrap();
        for _ in 0..50 {
            topics.append("large", 0, batch(&[1]), &broker).unwrap();
            assert!(topics.bytes <= broker.max_log_bytes);
        }
        assert_eq!(topics.partition("small", 0).unwrap().log.start(), 0);
        let large = &topics.partition("large", 0).unwrap().log;
        assert!(large.start() > 0 && large.end() == 50);
        topics.delete("large").unwrap();
        topics.truncate_before("small", 0, -1).unwrap().unwrap();
        assert_eq!(topics.bytes, 0);
    }
}
