//! DescribeGroups, versions 0–6: state, protocol and members of classic groups.
//!
//! Left out: authorized operations, since nobody is refused anything; the answer says that they are not known.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=6;

/// From here on, a group that does not exist is an error: <https://cwiki.apache.org/confluence/display/KAFKA/KIP-1043>
const FIRST_VERSION_WITH_NOT_FOUND: i16 = 6;

pub(crate) fn handle(
    state: &mut State,
    call: &Call,
    request: DescribeGroupsRequest,
    reply: Reply<DescribeGroupsResponse>,
) {
    let describe = |id: GroupId| match state.coordinator.group(&id.0) {
        Some(group) => DescribedGroup::default()
            .with_group_id(id)
            .with_group_state(StrBytes::from_static_str(group.state_name()))
            .with_protocol_type(group.protocol_type())
            .with_protocol_data(group.described_protocol())
            .with_members(group.describe_members()),
        None => not_found(call.version, id),
    };
    // Each group once, however often it is named, so that no small request has a huge answer.
    let mut seen = HashSet::new();
    let groups = request.groups.into_iter().filter(|group| seen.insert(group.clone())).map(describe).collect();
    reply.send(DescribeGroupsResponse::default().with_groups(groups));
}

fn not_found(version: i16, id: GroupId) -> DescribedGroup {
    let message = StrBytes::from_string(format!("group {:?} does not exist", id.as_str()));
    let dead = DescribedGroup::default().with_group_id(id).with_group_state(StrBytes::from_static_str("Dead"));
    match version >= FIRST_VERSION_WITH_NOT_FOUND {
        true => dead.with_error_code(ResponseError::GroupIdNotFound.code()).with_error_message(Some(message)),
        false => dead,
    }
}
