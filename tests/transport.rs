//! The transport against a Kafka and a Redis.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fred::clients::SubscriberClient;
use fred::prelude::*;
use libtest_mimic::Trial;
use superhero_kafka::{Cluster, KafkaConfig, partition_for_key};
use superhero_transport::{
    FlushError, Guard, KafkaPublisher, Publisher, RedisPublisher, Transport, TransportConfig, WhenFull,
};
use tokio::time::Instant;
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt;

use crate::process::{Signal, eventually};
use crate::services::{Kafka, Redis};
use crate::{real, test};

const PARTITIONS: i32 = 4;
const GAMES: usize = 20;
const DEADLINE: Duration = Duration::from_secs(30);

/// What is emitted arrives.
pub fn tests() -> Vec<Trial> {
    vec![
        test("transport: every event arrives once, in the order of its game, numbered without gaps", arrives),
        test("transport: only calls of the events' target with a queue are events", only_events),
        test("transport: a broker that stands still for a while loses nothing", broker_pauses),
        test("transport: a stop says exactly what a broker that is gone did not get", broker_gone),
        test("transport: a full queue holds admissions back until there is room", holds_back),
        test("transport: the drop policy counts what it drops and says so in the stream", drops),
        test("transport: a topic that does not exist yet keeps its events until it does", topic_comes_later),
        real("transport: events whose time the broker refuses are sent with the present time", mistimed),
        real("transport: Redis subscribers of the queue's channel get the envelopes", redis_publishes),
    ]
}

/// A transport and the log whose events it takes.
pub struct Emitting {
    log: Dispatch,
    pub guard: Guard,
}

impl Emitting {
    pub async fn start(config: TransportConfig) -> Result<Self> {
        let transport = Transport::new(config);
        let log = Dispatch::new(tracing_subscriber::registry().with(transport.layer()));
        Ok(Self { log, guard: transport.start().await? })
    }

    pub fn emit(&self, topic: &str, numbers: std::ops::Range<usize>) {
        tracing::dispatcher::with_default(&self.log, || {
            numbers.for_each(|number| log(topic, number));
        });
    }
}

/// The log call of an event that is told from others by its number.
pub fn log(topic: &str, number: usize) {
    let (key, task) = (game(number), number.to_string());
    tracing::info!(target: superhero_event::TARGET, queue = topic, key, task, "Attack Completed");
}

fn game(number: usize) -> String {
    format!("6a2f41a3-c54c-4bf5-9f3f-{:012x}", number % GAMES)
}

pub fn to_kafka(bootstrap: &str) -> Result<TransportConfig> {
    let mut cluster = KafkaConfig::new(bootstrap, "superhero-test")?;
    // A broker that stands still is given up soon, so that the tests see what follows.
    cluster.request_timeout = Duration::from_secs(2);
    Ok(TransportConfig::new(Publisher::Kafka(KafkaPublisher::new(cluster)), 1))
}

pub async fn cluster(kafka: &Kafka) -> Result<Cluster> {
    Ok(Cluster::connect(&KafkaConfig::new(&kafka.bootstrap, "superhero-test")?, Instant::now() + DEADLINE).await?)
}

/// A topic of four partitions.
pub async fn topic(kafka: &Kafka, name: &str) -> Result<String> {
    cluster(kafka).await?.create_missing_topics(&[name.to_owned()], PARTITIONS, 1).await?;
    Ok(name.to_owned())
}

/// A record as it stands in the topic.
pub struct Found {
    pub key: String,
    /// The event's number.
    pub task: Option<usize>,
    pub envelope: serde_json::Value,
    /// Its producer and its sequence.
    pub id: (String, u64),
}

/// All that a topic holds, by partition.
pub async fn read(kafka: &Kafka, topic: &str) -> Result<BTreeMap<i32, Vec<Found>>> {
    const FETCH_BYTES: i32 = 8 << 20;
    const FETCH_WAIT_MS: i32 = 500;
    let cluster = cluster(kafka).await?;
    let mut partitions = BTreeMap::new();
    for (partition, end) in cluster.end_offsets(topic).await? {
        let client = cluster.partition_client(topic, partition).await?;
        let mut found = Vec::new();
        let mut next = 0;
        while next < end {
            let (records, _) = client.fetch_records(next, 1..FETCH_BYTES, FETCH_WAIT_MS).await?;
            for record in records {
                next = record.offset + 1;
                let record = record.record;
                let header = |name| String::from_utf8(record.headers.get(name).cloned().unwrap_or_default());
                let envelope: serde_json::Value = serde_json::from_slice(&record.value.context("a value")?)?;
                found.push(Found {
                    key: String::from_utf8(record.key.unwrap_or_default())?,
                    task: envelope["task"].as_str().and_then(|task| task.parse().ok()),
                    id: (header("superhero-producer")?, header("superhero-sequence")?.parse()?),
                    envelope,
                });
            }
        }
        partitions.insert(partition, found);
    }
    Ok(partitions)
}

/// Every number once, each in its game's partition and order, under one producer that numbers without gaps.
async fn check(kafka: &Kafka, topic: &str, count: usize) -> Result<()> {
    let mut numbers = Vec::new();
    let mut producers = Vec::new();
    for (partition, mut found) in read(kafka, topic).await? {
        let mut ids = Vec::new();
        // A lost acknowledgement sends a batch twice; its records carry the same numbers again.
        found.retain(|record| (!ids.contains(&record.id)).then(|| ids.push(record.id.clone())).is_some());
        let mut last = BTreeMap::new();
        for (sequence, record) in found.iter().enumerate() {
            let number = record.task.context("a number")?;
            ensure!(record.id.1 == sequence as u64, "{partition}: sequence {} is the {sequence}th", record.id.1);
            ensure!(record.key == game(number), "{number} has the key {}", record.key);
            ensure!(
                partition_for_key(Some(record.key.as_bytes()), PARTITIONS, &mut 0) == partition,
                "{} in {partition}",
                record.key
            );
            ensure!(last.insert(record.key.clone(), number).is_none_or(|last| last < number), "{number} is too late");
            ensure!(record.envelope["name"] == format!("kafka.{topic}"), "{}", record.envelope);
            ensure!(record.envelope["log_message"] == "Attack Completed", "{}", record.envelope);
            ensure!(record.envelope["level"] == "INFO", "{}", record.envelope);
            numbers.push(number);
            producers.push(record.id.0.clone());
        }
    }
    producers.dedup();
    ensure!(producers.len() == 1 && producers[0].len() == 32, "the producers are {producers:?}");
    numbers.sort_unstable();
    ensure!(numbers.iter().copied().eq(0..count), "{} of {count} events arrived", numbers.len());
    Ok(())
}

async fn arrives() -> Result<()> {
    const EVENTS: usize = 20_000;
    let kafka = Kafka::shared()?;
    let topic = topic(&kafka, "transport.arrives").await?;
    let emitting = Emitting::start(to_kafka(&kafka.bootstrap)?).await?;
    emitting.emit(&topic, 0..EVENTS);
    let counters = emitting.guard.close(DEADLINE).await?.counters;
    ensure!(counters.emitted == EVENTS as u64 && counters.acknowledged == EVENTS as u64, "{counters:?}");
    ensure!(counters.dropped == 0 && counters.queued_bytes == 0, "{counters:?}");
    check(&kafka, &topic, EVENTS).await
}

async fn only_events() -> Result<()> {
    let kafka = Kafka::shared()?;
    let topic = topic(&kafka, "transport.only_events").await?;
    let emitting = Emitting::start(to_kafka(&kafka.bootstrap)?).await?;
    let queue = topic.as_str();
    tracing::dispatcher::with_default(&emitting.log, || {
        tracing::info!(target: "rskafka::client", queue, "a library's line");
        tracing::info!(target: "superhero_transport::kafka", queue, "the transport's own");
        tracing::info!(target: superhero_event::TARGET, "without a queue");
        tracing::info!(target: superhero_event::TARGET, queue, key = "k", task_object = r#"{"a":1}"#, "an event");
    });
    let counters = emitting.guard.close(DEADLINE).await?.counters;
    ensure!(counters.emitted == 1, "{counters:?}");
    let found: Vec<_> = read(&kafka, &topic).await?.into_values().flatten().collect();
    ensure!(found.len() == 1 && found[0].envelope["task"]["a"] == 1, "{:?}", found[0].envelope);
    Ok(())
}

async fn broker_pauses() -> Result<()> {
    const EVENTS: usize = 4_000;
    let kafka = Kafka::start()?;
    let topic = topic(&kafka, "transport.broker_pauses").await?;
    let emitting = Emitting::start(to_kafka(&kafka.bootstrap)?).await?;
    emitting.emit(&topic, 0..EVENTS / 2);
    eventually("the first half is acknowledged", DEADLINE, async || {
        Ok(emitting.guard.counters().acknowledged == EVENTS as u64 / 2)
    })
    .await?;
    kafka.signal(Signal::STOP)?;
    emitting.emit(&topic, EVENTS / 2..EVENTS);
    let unwell = eventually("a request is given up", DEADLINE, async || Ok(emitting.guard.health().is_err())).await;
    kafka.signal(Signal::CONT)?;
    unwell?;
    let counters = emitting.guard.close(DEADLINE).await?.counters;
    ensure!(counters.acknowledged == EVENTS as u64 && counters.dropped == 0, "{counters:?}");
    ensure!(counters.retried > 0, "the request that was given up was not sent again: {counters:?}");
    check(&kafka, &topic, EVENTS).await
}

async fn broker_gone() -> Result<()> {
    const EVENTS: usize = 100;
    let kafka = Kafka::start()?;
    let topic = topic(&kafka, "transport.broker_gone").await?;
    let emitting = Emitting::start(to_kafka(&kafka.bootstrap)?).await?;
    emitting.emit(&topic, 0..EVENTS);
    eventually("they are acknowledged", DEADLINE, async || Ok(emitting.guard.counters().acknowledged == EVENTS as u64))
        .await?;
    kafka.signal(Signal::KILL)?;
    emitting.emit(&topic, EVENTS..3 * EVENTS);
    eventually("the transport is unwell", DEADLINE, async || Ok(emitting.guard.health().is_err())).await?;
    let Err(FlushError { undelivered, counters, .. }) = emitting.guard.close(Duration::from_secs(3)).await else {
        bail!("everything was delivered to a broker that is gone")
    };
    let events: u64 = undelivered.iter().map(|place| place.events).sum();
    ensure!(events == 2 * EVENTS as u64 && undelivered.iter().all(|place| place.topic == topic), "{undelivered:?}");
    ensure!(counters.emitted == counters.acknowledged + counters.dropped + counters.queued_events, "{counters:?}");
    Ok(())
}

async fn holds_back() -> Result<()> {
    const CAPACITY_BYTES: usize = 64 << 10;
    let kafka = Kafka::shared()?;
    let mut config = to_kafka(&kafka.bootstrap)?;
    config.queue.capacity_bytes = CAPACITY_BYTES;
    let emitting = Emitting::start(config).await?;
    // Nothing leaves the queue before there is a topic.
    let name = "transport.holds_back";
    let mut emitted = 0;
    while emitting.guard.admission().is_open() {
        emitting.emit(name, emitted..emitted + 1);
        emitted += 1;
        ensure!(emitted < CAPACITY_BYTES, "{emitted} events have not filled {CAPACITY_BYTES} bytes");
    }
    topic(&kafka, name).await?;
    tokio::time::timeout(DEADLINE, emitting.guard.admission().admit()).await.context("admission stays closed")?;
    let counters = emitting.guard.close(DEADLINE).await?.counters;
    ensure!(counters.acknowledged == emitted as u64 && counters.dropped == 0, "{counters:?}");
    check(&kafka, name, emitted).await
}

async fn drops() -> Result<()> {
    const EVENTS: usize = 2_000;
    let kafka = Kafka::shared()?;
    let mut config = to_kafka(&kafka.bootstrap)?;
    config.queue.capacity_bytes = 64 << 10;
    config.queue.when_full = WhenFull::Drop;
    let emitting = Emitting::start(config).await?;
    let name = "transport.drops";
    emitting.emit(name, 0..EVENTS);
    let dropped = emitting.guard.counters().dropped;
    ensure!(dropped > 0 && emitting.guard.admission().is_open(), "{:?}", emitting.guard.counters());
    topic(&kafka, name).await?;
    let counters = emitting.guard.close(DEADLINE).await?.counters;
    ensure!(counters.emitted == counters.acknowledged + counters.dropped, "{counters:?}");
    let found: Vec<_> = read(&kafka, name).await?.into_values().flatten().collect();
    let notice =
        found.iter().find(|record| record.task.is_none()).context("nothing in the stream tells of the drop")?;
    ensure!(notice.envelope.to_string().contains(&dropped.to_string()), "{dropped} were dropped: {}", notice.envelope);
    Ok(())
}

async fn topic_comes_later() -> Result<()> {
    const EVENTS: usize = 50;
    let kafka = Kafka::shared()?;
    let emitting = Emitting::start(to_kafka(&kafka.bootstrap)?).await?;
    let name = "transport.topic_comes_later";
    emitting.emit(name, 0..EVENTS);
    eventually("the transport says that the topic is missing", DEADLINE, async || {
        Ok(emitting.guard.health().is_err_and(|health| health.reason.contains(name)))
    })
    .await?;
    let known = cluster(&kafka).await?.topics().await?;
    ensure!(!known.contains_key(name), "asking for the topic has made it");
    topic(&kafka, name).await?;
    emitting.guard.close(DEADLINE).await?;
    check(&kafka, name, EVENTS).await
}

/// As after a clock that was wrong: the events wait for a topic that takes nothing which is older than the tool that makes it takes to start.
async fn mistimed() -> Result<()> {
    const EVENTS: usize = 50;
    const MAKE: [&str; 6] =
        ["--create", "--partitions", "4", "--config", "message.timestamp.before.max.ms=500", "--topic"];
    let kafka = Kafka::shared()?;
    let emitting = Emitting::start(to_kafka(&kafka.bootstrap)?).await?;
    let name = "transport.mistimed";
    emitting.emit(name, 0..EVENTS);
    let arguments = [&MAKE[..], &[name]].concat();
    tokio::task::block_in_place(|| kafka.tool("org.apache.kafka.tools.TopicCommand", &arguments))?;
    let counters = emitting.guard.close(DEADLINE).await?.counters;
    ensure!((counters.acknowledged, counters.dropped) == (EVENTS as u64, 0) && counters.retried > 0, "{counters:?}");
    check(&kafka, name, EVENTS).await
}

async fn redis_publishes() -> Result<()> {
    const EVENTS: usize = 500;
    let redis = Redis::shared()?;
    let channel = "transport.redis_publishes";
    let place = Config { server: ServerConfig::new_centralized("127.0.0.1", redis.port), ..Config::default() };
    let subscriber: SubscriberClient = Builder::from_config(place).build_subscriber_client()?;
    let mut messages = subscriber.message_rx();
    subscriber.init().await?;
    subscriber.subscribe(channel).await?;
    // The subscription stands when the server has answered what follows it.
    subscriber.ping::<()>(None).await?;
    let publisher = RedisPublisher {
        host: "127.0.0.1".to_owned(),
        port: redis.port,
        database: 0,
        username: None,
        password: None,
        timeout: DEADLINE,
    };
    let emitting = Emitting::start(TransportConfig::new(Publisher::Redis(publisher), 1)).await?;
    // No more than what the subscriber's own buffer holds at once.
    for first in (0..EVENTS).step_by(10) {
        emitting.emit(channel, first..first + 10);
        for number in first..first + 10 {
            let message = tokio::time::timeout(DEADLINE, messages.recv()).await.context("no message")??;
            let text: String = message.value.convert()?;
            let envelope: serde_json::Value = serde_json::from_str(&text)?;
            let task = envelope["task"].as_str().and_then(|task| task.parse().ok());
            ensure!(task == Some(number), "{envelope} in place of {number}");
            ensure!(envelope["name"] == format!("redis.{channel}"), "{envelope}");
        }
    }
    let counters = emitting.guard.close(DEADLINE).await?.counters;
    ensure!(counters.acknowledged == EVENTS as u64, "{counters:?}");
    subscriber.quit().await?;
    Ok(())
}
