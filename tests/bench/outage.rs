//! The log call while two of three brokers are away, beside that while all are there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use superhero_kafka::{Cluster, KafkaConfig};
use superhero_transport::{KafkaPublisher, Publisher, SpoolConfig, Transport, TransportConfig};
use tracing_subscriber::layer::SubscriberExt;

use crate::log_call;
use crate::process::{Signal, signal};
use crate::services::Started;

/// Nothing is acknowledged without two of the three replicas.
const TOPIC: &str = "bench.outage";
const PARTITIONS: i32 = 4;
const REPLICAS: i16 = 3;
const AWAY: [&str; 2] = ["kafka-2", "kafka-3"];
/// Log calls each time, 4,000 a second.
const CALLS: usize = 20_000;
const PACE: Duration = Duration::from_micros(250);
const DEADLINE: Duration = Duration::from_secs(120);

/// The 99th percentile of a log call, in microseconds of wall time.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// All brokers are there.
    pub whole_us: f64,
    /// Two of them were killed.
    pub away_us: f64,
    /// From their return until everything is acknowledged.
    pub delivered_s: f64,
}

/// Kills two of the three brokers of `services`, and brings them back.
pub async fn run(services: &Started, is_spooled: bool) -> Result<Outage> {
    let config = KafkaConfig::new(&services.setting("KAFKA_BOOTSTRAP_SERVERS")?, "superhero-bench")?;
    let cluster = Cluster::connect(&config, tokio::time::Instant::now() + DEADLINE).await?;
    cluster.create_missing_topics(&[TOPIC.to_owned()], PARTITIONS, REPLICAS).await?;
    let folder = tempfile::tempdir()?;
    let mut publisher = KafkaPublisher::new(config);
    publisher.spool =
        is_spooled.then(|| SpoolConfig { dir: folder.path().to_owned(), capacity_bytes: 256 * 1024 * 1024 });
    let transport = Transport::new(TransportConfig::new(Publisher::Kafka(publisher), 1));
    let log = tracing::Dispatch::new(tracing_subscriber::registry().with(transport.layer()));
    let guard = transport.start().await?;
    let p99_us = || {
        let log = log.clone();
        tokio::task::spawn_blocking(move || {
            let mut calls = tracing::dispatcher::with_default(&log, || log_call::paced(TOPIC, CALLS, PACE));
            calls.sort_by(f64::total_cmp);
            calls[CALLS * 99 / 100] / 1000.0
        })
    };
    let whole_us = p99_us().await?;
    for broker in AWAY {
        signal(services.pid(broker)?, Signal::KILL)?;
    }
    let away_us = p99_us().await;
    for broker in AWAY {
        services.again(broker)?;
    }
    let since = Instant::now();
    let counters = guard.close(DEADLINE).await.context("the events are delivered")?.counters;
    ensure!(counters.acknowledged == 2 * CALLS as u64 && counters.dropped == 0, "{counters:?}");
    Ok(Outage { whole_us, away_us: away_us?, delivered_s: since.elapsed().as_secs_f64() })
}
