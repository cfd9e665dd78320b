//! Every version that is told is answered, and answered in that version.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, FetchRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Decodable, Request, StrBytes};
use superhero_broker::BrokerConfig;
use tokio::io::AsyncWriteExt;

use crate::client::{Broker, Client, batch, fetch, name, produce};

/// The versions that are told of each API.
type Told = BTreeMap<i16, (i16, i16)>;

fn told(answer: &ApiVersionsResponse) -> Told {
    answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect()
}

/// Asks in every version that is told and that kafka-protocol can write; where it cannot, the connection is closed.
async fn every_version<R: Request>(broker: &Broker, told: &mut Told, requests: impl Fn(i16) -> Vec<R>) {
    let (lowest, highest) = told.remove(&R::KEY).unwrap();
    let written = ApiKey::try_from(R::KEY).unwrap().valid_versions();
    for version in lowest..=highest {
        let mut client: Client = broker.client().await;
        if version < written.min {
            let header = [&R::KEY.to_be_bytes()[..], &version.to_be_bytes(), &[0; 6]].concat();
            let frame = [&(header.len() as i32).to_be_bytes()[..], &header].concat();
            client.stream.write_all(&frame).await.unwrap();
            assert!(client.receive_frame().await.is_none());
            continue;
        }
        for request in requests(version) {
            client.call(version, &request).await;
        }
    }
}

#[tokio::test]
async fn every_version_of_every_api_is_answered() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    client.produce("t", 0, batch(&["a"])).await;
    let told = &mut told(&client.call(3, &ApiVersionsRequest::default()).await);
    let text = StrBytes::from_static_str;

    every_version(&broker, told, |_| vec![ApiVersionsRequest::default()]).await;
    every_version(&broker, told, |version| {
        let one = |topic| MetadataRequestTopic::default().with_name(Some(name(topic)));
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let named = Some(vec![one("t"), one("made"), one("a b")]);
        [named, all].map(|topics| MetadataRequest::default().with_topics(topics)).to_vec()
    })
    .await;
    every_version::<ProduceRequest>(&broker, told, |_| {
        vec![produce("t", 0, batch(&["a"])), produce("t", 1, batch(&["a"])), produce("t", 0, Default::default())]
    })
    .await;
    every_version::<FetchRequest>(&broker, told, |version| {
        let mut fetches = vec![fetch("t", 0, 0), fetch("t", 0, 999), fetch("u", 0, 0).with_isolation_level(1)];
        if version >= 7 {
            fetches.push(fetch("t", 0, 0).with_session_id(5));
        }
        fetches
    })
    .await;
    every_version(&broker, told, |_| {
        let at = |partition, timestamp| {
            ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp)
        };
        let partitions = vec![at(0, -1), at(0, -2), at(0, -3), at(0, -5), at(0, 0), at(1, -1)];
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(partitions);
        vec![ListOffsetsRequest::default().with_topics(vec![topic])]
    })
    .await;
    every_version(&broker, told, |version| {
        let config = CreatableTopicConfig::default().with_name(text("retention.bytes")).with_value(Some(text("9")));
        let topic = |topic| {
            let topic = CreatableTopic::default().with_name(topic).with_num_partitions(1);
            topic.with_replication_factor(1).with_configs(vec![config.clone()])
        };
        let topics = vec![topic(name(&format!("v{version}"))), topic(name("t"))];
        vec![CreateTopicsRequest::default().with_topics(topics)]
    })
    .await;
    every_version(&broker, told, |version| {
        let request = DeleteTopicsRequest::default();
        vec![if version >= 6 {
            let topic = |topic| DeleteTopicState::default().with_name(Some(topic));
            request.with_topics(vec![topic(name("v2")), topic(name("nowhere"))])
        } else {
            request.with_topic_names(vec![name("v3"), name("nowhere")])
        }]
    })
    .await;
    every_version(&broker, told, |_| {
        let at = |partition| DeleteRecordsPartition::default().with_partition_index(partition);
        let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![at(0), at(1)]);
        vec![DeleteRecordsRequest::default().with_topics(vec![topic])]
    })
    .await;
    every_version(&broker, told, |_| vec![InitProducerIdRequest::default().with_transactional_id(None)]).await;
    every_version(&broker, told, |_| {
        let at = |partition| OffsetForLeaderPartition::default().with_partition(partition);
        let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![at(0), at(1)]);
        vec![OffsetForLeaderEpochRequest::default().with_topics(vec![topic])]
    })
    .await;
    every_version(&broker, told, |_| {
        let resource = |kind| DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text("t"));
        let resources = [2, 4].map(|kind| resource(kind).with_configuration_keys(None)).to_vec();
        vec![DescribeConfigsRequest::default().with_resources(resources)]
    })
    .await;
    every_version(&broker, told, |_| {
        let topic = CreatePartitionsTopic::default().with_name(name("t")).with_count(1).with_assignments(None);
        vec![CreatePartitionsRequest::default().with_topics(vec![topic])]
    })
    .await;
    every_version(&broker, told, |_| {
        let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("9")));
        let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
        vec![IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])])]
    })
    .await;
    every_version(&broker, told, |_| vec![DescribeClusterRequest::default()]).await;
    told.retain(|key, _| !group_apis().contains(key));
    assert!(told.is_empty(), "not asked for: {told:?}");
}

/// They have tests of their own.
fn group_apis() -> [i16; 11] {
    [
        ApiKey::FindCoordinator,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
        ApiKey::LeaveGroup,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::DescribeGroups,
        ApiKey::ListGroups,
        ApiKey::DeleteGroups,
        ApiKey::OffsetDelete,
    ]
    .map(|key| key as i16)
}

#[tokio::test]
async fn versions_of_api_versions_that_nobody_knows_are_answered_in_version_0() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    // Correlation id 9, no client id, and whatever a later version may bring.
    let body = b"\0\x12\0\x63\0\0\0\x09\xff\xff\0some bytes that are not read";
    let frame = [&(body.len() as i32).to_be_bytes()[..], body].concat();
    client.stream.write_all(&frame).await.unwrap();
    let mut answer = client.receive_frame().await.unwrap();
    assert_eq!(answer.split_to(4)[..], 9i32.to_be_bytes());
    let answer = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(answer.error_code, ResponseError::UnsupportedVersion.code());
    // The connection goes on, so that the client can ask again.
    let again = client.call(4, &ApiVersionsRequest::default()).await;
    assert_eq!(told(&again), told(&answer));
}

/// What librdkafka looks for before it compresses, keeps headers, asks by time, or is idempotent: in its table of features, the
/// versions that have to be among those that are told.
#[tokio::test]
async fn old_versions_are_told_where_clients_look_for_them() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let told = told(&broker.client().await.call(0, &ApiVersionsRequest::default()).await);
    for (key, lowest, highest) in [
        (ApiKey::Produce, 0, 7),
        (ApiKey::Fetch, 4, 10),
        (ApiKey::ListOffsets, 1, 1),
        (ApiKey::Metadata, 0, 4),
        (ApiKey::ApiVersions, 0, 3),
        (ApiKey::InitProducerId, 0, 0),
    ] {
        let (from, to) = told[&(key as i16)];
        assert!(from <= lowest && to >= highest, "{key:?}: {from} to {to}");
    }
}
