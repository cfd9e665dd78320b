//! What a transport is told.

use std::time::Duration;

use superhero_kafka::KafkaConfig;

use crate::Compression;
use crate::spool::SpoolConfig;

/// Default of [`QueueConfig::capacity_bytes`]: two minutes of a busy server while the broker is away.
const DEFAULT_CAPACITY_BYTES: usize = 64 * 1024 * 1024;

/// Default of [`KafkaPublisher::batch_bytes`]: a quarter of what a broker takes by default, so that neither the headers nor
/// a broker with half the limit matter.
const DEFAULT_BATCH_BYTES: usize = 256 * 1024;

/// Default of [`TransportConfig::linger`]: unnoticed by a player, and long enough for batches worth a request.
const DEFAULT_LINGER: Duration = Duration::from_millis(5);

/// A transport's settings.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Where events go.
    pub publisher: Publisher,
    /// How many wait.
    pub queue: QueueConfig,
    /// How long an event may wait for others to share a request with.
    pub linger: Duration,
}

/// Where events go.
#[derive(Clone, Debug)]
pub enum Publisher {
    /// Nowhere: there is only the local log.
    Local,
    /// To the Kafka topic that the event names.
    Kafka(KafkaPublisher),
    /// To the Redis channel that the event names.
    Redis(RedisPublisher),
}

/// How many events wait for their acknowledgement, and what happens when those are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// The memory of all events that are not acknowledged yet, those on their way included.
    pub capacity_bytes: usize,
    /// What happens when it is used up.
    pub when_full: WhenFull,
    /// The most sessions that may act at the same time. With [`WhenFull::Block`] each of them may have passed the
    /// admission just before it closed, and there is room for what each may still say (4 KiB), on top of the capacity if need be.
    pub sessions: usize,
}

/// What happens when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// From half of the capacity on, down to a quarter, the [admission](superhero_event::Admission) is closed: sessions wait
    /// before they act, and nothing is lost. The log call itself never waits.
    #[default]
    Block,
    /// The newest events are dropped and counted, and an event in the stream says how many.
    Drop,
}

/// The Kafka publisher's settings.
#[derive(Clone, Debug)]
pub struct KafkaPublisher {
    /// The cluster, and the bounds of connecting and of one request.
    pub cluster: KafkaConfig,
    /// The size from which a batch takes no more events.
    pub batch_bytes: usize,
    /// How batches are compressed.
    pub compression: Compression,
    /// Where accepted events are kept until they are acknowledged, so that they survive the process; `None` keeps them in memory only.
    pub spool: Option<SpoolConfig>,
}

/// The Redis publisher's settings.
#[derive(Clone)]
pub struct RedisPublisher {
    /// The server's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database to select; Pub/Sub knows no databases, but an access rule may.
    pub database: u8,
    /// The ACL user; none is the default one.
    pub username: Option<String>,
    /// The user's password, if it has one.
    pub password: Option<String>,
    /// The bound of connecting and of one pipeline of commands.
    pub timeout: Duration,
}

impl RedisPublisher {
    /// `host:port`, for messages; an IPv6 address in brackets.
    pub(crate) fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl TransportConfig {
    /// The defaults: 64 MiB, [`WhenFull::Block`], a linger of 5 ms.
    pub fn new(publisher: Publisher, sessions: usize) -> Self {
        let queue = QueueConfig { capacity_bytes: DEFAULT_CAPACITY_BYTES, when_full: WhenFull::Block, sessions };
        Self { publisher, queue, linger: DEFAULT_LINGER }
    }
}

impl KafkaPublisher {
    /// The defaults: batches of 256 KiB, not compressed, no spool.
    pub fn new(cluster: KafkaConfig) -> Self {
        Self { cluster, batch_bytes: DEFAULT_BATCH_BYTES, compression: Compression::None, spool: None }
    }
}

impl std::fmt::Debug for RedisPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, database, username, password, timeout } = self;
        f.debug_struct("RedisPublisher")
            .field("host", host)
            .field("port", port)
            .field("database", database)
            .field("username", username)
            .field("password", &password.as_ref().map(|_| "***"))
            .field("timeout", timeout)
            .finish()
    }
}
