//! Group membership, commits and readiness against a real Kafka.
//!
//! Every case makes topics and groups of its own, so that the cases may run at the same time on one cluster. Where a case
//! waits for something to happen, that is bounded by [`PATIENCE`].

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::Trial;
use superhero_kafka::group::{
    Assignment, Assignor, BrokerError, CommitOutcome, Committed, Committer, GenerationId, GroupConfig, GroupError,
    GroupEvent, LostReason, Member, OffsetToCommit, Refusal,
};
use superhero_kafka::readiness::{NotReady, ReadinessConfig, Step, wait_ready};
use superhero_kafka::{Cluster, KafkaConfig, TopicPartition};

use crate::services;
use crate::test;

/// Longer than a session and a rebalance together; a case that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 4;

/// The cases, named after their functions.
pub fn tests() -> Vec<Trial> {
    macro_rules! cases {
        ($($case:ident,)*) => {
            vec![$(test(&name(stringify!($case)), || async {
                let kafka = services::Kafka::shared()?;
                $case(&kafka.bootstrap).await;
                Ok(())
            }),)*]
        };
    }
    let mut cases = cases![
        a_member_alone_gets_all_partitions,
        two_members_share_and_the_one_that_stays_inherits,
        members_with_other_preferences_agree_on_an_assignor,
        a_killed_member_is_taken_over_after_its_session,
        a_static_member_that_restarts_keeps_its_partitions,
        a_second_process_with_the_same_instance_id_fences_the_first,
        a_commit_of_an_older_generation_is_refused,
        commits_are_accepted_until_the_partitions_are_given_back,
        commit_metadata_comes_back_and_partitions_have_their_own_outcomes,
        a_member_that_stands_still_loses_its_partitions_and_hears_of_it,
        a_topic_that_appears_later_is_assigned,
        a_cluster_tells_its_ids_and_makes_missing_topics_once,
        a_cluster_that_serves_is_ready,
        a_step_that_fails_is_named,
    ];
    cases.push(test(&name("no_broker_is_named_in_time"), || async {
        no_broker_is_named_in_time().await;
        Ok(())
    }));
    cases
}

fn name(function: &str) -> String {
    format!("kafka: {}", function.replace('_', " "))
}

fn kafka(bootstrap: &str) -> KafkaConfig {
    KafkaConfig::new(bootstrap, "superhero-test").expect("the harness gives a valid list")
}

/// A name that no other case or run has.
fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let millis = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
    format!("test-{what}-{millis}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn cluster(bootstrap: &str) -> Cluster {
    Cluster::connect(&kafka(bootstrap), tokio::time::Instant::now() + PATIENCE).await.expect("the cluster answers")
}

/// A new topic whose partitions all have leaders.
async fn topic(bootstrap: &str, partitions: i32) -> String {
    let name = unique("topic");
    let config = ReadinessConfig { partitions, ..readiness(std::slice::from_ref(&name)) };
    wait_ready(&kafka(bootstrap), &config).await.expect("the topic is made");
    name
}

fn readiness(topics: &[String]) -> ReadinessConfig {
    ReadinessConfig { timeout: PATIENCE, ..ReadinessConfig::new(topics) }
}

fn all(topic: &str) -> BTreeSet<TopicPartition> {
    (0..PARTITIONS).map(|partition| TopicPartition::new(topic, partition)).collect()
}

fn owned(assignment: &Assignment) -> BTreeSet<TopicPartition> {
    assignment.partitions.iter().cloned().collect()
}

async fn next(member: &mut Member) -> Result<GroupEvent, GroupError> {
    tokio::time::timeout(PATIENCE, member.next_event()).await.expect("an event in time")
}

/// Gives back what is revoked, and takes what is assigned next.
async fn assigned(member: &mut Member) -> Assignment {
    loop {
        match next(member).await.expect("the membership goes on") {
            GroupEvent::Assigned(assignment) => return assignment,
            GroupEvent::Revoked(revocation) => revocation.done(),
            GroupEvent::Lost { id, reason } => panic!("{id} was lost: {reason}"),
        }
    }
}

/// Follows both members until they own all partitions of `topic` together and each owns some.
async fn shared(topic: &str, one: &mut Member, other: &mut Member) -> (Assignment, Assignment) {
    let (mut first, mut second) = (None::<Assignment>, None::<Assignment>);
    let sharing = async {
        loop {
            if let (Some(a), Some(b)) = (&first, &second)
                && a.id.generation() == b.id.generation()
            {
                assert!(owned(a).is_disjoint(&owned(b)), "{a:?} and {b:?} overlap");
                assert_eq!(&owned(a) | &owned(b), all(topic));
                return (a.clone(), b.clone());
            }
            tokio::select! {
                assignment = assigned(one) => first = Some(assignment),
                assignment = assigned(other) => second = Some(assignment),
            }
        }
    };
    tokio::time::timeout(PATIENCE, sharing).await.expect("both members share in time")
}

fn offset(partition: TopicPartition, offset: i64, metadata: &str) -> OffsetToCommit {
    OffsetToCommit { partition, offset, leader_epoch: -1, metadata: metadata.to_owned() }
}

async fn commit(committer: &Committer, id: &GenerationId, offset: OffsetToCommit) -> CommitOutcome {
    committer.commit(id, &[offset]).await.remove(0).1
}

/// A member that is alone gets every partition; it takes over from nobody and nobody hears of it twice.
async fn a_member_alone_gets_all_partitions(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let mut member = Member::join(GroupConfig::new(unique("group"), [&topic]), kafka(bootstrap)).expect("it joins");
    let assignment = assigned(&mut member).await;
    assert_eq!(owned(&assignment), all(&topic));
    member.close().await.expect("it leaves");
}

/// When one of two leaves, the other has all at once, without waiting for the session's end.
async fn two_members_share_and_the_one_that_stays_inherits(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let config =
        GroupConfig { session_timeout: Duration::from_secs(60), ..GroupConfig::new(unique("group"), [&topic]) };
    let mut one = Member::join(config.clone(), kafka(bootstrap)).expect("one joins");
    let mut other = Member::join(config, kafka(bootstrap)).expect("the other joins");
    let (first, second) = shared(&topic, &mut one, &mut other).await;
    assert_eq!((first.partitions.len(), second.partitions.len()), (2, 2));
    one.close().await.expect("one leaves");
    let last = assigned(&mut other).await;
    assert_eq!(owned(&last), all(&topic));
    assert_eq!(last.id.member_id(), second.id.member_id(), "a rebalance leaves the member its id");
    assert!(last.id.generation() > second.id.generation());
    other.close().await.expect("the other leaves");
}

/// The brokers take the assignor that all members know.
async fn members_with_other_preferences_agree_on_an_assignor(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let both = GroupConfig::new(unique("group"), [&topic]);
    let only = GroupConfig { assignors: vec![Assignor::RoundRobin], ..both.clone() };
    let mut one = Member::join(both.clone(), kafka(bootstrap)).expect("one joins");
    let mut other = Member::join(only, kafka(bootstrap)).expect("the other joins");
    let (first, second) = shared(&topic, &mut one, &mut other).await;
    for dealt in [first, second] {
        let numbers: Vec<i32> = dealt.partitions.iter().map(|p| p.partition % 2).collect();
        assert!(numbers.iter().all(|n| *n == numbers[0]), "{dealt:?} was dealt like cards");
    }
    let none = GroupConfig { assignors: vec![Assignor::Range], ..both };
    let mut third = Member::join(none, kafka(bootstrap)).expect("its settings are valid");
    let refused = next(&mut third).await.expect_err("it has no assignor in common with the group");
    assert!(matches!(refused, GroupError::Refused { error: BrokerError::InconsistentGroupProtocol, .. }), "{refused}");
    one.close().await.expect("one leaves");
    other.close().await.expect("the other leaves");
}

/// A member that is gone without a word is noticed after its session, 6 s on a broker with Kafka's defaults.
async fn a_killed_member_is_taken_over_after_its_session(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let config = GroupConfig::new(unique("group"), [&topic]);
    let mut one = Member::join(config.clone(), kafka(bootstrap)).expect("one joins");
    let mut other = Member::join(config, kafka(bootstrap)).expect("the other joins");
    shared(&topic, &mut one, &mut other).await;
    drop(one);
    let killed = Instant::now();
    assert_eq!(owned(&assigned(&mut other).await), all(&topic));
    println!("taken over {} ms after the kill", killed.elapsed().as_millis());
    other.close().await.expect("the other leaves");
}

/// A static member that returns within its session has what it had, in the same generation, and nobody else notices.
async fn a_static_member_that_restarts_keeps_its_partitions(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let group = unique("group");
    let config = |instance: &str| GroupConfig {
        instance_id: Some(instance.to_owned()),
        session_timeout: Duration::from_secs(30),
        ..GroupConfig::new(&group, [&topic])
    };
    let mut one = Member::join(config("one"), kafka(bootstrap)).expect("one joins");
    let mut other = Member::join(config("other"), kafka(bootstrap)).expect("the other joins");
    let (before, _) = shared(&topic, &mut one, &mut other).await;
    one.close().await.expect("one stops");
    let mut one = Member::join(config("one"), kafka(bootstrap)).expect("one returns");
    let after = assigned(&mut one).await;
    assert_eq!(after.partitions, before.partitions);
    assert_eq!(after.id.generation(), before.id.generation());
    assert_ne!(after.id, before.id, "its commits cannot be mistaken for those from before");
    let committer = one.committer();
    let first = after.partitions[0].clone();
    assert_eq!(
        commit(&committer, &before.id, offset(first.clone(), 1, "")).await,
        CommitOutcome::Refused(Refusal::Fenced(BrokerError::FencedInstanceId))
    );
    assert_eq!(commit(&committer, &after.id, offset(first, 1, "")).await, CommitOutcome::Accepted);
    // The other member has noticed nothing.
    let undisturbed = tokio::time::timeout(Duration::from_secs(1), other.next_event()).await;
    assert!(undisturbed.is_err(), "{undisturbed:?}");
}

/// A second process with the same instance id ends the first.
async fn a_second_process_with_the_same_instance_id_fences_the_first(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let config = GroupConfig { instance_id: Some("twin".to_owned()), ..GroupConfig::new(unique("group"), [&topic]) };
    let mut one = Member::join(config.clone(), kafka(bootstrap)).expect("one joins");
    let first = assigned(&mut one).await;
    let mut twin = Member::join(config, kafka(bootstrap)).expect("its twin joins");
    assigned(&mut twin).await;
    match next(&mut one).await {
        Ok(GroupEvent::Lost { id, reason }) => {
            assert_eq!((id, reason), (first.id, LostReason::Coordinator(BrokerError::FencedInstanceId)));
        }
        other => panic!("expected a loss, got {other:?}"),
    }
    let fenced = next(&mut one).await.expect_err("it is over");
    assert!(matches!(fenced, GroupError::Fenced { .. }), "{fenced}");
}

/// What an older generation commits is refused for sure, and what the newer has is untouched.
async fn a_commit_of_an_older_generation_is_refused(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let config = GroupConfig::new(unique("group"), [&topic]);
    let mut one = Member::join(config.clone(), kafka(bootstrap)).expect("one joins");
    let old = assigned(&mut one).await;
    let committer = one.committer();
    let partition = old.partitions[0].clone();
    assert_eq!(commit(&committer, &old.id, offset(partition.clone(), 3, "old")).await, CommitOutcome::Accepted);
    let mut other = Member::join(config, kafka(bootstrap)).expect("the other joins");
    let (new, _) = shared(&topic, &mut one, &mut other).await;
    assert_eq!(
        commit(&committer, &old.id, offset(partition.clone(), 5, "late")).await,
        CommitOutcome::Refused(Refusal::Fenced(BrokerError::IllegalGeneration))
    );
    let stranger = commit(&committer, &GenerationId::standalone(), offset(partition.clone(), 9, "")).await;
    assert!(matches!(stranger, CommitOutcome::Refused(Refusal::Fenced(_))), "{stranger:?}");
    let expected = Committed { partition: partition.clone(), offset: Some(3), metadata: "old".to_owned() };
    assert_eq!(committer.fetch(&[partition]).await.expect("offsets"), [expected]);
    let mine = new.partitions[0].clone();
    assert_eq!(commit(&committer, &new.id, offset(mine, 4, "new")).await, CommitOutcome::Accepted);
    one.close().await.expect("one leaves");
    other.close().await.expect("the other leaves");
}

/// While the group rebalances and the owner has not given back, its commits are accepted.
async fn commits_are_accepted_until_the_partitions_are_given_back(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let config = GroupConfig::new(unique("group"), [&topic]);
    let mut one = Member::join(config.clone(), kafka(bootstrap)).expect("one joins");
    let old = assigned(&mut one).await;
    let other = Member::join(config, kafka(bootstrap)).expect("the other joins");
    let revocation = match next(&mut one).await {
        Ok(GroupEvent::Revoked(revocation)) => revocation,
        event => panic!("expected a revocation, got {event:?}"),
    };
    assert_eq!(revocation.id(), &old.id);
    assert!(revocation.deadline() > tokio::time::Instant::now() + Duration::from_secs(20));
    let outcome = commit(&one.committer(), &old.id, offset(old.partitions[0].clone(), 3, "")).await;
    assert_eq!(outcome, CommitOutcome::Accepted);
    revocation.done();
    assert_eq!(assigned(&mut one).await.partitions.len(), 2);
    other.close().await.expect("the other leaves");
    one.close().await.expect("one leaves");
}

/// Metadata comes back as it was, "no offset" is told from offset 0, and each partition has an outcome of its own.
async fn commit_metadata_comes_back_and_partitions_have_their_own_outcomes(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let mut member = Member::join(GroupConfig::new(unique("group"), [&topic]), kafka(bootstrap)).expect("it joins");
    let assignment = assigned(&mut member).await;
    let committer = member.committer();
    let at = |partition| TopicPartition::new(&topic, partition);
    let long = "é✓ ".repeat(600);
    let outcomes = committer
        .commit(
            &assignment.id,
            &[
                offset(at(2), 0, &long),
                offset(at(0), 7, &"x".repeat(4097)),
                offset(TopicPartition::new(unique("missing"), 0), 1, ""),
            ],
        )
        .await;
    let outcomes: Vec<CommitOutcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(
        outcomes,
        [
            CommitOutcome::Accepted,
            CommitOutcome::Refused(Refusal::Invalid(BrokerError::OffsetMetadataTooLarge)),
            CommitOutcome::Refused(Refusal::Invalid(BrokerError::UnknownTopicOrPartition)),
        ]
    );
    let committed = committer.fetch(&[at(2), at(0)]).await.expect("offsets");
    assert_eq!(
        committed,
        [
            Committed { partition: at(2), offset: Some(0), metadata: long },
            Committed { partition: at(0), offset: None, metadata: String::new() },
        ]
    );
    member.close().await.expect("it leaves");
}

/// A process that stands still for longer than its session hears that it has lost its partitions, not only a newcomer's.
async fn a_member_that_stands_still_loses_its_partitions_and_hears_of_it(bootstrap: &str) {
    let topic = topic(bootstrap, PARTITIONS).await;
    let config = GroupConfig::new(unique("group"), [&topic]);
    let (standing, stands) = tokio::sync::oneshot::channel();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let stalled = {
        let (config, kafka) = (config.clone(), kafka(bootstrap));
        // A runtime of its own, of which nothing runs while its only thread waits.
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let mut member = {
                let _within = runtime.enter();
                Member::join(config, kafka).expect("it joins")
            };
            let before = runtime.block_on(assigned(&mut member));
            standing.send(()).expect("the case waits");
            goes.recv().expect("the case goes on");
            let lost = runtime.block_on(next(&mut member));
            let after = runtime.block_on(assigned(&mut member));
            runtime.block_on(member.close()).expect("it leaves");
            (before, lost, after)
        })
    };
    stands.await.expect("the member has joined");
    let mut other = Member::join(config, kafka(bootstrap)).expect("the other joins");
    assert_eq!(owned(&assigned(&mut other).await), all(&topic), "it takes over from the one that stands still");
    go.send(()).expect("the member waits");
    let following = async {
        loop {
            assigned(&mut other).await;
        }
    };
    let (before, lost, after) = tokio::select! {
        ended = stalled => ended.expect("the member's thread ends"),
        () = following => unreachable!("it follows for ever"),
    };
    match lost {
        Ok(GroupEvent::Lost { id, reason }) => {
            assert_eq!(id, before.id);
            assert!(matches!(reason, LostReason::SessionExpired { .. }), "{reason}");
        }
        event => panic!("expected a loss, got {event:?}"),
    }
    assert_ne!(after.id.member_id(), before.id.member_id());
    other.close().await.expect("the other leaves");
}

/// A topic that is made after the group has formed is taken up.
async fn a_topic_that_appears_later_is_assigned(bootstrap: &str) {
    let (first, later) = (topic(bootstrap, PARTITIONS).await, unique("later"));
    let config = GroupConfig::new(unique("group"), [&first, &later]);
    let mut member = Member::join(config, kafka(bootstrap)).expect("it joins");
    assert_eq!(owned(&assigned(&mut member).await), all(&first));
    let cluster = cluster(bootstrap).await;
    assert!(!cluster.topics().await.expect("topics").contains_key(&later), "to ask for a topic does not make it");
    let created = cluster.create_missing_topics(std::slice::from_ref(&later), PARTITIONS, 1).await;
    assert_eq!(created.expect("it is made"), std::slice::from_ref(&later));
    assert_eq!(owned(&assigned(&mut member).await), &all(&first) | &all(&later));
    member.close().await.expect("it leaves");
}

/// Topics are made once, keep their ids, and existing ones keep their partitions.
async fn a_cluster_tells_its_ids_and_makes_missing_topics_once(bootstrap: &str) {
    let (topic, cluster) = (topic(bootstrap, 3).await, cluster(bootstrap).await);
    let names = [topic.clone(), unique("other")];
    assert_eq!(cluster.create_missing_topics(&names, 2, 1).await.expect("one is made"), [names[1].clone()]);
    assert_eq!(cluster.create_missing_topics(&names, 2, 1).await.expect("none is made"), [""; 0]);
    let metadata = cluster.metadata().await.expect("metadata");
    assert_eq!(metadata.cluster_id.len(), 22, "{:?} is a cluster id", metadata.cluster_id);
    assert_eq!(metadata.topics[&topic].partitions.len(), 3);
    // Other cases make topics of theirs meanwhile.
    let again = cluster.metadata().await.expect("metadata");
    assert_eq!((&metadata.cluster_id, &metadata.topics[&topic]), (&again.cluster_id, &again.topics[&topic]));
    let zeros = (0..3).map(|partition| (partition, 0)).collect();
    assert_eq!(cluster.end_offsets(&topic).await.expect("offsets"), zeros);
    assert_eq!(cluster.earliest_offsets(&topic).await.expect("offsets"), zeros);
    let unknown = cluster.partition_client(&unique("missing"), 0).await.expect_err("it does not exist");
    assert!(unknown.to_string().contains("does not exist; create it"), "{unknown}");
    let beyond = cluster.partition_client(&topic, 3).await.expect_err("it does not exist");
    assert!(beyond.to_string().contains("has 3 partitions, and none with number 3"), "{beyond}");
}

/// All steps succeed, for several processes at once and again when all is there.
async fn a_cluster_that_serves_is_ready(bootstrap: &str) {
    let topics = [unique("ready"), unique("ready")];
    let (kafka, config) = (kafka(bootstrap), readiness(&topics));
    let (one, other) = tokio::join!(wait_ready(&kafka, &config), wait_ready(&kafka, &config));
    let (one, other) = (one.expect("ready"), other.expect("ready"));
    assert_eq!(one.cluster_id, other.cluster_id);
    let again = wait_ready(&kafka, &ReadinessConfig { partitions: 9, ..config }).await.expect("ready");
    assert_eq!(again.created, [""; 0]);
    println!("ready after {} ms, the next time after {} ms", one.elapsed.as_millis(), again.elapsed.as_millis());
}

/// Each step that cannot succeed is named, with the broker and the reason, when the time is over and not much later.
async fn a_step_that_fails_is_named(bootstrap: &str) {
    let short = |config: ReadinessConfig| ReadinessConfig { timeout: Duration::from_millis(2500), ..config };
    let group = unique("group");
    let topic = topic(bootstrap, PARTITIONS).await;
    let mut member = Member::join(GroupConfig::new(&group, [&topic]), kafka(bootstrap)).expect("it joins");
    assigned(&mut member).await;

    let base = short(readiness(std::slice::from_ref(&topic)));
    let too_many_copies = ReadinessConfig { replication_factor: 99, topics: vec![unique("copies")], ..base.clone() };
    let internal = ReadinessConfig { canary_topic: "__consumer_offsets".to_owned(), ..base.clone() };
    let occupied = ReadinessConfig { group, ..base.clone() };
    for (config, expected, reason) in [
        (too_many_copies, Step::CreateTopics, "replication factor 99"),
        (internal, Step::ProduceCanary, "InvalidTopic"),
        (occupied, Step::CommitOffset, "UnknownMemberId"),
    ] {
        check_not_ready(&kafka(bootstrap), &config, expected, reason).await;
    }
    member.close().await.expect("it leaves");
}

/// Without a broker, with one that is silent, and with something that is no broker, the wait ends in time.
async fn no_broker_is_named_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = listener.local_addr().expect("an address").to_string();
    let gone = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address").to_string()
    };
    let config = ReadinessConfig { timeout: Duration::from_millis(1500), ..ReadinessConfig::new(["t"]) };
    let quick = |servers: &str| KafkaConfig { request_timeout: Duration::from_millis(400), ..kafka(servers) };
    check_not_ready(&quick(&gone), &config, Step::Connect, "refused").await;
    check_not_ready(&quick(&silent), &config, Step::Connect, "did not answer ApiVersions within 400 ms").await;
    let both = format!("{gone},{silent}");
    check_not_ready(&quick(&both), &config, Step::Connect, &silent).await;
}

async fn check_not_ready(kafka: &KafkaConfig, config: &ReadinessConfig, expected: Step, why: &str) {
    let started = Instant::now();
    let not_ready = wait_ready(kafka, config).await.expect_err("it cannot be ready");
    let elapsed = started.elapsed();
    assert!(elapsed < config.timeout + Duration::from_secs(1), "{expected}: gave up after {elapsed:?}");
    println!("{not_ready}");
    match &not_ready {
        NotReady::Timeout { step, broker, reason, .. } | NotReady::Never { step, broker, reason } => {
            assert_eq!(*step, expected, "{not_ready}");
            assert!(reason.contains(why), "{reason:?} lacks {why:?}");
            assert!(broker.contains(':'), "{broker:?} is an address");
        }
        NotReady::Config(error) => panic!("{error}"),
    }
}
