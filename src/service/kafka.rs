//! Where Kafka is.

use std::num::{NonZeroI16, NonZeroI32};

use clap::Args;

use crate::unit::{address, host, positive, whole};

/// The smallest count.
const ONE: NonZeroI16 = NonZeroI16::new(1).expect("1 is not 0");

/// Where Kafka is, and what topics are made like.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArguments {
    /// Brokers to ask first, as host:port,host:port,…
    ///
    /// Wins over --kafka-host and --kafka-port.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,…")]
    pub kafka_bootstrap_servers: Option<String>,

    /// The host of the broker to ask first
    #[arg(long, env = "KAFKA_HOST", value_name = "HOST", default_value = "127.0.0.1", value_parser = host)]
    pub kafka_host: String,

    /// Its port
    #[arg(long, env = "KAFKA_PORT", value_name = "PORT", default_value = "9092", value_parser = whole(1..=u16::MAX))]
    pub kafka_port: u16,

    /// Partitions of a topic that is created
    #[arg(long, env = "KAFKA_PARTITIONS", value_name = "COUNT", default_value = "4", value_parser = positive)]
    pub kafka_partitions: NonZeroI32,

    /// Replicas of a topic that is created
    #[arg(long, env = "KAFKA_REPLICATION_FACTOR", value_name = "COUNT", default_value = "1", value_parser = whole(ONE..=NonZeroI16::MAX))]
    pub kafka_replication_factor: NonZeroI16,
}

impl KafkaArguments {
    /// The brokers to ask first, as `host:port,host:port,…`; not validated yet.
    pub fn bootstrap_servers(&self) -> String {
        self.kafka_bootstrap_servers.clone().unwrap_or_else(|| address(&self.kafka_host, self.kafka_port))
    }
}
