//! SyncGroup, versions 0–5, of the classic protocol. The answer comes when the leader has assigned.
//!
//! Left out: nothing.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::group::{Identity, Sync, SyncReply};
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=5;

pub(crate) fn handle(state: &mut State, call: &Call, request: SyncGroupRequest, reply: Reply<SyncGroupResponse>) {
    let sync = Sync {
        identity: Identity {
            generation: request.generation_id,
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_ref(),
        },
        protocol_type: request.protocol_type.as_ref(),
        protocol: request.protocol_name.as_ref(),
        assignments: request.assignments.iter().map(|a| (&a.member_id, &a.assignment)).collect(),
    };
    state.coordinator.sync(call.now, &request.group_id.0, &sync, SyncReply::new(reply));
}
