//! Requests of clients that ask for anything, whole or damaged: refused or answered, and the loop that answers them goes on. A
//! panic in it would end the broker.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    FetchRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    SyncGroupRequest, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Request, StrBytes};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::time::Instant;

use crate::BrokerConfig;
use crate::api::{self, Decoded};
use crate::budget::Budget;
use crate::state::{Call, State};
use crate::{decode, reply};

/// What requests are made of. Few of each, so that they meet.
#[derive(Clone, Debug)]
struct Parts {
    topic: &'static str,
    other_topic: &'static str,
    partition: i32,
    number: i32,
    other_number: i32,
    long: i64,
    small: i16,
    group: &'static str,
    member: &'static str,
    instance: Option<&'static str>,
    name: &'static str,
    value: Option<&'static str>,
    bytes: Bytes,
}

const TOPICS: &[&str] = &["t", "t", "t", "u", "new", "", "a b", "..", "__consumer_offsets", "é"];
const NUMBERS: &[i32] = &[0, 1, 2, -1, -2, 7, 1000, 6000, 30_000, i32::MAX, i32::MIN, i32::MAX - 1];
const LONGS: &[i64] = &[0, 1, 3, -1, -2, -3, -5, 999, 1003, i64::MAX, i64::MIN, i64::MAX - 1, 1 << 53];
const NAMES: &[&str] = &[
    "retention.bytes",
    "segment.bytes",
    "max.message.bytes",
    "retention.ms",
    "cleanup.policy",
    "consumer",
    "range",
    "Stable",
    "7",
    "",
    "no such name",
];
const VALUES: &[&str] =
    &["0", "1", "9", "-1", "1048576", "9223372036854775807", "99999999999999999999", "delete", "", "x"];

/// A batch of the message format 2 with `records` records of `bytes` bytes together.
fn batch(records: i32, producer: i64, sequence: i32, timestamp: i64, bytes: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i16(0);
    body.put_i32(records.wrapping_sub(1));
    body.put_i64(timestamp);
    body.put_i64(timestamp);
    body.put_i64(producer);
    body.put_i16(if producer < 0 { -1 } else { 0 });
    body.put_i32(sequence);
    body.put_i32(records);
    body.put_slice(bytes);
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32((body.len() + 9) as i32);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(crc32c::crc32c(&body));
    out.put_slice(&body);
    out.freeze()
}

fn blobs() -> impl Strategy<Value = Bytes> {
    let mostly = |usual: std::ops::Range<i32>| prop_oneof![5 => usual, 1 => select(NUMBERS)];
    let producer = prop_oneof![3 => Just(-1), 3 => 0..2i64, 1 => select(LONGS)];
    let timestamp = prop_oneof![3 => 1_000..1_100i64, 1 => select(LONGS)];
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    let batches = (mostly(1..4), producer, mostly(0..4), timestamp, bytes).prop_map(
        |(records, producer, sequence, timestamp, bytes)| batch(records, producer, sequence, timestamp, &bytes),
    );
    prop_oneof![
        9 => batches.clone(),
        1 => prop::collection::vec(batches, 2..4).prop_map(|batches| batches.concat().into()),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from),
        1 => Just(Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff")),
        1 => Just(Bytes::from_static(b"\0\0\x7f\xff\xff\xff")),
    ]
}

prop_compose! {
    fn parts()(
        topic in select(TOPICS), other_topic in select(TOPICS),
        partition in select(&[0, 0, 0, 0, 0, 1, 2, -1, i32::MAX][..]),
        number in select(NUMBERS), other_number in select(NUMBERS), long in select(LONGS),
        small in select(&[1i16, 1, 1, -1, -1, -1, 0, 2, 4, 100, i16::MAX, i16::MIN][..]),
        group in select(&["g", "g", "h", ""][..]), member in select(&["", "", "m", "i"][..]),
        instance in select(&[None, None, Some("i"), Some("")][..]),
        (name, value) in (select(NAMES), prop::option::of(select(VALUES))), bytes in blobs(),
    ) -> Parts {
        Parts {
            topic, other_topic, partition, number, other_number, long, small, group, member, instance, name, value, bytes,
        }
    }
}

/// A request's key and version with its body, in the version nearest to `version` that can carry all of it.
fn whole<R: Request + std::fmt::Debug>(version: i16, request: &R) -> (i16, i16, Bytes) {
    let api = api::served().into_iter().find(|api| api.api_key == R::KEY).unwrap();
    let told = api.max_version - api.min_version + 1;
    let versions = (0..told).map(|at| api.min_version + (version + at) % told);
    let mut encoded = versions.filter_map(|version| {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).ok().map(|()| (R::KEY, version, body.freeze()))
    });
    encoded.next().unwrap_or_else(|| panic!("no version carries {request:?}"))
}

/// How many kinds [`made_of`] knows: one for each API that is served.
const KINDS: usize = 25;

fn made_of(kind: usize, version: i16, parts: Parts) -> (i16, i16, Bytes) {
    let text = StrBytes::from_static_str;
    let Parts {
        topic,
        other_topic,
        partition,
        number,
        other_number,
        long,
        small,
        group,
        member,
        instance,
        name,
        value,
        bytes,
    } = parts;
    let names = [topic, other_topic].map(|topic| TopicName(text(topic)));
    let [topic_name, other_name] = names.clone();
    let (group_id, member_id, instance) = (GroupId(text(group)), text(member), instance.map(text));
    let tiny = small as i8;
    match kind {
        0 => {
            let data = PartitionProduceData::default().with_index(partition).with_records(Some(bytes));
            let topics =
                names.map(|name| TopicProduceData::default().with_name(name).with_partition_data(vec![data.clone()]));
            let id = value.filter(|_| tiny > 1).map(|value| TransactionalId(text(value)));
            let request = ProduceRequest::default().with_acks(small).with_transactional_id(id);
            whole(version, &request.with_timeout_ms(number).with_topic_data(topics.to_vec()))
        }
        1 => {
            let asked = FetchPartition::default().with_partition(partition).with_fetch_offset(long);
            let asked = asked.with_partition_max_bytes(other_number).with_current_leader_epoch(-1);
            let topics =
                names.map(|name| FetchTopic::default().with_topic(name).with_partitions(vec![asked.clone(); 2]));
            let request =
                FetchRequest::default().with_max_wait_ms(number).with_min_bytes(other_number).with_max_bytes(number);
            whole(version, &request.with_isolation_level(tiny).with_topics(topics.to_vec()))
        }
        2 => {
            let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(long);
            let topics =
                names.map(|name| ListOffsetsTopic::default().with_name(name).with_partitions(vec![asked.clone()]));
            whole(version, &ListOffsetsRequest::default().with_isolation_level(tiny).with_topics(topics.to_vec()))
        }
        3 => {
            let topics = names.map(|name| MetadataRequestTopic::default().with_name(Some(name)));
            let topics = (tiny != 0).then(|| topics.to_vec());
            whole(version, &MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(number > 0))
        }
        4 => whole(version, &ApiVersionsRequest::default()),
        5 => {
            let config = CreatableTopicConfig::default().with_name(text(name)).with_value(value.map(text));
            let assignment = CreatableReplicaAssignment::default().with_partition_index(partition);
            let assignments = vec![assignment.with_broker_ids(vec![number.into()]); usize::from(tiny == 1)];
            let topics = names.map(|name| {
                let topic = CreatableTopic::default().with_name(name).with_num_partitions(number);
                topic
                    .with_replication_factor(small)
                    .with_configs(vec![config.clone()])
                    .with_assignments(assignments.clone())
            });
            whole(version, &CreateTopicsRequest::default().with_validate_only(tiny > 1).with_topics(topics.to_vec()))
        }
        6 if tiny > 0 => whole(version, &DeleteTopicsRequest::default().with_topic_names(vec![topic_name, other_name])),
        6 => {
            let topics = names.map(|name| DeleteTopicState::default().with_name(Some(name)));
            whole(version, &DeleteTopicsRequest::default().with_topics(topics.to_vec()))
        }
        7 => {
            let asked = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(long);
            let topics =
                names.map(|name| DeleteRecordsTopic::default().with_name(name).with_partitions(vec![asked.clone()]));
            whole(version, &DeleteRecordsRequest::default().with_topics(topics.to_vec()))
        }
        8 => {
            let id = value.map(|value| TransactionalId(text(value)));
            whole(
                version,
                &InitProducerIdRequest::default().with_transactional_id(id).with_transaction_timeout_ms(number),
            )
        }
        9 => {
            let asked = OffsetForLeaderPartition::default().with_partition(partition).with_leader_epoch(number);
            let topics =
                names.map(|name| OffsetForLeaderTopic::default().with_topic(name).with_partitions(vec![asked.clone()]));
            whole(version, &OffsetForLeaderEpochRequest::default().with_topics(topics.to_vec()))
        }
        10 => {
            let resource = DescribeConfigsResource::default().with_resource_type(tiny).with_resource_name(text(topic));
            let keys = value.map(|value| vec![text(name), text(value)]);
            whole(
                version,
                &DescribeConfigsRequest::default().with_resources(vec![resource.with_configuration_keys(keys)]),
            )
        }
        11 => {
            let topics = names
                .map(|name| CreatePartitionsTopic::default().with_name(name).with_count(number).with_assignments(None));
            whole(
                version,
                &CreatePartitionsRequest::default().with_validate_only(tiny > 1).with_topics(topics.to_vec()),
            )
        }
        12 => {
            let config = AlterableConfig::default()
                .with_name(text(name))
                .with_value(value.map(text))
                .with_config_operation(tiny);
            let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(topic));
            whole(
                version,
                &IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]),
            )
        }
        13 => whole(version, &DescribeClusterRequest::default()),
        14 if number > 0 => whole(
            version,
            &FindCoordinatorRequest::default()
                .with_key_type(tiny)
                .with_coordinator_keys(vec![text(group), text(topic)]),
        ),
        14 => whole(version, &FindCoordinatorRequest::default().with_key(text(group))),
        15 => {
            let protocols = [name, "range"]
                .map(|name| JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(bytes.clone()));
            let request = JoinGroupRequest::default()
                .with_group_id(group_id)
                .with_member_id(member_id)
                .with_group_instance_id(instance);
            let request = request.with_session_timeout_ms(number).with_rebalance_timeout_ms(other_number);
            whole(version, &request.with_protocol_type(text("consumer")).with_protocols(protocols.to_vec()))
        }
        16 => {
            let share = SyncGroupRequestAssignment::default().with_member_id(member_id.clone()).with_assignment(bytes);
            let request = SyncGroupRequest::default().with_group_id(group_id).with_generation_id(number);
            whole(
                version,
                &request.with_member_id(member_id).with_group_instance_id(instance).with_assignments(vec![share; 2]),
            )
        }
        17 => {
            let request = HeartbeatRequest::default().with_group_id(group_id).with_generation_id(number);
            whole(version, &request.with_member_id(member_id).with_group_instance_id(instance))
        }
        18 if tiny > 0 => {
            whole(version, &LeaveGroupRequest::default().with_group_id(group_id).with_member_id(member_id))
        }
        18 => {
            let leaving = MemberIdentity::default().with_member_id(member_id).with_group_instance_id(instance);
            whole(version, &LeaveGroupRequest::default().with_group_id(group_id).with_members(vec![leaving; 2]))
        }
        19 => {
            let offset =
                OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(long);
            let offset = offset.with_committed_metadata(value.map(text));
            let topics = names.map(|name| {
                OffsetCommitRequestTopic::default().with_name(name).with_partitions(vec![offset.clone(); 2])
            });
            let request =
                OffsetCommitRequest::default().with_group_id(group_id).with_generation_id_or_member_epoch(number);
            whole(
                version,
                &request.with_member_id(member_id).with_group_instance_id(instance).with_topics(topics.to_vec()),
            )
        }
        20 if tiny > 0 => {
            let group = OffsetFetchRequestGroup::default().with_group_id(group_id).with_topics(None);
            whole(version, &OffsetFetchRequest::default().with_groups(vec![group; 2]))
        }
        20 => {
            let topics = names.map(|name| {
                OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(vec![partition, number])
            });
            whole(version, &OffsetFetchRequest::default().with_group_id(group_id).with_topics(Some(topics.to_vec())))
        }
        21 => whole(version, &DescribeGroupsRequest::default().with_groups(vec![group_id; 2])),
        22 => whole(version, &ListGroupsRequest::default()),
        23 => whole(version, &DeleteGroupsRequest::default().with_groups_names(vec![group_id; 2])),
        _ => {
            let asked = OffsetDeleteRequestPartition::default().with_partition_index(partition);
            let topics = names
                .map(|name| OffsetDeleteRequestTopic::default().with_name(name).with_partitions(vec![asked.clone()]));
            whole(version, &OffsetDeleteRequest::default().with_group_id(group_id).with_topics(topics.to_vec()))
        }
    }
}

/// A whole request, of an API that is served.
fn framed(key: i16, version: i16, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(1);
    out.put_i16(-1);
    if ApiKey::try_from(key).is_ok_and(|api| api.request_header_version(version) == 2) {
        out.put_u8(0);
    }
    out.put_slice(body);
    out.freeze()
}

/// A request as a client could write it.
fn good() -> impl Strategy<Value = Bytes> {
    // More records, and fetches of them: what they leave behind is what the others ask about.
    (prop_oneof![3 => 0..KINDS, 2 => 0..2usize], 0..32i16, parts()).prop_map(|(kind, version, parts)| {
        let (key, version, body) = made_of(kind, version, parts);
        framed(key, version, &body)
    })
}

/// Lengths that lie, in all their forms.
const LIES: [&[u8]; 7] = [
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\x0f",
    b"\x00\x00\x01\x00",
    b"\xff\xff\xff\xff",
    b"\x80\x01",
    b"\x80\x00\x00\x00",
    b"\x7f\xff",
];

/// Any request, in any version that is told: random bytes, or a good request that was changed.
fn any_request() -> impl Strategy<Value = Bytes> {
    let served: Vec<_> = api::served().iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    let key = select(served).prop_flat_map(|(key, lowest, highest)| (Just(key), lowest..=highest));
    let random = (key, prop::collection::vec(any::<u8>(), 0..60), select(&LIES[..]))
        .prop_map(|((key, version), body, lie)| framed(key, version, &[&body, lie].concat()));
    let part = prop_oneof![select(&LIES[..]).prop_map(<[u8]>::to_vec), prop::collection::vec(any::<u8>(), 1..3)];
    let changed = (good(), prop::collection::vec((any::<Index>(), part), 1..3)).prop_map(|(good, changes)| {
        let mut bytes = good.to_vec();
        for (at, with) in changes {
            // Not the key and the version.
            let at = 4 + at.index(bytes.len() - 4);
            let end = bytes.len().min(at + with.len());
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        bytes.into()
    });
    prop_oneof![2 => random, 4 => changed, 1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)]
}

#[test]
fn every_api_that_is_served_is_among_the_requests() {
    let none = Parts {
        topic: "t",
        other_topic: "u",
        partition: 0,
        number: 0,
        other_number: 0,
        long: 0,
        small: 0,
        group: "g",
        member: "",
        instance: None,
        name: "range",
        value: None,
        bytes: Bytes::new(),
    };
    let mut keys: Vec<i16> = (0..KINDS).map(|kind| made_of(kind, 0, none.clone()).0).collect();
    keys.sort_unstable();
    assert_eq!(keys, api::served().iter().map(|api| api.api_key).collect::<Vec<_>>());
}

fn pauses_ms() -> impl Strategy<Value = u64> {
    select(&[0, 0, 1, 500, 7_000, 400_000][..])
}

fn carried_out(requests: Vec<(Bytes, u64)>) -> Result<(), TestCaseError> {
    let mut state = State::for_tests(&[("t", 2)]);
    let max_partitions = 50;
    state.config =
        BrokerConfig { max_partitions, retention_bytes: 4096, segment_bytes: 512, ..BrokerConfig::default() };
    let budget = Budget::new(1 << 30);
    let mut now = Instant::now();
    let mut waiting = Vec::new();
    for (request, pause_ms) in requests {
        now += Duration::from_millis(pause_ms);
        if state.next_deadline().is_some_and(|deadline| deadline <= now) {
            state.on_deadline(now);
            prop_assert!(state.next_deadline().is_none_or(|deadline| deadline > now), "the loop would spin");
        }
        let account = budget.open();
        if let Ok(Decoded { version, client_id, work, answer, frame_bytes }) =
            api::decode(request, &account, &mut None, decode::MAX_READS)
        {
            work(&mut state, &Call { now, version, client_id, client_host: Ipv4Addr::LOCALHOST.into(), frame_bytes });
            waiting.push(answer);
        }
        for answer in &mut waiting {
            if let Ok(answer) = answer.try_recv() {
                let written = reply::tests::body(answer, 0);
                prop_assert!(written.is_ok(), "{written:?}");
            }
        }
        waiting.retain(|answer| !answer.is_terminated());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    /// What claims more than there is has to be refused before it is allocated, or this test would end for want of memory.
    #[test]
    fn no_request_takes_more_than_it_brings(request in any_request()) {
        let account = Budget::new(1 << 20).open();
        let _ = api::decode(request, &account, &mut None, decode::MAX_READS);
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_in_whatever_order_the_loop_goes_on(
        requests in prop::collection::vec((prop_oneof![9 => good(), 1 => any_request()], pauses_ms()), 1..40),
    ) {
        carried_out(requests)?;
    }
}
