//! A group's offsets: OffsetCommit 7 and OffsetFetch 5, over a connection of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::GenerationId;
use super::coordinator::{self, CoordinatorError, OFFSET_COMMIT, OFFSET_FETCH};
use crate::backoff::Backoff;
use crate::metadata::topic_name;
use crate::wire::{Connection, WireError};
use crate::{KafkaConfig, TopicPartition};

/// The protocol carries a string's length in 15 bits. Brokers refuse metadata far earlier (4096 bytes by default).
const MAX_METADATA_BYTES: usize = i16::MAX as usize;

/// An offset to commit for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The partition; once per commit.
    pub partition: TopicPartition,
    /// The next offset that is to be read.
    pub offset: i64,
    /// The leader epoch of the last record read, −1 if not known.
    pub leader_epoch: i32,
    /// A text that is stored with the offset and replaces the one before.
    pub metadata: String,
}

/// What has become of one partition's commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is stored.
    Accepted,
    /// This sending is not stored and never will be. (About earlier sendings it says nothing.)
    Refused(Refusal),
    /// It may be stored, or be stored later.
    Unknown(UnknownReason),
}

/// A definite no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The generation or the member is no longer the group's: no further commit with it is accepted. (`IllegalGeneration`,
    /// `UnknownMemberId`, `FencedInstanceId`.)
    #[error("the group's coordinator refuses the commit's generation or member: {0}")]
    Fenced(ResponseError),
    /// Not now; the same may be accepted later. (`RebalanceInProgress`: the member has joined the next generation and
    /// not yet got its assignment; `CoordinatorLoadInProgress`.)
    #[error("the group's coordinator does not take commits now: {0}")]
    NotNow(ResponseError),
    /// What is committed is at fault; the same will be refused again. (`OffsetMetadataTooLarge`,
    /// `InvalidCommitOffsetSize`, `UnknownTopicOrPartition`, an authorization, `InvalidGroupId`.)
    #[error("the group's coordinator refuses what is committed: {0}")]
    Invalid(ResponseError),
    /// Nothing left this process; the same may be accepted later.
    #[error("the commit was not sent: {0}")]
    NeverSent(String),
}

/// Why nothing definite is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownReason {
    /// An answer that a coordinator also gives when it has already written the commit to its log, from where it may come
    /// into force (`CoordinatorNotAvailable`, `NotCoordinator`, `RequestTimedOut`, …).
    #[error("the coordinator answers {0}, which does not tell whether the commit is stored")]
    Answer(ResponseError),
    /// No answer to the request.
    #[error("the commit has no answer: {0}")]
    NoAnswer(String),
    /// An answer that leaves the partition out.
    #[error("the coordinator's answer leaves the partition out")]
    LeftOut,
}

/// What a group has for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset that is to be read; `None` if nobody committed one.
    pub offset: Option<i64>,
    /// The text that was committed with it.
    pub metadata: String,
}

/// Why a group's offsets could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// The last attempt before the time was over.
    #[error("cannot read the offsets of group {group} within {limit_ms} ms: {reason}")]
    Timeout {
        /// The group.
        group: String,
        /// The request timeout.
        limit_ms: u128,
        /// What the last attempt failed with.
        reason: String,
    },
    /// No attempt can succeed.
    #[error("the coordinator refuses to tell the offsets of group {group}: {error}")]
    Refused {
        /// The group.
        group: String,
        /// What it says.
        error: ResponseError,
    },
}

/// Commits and reads a group's offsets. Clones share one connection, and one request is on its way at a time.
#[derive(Clone)]
pub struct Committer {
    shared: Arc<Shared>,
}

struct Shared {
    config: KafkaConfig,
    group: String,
    connection: Mutex<Option<Connection>>,
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").field("group", &self.shared.group).finish_non_exhaustive()
    }
}

impl Committer {
    /// For the offsets of `group`. Connects when it is first used. Members have theirs from
    /// [`Member::committer`](super::Member::committer).
    pub fn new(config: KafkaConfig, group: impl Into<String>) -> Self {
        Self { shared: Arc::new(Shared { config, group: group.into(), connection: Mutex::new(None) }) }
    }

    /// Sends one commit, once, and says for each partition (in the order given) what has become of it. Ends within twice
    /// the request timeout (connect, then ask); whether to send it again is the caller's to decide.
    ///
    /// # Cancellation
    ///
    /// As [`CommitOutcome::Unknown`] for all partitions.
    pub async fn commit(&self, id: &GenerationId, offsets: &[OffsetToCommit]) -> Vec<(TopicPartition, CommitOutcome)> {
        let sent = self.send(id, offsets).await;
        let outcome = |partition: &TopicPartition| match &sent {
            Ok(answers) => {
                answers.get(partition).map_or(CommitOutcome::Unknown(UnknownReason::LeftOut), |e| outcome(*e))
            }
            Err(same_for_all) => same_for_all.clone(),
        };
        offsets.iter().map(|o| (o.partition.clone(), outcome(&o.partition))).collect()
    }

    /// Reads what the group has for `partitions`, in the order given, trying again within the request timeout. In the
    /// generation of the newest assignment the answer is final as to every commit of earlier ones.
    ///
    /// # Errors
    ///
    /// [`FetchError`] with what the last attempt failed with.
    pub async fn fetch(&self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, FetchError> {
        let limit = self.shared.config.request_timeout;
        let mut last = None;
        let attempts = async {
            let mut backoff = Backoff::default();
            loop {
                match self.fetch_once(partitions).await {
                    Ok(committed) => return Ok(committed),
                    Err(Attempt::Again(reason)) => last = Some(reason),
                    Err(Attempt::Refused(error)) => {
                        return Err(FetchError::Refused { group: self.shared.group.clone(), error });
                    }
                }
                backoff.pause().await;
            }
        };
        let fetched = timeout_at(Instant::now() + limit, attempts).await;
        fetched.unwrap_or_else(|_| {
            let reason = last.unwrap_or_else(|| "no answer".to_owned());
            Err(FetchError::Timeout { group: self.shared.group.clone(), limit_ms: limit.as_millis(), reason })
        })
    }

    async fn send(
        &self,
        id: &GenerationId,
        offsets: &[OffsetToCommit],
    ) -> Result<BTreeMap<TopicPartition, Option<ResponseError>>, CommitOutcome> {
        if offsets.iter().any(|o| o.metadata.len() > MAX_METADATA_BYTES) {
            return Err(CommitOutcome::Refused(Refusal::Invalid(ResponseError::OffsetMetadataTooLarge)));
        }
        let limit = self.shared.config.request_timeout;
        let never_sent = |reason: String| CommitOutcome::Refused(Refusal::NeverSent(reason));
        let mut last = None;
        let connecting = async {
            let mut guard = self.shared.connection.lock().await;
            let mut backoff = Backoff::default();
            loop {
                match self.connection(guard.take()).await {
                    Ok(connection) => return (guard, connection),
                    Err(reason) => last = Some(reason.to_string()),
                }
                backoff.pause().await;
            }
        };
        let connected = timeout_at(Instant::now() + limit, connecting).await;
        let (mut guard, mut connection) = match connected {
            Ok(connected) => connected,
            Err(_) => {
                let reason = last.unwrap_or_else(|| format!("no turn within {} ms", limit.as_millis()));
                return Err(never_sent(reason));
            }
        };
        let request = commit_request(&self.shared.group, id, offsets);
        match connection.call(OFFSET_COMMIT, &request, limit).await {
            Ok(answer) => {
                let answers = answers(answer);
                if !answers.values().flatten().any(moves_coordinator) {
                    *guard = Some(connection);
                }
                Ok(answers)
            }
            Err(error) if error.may_have_been_sent() => {
                Err(CommitOutcome::Unknown(UnknownReason::NoAnswer(error.to_string())))
            }
            Err(error) => Err(never_sent(error.to_string())),
        }
    }

    async fn fetch_once(&self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, Attempt> {
        let mut guard = self.shared.connection.lock().await;
        let mut connection = self.connection(guard.take()).await?;
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(self.shared.group.clone())))
            .with_topics(Some(fetch_topics(partitions)));
        let answer = connection.call(OFFSET_FETCH, &request, self.shared.config.request_timeout).await?;
        let committed = committed(answer, partitions)?;
        *guard = Some(connection);
        Ok(committed)
    }

    /// The kept connection if it is still good, else a new one.
    async fn connection(&self, kept: Option<Connection>) -> Result<Connection, CoordinatorError> {
        match kept.filter(Connection::is_usable) {
            Some(connection) => Ok(connection),
            None => coordinator::connect(&self.shared.config, &self.shared.group).await,
        }
    }
}

/// Why one attempt at reading failed.
enum Attempt {
    Again(String),
    Refused(ResponseError),
}

impl From<CoordinatorError> for Attempt {
    fn from(error: CoordinatorError) -> Self {
        error.fatal().map_or_else(|| Self::Again(error.to_string()), Self::Refused)
    }
}

impl From<WireError> for Attempt {
    fn from(error: WireError) -> Self {
        Self::Again(error.to_string())
    }
}

fn moves_coordinator(error: &ResponseError) -> bool {
    matches!(error, ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable)
}

/// The table of the protocol: what an answer for one partition says about its commit.
///
/// Only errors that the coordinator finds before it writes are definite. It answers `CoordinatorNotAvailable` also when
/// its log did not replicate the commit in time, and `NotCoordinator` also when it lost the log after writing to it.
fn outcome(error: Option<ResponseError>) -> CommitOutcome {
    use ResponseError as E;
    match error {
        None => CommitOutcome::Accepted,
        Some(e @ (E::IllegalGeneration | E::UnknownMemberId | E::FencedInstanceId)) => {
            CommitOutcome::Refused(Refusal::Fenced(e))
        }
        Some(e @ (E::RebalanceInProgress | E::CoordinatorLoadInProgress)) => CommitOutcome::Refused(Refusal::NotNow(e)),
        Some(
            e @ (E::OffsetMetadataTooLarge
            | E::InvalidCommitOffsetSize
            | E::UnknownTopicOrPartition
            | E::GroupAuthorizationFailed
            | E::TopicAuthorizationFailed
            | E::InvalidGroupId),
        ) => CommitOutcome::Refused(Refusal::Invalid(e)),
        Some(e) => CommitOutcome::Unknown(UnknownReason::Answer(e)),
    }
}

fn commit_request(group: &str, id: &GenerationId, offsets: &[OffsetToCommit]) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for o in offsets {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(o.partition.partition)
            .with_committed_offset(o.offset)
            .with_committed_leader_epoch(o.leader_epoch)
            .with_committed_metadata(Some(StrBytes::from_string(o.metadata.clone())));
        topics.entry(&o.partition.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    });
    OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_generation_id_or_member_epoch(id.generation)
        .with_member_id(StrBytes::from_string(id.member_id.to_string()))
        .with_group_instance_id(id.instance_id.as_ref().map(|i| StrBytes::from_string(i.to_string())))
        .with_topics(topics.collect())
}

fn answers(answer: OffsetCommitResponse) -> BTreeMap<TopicPartition, Option<ResponseError>> {
    let mut errors = BTreeMap::new();
    for topic in answer.topics {
        for p in topic.partitions {
            let partition = TopicPartition::new(topic.name.to_string(), p.partition_index);
            errors.insert(partition, ResponseError::try_from_code(p.error_code));
        }
    }
    errors
}

fn fetch_topics(partitions: &[TopicPartition]) -> Vec<OffsetFetchRequestTopic> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for p in partitions {
        topics.entry(&p.topic).or_default().push(p.partition);
    }
    let topic = |(name, indexes)| {
        OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(indexes)
    };
    topics.into_iter().map(topic).collect()
}

fn committed(answer: OffsetFetchResponse, partitions: &[TopicPartition]) -> Result<Vec<Committed>, Attempt> {
    let refused = |error: ResponseError| match error {
        ResponseError::GroupAuthorizationFailed
        | ResponseError::TopicAuthorizationFailed
        | ResponseError::InvalidGroupId => Attempt::Refused(error),
        error => Attempt::Again(error.to_string()),
    };
    if let Some(error) = ResponseError::try_from_code(answer.error_code) {
        return Err(refused(error));
    }
    let mut found = BTreeMap::new();
    for topic in answer.topics {
        for p in topic.partitions {
            if let Some(error) = ResponseError::try_from_code(p.error_code) {
                return Err(refused(error));
            }
            let partition = TopicPartition::new(topic.name.to_string(), p.partition_index);
            // The protocol writes "none" as −1.
            let offset = Some(p.committed_offset).filter(|offset| *offset >= 0);
            let metadata = p.metadata.map(|m| m.to_string()).unwrap_or_default();
            found.insert(partition.clone(), Committed { partition, offset, metadata });
        }
    }
    let taken = |partition: &TopicPartition| {
        let left_out = || Attempt::Again(format!("the coordinator's answer leaves {partition} out"));
        found.get(partition).cloned().ok_or_else(left_out)
    };
    partitions.iter().map(taken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_definite_answer_refuses_a_commit() {
        use ResponseError as E;
        assert_eq!(outcome(None), CommitOutcome::Accepted);
        for error in [E::IllegalGeneration, E::UnknownMemberId, E::FencedInstanceId] {
            assert_eq!(outcome(Some(error)), CommitOutcome::Refused(Refusal::Fenced(error)));
        }
        for error in [E::RebalanceInProgress, E::CoordinatorLoadInProgress] {
            assert_eq!(outcome(Some(error)), CommitOutcome::Refused(Refusal::NotNow(error)));
        }
        for error in [E::OffsetMetadataTooLarge, E::InvalidCommitOffsetSize, E::UnknownTopicOrPartition] {
            assert_eq!(outcome(Some(error)), CommitOutcome::Refused(Refusal::Invalid(error)));
        }
        for error in
            [E::CoordinatorNotAvailable, E::NotCoordinator, E::RequestTimedOut, E::UnknownServerError, E::Unknown(999)]
        {
            assert_eq!(outcome(Some(error)), CommitOutcome::Unknown(UnknownReason::Answer(error)));
        }
    }

    #[test]
    fn offsets_of_one_topic_travel_together_with_generation_and_member() {
        let offset = |topic: &str, partition| OffsetToCommit {
            partition: TopicPartition::new(topic, partition),
            offset: 7,
            leader_epoch: -1,
            metadata: "m".into(),
        };
        let id = GenerationId { generation: 3, member_id: "me".into(), instance_id: None };
        let request = commit_request("g", &id, &[offset("b", 0), offset("a", 1), offset("b", 2)]);
        assert_eq!((request.generation_id_or_member_epoch, request.member_id.as_str()), (3, "me"));
        let topics: Vec<_> = request.topics.iter().map(|t| (t.name.to_string(), t.partitions.len())).collect();
        assert_eq!(topics, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    }
}
