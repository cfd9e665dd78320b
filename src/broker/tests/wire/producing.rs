use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiVersionsRequest, InitProducerIdRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use superhero_broker::BrokerConfig;

use crate::client::{Broker, batch, fetch, produce, sequenced, values};

#[tokio::test]
async fn records_are_given_offsets_and_come_back_as_they_were() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 2).await;
    assert_eq!(client.produce("t", 1, batch(&["a", "b"])).await.base_offset, 0);
    let two = [batch(&["c"]), batch(&["d", "e"])].concat();
    let answer = client.produce("t", 1, two.into()).await;
    assert_eq!((answer.base_offset, answer.log_start_offset, answer.log_append_time_ms), (2, 0, -1));
    let expected: Vec<_> = (0..).zip(["a", "b", "c", "d", "e"].map(str::to_owned)).collect();
    assert_eq!(values(&client.call(11, &fetch("t", 1, 0)).await), expected);
    assert_eq!(client.bounds("t", 0).await, (0, 0));
    assert_eq!(client.bounds("t", 1).await, (0, 5));
    broker.stop().await;
}

#[tokio::test]
async fn what_is_not_taken_is_said_to_be_so_and_nothing_of_it_is_kept() {
    let config = BrokerConfig { max_batch_bytes: 200, ..BrokerConfig::default() };
    let broker = Broker::start(config).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    let good = batch(&["a"]);
    let mut damaged = good.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let mut old = good.to_vec();
    old[16] = 1;
    let large = batch(&[&"x".repeat(300)]);
    for (what, topic, partition, records, expected) in [
        ("no such topic", "u", 0, good.clone(), ResponseError::UnknownTopicOrPartition),
        ("no such partition", "t", 1, good.clone(), ResponseError::UnknownTopicOrPartition),
        ("a negative partition", "t", -1, good.clone(), ResponseError::UnknownTopicOrPartition),
        ("damaged", "t", 0, damaged.into(), ResponseError::CorruptMessage),
        ("an old format", "t", 0, old.into(), ResponseError::UnsupportedForMessageFormat),
        ("too large", "t", 0, large.clone(), ResponseError::MessageTooLarge),
        ("one good, one too large", "t", 0, [good.clone(), large].concat().into(), ResponseError::MessageTooLarge),
    ] {
        let answer = client.produce(topic, partition, records).await;
        assert_eq!(answer.error_code, expected.code(), "{what}");
        assert_eq!(answer.base_offset, -1, "{what}");
        assert!(answer.error_message.is_some_and(|message| !message.is_empty()), "{what}");
    }
    let answer = client.call(8, &produce("t", 0, good).with_acks(2)).await;
    let code = answer.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ResponseError::InvalidRequiredAcks.code());
    assert_eq!(client.bounds("t", 0).await, (0, 0));
}

#[tokio::test]
async fn a_produce_without_acknowledgement_has_no_answer_unless_it_fails() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    client.send(8, &produce("t", 0, batch(&["a"])).with_acks(0)).await;
    assert_eq!(client.bounds("t", 0).await, (0, 1));
    // A failure is told by closing the connection, for want of another way.
    client.send(8, &produce("nowhere", 0, batch(&["a"])).with_acks(0)).await;
    assert!(client.receive_frame().await.is_none());
}

#[tokio::test]
async fn a_batch_that_an_idempotent_producer_sends_again_is_not_appended_again() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let id = client.call(4, &request).await.producer_id.0;
    let other = client.call(4, &request).await.producer_id.0;
    assert!(id >= 0 && other >= 0 && id != other);
    client.produce("t", 0, batch(&["x"])).await;
    for (what, sequence, code, base_offset) in [
        ("the first", 0, 0, 1),
        ("the next", 2, 0, 3),
        ("the first again", 0, 0, 1),
        ("one after a gap", 6, ResponseError::OutOfOrderSequenceNumber.code(), -1),
        ("the next but one", 4, 0, 5),
    ] {
        let answer = client.produce("t", 0, sequenced(&["a", "b"], id, 0, sequence)).await;
        assert_eq!((answer.error_code, answer.base_offset), (code, base_offset), "{what}");
    }
    assert_eq!(client.produce("t", 0, sequenced(&["a"], other, 0, 0)).await.base_offset, 7);
    assert_eq!(client.bounds("t", 0).await, (0, 8));
}

#[tokio::test]
async fn transactions_are_refused() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1).await;
    let id = Some(TransactionalId(StrBytes::from_static_str("tx")));
    let refused = ResponseError::TransactionalIdAuthorizationFailed.code();
    let answer = client.call(4, &InitProducerIdRequest::default().with_transactional_id(id.clone())).await;
    assert_eq!((answer.error_code, answer.producer_id.0), (refused, -1));
    let answer = client.call(8, &produce("t", 0, batch(&["a"])).with_transactional_id(id)).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, refused);
    assert_eq!(client.bounds("t", 0).await, (0, 0));
    client.call(3, &ApiVersionsRequest::default()).await;
}
