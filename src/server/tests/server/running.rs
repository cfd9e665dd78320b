//! A server under test, on a port of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use superhero_event::Admission;
use superhero_game::Limits;
use superhero_server::{Health, ServerConfig, Summary, run};
use superhero_store::GameStore;
use superhero_store::memory::Memory;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::captured;
use crate::client::Client;

/// What is not there by then does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what a test expects; fails with its name when it does not come.
pub(crate) async fn within<T>(what: &str, expected: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, expected).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

/// Turns are announced at once, and no deadline passes by itself.
pub(crate) fn quick() -> ServerConfig {
    ServerConfig {
        turn_delay: Duration::ZERO,
        lobby_timeout: Duration::from_secs(600),
        turn_deadline: Duration::from_secs(600),
        limits: Limits { rounds: 100 },
        ..ServerConfig::default()
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) admission: Admission,
    shutdown: CancellationToken,
    task: JoinHandle<Summary>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::with(quick(), Memory::new()).await
    }

    pub(crate) async fn with<S: GameStore>(config: ServerConfig, store: S) -> Self {
        Self::with_health(config, store, Health::new()).await
    }

    pub(crate) async fn with_health<S: GameStore>(config: ServerConfig, store: S, health: Health) -> Self {
        captured::install();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (admission, shutdown) = (Admission::new(), CancellationToken::new());
        let server = run(listener, config, store, admission.clone(), health, shutdown.clone());
        let task = tokio::spawn(async move { server.await.unwrap() });
        Self { address, admission, shutdown, task }
    }

    pub(crate) async fn connect(&self, path: &str) -> Client {
        Client::connect(self.address, path).await
    }

    /// The stop signal.
    pub(crate) fn signal(&self) {
        self.shutdown.cancel();
    }

    /// The stop signal, and the end of all tasks.
    pub(crate) async fn stop(self) -> Summary {
        self.shutdown.cancel();
        self.stopped().await
    }

    /// The end of all tasks.
    pub(crate) async fn stopped(self) -> Summary {
        within("the end of the server", self.task).await.unwrap()
    }
}
