//! CreateTopics (key 19), versions 2 to 7.
//!
//! Which configuration has an effect is told in [`topic_config`](crate::topic_config). Left out: replicas on other brokers, of
//! which there are none.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::describe_configs::{DEFAULT_SOURCE, TOPIC_SOURCE};
use crate::reply::Reply;
use crate::state::{Call, State};
use crate::topic_config::TopicConfig;
use crate::topics::TopicError;

pub(crate) const VERSIONS: RangeInclusive<i16> = 2..=7;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: CreateTopicsRequest,
    reply: Reply<CreateTopicsResponse>,
) {
    let mut named: HashMap<StrBytes, u32> = HashMap::new();
    for topic in &request.topics {
        *named.entry(topic.name.0.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let result = CreatableTopicResult::default().with_name(name.clone());
        if named.get(&name.0).is_some_and(|times| *times > 1) {
            let message = StrBytes::from_string(format!("topic {} is named twice in this request", name.as_str()));
            results
                .push(result.with_error_code(ResponseError::InvalidRequest.code()).with_error_message(Some(message)));
            continue;
        }
        results.push(match create(state, &topic, request.validate_only) {
            Ok(Created { id, partitions, config }) => {
                if !request.validate_only {
                    tracing::info!(topic = %name.as_str(), partitions, "made a topic");
                }
                let entries = config.all(&state.config).into_iter().map(|(name, value)| {
                    let source = if config.is_set(&name) { TOPIC_SOURCE } else { DEFAULT_SOURCE };
                    CreatableTopicConfigs::default()
                        .with_name(StrBytes::from_string(name))
                        .with_value(Some(StrBytes::from_string(value)))
                        .with_config_source(source)
                });
                result
                    .with_error_message(None)
                    .with_topic_id(id)
                    .with_num_partitions(partitions)
                    .with_replication_factor(1)
                    .with_configs(Some(entries.collect()))
            }
            Err(error) => result
                .with_error_code(error.code().code())
                .with_error_message(Some(StrBytes::from_string(error.to_string())))
                .with_configs(None),
        });
    }
    reply.send(CreateTopicsResponse::default().with_topics(results));
}

struct Created {
    id: Uuid,
    partitions: i32,
    config: TopicConfig,
}

fn create(state: &mut State, topic: &CreatableTopic, validate_only: bool) -> Result<Created, TopicError> {
    let node = state.node().id;
    let count = if topic.assignments.is_empty() {
        if !matches!(topic.replication_factor, -1 | 1) {
            return Err(TopicError::Replication { factor: topic.replication_factor });
        }
        topic.num_partitions
    } else {
        let mut indexes: Vec<_> = topic.assignments.iter().map(|assignment| assignment.partition_index).collect();
        indexes.sort_unstable();
        let here = topic.assignments.iter().all(|assignment| assignment.broker_ids == [BrokerId(node)]);
        if !here || !indexes.iter().copied().eq((0..).take(indexes.len())) {
            return Err(TopicError::Assignment { node });
        }
        i32::try_from(indexes.len()).unwrap_or(i32::MAX)
    };
    let mut config = TopicConfig::default();
    for entry in &topic.configs {
        match &entry.value {
            Some(value) => config.set(&entry.name, value)?,
            None => {
                let reason = "it has no value".to_owned();
                return Err(TopicError::Config { name: entry.name.to_string(), reason });
            }
        }
    }
    let partitions = state.topics.check_new(&topic.name, count, &state.config)?;
    let id = if validate_only {
        Uuid::nil()
    } else {
        state.topics.create(&topic.name, count, config.clone(), &state.config)?.id
    };
    Ok(Created { id, partitions: i32::try_from(partitions).unwrap_or(i32::MAX), config })
}
