//! SyncGroup, and the life of a member until the next rebalance: its heartbeats, and how it leaves.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use tracing::{info, warn};

use super::GroupLimits;
use super::classic::{Group, Identity, State, Timer};
use super::member::{SyncReply, Waiting};

/// A SyncGroup.
#[derive(Clone, Debug)]
pub(crate) struct Sync<'a> {
    pub(crate) identity: Identity<'a>,
    /// What the member takes the group's protocol type and protocol for, if its version tells.
    pub(crate) protocol_type: Option<&'a StrBytes>,
    pub(crate) protocol: Option<&'a StrBytes>,
    /// By member; only the leader has any.
    pub(crate) assignments: HashMap<&'a StrBytes, &'a Bytes>,
}

impl Group {
    pub(super) fn sync(&mut self, now: Instant, limits: &GroupLimits, sync: &Sync<'_>, reply: SyncReply) {
        if let Err(error) = self.check_sync(limits, sync) {
            return reply.refuse(error);
        }
        let Some(member) = self.members.get_mut(sync.identity.member_id) else {
            return reply.refuse(ResponseError::UnknownMemberId);
        };
        let id = member.id.clone();
        match self.state {
            State::Empty => reply.refuse(ResponseError::UnknownMemberId),
            State::Preparing { .. } => reply.refuse(ResponseError::RebalanceInProgress),
            State::Completing { .. } => {
                member.wait(Waiting::Sync(reply));
                self.timers.set(&Timer::Session(id.clone()), None);
                self.mark_synced(&id);
                if self.leader.as_ref() == Some(&id) {
                    self.assign(now, &sync.assignments);
                }
            }
            State::Stable { .. } => {
                let assignment = member.assignment.clone();
                reply.accept(self.protocol_type.clone(), self.protocol.clone(), assignment);
                self.mark_synced(&id);
                self.touch(now, &id);
            }
        }
    }

    fn check_sync(&self, limits: &GroupLimits, sync: &Sync<'_>) -> Result<(), ResponseError> {
        self.check(sync.identity)?;
        let differs = |told: Option<&StrBytes>, ours: &Option<StrBytes>| told.is_some() && told != ours.as_ref();
        if differs(sync.protocol_type, &self.protocol_type) || differs(sync.protocol, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match sync.assignments.values().all(|assignment| assignment.len() <= limits.max_member_metadata_bytes) {
            true => Ok(()),
            false => Err(ResponseError::InvalidRequest),
        }
    }

    /// Gives everybody what the leader has for it; who was forgotten gets nothing.
    fn assign(&mut self, now: Instant, assignments: &HashMap<&StrBytes, &Bytes>) {
        let forgotten = self.members.keys().filter(|id| !assignments.contains_key(id)).count();
        if forgotten > 0 {
            warn!(group = %self.id, generation = self.generation, forgotten, "the leader left members without an assignment");
        }
        if let State::Completing { unsynced } = &mut self.state {
            self.state = State::Stable { unsynced: std::mem::take(unsynced) };
        }
        for id in self.member_ids_in_order() {
            let Some(member) = self.members.get_mut(&id) else { continue };
            // A copy, since what the request holds is a part of the whole frame.
            let copied = assignments.get(&id).map(|assignment| Bytes::copy_from_slice(assignment));
            member.assignment = copied.unwrap_or_default();
            if let Some(reply) = member.take_sync() {
                reply.accept(self.protocol_type.clone(), self.protocol.clone(), member.assignment.clone());
                self.touch(now, &id);
            }
        }
    }

    /// The members that know their generation and have not synced in time are gone, the leader perhaps among them.
    pub(super) fn end_syncing(&mut self, now: Instant) {
        let Some(unsynced) = self.state.unsynced_mut().map(std::mem::take) else { return };
        for id in &unsynced {
            info!(group = %self.id, member = %id, "a member did not sync in time");
            self.remove(id);
        }
        self.prepare_rebalance(now);
    }

    pub(super) fn heartbeat(&mut self, now: Instant, identity: Identity<'_>) -> Result<(), ResponseError> {
        self.check(identity)?;
        self.touch(now, identity.member_id);
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::Preparing { .. } => Err(ResponseError::RebalanceInProgress),
            State::Completing { .. } | State::Stable { .. } => Ok(()),
        }
    }

    /// A member leaves; or an administrator takes out the member of an instance id, without telling the member's id.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
    ) -> Result<(), ResponseError> {
        let id = if member_id.is_empty() {
            let current = instance_id.and_then(|instance_id| self.instances.get(instance_id));
            current.cloned().ok_or(ResponseError::UnknownMemberId)?
        } else if self.pending.remove(member_id) {
            self.timers.set(&Timer::Session(member_id.clone()), None);
            self.try_complete_join(now);
            return Ok(());
        } else {
            self.check_member(member_id, instance_id)?;
            member_id.clone()
        };
        info!(group = %self.id, member = %id, "a member leaves the group");
        self.remove_and_rebalance(now, &id);
        Ok(())
    }
}
