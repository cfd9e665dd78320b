//! Answers of what is no broker, or of one that has gone mad: read or refused, and never believed about their size.

#![allow(clippy::unwrap_used)]

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, ProduceRequest, ProduceResponse, SaslHandshakeRequest, SaslHandshakeResponse,
    SyncGroupRequest, SyncGroupResponse, TopicName,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::net::TcpListener;

use super::*;

/// The first request of a connection has it.
const CORRELATION_ID: i32 = 1;
/// Errors become log lines.
const MAX_REASON_BYTES: usize = 512;

/// An answer that a broker gives, and what reads it.
#[derive(Clone, Debug)]
struct Answer {
    api: &'static str,
    bytes: Bytes,
    read: fn(Bytes) -> Result<(), String>,
}

fn read<R: Request, const VERSION: i16>(answer: Bytes) -> Result<(), String> {
    decode::<R>(VERSION, CORRELATION_ID, answer).map(drop)
}

fn answer<R: Request, const VERSION: i16>(response: R::Response) -> Answer
where
    R::Response: Encodable,
{
    let mut bytes = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(CORRELATION_ID);
    header.encode(&mut bytes, R::Response::header_version(VERSION)).unwrap();
    response.encode(&mut bytes, VERSION).unwrap();
    Answer { api: api_name(R::KEY), bytes: bytes.freeze(), read: read::<R, VERSION> }
}

/// One of each request that goes over our own connections, in the versions that are pinned.
fn answers() -> Vec<Answer> {
    let (text, name) = (StrBytes::from_static_str, || TopicName(StrBytes::from_static_str("topic")));
    let bytes = Bytes::from_static;
    vec![
        answer::<ApiVersionsRequest, 0>(
            ApiVersionsResponse::default().with_api_keys(vec![ApiVersion::default().with_max_version(7); 3]),
        ),
        answer::<SaslHandshakeRequest, 1>(SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN"); 2])),
        answer::<FindCoordinatorRequest, 2>(
            FindCoordinatorResponse::default().with_host(text("127.0.0.1")).with_port(9092),
        ),
        answer::<JoinGroupRequest, 5>(
            JoinGroupResponse::default()
                .with_generation_id(7)
                .with_protocol_name(Some(text("range")))
                .with_leader(text("a"))
                .with_member_id(text("b"))
                .with_members(vec![
                    JoinGroupResponseMember::default()
                        .with_member_id(text("a"))
                        .with_metadata(bytes(b"\0\0\0\0\0\x01\0\x05topic\xff\xff\xff\xff"));
                    2
                ]),
        ),
        answer::<SyncGroupRequest, 3>(
            SyncGroupResponse::default()
                .with_assignment(bytes(b"\0\0\0\0\0\x01\0\x05topic\0\0\0\x01\0\0\0\x03\xff\xff\xff\xff")),
        ),
        answer::<HeartbeatRequest, 3>(HeartbeatResponse::default().with_error_code(27)),
        answer::<LeaveGroupRequest, 3>(
            LeaveGroupResponse::default().with_members(vec![MemberResponse::default().with_member_id(text("a")); 2]),
        ),
        answer::<OffsetCommitRequest, 7>(OffsetCommitResponse::default().with_topics(vec![
                OffsetCommitResponseTopic::default().with_name(name()).with_partitions(vec![
                    OffsetCommitResponsePartition::default();
                    3
                ]);
                2
            ])),
        answer::<OffsetFetchRequest, 5>(OffsetFetchResponse::default().with_topics(vec![
                OffsetFetchResponseTopic::default().with_name(name()).with_partitions(vec![
                    OffsetFetchResponsePartition::default()
                        .with_committed_offset(7)
                        .with_metadata(Some(text("metadata")));
                    3
                ]);
                2
            ])),
        answer::<MetadataRequest, 10>(
            MetadataResponse::default()
                .with_brokers(vec![MetadataResponseBroker::default().with_host(text("127.0.0.1")); 2])
                .with_cluster_id(Some(text("cluster")))
                .with_topics(vec![
                    MetadataResponseTopic::default().with_name(Some(name())).with_partitions(vec![
                        MetadataResponsePartition::default().with_replica_nodes(vec![0.into(); 3]);
                        3
                    ]);
                    2
                ]),
        ),
        answer::<CreateTopicsRequest, 4>(CreateTopicsResponse::default().with_topics(vec![
                CreatableTopicResult::default()
                    .with_name(name())
                    .with_error_code(36);
                2
            ])),
        answer::<ProduceRequest, 8>(ProduceResponse::default().with_responses(vec![
                TopicProduceResponse::default().with_name(name()).with_partition_responses(vec![
                    PartitionProduceResponse::default();
                    3
                ]);
                2
            ])),
    ]
}

/// Lengths that lie, in all their forms.
const LIES: [&[u8]; 9] = [
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\x0f",
    b"\x00\x00\x01\x00",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xfe",
    b"\x80\x01",
    b"\x80\x00\x00\x00",
    b"\x7f\xff",
    b"\xff\xff",
];

/// What is done to an answer on its way.
#[derive(Clone, Debug)]
enum Change {
    Overwrite(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Cut(Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let bytes = || prop_oneof![select(&LIES[..]).prop_map(<[u8]>::to_vec), prop::collection::vec(any::<u8>(), 1..4)];
    let change = prop_oneof![
        4 => (any::<Index>(), bytes()).prop_map(|(at, bytes)| Change::Overwrite(at, bytes)),
        2 => (any::<Index>(), bytes()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => (any::<Index>(), 1..9usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => any::<Index>().prop_map(Change::Cut),
    ];
    prop::collection::vec(change, 1..4)
}

fn changed(bytes: &[u8], changes: &[Change]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for change in changes {
        let place = |at: &Index| at.index(bytes.len() + 1);
        match change {
            Change::Overwrite(at, with) => {
                let at = place(at);
                let end = bytes.len().min(at + with.len());
                bytes[at..end].copy_from_slice(&with[..end - at]);
            }
            Change::Insert(at, what) => {
                let at = place(at);
                bytes.splice(at..at, what.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = place(at);
                let end = bytes.len().min(at + count);
                bytes.drain(at..end);
            }
            Change::Cut(at) => {
                let at = place(at);
                bytes.truncate(at);
            }
        }
    }
    bytes.into()
}

#[test]
fn every_answer_is_read_whole_and_in_no_shorter_form() {
    for Answer { api, bytes, read } in answers() {
        assert_eq!(read(bytes.clone()), Ok(()), "{api}");
        for length in 0..bytes.len() {
            assert!(read(bytes.slice(..length)).is_err(), "{length} bytes of {api}");
        }
        assert_eq!(read([&bytes[..], b"x"].concat().into()), Err("1 bytes too many".to_owned()), "{api}");
    }
}

proptest! {
    /// What claims more than it brings has to be refused before it is allocated, or this test would end for want of memory.
    #[test]
    fn no_answer_takes_more_than_it_brings(
        answer in select(answers()), changes in changes(), body: Vec<u8>, lie in select(&LIES[..]),
    ) {
        for bytes in [
            changed(&answer.bytes, &changes),
            [&CORRELATION_ID.to_be_bytes(), &body[..], lie].concat().into(),
            body.clone().into(),
        ] {
            if let Err(reason) = (answer.read)(bytes) {
                prop_assert!((1..=MAX_REASON_BYTES).contains(&reason.len()), "{}: {reason}", answer.api);
            }
        }
    }
}

/// What a broker writes, or the beginning of it, before it closes; whatever was asked.
async fn asked(written: Bytes) -> (String, Result<i16, WireError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_i32().await.unwrap();
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        // A client that has seen enough may have gone.
        let _ = stream.write_all(&written).await;
    };
    let config = KafkaConfig::new(&address, "test").unwrap();
    let asking = async {
        let mut connection = Connection::open(&address, &config).await.unwrap();
        // Thousands of connections in a minute would otherwise use up the ports.
        connection.stream.set_zero_linger().unwrap();
        let answered = connection.call(3, &HeartbeatRequest::default(), Duration::from_secs(10)).await;
        if answered.is_err() {
            assert!(!connection.is_usable(), "a connection goes on after {answered:?}");
        }
        answered.map(|answer| answer.error_code)
    };
    let ((), answered) = tokio::join!(serving, asking);
    (address, answered)
}

fn is_told_with_broker_and_api(address: &str, error: &WireError) -> bool {
    let message = error.to_string();
    error.may_have_been_sent()
        && message.len() <= MAX_REASON_BYTES
        && message.contains(address)
        && message.contains("Heartbeat")
}

fn heartbeat_frame() -> Vec<u8> {
    let answer = answers().into_iter().find(|answer| answer.api == "Heartbeat").unwrap().bytes;
    [&(answer.len() as i32).to_be_bytes(), &answer[..]].concat()
}

#[tokio::test]
async fn a_connection_that_is_cut_at_any_byte_is_lost_with_broker_and_api() {
    let frame = heartbeat_frame();
    for length in 0..frame.len() {
        let (address, answered) = asked(Bytes::copy_from_slice(&frame[..length])).await;
        let error = answered.unwrap_err();
        assert!(matches!(error, WireError::Lost { .. }), "{length} bytes: {error}");
        assert!(is_told_with_broker_and_api(&address, &error), "{error}");
    }
    assert_eq!(asked(frame.into()).await.1.unwrap(), ResponseError::RebalanceInProgress.code());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_is_an_answer_or_an_error_with_broker_and_api(changes in changes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (address, answered) = runtime.block_on(asked(changed(&heartbeat_frame(), &changes)));
        if let Err(error) = answered {
            prop_assert!(is_told_with_broker_and_api(&address, &error), "{error}");
        }
    }
}
