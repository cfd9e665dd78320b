//! ListGroups, versions 0–5: all groups, or those in some states (version 4) or of some types (version 5).
//!
//! Left out: nothing. All groups are of the type "Classic".

use std::ops::RangeInclusive;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=5;

const TYPE: &str = "Classic";

pub(crate) fn handle(state: &mut State, _call: &Call, request: ListGroupsRequest, reply: Reply<ListGroupsResponse>) {
    let is_asked =
        |asked: &[StrBytes], name: &str| asked.is_empty() || asked.iter().any(|a| a.eq_ignore_ascii_case(name));
    let groups = state.coordinator.groups().into_iter();
    let groups = groups
        .filter(|group| is_asked(&request.types_filter, TYPE) && is_asked(&request.states_filter, group.state_name()))
        .map(|group| {
            ListedGroup::default()
                .with_group_id(GroupId(group.id().clone()))
                .with_protocol_type(group.protocol_type())
                .with_group_state(StrBytes::from_static_str(group.state_name()))
                .with_group_type(StrBytes::from_static_str(TYPE))
        })
        .collect();
    reply.send(ListGroupsResponse::default().with_groups(groups));
}
