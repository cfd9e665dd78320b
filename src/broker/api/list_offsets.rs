//! ListOffsets (key 2), versions 1 to 10.
//!
//! Left out: looking into compressed batches, so that a timestamp within one finds its first record (or, for the largest
//! timestamp, its last one); tiers (KIP-405), where earliest local is the earliest and what was tiered is nothing.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::fetch::check_epoch;
use crate::log::Found;
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 1..=10;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const NONE: i64 = -1;
/// The first version that tells the leader epoch.
const WITH_EPOCH: i16 = 4;

pub(crate) fn handle(state: &mut State, call: &Call, request: ListOffsetsRequest, reply: Reply<ListOffsetsResponse>) {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let response = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            match find(state, &topic.name, asked) {
                Ok(Found { offset, timestamp }) => {
                    let epoch = if call.version >= WITH_EPOCH && offset != NONE { crate::LEADER_EPOCH } else { -1 };
                    response.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(epoch)
                }
                Err(error) => response.with_error_code(error.code()).with_offset(NONE).with_timestamp(NONE),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    reply.send(ListOffsetsResponse::default().with_topics(topics));
}

fn find(state: &State, topic: &str, asked: &ListOffsetsPartition) -> Result<Found, ResponseError> {
    let partition =
        state.topics.partition(topic, asked.partition_index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_epoch(asked.current_leader_epoch)?;
    let log = &partition.log;
    let nothing = Found { offset: NONE, timestamp: NONE };
    Ok(match asked.timestamp {
        LATEST => Found { offset: log.end(), timestamp: NONE },
        EARLIEST | EARLIEST_LOCAL => Found { offset: log.start(), timestamp: NONE },
        LATEST_TIERED => nothing,
        MAX_TIMESTAMP => log.find_latest_timestamp().unwrap_or(nothing),
        timestamp => log.find(timestamp).unwrap_or(nothing),
    })
}
