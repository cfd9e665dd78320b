//! Memberships and commits against a coordinator that answers anything, in virtual time.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError as E;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::time::timeout_at;

use super::fake::{Fake, Say, State};
use super::*;
use crate::KafkaConfig;

/// How long each coordinator is borne.
const RUN: Duration = Duration::from_secs(20);
/// The shortest pause between two attempts.
const MIN_PAUSE: Duration = Duration::from_millis(50);
/// What one attempt asks for at most: versions and coordinator, versions again, JoinGroup twice for a new member's id, metadata,
/// SyncGroup, a heartbeat.
const REQUESTS_PER_ATTEMPT: u32 = 8;
const MAX_REQUESTS: u32 = REQUESTS_PER_ATTEMPT * (RUN.as_millis() / MIN_PAUSE.as_millis()) as u32;

const ERRORS: [E; 16] = [
    E::CoordinatorNotAvailable,
    E::NotCoordinator,
    E::CoordinatorLoadInProgress,
    E::IllegalGeneration,
    E::UnknownMemberId,
    E::MemberIdRequired,
    E::RebalanceInProgress,
    E::InvalidSessionTimeout,
    E::FencedInstanceId,
    E::GroupAuthorizationFailed,
    E::InconsistentGroupProtocol,
    E::UnknownServerError,
    E::RequestTimedOut,
    E::UnknownTopicOrPartition,
    E::Unknown(1234),
    E::Unknown(i16::MIN),
];

fn any_say() -> impl Strategy<Value = Say> {
    prop_oneof![
        6 => Just(Say::Content),
        4 => select(&ERRORS[..]).prop_map(Say::Error),
        1 => (-2..4i32, select(&["", "a", "b"][..])).prop_map(|(generation, member)| Say::Joined(generation, member)),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Say::Bytes(bytes.into())),
        1 => Just(Say::Nothing),
        1 => Just(Say::Hangup),
    ]
}

fn says() -> impl Strategy<Value = VecDeque<Say>> {
    prop::collection::vec(any_say(), 0..6).prop_map(Into::into)
}

/// Where the coordinator is. Any other bytes could be the name of a host that exists.
fn finds() -> impl Strategy<Value = VecDeque<Say>> {
    let short = || Say::Bytes(Bytes::from_static(b"\0\0\0\0\0"));
    let keep = move |say| if matches!(say, Say::Bytes(_)) { short() } else { say };
    prop::collection::vec(any_say().prop_map(keep), 0..4).prop_map(Into::into)
}

prop_compose! {
    fn coordinators()(
        joins in says(), syncs in says(), heartbeats in says(), commits in says(), fetches in says(), metadata in says(),
        finds in finds(), repeats: bool,
    ) -> State {
        State { joins, syncs, heartbeats, commits, fetches, metadata, finds, repeats, partitions: 2, ..State::default() }
    }
}

fn config(is_static: bool) -> GroupConfig {
    GroupConfig { instance_id: is_static.then(|| "i".to_owned()), ..GroupConfig::new("g", ["t"]) }
}

/// What an owner sees of its membership, which commits once in each generation; checked as it comes.
#[derive(Default)]
struct Seen {
    assigned: Vec<GenerationId>,
    /// Of the last assignment.
    revoked: bool,
    over: bool,
}

impl Seen {
    fn take(&mut self, event: &GroupEvent) -> Result<(), TestCaseError> {
        match event {
            GroupEvent::Assigned(assignment) => {
                let id = &assignment.id;
                prop_assert!(id.generation() >= 0 && !id.member_id().is_empty(), "{id}");
                if let Some(last) = self.assigned.last().filter(|last| last.member_id() == id.member_id()) {
                    prop_assert!(last.generation() < id.generation(), "{id} after {last}");
                }
                prop_assert!(self.assigned.is_empty() || self.over || self.revoked, "{id} while the last one is held");
                self.assigned.push(id.clone());
                (self.revoked, self.over) = (false, false);
            }
            GroupEvent::Revoked(revocation) => {
                prop_assert!(!self.revoked && !self.over);
                prop_assert_eq!(Some(revocation.id()), self.assigned.last());
                self.revoked = true;
            }
            GroupEvent::Lost { id, .. } => {
                prop_assert!(!self.over);
                prop_assert_eq!(Some(id), self.assigned.last());
                self.over = true;
            }
        }
        Ok(())
    }
}

/// Is a member for as long as a run lasts, as an owner that gives partitions back at once, or never.
async fn run(coordinator: State, is_static: bool, gives_back: bool) -> Result<(), TestCaseError> {
    let fake = Fake::start().await;
    *fake.state() = coordinator;
    let kafka = KafkaConfig::new(&fake.address, "test").unwrap();
    let request_timeout = kafka.request_timeout;
    let mut member = Member::join(config(is_static), kafka).unwrap();
    let committer = member.committer();
    let end = Instant::now() + RUN;
    let (mut seen, mut held) = (Seen::default(), Vec::new());
    while let Ok(event) = timeout_at(end, member.next_event()).await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                prop_assert!(matches!(error, GroupError::Refused { .. } | GroupError::Fenced { .. }), "{error}");
                let again = member.next_event().await;
                prop_assert!(matches!(again, Err(GroupError::Closed { .. })), "{again:?}");
                break;
            }
        };
        seen.take(&event)?;
        match event {
            GroupEvent::Assigned(Assignment { id, .. }) => {
                let partition = TopicPartition::new("t", 0);
                let fetching = Instant::now();
                if let Ok(committed) = committer.fetch(std::slice::from_ref(&partition)).await {
                    prop_assert_eq!(committed.len(), 1);
                    prop_assert_eq!(&committed[0].partition, &partition);
                }
                prop_assert!(fetching.elapsed() <= request_timeout, "a look took {:?}", fetching.elapsed());
                let offset = OffsetToCommit { partition, offset: 1, leader_epoch: -1, metadata: String::new() };
                let sending = Instant::now();
                let outcomes = committer.commit(&id, &[offset]).await;
                prop_assert_eq!(outcomes.len(), 1);
                prop_assert!(sending.elapsed() <= 2 * request_timeout, "a commit took {:?}", sending.elapsed());
            }
            GroupEvent::Revoked(revocation) if !gives_back => held.push(revocation),
            GroupEvent::Revoked(revocation) => revocation.done(),
            GroupEvent::Lost { .. } => {}
        }
    }
    let closing = Instant::now();
    let _ = member.close().await;
    prop_assert!(closing.elapsed() <= 2 * request_timeout, "the end took {:?}", closing.elapsed());
    let state = fake.state();
    prop_assert!(state.requests <= MAX_REQUESTS, "{} requests in {RUN:?}", state.requests);
    let name = |id: &GenerationId| (id.generation(), id.member_id().to_owned());
    for id in &seen.assigned {
        prop_assert!(state.joined.contains(&name(id)), "{id} was not let in");
    }
    for id in &state.committed {
        prop_assert!(seen.assigned.iter().any(|held| name(held) == *id), "a commit as {id:?}, which was not held");
    }
    Ok(())
}

fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_coordinator_answers_a_member_holds_what_it_was_given_and_keeps_its_pauses(
        coordinator in coordinators(), is_static: bool, gives_back: bool,
    ) {
        in_virtual_time(run(coordinator, is_static, gives_back))?;
    }
}

/// Each of these once made a member ask as fast as the coordinator answered.
#[test]
fn a_coordinator_that_never_lets_a_member_stay_is_asked_with_pauses() {
    let always = |say: Say| VecDeque::from([say]);
    let of = |joins, heartbeats| State { joins, heartbeats, repeats: true, partitions: 2, ..State::default() };
    for coordinator in [
        of(always(Say::Error(E::MemberIdRequired)), VecDeque::new()),
        of(VecDeque::new(), always(Say::Error(E::UnknownMemberId))),
        of(VecDeque::new(), always(Say::Error(E::IllegalGeneration))),
        of(VecDeque::new(), always(Say::Error(E::RebalanceInProgress))),
    ] {
        in_virtual_time(run(coordinator, false, true)).unwrap();
    }
}

#[test]
fn a_generation_that_nobody_could_commit_in_is_not_joined() {
    let joins =
        [Say::Joined(-1, ""), Say::Joined(-1, "a"), Say::Joined(3, ""), Say::Joined(3, "a"), Say::Joined(3, "a")];
    let heartbeats = [Say::Error(E::IllegalGeneration)];
    let coordinator = State { joins: joins.into(), heartbeats: heartbeats.into(), partitions: 2, ..State::default() };
    in_virtual_time(async {
        let fake = Fake::start().await;
        *fake.state() = coordinator;
        let mut member = Member::join(config(false), KafkaConfig::new(&fake.address, "test").unwrap()).unwrap();
        let mut assigned = Vec::new();
        while assigned.len() < 2 {
            if let GroupEvent::Assigned(Assignment { id, .. }) = member.next_event().await.unwrap() {
                assigned.push((id.generation(), id.member_id().to_owned()));
            }
        }
        assert_eq!(assigned, [(3, "a".to_owned()), (4, "member-1".to_owned())]);
    });
}
