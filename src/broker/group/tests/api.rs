use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use kafka_protocol::ResponseError as E;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest, TopicName,
};

use super::*;
use crate::api::{
    delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group, list_groups, offset_commit,
    offset_delete, offset_fetch, sync_group,
};
use crate::state::{Call, State};

type Handler<Q, R> = fn(&mut State, &Call, Q, Reply<R>);

/// Sends the request's bytes in this version, and reads the answer from its bytes.
fn ask<Q, R>(state: &mut State, version: i16, handler: Handler<Q, R>, request: Q) -> R
where
    Q: Encodable + Decodable,
    R: Encodable + Decodable + HeaderVersion + Send + 'static,
{
    let call = Call {
        now: Instant::now(),
        version,
        client_id: "client".to_owned(),
        client_host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        frame_bytes: 100,
    };
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes, version).unwrap();
    let (reply, asked) = Asked::new(version);
    handler(state, &call, Q::decode(&mut bytes.freeze(), version).unwrap(), reply);
    asked.now()
}

/// The version that a client which knows versions up to `wanted` would choose.
fn chosen(wanted: i16, versions: RangeInclusive<i16>) -> i16 {
    wanted.clamp(*versions.start(), *versions.end())
}

fn group() -> GroupId {
    GroupId(GROUP.into())
}

fn topic() -> TopicName {
    TopicName("t".into())
}

fn joining(version: i16, member_id: StrBytes) -> JoinGroupRequest {
    let known = protocol("range", "t");
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(4_000)
        .with_rebalance_timeout_ms(if version >= 1 { 20_000 } else { -1 })
        .with_member_id(member_id)
        .with_protocol_type("consumer".into())
        .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(known.name).with_metadata(known.metadata)])
}

fn committing(generation: i32, member_id: &StrBytes, partitions: &[(i32, &'static str)]) -> OffsetCommitRequest {
    let partitions = partitions.iter().map(|(index, metadata)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(40 + i64::from(*index))
            .with_committed_metadata(Some(StrBytes::from_static_str(metadata)))
    });
    let topic = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(member_id.clone())
        .with_topics(vec![topic])
}

/// (partition, offset, epoch, metadata) of the one topic that was asked for.
fn fetched(state: &mut State, version: i16, partitions: Option<Vec<i32>>) -> Vec<(i32, i64, i32, String)> {
    if version >= 8 {
        let topics =
            partitions.map(|p| vec![OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(p)]);
        let asked = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(topics);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let answer = ask(state, version, offset_fetch::handle, request);
        assert_eq!((answer.groups[0].error_code, &answer.groups[0].group_id), (0, &group()));
        let partitions = answer.groups[0].topics.iter().flat_map(|t| &t.partitions);
        return partitions
            .map(|p| {
                let metadata = p.metadata.as_ref().unwrap().to_string();
                (p.partition_index, p.committed_offset, p.committed_leader_epoch, metadata)
            })
            .collect();
    }
    let topics =
        partitions.map(|p| vec![OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(p)]);
    let request = OffsetFetchRequest::default().with_group_id(group()).with_topics(topics);
    let answer = ask(state, version, offset_fetch::handle, request);
    assert_eq!(answer.error_code, 0);
    let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
    partitions
        .map(|p| {
            let metadata = p.metadata.as_ref().unwrap().to_string();
            (p.partition_index, p.committed_offset, p.committed_leader_epoch, metadata)
        })
        .collect()
}

#[test]
fn a_member_lives_through_every_version_of_its_requests() {
    for wanted in 0..=9 {
        let mut state = State::for_tests(&[("t", 2)]);
        let version = chosen(wanted, join_group::VERSIONS);
        let mut joined = ask(&mut state, version, join_group::handle, joining(version, StrBytes::default()));
        if version >= 4 {
            assert_eq!(error(joined.error_code), Some(E::MemberIdRequired));
            joined = ask(&mut state, version, join_group::handle, joining(version, joined.member_id));
        }
        let (id, generation) = (joined.member_id.clone(), joined.generation_id);
        assert_eq!((joined.error_code, generation, joined.members.len()), (0, 1, 1), "version {version}");
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));

        let share = SyncGroupRequestAssignment::default().with_member_id(id.clone()).with_assignment("all".into());
        let request = SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(generation)
            .with_member_id(id.clone())
            .with_assignments(vec![share]);
        let synced = ask(&mut state, chosen(wanted, sync_group::VERSIONS), sync_group::handle, request);
        assert_eq!((synced.error_code, synced.assignment), (0, Bytes::from_static(b"all")));

        let request = HeartbeatRequest::default()
            .with_group_id(group())
            .with_generation_id(generation)
            .with_member_id(id.clone());
        assert_eq!(ask(&mut state, chosen(wanted, heartbeat::VERSIONS), heartbeat::handle, request).error_code, 0);

        let version = chosen(wanted, offset_commit::VERSIONS);
        let request = committing(generation, &id, &[(0, "kept"), (2, "")]);
        let committed = ask(&mut state, version, offset_commit::handle, request);
        let errors: Vec<_> = committed.topics[0].partitions.iter().map(|p| error(p.error_code)).collect();
        assert_eq!(errors, [None, Some(E::UnknownTopicOrPartition)]);

        let version = chosen(wanted, offset_fetch::VERSIONS);
        let kept = (0, 40, -1, "kept".to_owned());
        assert_eq!(fetched(&mut state, version, Some(vec![0, 1])), [kept.clone(), (1, -1, -1, String::new())]);
        if version >= 2 {
            assert_eq!(fetched(&mut state, version, None), [kept]);
        }

        let version = chosen(wanted, describe_groups::VERSIONS);
        let request = DescribeGroupsRequest::default().with_groups(vec![group(), GroupId("none".into())]);
        let described = ask(&mut state, version, describe_groups::handle, request).groups;
        assert_eq!((described[0].group_state.as_str(), described[0].protocol_data.as_str()), ("Stable", "range"));
        let member = &described[0].members[0];
        assert_eq!((&member.member_id, member.client_host.as_str()), (&id, "/127.0.0.1"));
        assert_eq!(
            (&member.member_metadata, member.member_assignment.as_ref()),
            (&protocol("range", "t").metadata, &b"all"[..])
        );
        let not_found = (version >= 6).then_some(E::GroupIdNotFound);
        assert_eq!((described[1].group_state.as_str(), error(described[1].error_code)), ("Dead", not_found));

        let version = chosen(wanted, list_groups::VERSIONS);
        let listed = ask(&mut state, version, list_groups::handle, ListGroupsRequest::default()).groups;
        assert_eq!((listed.len(), listed[0].protocol_type.as_str()), (1, "consumer"));

        let version = chosen(wanted, leave_group::VERSIONS);
        let request = LeaveGroupRequest::default().with_group_id(group());
        let request = match version >= 3 {
            true => request.with_members(vec![MemberIdentity::default().with_member_id(id.clone())]),
            false => request.with_member_id(id.clone()),
        };
        let left = ask(&mut state, version, leave_group::handle, request.clone());
        assert_eq!((left.error_code, left.members.first().map_or(0, |m| m.error_code)), (0, 0));
        let again = ask(&mut state, version, leave_group::handle, request);
        let code = again.members.first().map_or(again.error_code, |m| m.error_code);
        assert_eq!(error(code), Some(E::UnknownMemberId));

        let version = chosen(wanted, delete_groups::VERSIONS);
        for expected in [None, Some(E::GroupIdNotFound)] {
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
            let deleted = ask(&mut state, version, delete_groups::handle, request);
            assert_eq!(error(deleted.results[0].error_code), expected);
        }
    }
}

#[test]
fn this_node_coordinates_every_group_and_no_transaction() {
    let mut state = State::for_tests(&[]);
    for version in find_coordinator::VERSIONS {
        for key_type in [0, 1, 2] {
            if version == 0 && key_type != 0 {
                continue;
            }
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            let request = match version >= 4 {
                true => request.with_coordinator_keys(vec!["a".into(), "b".into()]),
                false => request.with_key("a".into()),
            };
            let answer = ask(&mut state, version, find_coordinator::handle, request);
            let mut found: Vec<_> =
                answer.coordinators.iter().map(|c| (c.error_code, c.node_id.0, c.host.to_string(), c.port)).collect();
            if version < 4 {
                found.push((answer.error_code, answer.node_id.0, answer.host.to_string(), answer.port));
            }
            let expected = match key_type {
                0 => (0, 7, "127.0.0.1".to_owned(), 9092),
                1 => (E::TransactionalIdAuthorizationFailed.code(), -1, String::new(), -1),
                _ => (E::InvalidRequest.code(), -1, String::new(), -1),
            };
            assert_eq!(found, vec![expected; if version >= 4 { 2 } else { 1 }], "version {version}, type {key_type}");
        }
    }
}

#[test]
fn lists_show_the_states_and_types_that_are_asked_for() {
    let mut state = State::for_tests(&[("t", 1)]);
    ask(&mut state, 7, offset_commit::handle, committing(-1, &StrBytes::default(), &[(0, "")]));
    for (states, types, expected) in [
        (vec![], vec![], 1),
        (vec!["Empty"], vec![], 1),
        (vec!["stable", "empty"], vec!["classic"], 1),
        (vec!["Stable"], vec![], 0),
        (vec![], vec!["consumer"], 0),
    ] {
        let strings = |names: &[&'static str]| names.iter().map(|name| (*name).into()).collect();
        let request =
            ListGroupsRequest::default().with_states_filter(strings(&states)).with_types_filter(strings(&types));
        let listed = ask(&mut state, 5, list_groups::handle, request).groups;
        assert_eq!(listed.len(), expected, "{states:?} {types:?}");
        assert!(listed.iter().all(|g| g.group_state.as_str() == "Empty" && g.group_type.as_str() == "Classic"));
    }
}

#[test]
fn a_commit_of_another_generation_is_refused_for_every_partition_that_exists() {
    let mut state = State::for_tests(&[("t", 2)]);
    let request = committing(3, &"stranger".into(), &[(0, ""), (9, ""), (1, "")]);
    let answer = ask(&mut state, 7, offset_commit::handle, request);
    let errors: Vec<_> = answer.topics[0].partitions.iter().map(|p| error(p.error_code)).collect();
    assert_eq!(errors, [Some(E::IllegalGeneration), Some(E::UnknownTopicOrPartition), Some(E::IllegalGeneration)]);
}

#[test]
fn offsets_are_deleted_partition_by_partition() {
    let mut state = State::for_tests(&[("t", 2)]);
    let delete = |group: GroupId| {
        let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
        let partitions = [0, 9].map(partition).to_vec();
        let topic = OffsetDeleteRequestTopic::default().with_name(topic()).with_partitions(partitions);
        OffsetDeleteRequest::default().with_group_id(group).with_topics(vec![topic])
    };
    let answer = ask(&mut state, 0, offset_delete::handle, delete(group()));
    assert_eq!((error(answer.error_code), answer.topics.len()), (Some(E::GroupIdNotFound), 0));
    let nameless = ask(&mut state, 0, offset_delete::handle, delete(GroupId::default()));
    assert_eq!(error(nameless.error_code), Some(E::InvalidGroupId));
    ask(&mut state, 7, offset_commit::handle, committing(-1, &StrBytes::default(), &[(0, ""), (1, "")]));
    let answer = ask(&mut state, 0, offset_delete::handle, delete(group()));
    let errors: Vec<_> = answer.topics[0].partitions.iter().map(|p| error(p.error_code)).collect();
    assert_eq!((answer.error_code, errors), (0, vec![None, Some(E::UnknownTopicOrPartition)]));
    assert_eq!(fetched(&mut state, 5, None), [(1, 41, -1, String::new())]);
}
