//! What an event costs from the log call to the acknowledgement, beside kcat, both with acks=all.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use superhero_kafka::{Cluster, KafkaConfig};
use superhero_transport::{KafkaPublisher, Publisher, Transport, TransportConfig};
use tracing_subscriber::layer::SubscriberExt;

use crate::usage;

const TOPIC: &str = "bench.produce";
const KCAT_TOPIC: &str = "bench.produce.kcat";
const PARTITIONS: i32 = 4;
const EVENT_BYTES: usize = 250;
/// Calls between two looks at the admission, as a session would have.
const CALLS_PER_ADMISSION: usize = 16;
/// Games, whose tokens are the keys.
const GAMES: usize = 64;

/// Microseconds of CPU time per event.
#[derive(Clone, Copy, Debug)]
pub struct Produce {
    /// This process, log calls included.
    pub ours_us: f64,
    /// kcat, which sends lines of a file as bare values.
    pub kcat_us: f64,
    /// kcat with a key and the three headers that our records have.
    pub kcat_alike_us: f64,
    /// Our events per second of wall time.
    pub ours_per_s: f64,
}

/// Sends `events` events each way to the Kafka at `bootstrap`.
pub fn run(bootstrap: &str, events: usize) -> Result<Produce> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let config = KafkaConfig::new(bootstrap, "superhero-bench")?;
        let cluster = Cluster::connect(&config, tokio::time::Instant::now() + Duration::from_secs(10)).await?;
        let topics = [TOPIC.to_owned(), KCAT_TOPIC.to_owned()];
        cluster.create_missing_topics(&topics, PARTITIONS, 1).await?;
        let (ours_us, ours_per_s) = ours(config, events).await?;
        let keys = games();
        let kcat_us = kcat(bootstrap, events, &[], |_| String::new())?;
        let headers = [
            "-K",
            "\t",
            "-H",
            "superhero-producer=0123456789abcdef0123456789abcdef",
            "-H",
            "superhero-sequence=123456",
            "-H",
            "superhero-place=lib.server.game/3",
        ];
        let kcat_alike_us = kcat(bootstrap, events, &headers, |event| format!("{}\t", keys[event % GAMES]))?;
        Ok(Produce { ours_us, kcat_us, kcat_alike_us, ours_per_s })
    })
}

/// Microseconds of the CPU time of the broker with the process id `pid` for each of `events` events.
pub fn broker_us(bootstrap: &str, pid: u32, events: usize) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let config = KafkaConfig::new(bootstrap, "superhero-bench")?;
        let cluster = Cluster::connect(&config, tokio::time::Instant::now() + Duration::from_secs(10)).await?;
        cluster.create_missing_topics(&[TOPIC.to_owned()], PARTITIONS, 1).await?;
        // The first round is for a virtual machine to warm up.
        ours(config.clone(), events / 4).await?;
        let before = usage::seconds_of(pid)?;
        ours(config, events).await?;
        Ok((usage::seconds_of(pid)? - before) * 1e6 / events as f64)
    })
}

async fn ours(config: KafkaConfig, events: usize) -> Result<(f64, f64)> {
    let transport = Transport::new(TransportConfig::new(Publisher::Kafka(KafkaPublisher::new(config)), 1));
    let log = tracing::Dispatch::new(tracing_subscriber::registry().with(transport.layer()));
    let guard = transport.start().await?;
    let admission = guard.admission();
    let keys = games();
    let task = task();
    let (cpu, start) = (usage::own_seconds()?, Instant::now());
    for first in (0..events).step_by(CALLS_PER_ADMISSION) {
        admission.admit().await;
        tracing::dispatcher::with_default(&log, || {
            for event in first..events.min(first + CALLS_PER_ADMISSION) {
                let key = keys[event % GAMES].as_str();
                tracing::info!(target: superhero_event::TARGET, queue = TOPIC, key, task, "Attack Completed");
            }
        });
    }
    let report = guard.close(Duration::from_secs(60)).await.context("closing the transport")?;
    let (spent, lasted) = (usage::own_seconds()? - cpu, start.elapsed());
    if report.counters.acknowledged != events as u64 {
        bail!("{events} events, and {:?}", report.counters);
    }
    Ok((spent * 1e6 / events as f64, events as f64 / lasted.as_secs_f64()))
}

fn games() -> Vec<String> {
    (0..GAMES).map(|game| format!("6a2f41a3-c54c-4bf5-9f3f-{game:012x}")).collect()
}

/// What makes the envelope of the right size.
fn task() -> &'static str {
    const ATTACK: &str =
        r#"{"USER_TOKEN":"0b9f9d52-6cf5-4e0c-8d8d-6c1a52f9ad02","ENEMY_DAMAGE":4000,"ENEMY_HEALTH_POST":46000}"#;
    let mut envelope = Vec::new();
    superhero_event::encode(
        &mut envelope,
        superhero_event::Level::Info,
        Default::default(),
        "kafka",
        TOPIC,
        "Attack Completed",
        superhero_event::Task::Text(ATTACK),
    );
    assert!(envelope.len().abs_diff(EVENT_BYTES) < 20, "an event has {} bytes", envelope.len());
    ATTACK
}

fn kcat(bootstrap: &str, events: usize, flags: &[&str], prefix: impl Fn(usize) -> String) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let lines = folder.path().join("lines");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&lines)?);
    for event in 0..events {
        writeln!(file, "{}{event:0>EVENT_BYTES$}", prefix(event))?;
    }
    file.into_inner()?.sync_all()?;
    let before = usage::children_seconds()?;
    let status = Command::new("kcat")
        .args(["-P", "-b", bootstrap, "-t", KCAT_TOPIC, "-X", "acks=all", "-l"])
        .args(flags)
        .arg(&lines)
        .stdin(Stdio::null())
        .status()
        .context("starting kcat")?;
    if !status.success() {
        bail!("kcat ended with {status}");
    }
    Ok((usage::children_seconds()? - before) * 1e6 / events as f64)
}
