//! Heartbeat, versions 0–4, of the classic protocol.
//!
//! Left out: nothing.

use std::ops::RangeInclusive;

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::group::{Identity, code};
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=4;

pub(crate) fn handle(state: &mut State, call: &Call, request: HeartbeatRequest, reply: Reply<HeartbeatResponse>) {
    let identity = Identity {
        generation: request.generation_id,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_ref(),
    };
    let result = state.coordinator.heartbeat(call.now, &request.group_id.0, identity);
    reply.send(HeartbeatResponse::default().with_error_code(code(result)));
}
