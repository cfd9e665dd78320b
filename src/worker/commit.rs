//! One sending of a partition's commit, and what its outcome means to the sink.

use superhero_kafka::TopicPartition;
use superhero_kafka::group::{CommitOutcome, Committer, GenerationId, OffsetToCommit, Refusal};
use superhero_sink::{CommitAnswer, CommitRequest};
use tracing::{debug, error, info, warn};

/// Kafka's clients send −1 when they do not know it.
const UNKNOWN_LEADER_EPOCH: i32 = -1;

/// Sends the commit once and tells in the log whatever is not an acceptance.
///
/// # Cancellation
/// As [`CommitAnswer::Unknown`].
pub(crate) async fn send(
    committer: &Committer,
    member: &GenerationId,
    partition: &TopicPartition,
    request: &CommitRequest,
) -> CommitAnswer {
    let CommitRequest { offset, metadata, producers_left_out, sent_before, .. } = request;
    if *producers_left_out > 0 && *sent_before == 0 {
        warn!(
            %partition, producers = producers_left_out,
            "not all producers have room in the commit: repetitions of theirs would not be noticed after a restart"
        );
    }
    let offsets = [OffsetToCommit {
        partition: partition.clone(),
        offset: *offset,
        leader_epoch: UNKNOWN_LEADER_EPOCH,
        metadata: metadata.clone(),
    }];
    let outcome = committer.commit(member, &offsets).await.pop().map(|(_, outcome)| outcome);
    match outcome {
        Some(CommitOutcome::Accepted) => {
            debug!(%partition, offset, "committed");
            CommitAnswer::Accepted
        }
        Some(CommitOutcome::Refused(refusal)) => match refusal {
            Refusal::Fenced(_) => {
                warn!(%partition, offset, reason = %refusal, "the commit was refused");
                CommitAnswer::Refused
            }
            Refusal::Invalid(_) => {
                error!(%partition, offset, reason = %refusal, "the commit was refused; the partition waits and tries again");
                CommitAnswer::RetryLater
            }
            Refusal::NotNow(_) | Refusal::NeverSent(_) => {
                info!(%partition, offset, reason = %refusal, "the commit is tried again");
                CommitAnswer::RetryLater
            }
        },
        Some(CommitOutcome::Unknown(reason)) => {
            warn!(%partition, offset, %reason, "it is not known whether the commit was accepted; sending it again");
            CommitAnswer::Unknown
        }
        None => CommitAnswer::Unknown,
    }
}
