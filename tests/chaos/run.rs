//! A run: the load goes on while faults come and go, then all is healed, and everything must come to rest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use superhero_kafka::readiness::{ReadinessConfig, wait_ready};
use superhero_kafka::{Cluster, LagMeter};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cluster::{NODES, Services};
use super::disk::Disk;
use super::fleet::{BOTS, Fleet, Recipe, Role, SERVERS, WORKERS};
use super::inject::{Undo, Undone};
use super::others::{self, Others};
use super::plan::{Fault, Injection, plan};
use super::settings::{Folders, Settings};
use super::verdict::Verdict;
use super::witness::{Testimony, Witness};
use crate::process::eventually;

/// The simulator's topics, and the one of others.
pub const TOPICS: [&str; 4] = ["client.__main__", "lib.server.lobby", GAME_TOPIC, others::TOPIC];
/// The busiest of them.
pub const GAME_TOPIC: &str = "lib.server.game";
/// Of each of the simulator's topics.
pub const PARTITIONS: i32 = 4;
/// Until the workers have published what there is, once nothing is wrong any more.
const REST_DEADLINE: Duration = Duration::from_secs(180);
/// The load has begun by then.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Worker 0 and server 0 are killed by nobody: their memory tells.
const WITNESS: usize = 0;
/// A fault that is not over when it should be is looked at again after so long a time.
const AGAIN: Duration = Duration::from_millis(500);
/// The worker with a disk of its own, where folders are not shared.
const DISK_WORKER: usize = 2;

pub struct Run<'a> {
    pub settings: &'a Settings,
    pub services: Arc<Services>,
    pub fleet: Fleet,
    pub others: Others,
    pub disk: Option<Disk>,
    /// What goes on beside the faults; nothing of it may fail. A chore that was to make a fault says which it has made.
    pub chores: JoinSet<Result<Option<Fault>>>,
    /// How often each fault has happened: not those that the cluster was in no state for.
    pub happened: BTreeMap<Fault, u64>,
    /// Faults that this machine cannot have, and why.
    pub skipped: BTreeMap<Fault, String>,
    started: Instant,
}

/// A fault that did not happen: it comes again so much later, so often at the most.
const AGAIN_MISSED: Duration = Duration::from_secs(2);
const MAX_MISSED: u32 = 30;

/// A fault that the cluster was in no state for, and when it comes again.
#[derive(Clone, Copy, Debug)]
struct Missed {
    at: Duration,
    number: usize,
    injection: Injection,
    times: u32,
}

/// When a fault is over, in an order of their own for those that are over at the same time.
type End = (Duration, usize);

impl<'a> Run<'a> {
    /// Starts services and the load.
    pub async fn start(settings: &'a Settings) -> Result<Self> {
        let services = Arc::new(Services::start().await?);
        for (topics, partitions) in [(&TOPICS[..3], PARTITIONS), (&TOPICS[3..], others::PARTITIONS)] {
            let topics: Vec<_> = topics.iter().map(|topic| (*topic).to_owned()).collect();
            let ready = ReadinessConfig {
                partitions,
                replication_factor: NODES as i16,
                timeout: START_DEADLINE,
                ..ReadinessConfig::new(topics)
            };
            wait_ready(&services.kafka, &ready).await?;
        }
        let recipe = Recipe::new(settings, &services.bootstrap, &services.redis_port, &TOPICS)?;
        let mut skipped = BTreeMap::new();
        let mut skip = |fault: Fault, reason: String| {
            println!("SKIPPED {}: {reason}", fault.name());
            skipped.insert(fault, reason);
        };
        let on_disk = &recipe.folders[if settings.folders == Folders::Shared { 0 } else { DISK_WORKER }];
        let disk = match Disk::mount(on_disk, settings.length) {
            Ok(disk) => Some(disk),
            Err(error) => {
                skip(Fault::DiskFull, format!("no file system can be mounted: {error:#}"));
                None
            }
        };
        if recipe.clock.is_none() {
            skip(Fault::ClockJump, "libfaketime is not installed (Debian: faketime)".to_owned());
        }
        let mut fleet = Fleet::new(recipe);
        for number in 0..SERVERS {
            fleet.start(Role::Server(number))?;
            fleet.listens(number).await?;
        }
        for number in 0..WORKERS {
            fleet.start(Role::Worker(number))?;
        }
        for number in 0..BOTS {
            fleet.start(Role::Bots(number))?;
        }
        let mut run = Self {
            settings,
            services,
            fleet,
            others: Others::default(),
            disk,
            chores: JoinSet::new(),
            happened: BTreeMap::new(),
            skipped,
            started: Instant::now(),
        };
        run.rows_are_published().await?;
        run.started = Instant::now();
        Ok(run)
    }

    async fn rows_are_published(&mut self) -> Result<()> {
        let folders = self.fleet.recipe.folders.clone();
        eventually("the first rows are published", START_DEADLINE, async || {
            self.fleet.check()?;
            Ok(folders.iter().any(|folder| folder.join(format!("superhero/raw/topic={GAME_TOPIC}")).exists()))
        })
        .await
    }

    /// Lets the faults happen, heals, stops, and judges.
    pub async fn play(mut self) -> Result<Verdict> {
        let witnesses = [Role::Server(WITNESS), Role::Worker(WITNESS)];
        let witnesses: Vec<_> = witnesses
            .into_iter()
            .map(|role| Ok(Witness::of(&role.to_string(), self.fleet.pid(role)?)))
            .collect::<Result<_>>()?;
        let Settings { seed, length, faults, lasting, .. } = self.settings;
        let wanted: Vec<_> = faults.iter().copied().filter(|fault| !self.skipped.contains_key(fault)).collect();
        let mut injections = plan(*seed, *length, &wanted, *lasting).into_iter().enumerate().peekable();
        let mut missed: VecDeque<Missed> = VecDeque::new();
        let mut ends: BinaryHeap<Reverse<End>> = BinaryHeap::new();
        let mut active: BTreeMap<usize, (Fault, Undo)> = BTreeMap::new();
        loop {
            let next = injections.peek().map(|(_, injection)| injection.at);
            let end = ends.peek().map(|Reverse((at, _))| *at);
            let again = missed.front().map(|missed| missed.at);
            let Some(at) = next.into_iter().chain(end).chain(again).min() else { break };
            tokio::time::sleep_until(self.started + at).await;
            self.fleet.check()?;
            while let Some(done) = self.chores.try_join_next() {
                self.happened(done??);
            }
            if end == Some(at) {
                let Some(Reverse((_, number))) = ends.pop() else { continue };
                let Some((fault, undo)) = active.get(&number) else { continue };
                let undone = self.undo(undo).await.with_context(|| format!("after {}", fault.name()))?;
                match undone {
                    Undone::Yes => drop(active.remove(&number)),
                    Undone::NotYet => ends.push(Reverse((self.started.elapsed() + AGAIN, number))),
                }
            } else {
                let now = self.started.elapsed();
                let due = match missed.pop_front_if(|missed| missed.at == at) {
                    Some(missed) => missed,
                    None => {
                        let Some((number, injection)) = injections.next() else { continue };
                        Missed { at, number, injection, times: 0 }
                    }
                };
                let Missed { number, injection, times, .. } = due;
                let fault = injection.fault;
                let later = |times| Missed { at: now + AGAIN_MISSED, number, injection, times };
                if times > 0 && active.values().any(|(other, _)| other.shares_lane(fault)) {
                    missed.push_back(later(times));
                    continue;
                }
                self.tell(&format!("{} for {:.1} s", fault.name(), injection.lasts.as_secs_f64()));
                match self.begin(injection).await.with_context(|| format!("injecting {}", fault.name()))? {
                    Undo::Missed if times < MAX_MISSED => missed.push_back(later(times + 1)),
                    undo => {
                        active.insert(number, (fault, undo));
                        ends.push(Reverse((now.max(at) + injection.lasts, number)));
                    }
                }
            }
        }
        tokio::time::sleep_until(self.started + *length).await;
        self.rest().await?;
        let testimonies = witnesses.iter().map(Witness::testify).collect();
        self.judge(testimonies).await
    }

    pub fn happened(&mut self, fault: Option<Fault>) {
        if let Some(fault) = fault {
            *self.happened.entry(fault).or_default() += 1;
        }
    }

    fn tell(&self, what: &str) {
        println!("{:7.1} s  {what}", self.started.elapsed().as_secs_f64());
    }

    /// Stops in the order of flow, and lets the workers publish what there is.
    async fn rest(&mut self) -> Result<()> {
        self.tell("healed; coming to rest");
        while let Some(done) = self.chores.join_next().await {
            self.happened(done??);
        }
        self.fleet.all_have_left().await?;
        for number in 0..BOTS {
            self.fleet.ask_to_leave(Role::Bots(number))?;
            self.fleet.has_left(Role::Bots(number)).await?;
        }
        let topics = TOPICS.map(str::to_owned);
        let timeout = REST_DEADLINE;
        let ready = ReadinessConfig { timeout, replication_factor: NODES as i16, ..ReadinessConfig::new(topics) };
        wait_ready(&self.services.kafka, &ready).await.context("the cluster serves again")?;
        let services = self.services.clone();
        eventually("all replicas are in sync again", REST_DEADLINE, async || Ok(services.is_whole(&TOPICS).await))
            .await?;
        let told = self.fleet.told;
        for number in 0..SERVERS {
            self.fleet.ask_to_leave(Role::Server(number))?;
            self.fleet.has_left(Role::Server(number)).await?;
        }
        ensure!(self.fleet.told == told, "a server could not deliver everything, though the cluster is whole");
        let left = std::fs::read_dir(&self.fleet.recipe.spool)?.collect::<std::io::Result<Vec<_>>>()?;
        ensure!(left.iter().all(|file| file.file_name() == "lock"), "the spool is not empty: {left:?}");
        let cluster = Cluster::connect(&self.services.kafka, Instant::now() + START_DEADLINE).await?;
        let mut lag = LagMeter::new(cluster, superhero_worker::DEFAULT_GROUP, TOPICS);
        let began = Instant::now();
        eventually("the workers have published everything", REST_DEADLINE, async || {
            self.fleet.check()?;
            Ok(lag.look().await.is_ok_and(|lag| lag.records() == 0))
        })
        .await?;
        self.tell(&format!("published {:.1} s after the last event", began.elapsed().as_secs_f64()));
        for number in 0..WORKERS {
            self.fleet.ask_to_leave(Role::Worker(number))?;
        }
        for number in 0..WORKERS {
            self.fleet.has_left(Role::Worker(number)).await?;
        }
        // What the killed have left in a folder goes when somebody owns their partitions there.
        let folders = if self.settings.folders == Folders::Shared { 1 } else { WORKERS + 1 };
        for number in 0..folders {
            self.fleet.sweep(number).await?;
        }
        self.others.delete_again(&self.services).await
    }

    async fn judge(self, testimonies: Vec<Testimony>) -> Result<Verdict> {
        let mut folders = self.fleet.recipe.folders.clone();
        folders.dedup();
        Verdict::of(&self, folders, testimonies).await
    }
}
