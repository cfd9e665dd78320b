//! FindCoordinator, versions 0–6: always this node.
//!
//! Left out: coordinators of transactions and of share groups, of which there are none.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::reply::Reply;
use crate::state::{Call, Node, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=6;

/// From here on, many keys in one request: <https://cwiki.apache.org/confluence/display/KAFKA/KIP-699>
const FIRST_BATCHED_VERSION: i16 = 4;
/// The key types of groups and of transactions.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// The node and the port in an answer that has no coordinator.
const NOBODY: i32 = -1;

pub(crate) fn handle(
    state: &mut State,
    call: &Call,
    request: FindCoordinatorRequest,
    reply: Reply<FindCoordinatorResponse>,
) {
    let find = |key: StrBytes| found(state.node(), request.key_type, key);
    if call.version >= FIRST_BATCHED_VERSION {
        let coordinators = request.coordinator_keys.into_iter().map(find).collect();
        return reply.send(FindCoordinatorResponse::default().with_coordinators(coordinators));
    }
    let found = find(request.key);
    let response = FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port);
    reply.send(response);
}

fn found(node: &Node, key_type: i8, key: StrBytes) -> Coordinator {
    let answer = Coordinator::default().with_key(key);
    if key_type != GROUP {
        // Codes that no client takes for passing, so that it does not ask for ever.
        let error = match key_type {
            TRANSACTION => ResponseError::TransactionalIdAuthorizationFailed,
            _ => ResponseError::InvalidRequest,
        };
        let message = StrBytes::from_static_str("this broker coordinates groups of consumers only");
        return answer
            .with_error_code(error.code())
            .with_error_message(Some(message))
            .with_node_id(BrokerId(NOBODY))
            .with_port(NOBODY);
    }
    answer
        .with_node_id(BrokerId(node.id))
        .with_host(StrBytes::from_string(node.host.clone()))
        .with_port(node.port.into())
}
