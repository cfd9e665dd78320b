//! OffsetDelete, version 0: of partitions that no member subscribes to.
//!
//! Left out: nothing. As with Kafka, a member whose subscription cannot be read is taken to subscribe to everything.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::group::code;
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=0;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: OffsetDeleteRequest,
    reply: Reply<OffsetDeleteResponse>,
) {
    let group = &request.group_id.0;
    if group.is_empty() {
        let error = ResponseError::InvalidGroupId.code();
        return reply.send(OffsetDeleteResponse::default().with_error_code(error));
    }
    let all = request.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (&t.name.0, p.partition_index)));
    let existing = all.filter(|(topic, p)| state.partition_exists(topic, *p));
    let partitions: Vec<_> = existing.map(|(topic, p)| (topic.clone(), p)).collect();
    let mut results = match state.coordinator.delete_offsets(group, &partitions) {
        Ok(results) => results.into_iter(),
        Err(error) => return reply.send(OffsetDeleteResponse::default().with_error_code(error.code())),
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partition = |p: i32| {
            let result = match state.partition_exists(&topic.name, p) {
                true => results.next().expect("each partition that was asked for has its result"),
                false => Err(ResponseError::UnknownTopicOrPartition),
            };
            OffsetDeleteResponsePartition::default().with_partition_index(p).with_error_code(code(result))
        };
        let partitions = topic.partitions.iter().map(|p| p.partition_index).map(partition).collect();
        topics.push(OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    reply.send(OffsetDeleteResponse::default().with_topics(topics));
}
