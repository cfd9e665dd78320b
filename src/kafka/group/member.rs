//! The handle of a membership.

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::membership::{EVENTS_PER_ROUND, Membership};
use super::{Committer, GroupConfig, GroupError, GroupEvent};
use crate::KafkaConfig;

/// A member of a group. A task of its own joins, heartbeats and rejoins, however busy the owner is; the owner takes the
/// events in their order. A member whose owner takes none joins no further generation.
///
/// Dropping it ends the task at once without leaving, as a crash would: the group notices after the session timeout.
#[derive(Debug)]
pub struct Member {
    group: String,
    events: mpsc::Receiver<GroupEvent>,
    committer: Committer,
    stop: CancellationToken,
    /// Holds one task, and ends it when dropped.
    task: JoinSet<Result<(), GroupError>>,
}

impl Member {
    /// Starts a membership. Returns at once; the first event tells that it has joined, and until then the task tries for
    /// as long as it takes.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`GroupError::Config`] names the setting that cannot be used.
    pub fn join(config: GroupConfig, kafka: KafkaConfig) -> Result<Self, GroupError> {
        config.check()?;
        let group = config.group_id.clone();
        let committer = Committer::new(kafka.clone(), group.clone());
        let (sender, events) = mpsc::channel(EVENTS_PER_ROUND);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(Membership::new(config, kafka, sender).run(stop.clone()));
        Ok(Self { group, events, committer, stop, task })
    }

    /// The next event.
    ///
    /// # Errors
    ///
    /// [`GroupError`] when the membership is over: why, the first time, then [`GroupError::Closed`]. A
    /// [`GroupEvent::Lost`] comes first where there was an assignment.
    ///
    /// # Cancellation
    ///
    /// No event is lost.
    pub async fn next_event(&mut self) -> Result<GroupEvent, GroupError> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            None => Err(self.ended().await.err().unwrap_or(GroupError::Closed { group: self.group.clone() })),
        }
    }

    /// Commits and reads the group's offsets. Commits go on while the member rebalances.
    pub fn committer(&self) -> Committer {
        self.committer.clone()
    }

    /// Ends the membership: a dynamic member leaves, so that the others take over at once; a static one only stops, so
    /// that it can return. Bounded by the request timeout and the time to connect. Commit first.
    ///
    /// # Errors
    ///
    /// What the membership had ended with before.
    pub async fn close(mut self) -> Result<(), GroupError> {
        self.stop.cancel();
        self.ended().await
    }

    async fn ended(&mut self) -> Result<(), GroupError> {
        match self.task.join_next().await {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(failure)) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only dropping the set aborts the task.
                Err(_) => Ok(()),
            },
        }
    }
}
