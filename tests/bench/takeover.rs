//! How long a partition stands still when its worker is killed, or stops, while events go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use superhero_event::topic;
use superhero_kafka::{Cluster, KafkaConfig};
use superhero_transport::{KafkaPublisher, Publisher, Transport, TransportConfig};
use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::layer::SubscriberExt;

use crate::log_call;
use crate::process::{Process, Signal, binary};
use crate::services::{Kafka, Redis};

const PARTITIONS: i32 = 4;
const ROUNDS: usize = 5;
/// Events go on at a thousand a second.
const PACE: Duration = Duration::from_millis(10);
const EVENTS_AT_A_TIME: usize = 10;
/// What a worker prints when it reads all of its partitions.
const READS: &str = "the partitions of the assignment are read";
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const DEADLINE: Duration = Duration::from_secs(60);

/// Seconds until the worker that is left reads the partitions of the one that is not, the longest of some rounds.
#[derive(Clone, Copy, Debug)]
pub struct Takeover {
    /// After SIGKILL.
    pub killed_s: f64,
    /// After SIGTERM.
    pub stopped_s: f64,
}

/// Two workers with their default settings.
pub async fn run(kafka: &Kafka, redis: &Redis) -> Result<Takeover> {
    let config = KafkaConfig::new(&kafka.bootstrap, "superhero-bench")?;
    let cluster = Cluster::connect(&config, tokio::time::Instant::now() + DEADLINE).await?;
    cluster.create_missing_topics(&topic::ALL.map(str::to_owned), PARTITIONS, 1).await?;
    let transport = Transport::new(TransportConfig::new(Publisher::Kafka(KafkaPublisher::new(config)), 1));
    let log = tracing::Dispatch::new(tracing_subscriber::registry().with(transport.layer()));
    let guard = transport.start().await?;
    let emitting = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut pace = tokio::time::interval(PACE);
        loop {
            pace.tick().await;
            tracing::dispatcher::with_default(&log, || (0..EVENTS_AT_A_TIME).for_each(|_| log_call::call(topic::GAME)));
        }
    }));
    let folder = tempfile::tempdir()?;
    let worker = |name: &str| {
        let mut command = binary("superhero-worker");
        command
            .env("KAFKA_BOOTSTRAP_SERVERS", &kafka.bootstrap)
            .env("REDIS_PORT", redis.port.to_string())
            .env("OUTPUT_DIR", folder.path());
        Process::spawn(name, command)
    };
    let stays = worker("the worker that stays")?;
    reads(&stays, 1).await?;
    let mut longest = Takeover { killed_s: 0.0, stopped_s: 0.0 };
    for (signal, longest) in [(Signal::KILL, &mut longest.killed_s), (Signal::TERM, &mut longest.stopped_s)] {
        for _ in 0..ROUNDS {
            let before = rounds(&stays);
            let goes = worker("the worker that goes")?;
            reads(&goes, 1).await?;
            reads(&stays, before + 1).await?;
            goes.signal(signal)?;
            let since = Instant::now();
            let before = rounds(&stays);
            reads(&stays, before + 1).await?;
            *longest = longest.max(since.elapsed().as_secs_f64());
            goes.wait().await?;
        }
    }
    stays.stop().await?;
    drop(emitting);
    let counters = guard.close(DEADLINE).await.context("the events are delivered")?.counters;
    ensure!(counters.dropped == 0, "{counters:?}");
    Ok(longest)
}

/// In how many generations a worker has read its partitions.
fn rounds(worker: &Process) -> usize {
    worker.printed().matches(READS).count()
}

async fn reads(worker: &Process, in_rounds: usize) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while rounds(worker) < in_rounds {
        ensure!(Instant::now() < deadline, "it does not read its partitions; it printed:\n{}", worker.printed());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}
