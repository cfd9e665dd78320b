//! Starting a transport, watching it, and ending it with a flush.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use superhero_event::Admission;
use superhero_kafka::{ClientError, Cluster};
use superhero_text::io_error_in_words;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;
use uuid::Uuid;

use crate::batch::Producer;
use crate::config::{KafkaPublisher, Publisher, RedisPublisher, TransportConfig};
use crate::health::{Health, HealthCell};
use crate::kafka::KafkaPublishing;
use crate::lanes::{BatchConfig, Lanes, Waiting};
use crate::pump::{self, Publish};
use crate::queue::{Counters, Queue};
use crate::redis::{RedisConnection, RedisPublishing};
use crate::spool::{Kept, LeftOver, Segments, Spool, SpoolError};

/// A transport that takes events already and does not publish them yet, so that the log can begin before anything else.
///
/// ```no_run
/// # async fn example(config: superhero_transport::TransportConfig) -> Result<(), Box<dyn std::error::Error>> {
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let transport = superhero_transport::Transport::new(config);
/// let log = tracing_subscriber::registry().with(transport.layer());
/// # drop(log);
/// let guard = transport.start().await?;
/// // … the process does its work …
/// guard.close(std::time::Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transport {
    config: TransportConfig,
    queue: Arc<Queue>,
}

impl Transport {
    /// A transport with an empty queue.
    pub fn new(config: TransportConfig) -> Self {
        let spooled = matches!(&config.publisher, Publisher::Kafka(kafka) if kafka.spool.is_some());
        let queue = Arc::new(Queue::new(&config.queue, spooled));
        Self { config, queue }
    }

    /// The layer that takes events, to be put into the process's subscriber, once. `None` for [`Publisher::Local`].
    ///
    /// It takes log calls of the target [`superhero_event::TARGET`] from INFO on that have a field `queue`, whatever the other layers do.
    pub fn layer<S>(&self) -> Option<impl Layer<S> + Send + Sync + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let name = match self.config.publisher {
            Publisher::Local => return None,
            Publisher::Kafka(_) => KafkaPublishing::NAME,
            Publisher::Redis(_) => RedisPublishing::NAME,
        };
        Some(crate::layer::layer(self.queue.clone(), name))
    }

    /// Connects, and begins to publish, first what an earlier start left in the spool. Missing topics are no failure: their events
    /// are kept until the topics are there.
    ///
    /// # Errors
    /// [`StartError`] when Kafka or Redis cannot be reached within its own timeouts, or the spool cannot be used.
    ///
    /// # Cancellation
    /// Safe; the events taken so far are lost with the transport.
    pub async fn start(self) -> Result<Guard, StartError> {
        let Self { config, queue } = self;
        let (stop, stopped) = watch::channel(None);
        let health = HealthCell::default();
        let monitor = Monitor { queue: queue.clone(), health: health.clone() };
        let mut task = JoinSet::new();
        let mut producer = None;
        let mut left_over = Vec::new();
        match config.publisher {
            Publisher::Local => {}
            Publisher::Kafka(kafka) => {
                let cluster = connect(&kafka).await?;
                let id = *producer.insert(Uuid::new_v4());
                let batches = BatchConfig { batch_bytes: kafka.batch_bytes, compression: kafka.compression };
                let spool = open_spool(kafka, id, batches).await?.map(|(spool, segments)| {
                    left_over = spool.left_over();
                    queue.start_spool(segments);
                    spool
                });
                let lanes = match &spool {
                    Some(spool) => spool.lanes(),
                    None => Lanes::new(Producer::new(id), batches),
                };
                task.spawn(async move {
                    let mut publisher = KafkaPublishing::new(&queue, &cluster, lanes, spool, health);
                    let waiting = pump::run(&mut publisher, &queue, config.linger, stopped).await;
                    Ended { waiting, kept: publisher.end() }
                });
            }
            Publisher::Redis(redis) => {
                let connection = open(&redis).await?;
                task.spawn(async move {
                    let mut publisher = RedisPublishing::new(&queue, connection, &redis, health);
                    Ended { waiting: pump::run(&mut publisher, &queue, config.linger, stopped).await, kept: None }
                });
            }
        }
        Ok(Guard { monitor, producer, left_over, stop, task })
    }
}

/// How the publishing task ended.
#[derive(Debug)]
struct Ended {
    waiting: Vec<Waiting>,
    kept: Option<Kept>,
}

async fn open_spool(
    kafka: KafkaPublisher,
    id: Uuid,
    batches: BatchConfig,
) -> Result<Option<(Spool, Segments)>, StartError> {
    let Some(config) = kafka.spool else { return Ok(None) };
    // It reads all that was left.
    let opened = tokio::task::spawn_blocking(move || Spool::open(config, id, batches)).await;
    match opened {
        Ok(opened) => Ok(Some(opened?)),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn connect(kafka: &KafkaPublisher) -> Result<Cluster, StartError> {
    let limit = kafka.cluster.connect_timeout + kafka.cluster.request_timeout;
    // One attempt: whoever wants to wait for Kafka has done so before.
    let connected = Cluster::connect(&kafka.cluster, Instant::now() + limit).await;
    connected.map_err(|source| StartError::Kafka { servers: kafka.cluster.servers(), source })
}

async fn open(redis: &RedisPublisher) -> Result<RedisConnection, StartError> {
    let opened = RedisConnection::open(redis).await;
    opened
        .map_err(|error| StartError::Redis { address: redis.address(), reason: io_error_in_words(&error.to_string()) })
}

/// A transport that publishes. [`close`](Self::close) it, last of all that emits events: dropping it gives up what is queued.
#[derive(Debug)]
pub struct Guard {
    monitor: Monitor,
    producer: Option<Uuid>,
    left_over: Vec<LeftOver>,
    stop: watch::Sender<Option<Instant>>,
    /// The one task that publishes; empty for [`Publisher::Local`].
    task: JoinSet<Ended>,
}

impl Guard {
    /// A handle that looks at the transport, for as long as anybody likes.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// What its records carry as [`header::PRODUCER`](superhero_event::header::PRODUCER); none where it is not Kafka that they go to.
    pub fn producer(&self) -> Option<Uuid> {
        self.producer
    }

    /// What earlier starts had accepted and not delivered, and is sent again before what is new.
    pub fn left_over(&self) -> &[LeftOver] {
        &self.left_over
    }

    /// What sessions await before they act.
    pub fn admission(&self) -> Admission {
        self.monitor.queue.admission().clone()
    }

    /// How many events went which way until now.
    pub fn counters(&self) -> Counters {
        self.monitor.counters()
    }

    /// Whether events get through.
    ///
    /// # Errors
    /// What has been wrong for some seconds.
    pub fn health(&self) -> Result<(), Health> {
        self.monitor.health()
    }

    /// Sends what is queued, and ends. Events that come later are dropped and counted.
    ///
    /// # Errors
    /// [`FlushError`] tells what was not acknowledged after `deadline`, by topic and partition. A batch that was on its way
    /// then may have arrived nevertheless.
    ///
    /// # Cancellation
    /// As dropping the guard: what is queued is given up.
    pub async fn close(mut self, deadline: Duration) -> Result<Report, FlushError> {
        let started = Instant::now();
        self.stop.send_replace(Some(started + deadline));
        let Ended { waiting, kept } = match self.task.join_next().await {
            None => Ended { waiting: Vec::new(), kept: None },
            Some(Ok(ended)) => ended,
            Some(Err(error)) => {
                tracing::error!("the transport's task ended by itself: {error}");
                self.monitor.queue.end();
                Ended { waiting: Vec::new(), kept: None }
            }
        };
        let counters = self.counters();
        if counters.queued_events == 0 && kept.as_ref().is_none_or(|kept| kept.earlier == 0) {
            return Ok(Report { counters, lasted: started.elapsed() });
        }
        let undelivered =
            waiting.into_iter().map(|Waiting { topic, partition, events }| Undelivered { topic, partition, events });
        let undelivered = undelivered.collect();
        Err(FlushError { undelivered, counters, deadline, reason: self.monitor.health.reason(), kept })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.task.is_empty() {
            let queued = self.counters().queued_events;
            if queued > 0 {
                tracing::error!(queued, "the transport was dropped without a flush; what is queued is lost");
            }
            self.monitor.queue.end();
        }
    }
}

/// Looks at a transport. Cloned freely; it says the last it knew when the transport has ended.
#[derive(Clone, Debug)]
pub struct Monitor {
    queue: Arc<Queue>,
    health: HealthCell,
}

impl Monitor {
    /// How many events went which way until now.
    pub fn counters(&self) -> Counters {
        self.queue.counters()
    }

    /// Whether events get through.
    ///
    /// # Errors
    /// What has been wrong for some seconds, with the broker and the topic where they are known.
    pub fn health(&self) -> Result<(), Health> {
        self.health.check()
    }
}

/// Why a transport does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster does not answer.
    #[error("cannot publish events to Kafka at {servers}")]
    Kafka {
        /// The addresses that were tried.
        servers: String,
        /// Why.
        source: ClientError,
    },
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Redis does not answer.
    #[error("cannot publish events to Redis at {address}: {reason}")]
    Redis {
        /// `host:port`.
        address: String,
        /// Why.
        reason: String,
    },
}

/// A transport that has delivered everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// All events of its life; nothing is queued.
    pub counters: Counters,
    /// How long the flush took.
    pub lasted: Duration,
}

/// What was not acknowledged at the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FlushError {
    /// Every topic and partition with undelivered events. Their sum is `counters.queued_events`, unless the publishing task broke.
    pub undelivered: Vec<Undelivered>,
    /// All events of the transport's life.
    pub counters: Counters,
    /// The time that the flush had.
    pub deadline: Duration,
    /// What is wrong, if that is known.
    pub reason: Option<String>,
    /// What a spool keeps of it for the next start; without one, all of it is lost.
    pub kept: Option<Kept>,
}

/// The undelivered events of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The topic or channel.
    pub topic: String,
    /// The partition; `None` for a channel, and for a topic that does not exist.
    pub partition: Option<i32>,
    /// How many.
    pub events: u64,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { undelivered, counters, deadline, reason, kept } = self;
        write!(f, "{} events were not delivered within {} ms", counters.queued_events, deadline.as_millis())?;
        for (Undelivered { topic, partition, events }, comma) in
            undelivered.iter().zip([": "].into_iter().chain(std::iter::repeat(", ")))
        {
            match partition {
                Some(partition) => write!(f, "{comma}{topic} partition {partition}: {events}")?,
                None => write!(f, "{comma}{topic}: {events}")?,
            }
        }
        if let Some(reason) = reason {
            write!(f, "; {reason}")?;
        }
        let Some(Kept { dir, earlier, unspooled }) = kept else { return Ok(()) };
        write!(f, "; the next start with the spool {} sends them", dir.display())?;
        if *earlier > 0 {
            write!(f, ", and {earlier} of earlier starts")?;
        }
        if *unspooled > 0 {
            write!(f, ", but not the last {unspooled}, for which it had no room")?;
        }
        Ok(())
    }
}
