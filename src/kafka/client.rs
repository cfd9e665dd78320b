//! rskafka, set up so that no call can hang: capped back-off, deadlines, and only topics that exist.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rskafka::BackoffConfig;
pub use rskafka::client::partition::OffsetAt;
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::backoff::Backoff;
use crate::group::coordinator;
use crate::metadata::Advertised;
use crate::wire::Connection;
use crate::{Broker, KafkaConfig, Metadata, MetadataError, TopicPartition, metadata};

/// The largest answer that rskafka may take: a fetch of one partition and some metadata beside it.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A cluster that has answered.
#[derive(Debug)]
pub struct Cluster {
    config: KafkaConfig,
    /// `None` after a partition's leader was not found: rskafka would go on asking the same broker.
    rskafka: Mutex<Option<Arc<Client>>>,
}

/// Why a call on the cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// No answer in time.
    #[error("Kafka: no answer to \"{what}\" within {limit_ms} ms; check that the brokers run and can be reached")]
    Timeout {
        /// The call.
        what: String,
        /// Its bound.
        limit_ms: u128,
    },
    /// rskafka gave up.
    #[error("Kafka: \"{what}\" failed: {}", in_words(source))]
    Rskafka {
        /// The call.
        what: String,
        /// What rskafka says.
        source: Box<rskafka::client::error::Error>,
    },
    /// Nobody made the topic, and asking rskafka for it might.
    #[error("Kafka topic {topic} does not exist; create it, for example with `superhero wait`")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The topic has fewer partitions.
    #[error("Kafka topic {topic} has {partitions} partitions, and none with number {partition}")]
    UnknownPartition {
        /// The topic's name.
        topic: String,
        /// The number asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// No broker leads the partition just now.
    #[error("Kafka partition {0} has no leader")]
    NoLeader(TopicPartition),
    /// A broker cannot be reached where it says that it is.
    #[error(transparent)]
    Advertised(#[from] Advertised),
    /// The broker that keeps a group.
    #[error("no connection to the coordinator of group {group}: {reason}")]
    Coordinator {
        /// The group.
        group: String,
        /// What the last attempt failed with.
        reason: String,
    },
}

impl ClientError {
    /// Whether no other attempt at these addresses will fare better.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Metadata(error) if error.is_for_good())
    }
}

/// What rskafka says, but for the request and the answer of a refusal, which it shows as a programmer sees them.
fn in_words(error: &rskafka::client::error::Error) -> String {
    match error {
        rskafka::client::error::Error::ServerError { protocol_error, error_message: Some(message), .. } => {
            format!("{protocol_error}: {message}")
        }
        rskafka::client::error::Error::ServerError { protocol_error, .. } => protocol_error.to_string(),
        other => other.to_string(),
    }
}

/// Awaits an rskafka call for at most `limit`; `what` names it in the error.
///
/// # Errors
///
/// [`ClientError::Timeout`], after which the `PartitionClient` is to be dropped for a new one, since rskafka keeps the
/// connection that hangs; [`ClientError::Rskafka`] is what the call itself returns. A produce that fails either way may
/// have been carried out.
///
/// # Cancellation
///
/// As that of the call.
pub async fn within<T>(
    limit: Duration,
    what: impl Into<String>,
    call: impl Future<Output = rskafka::client::error::Result<T>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ClientError::Rskafka { what: what.into(), source: Box::new(source) }),
        Err(_) => Err(ClientError::Timeout { what: what.into(), limit_ms: limit.as_millis() }),
    }
}

impl Cluster {
    /// Connects to a cluster, trying again until `deadline` unless that is in vain.
    ///
    /// # Errors
    ///
    /// What the last attempt failed with.
    pub async fn connect(config: &KafkaConfig, deadline: Instant) -> Result<Self, ClientError> {
        until(deadline, format!("connect to {}", config.servers()), || Self::connect_once(config)).await
    }

    pub(crate) async fn connect_once(config: &KafkaConfig) -> Result<Self, ClientError> {
        let cluster = Self { config: config.clone(), rskafka: Mutex::new(None) };
        cluster.rskafka().await?;
        Ok(cluster)
    }

    /// Makes sure that all those are where the cluster says that they are who have to be asked for every record of `topics` and for
    /// the offsets of `group`: the leaders, and the coordinator. Tries again until `deadline`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Advertised`] names the broker and its address; others as [`metadata`](Self::metadata).
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn reach(&self, topics: &[String], group: &str, deadline: Instant) -> Result<(), ClientError> {
        // So that a broker that is silent is told as such before the time is over.
        let longest = deadline.saturating_duration_since(Instant::now()) / 3;
        let config = KafkaConfig {
            request_timeout: self.config.request_timeout.min(longest),
            connect_timeout: self.config.connect_timeout.min(longest),
            ..self.config.clone()
        };
        let asking = Self { config, rskafka: Mutex::new(None) };
        let once = || async {
            asking.reach_leaders(topics).await?;
            match coordinator::connect(&asking.config, group).await {
                Ok(_) => Ok(()),
                Err(error) => Err(ClientError::Coordinator { group: group.to_owned(), reason: error.to_string() }),
            }
        };
        until(deadline, format!("reach the leaders of {}", topics.join(", ")), once).await
    }

    /// Connects once to each broker that leads a partition of `topics`; a topic that is not there has none.
    pub(crate) async fn reach_leaders(&self, topics: &[String]) -> Result<(), ClientError> {
        let (_, metadata) = metadata::look(&self.config, Some(topics)).await?;
        for leader in metadata.leaders(topics) {
            self.greet(leader).await?;
        }
        Ok(())
    }

    /// Connects to a broker and makes sure that it is one.
    async fn greet(&self, broker: &Broker) -> Result<(), ClientError> {
        let mut connection = self.connect_to(broker).await?;
        let required = connection.require(&[], self.config.request_timeout).await;
        Ok(required.map_err(|source| Advertised::by(broker, source))?)
    }

    async fn connect_to(&self, broker: &Broker) -> Result<Connection, ClientError> {
        let opened = Connection::open(&broker.address, &self.config).await;
        Ok(opened.map_err(|source| Advertised::by(broker, source))?)
    }

    /// How the cluster is reached.
    pub fn config(&self) -> &KafkaConfig {
        &self.config
    }

    /// A look at the cluster and all its topics: cluster id, topic ids, partitions, leaders.
    ///
    /// # Errors
    ///
    /// [`ClientError::Metadata`] with the reason of every bootstrap server.
    pub async fn metadata(&self) -> Result<Metadata, ClientError> {
        Ok(metadata::look(&self.config, None).await?.1)
    }

    /// Whether each of the topics is compacted, at present; those that the cluster does not let us ask for are left out.
    ///
    /// # Errors
    ///
    /// [`ClientError::Metadata`].
    pub async fn compacted(&self, topics: &[String]) -> Result<BTreeMap<String, bool>, ClientError> {
        Ok(crate::retention::compacted(&self.config, topics).await?)
    }

    /// The topics that are not the brokers' own, each with the number of its partitions.
    ///
    /// # Errors
    ///
    /// As [`metadata`](Self::metadata).
    pub async fn topics(&self) -> Result<BTreeMap<String, usize>, ClientError> {
        let topics = self.metadata().await?.topics.into_iter().filter(|(_, topic)| !topic.is_internal);
        Ok(topics.map(|(name, topic)| (name, topic.partitions.len())).collect())
    }

    /// Makes those of `names` that do not exist, and says which it made. Existing ones are left as they are, whatever
    /// their partitions; one that somebody else makes at the same time is as good. Leaders may take a moment to appear.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Create`] names the topic and what was asked for.
    pub async fn create_missing_topics(
        &self,
        names: &[String],
        partitions: i32,
        replication_factor: i16,
    ) -> Result<Vec<String>, ClientError> {
        let look = metadata::look(&self.config, Some(names)).await?;
        Ok(metadata::create_missing(&self.config, look, names, partitions, replication_factor).await?)
    }

    /// rskafka's client for producing to and fetching from one partition, with a connection of its own. Calls on it are
    /// to go through [`within`].
    ///
    /// # Errors
    ///
    /// [`ClientError::UnknownTopic`] and [`ClientError::UnknownPartition`] without asking rskafka, whose requests would
    /// make brokers create the topic.
    pub async fn partition_client(&self, topic: &str, partition: i32) -> Result<PartitionClient, ClientError> {
        self.existing(topic, partition).await?;
        self.existing_partition(topic, partition).await
    }

    /// A connection to the partition's leader. Each time another broker is asked first who that is.
    ///
    /// # Errors
    ///
    /// [`ClientError::UnknownTopic`], [`ClientError::UnknownPartition`], [`ClientError::NoLeader`] and [`ClientError::Advertised`].
    pub(crate) async fn connect_to_leader(&self, of: &TopicPartition) -> Result<Connection, ClientError> {
        self.connect_to(&self.leader(of).await?).await
    }

    async fn leader(&self, of: &TopicPartition) -> Result<Broker, ClientError> {
        let metadata = self.existing(&of.topic, of.partition).await?;
        metadata.leader(&of.topic, of.partition).cloned().ok_or_else(|| ClientError::NoLeader(of.clone()))
    }

    /// A look at a topic that has the partition.
    async fn existing(&self, topic: &str, partition: i32) -> Result<Metadata, ClientError> {
        let (_, metadata) = metadata::look(&self.config, Some(&[topic.to_owned()])).await?;
        let known = metadata.topics.get(topic).ok_or_else(|| ClientError::UnknownTopic { topic: topic.to_owned() })?;
        if !known.partitions.contains_key(&partition) {
            let partitions = known.partitions.len();
            return Err(ClientError::UnknownPartition { topic: topic.to_owned(), partition, partitions });
        }
        Ok(metadata)
    }

    /// The first offset of a partition, or the one behind its last. After a failure the next call asks another broker who leads.
    ///
    /// # Errors
    ///
    /// As [`partition_client`](Self::partition_client).
    pub async fn offset(&self, of: &TopicPartition, at: OffsetAt) -> Result<i64, ClientError> {
        let asking = async {
            let client = self.partition_client(&of.topic, of.partition).await?;
            within(self.config.request_timeout, format!("offsets of {of}"), client.get_offset(at)).await
        };
        let answer = asking.await;
        // rskafka goes on asking the same broker, which may tell of a leader that has been none for long, and be that leader itself.
        if answer.is_err() {
            self.rskafka.lock().await.take();
        }
        answer
    }

    /// The end of each partition of a topic: the offset that the next record will have, or that of the first record of an open
    /// transaction, since rskafka asks for what is committed.
    ///
    /// # Errors
    ///
    /// As [`partition_client`](Self::partition_client).
    pub async fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>, ClientError> {
        self.offsets(topic, OffsetAt::Latest).await
    }

    /// The offset of the first record that each partition of a topic still has (its end, if there is none).
    ///
    /// # Errors
    ///
    /// As [`partition_client`](Self::partition_client).
    pub async fn earliest_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>, ClientError> {
        self.offsets(topic, OffsetAt::Earliest).await
    }

    async fn offsets(&self, topic: &str, at: OffsetAt) -> Result<BTreeMap<i32, i64>, ClientError> {
        let (_, metadata) = metadata::look(&self.config, Some(&[topic.to_owned()])).await?;
        let known = metadata.topics.get(topic).ok_or_else(|| ClientError::UnknownTopic { topic: topic.to_owned() })?;
        let mut offsets = BTreeMap::new();
        for partition in known.partitions.keys().copied() {
            let client = self.existing_partition(topic, partition).await?;
            let of = TopicPartition::new(topic, partition);
            let asked = within(self.config.request_timeout, format!("offset of {of}"), client.get_offset(at)).await;
            let offset = match asked {
                Ok(offset) => offset,
                Err(error) => return Err(self.explain(&of, error).await),
            };
            offsets.insert(partition, offset);
        }
        Ok(offsets)
    }

    async fn existing_partition(&self, topic: &str, partition: i32) -> Result<PartitionClient, ClientError> {
        let client = self.rskafka().await?;
        let what = format!("find the leader of {}", TopicPartition::new(topic, partition));
        let call = client.partition_client(topic, partition, UnknownTopicHandling::Error);
        let found = within(self.config.request_timeout, what, call).await;
        // It keeps a connection that hangs, and asks a broker whose view of the cluster is old for as long as that answers.
        match found {
            Ok(found) => Ok(found),
            Err(error) => {
                self.rskafka.lock().await.take_if(|kept| Arc::ptr_eq(kept, &client));
                Err(self.explain(&TopicPartition::new(topic, partition), error).await)
            }
        }
    }

    /// The error, or why the partition's leader cannot be reached: rskafka tells little of that.
    async fn explain(&self, of: &TopicPartition, error: ClientError) -> ClientError {
        let greeted = async { self.greet(&self.leader(of).await?).await };
        match greeted.await {
            Err(advertised @ ClientError::Advertised(_)) => advertised,
            Ok(()) | Err(_) => error,
        }
    }

    async fn rskafka(&self) -> Result<Arc<Client>, ClientError> {
        let mut kept = self.rskafka.lock().await;
        if let Some(client) = &*kept {
            return Ok(Arc::clone(client));
        }
        // rskafka tells little of why it cannot connect, so our own look comes first.
        metadata::look(&self.config, Some(&[])).await?;
        let building = ClientBuilder::new(self.config.bootstrap_servers.clone())
            .client_id(self.config.client_id.as_str())
            .max_message_size(MAX_ANSWER_BYTES)
            .backoff_config(BackoffConfig {
                max_backoff: Duration::from_secs(1),
                deadline: Some(self.config.request_timeout),
                ..BackoffConfig::default()
            })
            .build();
        let client = within(self.config.request_timeout, "read the cluster's metadata", building).await?;
        Ok(Arc::clone(kept.insert(Arc::new(client))))
    }
}

/// Does `attempt` again and again until it succeeds, until no other will fare better, or until `deadline`, when the last error is
/// the outcome.
async fn until<T, F>(deadline: Instant, what: String, attempt: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let started = Instant::now();
    let mut last = None;
    let attempts = async {
        let mut backoff = Backoff::default();
        loop {
            match attempt().await {
                Err(error) if !error.is_for_good() => last = Some(error),
                ended => return ended,
            }
            backoff.pause().await;
        }
    };
    timeout_at(deadline, attempts).await.unwrap_or_else(|_| {
        let limit_ms = started.elapsed().as_millis();
        Err(last.unwrap_or(ClientError::Timeout { what, limit_ms }))
    })
}
