//! LeaveGroup, versions 0–5: one member, or from version 3 on many, by their ids or by their instance ids.
//!
//! Left out: the reason that a member may give is not kept.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use crate::group::code;
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=5;

/// From here on, many members in one request: <https://cwiki.apache.org/confluence/display/KAFKA/KIP-345>
const FIRST_BATCHED_VERSION: i16 = 3;

pub(crate) fn handle(state: &mut State, call: &Call, request: LeaveGroupRequest, reply: Reply<LeaveGroupResponse>) {
    let group = &request.group_id.0;
    if group.is_empty() {
        let error = ResponseError::InvalidGroupId.code();
        return reply.send(LeaveGroupResponse::default().with_error_code(error));
    }
    if call.version < FIRST_BATCHED_VERSION {
        let result = state.coordinator.leave(call.now, group, &request.member_id, None);
        return reply.send(LeaveGroupResponse::default().with_error_code(code(result)));
    }
    let leave = |member: MemberIdentity| {
        let instance_id = member.group_instance_id.as_ref();
        let result = state.coordinator.leave(call.now, group, &member.member_id, instance_id);
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(result))
    };
    let members = request.members.into_iter().map(leave).collect();
    reply.send(LeaveGroupResponse::default().with_members(members));
}
