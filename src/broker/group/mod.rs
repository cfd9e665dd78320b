//! The group coordinator of the classic protocol: members, generations, rebalances, offsets. No I/O and no clock of its own.
//!
//! It follows Apache Kafka's coordinator of classic groups; the header of each file under `api/` says what is left out. All is in
//! memory: what is committed lives until the group, the topic or the broker ends.

mod classic;
mod deadlines;
mod join;
mod limits;
mod member;
mod offsets;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use tracing::warn;

pub(crate) use classic::{Group, Identity};
pub(crate) use join::Join;
pub use limits::GroupLimits;
pub(crate) use member::{JoinReply, Profile, Protocol, SyncReply};
pub(crate) use offsets::{Committed, OffsetToCommit, Offsets};
pub(crate) use sync::Sync;

use classic::{GROUP_BYTES, State};
use deadlines::Deadlines;
use member::MEMBER_BYTES;

/// The length that an int16 can tell, which is what the older versions of the protocol have.
const MAX_GROUP_ID_BYTES: usize = i16::MAX as usize;

/// All groups of the broker.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    limits: GroupLimits,
    groups: HashMap<StrBytes, Group>,
    /// What all of them take in memory.
    bytes: usize,
    /// The next deadline of each group that has one.
    deadlines: Deadlines<StrBytes>,
}

impl Coordinator {
    pub(crate) fn new(limits: GroupLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called next, if nothing else happens; none while no group has members.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Ends what has waited until `now`: sessions, rebalances.
    pub(crate) fn on_deadline(&mut self, now: Instant) {
        while let Some(id) = self.deadlines.take_due(now) {
            self.update(&id, |group, _| group.on_deadline(now));
        }
    }

    /// Forgets the offsets of a topic that was deleted.
    pub(crate) fn topic_deleted(&mut self, topic: &str) {
        let topic = StrBytes::from_string(topic.to_owned());
        let ids: Vec<StrBytes> = self.groups.keys().cloned().collect();
        for id in ids {
            self.update(&id, |group, _| group.offsets.delete_topic(&topic));
        }
    }

    /// JoinGroup; the reply waits for the other members. A group begins with the first member that has no id yet.
    pub(crate) fn join(&mut self, now: Instant, group: &StrBytes, join: Join, reply: JoinReply) {
        let known = self.groups.get(group).and_then(|known| known.members.get(&join.member_id));
        let bytes = (join.profile.bytes() + MEMBER_BYTES).saturating_sub(known.map_or(0, member::Member::bytes));
        let limits = &self.limits;
        let session = join.profile.session_timeout;
        let refusal = if !is_valid_id(group) || group.is_empty() {
            Some(ResponseError::InvalidGroupId)
        } else if session < limits.min_session_timeout || session > limits.max_session_timeout {
            Some(ResponseError::InvalidSessionTimeout)
        } else if join.profile.bytes() > limits.max_member_metadata_bytes {
            Some(ResponseError::InvalidRequest)
        } else if !self.groups.contains_key(group) && !join.member_id.is_empty() {
            Some(ResponseError::UnknownMemberId)
        } else if bytes > self.room() || !self.has_or_creates(group) {
            Some(ResponseError::GroupMaxSizeReached)
        } else {
            None
        };
        match refusal {
            Some(error) => reply.refuse(error, join.member_id),
            None => {
                self.update(group, |group, limits| group.join(now, limits, join, reply));
            }
        }
    }

    /// SyncGroup; the reply waits for the leader's.
    pub(crate) fn sync(&mut self, now: Instant, group: &StrBytes, sync: &Sync<'_>, reply: SyncReply) {
        if group.is_empty() {
            return reply.refuse(ResponseError::InvalidGroupId);
        }
        if !self.groups.contains_key(group) {
            return reply.refuse(ResponseError::UnknownMemberId);
        }
        let room = self.room();
        self.update(group, |group, limits| {
            let assigned: usize = sync.assignments.values().map(|assignment| assignment.len()).sum();
            let before: usize = group.members.values().map(|member| member.assignment.len()).sum();
            if assigned > before.saturating_add(room) {
                return reply.refuse(ResponseError::InvalidRequest);
            }
            group.sync(now, limits, sync, reply);
        });
    }

    /// Heartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        now: Instant,
        group: &StrBytes,
        identity: Identity<'_>,
    ) -> Result<(), ResponseError> {
        if group.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        self.update(group, |group, _| group.heartbeat(now, identity)).unwrap_or(Err(ResponseError::UnknownMemberId))
    }

    /// LeaveGroup of one member.
    pub(crate) fn leave(
        &mut self,
        now: Instant,
        group: &StrBytes,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
    ) -> Result<(), ResponseError> {
        self.update(group, |group, _| group.leave(now, member_id, instance_id))
            .unwrap_or(Err(ResponseError::UnknownMemberId))
    }

    /// OffsetCommit: what became of each of `offsets`, in their order, or why none was looked at. A commit without a generation
    /// makes the group, if there is none.
    pub(crate) fn commit(
        &mut self,
        now: Instant,
        group: &StrBytes,
        identity: Identity<'_>,
        offsets: &[OffsetToCommit],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        if !is_valid_id(group) {
            return Err(ResponseError::InvalidGroupId);
        }
        if !self.groups.contains_key(group) && identity.generation >= 0 {
            return Err(ResponseError::IllegalGeneration);
        }
        if !self.has_or_creates(group) {
            return Err(ResponseError::InvalidCommitOffsetSize);
        }
        let room = self.room();
        let commit = |group: &mut Group, limits: &GroupLimits| group.commit(now, limits, identity, offsets, room);
        self.update(group, commit).unwrap_or(Err(ResponseError::UnknownMemberId))
    }

    /// What a group has committed; none if there is no such group.
    pub(crate) fn offsets(&self, group: &StrBytes) -> Option<&Offsets> {
        self.groups.get(group).map(Group::offsets)
    }

    /// OffsetDelete: what became of each of `partitions`, in their order, or why none was looked at.
    pub(crate) fn delete_offsets(
        &mut self,
        group: &StrBytes,
        partitions: &[(StrBytes, i32)],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        self.update(group, |group, _| group.delete_offsets(partitions)).unwrap_or(Err(ResponseError::GroupIdNotFound))
    }

    /// DeleteGroups, of one without members.
    pub(crate) fn delete(&mut self, group: &StrBytes) -> Result<(), ResponseError> {
        match self.groups.get(group) {
            None => Err(ResponseError::GroupIdNotFound),
            Some(found) if !found.is_empty() => Err(ResponseError::NonEmptyGroup),
            Some(_) => {
                self.forget(group);
                Ok(())
            }
        }
    }

    pub(crate) fn group(&self, id: &StrBytes) -> Option<&Group> {
        self.groups.get(id)
    }

    /// Ordered by id, so that lists are stable.
    pub(crate) fn groups(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.values().collect();
        groups.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        groups
    }

    /// Every change of a group goes through here, so that its next deadline is known and no group stays for nothing.
    fn update<R>(&mut self, id: &StrBytes, change: impl FnOnce(&mut Group, &GroupLimits) -> R) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let result = change(group, &self.limits);
        let bytes = group.bytes();
        self.bytes = self.bytes + bytes - std::mem::replace(&mut group.counted_bytes, bytes);
        self.deadlines.set(&group.id, group.next_deadline());
        if group.is_unused() {
            self.forget(id);
        }
        Some(result)
    }

    fn forget(&mut self, id: &StrBytes) {
        self.deadlines.set(id, None);
        if let Some(group) = self.groups.remove(id) {
            self.bytes -= group.counted_bytes;
        }
    }

    /// How many bytes groups may take more.
    fn room(&self) -> usize {
        self.limits.max_bytes.saturating_sub(self.bytes)
    }

    /// Whether there is such a group now. When there are too many, one goes that has neither members nor offsets.
    fn has_or_creates(&mut self, id: &StrBytes) -> bool {
        if self.groups.contains_key(id) {
            return true;
        }
        if self.groups.len() >= self.limits.max_groups {
            let vacant = self.groups.values().find(|group| group.is_vacant()).map(|group| group.id.clone());
            let Some(vacant) = vacant else {
                warn!(group = %id, limit = self.limits.max_groups, "no more groups; delete one");
                return false;
            };
            self.forget(&vacant);
        }
        if GROUP_BYTES + id.len() > self.room() {
            warn!(group = %id, limit = self.limits.max_bytes, "no more groups: those that are there take all the memory for them");
            return false;
        }
        let id = owned(id);
        self.groups.insert(id.clone(), Group::new(id));
        true
    }
}

impl Group {
    /// The members for DescribeGroups. Their metadata and assignments are those of a generation that everybody knows.
    pub(crate) fn describe_members(&self) -> Vec<DescribedGroupMember> {
        let protocol = self.protocol.as_ref().filter(|_| matches!(self.state, State::Stable { .. }));
        let describe = |member: &member::Member| {
            let (metadata, assignment) = match protocol {
                Some(protocol) => (member.profile.metadata(protocol), member.assignment.clone()),
                None => (Bytes::new(), Bytes::new()),
            };
            DescribedGroupMember::default()
                .with_member_id(member.id.clone())
                .with_group_instance_id(member.profile.instance_id.clone())
                .with_client_id(member.profile.client_id.clone())
                .with_client_host(member.profile.client_host.clone())
                .with_member_metadata(metadata)
                .with_member_assignment(assignment)
        };
        self.members_in_order().into_iter().map(describe).collect()
    }

    /// The protocol in use for DescribeGroups; empty unless the group is stable.
    pub(crate) fn described_protocol(&self) -> StrBytes {
        let protocol = self.protocol.as_ref().filter(|_| matches!(self.state, State::Stable { .. }));
        protocol.cloned().unwrap_or_default()
    }
}

/// A string of its own: one from a request is a slice that keeps the whole frame.
pub(crate) fn owned(text: &StrBytes) -> StrBytes {
    StrBytes::from_string(text.as_str().to_owned())
}

fn is_valid_id(group: &StrBytes) -> bool {
    group.len() <= MAX_GROUP_ID_BYTES
}

/// The error code of a result in the protocol, which has 0 for none.
pub(crate) fn code(result: Result<(), ResponseError>) -> i16 {
    result.map_or_else(|error| error.code(), |()| 0)
}
