//! IncrementalAlterConfigs (key 44), versions 0 and 1.
//!
//! Sets and takes back entries of topics; which have an effect is told in [`topic_config`](crate::topic_config). Left out: lists
//! (append and subtract), and brokers, whose settings stay as they were at the start.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::TOPIC;
use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=1;

const SET: i8 = 0;
const DELETE: i8 = 1;

pub(crate) fn handle(
    state: &mut State,
    _call: &Call,
    request: IncrementalAlterConfigsRequest,
    reply: Reply<IncrementalAlterConfigsResponse>,
) {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let altered = alter(state, &resource, request.validate_only);
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        responses.push(match altered {
            Ok(()) => response.with_error_message(None),
            Err((code, message)) => {
                response.with_error_code(code.code()).with_error_message(Some(StrBytes::from_string(message)))
            }
        });
    }
    reply.send(IncrementalAlterConfigsResponse::default().with_responses(responses));
}

fn alter(
    state: &mut State,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), (ResponseError, String)> {
    let name = &resource.resource_name;
    if resource.resource_type != TOPIC {
        return Err((ResponseError::InvalidRequest, "only the configuration of topics can be altered".to_owned()));
    }
    let topic = state.topics.get(name);
    let topic = topic
        .ok_or_else(|| (ResponseError::UnknownTopicOrPartition, format!("there is no topic {}", name.as_str())))?;
    let mut config = topic.config.clone();
    for entry in &resource.configs {
        match (entry.config_operation, &entry.value) {
            (SET, Some(value)) => config.set(&entry.name, value).map_err(|error| (error.code(), error.to_string()))?,
            (DELETE, _) => config.unset(&entry.name),
            (operation, _) => {
                let message =
                    format!("operation {operation} on {}; give a value, or take it back", entry.name.as_str());
                return Err((ResponseError::InvalidConfig, message));
            }
        }
    }
    if !validate_only {
        state.topics.configure(name, config, &state.config);
    }
    Ok(())
}
