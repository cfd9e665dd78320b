//! CreatePartitions (key 37), versions 0 to 3.
//!
//! Left out: assignments to other brokers, of which there are none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::reply::Reply;
use crate::state::{Call, State};
use crate::topics::TopicError;

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=3;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: CreatePartitionsRequest,
    reply: Reply<CreatePartitionsResponse>,
) {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let grown = grow(state, &topic, request.validate_only);
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        results.push(match grown {
            Ok(()) => result.with_error_message(None),
            Err(error) => result
                .with_error_code(error.code().code())
                .with_error_message(Some(StrBytes::from_string(error.to_string()))),
        });
    }
    reply.send(CreatePartitionsResponse::default().with_results(results));
}

fn grow(state: &mut State, topic: &CreatePartitionsTopic, validate_only: bool) -> Result<(), TopicError> {
    let node = state.node().id;
    let here = |assigned: &Vec<BrokerId>| *assigned == [BrokerId(node)];
    if !topic.assignments.iter().flatten().all(|assignment| here(&assignment.broker_ids)) {
        return Err(TopicError::Assignment { node });
    }
    state.topics.check_growth(&topic.name, topic.count, &state.config)?;
    if validate_only { Ok(()) } else { state.topics.grow(&topic.name, topic.count, &state.config) }
}
