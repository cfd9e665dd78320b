//! What the tests run on: the embedded broker, or real services by the scripts in `tests/services/`.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::{self, Signal};

/// `TEST_SERVICES=real` chooses Apache Kafka, Redis and what else is installed; everything else is the embedded parts, for which nothing
/// has to be there.
pub fn are_real() -> bool {
    std::env::var_os("TEST_SERVICES").is_some_and(|services| services == "real")
}

/// A Kafka of one broker, stopped when dropped.
#[derive(Debug)]
pub struct Kafka {
    /// `host:port`.
    pub bootstrap: String,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Apache(Started),
    Embedded(Embedded),
}

/// A Redis, stopped when dropped.
#[derive(Debug)]
pub struct Redis {
    /// Its port on the loopback.
    pub port: u16,
    _started: Started,
}

impl Kafka {
    /// Starts one, of the kind that the tests run on: a few seconds for an Apache Kafka.
    pub fn start() -> Result<Self> {
        if are_real() { Self::apache() } else { Self::embedded() }
    }

    /// Starts an Apache Kafka, whatever the tests run on.
    pub fn apache() -> Result<Self> {
        let started = Started::up(&["--only", "kafka", "--kafka-port", "0"])?;
        Ok(Self { bootstrap: started.setting("KAFKA_BOOTSTRAP_SERVERS")?, running: Running::Apache(started) })
    }

    /// Starts `superhero broker`, whatever the tests run on.
    pub fn embedded() -> Result<Self> {
        let broker = Embedded::start()?;
        Ok(Self { bootstrap: broker.address.clone(), running: Running::Embedded(broker) })
    }

    /// The one that tests share which use topics and groups of their own.
    pub fn shared() -> Result<Arc<Self>> {
        share(&SHARED_KAFKA, Self::start)
    }

    /// Runs one of Kafka's own command-line tools and returns what it printed.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new(script("kafka-tool"))
            .arg(class)
            .args(["--bootstrap-server", &self.bootstrap])
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!("{class} {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Signals the broker, which the test has for itself.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.pid()?, signal)
    }

    /// The process id of the broker.
    pub fn pid(&self) -> Result<u32> {
        match &self.running {
            Running::Embedded(broker) => Ok(broker.child.id()),
            Running::Apache(started) => started.pid("kafka-1"),
        }
    }
}

/// A `superhero broker`, killed when dropped.
#[derive(Debug)]
struct Embedded {
    address: String,
    child: Child,
    /// Reads what it says, so that it can go on saying it; ends with the broker.
    listening: Option<JoinHandle<()>>,
}

impl Embedded {
    fn start() -> Result<Self> {
        /// It listens within milliseconds; a busy machine may let it wait.
        const DEADLINE: Duration = Duration::from_secs(20);
        const SAYS: &str = "Listening on ";
        let mut child = Command::new(env!("CARGO_BIN_EXE_superhero"))
            .args(["broker", "--listen", "127.0.0.1:0"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting superhero broker")?;
        let lines = BufReader::new(child.stderr.take().context("a piped standard error")?).lines();
        let (told, address) = mpsc::channel();
        let listening = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once(SAYS) {
                    // Whoever waits no longer needs no word.
                    let _ = told.send(address.trim().to_owned());
                }
            }
        });
        let mut broker = Self { address: String::new(), child, listening: Some(listening) };
        broker.address = address
            .recv_timeout(DEADLINE)
            .with_context(|| format!("superhero broker did not say {SAYS:?} within {DEADLINE:?}, or has ended"))?;
        Ok(broker)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // It may have been killed by the test, or stand still.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.listening.take().map(JoinHandle::join);
    }
}

impl Redis {
    /// Starts one.
    pub fn start() -> Result<Self> {
        let started = Started::up(&["--only", "redis", "--redis-port", "0"])?;
        Ok(Self { port: started.setting("REDIS_PORT")?.parse()?, _started: started })
    }

    /// The one that tests share which use games of their own.
    pub fn shared() -> Result<Arc<Self>> {
        share(&SHARED_REDIS, Self::start)
    }
}

static SHARED_KAFKA: Mutex<Option<Arc<Kafka>>> = Mutex::new(None);
static SHARED_REDIS: Mutex<Option<Arc<Redis>>> = Mutex::new(None);

fn share<T>(place: &Mutex<Option<Arc<T>>>, start: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
    let mut place = place.lock().expect("no test panics while it starts a service");
    if let Some(shared) = place.as_ref() {
        return Ok(shared.clone());
    }
    let shared = Arc::new(start()?);
    *place = Some(shared.clone());
    Ok(shared)
}

/// Stops what the tests shared.
pub fn stop_shared() {
    drop(SHARED_KAFKA.lock().map(|mut kafka| kafka.take()));
    drop(SHARED_REDIS.lock().map(|mut redis| redis.take()));
}

/// What `tests/services/up` has started; stopped when dropped.
#[derive(Debug)]
pub struct Started {
    folder: TempDir,
    /// What `up` printed: a line NAME=VALUE each.
    settings: String,
}

impl Started {
    /// With the flags of `up`; its folder is chosen.
    pub fn up(arguments: &[&str]) -> Result<Self> {
        let mut started = Self { folder: tempfile::tempdir()?, settings: String::new() };
        let output = Command::new(script("up"))
            .arg("--dir")
            .arg(started.folder.path())
            // A test run that is killed leaves nothing behind.
            .args(["--while", &std::process::id().to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!("tests/services/up {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        started.settings = String::from_utf8(output.stdout)?;
        Ok(started)
    }

    /// One of the settings that `up` has printed.
    pub fn setting(&self, name: &str) -> Result<String> {
        let value = self.settings.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        Ok(value.with_context(|| format!("tests/services/up printed no {name}: {}", self.settings))?.to_owned())
    }

    /// The process id of a service: `kafka-1` to `kafka-3`, `redis`.
    pub fn pid(&self, name: &str) -> Result<u32> {
        let file = self.folder.path().join(name).join("pid");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let pid = text.split_whitespace().next().context("an empty pid file")?;
        Ok(pid.parse()?)
    }

    /// Starts a service again that has ended, with the data that it had.
    pub fn again(&self, name: &str) -> Result<()> {
        let output = Command::new(script("again"))
            .arg("--dir")
            .arg(self.folder.path())
            .arg(name)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!("tests/services/again {name}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let down = Command::new(script("down")).arg("--dir").arg(self.folder.path()).stdin(Stdio::null()).output();
        if !down.is_ok_and(|output| output.status.success()) {
            eprintln!("tests/services/down failed for {}", self.folder.path().display());
        }
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services").join(name)
}

/// A port that nobody listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
