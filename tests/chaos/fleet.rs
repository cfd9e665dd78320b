//! Our binaries as they run: who is who, how each is started, and how it is brought to its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio_util::task::AbortOnDropHandle;

use super::clock::Clock;
use super::settings::Settings;
use crate::process::{Ended, Process, Signal, binary};
use crate::services::free_port;

pub const SERVERS: usize = 2;
pub const WORKERS: usize = 4;
pub const BOTS: usize = 2;
/// One more worker comes and goes; it has the number after the others.
pub const GUEST: usize = WORKERS;

/// A stop at full load is over by then, or the server says what is missing.
const STOP_BUDGET: Duration = Duration::from_secs(10);
/// Beyond the budget that processes have on a machine that runs three brokers as well.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// What a server prints of its own events when it ends in order, and of those that another start had left.
const OWN_DELIVERED: &str = "the events are delivered";
const LEFT_DELIVERED: &str = "the events of an earlier start are delivered";

/// A place that a process fills, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Server(usize),
    Worker(usize),
    Bots(usize),
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(number) => write!(f, "server {number}"),
            Self::Worker(number) => write!(f, "worker {number}"),
            Self::Bots(number) => write!(f, "bots {number}"),
        }
    }
}

/// How to start each role.
#[derive(Debug)]
pub struct Recipe {
    pub bootstrap: String,
    pub redis_port: String,
    pub topics: String,
    pub folders: Vec<PathBuf>,
    /// Of all servers together.
    pub spool: PathBuf,
    /// Of all processes, in the order of their starts.
    pub logs: PathBuf,
    pub ports: Vec<u16>,
    pub players: usize,
    pub clock: Option<Clock>,
}

impl Recipe {
    pub fn new(settings: &Settings, bootstrap: &str, redis_port: &str, topics: &[&str]) -> Result<Self> {
        let folders = match settings.folders {
            super::settings::Folders::Shared => vec![settings.work.join("data"); WORKERS + 1],
            super::settings::Folders::Each => {
                (0..=GUEST).map(|number| settings.work.join(format!("data-{number}"))).collect()
            }
        };
        let logs = settings.work.join("logs");
        std::fs::create_dir_all(&logs)?;
        Ok(Self {
            spool: settings.work.join("spool"),
            logs,
            bootstrap: bootstrap.to_owned(),
            redis_port: redis_port.to_owned(),
            topics: topics.join(","),
            folders,
            ports: (0..SERVERS).map(|_| free_port()).collect::<Result<_>>()?,
            players: settings.players,
            clock: Clock::find(&settings.work)?,
        })
    }

    /// Whose clock can be made to jump.
    pub fn has_clock(&self, role: Role) -> bool {
        self.clock.is_some() && matches!(role, Role::Server(1) | Role::Worker(1))
    }

    fn command(&self, role: Role) -> Command {
        let mut command = match role {
            Role::Server(number) => {
                let mut command = binary("superhero-server");
                command
                    .env("LOGGER_MODULE", "kafka")
                    .env("WEBSOCKET_PORT", self.ports[number].to_string())
                    .env("SERVER_SLEEP", "0")
                    .env("LOBBY_TIMEOUT", "3")
                    .env("TURN_DEADLINE", "10")
                    // Small, so that the game is held back soon.
                    .env("QUEUE_BYTES", (16 << 20).to_string())
                    .env("LOGGER_SPOOL_DIR", &self.spool)
                    .env("KAFKA_COMPRESSION", if number == 0 { "none" } else { "snappy" })
                    .env("DRAIN_DEADLINE", "4");
                command
            }
            Role::Worker(number) => {
                let mut command = binary("superhero-worker");
                command
                    .env("WORKER_CHANNEL", &self.topics)
                    .env("OUTPUT_DIR", &self.folders[number])
                    .env("SINK_ROTATE_SECS", "1")
                    .env("CLEAN_ROUTINE", "true")
                    .env("REDIS_EXPIRY", "30");
                command
            }
            Role::Bots(number) => {
                let mut command = binary("superhero-player");
                let servers: Vec<_> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
                command
                    .args(["--players", &(self.players / BOTS).max(1).to_string(), "--games", "-1"])
                    .args(["--seed", &number.to_string(), "--servers", &servers.join(","), "--patience", "3600"])
                    .args(["--log-level", "error"]);
                command
            }
        };
        command
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.bootstrap)
            .env("REDIS_HOST", "127.0.0.1")
            .env("REDIS_PORT", &self.redis_port);
        if let Some(clock) = self.clock.as_ref().filter(|_| self.has_clock(role)) {
            clock.command(&mut command);
        }
        command
    }
}

/// The processes of a run.
#[derive(Debug)]
pub struct Fleet {
    pub recipe: Recipe,
    running: Vec<(Role, Process)>,
    starts: u64,
    leaving: Vec<(Role, AbortOnDropHandle<Result<Farewell>>)>,
    /// Kills, and stops of a process for a while.
    pub kills: u64,
    pub standstills: u64,
    /// Processes that were asked to stop, and those of them that said what they could not do in time.
    pub stops: u64,
    pub told: u64,
    /// What servers say they have delivered, by producer: the one that emitted it, or one that started later.
    pub delivered: BTreeMap<String, u64>,
}

impl Fleet {
    pub fn new(recipe: Recipe) -> Self {
        Self {
            recipe,
            running: Vec::new(),
            starts: 0,
            leaving: Vec::new(),
            kills: 0,
            standstills: 0,
            stops: 0,
            told: 0,
            delivered: BTreeMap::new(),
        }
    }

    /// Starts a role that does not run.
    pub fn start(&mut self, role: Role) -> Result<()> {
        ensure!(self.find(role).is_none(), "{role} runs already");
        self.starts += 1;
        let log = self.recipe.logs.join(format!("{:04} {role}.log", self.starts));
        self.running.push((role, Process::spawn_into(&role.to_string(), self.recipe.command(role), log)?));
        Ok(())
    }

    /// A worker that takes what is there, publishes it, and ends.
    pub async fn sweep(&self, number: usize) -> Result<()> {
        let mut command = self.recipe.command(Role::Worker(number));
        command.env("UNTIL_END", "true");
        let log = self.recipe.logs.join(format!("sweep {number}.log"));
        Process::spawn_into(&format!("the last worker on folder {number}"), command, log)?.succeed().await?;
        Ok(())
    }

    /// Kills a role, which must not have ended by itself.
    pub async fn kill(&mut self, role: Role) -> Result<()> {
        let process = self.take(role)?;
        process.signal(Signal::KILL)?;
        let Ended { output, .. } = process.wait().await?;
        self.delivered.extend(delivered(&output)?);
        self.kills += 1;
        Ok(())
    }

    pub fn signal(&mut self, role: Role, signal: Signal) -> Result<()> {
        self.alive(role)?.signal(signal)?;
        self.standstills += u64::from(signal == Signal::STOP);
        Ok(())
    }

    pub fn pid(&mut self, role: Role) -> Result<u32> {
        self.alive(role)?.pid()
    }

    /// Waits until a server listens.
    pub async fn listens(&mut self, number: usize) -> Result<()> {
        self.alive(Role::Server(number))?.listening().await?;
        Ok(())
    }

    /// Asks a role to stop; [`Self::has_left`] waits for its end.
    pub fn ask_to_leave(&mut self, role: Role) -> Result<()> {
        let process = self.take(role)?;
        self.leaving.push((role, AbortOnDropHandle::new(tokio::spawn(leave(role, process)))));
        Ok(())
    }

    /// Whether a role that was asked to stop has ended.
    pub fn is_gone(&self, role: Role) -> bool {
        self.leaving.iter().all(|(leaving, task)| *leaving != role || task.is_finished())
    }

    /// Waits until a role that was asked to stop has ended, in good order.
    pub async fn has_left(&mut self, role: Role) -> Result<()> {
        let place = self.leaving.iter().position(|(leaving, _)| *leaving == role);
        let (_, leaving) = self.leaving.remove(place.with_context(|| format!("{role} was not asked to stop"))?);
        let Farewell { delivered, told } = leaving.await??;
        self.delivered.extend(delivered);
        self.told += u64::from(told);
        self.stops += 1;
        Ok(())
    }

    /// Waits for all that were asked to stop.
    pub async fn all_have_left(&mut self) -> Result<()> {
        while let Some((role, _)) = self.leaving.first() {
            self.has_left(*role).await?;
        }
        Ok(())
    }

    /// Nobody may have ended who was not asked to.
    pub fn check(&mut self) -> Result<()> {
        for (role, process) in &mut self.running {
            if let Some(status) = process.ended()? {
                anyhow::bail!(
                    "{role} has ended by itself with {status}; it printed at last:\n{}",
                    tail(&process.printed())
                );
            }
        }
        Ok(())
    }

    fn find(&self, role: Role) -> Option<usize> {
        self.running.iter().position(|(running, _)| *running == role)
    }

    fn alive(&mut self, role: Role) -> Result<&mut Process> {
        self.check()?;
        let place = self.find(role).with_context(|| format!("{role} does not run"))?;
        Ok(&mut self.running[place].1)
    }

    fn take(&mut self, role: Role) -> Result<Process> {
        self.alive(role)?;
        let place = self.find(role).with_context(|| format!("{role} does not run"))?;
        Ok(self.running.swap_remove(place).1)
    }
}

/// How a role has ended that was asked to.
#[derive(Debug)]
struct Farewell {
    delivered: BTreeMap<String, u64>,
    /// It has said what it could not do in time.
    told: bool,
}

async fn leave(role: Role, process: Process) -> Result<Farewell> {
    process.signal(Signal::TERM)?;
    let asked = Instant::now();
    let Ended { status, output } = process.wait().await?;
    let took = asked.elapsed();
    let last = || format!("{role} ended with {status} after {took:?}; it printed at last:\n{}", tail(&output));
    let late = match role {
        Role::Server(_) => Some(" events were not delivered within "),
        Role::Worker(_) => Some(" partitions were not given up within "),
        Role::Bots(_) => None,
    };
    ensure!(!matches!(role, Role::Server(_)) || took < STOP_BUDGET + STOP_SLACK, "too late: {}", last());
    let told = !status.success();
    ensure!(!told || late.is_some_and(|late| output.contains(late)), "{}", last());
    ensure!(told || !matches!(role, Role::Server(_)) || output.contains(OWN_DELIVERED), "{}", last());
    Ok(Farewell { delivered: delivered(&output)?, told })
}

/// What a server says it has delivered, its own events and those that another had left, by producer.
fn delivered(output: &str) -> Result<BTreeMap<String, u64>> {
    let lines = output.lines().filter(|line| line.contains(OWN_DELIVERED) || line.contains(LEFT_DELIVERED));
    let all = lines.map(|line| {
        let word =
            |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).context(line.to_owned());
        let emitted: u64 = word("emitted=")?.parse()?;
        ensure!(line.contains(LEFT_DELIVERED) || word("acknowledged=")?.parse() == Ok(emitted), "{line}");
        Ok((word("producer=")?.trim_matches('"').to_owned(), emitted))
    });
    all.collect()
}

fn tail(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
