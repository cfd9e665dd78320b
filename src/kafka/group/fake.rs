//! A coordinator of one-member groups, whose next answers a test sets.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, FindCoordinatorResponse, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupResponse, MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchResponse, ResponseHeader, SaslHandshakeResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, decode_request_header_from_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the coordinator says to the next request of a kind; when none is set, it is content.
#[derive(Debug, Clone)]
pub(super) enum Say {
    Content,
    Error(ResponseError),
    Nothing,
    /// These bytes in place of an answer's body.
    Bytes(Bytes),
    /// To a JoinGroup: this is the generation, and you are this member.
    Joined(i32, &'static str),
    Hangup,
}

/// In virtual time, a member that does not pause would ask for ever.
const MAX_REQUESTS: u32 = 50_000;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) joins: VecDeque<Say>,
    pub(super) heartbeats: VecDeque<Say>,
    pub(super) commits: VecDeque<Say>,
    pub(super) syncs: VecDeque<Say>,
    pub(super) finds: VecDeque<Say>,
    pub(super) metadata: VecDeque<Say>,
    pub(super) fetches: VecDeque<Say>,
    /// What was said is said again when all else has been said.
    pub(super) repeats: bool,
    /// The generations and members that were let in.
    pub(super) joined: Vec<(i32, String)>,
    /// The generations and members that committed.
    pub(super) committed: Vec<(i32, String)>,
    pub(super) requests: u32,
    /// From now on, no heartbeat is answered.
    pub(super) deaf: bool,
    /// Partitions of every topic.
    pub(super) partitions: i32,
    pub(super) generation: i32,
    /// How many member ids were given out.
    pub(super) members: i32,
    /// The session timeouts asked for, in order.
    pub(super) sessions_ms: Vec<i32>,
    pub(super) left: Vec<String>,
    pub(super) found: u32,
}

/// Serves until it is dropped.
pub(super) struct Fake {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
    _server: JoinSet<()>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { partitions: 2, ..State::default() }));
        let mut server = JoinSet::new();
        let shared = Arc::clone(&state);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    // Ends when the client has gone.
                    let _ = serve(stream, port, state).await;
                });
            }
        });
        Self { address: format!("127.0.0.1:{port}"), state, _server: server }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    /// Remembers what was asked, answered or not.
    fn note(&mut self, key: ApiKey, version: i16, mut body: Bytes) {
        match key {
            ApiKey::JoinGroup => {
                let asked = JoinGroupRequest::decode(&mut body, version).unwrap();
                self.sessions_ms.push(asked.session_timeout_ms);
            }
            ApiKey::OffsetCommit => {
                let asked = OffsetCommitRequest::decode(&mut body, version).unwrap();
                self.committed.push((asked.generation_id_or_member_epoch, asked.member_id.to_string()));
            }
            _ => {}
        }
    }

    /// What it says to a request.
    fn say(&mut self, key: ApiKey) -> Say {
        self.requests += 1;
        assert!(self.requests <= MAX_REQUESTS, "a member asks without a pause");
        let says = match key {
            ApiKey::JoinGroup => &mut self.joins,
            ApiKey::SyncGroup => &mut self.syncs,
            ApiKey::Heartbeat if self.deaf => return Say::Nothing,
            ApiKey::Heartbeat => &mut self.heartbeats,
            ApiKey::OffsetCommit => &mut self.commits,
            ApiKey::FindCoordinator => &mut self.finds,
            ApiKey::Metadata => &mut self.metadata,
            ApiKey::OffsetFetch => &mut self.fetches,
            _ => return Say::Content,
        };
        let Some(say) = says.pop_front() else { return Say::Content };
        if self.repeats {
            says.push_back(say.clone());
        }
        say
    }
}

async fn serve(mut stream: TcpStream, port: u16, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    // Thousands of coordinators in a minute would otherwise use up the ports.
    stream.set_zero_linger()?;
    loop {
        let length = stream.read_i32().await?;
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await?;
        let mut frame = Bytes::from(frame);
        let header = decode_request_header_from_buffer(&mut frame).unwrap();
        let key = ApiKey::try_from(header.request_api_key).unwrap();
        let version = header.request_api_version;
        let body = {
            let mut state = state.lock().unwrap();
            state.note(key, version, frame.clone());
            match state.say(key) {
                Say::Nothing => continue,
                Say::Hangup => return Ok(()),
                Say::Bytes(bytes) => bytes,
                say => answer(key, version, frame, port, &mut state, &say),
            }
        };
        let mut out = BytesMut::from(&[0; 4][..]);
        let head = ResponseHeader::default().with_correlation_id(header.correlation_id);
        head.encode(&mut out, key.response_header_version(version)).unwrap();
        out.put(body);
        let length = out.len() as i32 - 4;
        out[..4].copy_from_slice(&length.to_be_bytes());
        stream.write_all(&out).await?;
    }
}

fn encoded(version: i16, response: impl Encodable) -> Bytes {
    let mut body = BytesMut::new();
    response.encode(&mut body, version).unwrap();
    body.freeze()
}

fn answer(key: ApiKey, version: i16, mut body: Bytes, port: u16, state: &mut State, say: &Say) -> Bytes {
    let mut code = if let Say::Error(error) = say { error.code() } else { 0 };
    match key {
        ApiKey::ApiVersions => {
            let all = ApiKey::iter().map(|key| {
                let range = key.valid_versions();
                ApiVersion::default().with_api_key(key as i16).with_min_version(range.min).with_max_version(range.max)
            });
            encoded(version, ApiVersionsResponse::default().with_api_keys(all.collect()))
        }
        ApiKey::FindCoordinator => {
            state.found += 1;
            let found = FindCoordinatorResponse::default().with_error_code(code);
            encoded(version, found.with_host(StrBytes::from_static_str("127.0.0.1")).with_port(port.into()))
        }
        ApiKey::Metadata => {
            let asked = MetadataRequest::decode(&mut body, version).unwrap();
            let topic = |name| {
                let partition = |p| MetadataResponsePartition::default().with_partition_index(p);
                let partitions = (0..state.partitions).map(partition).collect();
                MetadataResponseTopic::default().with_error_code(code).with_name(name).with_partitions(partitions)
            };
            let topics = asked.topics.unwrap_or_default().into_iter().map(|t| topic(t.name)).collect();
            encoded(version, MetadataResponse::default().with_topics(topics))
        }
        ApiKey::JoinGroup => {
            let asked = JoinGroupRequest::decode(&mut body, version).unwrap();
            let mut member_id = asked.member_id.clone();
            if let Say::Joined(generation, member) = say {
                state.generation = *generation;
                member_id = StrBytes::from_static_str(member);
            } else if code == 0 && member_id.is_empty() {
                state.members += 1;
                member_id = StrBytes::from_string(format!("member-{}", state.members));
                code = ResponseError::MemberIdRequired.code();
            } else if code == 0 {
                state.generation += 1;
            }
            if code == 0 {
                state.joined.push((state.generation, member_id.to_string()));
            }
            let ours = JoinGroupResponseMember::default().with_member_id(member_id.clone());
            let joined = JoinGroupResponse::default()
                .with_error_code(code)
                .with_generation_id(state.generation)
                .with_protocol_name(Some(asked.protocols[0].name.clone()))
                .with_leader(member_id.clone())
                .with_member_id(member_id)
                .with_members(vec![ours.with_metadata(asked.protocols[0].metadata.clone())]);
            encoded(version, joined)
        }
        ApiKey::SyncGroup => {
            let asked = SyncGroupRequest::decode(&mut body, version).unwrap();
            let share = asked.assignments.first().map(|a| a.assignment.clone()).unwrap_or_default();
            encoded(version, SyncGroupResponse::default().with_error_code(code).with_assignment(share))
        }
        // As a listener says that does not ask for SASL.
        ApiKey::SaslHandshake => {
            let refused = ResponseError::IllegalSaslState.code();
            encoded(version, SaslHandshakeResponse::default().with_error_code(refused))
        }
        ApiKey::Heartbeat => encoded(version, HeartbeatResponse::default().with_error_code(code)),
        ApiKey::LeaveGroup => {
            let asked = kafka_protocol::messages::LeaveGroupRequest::decode(&mut body, version).unwrap();
            state.left.extend(asked.members.iter().map(|member| member.member_id.to_string()));
            encoded(version, LeaveGroupResponse::default())
        }
        ApiKey::OffsetCommit => {
            let asked = OffsetCommitRequest::decode(&mut body, version).unwrap();
            let topics = asked.topics.into_iter().map(|topic| {
                let partition = |p: &kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition| {
                    OffsetCommitResponsePartition::default()
                        .with_partition_index(p.partition_index)
                        .with_error_code(code)
                };
                let partitions = topic.partitions.iter().map(partition).collect();
                OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
            });
            encoded(version, OffsetCommitResponse::default().with_topics(topics.collect()))
        }
        ApiKey::OffsetFetch => {
            let asked = OffsetFetchRequest::decode(&mut body, version).unwrap();
            let topics = asked.topics.unwrap_or_default().into_iter().map(|topic| {
                let partition = |p: &i32| OffsetFetchResponsePartition::default().with_partition_index(*p);
                let partitions = topic.partition_indexes.iter().map(partition).collect();
                OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
            });
            encoded(version, OffsetFetchResponse::default().with_error_code(code).with_topics(topics.collect()))
        }
        other => panic!("nobody should send {other:?} to this coordinator"),
    }
}
