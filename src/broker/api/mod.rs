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

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    FetchRequest, FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
};
use tokio::sync::oneshot;

use crate::budget::{Account, Hold};
use crate::decode::{self, DecodeError};
use crate::reply::{Answer, Asked, Reply};
use crate::state::{Call, State, Work};

/// A request that has been read, for the loop to carry out.
pub(crate) struct Decoded {
    pub(crate) version: i16,
    pub(crate) client_id: String,
    pub(crate) work: Work,
    pub(crate) answer: oneshot::Receiver<Answer>,
    pub(crate) frame_bytes: usize,
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

        fn decode_body(api: ApiKey, body: Bytes, max_reads: usize, asking: Asking<'_>) -> Result<Prepared, DecodeError> {
            let version = asking.version;
            match api {
                $(ApiKey::$key => {
                    let (lowest, highest) = (*$module::VERSIONS.start(), *$module::VERSIONS.end());
                    if !(lowest..=highest).contains(&version) {
                        return Err(DecodeError::Version { api, version, lowest, highest });
                    }
                    let (request, reads): ($request, usize) = decode::body(api, version, body, max_reads)?;
                    let (reply, answer) = Reply::to(asking.asked(reads));
                    Ok((Box::new(move |state, call| $module::handle(state, call, request, reply)), answer))
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

type Prepared = (Work, oneshot::Receiver<Answer>);

/// Who asks, and in what.
struct Asking<'a> {
    version: i16,
    correlation_id: i32,
    account: &'a Arc<Account>,
    held: &'a mut Option<Hold>,
    frame_bytes: usize,
}

impl Asking<'_> {
    /// For a request that was read; from now on it has what was held for its frame.
    fn asked(self, reads: usize) -> Asked {
        let Self { version, correlation_id, account, held, frame_bytes } = self;
        let mut held = held.take();
        let needed = frame_bytes + reads * decode::READ_BYTES;
        if let Some(held) = held.as_mut().filter(|held| held.bytes() > needed) {
            held.resize(needed);
        }
        Asked { version, correlation_id, account: account.clone(), held }
    }
}

/// Reads a request of no more than so many numbers and texts. It takes what is `held` for it, unless it cannot be read.
pub(crate) fn decode(
    mut frame: Bytes,
    account: &Arc<Account>,
    held: &mut Option<Hold>,
    max_reads: usize,
) -> Result<Decoded, DecodeError> {
    let frame_bytes = frame.len();
    let (api, header) = decode::header(&mut frame)?;
    let (version, correlation_id) = (header.request_api_version, header.correlation_id);
    let asking = Asking { version, correlation_id, account, held, frame_bytes };
    let (work, answer) = match api {
        // The one request whose version a client has to guess; what it reads of it is agreed for all times (KIP-511).
        ApiKey::ApiVersions if !api_versions::VERSIONS.contains(&version) => {
            let (reply, answer) = Reply::to(Asking { version: 0, ..asking }.asked(0));
            let work: Work = Box::new(|_: &mut State, _: &Call| api_versions::refuse_version(reply));
            (work, answer)
        }
        _ => decode_body(api, frame, max_reads, asking)?,
    };
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Decoded { version, client_id, work, answer, frame_bytes })
}
