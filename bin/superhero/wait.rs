//! `superhero wait`: topics, and a Kafka that truly serves.

use std::time::Duration;

use clap::Args;
use superhero_event::topic;
use superhero_kafka::KafkaConfig;
use superhero_roles::kafka;
use superhero_service::{Failure, KafkaArguments, LogArguments, seconds};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::Identity;

/// Create missing topics and wait until Kafka truly serves; exit 3 if it does not in time
///
/// Every partition must have a leader, a record must come back from a topic of its own, and a consumer group must keep an offset.
#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// Seconds to wait
    #[arg(long, env = "WAIT_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    timeout: Duration,

    /// The topics that there must be, separated by commas
    #[arg(long, env = "WORKER_CHANNEL", value_name = "TOPIC,…", value_delimiter = ',', default_values_t = topic::ALL.map(String::from))]
    topics: Vec<String>,

    #[command(flatten)]
    kafka: KafkaArguments,
    #[command(flatten)]
    log: LogArguments,
}

impl Wait {
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        self.kafka().map(drop)
    }

    fn kafka(&self) -> Result<KafkaConfig, Failure> {
        kafka::config(&self.kafka, "superhero-wait")
    }

    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let _log = self.log.start("superhero", Identity::new())?;
        let kafka = self.kafka()?;
        tokio::select! {
            ended = kafka::wait(&kafka, &self.kafka, &self.topics, self.timeout) => ended,
            () = stop.cancelled() => Err("stopped before Kafka was ready".into()),
        }
    }
}
