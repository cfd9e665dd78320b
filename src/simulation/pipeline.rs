//! The parts of a run that run: servers, transport, workers, broker, and who watches them.

use std::fmt::Display;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use superhero_event::topic;
use superhero_kafka::{Cluster, KafkaConfig, Lag, LagMeter};
use superhero_player::{PlayersConfig, PlayersError, ServerAddress};
use superhero_server::{Health, ServerConfig};
use superhero_store::AnyStore;
use superhero_store::redis::Redis;
use superhero_transport::{Counters, Guard};
use superhero_worker::{DEFAULT_GROUP, WorkerConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::SimulationError;
use crate::broker::{Broker, LOOPBACK};
use crate::folder::has_sealed;
use crate::games::Games;
use crate::history::History;
use crate::progress::{Progress, Stage, Watcher};

/// Far more than a broker in the same process needs, and what a real one needs to elect a leader.
pub(crate) const FLUSH_DEADLINE: Duration = Duration::from_secs(30);

/// Workers that commit nothing for so long, though there is something, will not.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A Kafka that has not told its offsets for so long, though asked again and again, is given up.
const UNREACHABLE_TIMEOUT: Duration = Duration::from_secs(10);

/// For the first look at the cluster, which has shown that it serves.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Workers that cannot write get so long to end. What they have not published is told, as after a crash.
const TROUBLED_DRAIN: Duration = Duration::from_secs(3);

/// Rows are published right after their commit; workers that have not done so by then have failed, and the files say so.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks at what is not done yet.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What runs. Dropping it is a crash; [`close`](Self::close) it.
#[derive(Debug)]
pub struct Pipeline {
    kafka: KafkaConfig,
    progress: watch::Sender<Progress>,
    /// What keeps the workers from writing.
    trouble: watch::Receiver<Option<String>>,
    servers: Roles,
    addresses: Vec<ServerAddress>,
    guard: Option<Guard>,
    /// As they are when there is no guard any more.
    counters: Counters,
    workers: Roles,
    watcher: Roles<History>,
    broker: Option<Broker>,
    redis: Option<Redis>,
    /// What went wrong without ending the run.
    findings: Vec<String>,
}

/// The tasks of one role, and what stops them.
#[derive(Debug)]
struct Roles<T = Result<(), String>> {
    stop: CancellationToken,
    tasks: JoinSet<T>,
}

impl<T: 'static> Default for Roles<T> {
    fn default() -> Self {
        Self { stop: CancellationToken::new(), tasks: JoinSet::new() }
    }
}

impl Pipeline {
    pub(crate) fn new(
        kafka: KafkaConfig,
        broker: Option<Broker>,
        guard: Guard,
        progress: watch::Sender<Progress>,
        trouble: watch::Receiver<Option<String>>,
    ) -> Self {
        Self {
            kafka,
            progress,
            trouble,
            servers: Roles::default(),
            addresses: Vec::new(),
            counters: guard.counters(),
            guard: Some(guard),
            workers: Roles::default(),
            watcher: Roles::default(),
            broker,
            redis: None,
            findings: Vec::new(),
        }
    }

    pub(crate) fn with_redis(self, redis: Redis) -> Self {
        Self { redis: Some(redis), ..self }
    }

    /// How it goes on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The bootstrap servers of Kafka, embedded or not.
    pub fn kafka(&self) -> String {
        self.kafka.servers()
    }

    /// Where bots can play.
    pub fn servers(&self) -> &[ServerAddress] {
        &self.addresses
    }

    pub(crate) fn stage(&self, stage: Stage) {
        self.progress.send_modify(|progress| progress.stage = stage);
    }

    /// Begins to watch how far the workers are; before any of them starts, so that what they find there is not theirs.
    pub(crate) async fn watch(&mut self, games: Games) -> Result<(), SimulationError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let mut meter = self.meter().await?;
        let done_before = meter.look().await?.done();
        let (transport, progress) = (guard.monitor(), self.progress.clone());
        let watcher = Watcher { meter, games, transport, workers: self.trouble.clone(), done_before, progress };
        self.watcher.tasks.spawn(watcher.run(self.watcher.stop.clone()));
        Ok(())
    }

    /// Ends the watching; the lag over time.
    pub(crate) async fn watched(&mut self) -> History {
        self.watcher.stop.cancel();
        match self.watcher.tasks.join_next().await {
            Some(Ok(history)) => history,
            Some(Err(failure)) => {
                self.findings.push(format!("watching the lag broke: {failure}"));
                History::default()
            }
            None => History::default(),
        }
    }

    pub(crate) fn start_workers(&mut self, count: usize, config: &WorkerConfig, store: &AnyStore) {
        for _ in 0..count {
            let working = superhero_worker::run(config.clone(), store.clone(), self.workers.stop.clone());
            self.workers.tasks.spawn(async move { working.await.map(drop).map_err(|error| error.to_string()) });
        }
    }

    pub(crate) async fn start_servers(
        &mut self,
        count: usize,
        config: &ServerConfig,
        store: &AnyStore,
    ) -> Result<(), SimulationError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        for _ in 0..count {
            let listen = |source| SimulationError::Listen { part: "a server", address: LOOPBACK, source };
            let listener = TcpListener::bind(LOOPBACK).await.map_err(listen)?;
            let address = listener.local_addr().map_err(listen)?.to_string();
            self.addresses.push(address.parse().expect("a listener's address is one"));
            let (admission, stop) = (guard.admission(), self.servers.stop.clone());
            let serving =
                superhero_server::run(listener, config.clone(), store.clone(), admission, Health::new(), stop);
            self.servers.tasks.spawn(async move { serving.await.map(drop).map_err(|error| error.to_string()) });
        }
        Ok(())
    }

    /// Lets the bots play until all have played, until `stop`, or until a part of the pipeline breaks.
    pub(crate) async fn play(
        &mut self,
        config: PlayersConfig,
        stop: &CancellationToken,
    ) -> Result<superhero_player::Summary, PlayersError> {
        let config = PlayersConfig { servers: self.addresses.clone(), ..config };
        let stop = stop.child_token();
        let mut playing = std::pin::pin!(superhero_player::run(config, stop.clone()));
        loop {
            tokio::select! {
                played = &mut playing => return played,
                fault = self.fault() => {
                    self.findings.push(fault);
                    stop.cancel();
                }
            }
        }
    }

    /// Waits until every event is acknowledged.
    pub(crate) async fn flush(&mut self) -> Counters {
        self.stage(Stage::Flushing);
        if let Some(guard) = &self.guard {
            let flushed = async {
                while guard.counters().queued_events > 0 {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            if timeout(FLUSH_DEADLINE, flushed).await.is_err() {
                let left = guard.counters().queued_events;
                self.findings.push(format!("{left} events were not delivered within {FLUSH_DEADLINE:?}"));
            }
            self.counters = guard.counters();
        }
        self.counters
    }

    /// Stops the servers, and then delivers what they have logged.
    pub(crate) async fn stop_servers(&mut self) -> Counters {
        self.stage(Stage::EndingGames);
        self.servers.close("a server", &mut self.findings).await;
        self.stage(Stage::Flushing);
        if let Some(guard) = self.guard.take() {
            self.counters = match guard.close(FLUSH_DEADLINE).await {
                Ok(report) => report.counters,
                Err(error) => {
                    self.findings.push(error.to_string());
                    error.counters
                }
            };
        }
        self.counters
    }

    /// Waits until the workers have committed all that is there now, and gives back what they have not; none if that is not known.
    /// `stop` ends the waiting for workers that cannot write, and none are waited for where there are none.
    pub(crate) async fn catch_up(&mut self, stop: &CancellationToken) -> Option<u64> {
        self.stage(Stage::CatchingUp);
        let mut watch = CatchUp { target: None, done: 0, left: None, moved: Instant::now(), unknown: None };
        let mut meter = None;
        loop {
            let looked = match &mut meter {
                Some(meter) => LagMeter::look(meter).await.map_err(SimulationError::from),
                None => match self.meter().await {
                    Ok(connected) => meter.insert(connected).look().await.map_err(SimulationError::from),
                    Err(error) => Err(error),
                },
            };
            let trouble = self.trouble.borrow().clone();
            if let Some(ended) = watch.see(looked) {
                let reason = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
                self.findings.extend(ended.err().map(|stall| stall + &reason));
                return watch.left;
            }
            if let Some(trouble) = trouble.filter(|_| stop.is_cancelled()) {
                self.findings.push(format!("stopped while the workers could not go on: {trouble}"));
                return watch.left;
            }
            if self.workers.tasks.is_empty() {
                return watch.left;
            }
            if let Ok(fault) = timeout(LOOK_EVERY, self.fault()).await {
                self.findings.push(fault);
            }
        }
    }

    /// Stops the workers, which publish what they have and can.
    pub(crate) async fn stop_workers(&mut self) {
        self.stage(Stage::StoppingWorkers);
        let trouble = self.trouble.borrow().clone();
        let closing = self.workers.close("a worker", &mut self.findings);
        let Some(trouble) = trouble else { return closing.await };
        if timeout(TROUBLED_DRAIN, closing).await.is_err() {
            self.workers.tasks.shutdown().await;
            if !self.findings.iter().any(|finding| finding.contains(&trouble)) {
                self.findings.push(format!("the workers could not go on: {trouble}"));
            }
        }
    }

    /// Keeps what is wrong for the report.
    pub(crate) fn found(&mut self, finding: String) {
        self.findings.push(finding);
    }

    pub(crate) fn take_findings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.findings)
    }

    /// Stops all that still runs, in the order of the flow. Returns what went wrong on the way.
    pub async fn close(&mut self) -> Vec<String> {
        self.stop_servers().await;
        self.stop_workers().await;
        self.watched().await;
        if let Some(redis) = self.redis.take()
            && let Err(error) = redis.close().await
        {
            self.findings.push(error.to_string());
        }
        if let Some(mut broker) = self.broker.take() {
            self.findings.extend(broker.close().await);
        }
        self.take_findings()
    }

    /// Waits until workers that go on have published what they have committed.
    pub(crate) async fn publish(&self, folder: &Path) {
        let published = async {
            while has_sealed(folder) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // What is still sealed then is found when the files are read back.
        let _ = timeout(PUBLISH_TIMEOUT, published).await;
    }

    async fn meter(&self) -> Result<LagMeter, SimulationError> {
        let cluster = Cluster::connect(&self.kafka, Instant::now() + CONNECT_TIMEOUT).await?;
        Ok(LagMeter::new(cluster, DEFAULT_GROUP, topic::ALL))
    }

    /// Waits for a part to end that should not.
    async fn fault(&mut self) -> String {
        let broker = async {
            match &mut self.broker {
                Some(broker) => next_end(&mut broker.task).await.map(|ended| ended.map_err(|error| error.to_string())),
                None => pending().await,
            }
        };
        let (role, ended) = tokio::select! {
            ended = next_end(&mut self.servers.tasks) => ("a server", ended),
            ended = next_end(&mut self.workers.tasks) => ("a worker", ended),
            ended = broker => ("the embedded broker", ended),
        };
        fault(role, ended).unwrap_or_else(|| format!("{role} ended by itself"))
    }
}

/// How the workers come up to what there was when the waiting began.
struct CatchUp {
    target: Option<Lag>,
    done: u64,
    /// None while it is not known.
    left: Option<u64>,
    /// When something was committed last.
    moved: Instant,
    /// Since when Kafka does not tell.
    unknown: Option<Instant>,
}

impl CatchUp {
    /// Takes a look; an end, good or bad, if it is one.
    fn see(&mut self, looked: Result<Lag, SimulationError>) -> Option<Result<(), String>> {
        let now = Instant::now();
        let lag = match looked {
            Ok(lag) => lag,
            Err(error) => {
                self.left = None;
                let since = *self.unknown.get_or_insert(now);
                let given_up = now - since > UNREACHABLE_TIMEOUT;
                return given_up.then(|| Err(format!("it is not known how far the workers are: {error}")));
            }
        };
        self.unknown = None;
        let target = self.target.get_or_insert_with(|| lag.clone());
        let left = behind(&lag, target);
        self.left = Some(left);
        if left == 0 {
            return Some(Ok(()));
        }
        if lag.done() != self.done {
            (self.done, self.moved) = (lag.done(), now);
        }
        (now - self.moved > STALL_TIMEOUT)
            .then(|| Err(format!("the workers committed nothing for {STALL_TIMEOUT:?} with {left} records left")))
    }
}

/// The end of a task; waits for ever where there is none.
async fn next_end<T: 'static>(tasks: &mut JoinSet<T>) -> Result<T, JoinError> {
    match tasks.join_next().await {
        Some(ended) => ended,
        None => pending().await,
    }
}

/// The records up to the ends of `target` that are not done.
fn behind(lag: &Lag, target: &Lag) -> u64 {
    let left = target.partitions.iter().map(|(partition, wanted)| {
        let done = lag.partitions.get(partition).map_or(0, |now| now.done);
        wanted.end.saturating_sub(done).max(0).unsigned_abs()
    });
    left.sum()
}

impl Roles {
    async fn close(&mut self, role: &str, findings: &mut Vec<String>) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            findings.extend(fault(role, ended));
        }
    }
}

/// What was wrong with the end of a task.
pub(crate) fn fault<E: Display>(role: &str, ended: Result<Result<(), E>, JoinError>) -> Option<String> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{role} failed: {error}")),
        Err(failure) => Some(format!("{role} broke down: {failure}")),
    }
}
