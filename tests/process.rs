//! The project's binaries as child processes.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long a process may take to end by itself or after a signal.
pub const EXIT_DEADLINE: Duration = Duration::from_secs(120);

/// How long the threads of a process may go on after it was stopped.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How often a condition is looked at again; the tests' only pause.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A child process with its output in a file; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    /// Of the output, if nobody else wants to keep it.
    _folder: Option<TempDir>,
}

/// What is left of a process.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed, on both streams.
    pub output: String,
}

/// One of the project's binaries, with no environment but the path.
pub fn binary(name: &str) -> Command {
    let path = match name {
        "superhero" => env!("CARGO_BIN_EXE_superhero"),
        "superhero-server" => env!("CARGO_BIN_EXE_superhero-server"),
        "superhero-player" => env!("CARGO_BIN_EXE_superhero-player"),
        "superhero-worker" => env!("CARGO_BIN_EXE_superhero-worker"),
        "superhero-build-db" => env!("CARGO_BIN_EXE_superhero-build-db"),
        other => unreachable!("no binary is called {other}"),
    };
    let mut command = Command::new(path);
    command.env_clear();
    command
}

impl Process {
    /// Starts it; its output goes with it.
    pub fn spawn(name: &str, command: Command) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let process = Self::spawn_into(name, command, folder.path().join("output"))?;
        Ok(Self { _folder: Some(folder), ..process })
    }

    /// Starts it with its output in a file that stays.
    pub fn spawn_into(name: &str, mut command: Command, output: PathBuf) -> Result<Self> {
        let file = File::create(&output)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child, output, _folder: None })
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self::signal(self.pid()?, signal)
    }

    /// Waits for its end.
    pub async fn wait(mut self) -> Result<Ended> {
        let Ok(status) = tokio::time::timeout(EXIT_DEADLINE, self.child.wait()).await else {
            bail!("{} did not end within {EXIT_DEADLINE:?}; it printed:\n{}", self.name, self.printed());
        };
        Ok(Ended { status: status?, output: self.printed() })
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end, which must be exit code 0.
    pub async fn succeed(self) -> Result<String> {
        let name = self.name.clone();
        let ended = self.wait().await?;
        if !ended.status.success() {
            bail!("{name} ended with {}; it printed:\n{}", ended.status, ended.output);
        }
        Ok(ended.output)
    }

    /// Asks it to stop and waits for its end, which must be exit code 0.
    pub async fn stop(self) -> Result<String> {
        self.signal(Signal::TERM)?;
        self.succeed().await
    }

    /// Waits until it has printed `text`.
    pub async fn prints(&mut self, text: &str) -> Result<()> {
        let deadline = tokio::time::Instant::now() + EXIT_DEADLINE;
        while !self.printed().contains(text) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before it printed {text:?}; it printed:\n{}", self.name, self.printed());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{} did not print {text:?}; it printed:\n{}", self.name, self.printed());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// The address that a server says it listens on.
    pub async fn listening(&mut self) -> Result<String> {
        Ok(self.says("Listening on ").await?.trim_start_matches("ws://").to_owned())
    }

    /// The word that it prints after `text`.
    pub async fn says(&mut self, text: &str) -> Result<String> {
        self.prints(text).await?;
        let printed = self.printed();
        let after = printed.split(text).nth(1).unwrap_or_default();
        Ok(after.split_whitespace().next().with_context(|| format!("no word after {text:?}"))?.to_owned())
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }
}

/// Signals a process that is a test's own.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))?;
    kill_process(known, signal).with_context(|| format!("signalling process {pid} with {signal:?}"))?;
    // Threads that run on another core go on until they next enter the kernel.
    let deadline = Instant::now() + STOP_DEADLINE;
    while signal == Signal::STOP && !stands_still(pid)? {
        ensure!(Instant::now() < deadline, "process {pid} still runs {STOP_DEADLINE:?} after it was stopped");
        std::thread::yield_now();
    }
    Ok(())
}

/// Whether each thread of a process is stopped.
fn stands_still(pid: u32) -> Result<bool> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))? {
        // One that has ended meanwhile does nothing either.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
        // The state stands behind the name, which is in brackets and may have some in it.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        if !matches!(state, Some('T' | 'X' | 'Z')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until `condition` holds, looking again and again until `deadline` has passed.
pub async fn eventually(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    tokio::time::timeout(deadline, async {
        while !condition().await? {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    })
    .await
    .with_context(|| format!("after {deadline:?} still not: {what}"))?
}
