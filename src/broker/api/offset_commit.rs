//! OffsetCommit, versions 2–9. A partition has to exist; the offset itself is taken as it is.
//!
//! Left out: retention. Offsets live until their group or their topic is deleted, so the time that versions 2–4 ask for
//! is ignored.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::group::{Committed, Identity, OffsetToCommit, code};
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 2..=9;

pub(crate) fn handle(state: &mut State, call: &Call, request: OffsetCommitRequest, reply: Reply<OffsetCommitResponse>) {
    let identity = Identity {
        generation: request.generation_id_or_member_epoch,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_ref(),
    };
    let all = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (&topic.name.0, p)));
    let existing = all.filter(|(topic, p)| state.partition_exists(topic, p.partition_index));
    let offsets: Vec<OffsetToCommit> = existing
        .map(|(topic, p)| OffsetToCommit {
            topic: topic.clone(),
            partition: p.partition_index,
            committed: Committed {
                offset: p.committed_offset,
                leader_epoch: p.committed_leader_epoch,
                metadata: p.committed_metadata.clone().unwrap_or_default(),
                committed_at: call.now,
            },
        })
        .collect();
    let committed = state.coordinator.commit(call.now, &request.group_id.0, identity, &offsets);
    let mut results = match committed {
        Ok(results) => results,
        Err(error) => vec![Err(error); offsets.len()],
    }
    .into_iter();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partition = |p: i32| {
            let result = match state.partition_exists(&topic.name, p) {
                true => results.next().expect("each offset that was to be committed has its result"),
                false => Err(ResponseError::UnknownTopicOrPartition),
            };
            OffsetCommitResponsePartition::default().with_partition_index(p).with_error_code(code(result))
        };
        let partitions = topic.partitions.iter().map(|p| p.partition_index).map(partition).collect();
        topics.push(OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    reply.send(OffsetCommitResponse::default().with_topics(topics));
}
