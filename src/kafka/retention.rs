//! What brokers may take out of topics, by their configuration.

use std::collections::BTreeMap;

use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::protocol::StrBytes;

use crate::KafkaConfig;
use crate::metadata::{MetadataError, look};

/// The oldest that brokers of today serve.
const DESCRIBE_CONFIGS: i16 = 1;
/// The number of topics among the resources.
const TOPIC: i8 = 2;
const CLEANUP_POLICY: &str = "cleanup.policy";

/// Whether each of the topics is compacted; those that the cluster does not tell of are left out, as when it does not let us ask.
pub(crate) async fn compacted(
    config: &KafkaConfig,
    topics: &[String],
) -> Result<BTreeMap<String, bool>, MetadataError> {
    let (mut connection, _) = look(config, Some(&[])).await?;
    let key = StrBytes::from_static_str(CLEANUP_POLICY);
    let resources = topics.iter().map(|topic| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string(topic.clone()))
            .with_configuration_keys(Some(vec![key.clone()]))
    });
    let request = DescribeConfigsRequest::default().with_resources(resources.collect());
    let answer = connection.call(DESCRIBE_CONFIGS, &request, config.request_timeout).await;
    let answer = answer.map_err(|reason| MetadataError::NoBroker { reasons: vec![reason] })?;
    let told = answer.results.into_iter().filter(|result| result.error_code == 0).filter_map(|result| {
        let policy = result.configs.into_iter().find(|entry| *entry.name == *CLEANUP_POLICY)?.value?;
        let is_compacted = policy.split(',').any(|policy| policy.trim() == "compact");
        Some((result.resource_name.to_string(), is_compacted))
    });
    Ok(told.collect())
}
