//! JoinGroup, and the rebalance that it is for: everybody joins, and a new generation begins.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::JoinGroupResponse;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use tracing::{debug, info};
use uuid::Uuid;

use super::classic::{Group, InitialDelay, State, Timer};
use super::member::{JoinReply, Member, Profile, Protocol, Waiting};
use super::{GroupLimits, subscription};

/// A new member has no session yet, and may have given up without the broker knowing; so long it may wait for the others.
const NEW_MEMBER_WAIT: Duration = Duration::from_secs(5 * 60);
/// A rebalance in which nobody has joined, and static members have a session still, waits at least so long for the next look.
const REPEATED_WAIT_MIN: Duration = Duration::from_secs(1);
/// So much of a client's name begins its member id, which has to fit into any version's strings.
const MEMBER_NAME_CHARS: usize = 250;

/// A JoinGroup.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Empty for a new member.
    pub(crate) member_id: StrBytes,
    pub(crate) profile: Profile,
    /// Whether the client knows that it may have to join twice, the second time with the id that it was given.
    pub(crate) knows_member_id_required: bool,
    /// Whether the client knows that a leader may have nothing to assign.
    pub(crate) knows_skip_assignment: bool,
}

impl Group {
    pub(super) fn join(&mut self, now: Instant, limits: &GroupLimits, join: Join, reply: JoinReply) {
        if !self.has_room(limits, &join) {
            return reply.refuse(ResponseError::GroupMaxSizeReached, StrBytes::default());
        }
        if !self.agrees(&join.profile) {
            return reply.refuse(ResponseError::InconsistentGroupProtocol, join.member_id);
        }
        let is_pending = join.profile.instance_id.is_none() && self.pending.contains(&join.member_id);
        if join.member_id.is_empty() {
            self.join_new(now, limits, join, reply);
        } else if is_pending {
            self.add_and_rebalance(now, limits, join.member_id, join.profile, reply);
        } else {
            self.join_again(now, limits, join, reply);
        }
    }

    fn has_room(&self, limits: &GroupLimits, join: &Join) -> bool {
        let is_known = self.members.contains_key(&join.member_id) || self.pending.contains(&join.member_id);
        let instance_id = join.profile.instance_id.as_ref();
        let takes_a_place = instance_id.is_some_and(|instance_id| self.instances.contains_key(instance_id));
        is_known || takes_a_place || self.members.len() + self.pending.len() < limits.max_members_per_group
    }

    fn join_new(&mut self, now: Instant, limits: &GroupLimits, join: Join, reply: JoinReply) {
        let profile = &join.profile;
        let name = profile.instance_id.as_ref().unwrap_or(&profile.client_id);
        let name: String = name.chars().take(MEMBER_NAME_CHARS).collect();
        let id = StrBytes::from_string(format!("{name}-{}", Uuid::new_v4()));
        let known = profile.instance_id.as_ref().and_then(|instance_id| self.instances.get(instance_id)).cloned();
        if let Some(old_id) = known {
            self.replace_static(now, limits, &old_id, id, join, reply);
        } else if profile.instance_id.is_none() && join.knows_member_id_required {
            self.pending.insert(id.clone());
            self.timers.set(&Timer::Session(id.clone()), Some(now + profile.session_timeout));
            reply.refuse(ResponseError::MemberIdRequired, id);
        } else {
            self.add_and_rebalance(now, limits, id, join.profile, reply);
        }
    }

    fn add_and_rebalance(
        &mut self,
        now: Instant,
        limits: &GroupLimits,
        id: StrBytes,
        profile: Profile,
        reply: JoinReply,
    ) {
        debug!(group = %self.id, member = %id, host = %profile.client_host, "a member joins");
        // The id of a pending member that comes from the request may be a slice of its frame.
        let id = self.pending.take(&id).unwrap_or(id);
        if self.members.is_empty() {
            self.protocol_type = Some(profile.protocol_type.clone());
        }
        if let Some(instance_id) = &profile.instance_id {
            self.instances.insert(instance_id.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.sequence += 1;
        let member = Member {
            id: id.clone(),
            sequence: self.sequence,
            profile,
            assignment: Default::default(),
            is_new: true,
            waiting: Waiting::Join(reply),
        };
        self.members.insert(id.clone(), member);
        self.timers.set(&Timer::Session(id), Some(now + NEW_MEMBER_WAIT));
        match &mut self.state {
            State::Empty => self.prepare_first_rebalance(now, limits),
            State::Preparing { delay } => {
                if let Some(delay) = delay {
                    delay.new_member = true;
                }
                self.try_complete_join(now);
            }
            State::Completing { .. } | State::Stable { .. } => self.prepare_rebalance(now),
        }
    }

    /// JoinGroup of a member that has an id.
    fn join_again(&mut self, now: Instant, limits: &GroupLimits, join: Join, reply: JoinReply) {
        let id = join.member_id;
        if let Err(error) = self.check_member(&id, join.profile.instance_id.as_ref()) {
            return reply.refuse(error, id);
        }
        let is_leader = self.leader.as_ref() == Some(&id);
        let is_unchanged = self.members.get(&id).is_some_and(|m| m.profile.protocols == join.profile.protocols);
        let is_informed = match self.state {
            State::Empty | State::Preparing { .. } => false,
            // It may not have got the first answer.
            State::Completing { .. } => is_unchanged,
            // A leader that joins again has a reason that does not show in what it says, as new partitions.
            State::Stable { .. } => is_unchanged && !is_leader,
        };
        if is_informed {
            reply.accept(self.joined(&id));
            self.touch(now, &id);
            return;
        }
        self.update(&id, join.profile, reply);
        match self.state {
            State::Empty => self.prepare_first_rebalance(now, limits),
            State::Preparing { .. } => self.try_complete_join(now),
            State::Completing { .. } | State::Stable { .. } => self.prepare_rebalance(now),
        }
    }

    /// What a member says anew; it waits for the others from now on, for which it needs no session.
    fn update(&mut self, id: &StrBytes, profile: Profile, reply: JoinReply) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.profile = profile;
        member.wait(Waiting::Join(reply));
        if !member.is_new {
            self.timers.set(&Timer::Session(id.clone()), None);
        }
    }

    /// A process takes the place of the one that had its instance id. If what it wants is what that one wanted, a stable group
    /// need not rebalance for it.
    fn replace_static(
        &mut self,
        now: Instant,
        limits: &GroupLimits,
        old_id: &StrBytes,
        id: StrBytes,
        join: Join,
        reply: JoinReply,
    ) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        info!(group = %self.id, member = %id, replaced = %old_id, "a static member is replaced");
        member.refuse_waiting(ResponseError::FencedInstanceId);
        member.id = id.clone();
        let old_profile = std::mem::replace(&mut member.profile, join.profile);
        if let Some(instance_id) = &member.profile.instance_id {
            self.instances.insert(instance_id.clone(), id.clone());
        }
        let same_topics = self.protocol.as_ref().is_some_and(|p| wants_the_same(&old_profile, &member.profile, p));
        self.members.insert(id.clone(), member);
        self.timers.set(&Timer::Session(old_id.clone()), None);
        if let Some(unsynced) = self.state.unsynced_mut()
            && unsynced.remove(old_id)
        {
            unsynced.insert(id.clone());
        }
        let was_leader = self.leader.as_ref() == Some(old_id);
        if was_leader {
            self.leader = Some(id.clone());
        }
        if matches!(self.state, State::Stable { .. }) && same_topics && self.protocol == self.vote() {
            let mut joined = self.joined(&id);
            if was_leader && join.knows_skip_assignment {
                // https://cwiki.apache.org/confluence/display/KAFKA/KIP-814
                joined.skip_assignment = true;
            } else if was_leader {
                // It must not assign, since a stable group would not take it. Who is not named as the leader does not.
                joined.leader = old_id.clone();
                joined.members.clear();
            }
            reply.accept(joined);
            self.touch(now, &id);
            return;
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.wait(Waiting::Join(reply));
            let until = member.is_new.then(|| now + NEW_MEMBER_WAIT);
            self.timers.set(&Timer::Session(id), until);
        }
        match self.state {
            State::Empty => self.prepare_first_rebalance(now, limits),
            State::Preparing { .. } => self.try_complete_join(now),
            // The leader may be about to assign to the old id.
            State::Completing { .. } | State::Stable { .. } => self.prepare_rebalance(now),
        }
    }

    /// The rebalance of a group that was empty. Those that were given an id and have not come back yet are not waited for.
    fn prepare_first_rebalance(&mut self, now: Instant, limits: &GroupLimits) {
        let delay = limits.initial_rebalance_delay;
        if delay.is_zero() {
            self.state = State::Preparing { delay: None };
            self.end_joining(now);
        } else {
            let ends_by = now + self.rebalance_timeout().max(delay);
            self.state = State::Preparing { delay: Some(InitialDelay { step: delay, ends_by, new_member: false }) };
            self.timers.set(&Timer::Rebalance, Some(now + delay));
        }
    }

    /// Asks everybody to join again.
    pub(super) fn prepare_rebalance(&mut self, now: Instant) {
        for id in self.member_ids_in_order() {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(reply) = member.take_sync() {
                reply.refuse(ResponseError::RebalanceInProgress);
                self.touch(now, &id);
            }
        }
        debug!(group = %self.id, generation = self.generation, members = self.members.len(), "the group rebalances");
        self.timers.set(&Timer::Sync, None);
        self.state = State::Preparing { delay: None };
        self.timers.set(&Timer::Rebalance, Some(now + self.rebalance_timeout()));
        self.try_complete_join(now);
    }

    /// Ends joining if nobody is missing.
    pub(super) fn try_complete_join(&mut self, now: Instant) {
        let State::Preparing { delay } = &self.state else { return };
        let is_delayed = delay.is_some() && !self.members.is_empty();
        if !is_delayed && self.pending.is_empty() && self.members.values().all(Member::is_joining) {
            self.complete_join(now);
        }
    }

    /// Ends joining because its time is up, unless it is the initial delay and somebody has just come.
    pub(super) fn end_joining(&mut self, now: Instant) {
        let State::Preparing { delay } = &mut self.state else { return };
        match delay {
            Some(delay) if delay.new_member && now < delay.ends_by => {
                delay.new_member = false;
                let at = delay.ends_by.min(now + delay.step);
                self.timers.set(&Timer::Rebalance, Some(at));
            }
            _ => self.complete_join(now),
        }
    }

    /// A new generation, of those that have joined. Static members that have not keep their place while their session lasts.
    fn complete_join(&mut self, now: Instant) {
        let gone: Vec<StrBytes> =
            self.members.values().filter(|m| !m.is_joining() && !m.is_static()).map(|m| m.id.clone()).collect();
        for id in &gone {
            info!(group = %self.id, member = %id, "a member did not join again in time");
            self.remove(id);
        }
        let joined = |id: &StrBytes| self.members.get(id).is_some_and(Member::is_joining);
        if !self.leader.as_ref().is_some_and(joined) {
            let first = self.members_in_order().into_iter().find(|member| member.is_joining());
            match first.map(|member| member.id.clone()) {
                Some(id) => self.leader = Some(id),
                None if self.members.is_empty() => self.leader = None,
                None => {
                    let wait = self.rebalance_timeout().max(REPEATED_WAIT_MIN);
                    self.state = State::Preparing { delay: None };
                    self.timers.set(&Timer::Rebalance, Some(now + wait));
                    return;
                }
            }
        }
        self.timers.set(&Timer::Rebalance, None);
        self.generation += 1;
        self.protocol = self.vote();
        let (generation, members) = (self.generation, self.members.len());
        info!(group = %self.id, generation, members, protocol = self.protocol.as_deref(), "the group has a new generation");
        if self.members.is_empty() {
            self.state = State::Empty;
            return;
        }
        self.state = State::Completing { unsynced: self.members.keys().cloned().collect() };
        self.timers.set(&Timer::Sync, Some(now + self.rebalance_timeout()));
        for id in self.member_ids_in_order() {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.is_new = false;
            if let Some(reply) = member.take_join() {
                reply.accept(joined);
                self.touch(now, &id);
            }
        }
    }

    /// What a member is told of its generation.
    fn joined(&self, id: &StrBytes) -> JoinGroupResponse {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = match self.leader.as_ref() == Some(id) {
            true => self.members_in_order().into_iter().map(|member| member.for_leader(&protocol)).collect(),
            false => Vec::new(),
        };
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(Some(protocol))
            .with_leader(self.leader.clone().unwrap_or_default())
            .with_member_id(id.clone())
            .with_members(members)
    }
}

/// Whether a leader would give the same to both. What a consumer says names the partitions that it has, too, which
/// a process that starts anew cannot know; so of consumers, the topics are compared.
fn wants_the_same(old: &Profile, new: &Profile, protocol: &str) -> bool {
    let names = |profile: &Profile| profile.protocols.iter().map(|p: &Protocol| p.name.clone()).collect::<Vec<_>>();
    let (before, after) = (old.metadata(protocol), new.metadata(protocol));
    let same_topics = match (subscription::topics(&before), subscription::topics(&after)) {
        (Some(before), Some(after)) if new.protocol_type.as_str() == subscription::CONSUMER => before == after,
        _ => before == after,
    };
    names(old) == names(new) && same_topics
}
