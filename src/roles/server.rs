//! The game server.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use superhero_event::topic;
use superhero_game::Limits;
use superhero_server::{AllowedOrigin, Health, Network, ServerConfig};
use superhero_service::{
    Failure, KafkaArguments, Kind, LogArguments, RedisArguments, Secret, Settings, WaitArguments, host, seconds, whole,
};
use superhero_store::AnyStore;
use superhero_transport::{
    Compression, KafkaPublisher, Publisher, QueueConfig, RedisPublisher, SpoolConfig, Transport, TransportConfig,
    WhenFull,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::healthcheck::{Also, healthcheck};
use crate::runs::Run;
use crate::{kafka, listen, redis};

/// The game server: bots connect by WebSocket, games live in Redis, and what happens goes where LOGGER_MODULE says
#[derive(Debug, Parser)]
#[command(name = "superhero-server")]
pub struct Server {
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    events: EventArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    #[command(flatten)]
    redis: RedisArguments,
    #[command(flatten)]
    wait: WaitArguments,
    #[command(flatten)]
    log: LogArguments,
    #[command(subcommand)]
    also: Option<Also>,
}

#[derive(Args, Debug)]
struct ServerArguments {
    /// The address to listen on
    #[arg(long, env = "WEBSOCKET_HOST", value_name = "HOST", default_value = "127.0.0.1", value_parser = host)]
    websocket_host: String,

    /// The port to listen on; 0 takes any that is free
    #[arg(long, env = "WEBSOCKET_PORT", value_name = "PORT", default_value = "8080", value_parser = whole(0..=u16::MAX))]
    websocket_port: u16,

    /// Seconds before a turn is announced; 0 for load
    #[arg(long, env = "SERVER_SLEEP", value_name = "SECONDS", default_value = "0.2", value_parser = seconds)]
    server_sleep: Duration,

    /// Seconds that a game waits for its seats to be taken, from the first one on
    #[arg(long, env = "LOBBY_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    lobby_timeout: Duration,

    /// Seconds that a player has for its turn before it forfeits
    #[arg(long, env = "TURN_DEADLINE", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    turn_deadline: Duration,

    /// Moves for each participant after which a game ends, most health left winning
    #[arg(long, env = "ROUND_CAP", value_name = "MOVES", default_value_t = Limits::default().rounds, value_parser = whole(0..=u32::MAX))]
    round_cap: u32,

    /// The most players of a game
    #[arg(long, env = "MAX_PARTICIPANTS", value_name = "COUNT", default_value_t = ServerConfig::default().max_participants,
        value_parser = whole(2..=u32::MAX))]
    max_participants: u32,

    /// Connections at one time; more are refused
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "COUNT", default_value_t = ServerConfig::default().max_connections,
        value_parser = whole::<usize>(1..))]
    max_connections: usize,

    /// Connections of one client address at one time, 0 for any number; more are refused. Those from this host are not counted
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT",
        default_value_t = ServerConfig::default().max_connections_per_address, value_parser = whole::<usize>(0..))]
    max_connections_per_address: usize,

    /// Games that one client address may ask for in a second, ten times as many in the first, 0 for any number
    #[arg(long, env = "MAX_FINDS_PER_ADDRESS", value_name = "COUNT",
        default_value_t = ServerConfig::default().max_finds_per_address, value_parser = whole::<u32>(0..))]
    max_finds_per_address: u32,

    /// Addresses or networks of proxies, separated by commas: the client is then the last address in X-Forwarded-For that is none of them,
    /// and is not counted where all are
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "NETWORK,…", value_delimiter = ',')]
    trusted_proxies: Vec<Network>,

    /// Origins whose pages may play in a browser besides those of the server's own host, separated by commas; * for any
    #[arg(long, env = "ALLOWED_ORIGINS", value_name = "ORIGIN,…", value_delimiter = ',')]
    allowed_origins: Vec<AllowedOrigin>,

    /// Seconds that a stop leaves to running games, and then to the events that are not delivered yet
    #[arg(long, env = "DRAIN_DEADLINE", value_name = "SECONDS", default_value = "8", value_parser = seconds)]
    drain_deadline: Duration,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Events")]
struct EventArguments {
    /// Where events go
    #[arg(long, env = "LOGGER_MODULE", value_enum, default_value_t = LoggerModule::Kafka)]
    logger_module: LoggerModule,

    /// Memory for events that are not delivered yet, in bytes
    #[arg(long, env = "QUEUE_BYTES", value_name = "BYTES", default_value_t = 64 << 20, value_parser = whole::<usize>(0..))]
    queue_bytes: usize,

    /// What happens when it is used up
    #[arg(long, env = "QUEUE_WHEN_FULL", value_enum, default_value_t = Full::Block)]
    queue_when_full: Full,

    /// The directory where accepted events are kept until Kafka has them, so that they survive a kill of the server; the next
    /// start sends what is left there. Servers of one host can share it. Without it, a kill loses what is queued
    #[arg(long, env = "LOGGER_SPOOL_DIR", value_name = "DIRECTORY")]
    logger_spool_dir: Option<PathBuf>,

    /// The most that this server keeps there, in bytes, at least 4 MiB; from half of it on games wait
    #[arg(long, env = "LOGGER_SPOOL_BYTES", value_name = "BYTES", default_value_t = 256 << 20,
        value_parser = whole::<u64>(4 << 20..))]
    logger_spool_bytes: u64,

    /// Milliseconds that an event may wait for others to share a request with
    #[arg(long, env = "KAFKA_LINGER_MS", value_name = "MILLISECONDS", default_value_t = 5, value_parser = whole::<u64>(0..))]
    kafka_linger_ms: u64,

    /// The size from which a request takes no more events, in bytes
    #[arg(long, env = "KAFKA_BATCH_BYTES", value_name = "BYTES", default_value_t = 256 << 10, value_parser = whole::<usize>(0..))]
    kafka_batch_bytes: usize,

    /// How requests are compressed
    #[arg(long, env = "KAFKA_COMPRESSION", value_enum, default_value_t = Codec::None)]
    kafka_compression: Codec,
}

/// The transport, by the reference's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LoggerModule {
    /// Only the local log
    Default,
    /// PUBLISH to the Redis channel of the event's name
    Redis,
    /// The Kafka topic of the event's name
    Kafka,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Full {
    /// Games wait, nothing is lost
    Block,
    /// The newest events are dropped, counted, and an event says how many
    Drop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
}

impl Settings for Server {
    fn validate(&self) -> Result<(), Failure> {
        self.transport().map(drop)
    }
}

impl Server {
    /// Serves until `stop`, or asks a server of these settings whether it is ready.
    ///
    /// # Errors
    /// [`Kind::NotReady`] if a service that it needs is not there; [`Kind::Failed`] if events were not delivered, or whoever was asked is not ready.
    ///
    /// # Cancellation
    /// Dropping the future leaves what was not delivered to the spool, if there is one.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        match self.also {
            Some(Also::Healthcheck) => healthcheck(&self.server.websocket_host, self.server.websocket_port).await,
            None => self.serve(stop).await,
        }
    }

    async fn serve(self, stop: CancellationToken) -> Result<(), Failure> {
        let transport = Transport::new(self.transport()?);
        let _log = self.log.start("superhero-server", transport.layer())?;
        if self.wait.wait && self.events.logger_module == LoggerModule::Kafka {
            let kafka = kafka::config(&self.kafka, "superhero-server")?;
            kafka::wait(&kafka, &self.kafka, &topic::ALL.map(String::from), self.wait.timeout).await?;
        }
        let store = redis::connect(&self.redis, self.wait.timeout).await?;
        // Before there is a transport that would have to be closed again, and after all that is waited for, since whoever connects from now
        // on waits too.
        let settings = "WEBSOCKET_HOST and WEBSOCKET_PORT choose";
        let listener = listen(&self.server.websocket_host, self.server.websocket_port, settings).await?;
        let transport = transport.start().await.map_err(|error| Failure::new(Kind::NotReady, error))?;
        let monitor = transport.monitor();
        let health = Health::new().with("transport", move || {
            let health = monitor.health();
            async move { health.map_err(|reason| reason.to_string()) }
        });
        let run =
            Run::begin(&store, self.server.websocket_port, &transport, self.events.logger_spool_dir.is_some()).await;
        let config = ServerConfig { undelivered: run.undelivered(transport.left_over()), ..self.server.config() };
        let served = superhero_server::run(
            listener,
            config,
            AnyStore::Redis(store.clone()),
            transport.admission(),
            health,
            stop,
        )
        .await;
        // The events of a server that failed are delivered all the same.
        let producer = transport.producer().map(|id| id.simple().to_string());
        let delivered = transport.close(self.server.drain_deadline).await;
        if delivered.is_ok() {
            run.end(&store).await;
        }
        let closed = store.close().await;
        let counters = delivered?.counters;
        let (emitted, acknowledged, dropped) = (counters.emitted, counters.acknowledged, counters.dropped);
        info!(producer, emitted, acknowledged, dropped, retried = counters.retried, "the events are delivered");
        served?;
        Ok(closed?)
    }

    fn transport(&self) -> Result<TransportConfig, Failure> {
        let events = &self.events;
        let dir = events.logger_spool_dir.clone();
        if let Some(dir) = dir.as_ref().filter(|_| events.logger_module != LoggerModule::Kafka) {
            return Err(Failure::new(Kind::Usage, SpoolWithoutKafka { dir: dir.clone() }));
        }
        let publisher = match events.logger_module {
            LoggerModule::Default => Publisher::Local,
            LoggerModule::Redis => Publisher::Redis(RedisPublisher {
                host: self.redis.redis_host.clone(),
                port: self.redis.redis_port,
                database: self.redis.redis_db,
                username: self.redis.redis_username.clone(),
                password: self.redis.redis_password.as_ref().map(Secret::reveal).map(str::to_owned),
                timeout: self.wait.timeout,
            }),
            LoggerModule::Kafka => Publisher::Kafka(KafkaPublisher {
                cluster: kafka::config(&self.kafka, "superhero-server")?,
                batch_bytes: events.kafka_batch_bytes,
                compression: match events.kafka_compression {
                    Codec::None => Compression::None,
                    Codec::Gzip => Compression::Gzip,
                    Codec::Snappy => Compression::Snappy,
                },
                spool: dir.map(|dir| SpoolConfig { dir, capacity_bytes: events.logger_spool_bytes }),
            }),
        };
        Ok(TransportConfig {
            publisher,
            queue: QueueConfig {
                capacity_bytes: events.queue_bytes,
                when_full: match events.queue_when_full {
                    Full::Block => WhenFull::Block,
                    Full::Drop => WhenFull::Drop,
                },
                sessions: self.server.max_connections,
            },
            linger: Duration::from_millis(events.kafka_linger_ms),
        })
    }
}

impl ServerArguments {
    fn config(&self) -> ServerConfig {
        ServerConfig {
            turn_delay: self.server_sleep,
            lobby_timeout: self.lobby_timeout,
            turn_deadline: self.turn_deadline,
            limits: Limits { rounds: self.round_cap },
            max_participants: self.max_participants,
            max_connections: self.max_connections,
            max_connections_per_address: self.max_connections_per_address,
            max_finds_per_address: self.max_finds_per_address,
            trusted_proxies: self.trusted_proxies.clone(),
            allowed_origins: self.allowed_origins.clone(),
            drain_deadline: self.drain_deadline,
            ..ServerConfig::default()
        }
    }
}

/// Only events that go to Kafka have ids under which they can be sent again.
#[derive(Debug, thiserror::Error)]
#[error("LOGGER_SPOOL_DIR={} needs LOGGER_MODULE=kafka; leave it out, or send the events to Kafka", dir.display())]
struct SpoolWithoutKafka {
    dir: PathBuf,
}
