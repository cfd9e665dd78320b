use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, MetadataRequest,
};
use kafka_protocol::protocol::StrBytes;
use superhero_broker::BrokerConfig;

use crate::client::{Broker, Client, batch, name};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn config(name: &'static str, value: &'static str) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
}

async fn metadata(client: &mut Client, topic: &str, may_create: bool) -> MetadataResponseTopic {
    let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(may_create);
    client.call(12, &request).await.topics.remove(0)
}

async fn all_topics(client: &mut Client) -> Vec<String> {
    let answer = client.call(12, &MetadataRequest::default().with_topics(None)).await;
    answer.topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect()
}

#[tokio::test]
async fn a_topic_is_made_when_it_is_asked_for_if_that_is_allowed() {
    let broker = Broker::start(BrokerConfig { default_partitions: 3, ..BrokerConfig::default() }).await;
    let mut client = broker.client().await;
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(metadata(&mut client, "t", false).await.error_code, unknown);
    let made = metadata(&mut client, "t", true).await;
    assert_eq!((made.error_code, made.partitions.len()), (0, 3));
    assert_eq!(metadata(&mut client, "t", false).await.topic_id, made.topic_id);
    assert_eq!(metadata(&mut client, "a b", true).await.error_code, ResponseError::InvalidTopicException.code());
    assert_eq!(all_topics(&mut client).await, ["t"]);
    let asked = MetadataRequestTopic::default().with_name(Some(name("t")));
    let often = MetadataRequest::default().with_topics(Some(vec![asked; 1000]));
    assert_eq!(client.call(12, &often).await.topics.len(), 1);

    let broker = Broker::start(BrokerConfig { auto_create_topics: false, ..BrokerConfig::default() }).await;
    let mut client = broker.client().await;
    assert_eq!(metadata(&mut client, "t", true).await.error_code, unknown);
    assert_eq!(all_topics(&mut client).await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_topic_is_found_by_its_id() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    let id = metadata(&mut client, "t", false).await.topic_id;
    let asked = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    let answer = client.call(12, &MetadataRequest::default().with_topics(Some(vec![asked.clone()]))).await;
    assert_eq!(answer.topics[0].name, Some(name("t")));

    let topic = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]);
    let unknown = ResponseError::UnknownTopicId.code();
    for code in [0, unknown] {
        assert_eq!(client.call(6, &request).await.responses[0].error_code, code);
    }
    let answer = client.call(12, &MetadataRequest::default().with_topics(Some(vec![asked]))).await;
    assert_eq!(answer.topics[0].error_code, unknown);
    let by_name = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]);
    let code = client.call(5, &by_name).await.responses[0].error_code;
    assert_eq!(code, ResponseError::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn topics_are_made_or_refused_one_by_one() {
    let broker = Broker::start(BrokerConfig { max_partitions: 20, ..BrokerConfig::default() }).await;
    let mut client = broker.client().await;
    client.create_topic("there", 1).await;
    let topic = |topic: &str, partitions, factor| {
        let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions);
        topic.with_replication_factor(factor)
    };
    let cases = [
        (topic("default", -1, -1), None),
        (topic("three", 3, 1), None),
        (topic("there", 1, 1), Some(ResponseError::TopicAlreadyExists)),
        (topic("", 1, 1), Some(ResponseError::InvalidTopicException)),
        (topic("none", 0, 1), Some(ResponseError::InvalidPartitions)),
        (topic("many", 100, 1), Some(ResponseError::PolicyViolation)),
        (topic("two-brokers", 1, 2), Some(ResponseError::InvalidReplicationFactor)),
        (
            topic("bad-config", 1, 1).with_configs(vec![config("retention.bytes", "much")]),
            Some(ResponseError::InvalidConfig),
        ),
        (topic("config", 1, 1).with_configs(vec![config("cleanup.policy", "compact")]), None),
        (topic("twice", 1, 1), Some(ResponseError::InvalidRequest)),
        (topic("twice", 1, 1), Some(ResponseError::InvalidRequest)),
    ];
    let (topics, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let request = CreateTopicsRequest::default().with_topics(topics);
    for request in [request.clone().with_validate_only(true), request] {
        assert_eq!(all_topics(&mut client).await, ["there"]);
        let answer = client.call(7, &request).await;
        for (result, expected) in answer.topics.iter().zip(&expected) {
            let code = expected.map_or(0, |error| error.code());
            assert_eq!(result.error_code, code, "{result:?}");
            assert_eq!(result.error_message.is_some(), code != 0, "{result:?}");
        }
        assert_eq!(answer.topics[0].num_partitions, 4);
    }
    assert_eq!(all_topics(&mut client).await, ["config", "default", "there", "three"]);
}

#[tokio::test]
async fn a_topic_grows_but_does_not_shrink() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 2).await;
    client.produce("t", 1, batch(&["a"])).await;
    let invalid = ResponseError::InvalidPartitions.code();
    for (count, validate_only, code, partitions) in
        [(4, true, 0, 2), (4, false, 0, 4), (4, false, invalid, 4), (3, false, invalid, 4), (-1, false, invalid, 4)]
    {
        let topic = CreatePartitionsTopic::default().with_name(name("t")).with_count(count).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(validate_only);
        assert_eq!(client.call(3, &request).await.results[0].error_code, code, "to {count}");
        assert_eq!(metadata(&mut client, "t", false).await.partitions.len(), partitions, "to {count}");
    }
    assert_eq!(client.bounds("t", 1).await, (0, 1));
}

#[tokio::test]
async fn a_topics_configuration_is_told_and_altered() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    let configs = vec![config("segment.bytes", "2000"), config("flush.ms", "5")];
    let topic = CreatableTopic::default().with_name(name("t")).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic.with_configs(configs)]);
    assert_eq!(client.call(7, &request).await.topics[0].error_code, 0);
    for _ in 0..50 {
        client.produce("t", 0, batch(&[&"x".repeat(500)])).await;
    }
    assert_eq!(client.bounds("t", 0).await, (0, 50));

    let set = AlterableConfig::default().with_name(text("retention.bytes")).with_value(Some(text("6000")));
    let delete = AlterableConfig::default().with_name(text("flush.ms")).with_config_operation(1).with_value(None);
    let append = set.clone().with_config_operation(2);
    let alter = |configs| {
        let resource = AlterConfigsResource::default().with_resource_type(TOPIC).with_resource_name(text("t"));
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(configs)])
    };
    let refused = client.call(1, &alter(vec![set.clone(), append])).await;
    assert_eq!(refused.responses[0].error_code, ResponseError::InvalidConfig.code());
    client.call(1, &alter(vec![set.clone()]).with_validate_only(true)).await;
    assert_eq!(client.bounds("t", 0).await, (0, 50));
    assert_eq!(client.call(1, &alter(vec![set, delete])).await.responses[0].error_code, 0);
    let (start, end) = client.bounds("t", 0).await;
    assert!(start > 30 && end == 50, "{start} to {end}");

    let resource =
        |kind, name| DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
    let resources = vec![
        resource(TOPIC, "t").with_configuration_keys(None),
        resource(BROKER, "1").with_configuration_keys(None),
        resource(TOPIC, "u"),
        resource(BROKER, "2"),
    ];
    let answer = client.call(4, &DescribeConfigsRequest::default().with_resources(resources)).await;
    let codes: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
    let [unknown, invalid] = [ResponseError::UnknownTopicOrPartition, ResponseError::InvalidRequest].map(|e| e.code());
    assert_eq!(codes, [0, 0, unknown, invalid]);
    let value = |result: usize, name: &str| {
        let entries = &answer.results[result].configs;
        entries.iter().find(|entry| *entry.name == *name).and_then(|entry| entry.value.clone()).map(|v| v.to_string())
    };
    assert_eq!(value(0, "retention.bytes").as_deref(), Some("6000"));
    assert_eq!(value(0, "flush.ms"), None);
    assert_eq!(value(1, "num.partitions").as_deref(), Some("4"));
    let some = resource(TOPIC, "t").with_configuration_keys(Some(vec![text("segment.bytes")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![some.clone(), some]);
    let answer = client.call(4, &request).await;
    let told: Vec<_> = answer.results.iter().flat_map(|result| &result.configs).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].value, Some(text("2000")));
}

#[tokio::test]
async fn each_broker_is_a_cluster_of_its_own_and_advertises_what_it_is_told_to() {
    let mut ids = Vec::new();
    for advertised in [None, Some(("kafka.example".to_owned(), 9999))] {
        let broker = Broker::start(BrokerConfig { advertised: advertised.clone(), ..BrokerConfig::default() }).await;
        let mut client = broker.client().await;
        let cluster = client.call(1, &DescribeClusterRequest::default()).await;
        let metadata = client.call(12, &MetadataRequest::default()).await;
        assert_eq!(metadata.cluster_id.as_ref(), Some(&cluster.cluster_id));
        let expected = advertised.unwrap_or_else(|| (broker.address.ip().to_string(), broker.address.port()));
        let (told, node) = (&metadata.brokers[0], &cluster.brokers[0]);
        assert_eq!((told.host.to_string(), told.port), (expected.0, i32::from(expected.1)));
        assert_eq!((&node.host, node.port, node.broker_id), (&told.host, told.port, told.node_id));
        assert_eq!(metadata.controller_id, told.node_id);
        ids.push(cluster.cluster_id);
    }
    assert_ne!(ids[0], ids[1]);
}
