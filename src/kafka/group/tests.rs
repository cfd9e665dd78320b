//! A membership against a coordinator that misbehaves as told.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use kafka_protocol::ResponseError as E;

use super::fake::{Fake, Say};
use super::*;
use crate::KafkaConfig;

/// A hung test fails instead.
const PATIENCE: Duration = Duration::from_secs(20);

fn kafka(fake: &Fake) -> KafkaConfig {
    let config = KafkaConfig::new(&fake.address, "test").unwrap();
    KafkaConfig { request_timeout: Duration::from_millis(500), ..config }
}

fn quick() -> GroupConfig {
    GroupConfig {
        session_timeout: Duration::from_millis(400),
        heartbeat_interval: Duration::from_millis(20),
        rebalance_timeout: Duration::from_secs(5),
        metadata_max_age: Duration::from_millis(50),
        ..GroupConfig::new("g", ["t"])
    }
}

async fn next(member: &mut Member) -> Result<GroupEvent, GroupError> {
    tokio::time::timeout(PATIENCE, member.next_event()).await.expect("an event in time")
}

async fn assigned(member: &mut Member) -> Assignment {
    match next(member).await {
        Ok(GroupEvent::Assigned(assignment)) => assignment,
        other => panic!("expected an assignment, got {other:?}"),
    }
}

async fn revoked(member: &mut Member) -> Revocation {
    match next(member).await {
        Ok(GroupEvent::Revoked(revocation)) => revocation,
        other => panic!("expected a revocation, got {other:?}"),
    }
}

async fn lost(member: &mut Member) -> (GenerationId, LostReason) {
    match next(member).await {
        Ok(GroupEvent::Lost { id, reason }) => (id, reason),
        other => panic!("expected a loss, got {other:?}"),
    }
}

async fn joined(config: GroupConfig) -> (Fake, Member, Assignment) {
    let fake = Fake::start().await;
    let mut member = Member::join(config, kafka(&fake)).unwrap();
    let assignment = assigned(&mut member).await;
    (fake, member, assignment)
}

#[tokio::test]
async fn a_new_member_joins_again_with_the_id_it_is_given() {
    let (_fake, _member, assignment) = joined(quick()).await;
    assert_eq!((assignment.id.generation(), assignment.id.member_id()), (1, "member-1"));
    assert_eq!(assignment.partitions, [TopicPartition::new("t", 0), TopicPartition::new("t", 1)]);
}

#[tokio::test]
async fn heartbeats_go_on_while_the_owner_finishes_and_it_keeps_its_id() {
    let (fake, mut member, first) = joined(quick()).await;
    fake.state().heartbeats.extend(std::iter::repeat_n(Say::Error(E::RebalanceInProgress), 30));
    let revocation = revoked(&mut member).await;
    assert_eq!(revocation.id(), &first.id);
    while fake.state().heartbeats.len() > 10 {
        tokio::task::yield_now().await;
    }
    fake.state().heartbeats.clear();
    revocation.done();
    let second = assigned(&mut member).await;
    assert_eq!((second.id.generation(), second.id.member_id()), (2, "member-1"));
}

#[tokio::test]
async fn a_revocation_that_is_not_done_in_time_is_lost() {
    let config = GroupConfig { rebalance_timeout: Duration::from_millis(600), ..quick() };
    let (fake, mut member, first) = joined(config).await;
    fake.state().heartbeats.push_back(Say::Error(E::RebalanceInProgress));
    let held = revoked(&mut member).await;
    assert_eq!(lost(&mut member).await, (first.id, LostReason::RevocationOverdue));
    assert!(Instant::now() >= held.deadline());
    assert_eq!(assigned(&mut member).await.id.generation(), 2);
}

#[tokio::test]
async fn unanswered_heartbeats_lose_the_assignment_and_a_new_member_joins() {
    let (fake, mut member, first) = joined(quick()).await;
    fake.state().deaf = true;
    let (id, reason) = lost(&mut member).await;
    assert_eq!(id, first.id);
    assert!(matches!(reason, LostReason::SessionExpired { session_ms: 400, .. }), "{reason}");
    fake.state().deaf = false;
    assert_eq!(assigned(&mut member).await.id.member_id(), "member-2");
}

#[tokio::test]
async fn an_old_generation_is_dropped_and_the_member_kept() {
    let (fake, mut member, first) = joined(quick()).await;
    fake.state().heartbeats.push_back(Say::Error(E::IllegalGeneration));
    assert_eq!(lost(&mut member).await, (first.id, LostReason::Coordinator(E::IllegalGeneration)));
    assert_eq!(assigned(&mut member).await.id.member_id(), "member-1");
}

#[tokio::test]
async fn an_unknown_member_drops_both() {
    let (fake, mut member, first) = joined(quick()).await;
    fake.state().heartbeats.push_back(Say::Error(E::UnknownMemberId));
    assert_eq!(lost(&mut member).await, (first.id, LostReason::Coordinator(E::UnknownMemberId)));
    assert_eq!(assigned(&mut member).await.id.member_id(), "member-2");
}

#[tokio::test]
async fn a_fenced_instance_is_lost_and_over() {
    let config = GroupConfig { instance_id: Some("worker-1".into()), ..quick() };
    let (fake, mut member, first) = joined(config).await;
    fake.state().heartbeats.push_back(Say::Error(E::FencedInstanceId));
    assert_eq!(lost(&mut member).await, (first.id, LostReason::Coordinator(E::FencedInstanceId)));
    let error = next(&mut member).await.unwrap_err();
    assert!(error.to_string().contains("\"worker-1\""), "{error}");
    assert!(matches!(next(&mut member).await, Err(GroupError::Closed { .. })));
}

#[tokio::test]
async fn a_coordinator_that_has_moved_is_found_again_without_losing_the_assignment() {
    let (fake, mut member, _) = joined(quick()).await;
    let found = fake.state().found;
    fake.state().heartbeats.extend([Say::Error(E::NotCoordinator), Say::Error(E::CoordinatorNotAvailable)]);
    fake.state().heartbeats.extend([Say::Content, Say::Error(E::RebalanceInProgress)]);
    revoked(&mut member).await.done();
    assert_eq!(fake.state().found, found + 2);
    assert_eq!(assigned(&mut member).await.id.generation(), 2);
}

#[tokio::test]
async fn refused_joins_and_syncs_are_tried_again() {
    let fake = Fake::start().await;
    let errors = [E::CoordinatorLoadInProgress, E::NotCoordinator, E::UnknownMemberId, E::RebalanceInProgress];
    fake.state().joins.extend(errors.map(Say::Error));
    fake.state().syncs.extend([E::RebalanceInProgress, E::IllegalGeneration].map(Say::Error));
    let mut member = Member::join(quick(), kafka(&fake)).unwrap();
    assert_eq!(assigned(&mut member).await.id.generation(), 3);
}

#[tokio::test]
async fn a_session_that_is_too_short_for_the_broker_is_six_seconds_instead() {
    let fake = Fake::start().await;
    fake.state().joins.push_back(Say::Error(E::InvalidSessionTimeout));
    let mut member = Member::join(quick(), kafka(&fake)).unwrap();
    assigned(&mut member).await;
    assert_eq!(fake.state().sessions_ms, [400, 6000, 6000]);
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_membership_with_advice() {
    let fake = Fake::start().await;
    fake.state().joins.push_back(Say::Error(E::InconsistentGroupProtocol));
    let mut member = Member::join(quick(), kafka(&fake)).unwrap();
    let message = next(&mut member).await.unwrap_err().to_string();
    assert!(message.contains("none of our assignors (range, roundrobin)"), "{message}");
}

#[tokio::test]
async fn the_leader_rebalances_when_a_topic_grows() {
    let (fake, mut member, _) = joined(quick()).await;
    fake.state().partitions = 3;
    revoked(&mut member).await.done();
    assert_eq!(assigned(&mut member).await.partitions.len(), 3);
}

#[tokio::test]
async fn a_closed_member_leaves_and_a_static_one_stays() {
    let (fake, member, _) = joined(quick()).await;
    member.close().await.unwrap();
    assert_eq!(fake.state().left, ["member-1"]);
    let (fake, member, _) = joined(GroupConfig { instance_id: Some("i".into()), ..quick() }).await;
    member.close().await.unwrap();
    assert!(fake.state().left.is_empty());
}

#[tokio::test]
async fn a_member_closes_within_the_request_timeout_though_the_broker_is_silent() {
    let fake = Fake::start().await;
    fake.state().joins.extend([Say::Content, Say::Nothing]);
    let member = Member::join(quick(), kafka(&fake)).unwrap();
    while fake.state().sessions_ms.len() < 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(PATIENCE, member.close()).await.expect("it ends in time").unwrap();
    assert_eq!(fake.state().left, ["member-1"]);
}

fn offset() -> [OffsetToCommit; 1] {
    [OffsetToCommit { partition: TopicPartition::new("t", 0), offset: 5, leader_epoch: -1, metadata: String::new() }]
}

async fn commit(committer: &Committer) -> CommitOutcome {
    committer.commit(&GenerationId::standalone(), &offset()).await.remove(0).1
}

#[tokio::test]
async fn a_commit_without_an_answer_is_unknown_and_the_next_one_is_not_harmed() {
    let fake = Fake::start().await;
    let committer = Committer::new(kafka(&fake), "g");
    fake.state().commits.push_back(Say::Nothing);
    let outcome = commit(&committer).await;
    assert!(matches!(outcome, CommitOutcome::Unknown(UnknownReason::NoAnswer(_))), "{outcome:?}");
    assert_eq!(commit(&committer).await, CommitOutcome::Accepted);
}

#[tokio::test]
async fn a_commit_to_a_coordinator_that_has_moved_is_unknown_and_the_next_one_finds_it_again() {
    let fake = Fake::start().await;
    let committer = Committer::new(kafka(&fake), "g");
    fake.state().commits.push_back(Say::Error(E::NotCoordinator));
    assert_eq!(commit(&committer).await, CommitOutcome::Unknown(UnknownReason::Answer(E::NotCoordinator)));
    assert_eq!(commit(&committer).await, CommitOutcome::Accepted);
    assert_eq!(commit(&committer).await, CommitOutcome::Accepted);
    assert_eq!(fake.state().found, 2, "the third commit uses the connection of the second");
}

#[tokio::test]
async fn a_commit_that_finds_no_broker_was_never_sent() {
    let fake = Fake::start().await;
    let config = kafka(&fake);
    drop(fake);
    let outcome = commit(&Committer::new(config, "g")).await;
    assert!(matches!(outcome, CommitOutcome::Refused(Refusal::NeverSent(_))), "{outcome:?}");
}
