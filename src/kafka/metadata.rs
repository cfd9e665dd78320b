//! What the cluster tells of itself: its id, brokers, topics with their ids, leaders.
//!
//! Metadata version 10 (the first with topic ids), never with auto-creation; CreateTopics version 4.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, CreateTopicsRequest, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::KafkaConfig;
use crate::wire::{BoxFuture, Connection, WireError};

const METADATA: i16 = 10;
const CREATE_TOPICS: i16 = 4;

/// One look at the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The cluster's id, as its brokers were formatted with.
    pub cluster_id: String,
    /// The brokers that are up, by node id.
    pub brokers: BTreeMap<i32, Broker>,
    /// The topics that exist, by name.
    pub topics: BTreeMap<String, TopicMetadata>,
    controller: i32,
}

/// A broker that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub node_id: i32,
    /// Where it listens: `host:port`.
    pub address: String,
}

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// New each time that a topic of this name is made.
    pub id: Uuid,
    /// Made by the brokers for themselves.
    pub is_internal: bool,
    /// Its partitions, by number.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

/// A partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// The leader's node id; `None` while there is none.
    pub leader: Option<i32>,
}

/// Why the cluster could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// No bootstrap server gave an answer; the reasons in their order.
    #[error("no Kafka bootstrap server answers: {}", .reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoBroker {
        /// One for each server.
        reasons: Vec<WireError>,
    },
    /// A topic cannot be made.
    #[error("Kafka broker {broker} does not make topic {topic} with {partitions} partitions and replication factor {replication_factor}: {error}{}", .message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Create {
        /// The broker's `host:port`.
        broker: String,
        /// The topic's name.
        topic: String,
        /// The partitions asked for.
        partitions: i32,
        /// The copies asked for.
        replication_factor: i16,
        /// What the broker says.
        error: ResponseError,
        /// What it adds.
        message: Option<String>,
    },
    /// The broker that makes topics.
    #[error(transparent)]
    Advertised(#[from] Advertised),
    /// A broker's answer that contradicts the protocol.
    #[error("Kafka broker {broker} gives metadata without {what}; use Apache Kafka 2.8 or newer")]
    Incomplete {
        /// The broker's `host:port`.
        broker: String,
        /// What is missing.
        what: &'static str,
    },
}

/// The cluster tells of a broker where it is, and it is not there for us.
#[derive(Debug, thiserror::Error)]
#[error(
    "broker {node_id} of the Kafka cluster tells its clients to connect to {address}, which does not work from here: {source}; \
     correct the broker's advertised.listeners, or make that address known here"
)]
pub struct Advertised {
    /// The broker's id.
    pub node_id: i32,
    /// The `host:port` that it advertises.
    pub address: String,
    /// What comes of connecting to it.
    pub source: Box<WireError>,
}

impl Advertised {
    pub(crate) fn by(broker: &Broker, source: WireError) -> Self {
        Self { node_id: broker.node_id, address: broker.address.clone(), source: Box::new(source) }
    }
}

impl MetadataError {
    /// Whether no other attempt at these addresses will fare better.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::NoBroker { reasons } if reasons.iter().all(WireError::is_for_good))
    }
}

/// How often this process has looked.
static LOOKS: AtomicUsize = AtomicUsize::new(0);

/// A connection to a bootstrap server that answers, together with a look at the cluster. Each time another one is asked first: one
/// that stood still, or is cut off from the others, may tell what has not been so for minutes.
pub(crate) fn look<'a>(
    config: &'a KafkaConfig,
    topics: Option<&'a [String]>,
) -> BoxFuture<'a, Result<(Connection, Metadata), MetadataError>> {
    Box::pin(async move {
        let mut reasons = Vec::new();
        for server in in_turn(&config.bootstrap_servers, LOOKS.fetch_add(1, Ordering::Relaxed)) {
            let answered = async {
                let mut connection = Connection::open(server, config).await?;
                let needed = [(ApiKey::Metadata, METADATA), (ApiKey::CreateTopics, CREATE_TOPICS)];
                connection.require(&needed, config.request_timeout).await?;
                let response = ask(&mut connection, topics, config.request_timeout).await?;
                Ok((connection, response))
            };
            match answered.await {
                Ok((connection, response)) => {
                    let metadata = Metadata::new(connection.broker(), response)?;
                    return Ok((connection, metadata));
                }
                Err(reason) => reasons.push(reason),
            }
        }
        Err(MetadataError::NoBroker { reasons })
    })
}

/// All servers, beginning with another one each time.
fn in_turn(servers: &[String], time: usize) -> impl Iterator<Item = &String> {
    servers.iter().cycle().skip(time % servers.len().max(1)).take(servers.len())
}

/// The number of partitions of each of `topics` that exists.
pub(crate) async fn partition_counts(
    connection: &mut Connection,
    topics: &[String],
    limit: Duration,
) -> Result<BTreeMap<String, i32>, WireError> {
    let response = ask(connection, Some(topics), limit).await?;
    let counts = response.topics.into_iter().filter(|topic| topic.error_code == 0).filter_map(|topic| {
        let partitions = i32::try_from(topic.partitions.len()).ok()?;
        Some((topic.name?.to_string(), partitions))
    });
    Ok(counts.collect())
}

async fn ask(
    connection: &mut Connection,
    topics: Option<&[String]>,
    limit: Duration,
) -> Result<MetadataResponse, WireError> {
    let topics = topics.map(|topics| {
        let named = |name: &String| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        topics.iter().map(named).collect()
    });
    let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
    connection.call(METADATA, &request, limit).await
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

impl Metadata {
    fn new(broker: &str, response: MetadataResponse) -> Result<Self, MetadataError> {
        let incomplete = |what| MetadataError::Incomplete { broker: broker.to_owned(), what };
        let cluster_id = response.cluster_id.ok_or_else(|| incomplete("a cluster id"))?.to_string();
        let brokers = response.brokers.into_iter().map(|b| {
            let node_id = b.node_id.0;
            (node_id, Broker { node_id, address: address(&b.host, b.port) })
        });
        // A topic with an error does not exist, or not yet.
        let known = response.topics.into_iter().filter(|topic| topic.error_code == 0);
        let mut topics = BTreeMap::new();
        for topic in known {
            let name = topic.name.ok_or_else(|| incomplete("a topic's name"))?.to_string();
            if topic.topic_id.is_nil() {
                return Err(incomplete("a topic's id"));
            }
            let partitions = topic.partitions.into_iter().map(|p| {
                let leader = Some(p.leader_id.0).filter(|leader| *leader >= 0);
                (p.partition_index, PartitionMetadata { leader })
            });
            let partitions = partitions.collect();
            topics.insert(name, TopicMetadata { id: topic.topic_id, is_internal: topic.is_internal, partitions });
        }
        Ok(Self { cluster_id, brokers: brokers.collect(), topics, controller: response.controller_id.0 })
    }

    /// The address of the leader of a partition, if there are a leader and its address.
    pub fn leader_address(&self, topic: &str, partition: i32) -> Option<&str> {
        self.leader(topic, partition).map(|leader| leader.address.as_str())
    }

    /// The leader of a partition, if there are a leader and its address.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<&Broker> {
        let leader = self.topics.get(topic)?.partitions.get(&partition)?.leader?;
        self.brokers.get(&leader)
    }

    /// The leaders of all partitions of `topics`, each once.
    pub(crate) fn leaders<'a>(&'a self, topics: &'a [String]) -> impl Iterator<Item = &'a Broker> {
        let topics = topics.iter().filter_map(|name| self.topics.get(name));
        let leaders: BTreeSet<i32> =
            topics.flat_map(|topic| topic.partitions.values()).filter_map(|partition| partition.leader).collect();
        leaders.into_iter().filter_map(|leader| self.brokers.get(&leader))
    }
}

/// Makes those of `names` that `metadata` lacks, and says which. A topic that somebody else makes meanwhile is as good.
pub(crate) async fn create_missing(
    config: &KafkaConfig,
    (mut connection, metadata): (Connection, Metadata),
    names: &[String],
    partitions: i32,
    replication_factor: i16,
) -> Result<Vec<String>, MetadataError> {
    let missing: Vec<&String> = names.iter().filter(|name| !metadata.topics.contains_key(*name)).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let one = |reason| MetadataError::NoBroker { reasons: vec![reason] };
    // Where brokers do not forward, only the controller makes topics.
    if let Some(controller) = metadata.brokers.get(&metadata.controller)
        && controller.address != connection.broker()
    {
        let opened = Connection::open(&controller.address, config).await;
        connection = opened.map_err(|source| Advertised::by(controller, source))?;
    }
    let wanted = missing.iter().map(|name| {
        let topic = CreatableTopic::default().with_name(topic_name(name));
        topic.with_num_partitions(partitions).with_replication_factor(replication_factor)
    });
    let timeout_ms = i32::try_from(config.request_timeout.as_millis()).unwrap_or(i32::MAX);
    let request = CreateTopicsRequest::default().with_topics(wanted.collect()).with_timeout_ms(timeout_ms);
    let answer = connection.call(CREATE_TOPICS, &request, config.request_timeout).await.map_err(one)?;
    let mut created = Vec::new();
    for topic in answer.topics {
        match ResponseError::try_from_code(topic.error_code) {
            None => created.push(topic.name.to_string()),
            Some(ResponseError::TopicAlreadyExists) => {}
            Some(error) => {
                return Err(MetadataError::Create {
                    broker: connection.broker().to_owned(),
                    topic: topic.name.to_string(),
                    partitions,
                    replication_factor,
                    error,
                    message: topic.error_message.map(|m| m.to_string()),
                });
            }
        }
    }
    Ok(created)
}

/// `host:port`, with an IPv6 address in brackets.
pub(crate) fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_asked_first_in_its_turn_and_each_once() {
        let servers = ["a", "b", "c"].map(str::to_owned);
        let order = |time| in_turn(&servers, time).map(String::as_str).collect::<Vec<_>>();
        assert_eq!([order(0), order(1), order(2)], [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]);
        assert_eq!(order(usize::MAX).len(), 3);
        assert_eq!(in_turn(&[], 7).count(), 0);
    }
}
