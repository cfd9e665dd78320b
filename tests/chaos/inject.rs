//! How each fault is made, and how it is undone. Nothing here waits for a cluster that may be away: what may take long is a chore.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kafka_protocol::messages::ApiKey;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::time::Instant;

use super::cluster::{NODES, Services};
use super::fleet::{BOTS, GUEST, Role, SERVERS, WORKERS};
use super::others;
use super::plan::{Fault, Injection};
use super::proxy::{Rules, Side};
use super::run::{GAME_TOPIC, PARTITIONS, Run};
use crate::process::Signal;

/// What producers and consumers may have while they are throttled.
const THROTTLED_BYTES_PER_SECOND: f64 = 100_000.0;
const DELAY: Duration = Duration::from_millis(100);
/// Answers that are lost at the most, each time.
const LOST_ANSWERS: u32 = 5;
/// So long an answer is waited for that can be lost.
const LOSE_PATIENCE: Duration = Duration::from_secs(60);
/// So long an order is given again that the cluster is in no state for, and after such a pause.
const ORDER_PATIENCE: Duration = Duration::from_secs(30);
const ORDER_PAUSE: Duration = Duration::from_millis(500);
/// Clocks jump by so much, to and fro.
const JUMPS_SECONDS: [i64; 4] = [3_600, -3_600, 40 * 86_400, -2];
/// Files that a worker may open when it may open none: what is open stays open.
const NO_DESCRIPTORS: u64 = 3;
/// So long a look for a leader may hold the others up.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// What ends a fault.
#[derive(Clone, Debug)]
pub enum Undo {
    /// It is over by itself.
    Nothing,
    /// It did not happen: the cluster was in no state for it.
    Missed,
    Start(Role),
    /// It was asked to stop.
    StartOnceGone(Role),
    Leave(Role),
    Continue(Vec<Role>),
    StartNodes(Vec<usize>),
    ContinueNode(usize),
    StartRedis,
    FreeDisk,
    Descriptors {
        pid: u32,
        limit: u64,
    },
    Throttle,
    Delay,
    Release,
    /// Once an answer is lost: with a leader away none comes for a while. Not after `until`.
    LoseNoMore {
        fault: Fault,
        api: ApiKey,
        until: Instant,
    },
    SetClock,
}

/// Whether a fault has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    Yes,
    /// Ask again later.
    NotYet,
}

impl Run<'_> {
    /// Makes a fault, and counts it if it happens at once.
    pub async fn begin(&mut self, injection: Injection) -> Result<Undo> {
        let undo = self.make(injection).await?;
        let happened = match (&undo, injection.fault) {
            (Undo::Missed, _) | (Undo::LoseNoMore { .. }, _) => false,
            (Undo::StartNodes(nodes), _) => !nodes.is_empty(),
            // Orders tell when they are carried out.
            (_, Fault::MoveCoordinator | Fault::OldView | Fault::ForeignRecords | Fault::GrowTopic) => false,
            _ => true,
        };
        self.happened(happened.then_some(injection.fault));
        Ok(undo)
    }

    async fn make(&mut self, injection: Injection) -> Result<Undo> {
        let Injection { fault, pick, lasts, .. } = injection;
        let among = |count: usize| (pick % count as u64) as usize;
        let node = among(NODES);
        // The first of each is the witness, and spared by whatever ends a process.
        let worker = Role::Worker(1 + among(WORKERS - 1));
        let server = Role::Server(1 + among(SERVERS - 1));
        Ok(match fault {
            Fault::KillWorker => self.kill(worker).await?,
            Fault::KillServer => self.kill(server).await?,
            Fault::KillBots => self.kill(Role::Bots(among(BOTS))).await?,
            Fault::Zombie => self.stand_still(vec![Role::Worker(among(WORKERS))])?,
            Fault::JoinWorker => {
                self.fleet.start(Role::Worker(GUEST))?;
                Undo::Leave(Role::Worker(GUEST))
            }
            Fault::LeaveWorker => self.ask_to_leave(worker)?,
            Fault::RestartServer => self.ask_to_leave(server)?,
            Fault::Retention => {
                let undo = self.stand_still((0..WORKERS).map(Role::Worker).collect())?;
                if !self.others.overtake(&self.services, pick).await {
                    self.undo(&undo).await?;
                    self.fleet.standstills -= WORKERS as u64;
                    return Ok(self.missed("retention takes nothing now"));
                }
                undo
            }
            Fault::DiskFull => {
                self.disk.as_ref().context("a disk")?.fill()?;
                Undo::FreeDisk
            }
            Fault::NoDescriptors => {
                let pid = self.fleet.pid(worker)?;
                Undo::Descriptors { pid, limit: limit_descriptors(pid, NO_DESCRIPTORS)? }
            }
            Fault::KillBroker => self.kill_nodes(&[node]),
            Fault::KillLeader => {
                let partition = (pick >> 8) as i32 & (PARTITIONS - 1);
                let looking = self.services.leader(GAME_TOPIC, partition);
                let leader = tokio::time::timeout(LOOK_TIMEOUT, looking).await.ok().flatten();
                self.kill_nodes(&[leader.unwrap_or(node)])
            }
            Fault::KillTwoBrokers => self.kill_nodes(&[node, (node + 1) % NODES]),
            Fault::RestartBroker => match self.services.signal_node(node, Signal::TERM) {
                Ok(()) => Undo::StartNodes(vec![node]),
                Err(error) => self.missed(&error),
            },
            Fault::FreezeBroker => match self.services.signal_node(node, Signal::STOP) {
                Ok(()) => {
                    self.fleet.standstills += 1;
                    Undo::ContinueNode(node)
                }
                Err(error) => self.missed(&error),
            },
            Fault::MoveCoordinator => {
                self.order(fault, move |services| async move { services.move_coordinators(pick).await })
            }
            Fault::OldView => self.order(fault, move |services| async move {
                services.look_back(node, GAME_TOPIC, PARTITIONS, lasts).await
            }),
            Fault::Throttle => {
                match tokio::time::timeout(LOOK_TIMEOUT, self.services.throttle(Some(THROTTLED_BYTES_PER_SECOND))).await
                {
                    Ok(Ok(())) => Undo::Throttle,
                    // It may come into force all the same.
                    Ok(Err(_)) | Err(_) => {
                        self.chore(|services| async move { services.throttle_no_more().await });
                        self.missed("nobody is throttled")
                    }
                }
            }
            Fault::KillRedis => {
                self.services.kill_redis()?;
                self.fleet.kills += 1;
                Undo::StartRedis
            }
            Fault::CutServers => self.on_the_wire(Undo::Nothing, |rules| rules.cut(Side::Servers)),
            Fault::CutWorkers => self.on_the_wire(Undo::Nothing, |rules| rules.cut(Side::Workers)),
            Fault::Delay => self.on_the_wire(Undo::Delay, |rules| rules.delay(DELAY)),
            Fault::HalfOpen => self.on_the_wire(Undo::Release, Rules::hold),
            Fault::LoseAcknowledgements => self.lose(fault, ApiKey::Produce),
            Fault::LoseCommitAnswers => self.lose(fault, ApiKey::OffsetCommit),
            Fault::ForeignRecords => {
                let counts = self.others.counts.clone();
                self.order(fault, move |services| {
                    let counts = counts.clone();
                    async move { others::produce_foreign(&services, &counts, pick).await }
                })
            }
            Fault::GrowTopic => self.order(fault, |services| async move { others::grow(&services).await }),
            Fault::ClockJump => {
                let clock = self.fleet.recipe.clock.as_ref().context("a clock")?;
                clock.set(JUMPS_SECONDS[among(JUMPS_SECONDS.len())])?;
                Undo::SetClock
            }
        })
    }

    pub async fn undo(&mut self, undo: &Undo) -> Result<Undone> {
        match undo {
            Undo::Nothing | Undo::Missed => {}
            Undo::Start(role) => self.fleet.start(*role)?,
            Undo::StartOnceGone(role) if !self.fleet.is_gone(*role) => return Ok(Undone::NotYet),
            Undo::StartOnceGone(role) => {
                self.fleet.has_left(*role).await?;
                self.fleet.start(*role)?;
            }
            Undo::Leave(role) => self.fleet.ask_to_leave(*role)?,
            Undo::Continue(roles) => {
                for role in roles {
                    self.fleet.signal(*role, Signal::CONT)?;
                }
            }
            Undo::StartNodes(nodes) => {
                for node in nodes.clone() {
                    self.chore(|services| async move { services.start_node(node).await });
                }
            }
            Undo::ContinueNode(node) => self.services.signal_node(*node, Signal::CONT)?,
            Undo::StartRedis => self.services.start_redis().await?,
            Undo::FreeDisk => self.disk.as_ref().context("a disk")?.free()?,
            Undo::Descriptors { pid, limit } => {
                limit_descriptors(*pid, *limit)?;
            }
            Undo::Throttle => {
                self.chore(|services| async move { services.throttle_no_more().await });
            }
            Undo::Delay => self.services.rules.delay(Duration::ZERO),
            Undo::Release => self.services.rules.release(),
            Undo::LoseNoMore { api, until, .. }
                if self.services.rules.to_be_lost(*api) == LOST_ANSWERS && Instant::now() < *until =>
            {
                return Ok(Undone::NotYet);
            }
            Undo::LoseNoMore { fault, api, .. } => {
                let left = self.services.rules.lose_no_more(*api);
                self.happened((left < LOST_ANSWERS).then_some(*fault));
            }
            Undo::SetClock => self.fleet.recipe.clock.as_ref().context("a clock")?.set(0)?,
        }
        Ok(Undone::Yes)
    }

    async fn kill(&mut self, role: Role) -> Result<Undo> {
        self.fleet.kill(role).await?;
        Ok(Undo::Start(role))
    }

    fn ask_to_leave(&mut self, role: Role) -> Result<Undo> {
        self.fleet.ask_to_leave(role)?;
        Ok(Undo::StartOnceGone(role))
    }

    fn stand_still(&mut self, roles: Vec<Role>) -> Result<Undo> {
        for role in &roles {
            self.fleet.signal(*role, Signal::STOP)?;
        }
        Ok(Undo::Continue(roles))
    }

    /// Those that run; one may be on its way back still.
    fn kill_nodes(&mut self, nodes: &[usize]) -> Undo {
        let killed = nodes.iter().copied().filter(|node| self.services.signal_node(*node, Signal::KILL).is_ok());
        let killed: Vec<_> = killed.collect();
        self.fleet.kills += killed.len() as u64;
        Undo::StartNodes(killed)
    }

    fn on_the_wire(&self, undo: Undo, change: impl FnOnce(&Rules)) -> Undo {
        change(&self.services.rules);
        undo
    }

    fn lose(&self, fault: Fault, api: ApiKey) -> Undo {
        let until = Instant::now() + LOSE_PATIENCE;
        self.on_the_wire(Undo::LoseNoMore { fault, api, until }, |rules| rules.lose(api, LOST_ANSWERS))
    }

    fn missed(&self, reason: impl std::fmt::Display) -> Undo {
        println!("           not now: {reason:#}");
        Undo::Missed
    }

    /// Asks the cluster for something that it may be in no state for now; the fault has happened when it does it.
    fn order<F: Future<Output = Result<()>> + Send + 'static>(
        &mut self,
        fault: Fault,
        work: impl Fn(Arc<Services>) -> F + Send + 'static,
    ) -> Undo {
        let services = self.services.clone();
        self.chores.spawn(async move {
            let until = Instant::now() + ORDER_PATIENCE;
            loop {
                match work(services.clone()).await {
                    Ok(()) => return Ok(Some(fault)),
                    Err(_) if Instant::now() < until => tokio::time::sleep(ORDER_PAUSE).await,
                    Err(error) => {
                        println!("           not now: {}: {error:#}", fault.name());
                        return Ok(None);
                    }
                }
            }
        });
        Undo::Nothing
    }

    /// What must succeed, however long it takes.
    fn chore<F: Future<Output = Result<()>> + Send + 'static>(&mut self, work: impl FnOnce(Arc<Services>) -> F) {
        let work = work(self.services.clone());
        self.chores.spawn(async move { work.await.map(|()| None) });
    }
}

/// Sets the soft limit of open files of a process, and returns what it was.
fn limit_descriptors(pid: u32, limit: u64) -> Result<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("a limit of open files")?;
    let known: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [soft, hard] = known[..] else { bail!("open files are not limited: {line}") };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id")?;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(hard) })?;
    Ok(soft)
}
