//! A broker for a test, and a client that sends exactly what it is told.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, FetchRequest, FetchResponse, ListOffsetsRequest, ProduceRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use superhero_broker::BrokerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A broker that ends with the test.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    running: JoinSet<()>,
    shutdown: DropGuard,
}

impl Broker {
    pub(crate) async fn start(config: BrokerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        let stop = shutdown.clone();
        running.spawn(async move { superhero_broker::run(listener, config, stop).await.unwrap() });
        Self { address, running, shutdown: shutdown.drop_guard() }
    }

    pub(crate) async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, correlation_id: 0 }
    }

    /// Ends it, and waits until it has ended.
    pub(crate) async fn stop(mut self) {
        drop(self.shutdown);
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap();
        }
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Sends a request and tells its correlation id.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        self.stream.write_all(&frame(version, self.correlation_id, request)).await.unwrap();
        self.correlation_id
    }

    /// Sends two requests at once.
    pub(crate) async fn send_both<A: Request, B: Request>(&mut self, first: (i16, &A), second: (i16, &B)) {
        self.correlation_id += 2;
        let first = frame(first.0, self.correlation_id - 1, first.1);
        let second = frame(second.0, self.correlation_id, second.1);
        self.stream.write_all(&[first, second].concat()).await.unwrap();
    }

    /// The next answer, which has to be one to `R` and nothing more, and its correlation id.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let mut answer = self.receive_frame().await.unwrap();
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut answer, version).unwrap();
        assert!(answer.is_empty(), "{} bytes too many", answer.len());
        (header.correlation_id, response)
    }

    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let asked = self.send(version, request).await;
        let (answered, response) = self.receive::<R>(version).await;
        assert_eq!(answered, asked);
        response
    }

    /// The next frame; none if the broker has closed the connection.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    pub(crate) async fn create_topic(&mut self, topic: &str, partitions: i32) {
        let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions);
        let topic = topic.with_replication_factor(1);
        let created = self.call(7, &CreateTopicsRequest::default().with_topics(vec![topic])).await;
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    }

    pub(crate) async fn produce(&mut self, topic: &str, partition: i32, records: Bytes) -> PartitionProduceResponse {
        let mut answer = self.call(8, &produce(topic, partition, records)).await;
        answer.responses.remove(0).partition_responses.remove(0)
    }

    /// Where the partition begins and ends.
    pub(crate) async fn bounds(&mut self, topic: &str, partition: i32) -> (i64, i64) {
        (self.offset(topic, partition, -2).await.1, self.offset(topic, partition, -1).await.1)
    }

    /// The error code and the offset that a timestamp finds.
    pub(crate) async fn offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64) {
        let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
        let mut answer = self.call(5, &ListOffsetsRequest::default().with_topics(vec![topic])).await;
        let found = answer.topics.remove(0).partitions.remove(0);
        (found.error_code, found.offset)
    }
}

/// A request as it goes over the wire.
pub(crate) fn frame<R: Request>(version: i16, correlation_id: i32, request: &R) -> BytesMut {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header_version = ApiKey::try_from(R::KEY).unwrap().request_header_version(version);
    header.encode(&mut frame, header_version).unwrap();
    request.encode(&mut frame, version).unwrap();
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub(crate) fn produce(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

pub(crate) fn fetch(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1024 * 1024);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    FetchRequest::default().with_max_bytes(i32::MAX).with_min_bytes(1).with_topics(vec![topic])
}

/// A batch of these values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    sequenced(values, NO_PRODUCER_ID, NO_PRODUCER_EPOCH, -1)
}

/// A batch of an idempotent producer.
pub(crate) fn sequenced(values: &[&str], producer_id: i64, producer_epoch: i16, sequence: i32) -> Bytes {
    let records: Vec<_> = (0..)
        .zip(values)
        .map(|(offset, value)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: if sequence < 0 { sequence } else { sequence + offset as i32 },
            timestamp: 1000 + offset,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Default::default(),
        })
        .collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    out.freeze()
}

/// The (offset, value) of all records of a fetch's first partition.
pub(crate) fn values(answer: &FetchResponse) -> Vec<(i64, String)> {
    let mut records = answer.responses[0].partitions[0].records.clone().unwrap();
    let batches = kafka_protocol::records::RecordBatchDecoder::decode_all(&mut records).unwrap();
    let records = batches.into_iter().flat_map(|batch| batch.records);
    records.map(|record| (record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap())).collect()
}
