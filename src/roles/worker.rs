//! A member of the consumer group that turns topics into files.

use std::future::{pending, ready};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, ValueEnum};
use superhero_event::topic;
use superhero_kafka::Isolation;
use superhero_kafka::fetch::Budget;
use superhero_kafka::group::{Assignor, GroupConfig, GroupError};
use superhero_monitor::{Health, serve};
use superhero_service::{
    Failure, KafkaArguments, Kind, LogArguments, RedisArguments, Settings, WaitArguments, host_and_port, seconds, whole,
};
use superhero_sink::{Compression, Rotation};
use superhero_store::{AnyStore, GameStore};
use superhero_worker::{DEFAULT_GROUP, FetchConfig, WorkerConfig, WorkerError};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::Identity;

use crate::healthcheck::{Also, healthcheck};
use crate::{kafka, listen, redis};

/// A member of the worker group: takes its share of the topics' partitions and writes their records as JSON lines, each once
#[derive(Debug, Parser)]
#[command(name = "superhero-worker")]
pub struct Worker {
    #[command(flatten)]
    worker: WorkerArguments,
    #[command(flatten)]
    group: GroupArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    #[command(flatten)]
    redis: RedisArguments,
    #[command(flatten)]
    health: HealthArguments,
    #[command(flatten)]
    wait: WaitArguments,
    #[command(flatten)]
    log: LogArguments,
    #[command(subcommand)]
    also: Option<Also>,
}

#[derive(Args, Debug)]
struct WorkerArguments {
    /// The topics, separated by commas
    #[arg(long, env = "WORKER_CHANNEL", value_name = "TOPIC,…", value_delimiter = ',', default_values_t = topic::ALL.map(String::from))]
    worker_channel: Vec<String>,

    /// The rows go to superhero/ in this folder
    #[arg(long, env = "OUTPUT_DIR", value_name = "FOLDER", default_value = "data")]
    output_dir: PathBuf,

    /// Take what is there now, publish it, and exit
    #[arg(long, env = "UNTIL_END", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    until_end: bool,

    /// Bytes of rows, before compression, after which files are published
    #[arg(long, env = "SINK_ROTATE_BYTES", value_name = "BYTES", default_value_t = Rotation::DEFAULT_MAX_BYTES, value_parser = whole::<u64>(0..))]
    sink_rotate_bytes: u64,

    /// Records after which files are published
    #[arg(long, env = "SINK_ROTATE_RECORDS", value_name = "COUNT", default_value_t = Rotation::DEFAULT_MAX_RECORDS, value_parser = whole::<u64>(0..))]
    sink_rotate_records: u64,

    /// Seconds from a file's first row after which it is published
    #[arg(long, env = "SINK_ROTATE_SECS", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    sink_rotate_secs: Duration,

    /// How files are compressed
    #[arg(long, env = "SINK_COMPRESSION", value_enum, default_value_t = Codec::Gzip)]
    sink_compression: Codec,

    /// Give a game's keys in Redis an expiry (--redis-expiry) once its rows are published
    ///
    /// The variable WORKER_ROUTINE means the same where CLEAN_ROUTINE is not set.
    #[arg(long, env = "CLEAN_ROUTINE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    clean_routine: Option<bool>,

    #[arg(long, env = "WORKER_ROUTINE", value_name = "BOOL", hide = true, value_parser = BoolishValueParser::new())]
    worker_routine: Option<bool>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Consumer group")]
struct GroupArguments {
    /// The group's name
    #[arg(long, env = "KAFKA_GROUP", value_name = "NAME", default_value = DEFAULT_GROUP)]
    group: String,

    /// Makes the member static: with the same id it gets its partitions back after a restart within the session timeout
    #[arg(long, env = "KAFKA_GROUP_INSTANCE_ID", value_name = "ID")]
    group_instance_id: Option<String>,

    /// How partitions are shared out, in order of preference: range, roundrobin
    #[arg(long, env = "KAFKA_ASSIGNORS", value_name = "NAME,…", value_delimiter = ',', default_values_t = [Assignor::Range, Assignor::RoundRobin])]
    assignors: Vec<Assignor>,

    /// What counts of transactions: read_committed, or read_uncommitted
    #[arg(long, env = "KAFKA_ISOLATION_LEVEL", value_name = "LEVEL", default_value_t = Isolation::Committed)]
    isolation_level: Isolation,

    /// Bytes of memory for all that is fetched and what it unfolds to; a 48th, 16 MiB at most, is the limit of a record
    #[arg(long, env = "FETCH_MEMORY_BYTES", value_name = "BYTES", default_value_t = Budget::DEFAULT_BYTES, value_parser = whole(Budget::MIN_BYTES..=Budget::MAX_BYTES))]
    fetch_memory_bytes: usize,

    /// Seconds of silence after which a member is dead; a broker may ask for more
    #[arg(long, env = "KAFKA_SESSION_TIMEOUT", value_name = "SECONDS", default_value = "4", value_parser = seconds)]
    session_timeout: Duration,

    /// Seconds between heartbeats; at most a third of the session timeout
    #[arg(long, env = "KAFKA_HEARTBEAT_INTERVAL", value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    heartbeat_interval: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Health")]
struct HealthArguments {
    /// Answer /livez and /readyz there, as host:port; without it nobody is answered
    #[arg(long, env = "HEALTH_LISTEN", value_name = "HOST:PORT", value_parser = host_and_port)]
    health_listen: Option<(String, u16)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    Gzip,
    None,
}

impl Settings for Worker {
    fn validate(&self) -> Result<(), Failure> {
        self.config()?.group.check().map_err(|error| Failure::new(Kind::Usage, error))
    }
}

impl Worker {
    /// Works until `stop`, or until there is nothing more if it was told so; or asks a worker of these settings whether it is ready.
    ///
    /// # Errors
    /// [`Kind::NotReady`] if a service that it needs is not there; [`Kind::Failed`] if it cannot go on, or whoever was asked is not ready.
    ///
    /// # Cancellation
    /// Dropping the future is as good as a kill: what was not committed is read again by whoever has the partitions next.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        match self.also {
            Some(Also::Healthcheck) => self.health.ask().await,
            None => Box::pin(self.work(stop)).await,
        }
    }

    async fn work(self, stop: CancellationToken) -> Result<(), Failure> {
        let _log = self.log.start("superhero-worker", Identity::new())?;
        let config = self.config()?;
        let store = redis::connect(&self.redis, self.wait.timeout).await?;
        if self.wait.wait {
            kafka::wait(&config.kafka, &self.kafka, &config.group.topics, self.wait.timeout).await?;
        }
        let (monitor, troubles, redis) = (config.monitor.clone(), config.troubles.clone(), store.clone());
        let health = Health::new()
            .with("group", move || ready(monitor.health()))
            .with("disk", move || ready(troubles.health()))
            .with("store", move || {
                let redis = redis.clone();
                async move { redis.ping().await.map_err(|error| error.to_string()) }
            });
        let worked = tokio::select! {
            worked = superhero_worker::run(config, AnyStore::Redis(store.clone()), stop) => worked,
            failed = self.health.serve(health) => return Err(failed),
        };
        let closed = store.close().await;
        worked.map_err(|error| Failure::new(kind(&error), error))?;
        Ok(closed?)
    }

    fn config(&self) -> Result<WorkerConfig, Failure> {
        let (worker, group) = (&self.worker, &self.group);
        let kafka = kafka::config(&self.kafka, "superhero-worker")?;
        Ok(WorkerConfig {
            group: GroupConfig {
                instance_id: group.group_instance_id.clone(),
                assignors: group.assignors.clone(),
                session_timeout: group.session_timeout,
                heartbeat_interval: group.heartbeat_interval,
                ..GroupConfig::new(&group.group, &worker.worker_channel)
            },
            fetch: FetchConfig {
                isolation: group.isolation_level,
                budget: Budget::new(group.fetch_memory_bytes),
                ..FetchConfig::default()
            },
            sink: superhero_sink::Settings {
                rotation: Rotation {
                    max_bytes: worker.sink_rotate_bytes,
                    max_records: worker.sink_rotate_records,
                    max_age: worker.sink_rotate_secs,
                },
                compression: match worker.sink_compression {
                    Codec::Gzip => Compression::Gzip,
                    Codec::None => Compression::None,
                },
            },
            game_expiry: worker
                .clean_routine
                .or(worker.worker_routine)
                .unwrap_or(false)
                .then_some(self.redis.redis_expiry),
            until_end: worker.until_end,
            connect_timeout: self.wait.timeout,
            ..WorkerConfig::new(kafka, &worker.worker_channel, &worker.output_dir)
        })
    }
}

impl HealthArguments {
    /// Answers for as long as there is somebody to; returns only if it cannot listen.
    async fn serve(&self, health: Health) -> Failure {
        let Some((host, port)) = &self.health_listen else { return pending().await };
        match listen(host, *port, "HEALTH_LISTEN chooses").await {
            Ok(listener) => match serve(listener, health).await {},
            Err(error) => error.into(),
        }
    }

    async fn ask(&self) -> Result<(), Failure> {
        let Some((host, port)) = &self.health_listen else {
            let error = "healthcheck needs the place where the worker answers: --health-listen, or HEALTH_LISTEN";
            return Err(Failure::new(Kind::Usage, error));
        };
        healthcheck(host, *port).await
    }
}

fn kind(error: &WorkerError) -> Kind {
    match error {
        WorkerError::Kafka(_) | WorkerError::Waiting { .. } => Kind::NotReady,
        WorkerError::Group(GroupError::Config(_)) => Kind::Usage,
        _ => Kind::Failed,
    }
}
