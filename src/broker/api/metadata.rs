//! Metadata (key 3), versions 0 to 13.
//!
//! A topic that is asked for by name and is not there is made, if the request and the broker allow that, and is ready at once.
//! Left out: who may do what, for everybody may do everything.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::reply::Reply;
use crate::state::{Call, State};
use crate::topic_config::TopicConfig;
use crate::topics::{self, Topic, TopicError};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=13;

/// The first version that can forbid to make topics.
const WITH_PERMISSION: i16 = 4;

pub(crate) fn handle(state: &mut State, call: &Call, request: MetadataRequest, reply: Reply<MetadataResponse>) {
    let may_create =
        state.config.auto_create_topics && (call.version < WITH_PERMISSION || request.allow_auto_topic_creation);
    let topics = match request.topics {
        // In version 0, no names are all of them.
        Some(mut asked) if call.version > 0 || !asked.is_empty() => {
            // Each topic once, however often it is named, so that no small request has a huge answer.
            let mut seen = HashSet::new();
            asked.retain(|topic| seen.insert((topic.name.clone(), topic.topic_id)));
            asked.into_iter().map(|topic| one(state, topic, may_create)).collect()
        }
        _ => state.topics.iter().map(|(name, topic)| describe(state, name, topic)).collect(),
    };
    let node = state.node();
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(node.id))
        .with_host(StrBytes::from_string(node.host.clone()))
        .with_port(node.port.into());
    let response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(state.cluster_id.clone())))
        .with_controller_id(BrokerId(node.id))
        .with_topics(topics);
    reply.send(response);
}

fn one(state: &mut State, asked: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let Some(name) = asked.name else {
        return match state.topics.name_of(asked.topic_id).and_then(|name| Some((name, state.topics.get(name)?))) {
            Some((name, topic)) => describe(state, name, topic),
            None => MetadataResponseTopic::default()
                .with_name(None)
                .with_topic_id(asked.topic_id)
                .with_error_code(ResponseError::UnknownTopicId.code()),
        };
    };
    if state.topics.get(&name).is_none() && may_create {
        match state.topics.create(&name, -1, TopicConfig::default(), &state.config) {
            Ok(topic) => {
                tracing::info!(topic = %name.as_str(), partitions = topic.partitions().len(), "made a topic that was asked for");
            }
            Err(error) => return failed(name, &error),
        }
    }
    match state.topics.get(&name) {
        Some(topic) => describe(state, &name, topic),
        None => failed(name.clone(), &TopicError::Unknown { name: name.to_string() }),
    }
}

fn failed(name: TopicName, error: &TopicError) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_name(Some(name)).with_error_code(error.code().code())
}

fn describe(state: &State, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let node = BrokerId(state.node().id);
    let partitions = (0..).zip(topic.partitions()).map(|(index, _)| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(crate::LEADER_EPOCH)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_topic_id(topic.id)
        .with_is_internal(topics::is_internal(name))
        .with_partitions(partitions.collect())
}
