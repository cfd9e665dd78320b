//! DeleteRecords (key 21), versions 0 to 2.
//!
//! The partition begins at the offset from now on; -1 is its end. What is before it takes memory until its segment goes.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=2;

/// The start of a partition that is not there.
const NO_OFFSET: i64 = -1;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: DeleteRecordsRequest,
    reply: Reply<DeleteRecordsResponse>,
) {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let truncated = state.topics.truncate_before(&topic.name, asked.partition_index, asked.offset);
            let (start, code) = match truncated {
                Some(Ok(start)) => (start, 0),
                Some(Err(_)) => (NO_OFFSET, ResponseError::OffsetOutOfRange.code()),
                None => (NO_OFFSET, ResponseError::UnknownTopicOrPartition.code()),
            };
            DeleteRecordsPartitionResult::default()
                .with_partition_index(asked.partition_index)
                .with_low_watermark(start)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    reply.send(DeleteRecordsResponse::default().with_topics(topics));
}
