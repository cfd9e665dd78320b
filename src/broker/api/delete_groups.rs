//! DeleteGroups, versions 0–2: groups without members, with their offsets.
//!
//! Left out: nothing.

use std::ops::RangeInclusive;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::group::code;
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=2;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: DeleteGroupsRequest,
    reply: Reply<DeleteGroupsResponse>,
) {
    let results = request.groups_names.into_iter().map(|id| {
        let result = state.coordinator.delete(&id.0);
        DeletableGroupResult::default().with_group_id(id).with_error_code(code(result))
    });
    reply.send(DeleteGroupsResponse::default().with_results(results.collect()));
}
