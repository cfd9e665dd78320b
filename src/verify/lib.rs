//! Published files, and the topics that they are from, checked row by row.
//!
//! ```text
//! survey ▶ for each partition:  log (fetch) ─▶ walk ◀─ raw rows
//!                                               ├─ coverage, producers     every offset, every number
//!                                               ├─ dead ◀─ lane            dead letters
//!                                               └─ tables, games ◀─ lanes  GAME_META, GAME_PODIUM
//! ```
//!
//! A walk reads the rows of one partition once, in the order in which they ought to stand, with what stands beside them and, if a
//! cluster is given, with the records that they were made of. It holds no rows: only the gaps between offsets, the last number of each
//! producer, and the games of late, each with a bound.
//!
//! # What files alone cannot tell
//!
//! A worker leaves out records that repeat others, so a gap between offsets may be right. The producers' numbers prove it, if all
//! producers that were at work before the gap go on behind it without one missing; a gap without that proof is told as a
//! [`Fault::Gap`]. Three things escape: the only record that a producer ever sent to a partition, lost between those of others that go
//! on; a single one of a stranger without numbers, or of a copy, whose number was counted elsewhere, if it is the only one far and wide;
//! and one whose number was used before, though with another value. Compared with its topic, no gap is left to guess at, as long as the
//! topic holds the records: there, a record without a row is a repetition only if an earlier one with its number had its key and value.
//! Two rows with one number are a [`Fault::DuplicateId`] if they say the same, and none if they do not.

mod batches;
mod cluster;
mod coverage;
mod dead;
mod envelope;
mod fault;
mod faults;
mod fetch;
mod figures;
mod file;
mod game_row;
mod games;
mod id;
mod lane;
mod log;
mod origin;
mod producers;
mod readers;
mod row;
mod said;
mod survey;
mod tables;
mod verification;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use superhero_kafka::fetch::{Budget, FetchError};
use superhero_kafka::{ClientError, Isolation, KafkaConfig};
use superhero_sink::PartitionId;
use superhero_sink::layout::{NameError, check_topic_name};
use superhero_text::shown;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::Topics;
use crate::survey::Survey;

pub use fault::Fault;
pub use faults::{Faults, MAX_DETAILS};
pub use figures::{Figures, Span};
pub use verification::{MAX_PRODUCERS, PartitionSummary, Rows, Standing, Verification, Waiting};

/// What is to be checked.
#[derive(Debug, Clone, Default)]
pub struct VerifyConfig {
    /// The workers' `OUTPUT_DIR`s: hosts that share a group have one each, and their union is checked.
    pub folders: Vec<PathBuf>,
    /// The cluster to compare with; none checks the files by themselves.
    pub kafka: Option<KafkaConfig>,
    /// What the workers were told to take of transactions.
    pub isolation: Isolation,
    /// The memory for what is fetched.
    pub budget: Budget,
    /// Only these; none are all that the files show, and those of [`superhero_event::topic::ALL`] that the cluster has.
    pub topics: Option<Vec<String>>,
    /// The producer whose [`Figures`] are wanted, by whoever has just run it.
    pub figures_of: Option<u128>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No folder was given.
    #[error("there is no folder to check; name the workers' OUTPUT_DIR")]
    NoFolders,
    /// The folder is not there.
    #[error("there is no folder {}; name that of a run, or the workers' OUTPUT_DIR", shown::path(path))]
    NoDirectory {
        /// As it was given.
        path: PathBuf,
    },
    /// No worker has ever written there.
    #[error(
        "{} holds no rows: there is no superhero/ in it; name the workers' OUTPUT_DIR, or the folder of one run",
        shown::path(path)
    )]
    NoRows {
        /// As it was given.
        path: PathBuf,
    },
    /// Every row would seem to stand twice.
    #[error("{} and {} are the same folder; name each once", shown::path(first), shown::path(second))]
    SameFolder {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The system does not let us look.
    #[error("cannot read {}: {source}", shown::path(path))]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The offsets in the folder are those of another cluster.
    #[error(
        "{} holds records of the Kafka cluster {holds}, but {servers} is the cluster {connected}; name the cluster of the folder, \
         or check the files by themselves",
        shown::path(path)
    )]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// The cluster that it was made for.
        holds: String,
        /// The bootstrap servers that were asked.
        servers: String,
        /// Their cluster.
        connected: String,
    },
    /// The folders have no offsets in common.
    #[error(
        "{} and {} do not hold records of the same {difference}; check each by itself",
        shown::path(first),
        shown::path(second)
    )]
    NotOneSource {
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// Cluster or topic, with the id that each remembers.
        difference: String,
    },
    /// No files can be of a topic of that name.
    #[error("{0}; no worker takes it, so leave it out of --topics")]
    Topic(NameError),
    /// There is nothing to compare with.
    #[error("{servers} has no topic {topic}; leave it out with --topics, or check the files by themselves")]
    NoTopic {
        /// The bootstrap servers that were asked.
        servers: String,
        /// The topic's name.
        topic: String,
    },
    /// The topic was deleted and made again.
    #[error(
        "{} holds records of a topic {topic} with the id {holds}, but the topic's id is {found} now: it was deleted and made \
         again; check the files by themselves",
        shown::path(path)
    )]
    TopicReplaced {
        /// The folder.
        path: PathBuf,
        /// The topic's name.
        topic: String,
        /// The id of the topic whose rows lie in the folder.
        holds: String,
        /// The id that the topic has now.
        found: String,
    },
    /// Kafka cannot be asked.
    #[error(transparent)]
    Kafka(#[from] ClientError),
    /// Nor do its records come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The check was stopped before its end.
    #[error("stopped before the check was done")]
    Stopped,
}

/// Partitions checked at the same time, if there are so many cores: each takes one, some MiB of memory and a connection.
const MAX_AT_ONCE: usize = 8;

/// Checks everything, and says what there is and what is wrong with it.
///
/// Reads every file once, off the threads of the runtime.
///
/// # Errors
///
/// [`VerifyError`], if nothing can be said. What is wrong with the files is no error, but among the [`Faults`].
///
/// # Cancellation
///
/// Nothing is written, so it can be dropped at any time; `stop` ends it with [`VerifyError::Stopped`] within some rows.
pub async fn verify(config: VerifyConfig, stop: CancellationToken) -> Result<Verification, VerifyError> {
    // Blocking tasks outlive this future unless they are told.
    let stop = stop.child_token();
    let _told = stop.clone().drop_guard();
    let VerifyConfig { folders, kafka, isolation, budget, topics, figures_of } = config;
    let wanted: Option<BTreeSet<String>> = topics.map(|topics| topics.into_iter().collect());
    wanted.iter().flatten().try_for_each(|topic| check_topic_name(topic)).map_err(VerifyError::Topic)?;
    let figures = figures_of.map(Figures::new);
    let mut found = Verification { folders: folders.clone(), figures, ..Verification::default() };

    let (origins, survey, faults) = {
        let (folders, wanted) = (folders, wanted.clone());
        blocking(move || {
            let origins = origin::look(&folders)?;
            let mut faults = Faults::default();
            let survey = Survey::take(&folders, wanted.as_ref(), &mut faults)?;
            Ok((origins, survey, faults))
        })
        .await?
    };
    found.faults = faults;
    let mut partitions: BTreeSet<PartitionId> = survey.partitions().cloned().collect();
    let topics = match kafka {
        Some(kafka) => {
            let topics = tokio::select! {
                biased;
                () = stop.cancelled() => return Err(VerifyError::Stopped),
                topics = Topics::connect(&kafka, (isolation, budget), &origins, wanted.as_ref(), &partitions) => topics?,
            };
            found.cluster_id = Some(topics.cluster_id().to_owned());
            partitions.extend(topics.partitions().cloned());
            Some(Arc::new(topics))
        }
        None => None,
    };
    let check = Check { survey: Arc::new(survey), topics, figures_of, stop };
    check.all(partitions, &mut found).await?;
    Ok(found)
}

/// What all partitions are checked with.
#[derive(Clone)]
struct Check {
    survey: Arc<Survey>,
    /// None checks the files by themselves.
    topics: Option<Arc<Topics>>,
    figures_of: Option<u128>,
    stop: CancellationToken,
}

impl Check {
    /// Checks partitions side by side, and adds what is found of them in their order.
    async fn all(&self, partitions: BTreeSet<PartitionId>, found: &mut Verification) -> Result<(), VerifyError> {
        let at_once = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_AT_ONCE);
        let mut waiting = partitions.into_iter().enumerate();
        let mut running = JoinSet::new();
        let mut done: BTreeMap<usize, Verification> = BTreeMap::new();
        let mut next = 0;
        loop {
            while running.len() < at_once
                && let Some((index, partition)) = waiting.next()
            {
                let check = self.clone();
                running.spawn(async move { (index, check.one(partition).await) });
            }
            let Some(ended) = running.join_next().await else { return Ok(()) };
            match ended {
                Ok((index, checked)) => {
                    done.insert(index, checked?);
                }
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            }
            while let Some(checked) = done.remove(&next) {
                found.append(checked);
                next += 1;
            }
        }
    }

    async fn one(self, partition: PartitionId) -> Result<Verification, VerifyError> {
        let Self { survey, topics, figures_of, stop } = self;
        match topics {
            Some(topics) => topics.check(survey, partition, figures_of, stop).await,
            None => blocking(move || walk::walk(&survey, &partition, None, figures_of, &stop)).await,
        }
    }
}

/// Does something that blocks, off the threads that everything else runs on. A panic in it goes on in the caller.
async fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, VerifyError> + Send + 'static,
) -> Result<T, VerifyError> {
    match tokio::task::spawn_blocking(operation).await {
        Ok(result) => result,
        Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
        // The runtime is being shut down.
        Err(_) => Err(VerifyError::Stopped),
    }
}
