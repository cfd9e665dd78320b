//! DeleteTopics (key 20), versions 1 to 6.
//!
//! By name, and from version 6 on by id as well. What waits for records of a topic is answered that there is none.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::fetch;
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 1..=6;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: DeleteTopicsRequest,
    reply: Reply<DeleteTopicsResponse>,
) {
    let named = request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let results = request.topics.into_iter().chain(named).map(|topic| delete(state, topic)).collect();
    reply.send(DeleteTopicsResponse::default().with_responses(results));
}

fn delete(state: &mut State, asked: DeleteTopicState) -> DeletableTopicResult {
    let unknown =
        if asked.name.is_some() { ResponseError::UnknownTopicOrPartition } else { ResponseError::UnknownTopicId };
    let by_id = || Some(TopicName(StrBytes::from_string(state.topics.name_of(asked.topic_id)?.to_owned())));
    let name = asked.name.or_else(by_id);
    let result = DeletableTopicResult::default().with_name(name.clone());
    let Some((name, topic)) = name.and_then(|name| Some((name.clone(), state.topics.delete(&name)?))) else {
        let message = StrBytes::from_static_str("there is no such topic");
        return result.with_topic_id(asked.topic_id).with_error_code(unknown.code()).with_error_message(Some(message));
    };
    tracing::info!(topic = %name.as_str(), "deleted a topic");
    state.coordinator.topic_deleted(&name);
    let waiting = topic.partitions().iter().flat_map(|partition| &partition.waiting).copied();
    for waiting in state.long_polls.end_all(waiting, &mut state.topics) {
        fetch::answer(state, waiting.request, waiting.reply);
    }
    result.with_topic_id(topic.id)
}
