//! The worker: it takes its share of a group's partitions and turns their records into files of JSON lines.
//!
//! ```text
//! membership ─events─▶ owner (assignment) ─phase─▶ task of a partition ─ended─▶ owner
//!                                                    │
//!     fetch (one answer ahead) ▶ dedupe ▶ handlers ▶ sink ▶ commit ▶ publish ▶ clean
//! ```
//!
//! [`run`] is the whole of it. One loop owns the membership and all partitions; each partition has a task per generation
//! of the group, which does what its sink says ([`superhero_sink`] keeps the protocol of sealing and publishing). What goes wrong
//! with one partition (a batch that does not come, a full disk, a panic) holds up that partition only, and is told.
//!
//! Every record gets a row in the raw archive. Records that are no events, or whose game's state is gone, are kept among
//! the dead letters as well, with the reason. The host's `Cleaning Game Records` makes the rows of `GAME_META` and `GAME_PODIUM`.

mod assignment;
mod backoff;
mod commit;
mod earlier;
mod fetch;
mod games;
mod handler;
mod id;
mod monitor;
mod partition;
mod plain;
mod prepare;
mod readable;
mod recover;
mod row;
mod summary;
mod troubles;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use superhero_kafka::group::{GroupConfig, GroupError};
use superhero_kafka::{ClientError, KafkaConfig};
use superhero_sink::layout::NameError;
use superhero_sink::{FolderError, Settings, SinkError};
use superhero_store::GameStore;
use tokio_util::sync::CancellationToken;

pub use fetch::FetchConfig;
pub use monitor::Monitor;
pub use summary::Summary;
pub use troubles::Troubles;

/// The group of the simulator's workers.
pub const DEFAULT_GROUP: &str = "superhero_sim";

/// What a worker needs to know. Checked by [`run`] before anything is written.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Where the cluster is.
    pub kafka: KafkaConfig,
    /// Group, topics, assignors, timeouts.
    pub group: GroupConfig,
    /// The rows go to `superhero/` in here.
    pub output_dir: PathBuf,
    /// Rotation and compression of the files.
    pub sink: Settings,
    /// How much to fetch at a time.
    pub fetch: FetchConfig,
    /// What a game's keys get once its rows are published; none leaves them as they are.
    pub game_expiry: Option<Duration>,
    /// Ends by itself when it has published what was there when it began with each partition.
    pub until_end: bool,
    /// How long to try to reach Kafka at the start; with [`until_end`](Self::until_end) each broker that is needed for that.
    pub connect_timeout: Duration,
    /// How long a stop may take to seal, commit and publish; what is not by then is read again by the next owner.
    pub drain_timeout: Duration,
    /// Where the worker tells how it is.
    pub monitor: Monitor,
    /// Where it tells what the disk keeps it from.
    pub troubles: Troubles,
}

impl WorkerConfig {
    /// How long to try to reach Kafka at the start.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
    /// Above the time for a commit whose first answer is lost.
    pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

    /// A member of [`DEFAULT_GROUP`] with the defaults of every part, that cleans no games and never ends by itself.
    pub fn new(
        kafka: KafkaConfig,
        topics: impl IntoIterator<Item = impl Into<String>>,
        output_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            kafka,
            group: GroupConfig::new(DEFAULT_GROUP, topics),
            output_dir: output_dir.into(),
            sink: Settings::default(),
            fetch: FetchConfig::default(),
            game_expiry: None,
            until_end: false,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            drain_timeout: Self::DEFAULT_DRAIN_TIMEOUT,
            monitor: Monitor::default(),
            troubles: Troubles::default(),
        }
    }
}

/// Why a worker ended other than by being asked to, or without having published all.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Kafka cannot be reached.
    #[error(transparent)]
    Kafka(#[from] ClientError),
    /// The group does not take us, or not any more.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The folder cannot be written to, or holds rows of other topics.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What a crash has left in the folder.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A topic cannot be archived; of several, none can.
    #[error(transparent)]
    Topic(#[from] NameError),
    /// It took all that is committed, but there is more.
    #[error(
        "the end is not reached, since transactions are open; take what is behind them when they have ended: {}", .waiting.join("; ")
    )]
    Waiting {
        /// Each partition that waits, and for what.
        waiting: Vec<String>,
    },
    /// Partitions that could not go on; the others did until the end.
    #[error("{} could not go on: {}", .partitions.len(), .partitions.join("; "))]
    Partitions {
        /// Each with its reason.
        partitions: Vec<String>,
    },
    /// The partitions were not given up in time.
    #[error(
        "{partitions} partitions were not given up within {limit_ms} ms; what was not published is read again by their next owner"
    )]
    DrainTimeout {
        /// How many.
        partitions: usize,
        /// The bound.
        limit_ms: u128,
    },
}

/// Works until `shutdown`, or until the end of what is there if the configuration says so, and says what was published.
///
/// When it is asked to stop it seals, commits and publishes what it has read, and leaves the group.
///
/// # Errors
/// [`WorkerError`]; the message names the thing, the value and what to do.
///
/// # Cancellation
/// Dropping the future is like a crash: nothing is lost or written twice, but the group waits for the session's end.
pub async fn run<S: GameStore>(
    config: WorkerConfig,
    store: S,
    shutdown: CancellationToken,
) -> Result<Summary, WorkerError> {
    assignment::run(config, store, shutdown).await
}
