//! A run from its first socket to its report.
//!
//! ```text
//! prepare: folder, broker ─▶ run: topics ─▶ workers ─▶ servers ─▶ bots play ─▶ servers stop ─▶ events flushed
//!                                                                                                  │
//!                     report ◀─ files read back ◀─ workers stop ◀─ everything committed ◀──────────┘
//! ```
//!
//! With `keep` nothing stops before the report, and [`Pipeline::close`] stops all in the same order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use superhero_event::topic;
use superhero_game::{Hero, HeroId, built_in_roster};
use superhero_kafka::KafkaConfig;
use superhero_kafka::readiness::{NotReady, ReadinessConfig, Trouble, wait_ready_telling};
use superhero_player::PlayersError;
use superhero_store::memory::Memory;
use superhero_store::redis::{Redis, RedisConfig};
use superhero_store::{AnyStore, GameStore, StoreError};
use superhero_transport::{KafkaPublisher, Publisher, StartError, Transport, TransportConfig};
use superhero_verify::{VerifyConfig, VerifyError, verify};
use superhero_worker::{Troubles, WorkerConfig};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::broker::Broker;
use crate::config::{ConfigError, GAME_EXPIRY, SOCKETS_PER_PLAYER};
use crate::folder::{self, Sweep};
use crate::games::Games;
use crate::pipeline::Pipeline;
use crate::progress::{Progress, Stage};
use crate::report::{Played, Report};
use crate::{SimulationConfig, WorkersStart, origin};

/// A Kafka or a Redis that is not there by then is told.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a run is stopped before that waits for no service.
const FIRST_GAME: &str = "the first game";

/// A run that is ready to begin: it has its folder and, if it is to have one, its broker.
#[derive(Debug)]
pub struct Simulation {
    config: SimulationConfig,
    kafka: KafkaConfig,
    folder: PathBuf,
    transport: Transport,
    games: Games,
    broker: Option<Broker>,
    progress: watch::Sender<Progress>,
    troubles: Troubles,
}

/// Why there was no run, or no report of it.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder cannot be made.
    #[error("cannot make a folder for the run in {}: {source}; out=FOLDER chooses another place", out.display())]
    Folder {
        /// Where it was to be.
        out: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No port for a part of the run.
    #[error("{part} cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        part: &'static str,
        /// Where.
        address: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The folder cannot take the run's files.
    #[error(transparent)]
    Output(superhero_sink::FolderError),
    /// What Kafka holds is not what the folder's rows are of.
    #[error("kafka={servers}: {source}")]
    Origin {
        /// The bootstrap servers.
        servers: String,
        /// What is wrong with the folder.
        source: superhero_sink::FolderError,
    },
    /// The rows of what was taken before lie in another folder.
    #[error(
        "kafka={servers}: the group {group} has taken {records} records of it already, and {} has no rows of them; give the folder \
         that has (out=FOLDER), delete the group, or take another Kafka", folder.display()
    )]
    OtherFolder {
        /// The bootstrap servers.
        servers: String,
        /// The workers' group.
        group: &'static str,
        /// How many records.
        records: u64,
        /// The folder.
        folder: PathBuf,
    },
    /// Kafka does not serve.
    #[error(transparent)]
    NotReady(#[from] Box<NotReady>),
    /// Events cannot be published.
    #[error(transparent)]
    Transport(#[from] StartError),
    /// Redis cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bots cannot play.
    #[error(transparent)]
    Players(#[from] PlayersError),
    /// Kafka does not say how far the workers are.
    #[error("cannot tell how far the workers are: {0}")]
    Lag(#[from] superhero_kafka::LagError),
    /// Kafka has gone.
    #[error(transparent)]
    Kafka(#[from] superhero_kafka::ClientError),
    /// The files cannot be read back.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Somebody stopped it before anything was played.
    #[error("stopped before {before}{}", .trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default())]
    Stopped {
        /// What it was waiting for.
        before: String,
        /// Why that took so long, if it is known.
        trouble: Option<String>,
    },
}

impl Simulation {
    /// Makes the folder and starts the broker.
    ///
    /// # Errors
    /// [`SimulationError`], before anything was played.
    pub async fn prepare(config: SimulationConfig) -> Result<Self, SimulationError> {
        config.check()?;
        let folder = match config.kafka {
            // Its offsets outlive the run, and the rows that they are about have to lie where the next run's will.
            Some(_) => std::fs::create_dir_all(&config.out).map(|()| config.out.clone()),
            None => folder::make(&config.out, Utc::now()),
        };
        let folder = folder.map_err(|source| SimulationError::Folder { out: config.out.clone(), source })?;
        let (kafka, broker) = match &config.kafka {
            Some(kafka) => (kafka.clone(), None),
            None => {
                let broker = Broker::start(config.broker()).await.inspect_err(|_| drop(Sweep::new(&folder, true)))?;
                (broker.kafka().clone(), Some(broker))
            }
        };
        let publisher = Publisher::Kafka(KafkaPublisher::new(kafka.clone()));
        let transport = Transport::new(TransportConfig::new(publisher, config.players * SOCKETS_PER_PLAYER));
        let progress = watch::Sender::new(Progress { planned: config.bots().planned_games(), ..Progress::default() });
        let (games, troubles) = (Games::default(), Troubles::default());
        Ok(Self { config, kafka, folder, transport, games, broker, progress, troubles })
    }

    /// The layer that takes the events, to be put into the process's subscriber before [`run`](Self::run).
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        Layer::and_then(self.transport.layer(), self.games.layer())
    }

    /// Where the run's files go: `superhero/` in it is what the workers write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// To be kept from before the run's log begins until it has ended: a run that comes to nothing leaves nothing.
    pub fn sweep(&self) -> Sweep {
        Sweep::new(&self.folder, self.config.kafka.is_none())
    }

    /// How the run goes on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Plays, and reads the files back. `stop` ends the playing early; what has happened by then is brought to its end and
    /// reported. Before the playing it ends everything. The pipeline that comes with the report still runs if the configuration says so.
    ///
    /// # Errors
    /// [`SimulationError`]. What went wrong without keeping the run from its end is in the report.
    ///
    /// # Cancellation
    /// Everything ends at once, as in a crash.
    pub async fn run(self, stop: CancellationToken) -> Result<(Report, Pipeline), SimulationError> {
        match self.config.redis.clone() {
            None => {
                let store = Memory::with_seed(self.config.seed);
                self.play(AnyStore::Memory(store), Some(GAME_EXPIRY), stop).await
            }
            Some(redis) => {
                let store = connect(redis, &self.progress, &stop).await?;
                let (report, pipeline) = self.play(AnyStore::Redis(store.clone()), None, stop).await?;
                Ok((report, pipeline.with_redis(store)))
            }
        }
    }

    async fn play(
        self,
        store: AnyStore,
        game_expiry: Option<Duration>,
        stop: CancellationToken,
    ) -> Result<(Report, Pipeline), SimulationError> {
        let Self { config, kafka, folder, transport, games, broker, progress, troubles } = self;
        let begun = Instant::now();
        let embedded = broker.is_some();
        let starting = async {
            let readiness = ReadinessConfig {
                partitions: config.partitions,
                timeout: READY_TIMEOUT,
                ..ReadinessConfig::new(topic::ALL)
            };
            let tell = |trouble: Trouble<'_>| tell(&progress, &trouble.to_string());
            wait_ready_telling(&kafka, &readiness, tell).await.map_err(Box::new)?;
            // A folder of the run's own and a broker of its own have nothing from before.
            if !embedded {
                origin::check(&folder, &kafka).await?;
            }
            Ok(transport.start().await?)
        };
        let service = (!embedded).then(|| format!("Kafka at {}", kafka.servers()));
        let guard = wait_for(service, &progress, &stop, starting).await?;
        let producer = guard.producer().map(|producer| producer.as_u128());
        let worker = WorkerConfig {
            sink: config.sink(),
            game_expiry,
            troubles: troubles.clone(),
            ..WorkerConfig::new(kafka.clone(), topic::ALL, &folder)
        };
        let mut pipeline = Pipeline::new(kafka.clone(), broker, guard, progress, troubles.watch());
        match stop.run_until_cancelled(Box::pin(pipeline.watch(games.clone()))).await {
            Some(watching) => watching?,
            None => return Err(SimulationError::Stopped { before: FIRST_GAME.to_owned(), trouble: None }),
        }
        if config.workers_start == WorkersStart::AtOnce {
            pipeline.start_workers(config.workers, &worker, &store);
        }
        pipeline.start_servers(config.servers, &config.server(), &store).await?;

        pipeline.stage(Stage::Playing);
        let planned = pipeline.progress().borrow().planned;
        let players = pipeline.play(config.bots(), &stop).await?;
        let counters = match config.keep {
            true => pipeline.flush().await,
            false => pipeline.stop_servers().await,
        };
        if config.workers_start == WorkersStart::AfterGames {
            pipeline.start_workers(config.workers, &worker, &store);
        }
        let flushed = Instant::now();
        let lag = pipeline.catch_up(&stop).await;
        let caught_up = flushed.elapsed();
        match config.keep {
            true => pipeline.publish(&folder).await,
            false => pipeline.stop_workers().await,
        }
        let history = pipeline.watched().await;
        let written_after = begun.elapsed();

        pipeline.stage(Stage::Verifying);
        let topics = topic::ALL.map(String::from).to_vec();
        let files = VerifyConfig {
            folders: vec![folder.clone()],
            topics: Some(topics),
            figures_of: producer,
            ..VerifyConfig::default()
        };
        let beside_topics = VerifyConfig { kafka: Some(kafka), ..files.clone() };
        let verification = match verify(beside_topics, CancellationToken::new()).await {
            Err(error @ (VerifyError::Kafka(_) | VerifyError::Fetch(_))) => {
                pipeline.found(format!("the files cannot be compared with the topics: {error}"));
                verify(files, CancellationToken::new()).await?
            }
            verified => verified?,
        };
        let hero_names = match store.hero_count().await? {
            0 => built_in_names(),
            _ => BTreeMap::new(),
        };
        let played = Played {
            stopped: players.stopped() > 0,
            players,
            planned,
            written_after,
            games_completed: games.completed(),
            counters,
            lag,
            caught_up,
            history,
            hero_names,
            findings: pipeline.take_findings(),
        };
        let report = Report::new(&config, folder, played, &verification);
        Ok((report, pipeline))
    }
}

async fn connect(
    config: RedisConfig,
    progress: &watch::Sender<Progress>,
    stop: &CancellationToken,
) -> Result<Redis, SimulationError> {
    let service = format!("Redis at {}:{}", config.host, config.port);
    let connecting = Redis::connect_telling(config, READY_TIMEOUT, |reason| tell(progress, reason));
    wait_for(Some(service), progress, stop, async { Ok(connecting.await?) }).await
}

/// Does what takes a service that may not be there yet, until `stop`.
async fn wait_for<T>(
    service: Option<String>,
    progress: &watch::Sender<Progress>,
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, SimulationError>>,
) -> Result<T, SimulationError> {
    progress.send_modify(|progress| progress.waiting_for.clone_from(&service));
    let done = match stop.run_until_cancelled(Box::pin(work)).await {
        Some(done) => done,
        None => {
            let before = service.map_or_else(|| FIRST_GAME.to_owned(), |service| format!("{service} was ready"));
            Err(SimulationError::Stopped { before, trouble: progress.borrow().trouble.clone() })
        }
    };
    progress.send_modify(|progress| (progress.waiting_for, progress.trouble) = (None, None));
    done
}

fn tell(progress: &watch::Sender<Progress>, trouble: &str) {
    progress.send_modify(|progress| progress.trouble = Some(trouble.to_owned()));
}

fn built_in_names() -> BTreeMap<HeroId, String> {
    let name = |hero: Hero| {
        let name = serde_json::from_str::<serde_json::Value>(&hero.json).ok()?.get("name")?.as_str()?.to_owned();
        Some((hero.id, name))
    };
    built_in_roster().into_iter().filter_map(name).collect()
}
