//! What a log call costs its caller: an event into the transport, beside a JSON line into tracing-appender.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use superhero_kafka::{Cluster, KafkaConfig};
use superhero_transport::{Guard, KafkaPublisher, Publisher, SpoolConfig, Transport, TransportConfig};
use tokio::runtime::Runtime;
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt;

const TOPIC: &str = "bench.log_call";
const KEY: &str = "6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11";
const TASK: &str = r#"{"TIMESTAMP":"2026-11-22T18:15:21.101031","PAYLOAD":{"GAME_TOKEN":"6a2f41a3-c54c-4bf5-9f3f-7b1f0f4c0e11","USER_TOKEN":"0b9f9d52-6cf5-4e0c-8d8d-6c1a52f9ad02"},"STATUS":{"ACTION":"ATTACK","DETAILS":{"ENEMY_TOKEN":"e1fcd81b-2a43-4f3f-9b75-0f8f1c2d3e4f","ENEMY_DAMAGE":4000,"ENEMY_HEALTH_PRIOR":50000,"ENEMY_HEALTH_POST":46000}}}"#;

/// Calls of a burst; the queue and tracing-appender's buffer take them all.
const BURST_CALLS: u32 = 40_000;
/// Bursts, of which the median counts.
const BURSTS: usize = 15;
/// Calls with a pause before each.
const PACED_CALLS: usize = 4_000;
const PACE: Duration = Duration::from_micros(250);
const THREADS: usize = 4;

/// What a log call costs either way.
#[derive(Clone, Copy, Debug)]
pub struct LogCall {
    /// The transport's layer.
    pub ours: Costs,
    /// The same with a spool.
    pub spooled: Costs,
    /// tracing-subscriber's JSON lines into a non-blocking tracing-appender.
    pub appender: Costs,
}

/// Nanoseconds per call in some situations.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// One thread, one call after the other; CPU time.
    pub burst_ns: f64,
    /// One thread that sleeps 250 µs before each call; wall time of the call, the median.
    pub paced_ns: f64,
    /// The same, the 99th percentile.
    pub paced_p99_ns: f64,
    /// Four threads at once; CPU time.
    pub threads_ns: f64,
}

/// Measures all in turn, against the Kafka at `bootstrap`.
pub fn run(bootstrap: &str) -> Result<LogCall> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let spool = SpoolConfig { dir: folder.path().join("spool"), capacity_bytes: 256 * 1024 * 1024 };
    let ours = transport(&runtime, bootstrap, None)?;
    let spooled = transport(&runtime, bootstrap, Some(spool))?;
    let (writer, flush) = tracing_appender::non_blocking(std::fs::File::create(folder.path().join("log"))?);
    let lines = tracing_subscriber::fmt::layer().json().with_writer(writer);
    let appender = Dispatch::new(tracing_subscriber::registry().with(lines));
    // Its worker thread tells nobody how far it is; a burst is written in less than this.
    let appender = measure(&appender, || std::thread::sleep(Duration::from_millis(300)));
    drop(flush);
    Ok(LogCall { ours, spooled, appender })
}

fn transport(runtime: &Runtime, bootstrap: &str, spool: Option<SpoolConfig>) -> Result<Costs> {
    let config = KafkaConfig::new(bootstrap, "superhero-bench")?;
    let publisher = KafkaPublisher { spool, ..KafkaPublisher::new(config.clone()) };
    let transport = Transport::new(TransportConfig::new(Publisher::Kafka(publisher), 1));
    let log = Dispatch::new(tracing_subscriber::registry().with(transport.layer()));
    let guard = runtime.block_on(async {
        let cluster = Cluster::connect(&config, tokio::time::Instant::now() + Duration::from_secs(10)).await?;
        cluster.create_missing_topics(&[TOPIC.to_owned()], 4, 1).await?;
        anyhow::Ok(transport.start().await?)
    })?;
    let costs = measure(&log, || drained(&guard));
    runtime.block_on(guard.close(Duration::from_secs(10))).context("closing the transport")?;
    Ok(costs)
}

fn measure(log: &Dispatch, drained: impl Fn()) -> Costs {
    tracing::dispatcher::with_default(log, || {
        call(TOPIC);
        let bursts = (0..BURSTS).map(|_| {
            drained();
            let before = thread_cpu_ns();
            (0..BURST_CALLS).for_each(|_| call(TOPIC));
            (thread_cpu_ns() - before) / f64::from(BURST_CALLS)
        });
        let burst_ns = median(bursts.collect());
        drained();
        let clock_ns = median((0..PACED_CALLS).map(|_| timed(|| ())).collect());
        let mut paced = paced(TOPIC, PACED_CALLS, PACE);
        paced.sort_by(f64::total_cmp);
        let paced_at = |percent: usize| paced[paced.len() * percent / 100] - clock_ns;
        drained();
        Costs { burst_ns, paced_ns: paced_at(50), paced_p99_ns: paced_at(99), threads_ns: threads(log) }
    })
}

fn threads(log: &Dispatch) -> f64 {
    let start = Barrier::new(THREADS);
    let calls = BURST_CALLS / THREADS as u32;
    let each = std::thread::scope(|scope| {
        let run = || {
            tracing::dispatcher::with_default(log, || {
                call(TOPIC);
                start.wait();
                let before = thread_cpu_ns();
                (0..calls).for_each(|_| call(TOPIC));
                (thread_cpu_ns() - before) / f64::from(calls)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a log call does not panic")).collect()
    });
    median(each)
}

/// The nanoseconds of calls with a pause before each, in the log that is the thread's own.
pub fn paced(topic: &str, calls: usize, pace: Duration) -> Vec<f64> {
    let each = (0..calls).map(|_| {
        std::thread::sleep(pace);
        timed(|| call(topic))
    });
    each.collect()
}

/// A log call like that of an attack.
pub fn call(topic: &str) {
    tracing::info!(target: superhero_event::TARGET, queue = topic, key = KEY, task = TASK, "Attack Completed");
}

fn timed(what: impl FnOnce()) -> f64 {
    let start = Instant::now();
    what();
    start.elapsed().as_nanos() as f64
}

fn drained(guard: &Guard) {
    while guard.counters().queued_events > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The thread's time on a CPU, which other processes do not add to: the first field of the scheduler's statistics, in
/// nanoseconds. They are brought up to date when the thread is taken off its CPU, hence the nap.
fn thread_cpu_ns() -> f64 {
    std::thread::sleep(Duration::from_nanos(1));
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(f64::NAN)
}
