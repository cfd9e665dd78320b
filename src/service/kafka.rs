//! Where Kafka is.

use std::num::{NonZeroI16, NonZeroI32};

use clap::Args;

/// Where Kafka is, and what topics are made like.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArguments {
    /// Brokers to ask first, as host:port,host:port,…
    ///
    /// Wins over --kafka-host and --kafka-port.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,…", value_delimiter = ',', value_parser = host_and_port)]
    pub kafka_bootstrap_servers: Vec<String>,

    /// The host of the broker to ask first
    #[arg(long, env = "KAFKA_HOST", value_name = "HOST", default_value = "127.0.0.1")]
    pub kafka_host: String,

    /// Its port
    #[arg(long, env = "KAFKA_PORT", value_name = "PORT", default_value_t = 9092)]
    pub kafka_port: u16,

    /// Partitions of a topic that is created
    #[arg(long, env = "KAFKA_PARTITIONS", value_name = "COUNT", default_value = "4", value_parser = positive)]
    pub kafka_partitions: NonZeroI32,

    /// Replicas of a topic that is created
    #[arg(long, env = "KAFKA_REPLICATION_FACTOR", value_name = "COUNT", default_value = "1")]
    pub kafka_replication_factor: NonZeroI16,
}

impl KafkaArguments {
    /// The brokers to ask first, each as `host:port`.
    pub fn bootstrap_servers(&self) -> Vec<String> {
        if self.kafka_bootstrap_servers.is_empty() {
            return vec![format!("{}:{}", self.kafka_host, self.kafka_port)];
        }
        self.kafka_bootstrap_servers.clone()
    }
}

fn positive(text: &str) -> Result<NonZeroI32, String> {
    text.parse().ok().filter(|count: &NonZeroI32| count.is_positive()).ok_or_else(|| "not a count from 1 upwards".into())
}

fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.to_owned()),
        _ => Err("not host:port with a port from 1 to 65535".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_has_a_host_and_a_port() {
        for text in ["localhost:9092", "10.0.0.1:1", "[::1]:65535"] {
            assert_eq!(host_and_port(text).as_deref(), Ok(text));
        }
        for text in ["", "nowhere", ":9092", "host:", "host:0", "host:65536"] {
            assert!(host_and_port(text).is_err(), "{text}");
        }
    }
}
