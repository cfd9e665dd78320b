//! DescribeCluster (key 60), versions 0 and 1.
//!
//! Left out: controllers as an endpoint of their own, and who may do what. Version 2 only adds brokers that are fenced.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=1;

const BROKERS: i8 = 1;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: DescribeClusterRequest,
    reply: Reply<DescribeClusterResponse>,
) {
    if request.endpoint_type != BROKERS {
        let message = StrBytes::from_static_str("this broker has no controllers to connect to; ask for brokers");
        let response = DescribeClusterResponse::default().with_endpoint_type(request.endpoint_type);
        let code = ResponseError::UnsupportedEndpointType.code();
        return reply.send(response.with_error_code(code).with_error_message(Some(message)));
    }
    let node = state.node();
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(node.id))
        .with_host(StrBytes::from_string(node.host.clone()))
        .with_port(node.port.into());
    let response = DescribeClusterResponse::default()
        .with_error_message(None)
        .with_cluster_id(StrBytes::from_string(state.cluster_id.clone()))
        .with_controller_id(BrokerId(node.id))
        .with_brokers(vec![broker]);
    reply.send(response);
}
