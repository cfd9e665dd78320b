use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest, OffsetForLeaderEpochRequest,
    ProduceRequest,
};
use superhero_broker::BrokerConfig;
use tokio::time::Instant;

use crate::client::{Broker, Client, batch, fetch, name, produce, values};

/// Longer than any test: a fetch that is answered was woken.
const FOR_EVER_MS: i32 = 280_000;

/// Sends a fetch that waits, and returns when the broker has it: the answer to the request before it, which came with it, is there.
async fn send_waiting(client: &mut Client, request: FetchRequest) {
    let before = ApiVersionsRequest::default();
    client.send_both((3, &before), (11, &request.with_max_wait_ms(FOR_EVER_MS))).await;
    client.receive::<ApiVersionsRequest>(3).await;
}

async fn two_clients(broker: &Broker) -> (Client, Client) {
    let mut client = broker.client().await;
    client.create_topic("t", 2).await;
    client.create_topic("mark", 1).await;
    (client, broker.client().await)
}

#[tokio::test]
async fn a_fetch_waits_for_the_bytes_that_it_wants() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let (mut waiting, mut client) = two_clients(&broker).await;
    let bytes = batch(&["a"]).len() as i32;
    send_waiting(&mut waiting, fetch("t", 0, 0).with_min_bytes(2 * bytes)).await;
    client.produce("t", 1, batch(&["elsewhere"])).await;
    client.produce("t", 0, batch(&["a"])).await;
    client.produce("t", 0, batch(&["b"])).await;
    let (_, answer) = waiting.receive::<FetchRequest>(11).await;
    assert_eq!(values(&answer), [(0, "a".to_owned()), (1, "b".to_owned())]);
}

#[tokio::test]
async fn what_is_asked_behind_a_fetch_that_waits_is_done_after_it() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let (mut waiting, mut client) = two_clients(&broker).await;
    send_waiting(&mut waiting, fetch("t", 0, 0)).await;
    waiting.send(8, &produce("mark", 0, batch(&["m"]))).await;
    assert_eq!(client.bounds("mark", 0).await, (0, 0));
    client.produce("t", 0, batch(&["a"])).await;
    assert_eq!(values(&waiting.receive::<FetchRequest>(11).await.1), [(0, "a".to_owned())]);
    let (_, produced) = waiting.receive::<ProduceRequest>(8).await;
    assert_eq!(produced.responses[0].partition_responses[0].base_offset, 0);
}

#[tokio::test]
async fn many_fetches_wait_for_the_same_records() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let (mut first, mut client) = two_clients(&broker).await;
    let mut second = broker.client().await;
    send_waiting(&mut first, fetch("t", 0, 0)).await;
    send_waiting(&mut second, fetch("t", 0, 0)).await;
    client.produce("t", 0, batch(&["a"])).await;
    for waiting in [&mut first, &mut second] {
        assert_eq!(values(&waiting.receive::<FetchRequest>(11).await.1), [(0, "a".to_owned())]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_is_answered_with_nothing_when_it_has_waited_long_enough() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    let before = Instant::now();
    let answer = client.call(11, &fetch("t", 0, 0).with_max_wait_ms(40_000)).await;
    assert_eq!((answer.error_code, answer.session_id, values(&answer).len()), (0, 0, 0));
    assert!(before.elapsed() >= Duration::from_secs(40), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_fetch_that_waits_learns_that_its_topic_was_deleted() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let (mut waiting, mut client) = two_clients(&broker).await;
    send_waiting(&mut waiting, fetch("t", 0, 0)).await;
    let topic = DeleteTopicState::default().with_name(Some(name("t")));
    client.call(6, &DeleteTopicsRequest::default().with_topics(vec![topic])).await;
    let (_, answer) = waiting.receive::<FetchRequest>(11).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, ResponseError::UnknownTopicOrPartition.code());
}

#[tokio::test]
async fn a_fetch_that_nobody_awaits_any_more_does_no_harm() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let (mut waiting, mut client) = two_clients(&broker).await;
    send_waiting(&mut waiting, fetch("t", 0, 0)).await;
    drop(waiting);
    assert_eq!(client.produce("t", 0, batch(&["a"])).await.base_offset, 0);
    assert_eq!(values(&client.call(11, &fetch("t", 0, 0)).await), [(0, "a".to_owned())]);
}

#[tokio::test]
async fn an_answer_keeps_to_its_bytes_but_is_never_empty_for_them() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 2).await;
    for partition in [0, 1] {
        for value in ["a", "b", "c"] {
            client.produce("t", partition, batch(&[value])).await;
        }
    }
    let one = batch(&["a"]).len() as i32;
    // (max_bytes, partition_max_bytes) and how many records each partition then gives.
    for (max_bytes, partition_max_bytes, expected) in [
        (i32::MAX, i32::MAX, [3, 3]),
        (i32::MAX, 2 * one, [2, 2]),
        (i32::MAX, 1, [1, 0]),
        (1, i32::MAX, [1, 0]),
        (0, 0, [1, 0]),
        (4 * one, i32::MAX, [3, 1]),
        (4 * one, 2 * one + 1, [2, 2]),
    ] {
        let mut request = fetch("t", 0, 0).with_max_bytes(max_bytes);
        let asked = |partition| {
            FetchPartition::default().with_partition(partition).with_partition_max_bytes(partition_max_bytes)
        };
        request.topics[0].partitions = vec![asked(0), asked(1)];
        let answer = client.call(11, &request).await;
        let given = answer.responses[0].partitions.iter().map(|p| p.records.as_ref().unwrap().len() as i32 / one);
        assert_eq!(given.collect::<Vec<_>>(), expected, "{max_bytes} bytes, {partition_max_bytes} of each partition");
    }
}

#[tokio::test]
async fn an_error_of_one_partition_is_told_at_once() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    client.produce("t", 0, batch(&["a"])).await;
    let mut fenced = fetch("t", 0, 0);
    fenced.topics[0].partitions[0].current_leader_epoch = 1;
    for (request, expected) in [
        (fetch("t", 0, 2), ResponseError::OffsetOutOfRange),
        (fetch("t", 0, -1), ResponseError::OffsetOutOfRange),
        (fetch("t", 1, 0), ResponseError::UnknownTopicOrPartition),
        (fetch("u", 0, 0), ResponseError::UnknownTopicOrPartition),
        (fenced, ResponseError::UnknownLeaderEpoch),
    ] {
        let answer = client.call(11, &request.with_max_wait_ms(FOR_EVER_MS)).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, expected.code());
    }
    let session = client.call(11, &fetch("t", 0, 0).with_session_id(7)).await;
    assert_eq!(session.error_code, ResponseError::FetchSessionIdNotFound.code());
}

#[tokio::test]
async fn retention_takes_the_oldest_records_and_the_offsets_tell() {
    let config = BrokerConfig { retention_bytes: 20_000, segment_bytes: 4000, ..BrokerConfig::default() };
    let broker = Broker::start(config).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    let value = "x".repeat(1000);
    for _ in 0..50 {
        client.produce("t", 0, batch(&[&value])).await;
    }
    let (start, end) = client.bounds("t", 0).await;
    assert_eq!(end, 50);
    assert!((30..=40).contains(&start), "{start}");
    let answer = client.call(11, &fetch("t", 0, start - 1)).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, ResponseError::OffsetOutOfRange.code());
    let answer = client.call(11, &fetch("t", 0, start)).await;
    assert_eq!(answer.responses[0].partitions[0].log_start_offset, start);
    let offsets: Vec<_> = values(&answer).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, (start..end).collect::<Vec<_>>());
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    client.produce("t", 0, batch(&["a", "b", "c"])).await;
    let out_of_range = ResponseError::OffsetOutOfRange.code();
    for (offset, code, start, bounds) in
        [(2, 0, 2, (2, 3)), (1, 0, 2, (2, 3)), (4, out_of_range, -1, (2, 3)), (-1, 0, 3, (3, 3))]
    {
        let asked = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![asked]);
        let answer = client.call(2, &DeleteRecordsRequest::default().with_topics(vec![topic])).await;
        let deleted = &answer.topics[0].partitions[0];
        assert_eq!((deleted.error_code, deleted.low_watermark), (code, start), "up to {offset}");
        assert_eq!(client.bounds("t", 0).await, bounds, "up to {offset}");
    }
}

#[tokio::test]
async fn offsets_are_found_by_time_and_by_epoch() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    client.produce("t", 0, batch(&["a", "b", "c"])).await;
    for (timestamp, expected) in [(0, 0), (1001, 1), (1002, 2), (1003, -1), (-1, 3), (-2, 0), (-3, 2), (-4, 0)] {
        assert_eq!(client.offset("t", 0, timestamp).await, (0, expected), "at {timestamp}");
    }
    assert_eq!(client.offset("t", 1, -1).await, (ResponseError::UnknownTopicOrPartition.code(), -1));
    for (epoch, expected) in [(0, (0, 3)), (1, (-1, -1))] {
        let asked = OffsetForLeaderPartition::default().with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![asked]);
        let answer = client.call(4, &OffsetForLeaderEpochRequest::default().with_topics(vec![topic])).await;
        let ended = &answer.topics[0].partitions[0];
        assert_eq!((ended.leader_epoch, ended.end_offset), expected, "epoch {epoch}");
    }
}

#[tokio::test]
async fn requests_that_are_sent_ahead_are_answered_in_order() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    // More than are read ahead, so that the rest waits in the socket.
    let mut sent = Vec::new();
    for round in 0..50 {
        sent.push(client.send(8, &produce("t", 0, batch(&["a"]))).await);
        sent.push(client.send(11, &fetch("t", 0, round)).await);
        sent.push(client.send(3, &ApiVersionsRequest::default()).await);
    }
    for id in sent {
        let answer = client.receive_frame().await.unwrap();
        assert_eq!(answer[..4], id.to_be_bytes());
    }
    assert_eq!(client.bounds("t", 0).await, (0, 50));
}
