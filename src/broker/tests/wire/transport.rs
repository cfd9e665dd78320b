//! rskafka, which is what this repository's own producers and consumers use.

use std::sync::Arc;
use std::time::Duration;

use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, UnknownTopicHandling};
use rskafka::record::Record;
use superhero_broker::BrokerConfig;

use crate::client::Broker;

/// Longer than any test: a fetch that is answered was woken.
const FOR_EVER_MS: i32 = 280_000;

fn record(value: &str) -> Record {
    Record {
        key: Some(b"key".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: [("header".to_owned(), b"h".to_vec())].into(),
        timestamp: chrono::DateTime::from_timestamp_millis(1_700_000_000_000).unwrap(),
    }
}

#[tokio::test]
async fn rskafka_produces_and_fetches() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let client = ClientBuilder::new(vec![broker.address.to_string()]).build().await.unwrap();
    let controller = client.controller_client().unwrap();
    controller.create_topic("t", 2, 1, 5000).await.unwrap();
    let topics = client.list_topics().await.unwrap();
    assert_eq!(topics.iter().map(|topic| (&*topic.name, topic.partitions.len())).collect::<Vec<_>>(), [("t", 2)]);

    let partition = client.partition_client("t", 1, UnknownTopicHandling::Error).await.unwrap();
    let mut next = 0;
    for compression in [Compression::NoCompression, Compression::Gzip, Compression::Snappy] {
        let records = (0..100).map(|n| record(&format!("{compression:?} {n}"))).collect();
        let offsets = partition.produce(records, compression).await.unwrap();
        assert_eq!(offsets, (next..next + 100).collect::<Vec<_>>());
        next += 100;
    }
    let mut fetched = Vec::new();
    while fetched.len() < 300 {
        let (records, end) = partition.fetch_records(fetched.len() as i64, 1..10_000, FOR_EVER_MS).await.unwrap();
        assert_eq!(end, 300);
        fetched.extend(records);
    }
    for (offset, fetched) in (0..).zip(&fetched) {
        let compression = ["NoCompression", "Gzip", "Snappy"][offset / 100];
        assert_eq!(fetched.record, record(&format!("{compression} {}", offset % 100)));
    }
    assert_eq!(partition.get_offset(OffsetAt::Latest).await.unwrap(), 300);
    partition.delete_records(250, 5000).await.unwrap();
    assert_eq!(partition.get_offset(OffsetAt::Earliest).await.unwrap(), 250);
    controller.delete_topic("t", 5000).await.unwrap();
    assert!(client.list_topics().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_fetch_of_rskafka_is_woken_by_a_produce() {
    let broker = Broker::start(BrokerConfig::default()).await;
    let client = ClientBuilder::new(vec![broker.address.to_string()]).build().await.unwrap();
    // Asking for it makes it.
    let partition = client.partition_client("made", 0, UnknownTopicHandling::Retry).await.unwrap();
    let partition = Arc::new(partition);
    let fetching = Arc::clone(&partition);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { fetching.fetch_records(0, 1..10_000, FOR_EVER_MS).await.unwrap() });
    let other = client.partition_client("made", 0, UnknownTopicHandling::Error).await.unwrap();
    other.produce(vec![record("a")], Compression::Gzip).await.unwrap();
    let fetched = tokio::time::timeout(Duration::from_secs(60), tasks.join_next()).await;
    let (records, end) = fetched.unwrap().unwrap().unwrap();
    assert_eq!((records.len(), end), (1, 1));
}
