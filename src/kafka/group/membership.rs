//! The task that is a member: it owns the connection to the coordinator, the member id, and the session's clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::config::BROKER_MIN_SESSION;
use super::coordinator::{self, HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, SYNC_GROUP};
use super::leader::{Dealt, Subscriptions};
use super::step::{self, Call, Step};
use super::{Assignment, GenerationId, GroupConfig, GroupError, GroupEvent, LostReason, Revocation, protocol};
use crate::KafkaConfig;
use crate::backoff::Backoff;
use crate::metadata::partition_counts;
use crate::wire::{Connection, WireError};

/// The name under which consumers of all languages share groups.
const PROTOCOL_TYPE: &str = "consumer";
/// Assigned, Revoked, Lost. The next round begins when the owner has taken them all, so sending never waits.
pub(super) const EVENTS_PER_ROUND: usize = 3;
/// The broker answers a join when the rebalance timeout is over; this is for the way there and back.
const JOIN_MARGIN: Duration = Duration::from_secs(5);
/// A revocation ends so much before the broker would go on without us, so that the rejoin arrives in time.
const REVOCATION_MARGIN: Duration = Duration::from_millis(500);
/// Topics that are subscribed and do not exist (yet) are looked for this often.
const MISSING_TOPIC_INTERVAL: Duration = Duration::from_secs(2);
/// Of the attempts that fail in a row, the first and then every tenth is logged as a warning.
const WARN_EVERY: u32 = 10;

/// What moves a member with an assignment. The owner's stop is not among them: it ends the whole loop.
enum Trigger {
    HeartbeatDue,
    MetadataDue,
    RevocationDone,
    RevocationOverdue,
    SessionExpired,
}

/// Where a member with an assignment stands.
enum Phase {
    /// The leader looks for new partitions when `metadata_due`.
    Stable { metadata_due: Option<Instant> },
    /// The owner finishes; `done` resolves when it has dropped the revocation.
    Revoking { done: oneshot::Receiver<()>, deadline: Instant },
}

/// What a heartbeat has shown.
enum Pulse {
    /// The coordinator knows us, and all is well.
    Alive,
    /// The coordinator knows us, and waits for us to rejoin.
    Rebalancing,
    /// No answer, or none that tells.
    Silent(String),
    /// The assignment is lost.
    Over(LostReason, Result<(), GroupError>),
}

/// A joined member's place in its generation.
struct Session {
    id: GenerationId,
    /// Set if we are the leader.
    dealt: Option<Dealt>,
    /// When the coordinator last knew us for sure: the sending of the last heartbeat that it answered.
    last_seen: Instant,
    /// What the last heartbeat failed with.
    last_failure: String,
}

pub(super) struct Membership {
    config: GroupConfig,
    kafka: KafkaConfig,
    events: mpsc::Sender<GroupEvent>,
    /// What the broker allows, if that is more than the configured one.
    session_timeout: Duration,
    connection: Option<Connection>,
    /// Empty until a coordinator has given one.
    member_id: StrBytes,
    /// That of the last assignment.
    held: Option<GenerationId>,
    backoff: Backoff,
}

impl Membership {
    pub(super) fn new(config: GroupConfig, kafka: KafkaConfig, events: mpsc::Sender<GroupEvent>) -> Self {
        let session_timeout = config.session_timeout;
        Self {
            config,
            kafka,
            events,
            session_timeout,
            connection: None,
            member_id: StrBytes::default(),
            held: None,
            backoff: Backoff::default(),
        }
    }

    /// Is a member until `stop`, or until no attempt can succeed.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), GroupError> {
        let stopped = stop.run_until_cancelled(self.rounds()).await;
        match stopped {
            Some(error) => Err(error),
            None => {
                self.leave().await;
                Ok(())
            }
        }
    }

    async fn rounds(&mut self) -> GroupError {
        loop {
            // Only this task sends, so the room cannot shrink until the round is over.
            if self.events.reserve_many(EVENTS_PER_ROUND).await.is_err() {
                return GroupError::Closed { group: self.config.group_id.clone() };
            }
            if let Err(fatal) = self.round().await {
                return fatal;
            }
        }
    }

    /// One generation: join, sync, stay, and give back or lose.
    async fn round(&mut self) -> Result<(), GroupError> {
        let joined = self.join().await?;
        let Some((session, assignment)) = self.sync(joined).await? else { return Ok(()) };
        self.backoff.reset();
        self.held = Some(session.id.clone());
        let (id, leader) = (session.id.clone(), session.dealt.is_some());
        info!(group = self.config.group_id, %id, leader, partitions = assignment.partitions.len(), "joined the group");
        self.emit(GroupEvent::Assigned(assignment));
        let (lost, end) = self.stay(session).await;
        if let Some(reason) = lost {
            warn!(group = self.config.group_id, %id, %reason, "lost the assignment");
            self.emit(GroupEvent::Lost { id, reason });
        }
        end
    }

    /// JoinGroup until it succeeds.
    async fn join(&mut self) -> Result<JoinGroupResponse, GroupError> {
        loop {
            let mut connection = self.connect().await?;
            let answer = match connection.call(JOIN_GROUP, &self.join_request(), self.held_back_limit()).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.pause(&error).await;
                    continue;
                }
            };
            self.connection = Some(connection);
            let error = ResponseError::try_from_code(answer.error_code);
            match error {
                Some(error) if step::after(Call::JoinGroup, error) == Step::TakeMemberId => {
                    let asked_as = std::mem::replace(&mut self.member_id, answer.member_id);
                    // Once is the rule; a coordinator that goes on giving ids is not asked without a pause.
                    if !asked_as.is_empty() || self.member_id.is_empty() {
                        self.pause(&error).await;
                    }
                }
                Some(error) => self.recover(Call::JoinGroup, error).await?,
                None => match self.not_a_generation(&answer) {
                    Some(reason) => {
                        self.member_id = StrBytes::default();
                        self.pause(&reason).await;
                    }
                    None => {
                        self.member_id = answer.member_id.clone();
                        return Ok(answer);
                    }
                },
            }
        }
    }

    /// Why nobody could commit as what a JoinGroup was answered with, or not without being taken for somebody else.
    fn not_a_generation(&self, joined: &JoinGroupResponse) -> Option<String> {
        let (generation, member_id) = (joined.generation_id, joined.member_id.as_str());
        if generation < 0 || member_id.is_empty() {
            return Some(format!(
                "the coordinator answers JoinGroup with generation {generation} of member {member_id:?}"
            ));
        }
        let held = self.held.as_ref().filter(|held| *held.member_id == *member_id && held.generation >= generation)?;
        Some(format!("the coordinator answers JoinGroup with generation {generation} after {held}"))
    }

    /// SyncGroup, with everybody's share if we are the leader. `None` asks for another join.
    async fn sync(&mut self, joined: JoinGroupResponse) -> Result<Option<(Session, Assignment)>, GroupError> {
        let mut connection = self.connect().await?;
        let led = match joined.leader == joined.member_id {
            true => self.lead(&mut connection, &joined).await.map(|(dealt, shares)| (Some(dealt), shares)),
            false => Ok((None, Vec::new())),
        };
        let (dealt, shares) = match led {
            Ok(led) => led,
            Err(reason) => {
                self.pause(&reason).await;
                return Ok(None);
            }
        };
        let request = SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(joined.generation_id)
            .with_member_id(self.member_id.clone())
            .with_group_instance_id(self.instance_id())
            .with_assignments(shares);
        let answer = match connection.call(SYNC_GROUP, &request, self.held_back_limit()).await {
            Ok(answer) => answer,
            Err(error) => {
                self.pause(&error).await;
                return Ok(None);
            }
        };
        self.connection = Some(connection);
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            self.recover(Call::SyncGroup, error).await?;
            return Ok(None);
        }
        let partitions = match protocol::decode_assignment(&answer.assignment) {
            Ok(partitions) => partitions,
            Err(error) => {
                self.pause(&format!("the assignment by the group's leader cannot be read: {error}")).await;
                return Ok(None);
            }
        };
        let id = GenerationId {
            generation: joined.generation_id,
            member_id: self.member_id.as_str().into(),
            instance_id: self.config.instance_id.as_deref().map(Arc::from),
        };
        let session =
            Session { id: id.clone(), dealt, last_seen: Instant::now(), last_failure: "none was sent".to_owned() };
        Ok(Some((session, Assignment { id, partitions })))
    }

    /// Deals the partitions out. The broker keeps the members waiting meanwhile, so none needs a heartbeat.
    async fn lead(
        &self,
        connection: &mut Connection,
        joined: &JoinGroupResponse,
    ) -> Result<(Dealt, Vec<SyncGroupRequestAssignment>), String> {
        let chosen = joined.protocol_name.as_ref().map_or("", |name| name.as_str());
        let assignor = self.config.assignors.iter().copied().find(|a| a.name() == chosen);
        let assignor = assignor.ok_or_else(|| format!("the broker chose the assignor {chosen:?}, not one of ours"))?;
        let subscriptions = Subscriptions::read(&self.config.group_id, &joined.members);
        let topics = subscriptions.topics();
        let counts = self.counts(connection, &topics).await.map_err(|e| e.to_string())?;
        let dealt = Dealt { topics, counts };
        let missing = dealt.missing();
        if !missing.is_empty() {
            let missing = missing.join(",");
            warn!(group = self.config.group_id, missing, "topics of the group do not exist; create them");
        }
        let shares = subscriptions.deal(assignor, &dealt.counts);
        Ok((dealt, shares))
    }

    /// Heartbeats until the generation is over. Says whether the assignment was lost, and whether that is the end.
    async fn stay(&mut self, mut session: Session) -> (Option<LostReason>, Result<(), GroupError>) {
        let mut phase = self.stable(&session);
        // Not at once: the coordinator has just answered, and one that throws us out as soon as we are in is not to make us spin.
        let mut heartbeats =
            interval_at(Instant::now() + self.config.heartbeat_interval, self.config.heartbeat_interval);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let expiry = session.last_seen + self.session_timeout;
            match next_trigger(&mut phase, &mut heartbeats, expiry).await {
                Trigger::HeartbeatDue => {
                    // Up to here the group was stable, so the broker's patience lasts at least from here.
                    let rebalance_after = session.last_seen;
                    let sent = Instant::now();
                    let pulse = timeout_at(expiry, self.heartbeat(&session.id)).await;
                    match pulse.unwrap_or_else(|_| Pulse::Silent("the coordinator is silent".to_owned())) {
                        Pulse::Alive => session.last_seen = sent,
                        Pulse::Rebalancing => {
                            session.last_seen = sent;
                            if let Phase::Stable { .. } = phase {
                                phase = self.revoke(&session, rebalance_after);
                            }
                        }
                        Pulse::Silent(failure) => {
                            debug!(group = self.config.group_id, failure, "a heartbeat failed");
                            session.last_failure = failure;
                        }
                        Pulse::Over(reason, end) => return (Some(reason), end),
                    }
                }
                Trigger::MetadataDue => {
                    phase = match self.partitions_changed(&session).await {
                        true => self.revoke(&session, Instant::now()),
                        false => self.stable(&session),
                    };
                }
                Trigger::RevocationDone => return (None, Ok(())),
                Trigger::RevocationOverdue => return (Some(LostReason::RevocationOverdue), Ok(())),
                Trigger::SessionExpired => {
                    // The broker may know us still, in this very generation; a new member can only join another one.
                    self.member_id = StrBytes::default();
                    let session_ms = self.session_timeout.as_millis();
                    return (Some(LostReason::SessionExpired { session_ms, last: session.last_failure }), Ok(()));
                }
            }
        }
    }

    async fn heartbeat(&mut self, id: &GenerationId) -> Pulse {
        let mut connection = match self.kept_or_new().await {
            Ok(connection) => connection,
            Err(error) => return Pulse::Silent(error.to_string()),
        };
        let request = HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(id.generation)
            .with_member_id(self.member_id.clone())
            .with_group_instance_id(self.instance_id());
        let answer = match connection.call(HEARTBEAT, &request, self.kafka.request_timeout).await {
            Ok(answer) => answer,
            Err(error) => return Pulse::Silent(error.to_string()),
        };
        let Some(error) = ResponseError::try_from_code(answer.error_code) else {
            self.connection = Some(connection);
            return Pulse::Alive;
        };
        let step = step::after(Call::Heartbeat, error);
        if step != Step::FindCoordinator {
            self.connection = Some(connection);
        }
        match step {
            Step::Revoke => Pulse::Rebalancing,
            Step::DropGeneration => Pulse::Over(LostReason::Coordinator(error), Ok(())),
            Step::DropMember => {
                self.member_id = StrBytes::default();
                Pulse::Over(LostReason::Coordinator(error), Ok(()))
            }
            Step::Fenced | Step::Fatal => {
                Pulse::Over(LostReason::Coordinator(error), Err(self.fatal(Call::Heartbeat, error)))
            }
            Step::Retry | Step::FindCoordinator | Step::TakeMemberId | Step::RaiseSession => {
                Pulse::Silent(error.to_string())
            }
        }
    }

    fn stable(&self, session: &Session) -> Phase {
        let age = |dealt: &Dealt| match dealt.missing().is_empty() {
            true => self.config.metadata_max_age,
            false => self.config.metadata_max_age.min(MISSING_TOPIC_INTERVAL),
        };
        Phase::Stable { metadata_due: session.dealt.as_ref().map(|dealt| Instant::now() + age(dealt)) }
    }

    /// Asks the owner to finish while the broker, which has been waiting since `since` at the earliest, still waits.
    fn revoke(&self, session: &Session, since: Instant) -> Phase {
        let patience = self.config.rebalance_timeout;
        let deadline = since + patience.saturating_sub(REVOCATION_MARGIN).max(patience / 2);
        let (held, done) = oneshot::channel();
        info!(group = self.config.group_id, id = %session.id, "the group rebalances; giving the partitions back");
        self.emit(GroupEvent::Revoked(Revocation { id: session.id.clone(), deadline, _held: held }));
        Phase::Revoking { done, deadline }
    }

    async fn partitions_changed(&mut self, session: &Session) -> bool {
        let Some(dealt) = &session.dealt else { return false };
        let Some(mut connection) = self.connection.take() else { return false };
        match self.counts(&mut connection, &dealt.topics).await {
            Ok(counts) => {
                self.connection = Some(connection);
                counts != dealt.counts
            }
            Err(error) => {
                debug!(group = self.config.group_id, %error, "cannot look for new partitions");
                false
            }
        }
    }

    /// Bounded so that heartbeats do not wait too long for it.
    async fn counts(&self, connection: &mut Connection, topics: &[String]) -> Result<BTreeMap<String, i32>, WireError> {
        let limit = self.kafka.request_timeout.min(self.session_timeout / 3);
        partition_counts(connection, topics, limit).await
    }

    /// A dynamic member says goodbye, so that the others need not wait for the end of its session.
    async fn leave(&mut self) {
        if self.member_id.is_empty() || self.config.instance_id.is_some() {
            return;
        }
        let member = MemberIdentity::default().with_member_id(std::mem::take(&mut self.member_id));
        let request = LeaveGroupRequest::default().with_group_id(self.group_id()).with_members(vec![member]);
        let limit = self.kafka.request_timeout;
        let leaving = async {
            let mut connection = self.kept_or_new().await.map_err(|e| e.to_string())?;
            let answer = connection.call(LEAVE_GROUP, &request, limit).await.map_err(|e| e.to_string())?;
            let first = answer.members.first().map_or(0, |member| member.error_code);
            let error = ResponseError::try_from_code(answer.error_code).or(ResponseError::try_from_code(first));
            error.map_or(Ok(()), |e| Err(e.to_string()))
        };
        match timeout(limit, leaving).await.unwrap_or_else(|_| Err(format!("no answer in {} ms", limit.as_millis()))) {
            Ok(()) => info!(group = self.config.group_id, "left the group"),
            Err(reason) => {
                warn!(group = self.config.group_id, reason, "could not leave; the group waits for the session's end");
            }
        }
    }

    /// A connection to the coordinator, however long that takes.
    async fn connect(&mut self) -> Result<Connection, GroupError> {
        loop {
            match self.kept_or_new().await {
                Ok(connection) => return Ok(connection),
                Err(error) => match error.fatal() {
                    Some(fatal) => return Err(self.fatal(Call::FindCoordinator, fatal)),
                    None => self.pause(&error).await,
                },
            }
        }
    }

    /// Takes the connection away, so that whoever is cancelled while using it does not leave it behind.
    async fn kept_or_new(&mut self) -> Result<Connection, coordinator::CoordinatorError> {
        match self.connection.take().filter(Connection::is_usable) {
            Some(connection) => Ok(connection),
            None => coordinator::connect(&self.kafka, &self.config.group_id).await,
        }
    }

    /// Follows the protocol's table after a refused JoinGroup or SyncGroup; the next thing to do is to join again.
    async fn recover(&mut self, call: Call, error: ResponseError) -> Result<(), GroupError> {
        match step::after(call, error) {
            Step::FindCoordinator => self.connection = None,
            Step::DropMember => self.member_id = StrBytes::default(),
            Step::RaiseSession if self.session_timeout < BROKER_MIN_SESSION => {
                let (asked_ms, taken_ms) = (self.session_timeout.as_millis(), BROKER_MIN_SESSION.as_millis());
                info!(group = self.config.group_id, asked_ms, taken_ms, "the broker allows no such short session");
                self.session_timeout = BROKER_MIN_SESSION;
            }
            Step::RaiseSession | Step::Fenced | Step::Fatal => return Err(self.fatal(call, error)),
            Step::Retry | Step::DropGeneration | Step::TakeMemberId | Step::Revoke => {}
        }
        self.pause(&format!("the coordinator answers {} with {error}", call.name())).await;
        Ok(())
    }

    fn fatal(&self, call: Call, error: ResponseError) -> GroupError {
        let group = self.config.group_id.clone();
        if let (ResponseError::FencedInstanceId, Some(instance_id)) = (error, self.config.instance_id.clone()) {
            return GroupError::Fenced { group, instance_id };
        }
        let advice = match error {
            ResponseError::InvalidSessionTimeout => format!(
                "choose a session timeout other than {} ms, within the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms",
                self.session_timeout.as_millis()
            ),
            ResponseError::InconsistentGroupProtocol => {
                let ours: Vec<_> = self.config.assignors.iter().map(|a| a.name()).collect();
                format!("its other members use none of our assignors ({}), or another protocol", ours.join(", "))
            }
            ResponseError::GroupMaxSizeReached => "raise the brokers' group.max.size or start fewer workers".to_owned(),
            _ => "check the group's name and the client's rights".to_owned(),
        };
        GroupError::Refused { group, call: call.name(), error, advice }
    }

    async fn pause(&mut self, reason: &(dyn fmt::Display + Send + Sync)) {
        let attempt = self.backoff.attempts();
        if attempt.is_multiple_of(WARN_EVERY) && attempt > 0 {
            warn!(group = self.config.group_id, attempt, %reason, "still not in the group");
        } else {
            info!(group = self.config.group_id, attempt, %reason, "not in the group yet");
        }
        self.backoff.pause().await;
    }

    fn emit(&self, event: GroupEvent) {
        // There is room for a whole round, so it can only fail when the owner has gone, and then nobody needs it.
        if self.events.try_send(event).is_err() {
            debug!(group = self.config.group_id, "nobody takes the membership's events any more");
        }
    }

    fn join_request(&self) -> JoinGroupRequest {
        let subscription = protocol::encode_subscription(&self.config.topics);
        let protocols = self.config.assignors.iter().map(|assignor| {
            JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(assignor.name()))
                .with_metadata(subscription.clone())
        });
        JoinGroupRequest::default()
            .with_group_id(self.group_id())
            // Both were checked to fit.
            .with_session_timeout_ms(self.session_timeout.as_millis() as i32)
            .with_rebalance_timeout_ms(self.config.rebalance_timeout.as_millis() as i32)
            .with_member_id(self.member_id.clone())
            .with_group_instance_id(self.instance_id())
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(protocols.collect())
    }

    /// For the requests that the broker holds back until the other members have come.
    fn held_back_limit(&self) -> Duration {
        self.config.rebalance_timeout.max(self.session_timeout) + JOIN_MARGIN
    }

    fn group_id(&self) -> GroupId {
        GroupId(StrBytes::from_string(self.config.group_id.clone()))
    }

    fn instance_id(&self) -> Option<StrBytes> {
        self.config.instance_id.clone().map(StrBytes::from_string)
    }
}

async fn next_trigger(phase: &mut Phase, heartbeats: &mut Interval, expiry: Instant) -> Trigger {
    match phase {
        Phase::Stable { metadata_due } => {
            let due = metadata_due.unwrap_or(expiry);
            tokio::select! {
                biased;
                () = sleep_until(expiry) => Trigger::SessionExpired,
                // Before the heartbeats, which are always due when the broker answers more slowly than they come.
                () = sleep_until(due), if metadata_due.is_some() => Trigger::MetadataDue,
                _ = heartbeats.tick() => Trigger::HeartbeatDue,
            }
        }
        Phase::Revoking { done, deadline } => tokio::select! {
            biased;
            _ = done => Trigger::RevocationDone,
            () = sleep_until(expiry) => Trigger::SessionExpired,
            () = sleep_until(*deadline) => Trigger::RevocationOverdue,
            _ = heartbeats.tick() => Trigger::HeartbeatDue,
        },
    }
}
