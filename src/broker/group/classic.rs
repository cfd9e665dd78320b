//! A group of the classic protocol: its state, its members, and who may speak for it.
//!
//! ```text
//!               first member joins                all have joined, or time is up
//!     Empty ─────────────────────▶ PreparingRebalance ─────────────────────▶ CompletingRebalance
//!       ▲                              │   ▲      ▲                             │        │
//!       └──────── nobody is left ──────┘   │      └─ a member comes, goes, ─────┘        │ the leader's
//!                                          │         or changes its mind                 ▼ assignments
//!                                          └──────────────────────────────────────── Stable
//! ```
//!
//! [`join`](super::join) has the way to the right, [`sync`](super::sync) the way to `Stable` and the life in it. Every request
//! that waits belongs to a member, and every wait has an end: a member that waits for the others to join is bounded
//! by [`Timer::Rebalance`], one that waits for the leader by [`Timer::Sync`] or the leader's own session.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use tracing::info;

use super::deadlines::Deadlines;
use super::member::{MEMBER_BYTES, Member, Profile, Protocol};
use super::offsets::{OffsetToCommit, Offsets};
use super::{GroupLimits, subscription};

/// What a group takes in memory beside what it is told.
pub(super) const GROUP_BYTES: usize = 1024;

/// Who a request comes from, as it says: a member in a generation, static if it has an instance id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) generation: i32,
    pub(crate) member_id: &'a StrBytes,
    pub(crate) instance_id: Option<&'a StrBytes>,
}

/// Where the group stands.
#[derive(Debug)]
pub(super) enum State {
    /// No members; offsets, maybe.
    Empty,
    /// Waits for the members to join, again or for the first time.
    Preparing { delay: Option<InitialDelay> },
    /// The members know their generation; who has not sent SyncGroup in it yet is unsynced.
    Completing { unsynced: HashSet<StrBytes> },
    /// The leader has assigned.
    Stable { unsynced: HashSet<StrBytes> },
}

impl State {
    /// Its name in the protocol.
    fn name(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing { .. } => "PreparingRebalance",
            Self::Completing { .. } => "CompletingRebalance",
            Self::Stable { .. } => "Stable",
        }
    }

    pub(super) fn unsynced_mut(&mut self) -> Option<&mut HashSet<StrBytes>> {
        match self {
            Self::Empty | Self::Preparing { .. } => None,
            Self::Completing { unsynced } | Self::Stable { unsynced } => Some(unsynced),
        }
    }
}

/// The first rebalance of an empty group waits for further members: <https://cwiki.apache.org/confluence/display/KAFKA/KIP-134>
#[derive(Debug)]
pub(super) struct InitialDelay {
    /// How much longer each new member makes it, up to `ends_by`.
    pub(super) step: Duration,
    pub(super) ends_by: Instant,
    /// Whether somebody has joined since the wait was prolonged last.
    pub(super) new_member: bool,
}

/// What a group waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// The end of joining, for those that have not.
    Rebalance,
    /// The end of syncing, for those that have not.
    Sync,
    /// A member's next sign of life, or the second JoinGroup of a pending one.
    Session(StrBytes),
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(super) id: StrBytes,
    pub(super) state: State,
    /// Grows with every rebalance; the first generation with members is 1.
    pub(super) generation: i32,
    /// Of the members, or of the last ones.
    pub(super) protocol_type: Option<StrBytes>,
    /// What the members of this generation have agreed upon.
    pub(super) protocol: Option<StrBytes>,
    /// Who assigns. Always a member while there is one.
    pub(super) leader: Option<StrBytes>,
    pub(super) members: HashMap<StrBytes, Member>,
    /// The member of each instance id: <https://cwiki.apache.org/confluence/display/KAFKA/KIP-345>
    pub(super) instances: HashMap<StrBytes, StrBytes>,
    /// Ids that were given out, whose owners have not joined with them yet:
    /// <https://cwiki.apache.org/confluence/display/KAFKA/KIP-394>
    pub(super) pending: HashSet<StrBytes>,
    /// How many members there ever were.
    pub(super) sequence: u64,
    pub(super) offsets: Offsets,
    /// What it took in memory when that was counted last.
    pub(super) counted_bytes: usize,
    pub(super) timers: Deadlines<Timer>,
}

impl Group {
    pub(super) fn new(id: StrBytes) -> Self {
        Self {
            id,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: HashMap::new(),
            instances: HashMap::new(),
            pending: HashSet::new(),
            sequence: 0,
            offsets: Offsets::default(),
            counted_bytes: 0,
            timers: Deadlines::default(),
        }
    }

    pub(crate) fn id(&self) -> &StrBytes {
        &self.id
    }

    /// The state's name in the protocol.
    pub(crate) fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// "consumer" for consumers; empty if there never was a member.
    pub(crate) fn protocol_type(&self) -> StrBytes {
        self.protocol_type.clone().unwrap_or_default()
    }

    pub(crate) fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let members: usize = self.members.values().map(Member::bytes).sum();
        let pending: usize = self.pending.iter().map(|id| id.len() + MEMBER_BYTES).sum();
        GROUP_BYTES + self.id.len() + members + pending + self.offsets.bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.state, State::Empty)
    }

    /// Whether nothing is lost with it but the number of its last generation.
    pub(super) fn is_vacant(&self) -> bool {
        self.is_empty() && self.pending.is_empty() && self.offsets.is_empty()
    }

    /// Whether there is nothing that tells it from a group that never was.
    pub(super) fn is_unused(&self) -> bool {
        self.is_vacant() && self.generation == 0
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Ends every wait that has lasted until `now`.
    pub(super) fn on_deadline(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                Timer::Rebalance => self.end_joining(now),
                Timer::Sync => self.end_syncing(now),
                Timer::Session(id) => self.end_session(now, &id),
            }
        }
    }

    fn end_session(&mut self, now: Instant, id: &StrBytes) {
        if self.pending.remove(id) {
            info!(group = %self.id, member = %id, "a member did not come back with the id it was given");
            self.try_complete_join(now);
        } else if self.members.get(id).is_some_and(|member| member.is_new || !member.is_waiting()) {
            info!(group = %self.id, member = %id, "a member's session has expired");
            self.remove_and_rebalance(now, id);
        }
    }

    /// The members in the order in which they came first, so that nothing depends on how their ids are hashed.
    pub(super) fn members_in_order(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.members.values().collect();
        members.sort_unstable_by_key(|member| member.sequence);
        members
    }

    pub(super) fn member_ids_in_order(&self) -> Vec<StrBytes> {
        self.members_in_order().into_iter().map(|member| member.id.clone()).collect()
    }

    /// Whether the sender is the member that it says. A static member whose place another process took is fenced.
    pub(super) fn check_member(
        &self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
    ) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            match self.instances.get(instance_id) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(current) if current != member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ResponseError::UnknownMemberId),
        }
    }

    pub(super) fn check(&self, identity: Identity<'_>) -> Result<(), ResponseError> {
        self.check_member(identity.member_id, identity.instance_id)?;
        match identity.generation == self.generation {
            true => Ok(()),
            false => Err(ResponseError::IllegalGeneration),
        }
    }

    /// Whether a member with these protocols and the present members have one in common.
    pub(super) fn agrees(&self, profile: &Profile) -> bool {
        if self.members.is_empty() {
            return !profile.protocol_type.is_empty() && !profile.protocols.is_empty();
        }
        let known_to_all = |protocol: &Protocol| self.members.values().all(|m| m.profile.supports(&protocol.name));
        self.protocol_type.as_ref() == Some(&profile.protocol_type) && profile.protocols.iter().any(known_to_all)
    }

    /// The protocol that most members like best, of those that all know. Of two with as many votes, the one wins that the
    /// member likes better who came first.
    pub(super) fn vote(&self) -> Option<StrBytes> {
        let members = self.members_in_order();
        let known_to_all = |protocol: &&Protocol| members.iter().all(|m| m.profile.supports(&protocol.name));
        let mut candidates: Vec<(StrBytes, usize)> = Vec::new();
        for protocol in members.first()?.profile.protocols.iter().filter(known_to_all) {
            candidates.push((protocol.name.clone(), 0));
        }
        for member in &members {
            let is_candidate = |p: &&Protocol| candidates.iter().any(|(name, _)| *name == p.name);
            let favourite = member.profile.protocols.iter().find(is_candidate)?.name.clone();
            candidates.iter_mut().filter(|(name, _)| *name == favourite).for_each(|(_, votes)| *votes += 1);
        }
        // Of equals, `max_by_key` takes the last.
        candidates.into_iter().rev().max_by_key(|(_, votes)| *votes).map(|(name, _)| name)
    }

    /// The longest that a member asks for, since each of them may need it.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.profile.rebalance_timeout).max().unwrap_or_default()
    }

    /// A sign of life. A member whose request waits gives none and needs none.
    pub(super) fn touch(&mut self, now: Instant, id: &StrBytes) {
        if let Some(member) = self.members.get(id).filter(|member| !member.is_waiting()) {
            // The member's own id, not the request's, which would keep the request's frame.
            self.timers.set(&Timer::Session(member.id.clone()), Some(now + member.profile.session_timeout));
        }
    }

    /// Takes a member out of everything that names it, and tells it if it waits.
    pub(super) fn remove(&mut self, id: &StrBytes) {
        let Some(mut member) = self.members.remove(id) else { return };
        member.refuse_waiting(ResponseError::UnknownMemberId);
        self.timers.set(&Timer::Session(id.clone()), None);
        if let Some(instance_id) = &member.profile.instance_id {
            self.instances.remove(instance_id);
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members_in_order().first().map(|first| first.id.clone());
        }
        self.mark_synced(id);
    }

    pub(super) fn remove_and_rebalance(&mut self, now: Instant, id: &StrBytes) {
        self.remove(id);
        match self.state {
            State::Empty => {}
            State::Preparing { .. } => self.try_complete_join(now),
            State::Completing { .. } | State::Stable { .. } => self.prepare_rebalance(now),
        }
    }

    /// The sync deadline is for those that have not synced; without them there is none.
    pub(super) fn mark_synced(&mut self, id: &StrBytes) {
        let Some(unsynced) = self.state.unsynced_mut() else { return };
        unsynced.remove(id);
        if unsynced.is_empty() {
            self.timers.set(&Timer::Sync, None);
        }
    }

    /// OffsetCommit: an answer for each of `offsets`, in their order.
    pub(super) fn commit(
        &mut self,
        now: Instant,
        limits: &GroupLimits,
        identity: Identity<'_>,
        offsets: &[OffsetToCommit],
        room: usize,
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        if let State::Empty = self.state {
            // Who assigns partitions by other means has no generation, and may commit while no member can contradict.
            if identity.generation >= 0 {
                return Err(ResponseError::UnknownMemberId);
            }
        } else {
            self.check(identity)?;
            // The members of a new generation have no assignment yet, and what they had in the old one is no more theirs.
            if let State::Completing { .. } = self.state {
                return Err(ResponseError::RebalanceInProgress);
            }
            self.touch(now, identity.member_id);
        }
        // What the group may take more, beside its offsets of now.
        let room = self.offsets.bytes().saturating_add(room);
        Ok(offsets.iter().map(|offset| self.offsets.commit(limits, room, offset)).collect())
    }

    /// OffsetDelete: an answer for each of `partitions`, in their order. Members keep the offsets of what they subscribe to.
    pub(super) fn delete_offsets(
        &mut self,
        partitions: &[(StrBytes, i32)],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        let is_of_consumers = self.protocol_type.as_ref().is_some_and(|t| t.as_str() == subscription::CONSUMER);
        if !self.is_empty() && !is_of_consumers {
            return Err(ResponseError::NonEmptyGroup);
        }
        let Some(subscribed) = self.subscribed() else {
            return Ok(vec![Err(ResponseError::GroupSubscribedToTopic); partitions.len()]);
        };
        let is_subscribed: Vec<bool> =
            partitions.iter().map(|(topic, _)| subscribed.contains(topic.as_str())).collect();
        let answer = |((topic, partition), is_subscribed): (&(StrBytes, i32), bool)| match is_subscribed {
            true => Err(ResponseError::GroupSubscribedToTopic),
            false => {
                self.offsets.delete(topic, *partition);
                Ok(())
            }
        };
        Ok(partitions.iter().zip(is_subscribed).map(answer).collect())
    }

    /// What the members read, by any of their protocols; none if what one of them tells cannot be read.
    fn subscribed(&self) -> Option<BTreeSet<&str>> {
        let protocols = self.members.values().flat_map(|member| &member.profile.protocols);
        protocols.map(|protocol| subscription::topics(&protocol.metadata)).try_fold(
            BTreeSet::new(),
            |mut all, topics| {
                all.append(&mut topics?);
                Some(all)
            },
        )
    }
}
