//! OffsetForLeaderEpoch (key 23), versions 2 to 4.
//!
//! There is one epoch, and it ends where the log ends, so that a consumer always learns that nothing was truncated.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::fetch::check_epoch;
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 2..=4;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: OffsetForLeaderEpochRequest,
    reply: Reply<OffsetForLeaderEpochResponse>,
) {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let response = EpochEndOffset::default().with_partition(asked.partition);
            match end(state, &topic.topic, asked) {
                Ok(Some(end)) => response.with_leader_epoch(crate::LEADER_EPOCH).with_end_offset(end),
                Ok(None) => response,
                Err(error) => response.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    let topics = topics.collect();
    reply.send(OffsetForLeaderEpochResponse::default().with_topics(topics));
}

/// Where the epoch ends that is asked for; none if it never was.
fn end(state: &State, topic: &str, asked: &OffsetForLeaderPartition) -> Result<Option<i64>, ResponseError> {
    let partition = state.topics.partition(topic, asked.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_epoch(asked.current_leader_epoch)?;
    Ok((asked.leader_epoch == crate::LEADER_EPOCH).then(|| partition.log.end()))
}
