#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse, ListOffsetsResponse, MetadataResponse,
    RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use superhero_kafka::KafkaConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);
const END: i64 = 100;
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// What a broker has from an offset on; none: the offset is out of range.
type Log = dyn Fn(i64) -> Option<Bytes> + Send + Sync;

/// A broker of the topic `t`, whose partition 0 begins at `earliest` whenever it is asked for that.
struct Broker {
    port: u16,
    earliest: i64,
    log: Box<Log>,
}

impl Broker {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) -> Option<()> {
        loop {
            let length = stream.read_i32().await.ok()?;
            let mut request = vec![0; length as usize];
            stream.read_exact(&mut request).await.ok()?;
            let mut answer = BytesMut::new();
            self.answer(request.into(), &mut answer);
            stream.write_i32(answer.len() as i32).await.ok()?;
            stream.write_all(&answer).await.ok()?;
        }
    }

    fn answer(&self, mut request: Bytes, out: &mut BytesMut) {
        let [key, version] = [0, 2].map(|at| i16::from_be_bytes([request[at], request[at + 1]]));
        let api = ApiKey::try_from(key).unwrap();
        let header = RequestHeader::decode(&mut request, api.request_header_version(version)).unwrap();
        let id = header.correlation_id;
        let name = || TopicName(StrBytes::from_static_str("t"));
        match api {
            ApiKey::ApiVersions => {
                let served = [
                    (ApiKey::Fetch, 4),
                    (ApiKey::ListOffsets, 3),
                    (ApiKey::Metadata, 10),
                    (ApiKey::ApiVersions, 3),
                    (ApiKey::CreateTopics, 4),
                ];
                let served =
                    served.map(|(key, max)| ApiVersion::default().with_api_key(key as i16).with_max_version(max));
                respond(ApiVersionsResponse::default().with_api_keys(served.to_vec()), id, version, out);
            }
            ApiKey::Metadata => {
                let broker = MetadataResponseBroker::default()
                    .with_node_id(BrokerId(1))
                    .with_host(StrBytes::from_static_str("127.0.0.1"))
                    .with_port(i32::from(self.port));
                let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1));
                let mut topic =
                    MetadataResponseTopic::default().with_name(Some(name())).with_partitions(vec![partition]);
                if version >= 10 {
                    topic.topic_id = "00000000-0000-0000-0000-000000000001".parse().unwrap();
                }
                let answer = MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic]);
                let answer =
                    answer.with_cluster_id(Some(StrBytes::from_static_str("c"))).with_controller_id(BrokerId(1));
                respond(answer, id, version, out);
            }
            ApiKey::ListOffsets => {
                let partition = ListOffsetsPartitionResponse::default().with_offset(self.earliest);
                let topic = ListOffsetsTopicResponse::default().with_name(name()).with_partitions(vec![partition]);
                respond(ListOffsetsResponse::default().with_topics(vec![topic]), id, version, out);
            }
            _ => {
                let asked = FetchRequest::decode(&mut request, version).unwrap();
                let records = (self.log)(asked.topics[0].partitions[0].fetch_offset);
                let error = if records.is_none() { OFFSET_OUT_OF_RANGE } else { 0 };
                let partition = PartitionData::default()
                    .with_error_code(error)
                    .with_high_watermark(END)
                    .with_last_stable_offset(END)
                    .with_records(records);
                let topic = FetchableTopicResponse::default().with_topic(name()).with_partitions(vec![partition]);
                respond(FetchResponse::default().with_responses(vec![topic]), id, version, out);
            }
        }
    }
}

fn respond<R: Encodable + HeaderVersion>(response: R, id: i32, version: i16, out: &mut BytesMut) {
    let header = ResponseHeader::default().with_correlation_id(id);
    header.encode(out, R::header_version(version)).unwrap();
    response.encode(out, version).unwrap();
}

/// A broker, and a client that is connected to it.
async fn cluster(earliest: i64, log: impl Fn(i64) -> Option<Bytes> + Send + Sync + 'static) -> (Cluster, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let broker = Arc::new(Broker { port: address.port(), earliest, log: Box::new(log) });
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(Arc::clone(&broker).serve(stream));
        }
    });
    let config = KafkaConfig::new(&address.to_string(), "test").unwrap();
    (Cluster::connect(&config, Instant::now() + LIMIT).await.unwrap(), serving)
}

/// Some records of a transaction, or the mark of its end.
fn batch(first: i64, values: Vec<Bytes>, is_mark: bool) -> Bytes {
    let record = |(number, value): (usize, Bytes)| Record {
        transactional: true,
        control: is_mark,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: 7,
        producer_epoch: 0,
        timestamp_type: TimestampType::Creation,
        offset: first + number as i64,
        sequence: number as i32,
        timestamp: 5,
        key: is_mark.then_some(Bytes::from_static(&[0, 0, 0, 1])),
        value: Some(value),
        headers: Default::default(),
    };
    let records: Vec<_> = values.into_iter().enumerate().map(record).collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    out.freeze()
}

fn fetcher(cluster: &Cluster) -> Fetcher<'_> {
    Fetcher::new(cluster, TopicPartition::new("t", 0), Isolation::Committed, Budget::new(Budget::MIN_BYTES))
}

#[tokio::test]
async fn reading_ahead_does_not_wait_for_the_memory_of_what_is_looked_at() {
    const RECORDS: i64 = 11;
    // More than half of the memory for answers.
    let large = batch(0, vec![vec![b'a'; 900_000].into(); RECORDS as usize], false);
    let mark = batch(RECORDS, vec![Bytes::from_static(&[0; 6])], true);
    let (cluster, _serving) =
        cluster(0, move |offset| Some(if offset < RECORDS { large.clone() } else { mark.clone() })).await;
    let (mut fetcher, mut position) = (fetcher(&cluster), 0);
    let fetched = tokio::time::timeout(LIMIT, fetcher.step(&mut position, END)).await.unwrap().unwrap();
    assert!(!fetched.records.is_empty() && fetched.waiting.is_none(), "{fetched:?}");
}

#[tokio::test]
async fn retention_that_overtakes_reading_ahead_leaves_no_transaction_open() {
    // Its first part comes, and by the time of the second both are gone.
    let first = batch(0, vec![Bytes::from_static(b"v"); 2], false);
    let (cluster, _serving) = cluster(50, move |offset| (offset == 0).then(|| first.clone())).await;
    let (mut fetcher, mut position) = (fetcher(&cluster), 0);
    let fetched = tokio::time::timeout(LIMIT, fetcher.step(&mut position, END)).await.unwrap().unwrap();
    assert_eq!((fetched.waiting, fetched.earliest, fetched.records.len()), (None, Some(50), 0));
    assert_eq!(position, 50);
}
