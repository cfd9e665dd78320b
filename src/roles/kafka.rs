//! Where Kafka is and whether it serves, from the settings.

use std::time::Duration;

use superhero_kafka::KafkaConfig;
use superhero_kafka::readiness::{ReadinessConfig, wait_ready};
use superhero_service::{Failure, KafkaArguments, Kind};
use tracing::info;

/// Validates the addresses.
///
/// # Errors
/// [`Kind::Usage`], naming the one that cannot be used.
pub fn config(arguments: &KafkaArguments, client_id: &str) -> Result<KafkaConfig, Failure> {
    let refused = |error| Failure::new(Kind::Usage, format!("KAFKA_BOOTSTRAP_SERVERS: {error}"));
    // A host and a port that are settings of their own have been looked at when they were read.
    KafkaConfig::new(&arguments.bootstrap_servers(), client_id).map_err(refused)
}

/// Creates missing topics and waits until Kafka truly serves.
///
/// # Errors
/// [`Kind::NotReady`], naming the step that failed and the broker.
pub async fn wait(
    kafka: &KafkaConfig,
    arguments: &KafkaArguments,
    topics: &[String],
    timeout: Duration,
) -> Result<(), Failure> {
    let readiness = ReadinessConfig {
        partitions: arguments.kafka_partitions.get(),
        replication_factor: arguments.kafka_replication_factor.get(),
        timeout,
        ..ReadinessConfig::new(topics)
    };
    let report = wait_ready(kafka, &readiness).await.map_err(|error| Failure::new(Kind::NotReady, error))?;
    info!(
        cluster = report.cluster_id,
        brokers = report.brokers,
        created = report.created.join(","),
        seconds = report.elapsed.as_secs_f64(),
        "Kafka is ready"
    );
    Ok(())
}
