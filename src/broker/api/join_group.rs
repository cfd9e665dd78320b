//! JoinGroup, versions 0–9, of the classic protocol. The answer comes when the other members have joined too.
//!
//! Left out: nothing. Unlike Kafka, a static member that comes back with other topics makes a stable group rebalance.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use crate::group::{Join, JoinReply, Profile, Protocol, owned};
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=9;

/// Clients understand MEMBER_ID_REQUIRED: <https://cwiki.apache.org/confluence/display/KAFKA/KIP-394>
const FIRST_VERSION_WITH_REQUIRED_ID: i16 = 4;
/// Clients understand that the leader has nothing to assign: <https://cwiki.apache.org/confluence/display/KAFKA/KIP-814>
const FIRST_VERSION_WITH_SKIPPED_ASSIGNMENT: i16 = 9;

pub(crate) fn handle(state: &mut State, call: &Call, request: JoinGroupRequest, reply: Reply<JoinGroupResponse>) {
    let protocols = request
        .protocols
        .iter()
        .map(|protocol| Protocol { name: owned(&protocol.name), metadata: Bytes::copy_from_slice(&protocol.metadata) });
    let session_timeout = milliseconds(request.session_timeout_ms).unwrap_or_default();
    let profile = Profile {
        instance_id: request.group_instance_id.as_ref().map(owned),
        client_id: StrBytes::from_string(call.client_id.clone()),
        // Kafka writes addresses as Java does.
        client_host: StrBytes::from_string(format!("/{}", call.client_host)),
        session_timeout,
        // Version 0 has none.
        rebalance_timeout: milliseconds(request.rebalance_timeout_ms).unwrap_or(session_timeout),
        protocol_type: owned(&request.protocol_type),
        protocols: protocols.collect(),
    };
    let join = Join {
        member_id: request.member_id,
        profile,
        knows_member_id_required: call.version >= FIRST_VERSION_WITH_REQUIRED_ID,
        knows_skip_assignment: call.version >= FIRST_VERSION_WITH_SKIPPED_ASSIGNMENT,
    };
    state.coordinator.join(call.now, &request.group_id.0, join, JoinReply::new(call.version, reply));
}

fn milliseconds(ms: i32) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}
