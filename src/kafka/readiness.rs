//! Whether a cluster serves all that we need of it, shown by doing it: topics, leaders, a record, an offset.

use std::fmt;
use std::time::Duration;

use rskafka::client::partition::{Compression, PartitionClient};
use rskafka::record::Record;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::config::check_topics;
use crate::group::{CommitOutcome, Committer, GenerationId, OffsetToCommit, coordinator};
use crate::{ClientError, Cluster, ConfigError, KafkaConfig, Metadata, MetadataError, TopicPartition, within};

/// The canary topic has one partition, and all canaries go there.
const CANARY_PARTITION: i32 = 0;
/// A fetch returns at the latest after this, with or without the record.
const CANARY_MAX_WAIT_MS: i32 = 500;
/// Many canaries fit, and one that is larger than this is none of ours.
const CANARY_FETCH_BYTES: i32 = 64 * 1024;
/// Between two looks at an offset that several processes commit.
const ANOTHER_CANARY_PAUSE: Duration = Duration::from_millis(100);

/// What is asked of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessConfig {
    /// The topics that must be there.
    pub topics: Vec<String>,
    /// How many partitions a missing topic is made with. One that exists is taken as it is.
    pub partitions: i32,
    /// How many copies a missing topic is made with.
    pub replication_factor: i16,
    /// When to give up.
    pub timeout: Duration,
    /// Where the canary record goes; made with one partition.
    pub canary_topic: String,
    /// The group whose offset is committed; it must have no members.
    pub group: String,
}

impl ReadinessConfig {
    /// For `topics` with 4 partitions and 1 copy, within 60 s; the canary's topic and group are `superhero.canary`.
    pub fn new(topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            topics: topics.into_iter().map(Into::into).collect(),
            partitions: 4,
            replication_factor: 1,
            timeout: Duration::from_secs(60),
            canary_topic: "superhero.canary".to_owned(),
            group: "superhero.canary".to_owned(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        check_topics(&self.topics)?;
        check_topics(std::slice::from_ref(&self.canary_topic))?;
        if self.partitions < 1 {
            return Err(ConfigError::setting("partitions", self.partitions, "it must be at least 1"));
        }
        if self.replication_factor < 1 {
            return Err(ConfigError::setting("replication factor", self.replication_factor, "it must be at least 1"));
        }
        if self.group.is_empty() {
            return Err(ConfigError::setting("canary group", "", "a group needs a name"));
        }
        Ok(())
    }
}

/// What is done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A bootstrap server answers.
    Connect,
    /// The topics exist.
    CreateTopics,
    /// Every partition of them has a leader.
    AwaitLeaders,
    /// The leaders are where the cluster says that they are.
    ReachLeaders,
    /// A record is written.
    ProduceCanary,
    /// The same record is read.
    ReadCanary,
    /// A group's offset is committed.
    CommitOffset,
    /// The same offset is read.
    ReadOffset,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::CreateTopics => "create the missing topics",
            Self::AwaitLeaders => "wait for a leader of every partition",
            Self::ReachLeaders => "connect to the leaders at their advertised addresses",
            Self::ProduceCanary => "produce a canary record",
            Self::ReadCanary => "read the canary record back",
            Self::CommitOffset => "commit a group offset",
            Self::ReadOffset => "read the group offset back",
        })
    }
}

/// A cluster that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its id.
    pub cluster_id: String,
    /// How many brokers are up.
    pub brokers: usize,
    /// The topics that were made now.
    pub created: Vec<String>,
    /// From the first attempt to the last answer.
    pub elapsed: Duration,
}

/// Why a cluster is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// A setting; nothing was tried.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The step that did not succeed in time.
    #[error("Kafka is not ready after {timeout_ms} ms: the step \"{step}\" fails on {broker}: {reason}")]
    Timeout {
        /// How long was tried, all steps together.
        timeout_ms: u128,
        /// The step.
        step: Step,
        /// `host:port` of the broker that was asked, or the list of bootstrap servers while none has answered.
        broker: String,
        /// What the last attempt failed with.
        reason: String,
    },
    /// The step that will not succeed, however often it is tried.
    #[error("Kafka is not ready: the step \"{step}\" fails on {broker}: {reason}")]
    Never {
        /// The step.
        step: Step,
        /// The list of bootstrap servers, or `host:port` of the broker that was asked.
        broker: String,
        /// What it fails with.
        reason: String,
    },
}

/// What a step fails with for now; it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble<'a> {
    /// The step.
    pub step: Step,
    /// As in [`NotReady::Timeout`].
    pub broker: &'a str,
    /// What the last attempt failed with.
    pub reason: &'a str,
}

impl fmt::Display for Trouble<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, broker, reason } = self;
        write!(f, "the step \"{step}\" fails on {broker}: {reason}")
    }
}

/// Does every [`Step`], each until it succeeds, and gives up at the timeout of `config`, or at once where it would wait in vain.
///
/// # Errors
///
/// [`NotReady::Timeout`] and [`NotReady::Never`] say which step failed on which broker and why.
///
/// # Cancellation
///
/// What was made stays: topics, a canary record, an offset.
pub async fn wait_ready(kafka: &KafkaConfig, config: &ReadinessConfig) -> Result<Report, NotReady> {
    wait_ready_telling(kafka, config, |_| {}).await
}

/// As [`wait_ready`]; `tell` hears of each trouble as soon as it is there, once while it stays the same.
///
/// # Errors
///
/// As [`wait_ready`].
///
/// # Cancellation
///
/// As [`wait_ready`].
pub async fn wait_ready_telling(
    kafka: &KafkaConfig,
    config: &ReadinessConfig,
    mut tell: impl FnMut(Trouble<'_>) + Send,
) -> Result<Report, NotReady> {
    config.check()?;
    let started = Instant::now();
    let (broker, tell): (_, &mut Tell<'_>) = (kafka.servers(), &mut tell);
    let mut progress = Progress { step: Step::Connect, broker, reason: String::new(), tell };
    // So that a broker that is silent is told as such before the time is over.
    let longest = config.timeout / 3;
    let kafka = KafkaConfig {
        request_timeout: kafka.request_timeout.min(longest),
        connect_timeout: kafka.connect_timeout.min(longest),
        ..kafka.clone()
    };
    match timeout_at(started + config.timeout, progress.all_steps(&kafka, config)).await {
        Ok(Ok(report)) => Ok(Report { elapsed: started.elapsed(), ..report }),
        Ok(Err(InVain)) => {
            Err(NotReady::Never { step: progress.step, broker: progress.broker, reason: progress.reason })
        }
        Err(_) => Err(NotReady::Timeout {
            timeout_ms: config.timeout.as_millis(),
            step: progress.step,
            broker: progress.broker,
            reason: progress.reason,
        }),
    }
}

/// Who hears of troubles.
type Tell<'a> = dyn FnMut(Trouble<'_>) + Send + 'a;

/// Where we are, for the message when the time is over.
struct Progress<'a> {
    step: Step,
    broker: String,
    reason: String,
    tell: &'a mut Tell<'a>,
}

/// No attempt at the step can succeed.
struct InVain;

/// One attempt that failed, and where, if that is known better than before.
struct Failure {
    broker: Option<String>,
    reason: String,
    is_for_good: bool,
}

impl Failure {
    fn somewhere(reason: impl fmt::Display) -> Self {
        Self { broker: None, reason: reason.to_string(), is_for_good: false }
    }

    fn at(broker: &str, reason: impl fmt::Display) -> Self {
        Self { broker: Some(broker.to_owned()), ..Self::somewhere(reason) }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let broker = match &error {
            ClientError::Advertised(advertised) | ClientError::Metadata(MetadataError::Advertised(advertised)) => {
                Some(advertised.address.clone())
            }
            _ => None,
        };
        Self { broker, reason: error.to_string(), is_for_good: error.is_for_good() }
    }
}

impl Progress<'_> {
    async fn all_steps(&mut self, kafka: &KafkaConfig, config: &ReadinessConfig) -> Result<Report, InVain> {
        let limit = kafka.request_timeout;
        let connect = || async { Ok(Cluster::connect_once(kafka).await?) };
        let cluster = self.repeat(Step::Connect, connect).await?;
        let created = self.repeat(Step::CreateTopics, || create(&cluster, config)).await?;
        let (metadata, leader) = self.repeat(Step::AwaitLeaders, || leaders(&cluster, config)).await?;
        self.note_existing(config, &metadata);
        let led: Vec<_> = config.topics.iter().chain([&config.canary_topic]).cloned().collect();
        let reach = || async { Ok(cluster.reach_leaders(&led).await?) };
        self.repeat(Step::ReachLeaders, reach).await?;

        self.broker.clone_from(&leader);
        let token = Uuid::new_v4().to_string();
        let produce = || async {
            let client = canary_client(&cluster, config).await?;
            let what = format!("produce to {}", config.canary_topic);
            let producing = client.produce(vec![canary(&token)], Compression::NoCompression);
            let offsets = within(limit, what, producing).await?;
            offsets.first().copied().ok_or_else(|| Failure::somewhere("the answer has no offset"))
        };
        let offset = self.repeat(Step::ProduceCanary, produce).await?;

        let read = || async {
            let client = canary_client(&cluster, config).await?;
            let what = format!("fetch offset {offset} of {}", config.canary_topic);
            let fetching = client.fetch_records(offset, 1..CANARY_FETCH_BYTES, CANARY_MAX_WAIT_MS);
            let (records, _) = within(limit, what, fetching).await?;
            let found =
                records.iter().any(|r| r.offset == offset && r.record.value.as_deref() == Some(token.as_bytes()));
            if found { Ok(()) } else { Err(Failure::somewhere(format!("the record is not at offset {offset}"))) }
        };
        self.repeat(Step::ReadCanary, read).await?;

        let committer = Committer::new(kafka.clone(), config.group.clone());
        let ours = OffsetToCommit {
            partition: TopicPartition::new(&config.canary_topic, CANARY_PARTITION),
            offset: offset + 1,
            leader_epoch: -1,
            metadata: token.clone(),
        };
        // Another process may commit its own canary between our commit and our look; then ours is committed once more.
        loop {
            let commit = || commit(kafka, config, &committer, &ours);
            let coordinator = self.repeat(Step::CommitOffset, commit).await?;
            let read = || async {
                let committed = committer.fetch(std::slice::from_ref(&ours.partition)).await;
                committed.map_err(|e| Failure::at(&coordinator, e))
            };
            let committed = self.repeat(Step::ReadOffset, read).await?;
            if committed.first().is_some_and(|c| c.offset == Some(ours.offset) && c.metadata == ours.metadata) {
                break;
            }
            let read = committed.first().and_then(|committed| committed.offset);
            let read = read.map_or_else(|| "none".to_owned(), |offset| offset.to_string());
            self.reason = format!("the offset read back is {read}, not ours, {}", ours.offset);
            tokio::time::sleep(ANOTHER_CANARY_PAUSE).await;
        }
        info!(cluster = metadata.cluster_id, brokers = metadata.brokers.len(), "Kafka is ready");
        let brokers = metadata.brokers.len();
        Ok(Report { cluster_id: metadata.cluster_id, brokers, created, elapsed: Duration::ZERO })
    }

    async fn repeat<T, F>(&mut self, step: Step, attempt: impl Fn() -> F) -> Result<T, InVain>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.step = step;
        "no answer".clone_into(&mut self.reason);
        let mut backoff = Backoff::default();
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(Failure { broker, reason, is_for_good }) => {
                    if let Some(broker) = broker {
                        self.broker = broker;
                    }
                    if is_for_good {
                        self.reason = reason;
                        return Err(InVain);
                    }
                    if reason != self.reason {
                        info!(%step, broker = self.broker, reason, "Kafka is not ready yet");
                        (self.tell)(Trouble { step, broker: &self.broker, reason: &reason });
                    }
                    self.reason = reason;
                }
            }
            backoff.pause().await;
        }
    }

    fn note_existing(&self, config: &ReadinessConfig, metadata: &Metadata) {
        for name in &config.topics {
            let partitions = metadata.topics.get(name).map_or(0, |topic| topic.partitions.len());
            if i32::try_from(partitions) != Ok(config.partitions) {
                warn!(topic = name, partitions, configured = config.partitions, "the topic keeps its partitions");
            }
        }
    }
}

async fn create(cluster: &Cluster, config: &ReadinessConfig) -> Result<Vec<String>, Failure> {
    let (partitions, copies) = (config.partitions, config.replication_factor);
    let made = cluster.create_missing_topics(&config.topics, partitions, copies).await;
    let mut created = made?;
    let canary = std::slice::from_ref(&config.canary_topic);
    created.extend(cluster.create_missing_topics(canary, 1, copies).await?);
    Ok(created)
}

/// The metadata once every partition has a leader, and the address of the canary's.
async fn leaders(cluster: &Cluster, config: &ReadinessConfig) -> Result<(Metadata, String), Failure> {
    let metadata = cluster.metadata().await?;
    for name in config.topics.iter().chain([&config.canary_topic]) {
        // A broker may answer before it has heard of a topic that was just made.
        let topic = metadata.topics.get(name).filter(|topic| !topic.partitions.is_empty());
        let topic = topic.ok_or_else(|| Failure::somewhere(format!("topic {name} is not there yet")))?;
        for partition in topic.partitions.keys() {
            if metadata.leader_address(name, *partition).is_none() {
                return Err(Failure::somewhere(format!("partition {name}/{partition} has no leader")));
            }
        }
    }
    let leader = metadata.leader_address(&config.canary_topic, CANARY_PARTITION).map(str::to_owned);
    let leader = leader.ok_or_else(|| Failure::somewhere(format!("{} has no partition 0", config.canary_topic)))?;
    Ok((metadata, leader))
}

async fn canary_client(cluster: &Cluster, config: &ReadinessConfig) -> Result<PartitionClient, Failure> {
    Ok(cluster.partition_client(&config.canary_topic, CANARY_PARTITION).await?)
}

fn canary(token: &str) -> Record {
    Record { key: None, value: Some(token.into()), headers: [].into(), timestamp: chrono::Utc::now() }
}

/// Commits, and says which broker the coordinator is.
async fn commit(
    kafka: &KafkaConfig,
    config: &ReadinessConfig,
    committer: &Committer,
    ours: &OffsetToCommit,
) -> Result<String, Failure> {
    let connection = coordinator::connect(kafka, &config.group).await.map_err(Failure::somewhere)?;
    let coordinator = connection.broker().to_owned();
    let outcomes = committer.commit(&GenerationId::standalone(), std::slice::from_ref(ours)).await;
    match outcomes.into_iter().next() {
        Some((_, CommitOutcome::Accepted)) => Ok(coordinator),
        Some((_, CommitOutcome::Refused(refusal))) => Err(Failure::at(&coordinator, refusal)),
        Some((_, CommitOutcome::Unknown(reason))) => Err(Failure::at(&coordinator, reason)),
        None => Err(Failure::at(&coordinator, "the answer is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_settings_are_refused_before_anything_is_tried() {
        type Change = fn(&mut ReadinessConfig);
        let cases: [(Change, &str); 5] = [
            (|c| c.topics.push("a b".into()), "\"a b\""),
            (|c| c.canary_topic.clear(), "\"\""),
            (|c| c.partitions = 0, "partitions = 0"),
            (|c| c.replication_factor = 0, "replication factor = 0"),
            (|c| c.group.clear(), "canary group = "),
        ];
        for (change, expected) in cases {
            let mut config = ReadinessConfig::new(["t"]);
            change(&mut config);
            let message = config.check().expect_err(expected).to_string();
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }

    #[test]
    fn the_wait_can_be_spawned() {
        fn spawnable(_: impl Future + Send) {}
        let kafka = KafkaConfig::new("localhost:9092", "test").expect("a valid list");
        spawnable(wait_ready(&kafka, &ReadinessConfig::new(["t"])));
    }
}
