//! `superhero broker`: the embedded broker by itself.

use std::num::{NonZeroI32, NonZeroUsize};

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use superhero_broker::BrokerConfig;
use superhero_roles::listen;
use superhero_service::{Failure, LogArguments, host_and_port, listen_address, positive, whole};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::layer::Identity;

/// Serve Kafka's wire protocol from this process's memory, for trying out, tests and CI
///
/// One process, one node, no disk: what it holds is gone when it ends. Anything more is Apache Kafka's.
#[derive(Args, Debug)]
pub(crate) struct Broker {
    /// The address to listen on, as host:port; port 0 takes any that is free
    #[arg(long, env = "BROKER_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:9092", value_parser = listen_address)]
    listen: (String, u16),

    /// The address that clients are told to connect to [default: where it listens]
    #[arg(long, env = "BROKER_ADVERTISED_LISTENER", value_name = "HOST:PORT", value_parser = host_and_port)]
    advertised_listener: Option<(String, u16)>,

    /// Partitions of a topic that is made without a number
    #[arg(long, env = "KAFKA_PARTITIONS", value_name = "COUNT", default_value = "4", value_parser = positive)]
    num_partitions: NonZeroI32,

    /// Make a topic when a client asks for one that is not there
    #[arg(long, env = "BROKER_AUTO_CREATE_TOPICS", value_name = "BOOL", default_value = "true", action = ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    auto_create_topics: bool,

    /// Memory for the records of one partition, in bytes; above it the oldest go
    #[arg(long, env = "BROKER_LOG_RETENTION_BYTES", value_name = "BYTES", default_value_t = at_least_one(BrokerConfig::default().retention_bytes),
        value_parser = whole(NonZeroUsize::MIN..))]
    log_retention_bytes: NonZeroUsize,

    /// Memory for the records of all partitions, in bytes; above it the largest partition's oldest go
    #[arg(long, env = "BROKER_LOG_BYTES", value_name = "BYTES", default_value_t = at_least_one(BrokerConfig::default().max_log_bytes),
        value_parser = whole(NonZeroUsize::MIN..))]
    log_bytes: NonZeroUsize,

    /// The largest batch of records, in bytes
    #[arg(long, env = "BROKER_MESSAGE_MAX_BYTES", value_name = "BYTES", default_value_t = at_least_one(BrokerConfig::default().max_batch_bytes),
        value_parser = whole(NonZeroUsize::MIN..))]
    message_max_bytes: NonZeroUsize,

    /// Connections at one time; more are closed
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "COUNT", default_value_t = at_least_one(BrokerConfig::default().max_connections),
        value_parser = whole(NonZeroUsize::MIN..))]
    max_connections: NonZeroUsize,

    #[command(flatten)]
    log: LogArguments,
}

fn at_least_one(default: usize) -> NonZeroUsize {
    NonZeroUsize::new(default).expect("defaults are above 0")
}

impl Broker {
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let _log = self.log.start("superhero", Identity::new())?;
        let (host, port) = &self.listen;
        let listener = listen(host, *port, "--listen HOST:PORT chooses").await?;
        let address = listener.local_addr()?;
        let config = BrokerConfig {
            default_partitions: self.num_partitions.get(),
            auto_create_topics: self.auto_create_topics,
            retention_bytes: self.log_retention_bytes.get(),
            max_log_bytes: self.log_bytes.get(),
            max_batch_bytes: self.message_max_bytes.get(),
            max_connections: self.max_connections.get(),
            advertised: self.advertised_listener,
            ..BrokerConfig::default()
        };
        info!("Listening on {address}");
        Ok(superhero_broker::run(listener, config, stop).await?)
    }
}
