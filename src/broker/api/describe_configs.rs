//! DescribeConfigs (key 32), versions 1 to 4.
//!
//! Tells what holds for a topic, and the few settings of the broker that have a name in Kafka. Left out: synonyms, documentation,
//! and resources of other kinds.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 1..=4;

pub(crate) const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Set for the topic.
pub(crate) const TOPIC_SOURCE: i8 = 1;
/// Given to the broker at its start.
const BROKER_SOURCE: i8 = 4;
/// Set by nobody.
pub(crate) const DEFAULT_SOURCE: i8 = 5;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: DescribeConfigsRequest,
    reply: Reply<DescribeConfigsResponse>,
) {
    // Each resource once, however often it is named, so that no small request has a huge answer.
    let mut seen = HashSet::new();
    let mut resources = request.resources;
    resources.retain(|resource| seen.insert((resource.resource_type, resource.resource_name.clone())));
    let results = resources.into_iter().map(|resource| describe(state, resource)).collect();
    reply.send(DescribeConfigsResponse::default().with_results(results));
}

fn describe(state: &State, resource: DescribeConfigsResource) -> DescribeConfigsResult {
    let entries = match resource.resource_type {
        TOPIC => topic(state, &resource.resource_name),
        BROKER => broker(state, &resource.resource_name),
        other => Err((ResponseError::InvalidRequest, format!("there is nothing to tell of resources of type {other}"))),
    };
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name);
    match entries {
        Ok(mut entries) => {
            if let Some(wanted) = resource.configuration_keys {
                entries.retain(|entry| wanted.contains(&entry.name));
            }
            result.with_error_message(None).with_configs(entries)
        }
        Err((code, message)) => {
            result.with_error_code(code.code()).with_error_message(Some(StrBytes::from_string(message)))
        }
    }
}

type Entries = Result<Vec<DescribeConfigsResourceResult>, (ResponseError, String)>;

fn topic(state: &State, name: &str) -> Entries {
    let unknown = || (ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}"));
    let config = &state.topics.get(name).ok_or_else(unknown)?.config;
    let entries = config.all(&state.config).into_iter().map(|(name, value)| {
        let source = if config.is_set(&name) { TOPIC_SOURCE } else { DEFAULT_SOURCE };
        entry(name, value).with_config_source(source)
    });
    Ok(entries.collect())
}

fn broker(state: &State, name: &str) -> Entries {
    let id = state.node().id.to_string();
    // No name stands for all brokers of the cluster.
    if !name.is_empty() && name != id {
        return Err((ResponseError::InvalidRequest, format!("there is no broker {name}, only {id}")));
    }
    let config = &state.config;
    let entries = BTreeMap::from([
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("broker.id", id),
        ("default.replication.factor", "1".to_owned()),
        ("log.retention.bytes", config.retention_bytes.to_string()),
        ("log.segment.bytes", config.segment_bytes.to_string()),
        ("message.max.bytes", config.max_batch_bytes.to_string()),
        ("num.partitions", config.default_partitions.to_string()),
        ("socket.request.max.bytes", config.max_frame_bytes.to_string()),
    ]);
    let entries = entries
        .into_iter()
        .map(|(name, value)| entry(name.to_owned(), value).with_config_source(BROKER_SOURCE).with_read_only(true));
    Ok(entries.collect())
}

fn entry(name: String, value: String) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(name))
        .with_value(Some(StrBytes::from_string(value)))
        .with_documentation(None)
}
