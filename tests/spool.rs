//! The spool under SIGKILL: a process that says what it has emitted, and the game server.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use superhero_event::{message, topic};
use superhero_kafka::KafkaConfig;
use superhero_transport::{KafkaPublisher, Publisher, SpoolConfig, Transport, TransportConfig};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;

use crate::process::{self, Process, Signal, binary, eventually};
use crate::services::{Kafka, Redis, free_port};
use crate::transport::{self, Found};
use crate::{real, test};

/// The first word of the command line with which this binary emits events until it is killed.
pub const EMIT: &str = "emit-events";

/// Longer than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Small, so that segments come and go.
const SPOOL_BYTES: u64 = 4 << 20;
const QUEUE_BYTES: usize = 16 << 20;
/// Events of a life.
const LIFE: usize = 1_500;
/// How a process that emits events ends. It kills itself, at a moment that nobody chooses and yet after as many events on machines of any
/// speed: so many that what two lives leave is less than holds the game back.
const KILLED: &str = "killed";
/// The same, after a pause in the middle that lasts until SIGUSR1.
const PAUSED: &str = "paused";
/// It delivers all.
const DELIVERED: &str = "delivered";

/// What was accepted survives the process.
pub fn tests() -> Vec<Trial> {
    vec![
        test("spool: what a killed process has emitted arrives once, in order, under its ids", process_killed),
        real("spool: a killed server's events are sent again by the next start, which says so", server_killed),
        real("spool: without one the next start says that events are lost", server_killed_without),
    ]
}

/// Emits numbers, and prints each when its log call has returned.
pub fn emit(arguments: impl Iterator<Item = String>) -> Result<ExitCode> {
    let arguments: Vec<String> = arguments.collect();
    let [bootstrap, topic, dir, first, ending] = arguments.as_slice() else {
        anyhow::bail!("{EMIT} BOOTSTRAP TOPIC DIR FIRST {KILLED}|{PAUSED}|{DELIVERED}, not {arguments:?}")
    };
    let first = first.parse::<usize>()?;
    let pause_at = (ending == PAUSED).then_some(first + LIFE);
    let kill_at = (ending != DELIVERED).then_some(pause_at.unwrap_or(first) + LIFE);
    let end = kill_at.unwrap_or(first) + LIFE;
    let mut publisher = KafkaPublisher::new(KafkaConfig::new(bootstrap, "superhero-test")?);
    publisher.cluster.request_timeout = Duration::from_secs(2);
    publisher.spool = Some(SpoolConfig { dir: dir.into(), capacity_bytes: SPOOL_BYTES });
    let mut config = TransportConfig::new(Publisher::Kafka(publisher), 1);
    config.queue.capacity_bytes = QUEUE_BYTES;
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let transport = Transport::new(config);
        let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(transport.layer()));
        let guard = transport.start().await?;
        let admission = guard.admission();
        let mut go_on = signal(SignalKind::user_defined1())?;
        println!("left {}", guard.left_over().iter().map(|left| left.events).sum::<u64>());
        for number in first..end {
            if Some(number) == pause_at {
                go_on.recv().await;
            }
            if Some(number) == kill_at {
                std::thread::spawn(|| process::signal(std::process::id(), Signal::KILL));
            }
            admission.admit().await;
            transport::log(topic, number);
            println!("{number}");
        }
        std::io::stdout().flush()?;
        if kill_at.is_some() {
            std::future::pending::<()>().await;
        }
        let counters = guard.close(DEADLINE).await?.counters;
        ensure!(counters.acknowledged == (end - first) as u64, "{counters:?}");
        Ok(ExitCode::SUCCESS)
    })
}

/// The lives of the emitting process, one after the other.
struct Lives {
    kafka: Kafka,
    topic: String,
    dir: PathBuf,
    printed: BTreeSet<usize>,
    next: usize,
    /// Numbers that a life may have emitted when it was killed before it could print them.
    unknown: BTreeSet<usize>,
}

impl Lives {
    fn begin(&self, ending: &str) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([EMIT, &self.kafka.bootstrap, &self.topic]).arg(&self.dir);
        command.args([&self.next.to_string(), ending]);
        Process::spawn("the emitting process", command)
    }

    /// What a life has printed, whole lines only; gives how many events it had taken over.
    fn note(&mut self, printed: &str) -> Result<u64> {
        let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let (left, numbers) = whole.split_once('\n').unwrap_or((whole, ""));
        let left = left.strip_prefix("left ").with_context(|| format!("it printed {printed:.100}"))?.parse()?;
        for number in numbers.lines() {
            self.printed.insert(number.parse()?);
        }
        self.next = self.printed.last().map_or(0, |last| last + 1).max(self.next);
        // The log call may have returned, and the line not have come.
        self.unknown.insert(self.next);
        self.next += 1;
        Ok(left)
    }
}

async fn process_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut lives = Lives {
        kafka: Kafka::start()?,
        topic: "spool.process_killed".to_owned(),
        dir: folder.path().join("spool"),
        printed: BTreeSet::new(),
        next: 0,
        unknown: BTreeSet::new(),
    };
    for life in 0..6 {
        if life == 2 {
            transport::topic(&lives.kafka, &lives.topic).await?;
        }
        let stands_still = life == 3;
        let mut process = lives.begin(if stands_still { PAUSED } else { KILLED })?;
        if stands_still {
            process.prints(&format!("\n{}\n", lives.next + LIFE - 1)).await?;
            lives.kafka.signal(Signal::STOP)?;
            process.signal(Signal::USR1)?;
        }
        let ended = process.wait().await;
        if stands_still {
            lives.kafka.signal(Signal::CONT)?;
        }
        let ended = ended?;
        ensure!(ended.status.signal() == Some(Signal::KILL.as_raw()), "life {life} ended with {}", ended.status);
        let left = lives.note(&ended.output)?;
        let at_least = match life {
            1 => LIFE,
            2 => 2 * LIFE,
            4 => LIFE,
            _ => 0,
        };
        ensure!(left >= at_least as u64, "life {life} took over {left} events, not {at_least} at least");
    }
    let process = lives.begin(DELIVERED)?;
    lives.note(&process.succeed().await?)?;
    ensure!(lives.next > 6 * LIFE, "{} numbers", lives.next);
    let left: Vec<_> = std::fs::read_dir(&lives.dir)?.collect::<std::io::Result<_>>()?;
    ensure!(left.len() == 1, "besides its lock the spool still has {left:?}");
    check(&lives).await
}

/// Every printed number is there once, and in order.
async fn check(lives: &Lives) -> Result<()> {
    let mut numbers = BTreeSet::new();
    for (partition, found) in transport::read(&lives.kafka, &lives.topic).await? {
        let mut last = BTreeMap::new();
        for record in without_repetitions(partition, found)? {
            let number = record.task.context("a number")?;
            ensure!(numbers.insert(number), "{number} came twice, last as {:?}", record.id);
            ensure!(last.insert(record.key, number).is_none_or(|last| last < number), "{number} is too late");
        }
    }
    let lost: Vec<_> = lives.printed.difference(&numbers).take(10).collect();
    ensure!(lost.is_empty(), "lost: {lost:?} …");
    let foreign: Vec<_> = numbers.difference(&lives.printed).filter(|it| !lives.unknown.contains(it)).collect();
    ensure!(foreign.is_empty(), "nobody emitted {foreign:?}");
    Ok(())
}

/// The records of a partition as a worker takes them: each producer's in the order of its sequences, without gaps.
fn without_repetitions(partition: i32, found: Vec<Found>) -> Result<Vec<Found>> {
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    let mut kept = Vec::new();
    for record in found {
        let (producer, sequence) = record.id.clone();
        let next = next.entry(producer).or_default();
        ensure!(sequence <= *next, "partition {partition} has {:?} where {next} is due", record.id);
        if sequence == *next {
            *next += 1;
            kept.push(record);
        }
    }
    Ok(kept)
}

/// A server under load on services of its own.
struct Playing {
    kafka: Kafka,
    redis: Redis,
    port: u16,
    spool: Option<PathBuf>,
}

impl Playing {
    async fn start(spool: Option<PathBuf>) -> Result<Self> {
        let kafka = Kafka::start()?;
        let topics = topic::ALL.map(str::to_owned);
        transport::cluster(&kafka).await?.create_missing_topics(&topics, 2, 1).await?;
        Ok(Self { kafka, redis: Redis::start()?, port: free_port()?, spool })
    }

    async fn server(&self) -> Result<Process> {
        let mut command = binary("superhero-server");
        command
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.kafka.bootstrap)
            .env("REDIS_PORT", self.redis.port.to_string())
            .env("WEBSOCKET_PORT", self.port.to_string())
            .env("SERVER_SLEEP", "0")
            .env("DRAIN_DEADLINE", "10");
        if let Some(dir) = &self.spool {
            command.env("LOGGER_SPOOL_DIR", dir);
        }
        let mut server = Process::spawn("the server", command)?;
        server.listening().await?;
        Ok(server)
    }

    fn bots(&self) -> Result<Process> {
        let mut command = binary("superhero-player");
        command.args(["--players", "20", "--games", "-1", "--patience", "60", "--log-level", "error"]);
        command.args(["--servers", &format!("127.0.0.1:{}", self.port)]);
        Process::spawn("the bots", command)
    }

    /// A server that is killed while it has events that Kafka has not, and the one after it until its end; what stands in the topics
    /// then.
    async fn killed_and_restarted(&self) -> Result<BTreeMap<&'static str, Vec<Found>>> {
        let server = self.server().await?;
        let bots = self.bots()?;
        let moves = |printed: &str| printed.matches(message::ATTACK_COMPLETED).count();
        eventually("games go on", DEADLINE, async || Ok(moves(&server.printed()) > 500)).await?;
        self.kafka.signal(Signal::STOP)?;
        let before = moves(&server.printed());
        let more =
            eventually("events are queued", DEADLINE, async || Ok(moves(&server.printed()) > before + 200)).await;
        server.signal(Signal::KILL)?;
        self.kafka.signal(Signal::CONT)?;
        more?;
        server.wait().await?;
        let server = self.server().await?;
        eventually("games go on", DEADLINE, async || Ok(moves(&server.printed()) > 100)).await?;
        bots.signal(Signal::KILL)?;
        bots.wait().await?;
        server.stop().await?;
        let mut all = BTreeMap::new();
        for topic in topic::ALL {
            let mut found = Vec::new();
            for (partition, records) in transport::read(&self.kafka, topic).await? {
                found.extend(without_repetitions(partition, records)?);
            }
            all.insert(topic, found);
        }
        Ok(all)
    }
}

/// The first event of the second producer of the topic of servers, which may be in any partition.
fn first_words(records: &[Found]) -> Result<&Found> {
    let first = records.iter().find(|record| record.envelope["log_message"] == message::UNDELIVERED);
    let first = first.context("no event tells of the run before")?;
    let earlier = records.iter().filter(|record| {
        record.id.0 == first.id.0 && record.envelope["timestamp"].as_str() < first.envelope["timestamp"].as_str()
    });
    ensure!(earlier.count() == 0, "it is not the first: {:?}", first.envelope);
    Ok(first)
}

fn task(record: &Found) -> Result<serde_json::Value> {
    Ok(serde_json::from_str(record.envelope["task"].as_str().context("a task that is a text")?)?)
}

async fn server_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let playing = Playing::start(Some(folder.path().join("spool"))).await?;
    let found = playing.killed_and_restarted().await?;
    let first = first_words(&found[topic::CLIENT])?;
    let task = task(first)?;
    ensure!(task["fate"] == "sent again" && task["events"].as_u64() > Some(200), "{task}");
    let killed = task["producer"].as_str().context("a producer")?;
    ensure!(found[topic::GAME].iter().any(|record| record.id.0 == killed), "nothing of {killed} is in the topic");
    ensure!(left_in(&folder.path().join("spool"))? == ["lock"], "the spool is not empty");
    Ok(())
}

async fn server_killed_without() -> Result<()> {
    let playing = Playing::start(None).await?;
    let found = playing.killed_and_restarted().await?;
    let task = task(first_words(&found[topic::CLIENT])?)?;
    ensure!(task["fate"] == "lost", "{task}");
    // The next start follows one that ended in order, and has nothing to tell.
    playing.server().await?.stop().await?;
    let told = transport::read(&playing.kafka, topic::CLIENT).await?.into_values().flatten();
    let told = told.filter(|record| record.envelope["log_message"] == message::UNDELIVERED).count();
    ensure!(told == 1, "it was told {told} times");
    Ok(())
}

fn left_in(dir: &Path) -> Result<Vec<String>> {
    let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}
