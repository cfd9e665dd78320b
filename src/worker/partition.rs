//! The task of one partition in one generation of the group: fetch ▶ dedupe ▶ handlers ▶ sink ▶ commit ▶ publish ▶ clean.
//!
//! The sink says what comes next ([`Step`]); this task does it. Nothing here decides whether rows count: that is the
//! sink's state machine and the group's answer to its commit.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use superhero_game::GameToken;
use superhero_kafka::group::{Committer, GenerationId};
use superhero_kafka::{Cluster, TopicPartition};
use superhero_sink::{CommitAnswer, CommitRequest, Folder, FolderError, Membership, PartitionSink, SinkError, Step};
use superhero_store::GameStore;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{debug, error, warn};

use crate::backoff::Backoff;
use crate::fetch::{FetchAhead, Fetched, Fetcher};
use crate::summary::{Summary, Totals};
use crate::writer::{Stop, Writer};
use crate::{WorkerConfig, commit, games, recover};

/// How often a segment's age is looked at; rotation by age is late by no more.
const SEAL_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// A topic that is deleted and made again while nothing is sealed is noticed within this time.
const TOPIC_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// So long a partition that is to be given up still waits for a store that does not answer.
pub(crate) const CLEAN_GRACE: Duration = Duration::from_secs(3);

/// What the tasks of all partitions share.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    pub(crate) config: WorkerConfig,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) folder: Folder,
    pub(crate) store: S,
    pub(crate) totals: Totals,
}

/// What the owner of the partitions wants of their tasks; it only ever becomes more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Go on.
    Hold,
    /// Finish: seal, commit, publish, end.
    Release,
    /// The assignment is not ours any more: end without committing.
    Lost,
}

/// The part of a partition's state that outlives a generation when its last commit is undecided.
pub(crate) struct Holding {
    pub(crate) sink: PartitionSink,
    sealed: Option<Sealed>,
}

/// A segment that is not known to be published.
struct Sealed {
    /// The offset after its last.
    next: i64,
    tally: Summary,
    /// To be cleaned once their rows are published.
    games: Vec<GameToken>,
}

impl Holding {
    pub(crate) fn new(sink: PartitionSink) -> Self {
        Self { sink, sealed: None }
    }
}

/// What the group knows of the partition in this generation.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) member: GenerationId,
    pub(crate) owner: bool,
    pub(crate) committed: Option<i64>,
    pub(crate) metadata: String,
    /// Of the topic, as the folder has accepted it.
    pub(crate) topic_id: String,
    /// Where to end; none: never.
    pub(crate) target: Option<i64>,
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Given up in good order, or taken away.
    Given,
    /// Everything up to the target is published.
    Reached,
    /// No commit of this generation is to be sent any more; the group is to be joined anew.
    Rejoin,
    /// It cannot go on without a human being.
    Failed(PartitionError),
}

/// Why a partition cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartitionError {
    /// Its rows cannot be written, published or recovered.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The topic is not the one whose rows lie in the folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The topic is gone.
    #[error("the topic {topic} was deleted while it was read")]
    TopicDeleted {
        /// Its name.
        topic: String,
    },
}

/// What is left of a task.
pub(crate) struct Ended {
    pub(crate) source: TopicPartition,
    pub(crate) end: End,
    /// Kept while it is not decided whether its last segment is committed.
    pub(crate) undecided: Option<Box<Holding>>,
    /// Whether the task has published anything.
    pub(crate) progress: bool,
}

pub(crate) struct PartitionTask<S> {
    shared: Arc<Shared<S>>,
    source: TopicPartition,
    joined: Joined,
    committer: Committer,
    phase: watch::Receiver<Phase>,
    /// Away only while a file operation has it.
    holding: Option<Box<Holding>>,
    fetch: Option<FetchAhead>,
    writer: Writer,
    /// What is written when the partition is given up has been sealed.
    finishing: bool,
    reached: bool,
    progress: bool,
    /// The store did not answer in time: whoever comes next cleans what the metadata still names.
    uncleaned: bool,
    topic_checked: Instant,
    /// Between attempts at the disk or at a commit.
    backoff: Backoff,
}

impl<S: GameStore> PartitionTask<S> {
    pub(crate) fn new(
        shared: Arc<Shared<S>>,
        committer: Committer,
        source: TopicPartition,
        joined: Joined,
        holding: Box<Holding>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self {
            writer: Writer::new(source.clone(), shared.cluster.clone(), shared.config.fetch.clone()),
            shared,
            source,
            joined,
            committer,
            phase,
            holding: Some(holding),
            fetch: None,
            finishing: false,
            reached: false,
            progress: false,
            uncleaned: false,
            topic_checked: Instant::now(),
            backoff: Backoff::default(),
        }
    }

    /// Holds the partition until it is given up, taken away, or fails.
    ///
    /// # Cancellation
    /// As a crash: what is not sealed is thrown away, what is sealed is decided by whoever comes next.
    pub(crate) async fn run(mut self) -> Ended {
        let end = self.steps().await.unwrap_or_else(End::Failed);
        self.goes_on();
        let undecided = self.holding.take().filter(|holding| holding.sink.is_undecided());
        Ended { source: self.source, end, undecided, progress: self.progress }
    }

    async fn steps(&mut self) -> Result<End, PartitionError> {
        let named = recover::named_here(&self.shared.folder, &self.joined.metadata)?;
        for segment in recover::named_elsewhere(&self.shared.folder, &self.joined.metadata)? {
            warn!(
                partition = %self.source, %segment,
                "committed rows wait in another folder: start a worker on it, which publishes them"
            );
        }
        // What was undecided is ours to count only if it was committed, whoever publishes it.
        let writer = self.shared.folder.writer();
        let committed =
            |sealed: &mut Sealed| named.iter().any(|known| known.writer == writer && known.next == sealed.next);
        self.holding_mut().sealed.take_if(|sealed| !committed(sealed));
        let joined = self.joined.clone();
        let mut step = self
            .on_disk(move |sink| {
                let Joined { member, owner, committed, metadata, .. } = &joined;
                let generation = member.generation();
                sink.joined(Membership { generation, owner: *owner, committed: *committed, metadata })
            })
            .await?;
        self.clean_what_a_crash_left().await;
        loop {
            self.settle(&step).await;
            step = match step {
                Step::Write => self.write().await?,
                Step::Commit(request) => match self.commit(request).await {
                    Some(answer) => self.on_disk(move |sink| sink.answered(answer)).await?,
                    None => return self.lose().await,
                },
                Step::Retry(error) => {
                    error!(partition = %self.source, %error, "committed rows cannot be published now; trying again");
                    self.waits(|source| format!("committed rows of {source} wait to be published: {error}"));
                    if self.pause_unless(Phase::Lost).await {
                        return self.lose().await;
                    }
                    let retried = self.on_disk(PartitionSink::retry).await?;
                    if !matches!(retried, Step::Retry(_)) {
                        self.goes_on();
                    }
                    retried
                }
                Step::Rejoin { .. } => return Ok(End::Rejoin),
                Step::Idle if self.reached => return Ok(End::Reached),
                Step::Idle => return Ok(End::Given),
            };
        }
    }

    async fn lose(&mut self) -> Result<End, PartitionError> {
        let _ = self.on_disk(PartitionSink::lost).await?;
        Ok(End::Given)
    }

    /// Writes until something is to be done about it: the segment is sealed, or the partition is given up.
    async fn write(&mut self) -> Result<Step, PartitionError> {
        let mut seal_checks = tokio::time::interval(SEAL_CHECK_INTERVAL);
        seal_checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let phase = *self.phase.borrow_and_update();
            match phase {
                Phase::Hold => {}
                Phase::Release => return self.finish().await,
                Phase::Lost => return Ok(self.on_disk(PartitionSink::lost).await?),
            }
            let holding = self.holding.as_mut().expect("no file operation has it");
            match self.writer.append(&mut holding.sink, &self.shared.store, &mut self.phase).await {
                Ok(()) => {}
                Err(Stop::Full) => return self.seal().await,
                Err(Stop::Interrupted) => continue,
                Err(Stop::Failed(error)) => {
                    self.start_over(error).await?;
                    continue;
                }
            }
            let next = self.sink().next_offset();
            if self.joined.target.is_some_and(|target| next.is_some_and(|next| next >= target)) {
                self.reached = true;
                return self.finish().await;
            }
            if self.sink().should_seal(Instant::now()) {
                return self.seal().await;
            }
            let mut fetch = self.fetch.take().unwrap_or_else(|| {
                let Shared { cluster, config, .. } = &*self.shared;
                FetchAhead::new(Fetcher::new(cluster.clone(), self.source.clone(), config.fetch.clone(), next))
            });
            if let Some(fetched) = self.fetched(pin!(fetch.next()), &mut seal_checks).await? {
                self.writer.take(fetched);
            }
            self.fetch = Some(fetch);
        }
    }

    /// What comes next; none if the segment is to be sealed first, or the owner wants something.
    ///
    /// Looks after the time all the while, and never lets go of `next` for that: it would lose its place among those who wait for memory.
    async fn fetched(
        &mut self,
        mut next: Pin<&mut (impl Future<Output = Fetched> + Send)>,
        seal_checks: &mut Interval,
    ) -> Result<Option<Fetched>, PartitionError> {
        loop {
            tokio::select! {
                biased;
                _ = self.phase.changed() => return Ok(None),
                fetched = &mut next => return Ok(Some(fetched)),
                _ = seal_checks.tick() => {}
            }
            self.writer.tidy();
            if self.sink().should_seal(Instant::now()) {
                return Ok(None);
            }
            if self.topic_checked.elapsed() >= TOPIC_CHECK_INTERVAL {
                self.check_topic().await?;
            }
        }
    }

    /// Seals what is written, and begins its commit.
    async fn seal(&mut self) -> Result<Step, PartitionError> {
        self.check_topic().await?;
        let files = self.sink().fill().files as u64;
        let next = self.sink().next_offset().unwrap_or_default();
        match self.on_disk(PartitionSink::seal).await {
            Ok(step) => {
                self.backoff.reset();
                self.goes_on();
                let (tally, games) = self.writer.sealed();
                self.holding_mut().sealed = Some(Sealed { next, tally: Summary { files, ..tally }, games });
                Ok(step)
            }
            Err(error) => {
                self.start_over(error).await?;
                Ok(Step::Write)
            }
        }
    }

    /// Gives the partition up: first what is written is sealed and published, then its name is taken back.
    async fn finish(&mut self) -> Result<Step, PartitionError> {
        self.fetch = None;
        if !std::mem::replace(&mut self.finishing, true) {
            return self.seal().await;
        }
        let give_up = if self.uncleaned { PartitionSink::lost } else { PartitionSink::released };
        Ok(self.on_disk(give_up).await?)
    }

    /// The disk has failed: nothing is taken for a while, and then what was not sealed is fetched again.
    async fn start_over(&mut self, error: SinkError) -> Result<(), PartitionError> {
        if error.stops_partition() {
            return Err(error.into());
        }
        self.fetch = None;
        self.writer.start_over();
        self.reached = false;
        // A partition that is given up is, without what could not be written.
        self.finishing &= *self.phase.borrow() != Phase::Hold;
        let offset = self.on_disk(PartitionSink::resume).await?;
        error!(
            partition = %self.source, %error, offset,
            "rows cannot be written now; the partition takes no records until they can, and then goes on at this offset"
        );
        self.waits(|source| format!("rows of {source} cannot be written: {error}"));
        self.pause_unless(Phase::Release).await;
        Ok(())
    }

    /// Tells whoever runs the worker that the partition waits for the disk.
    fn waits(&self, reason: impl FnOnce(&TopicPartition) -> String) {
        self.shared.config.troubles.begin(self.source.to_string(), || reason(&self.source));
    }

    fn goes_on(&self) {
        self.shared.config.troubles.end(&self.source.to_string());
    }

    /// Sends a commit and waits for its answer; none if the assignment is lost meanwhile.
    async fn commit(&mut self, request: CommitRequest) -> Option<CommitAnswer> {
        if request.generation != self.joined.member.generation() {
            error!(partition = %self.source, generation = request.generation, "a commit of another generation is not sent");
            return None;
        }
        if request.sent_before > 0 && self.pause_unless(Phase::Lost).await {
            return None;
        }
        let answer = tokio::select! {
            biased;
            _ = self.phase.wait_for(|phase| *phase == Phase::Lost) => return None,
            answer = commit::send(&self.committer, &self.joined.member, &self.source, &request) => answer,
        };
        if answer == CommitAnswer::Accepted {
            self.backoff.reset();
        }
        Some(answer)
    }

    /// Refuses a topic that is not the one that the rows are of.
    async fn check_topic(&mut self) -> Result<(), PartitionError> {
        self.topic_checked = Instant::now();
        let topic = &self.source.topic;
        let metadata = match self.shared.cluster.metadata().await {
            Ok(metadata) => metadata,
            Err(error) => {
                debug!(partition = %self.source, %error, "the topic's id cannot be asked for");
                return Ok(());
            }
        };
        match metadata.topics.get(topic).map(|known| known.id.to_string()) {
            Some(id) if id == self.joined.topic_id => Ok(()),
            Some(id) => Ok(check_topic(&self.shared.folder, topic, &id).await?),
            None => Err(PartitionError::TopicDeleted { topic: topic.clone() }),
        }
    }

    /// Counts what is published by now, and cleans its games.
    async fn settle(&mut self, step: &Step) {
        let holding = self.holding_mut();
        if holding.sink.is_undecided() || matches!(step, Step::Retry(_) | Step::Commit(_)) {
            return;
        }
        let Some(Sealed { next, tally, games }) = holding.sealed.take() else { return };
        let published = holding.sink.published_next().is_some_and(|published| published >= next);
        // A commit without rows publishes nothing; it is accepted when there is something to write again.
        if published || matches!(step, Step::Write | Step::Idle) {
            self.progress |= tally != Summary::default();
            self.shared.totals.add(tally);
            self.clean(games).await;
        }
    }

    /// What the metadata names may have been published by now only, or by somebody who crashed before cleaning its games.
    async fn clean_what_a_crash_left(&mut self) {
        if self.shared.config.game_expiry.is_none() || !self.joined.owner {
            return;
        }
        let (folder, source, metadata) =
            (self.shared.folder.clone(), self.source.clone(), self.joined.metadata.clone());
        match blocking(move || recover::games_named(&folder, &source, &metadata)).await {
            Ok(games) => self.clean(games).await,
            Err(error) => {
                warn!(partition = %self.source, %error, "games of recovered rows cannot be read; they stay in the store");
            }
        }
    }

    /// Waits for the store as long as the partition is ours, and not much longer.
    async fn clean(&mut self, games: Vec<GameToken>) {
        let Some(expiry) = self.shared.config.game_expiry else { return };
        let given_up = async {
            // An owner that is gone has dropped this task as well.
            let _ = self.phase.wait_for(|phase| *phase != Phase::Hold).await;
            tokio::time::sleep(CLEAN_GRACE).await;
        };
        tokio::select! {
            () = games::clean(&self.shared.store, &self.source, &games, expiry) => {}
            () = given_up => {
                self.uncleaned = true;
                warn!(partition = %self.source, "games are left to be cleaned by the partition's next owner on this folder");
            }
        }
    }

    /// Pauses as the series of troubles demands; true if the phase has come by then, at once if it has.
    async fn pause_unless(&mut self, urgent: Phase) -> bool {
        let come = self.phase.wait_for(|phase| *phase >= urgent);
        tokio::time::timeout(self.backoff.pause(), come).await.is_ok()
    }

    /// Does something with the sink that may block.
    async fn on_disk<T: Send + 'static>(
        &mut self,
        operation: impl FnOnce(&mut PartitionSink) -> T + Send + 'static,
    ) -> T {
        let mut holding = self.holding.take().expect("one file operation at a time");
        let (holding, result) = blocking(move || {
            let result = operation(&mut holding.sink);
            (holding, result)
        })
        .await;
        self.holding = Some(holding);
        result
    }

    fn sink(&self) -> &PartitionSink {
        &self.holding.as_ref().expect("no file operation has it").sink
    }

    fn holding_mut(&mut self) -> &mut Holding {
        self.holding.as_mut().expect("no file operation has it")
    }
}

/// As [`Folder::check_topic`], which blocks.
pub(crate) async fn check_topic(folder: &Folder, topic: &str, id: &str) -> Result<(), FolderError> {
    let (folder, topic, id) = (folder.clone(), topic.to_owned(), id.to_owned());
    blocking(move || folder.check_topic(&topic, &id)).await
}

/// Does something that may block, off the threads that everything else runs on. A panic in it goes on in the caller.
pub(crate) async fn blocking<T: Send + 'static>(operation: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(operation).await {
        Ok(result) => result,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}
