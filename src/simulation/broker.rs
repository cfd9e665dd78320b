//! The embedded broker of a run.

use superhero_broker::{BrokerConfig, BrokerError};
use superhero_kafka::KafkaConfig;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::SimulationError;

/// Only for this machine, and on a port that is free.
pub(crate) const LOOPBACK: &str = "127.0.0.1:0";

/// A broker that serves; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Broker {
    kafka: KafkaConfig,
    stop: CancellationToken,
    /// The one task.
    pub(crate) task: JoinSet<Result<(), BrokerError>>,
}

impl Broker {
    pub(crate) async fn start(config: BrokerConfig) -> Result<Self, SimulationError> {
        let listen = |source| SimulationError::Listen { part: "the embedded broker", address: LOOPBACK, source };
        let listener = TcpListener::bind(LOOPBACK).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?.to_string();
        let kafka = KafkaConfig::new(&address, "superhero-up").expect("a listener's address is one");
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(superhero_broker::run(listener, config, stop.clone()));
        Ok(Self { kafka, stop, task })
    }

    /// Where it is.
    pub(crate) fn kafka(&self) -> &KafkaConfig {
        &self.kafka
    }

    /// Stops it and waits for its end.
    pub(crate) async fn close(&mut self) -> Vec<String> {
        self.stop.cancel();
        let mut findings = Vec::new();
        while let Some(ended) = self.task.join_next().await {
            findings.extend(crate::pipeline::fault("the embedded broker", ended));
        }
        findings
    }
}
