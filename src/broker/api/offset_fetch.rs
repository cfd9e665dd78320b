//! OffsetFetch, versions 1–9: of one group, or from version 8 on of many; of some partitions, or of all that have an offset.
//!
//! Left out: `require_stable`, since without transactions every offset is stable; the member that version 9 tells, which is of
//! the newer group protocol.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::group::{Committed, Offsets};
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 1..=9;

/// From here on, many groups in one request: <https://cwiki.apache.org/confluence/display/KAFKA/KIP-709>
const FIRST_BATCHED_VERSION: i16 = 8;
/// The protocol writes "none" so, of an offset and of an epoch.
const NONE: i32 = -1;

pub(crate) fn handle(state: &mut State, call: &Call, request: OffsetFetchRequest, reply: Reply<OffsetFetchResponse>) {
    if call.version >= FIRST_BATCHED_VERSION {
        // Each group once, and each partition, however often they are named, so that no small request has a huge answer.
        let mut seen = HashSet::new();
        let groups = request.groups.into_iter().filter(|group| seen.insert(group.group_id.clone())).map(|group| {
            let asked = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
            let found = found(state.coordinator.offsets(&group.group_id.0), asked);
            let topics = found.into_iter().map(|topic| {
                let partitions = topic.partitions.into_iter().map(|(index, committed)| {
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(committed.offset)
                        .with_committed_leader_epoch(committed.leader_epoch)
                        .with_metadata(Some(committed.metadata))
                });
                OffsetFetchResponseTopics::default().with_name(topic.name).with_partitions(partitions.collect())
            });
            OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_topics(topics.collect())
        });
        return reply.send(OffsetFetchResponse::default().with_groups(groups.collect()));
    }
    let asked = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
    let found = found(state.coordinator.offsets(&request.group_id.0), asked);
    let topics = found.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|(index, committed)| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(committed.offset)
                .with_committed_leader_epoch(committed.leader_epoch)
                .with_metadata(Some(committed.metadata))
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    reply.send(OffsetFetchResponse::default().with_topics(topics.collect()));
}

/// What the answer says of a topic, whatever its shape.
struct Found {
    name: TopicName,
    partitions: Vec<(i32, Answer)>,
}

struct Answer {
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
}

impl From<Option<&Committed>> for Answer {
    fn from(committed: Option<&Committed>) -> Self {
        match committed {
            Some(c) => Self { offset: c.offset, leader_epoch: c.leader_epoch, metadata: c.metadata.clone() },
            None => Self { offset: NONE.into(), leader_epoch: NONE, metadata: StrBytes::default() },
        }
    }
}

/// The offsets of what is asked for, or of all that have one. A group that does not exist has none, which is no error.
fn found(offsets: Option<&Offsets>, asked: Option<Vec<(TopicName, Vec<i32>)>>) -> Vec<Found> {
    let Some(asked) = asked else {
        let all = offsets.into_iter().flat_map(Offsets::topics);
        return all
            .map(|(name, partitions)| Found {
                name: TopicName(name.clone()),
                partitions: partitions.iter().map(|(index, committed)| (*index, Some(committed).into())).collect(),
            })
            .collect();
    };
    let mut seen = HashSet::new();
    let topic = |(name, mut indexes): (TopicName, Vec<i32>)| {
        indexes.retain(|index| seen.insert((name.clone(), *index)));
        let answer = |index| (index, offsets.and_then(|offsets| offsets.get(&name.0, index)).into());
        let partitions = indexes.into_iter().map(answer).collect();
        Found { name, partitions }
    };
    asked.into_iter().map(topic).collect()
}
