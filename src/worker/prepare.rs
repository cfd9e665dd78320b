//! What has to be known, and done, before the tasks of an assignment can start.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use superhero_kafka::fetch::{BatchFetcher, FetchError};
use superhero_kafka::group::{Assignment, Committed, Committer, GenerationId};
use superhero_kafka::{Isolation, TopicPartition};
use superhero_sink::FolderError;
use superhero_store::GameStore;
use tracing::{error, warn};

use crate::games;
use crate::partition::{CLEAN_GRACE, Joined, Shared, blocking, check_topic};
use crate::recover::{games_named, publish_named_here};

/// What waits while the folder cannot take a topic's id.
const FOLDER: &str = "the folder";

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) assignment: Assignment,
    /// Partitions whose last commit has to be decided, assigned or not.
    pub(crate) undecided: BTreeSet<TopicPartition>,
    /// Partitions of which the folder holds something sealed, assigned or not.
    pub(crate) left_behind: BTreeSet<TopicPartition>,
    /// Ends of partitions that are known already.
    pub(crate) targets: BTreeMap<TopicPartition, Target>,
}

/// Where to end.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) offset: i64,
    /// What there is behind it, in words.
    pub(crate) waiting: Option<String>,
}

/// The answer.
pub(crate) struct Prepared {
    pub(crate) id: GenerationId,
    /// Those that a task has to be started for.
    pub(crate) partitions: Vec<(TopicPartition, Joined)>,
    pub(crate) targets: BTreeMap<TopicPartition, Target>,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum NotPrepared {
    /// It may go well later.
    Later(String),
    /// It must not go on.
    Refused(FolderError),
}

impl NotPrepared {
    fn later(error: impl ToString) -> Self {
        Self::Later(error.to_string())
    }
}

/// Reads offsets, topic ids and ends *after* the generation was joined, and publishes what a crash has left behind.
pub(crate) async fn prepare<S: GameStore>(
    shared: &Shared<S>,
    committer: &Committer,
    wanted: &Wanted,
) -> Result<Prepared, NotPrepared> {
    let Wanted { assignment, undecided, left_behind, targets } = wanted;
    let owned: BTreeSet<_> = assignment.partitions.iter().cloned().collect();
    let topics: BTreeSet<_> = owned.iter().map(|source| source.topic.clone()).collect();
    let ids = topic_ids(shared, &topics).await?;

    let mut targets = targets.clone();
    for topic in topics.iter().filter(|_| shared.config.until_end) {
        if owned.iter().any(|source| source.topic == *topic && !targets.contains_key(source)) {
            let ends = shared.cluster.end_offsets(topic).await.map_err(NotPrepared::later)?;
            for (partition, end) in ends {
                let source = TopicPartition::new(topic, partition);
                // Others' partitions may be ours later, if their owner goes.
                if let Entry::Vacant(unknown) = targets.entry(source) {
                    let found = target(shared, unknown.key(), end).await.map_err(NotPrepared::later)?;
                    unknown.insert(found);
                }
            }
        }
    }

    let mut asked: Vec<_> = owned.union(undecided).cloned().collect();
    asked.extend(left_behind.iter().filter(|source| !owned.contains(source) && !undecided.contains(source)).cloned());
    if asked.is_empty() {
        return Ok(Prepared { id: assignment.id.clone(), partitions: Vec::new(), targets });
    }
    let mut partitions = Vec::new();
    for Committed { partition: source, offset, metadata } in
        committer.fetch(&asked).await.map_err(NotPrepared::later)?
    {
        let owner = owned.contains(&source);
        if !owner && !undecided.contains(&source) {
            publish_left_behind(shared, &source, metadata).await;
            continue;
        }
        let joined = Joined {
            member: assignment.id.clone(),
            owner,
            committed: offset,
            metadata,
            topic_id: ids.get(&source.topic).cloned().unwrap_or_default(),
            target: targets.get(&source).map(|target| target.offset).filter(|_| shared.config.until_end),
        };
        partitions.push((source, joined));
    }
    Ok(Prepared { id: assignment.id.clone(), partitions, targets })
}

/// The end of a partition for whoever reads as the worker does; `end` is that of what is committed.
async fn target<S: GameStore>(shared: &Shared<S>, source: &TopicPartition, end: i64) -> Result<Target, FetchError> {
    let (cluster, fetch) = (&shared.cluster, &shared.config.fetch);
    let mut fetcher = BatchFetcher::new(source.clone(), fetch.isolation, fetch.budget.clone());
    let ends = fetcher.ends(cluster, end).await?;
    if fetch.isolation == Isolation::Uncommitted || ends.is_empty() {
        return Ok(Target { offset: ends.end, waiting: None });
    }
    let offset = ends.start;
    let waiting = fetcher.waiting(cluster, ends).await?;
    warn!(partition = %source, %waiting, "the end of the partition is before an open transaction");
    Ok(Target { offset, waiting: Some(format!("{source}: {waiting}")) })
}

/// The ids of the topics, each of them accepted by the folder.
async fn topic_ids<S: GameStore>(
    shared: &Shared<S>,
    topics: &BTreeSet<String>,
) -> Result<BTreeMap<String, String>, NotPrepared> {
    let metadata = shared.cluster.metadata().await.map_err(NotPrepared::later)?;
    let mut ids = BTreeMap::new();
    for topic in topics {
        let Some(known) = metadata.topics.get(topic) else {
            return Err(NotPrepared::Later(format!("the topic {topic} is assigned and does not exist")));
        };
        let id = known.id.to_string();
        match check_topic(&shared.folder, topic, &id).await {
            Ok(()) => {}
            Err(error @ FolderError::Unwritable { .. }) => {
                shared.config.troubles.begin(FOLDER.to_owned(), || error.to_string());
                return Err(NotPrepared::later(error));
            }
            Err(error) => return Err(NotPrepared::Refused(error)),
        }
        ids.insert(topic.clone(), id);
    }
    shared.config.troubles.end(FOLDER);
    Ok(ids)
}

/// Publishes what was committed by a worker that crashed before it could; the partition's owner may be on another host.
async fn publish_left_behind<S: GameStore>(shared: &Shared<S>, source: &TopicPartition, metadata: String) {
    let (folder, partition) = (shared.folder.clone(), source.clone());
    let published = blocking(move || {
        publish_named_here(&folder, &partition, &metadata)?;
        games_named(&folder, &partition, &metadata)
    });
    let games = match published.await {
        Ok(games) => games,
        Err(error) => {
            error!(partition = %source, %error, "committed rows that a crash has left in this folder cannot be published");
            return;
        }
    };
    if let Some(expiry) = shared.config.game_expiry {
        let cleaning = games::clean(&shared.store, source, &games, expiry);
        if tokio::time::timeout(CLEAN_GRACE, cleaning).await.is_err() {
            warn!(partition = %source, "games of recovered rows are not cleaned, since the store does not answer");
        }
    }
}
