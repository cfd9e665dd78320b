//! Membership of a consumer group by Kafka's classic protocol, and the group's offsets.
//!
//! ```text
//!            ┌──────────────── Rejoin ◀───────────────┐
//!            ▼                                        │
//!   find coordinator ▶ JoinGroup ▶ SyncGroup ▶ [Assigned] stable, heartbeats
//!            ▲                                        │ rebalance in progress, or (leader) partitions grew
//!            │                                        ▼
//!            ├──── revocation done ◀── [Revoked] owner finishes and commits, heartbeats go on
//!            │                                        │ deadline passed
//!            └──────────── [Lost] ◀───────────────────┘  (or: session expired, member unknown, generation old)
//! ```
//!
//! One task owns that state ([`Member`] is its handle); what each of the broker's answers means is a table
//! (`step::after`). JoinGroup and SyncGroup are held back by the broker until the others have come, so commits go over a
//! connection of their own ([`Committer`]); heartbeats are not needed while one of the two is held back, since a member
//! that the broker keeps waiting cannot expire.
//!
//! Invariant: no two assignments of one member carry the same [`GenerationId`]. A commit that is still on its way from
//! before [`GroupEvent::Lost`] or a revocation can therefore never be accepted after the next
//! [`GroupEvent::Assigned`], and what [`Committer::fetch`] reads then is final.
//!
//! Versions: FindCoordinator 2, JoinGroup 5, SyncGroup 3, Heartbeat 3, LeaveGroup 3, OffsetCommit 7, OffsetFetch 5; all
//! know static membership ([KIP-345]), and none is flexible. Left out: cooperative assignors, rack awareness, and
//! KIP-848's protocol.
//!
//! [KIP-345]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-345%3A+Introduce+static+membership+protocol+to+reduce+consumer+rebalances

mod assignor;
mod committer;
mod config;
pub(crate) mod coordinator;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod hostile;
mod leader;
mod member;
mod membership;
mod protocol;
mod step;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::{ConfigError, TopicPartition};

pub use assignor::Assignor;
pub use committer::{CommitOutcome, Committed, Committer, FetchError, OffsetToCommit, Refusal, UnknownReason};
pub use config::GroupConfig;
pub use kafka_protocol::ResponseError as BrokerError;
pub use member::Member;

/// Who commits: a generation of a group together with the member's id in it. Only an assignment makes one, so that the
/// two cannot be mixed. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GenerationId {
    generation: i32,
    member_id: Arc<str>,
    instance_id: Option<Arc<str>>,
}

impl GenerationId {
    /// For commits to a group that has no members. Kafka refuses it once there are some.
    pub fn standalone() -> Self {
        Self { generation: -1, member_id: "".into(), instance_id: None }
    }

    /// The number of the generation.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The member's id in the group.
    pub fn member_id(&self) -> &str {
        &self.member_id
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} of member {}", self.generation, self.member_id)
    }
}

/// What a member owns in one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// To commit with.
    pub id: GenerationId,
    /// In order, possibly none.
    pub partitions: Vec<TopicPartition>,
}

/// What happened to a member. Per assignment: `Assigned`, then at most one `Revoked`, then at most one `Lost`.
#[derive(Debug)]
pub enum GroupEvent {
    /// The partitions are ours until the next event.
    Assigned(Assignment),
    /// The group rebalances: stop fetching, finish, commit, then drop the [`Revocation`] (or call
    /// [`done`](Revocation::done)). The assignment is valid for commits until its deadline.
    Revoked(Revocation),
    /// The assignment is no longer ours. Drop it without committing. The member joins again by itself.
    Lost {
        /// The assignment's id.
        id: GenerationId,
        /// Why.
        reason: LostReason,
    },
}

/// The time that an owner has to finish before the group goes on without it.
#[derive(Debug)]
pub struct Revocation {
    id: GenerationId,
    deadline: Instant,
    /// Dropping the sending half tells the membership to rejoin.
    _held: oneshot::Sender<()>,
}

impl Revocation {
    /// The assignment that ends.
    pub fn id(&self) -> &GenerationId {
        &self.id
    }

    /// After it, [`GroupEvent::Lost`] follows.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// All is committed: the member may rejoin. The same as dropping it.
    pub fn done(self) {}
}

/// Why an assignment was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LostReason {
    /// No heartbeat was answered for as long as the session lasts.
    #[error("no heartbeat was answered for {session_ms} ms, the session timeout (last: {last})")]
    SessionExpired {
        /// The session timeout.
        session_ms: u128,
        /// What the last heartbeat failed with.
        last: String,
    },
    /// The coordinator says so.
    #[error("the group's coordinator answers {0}")]
    Coordinator(ResponseError),
    /// The revocation was not done in time.
    #[error("the revoked partitions were not given back in time")]
    RevocationOverdue,
}

/// Why a membership ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GroupError {
    /// A setting of the group.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process uses the same `group.instance.id`.
    #[error("group {group}: another process has taken over instance id {instance_id:?}; give each worker its own")]
    Fenced {
        /// The group.
        group: String,
        /// The id that both use.
        instance_id: String,
    },
    /// The coordinator refuses for good.
    #[error("group {group}: the coordinator refuses {call} with {error}; {advice}")]
    Refused {
        /// The group.
        group: String,
        /// The request.
        call: &'static str,
        /// What it says.
        error: ResponseError,
        /// What to do about it.
        advice: String,
    },
    /// The membership is over, by `close` or by an earlier error.
    #[error("group {group}: the membership is closed")]
    Closed {
        /// The group.
        group: String,
    },
}
