//! The Redis publisher: `PUBLISH` to the channel that the event names, in pipelines, one on its way at a time.
//!
//! Pub/Sub keeps nothing: acknowledged means that Redis has passed the event to whoever was subscribed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use fred::bytes_utils::Str;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, ServerConfig, UnresponsiveConfig,
};
use fred::types::{Builder, ConnectHandle};
use futures_util::future::{BoxFuture, OptionFuture, pending};
use superhero_text::io_error_in_words;
use tokio::time::Instant;

use crate::chunk::Chunk;
use crate::config::RedisPublisher;
use crate::health::{HealthCell, Troubles};
use crate::lanes::Waiting;
use crate::pump::Publish;
use crate::queue::{Queue, Settled};

/// The events of one pipeline: enough to hide the round trip, and few to send again after a failure.
const PIPELINE_EVENTS: usize = 512;
/// The pause after a failure; it doubles with each further one.
const FIRST_REST: Duration = Duration::from_millis(50);
/// The longest pause.
const MAX_REST: Duration = Duration::from_secs(1);

/// Publishes to Redis.
pub(crate) struct RedisPublishing<'q> {
    queue: &'q Queue,
    connection: RedisConnection,
    channels: BTreeMap<String, Str>,
    messages: VecDeque<Message>,
    /// The pipeline on its way: how many messages from the front, since when.
    pipeline: Option<BoxFuture<'q, Answer>>,
    failures: u32,
    rests_until: Instant,
    troubles: Troubles<()>,
    address: String,
    timeout: Duration,
}

/// A client and its task, which ends with it.
pub(crate) struct RedisConnection {
    client: Client,
    task: ConnectHandle,
}

#[derive(Clone, Debug)]
struct Message {
    channel: Str,
    value: Bytes,
    held_bytes: u64,
}

/// How many messages of a pipeline were taken, and why the next one was not.
struct Answer {
    taken: usize,
    error: Option<String>,
    sent_at: Instant,
}

impl RedisConnection {
    pub(crate) async fn open(config: &RedisPublisher) -> Result<Self, Error> {
        let mut builder = Builder::from_config(Config {
            server: ServerConfig::new_centralized(config.host.clone(), config.port),
            database: Some(config.database),
            username: config.username.clone(),
            // A user without a password takes any, and is not told of otherwise.
            password: config.password.clone().or_else(|| config.username.as_ref().map(|_| String::new())),
            ..Config::default()
        });
        builder.set_policy(ReconnectPolicy::new_exponential(0, 50, 1000, 2));
        builder.set_performance_config(PerformanceConfig {
            default_command_timeout: config.timeout,
            ..PerformanceConfig::default()
        });
        builder.set_connection_config(ConnectionConfig {
            connection_timeout: config.timeout,
            internal_command_timeout: config.timeout,
            // Sending again is decided here, where the order is known.
            max_command_attempts: 1,
            unresponsive: UnresponsiveConfig { max_timeout: Some(config.timeout), interval: config.timeout / 4 },
            ..ConnectionConfig::default()
        });
        let client = builder.build()?;
        let task = client.connect();
        let connection = Self { client, task };
        let connected = tokio::time::timeout(config.timeout, connection.client.wait_for_connect()).await;
        connected.unwrap_or_else(|_| Err(Error::new(fred::error::ErrorKind::Timeout, "no answer in time")))?;
        Ok(connection)
    }
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<'q> RedisPublishing<'q> {
    pub(crate) fn new(
        queue: &'q Queue,
        connection: RedisConnection,
        config: &RedisPublisher,
        health: HealthCell,
    ) -> Self {
        Self {
            queue,
            connection,
            channels: BTreeMap::new(),
            messages: VecDeque::new(),
            pipeline: None,
            failures: 0,
            rests_until: Instant::now(),
            troubles: Troubles::new(health),
            address: config.address(),
            timeout: config.timeout,
        }
    }

    fn answered(&mut self, answer: Answer) {
        let taken = self.messages.drain(..answer.taken);
        let bytes = taken.map(|message| message.held_bytes).sum();
        self.queue.settle(Settled { acknowledged: answer.taken as u64, bytes, ..Settled::default() });
        match answer.error {
            None => {
                self.failures = 0;
                self.troubles.end(&());
            }
            Some(error) => {
                self.rests_until = Instant::now() + FIRST_REST.saturating_mul(1 << self.failures.min(10)).min(MAX_REST);
                self.failures += 1;
                let address = &self.address;
                let advice = match error.contains("NOPERM") {
                    true => {
                        "; let the ACL user PUBLISH to every channel (+publish &*), or set REDIS_USERNAME to one that may"
                    }
                    false => "",
                };
                self.troubles
                    .begin((), answer.sent_at, || format!("Redis at {address} does not take events: {error}{advice}"));
            }
        }
    }
}

impl Publish for RedisPublishing<'_> {
    const NAME: &'static str = "redis";

    fn accept(&mut self, chunk: Chunk) -> Option<Chunk> {
        for event in chunk.events() {
            let channel = match self.channels.get(event.topic) {
                Some(channel) => channel.clone(),
                None => {
                    let channel = Str::from(event.topic.to_owned());
                    self.channels.insert(event.topic.to_owned(), channel.clone());
                    channel
                }
            };
            let value = Bytes::copy_from_slice(event.value);
            self.messages.push_back(Message { channel, value, held_bytes: event.held_bytes() as u64 });
        }
        Some(chunk)
    }

    fn dispatch(&mut self, now: Instant) {
        if self.pipeline.is_some() || self.messages.is_empty() || now < self.rests_until {
            return;
        }
        let messages: Vec<Message> = self.messages.iter().take(PIPELINE_EVENTS).cloned().collect();
        if self.failures > 0 {
            self.queue.settle(Settled { retried: messages.len() as u64, ..Settled::default() });
        }
        let client = self.connection.client.clone();
        let timeout = self.timeout;
        self.pipeline = Some(Box::pin(publish(client, messages, timeout)));
    }

    async fn progress(&mut self) {
        match OptionFuture::from(self.pipeline.as_mut()).await {
            Some(answer) => {
                self.pipeline = None;
                self.answered(answer);
            }
            None => pending().await,
        }
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn waiting(&self) -> Vec<Waiting> {
        let mut by_channel: BTreeMap<&str, u64> = BTreeMap::new();
        for message in &self.messages {
            *by_channel.entry(&message.channel).or_default() += 1;
        }
        let waiting = |(channel, events): (&str, u64)| Waiting { topic: channel.to_owned(), partition: None, events };
        by_channel.into_iter().map(waiting).collect()
    }
}

async fn publish(client: Client, messages: Vec<Message>, timeout: Duration) -> Answer {
    let sent_at = Instant::now();
    let count = messages.len();
    let pipeline = client.pipeline();
    let publishing = async {
        for Message { channel, value, .. } in messages {
            // Into the pipeline's memory; the answer comes with the others.
            pipeline.publish::<(), _, _>(channel, value).await?;
        }
        Ok::<_, Error>(pipeline.try_all::<i64>().await)
    };
    let answers = match tokio::time::timeout(timeout, publishing).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => vec![Err(error)],
        Err(_) => vec![Err(Error::new(
            fred::error::ErrorKind::Timeout,
            format!("no answer within {} ms", timeout.as_millis()),
        ))],
    };
    let taken = answers.iter().take_while(|answer| answer.is_ok()).count().min(count);
    let error = answers.into_iter().find_map(Result::err).map(|error| io_error_in_words(&error.to_string()));
    let error = error.or_else(|| (taken < count).then(|| format!("{taken} answers for {count} events")));
    Answer { taken, error, sent_at }
}
