//! The APIs, a file each: its versions, what it leaves out, and what it does with the state.
//!
//! Every file has the versions that are decoded (`VERSIONS`) and
//! `pub(crate) fn handle(state: &mut State, call: &Call, request: XRequest, reply: Reply<XResponse>)`, which answers now or keeps the
//! reply.

mod api_versions;
mod create_partitions;
mod create_topics;
pub(crate) mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_groups;
mod list_offsets;
mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
pub(crate) mod sync_group;

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    FetchRequest, FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{HeaderVersion, Request};
use tokio::sync::oneshot;

use crate::decode::{self, DecodeError};
use crate::reply::{Answer, Reply};
use crate::state::{Call, State, Work};

/// A request that has been read, for the loop to carry out.
pub(crate) struct Decoded {
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: String,
    pub(crate) work: Work,
    pub(crate) answer: oneshot::Receiver<Answer>,
    pub(crate) response_header_version: i16,
}

/// The table of what is served: the API's key, its request, its file, and, where clients look for versions that are decoded no
/// more to learn what else a broker can, the lowest version that is told. A request of such a version ends the connection.
macro_rules! apis {
    ($($key:ident($request:ty) => $module:ident $(, told from $lowest:literal)?;)*) => {
        /// What is served, by key.
        pub(crate) fn served() -> Vec<ApiVersion> {
            let mut served = vec![$({
                #[allow(unused_mut, unused_assignments)]
                let mut lowest = *$module::VERSIONS.start();
                $(lowest = $lowest;)?
                ApiVersion::default()
                    .with_api_key(ApiKey::$key as i16)
                    .with_min_version(lowest)
                    .with_max_version(*$module::VERSIONS.end())
            },)*];
            served.sort_by_key(|api| api.api_key);
            served
        }

        fn decode_body(api: ApiKey, version: i16, body: Bytes) -> Result<Prepared, DecodeError> {
            match api {
                $(ApiKey::$key => {
                    let (lowest, highest) = (*$module::VERSIONS.start(), *$module::VERSIONS.end());
                    if !(lowest..=highest).contains(&version) {
                        return Err(DecodeError::Version { api, version, lowest, highest });
                    }
                    let request: $request = decode::body(api, version, body)?;
                    let (reply, answer) = Reply::new(version);
                    Ok(Prepared {
                        work: Box::new(move |state, call| $module::handle(state, call, request, reply)),
                        answer,
                        response_header_version: <$request as Request>::Response::header_version(version),
                    })
                })*
                other => Err(DecodeError::Key { key: other as i16 }),
            }
        }
    };
}

apis! {
    // librdkafka compresses only for brokers that tell old versions of Produce, and Apache Kafka tells them for its sake
    // (https://issues.apache.org/jira/browse/KAFKA-18659).
    Produce(ProduceRequest) => produce, told from 0;
    Fetch(FetchRequest) => fetch;
    ListOffsets(ListOffsetsRequest) => list_offsets;
    Metadata(MetadataRequest) => metadata;
    ApiVersions(ApiVersionsRequest) => api_versions;
    CreateTopics(CreateTopicsRequest) => create_topics;
    DeleteTopics(DeleteTopicsRequest) => delete_topics;
    DeleteRecords(DeleteRecordsRequest) => delete_records;
    InitProducerId(InitProducerIdRequest) => init_producer_id;
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest) => offset_for_leader_epoch;
    DescribeConfigs(DescribeConfigsRequest) => describe_configs;
    CreatePartitions(CreatePartitionsRequest) => create_partitions;
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest) => incremental_alter_configs;
    DescribeCluster(DescribeClusterRequest) => describe_cluster;
    FindCoordinator(FindCoordinatorRequest) => find_coordinator;
    JoinGroup(JoinGroupRequest) => join_group;
    SyncGroup(SyncGroupRequest) => sync_group;
    Heartbeat(HeartbeatRequest) => heartbeat;
    LeaveGroup(LeaveGroupRequest) => leave_group;
    OffsetCommit(OffsetCommitRequest) => offset_commit;
    OffsetFetch(OffsetFetchRequest) => offset_fetch;
    DescribeGroups(DescribeGroupsRequest) => describe_groups;
    ListGroups(ListGroupsRequest) => list_groups;
    DeleteGroups(DeleteGroupsRequest) => delete_groups;
    OffsetDelete(OffsetDeleteRequest) => offset_delete;
}

struct Prepared {
    work: Work,
    answer: oneshot::Receiver<Answer>,
    response_header_version: i16,
}

/// Reads a request.
pub(crate) fn decode(mut frame: Bytes) -> Result<Decoded, DecodeError> {
    let (api, header) = decode::header(&mut frame)?;
    let version = header.request_api_version;
    let prepared = match api {
        // The one request whose version a client has to guess; what it reads of it is agreed for all times (KIP-511).
        ApiKey::ApiVersions if !api_versions::VERSIONS.contains(&version) => {
            let (reply, answer) = Reply::new(0);
            let work = Box::new(|_: &mut State, _: &Call| api_versions::refuse_version(reply));
            Prepared { work, answer, response_header_version: 0 }
        }
        _ => decode_body(api, version, frame)?,
    };
    let Prepared { work, answer, response_header_version } = prepared;
    Ok(Decoded {
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.map(|id| id.to_string()).unwrap_or_default(),
        work,
        answer,
        response_header_version,
    })
}
