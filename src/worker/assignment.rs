//! The loop that owns the membership and the partitions: what the group says on one side, a task for each partition on the
//! other.
//!
//! ```text
//!  Assigned ─▶ prepare (offsets, topic ids, ends) ─▶ tasks run ─▶ all have ended ─▶ give back, then by goal: stay | rejoin | stop
//!                │ Revoked, Lost: aborted             │ Revoked, rejoin, stop: Phase::Release
//!                                                     │ Lost, or the deadline: Phase::Lost
//! ```
//!
//! Tasks of two assignments never run at the same time: an assignment is begun when the last task of the one before has ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use superhero_kafka::group::{Assignment, Committer, GroupError, GroupEvent, Member, Revocation};
use superhero_kafka::{ClientError, Cluster, TopicPartition};
use superhero_sink::layout::{NameError, check_topic_name};
use superhero_sink::recover::partitions_with_sealed;
use superhero_sink::{Folder, FolderError, PartitionId, PartitionSink};
use superhero_store::GameStore;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::fetch::let_allocator_keep_answers;
use crate::partition::{End, Ended, Holding, PartitionError, PartitionTask, Phase, Shared, blocking};
use crate::prepare::{NotPrepared, Prepared, Target, Wanted, prepare};
use crate::summary::Totals;
use crate::{Summary, WorkerConfig, WorkerError};

/// A partition whose task has panicked so often without publishing anything in between is left alone.
const MAX_PANICS: u32 = 3;
/// Once the assignment is lost, tasks end as soon as their file operation has; longer than any that is not stuck.
const LOST_GRACE: Duration = Duration::from_secs(10);
/// A static member is forgotten by the group when its session has ended, by the coordinator's clock and not by ours.
const SESSION_MARGIN: Duration = Duration::from_secs(3);

/// What is to be done when no task runs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Nothing: the group says what comes next.
    Stay,
    /// Become a member of another generation.
    Rejoin,
    /// Leave the group and end.
    Stop,
}

/// What the loop is told.
enum Event {
    Group(Result<GroupEvent, GroupError>),
    Prepared(Result<Prepared, FolderError>),
    TaskEnded(Result<Ended, JoinError>),
    Shutdown,
    Deadline,
}

struct Owner<S> {
    shared: Arc<Shared<S>>,
    /// Away only while it is changed for another.
    member: Option<Member>,
    committer: Committer,
    /// Told and not yet begun.
    assignment: Option<Assignment>,
    /// At most one.
    preparing: JoinSet<Result<Prepared, FolderError>>,
    tasks: JoinSet<Ended>,
    running: HashMap<Id, TopicPartition>,
    phase: watch::Sender<Phase>,
    /// When tasks that are to end are late.
    deadline: Option<Instant>,
    goal: Goal,
    /// Held until no task runs any more.
    revocation: Option<Revocation>,
    /// Whether the tasks of the present assignment have been started.
    begun: bool,
    undecided: BTreeMap<TopicPartition, Box<Holding>>,
    /// Partitions of which a crash has left something sealed in the folder; looked after once.
    left_behind: BTreeSet<TopicPartition>,
    /// The ends of the partitions as they were when they were first assigned, if that is where to stop.
    targets: BTreeMap<TopicPartition, Target>,
    /// Partitions of ours that were read to an end that is not that of their log, in words.
    waiting: BTreeMap<TopicPartition, String>,
    panics: BTreeMap<TopicPartition, u32>,
    failed: BTreeMap<TopicPartition, String>,
}

pub(crate) async fn run<S: GameStore>(
    config: WorkerConfig,
    store: S,
    shutdown: CancellationToken,
) -> Result<Summary, WorkerError> {
    let mut config = config;
    config.group.topics = archivable(std::mem::take(&mut config.group.topics))?;
    let deadline = Instant::now() + config.connect_timeout;
    let connecting = async {
        let cluster = Cluster::connect(&config.kafka, deadline).await?;
        if config.until_end {
            // Whoever is to come to an end cannot go on trying for ever.
            cluster.reach(&config.group.topics, &config.group.group_id, deadline).await?;
        }
        Ok::<_, ClientError>(cluster)
    };
    let Some(cluster) = shutdown.run_until_cancelled(connecting).await.transpose()? else {
        return Ok(Summary::default());
    };
    let (output_dir, cluster_id) = (config.output_dir.clone(), cluster.metadata().await?.cluster_id);
    let folder = blocking(move || Folder::open(&output_dir, &cluster_id)).await?;
    let opened = folder.clone();
    let left_behind = blocking(move || partitions_with_sealed(&opened)).await?;
    let left_behind = left_behind.iter().map(|id| TopicPartition::new(id.topic(), id.partition())).collect();
    let_allocator_keep_answers();
    let member = Member::join(config.group.clone(), config.kafka.clone())?;
    let root = folder.root().display();
    info!(folder = %root, group = config.group.group_id, topics = config.group.topics.join(","), "the worker starts");
    let shared = Shared { config, cluster: Arc::new(cluster), folder, store, totals: Totals::default() };
    let owner = Owner {
        shared: Arc::new(shared),
        committer: member.committer(),
        member: Some(member),
        assignment: None,
        preparing: JoinSet::new(),
        tasks: JoinSet::new(),
        running: HashMap::new(),
        phase: watch::Sender::new(Phase::Hold),
        deadline: None,
        goal: Goal::Stay,
        revocation: None,
        begun: false,
        undecided: BTreeMap::new(),
        left_behind,
        targets: BTreeMap::new(),
        waiting: BTreeMap::new(),
        panics: BTreeMap::new(),
        failed: BTreeMap::new(),
    };
    owner.run(shutdown).await
}

/// The topics whose names files can have. One that is too long for that is left out, so that the others are taken all the same.
fn archivable(topics: Vec<String>) -> Result<Vec<String>, NameError> {
    let (mut taken, mut too_long) = (Vec::new(), None);
    for topic in topics {
        match check_topic_name(&topic) {
            Ok(()) => taken.push(topic),
            Err(error @ NameError::TooLong { .. }) => {
                error!(topic, %error, "the topic is left out; the others are taken");
                too_long = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match too_long {
        Some(error) if taken.is_empty() => Err(error),
        _ => Ok(taken),
    }
}

impl<S: GameStore> Owner<S> {
    async fn run(mut self, shutdown: CancellationToken) -> Result<Summary, WorkerError> {
        let outcome = self.work(&shutdown).await;
        if outcome.is_err() {
            self.end_tasks(Phase::Lost, Instant::now() + LOST_GRACE);
            let ending = async { while self.tasks.join_next().await.is_some() {} };
            // A file operation that hangs may finish whenever it likes.
            let _ = tokio::time::timeout(LOST_GRACE, ending).await;
        }
        let closed = match self.member.take() {
            Some(member) => member.close().await,
            None => Ok(()),
        };
        outcome?;
        closed?;
        let summary = self.shared.totals.summary();
        info!(%summary, "the worker has ended");
        if !self.failed.is_empty() {
            let partitions = self.failed.iter().map(|(source, reason)| format!("{source}: {reason}")).collect();
            return Err(WorkerError::Partitions { partitions });
        }
        if !self.waiting.is_empty() {
            return Err(WorkerError::Waiting { waiting: std::mem::take(&mut self.waiting).into_values().collect() });
        }
        Ok(summary)
    }

    /// Until there is nothing left to do.
    async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), WorkerError> {
        loop {
            if self.tasks.is_empty() && self.preparing.is_empty() && self.go_on(shutdown).await? {
                return Ok(());
            }
            self.shared.config.monitor.tell(self.trouble());
            match self.next_event(shutdown).await {
                Event::Group(event) => self.group_event(event?),
                Event::Prepared(prepared) => self.begin(prepared?),
                Event::TaskEnded(Ok(ended)) => self.ended(ended)?,
                Event::TaskEnded(Err(failure)) => self.panicked(failure),
                Event::Shutdown => {
                    info!(partitions = self.tasks.len(), "the worker stops: it publishes what it has read");
                    self.goal = Goal::Stop;
                    self.abandon_preparation();
                    self.end_tasks(Phase::Release, Instant::now() + self.shared.config.drain_timeout);
                }
                Event::Deadline => self.overdue()?,
            }
        }
    }

    /// What keeps the worker from reading all that is its own.
    fn trouble(&self) -> Option<String> {
        if self.goal == Goal::Stop {
            return Some("the worker stops".to_owned());
        }
        if !self.begun {
            return Some("the worker waits for its partitions".to_owned());
        }
        let stopped: Vec<_> = self.failed.iter().map(|(source, reason)| format!("{source}: {reason}")).collect();
        (!stopped.is_empty()).then(|| format!("stopped: {}", stopped.join("; ")))
    }

    async fn next_event(&mut self, shutdown: &CancellationToken) -> Event {
        let deadline = self.deadline.filter(|_| !self.tasks.is_empty());
        let member = self.member.as_mut().expect("it is away only while it is changed");
        tokio::select! {
            biased;
            _ = shutdown.cancelled(), if self.goal != Goal::Stop => Event::Shutdown,
            event = member.next_event() => Event::Group(event),
            Some(prepared) = self.preparing.join_next() => match prepared {
                Ok(prepared) => Event::Prepared(prepared),
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            },
            Some(ended) = self.tasks.join_next() => Event::TaskEnded(ended),
            _ = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Event::Deadline,
        }
    }

    /// No task runs: does what was waiting for that. True if it was the end.
    async fn go_on(&mut self, shutdown: &CancellationToken) -> Result<bool, WorkerError> {
        if let Some(revocation) = self.revocation.take() {
            revocation.done();
        }
        match std::mem::replace(&mut self.goal, Goal::Stay) {
            Goal::Stop => return Ok(true),
            Goal::Rejoin => self.join_anew(shutdown).await?,
            Goal::Stay => {}
        }
        if let Some(assignment) = self.assignment.take() {
            self.prepare(assignment);
        }
        Ok(self.shared.config.until_end && self.begun && *self.phase.borrow() == Phase::Hold)
    }

    /// Leaves the group, so that there will be another generation, and joins it again.
    async fn join_anew(&mut self, shutdown: &CancellationToken) -> Result<(), WorkerError> {
        self.assignment = None;
        self.begun = false;
        if let Some(member) = self.member.take() {
            member.close().await?;
        }
        let group = &self.shared.config.group;
        if group.instance_id.is_some() {
            // It does not leave when it is closed, and would be given the same generation again.
            let pause = group.session_timeout.max(LONGEST_RAISED_SESSION) + SESSION_MARGIN;
            let _ = tokio::time::timeout(pause, shutdown.cancelled()).await;
        }
        let member = Member::join(group.clone(), self.shared.config.kafka.clone())?;
        self.committer = member.committer();
        self.member = Some(member);
        Ok(())
    }

    fn group_event(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Assigned(assignment) => self.assignment = Some(assignment),
            GroupEvent::Revoked(revocation) => {
                self.abandon_preparation();
                self.end_tasks(Phase::Release, revocation.deadline());
                self.revocation = Some(revocation);
            }
            GroupEvent::Lost { id, reason } => {
                warn!(%id, %reason, partitions = self.tasks.len(), "the assignment is lost; nothing more is committed under it");
                self.abandon_preparation();
                self.end_tasks(Phase::Lost, Instant::now() + LOST_GRACE);
                self.revocation = None;
            }
        }
    }

    /// Finds out all that the tasks of an assignment have to know, for as long as it takes.
    fn prepare(&mut self, assignment: Assignment) {
        let (shared, committer) = (self.shared.clone(), self.committer.clone());
        let wanted = Wanted {
            assignment,
            undecided: self.undecided.keys().cloned().collect(),
            left_behind: self.left_behind.clone(),
            targets: self.targets.clone(),
        };
        self.preparing.spawn(async move {
            let mut backoff = Backoff::default();
            loop {
                match prepare(&shared, &committer, &wanted).await {
                    Ok(prepared) => return Ok(prepared),
                    Err(NotPrepared::Refused(error)) => return Err(error),
                    Err(NotPrepared::Later(reason)) => {
                        warn!(reason, "the assignment cannot be begun now; trying again");
                        tokio::time::sleep(backoff.pause()).await;
                    }
                }
            }
        });
    }

    fn abandon_preparation(&mut self) {
        self.assignment = None;
        self.preparing = JoinSet::new();
        self.begun = false;
    }

    fn begin(&mut self, prepared: Prepared) {
        let Prepared { id, partitions, targets } = prepared;
        self.phase = watch::Sender::new(Phase::Hold);
        self.deadline = None;
        self.begun = true;
        self.left_behind.clear();
        self.targets = targets;
        for (source, joined) in partitions {
            if self.panics.get(&source).is_some_and(|panics| *panics >= MAX_PANICS) {
                error!(partition = %source, "the partition is left alone: its task has panicked too often");
                continue;
            }
            let holding = self.undecided.remove(&source).unwrap_or_else(|| {
                let partition = PartitionId::new(&source.topic, source.partition);
                let partition = partition.expect("the topics were checked at the start");
                Box::new(Holding::new(PartitionSink::new(&self.shared.folder, partition, self.shared.config.sink)))
            });
            let (shared, committer, phase) = (self.shared.clone(), self.committer.clone(), self.phase.subscribe());
            let task = PartitionTask::new(shared, committer, source.clone(), joined, holding, phase);
            self.running.insert(self.tasks.spawn(task.run()).id(), source);
        }
        info!(%id, partitions = self.tasks.len(), "the partitions of the assignment are read");
    }

    fn ended(&mut self, ended: Ended) -> Result<(), WorkerError> {
        let Ended { source, end, undecided, progress } = ended;
        self.running.retain(|_, running| *running != source);
        if let Some(holding) = undecided {
            self.undecided.insert(source.clone(), holding);
        }
        if progress {
            self.panics.remove(&source);
            self.failed.remove(&source);
        }
        match end {
            End::Given => {}
            End::Reached => {
                info!(partition = %source, "everything up to the end is published");
                if let Some(waiting) = self.targets.get(&source).and_then(|target| target.waiting.clone()) {
                    self.waiting.insert(source, waiting);
                }
            }
            End::Rejoin => self.rejoin(),
            End::Failed(PartitionError::Folder(error)) => return Err(error.into()),
            End::Failed(error) => {
                error!(partition = %source, %error, "the partition has stopped; the others go on");
                self.failed.insert(source, error.to_string());
            }
        }
        Ok(())
    }

    /// A commit of the task may still be on its way, so the partition starts again in another generation only.
    fn panicked(&mut self, failure: JoinError) {
        let Some(source) = self.running.remove(&failure.id()) else { return };
        let panics = self.panics.entry(source.clone()).or_default();
        *panics += 1;
        error!(partition = %source, panics = *panics, %failure, "the task of a partition has panicked");
        if *panics < MAX_PANICS {
            self.rejoin();
        } else {
            self.failed.insert(source, format!("its task has panicked {MAX_PANICS} times: {failure}"));
        }
    }

    fn rejoin(&mut self) {
        if self.goal == Goal::Stay {
            self.goal = Goal::Rejoin;
            self.end_tasks(Phase::Release, Instant::now() + self.shared.config.group.rebalance_timeout);
        }
    }

    /// Tells the tasks to end; what they were told before is only ever made more urgent.
    fn end_tasks(&mut self, phase: Phase, deadline: Instant) {
        let urgent = self.phase.send_if_modified(|known| {
            let urgent = phase > *known;
            *known = phase.max(*known);
            urgent
        });
        let sooner = self.deadline.is_none_or(|known| deadline < known);
        if urgent || (sooner && *self.phase.borrow() == phase) {
            self.deadline = Some(deadline);
        }
    }

    fn overdue(&mut self) -> Result<(), WorkerError> {
        let partitions = self.tasks.len();
        if *self.phase.borrow() != Phase::Lost {
            warn!(
                partitions,
                "partitions were not given up in time; what they have not committed is left to the next owner"
            );
            self.end_tasks(Phase::Lost, Instant::now() + LOST_GRACE);
        } else if self.goal == Goal::Stop {
            let limit_ms = self.shared.config.drain_timeout.as_millis();
            return Err(WorkerError::DrainTimeout { partitions, limit_ms });
        } else {
            error!(partitions, folder = %self.shared.folder.root().display(), "a file operation takes very long; waiting for it");
            self.deadline = Some(Instant::now() + LOST_GRACE);
        }
        Ok(())
    }
}

/// Brokers may raise a session to the least that they allow by default.
const LONGEST_RAISED_SESSION: Duration = Duration::from_secs(6);
