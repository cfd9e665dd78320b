//! What others have put in the way of a process, and that it ends all the same.

use std::fs::{self, File};
use std::io::{ErrorKind, PipeReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use flate2::write::GzEncoder;
use libtest_mimic::Trial;
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{EXIT_DEADLINE, Process, Signal, binary, eventually, signal};
use crate::test;

const INTERRUPTED: i32 = 130;
const NOT_VERIFIED: i32 = 4;
const FAILURE: i32 = 1;

/// FIFOs, rows without end, links, readers that do not read.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a second signal ends a process whose every thread may be blocked", ends_at_once),
        test("verify: a FIFO is told and not waited for", tells_a_fifo),
        test("verify: a row of 1 GiB is told in 2 GiB of address space, and the next file is read", bounds_a_row),
        test("up: a link in the place of the log is refused", refuses_a_link),
    ]
}

fn verify(folder: &Path) -> Command {
    let mut command = binary("superhero");
    command.arg("verify").arg(folder);
    command
}

/// An `OUTPUT_DIR`, and the path of a file in it that is not there yet.
fn folder() -> Result<(TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let date = folder.path().join("superhero/raw/topic=a/partition=0/dt=2026-11-22");
    fs::create_dir_all(&date)?;
    Ok((folder, date.join("a+0+00000000000000000000.jsonl.gz")))
}

/// A pipe that takes nothing more, with the end that nobody reads.
fn full_pipe() -> Result<(PipeReader, Stdio)> {
    let (reader, mut writer) = std::io::pipe()?;
    let flags = fcntl_getfl(&writer)?;
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK)?;
    for piece in [&[b'-'; 4096][..], b"-"] {
        let filled = loop {
            if let Err(error) = writer.write(piece) {
                break error;
            }
        };
        ensure!(filled.kind() == ErrorKind::WouldBlock, "{filled}");
    }
    fcntl_setfl(&writer, flags)?;
    Ok((reader, writer.into()))
}

async fn ends_at_once() -> Result<()> {
    let (folder, _) = folder()?;
    let (_reader, pipe) = full_pipe()?;
    let told = folder.path().join("told");
    let mut command = verify(folder.path());
    command.stdin(Stdio::null()).stdout(pipe).stderr(File::create(&told)?).kill_on_drop(true);
    let mut child = command.spawn()?;
    let pid = child.id().context("it runs")?;
    eventually("its main thread is blocked", EXIT_DEADLINE, async || {
        Ok(fs::read_to_string(format!("/proc/{pid}/wchan"))?.contains("pipe_write"))
    })
    .await?;
    signal(pid, Signal::INT)?;
    eventually("the first signal is heard", EXIT_DEADLINE, async || {
        Ok(fs::read_to_string(&told)?.contains("a second signal ends the process"))
    })
    .await?;
    ensure!(child.try_wait()?.is_none(), "it has ended at the first signal");
    signal(pid, Signal::INT)?;
    let ended = tokio::time::timeout(EXIT_DEADLINE, child.wait()).await.context("it goes on")??;
    ensure!(ended.code() == Some(INTERRUPTED), "{ended}");
    let told = fs::read_to_string(told)?;
    ensure!(told.contains("interrupted before everything was brought to its end"), "{told}");
    Ok(())
}

async fn tells_a_fifo() -> Result<()> {
    let (folder, path) = folder()?;
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    let ended = Process::spawn("superhero verify", verify(folder.path()))?.wait().await?;
    ensure!(ended.status.code() == Some(NOT_VERIFIED), "{}: {}", ended.status, ended.output);
    ensure!(
        ended.output.contains(&format!("{} does not belong there: it is a FIFO", path.display())),
        "{}",
        ended.output
    );
    Ok(())
}

async fn bounds_a_row() -> Result<()> {
    const MEMBER_BYTES: usize = 16 << 20;
    let (folder, path) = folder()?;
    // Files put behind each other unfold to what they hold together.
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&vec![b'a'; MEMBER_BYTES])?;
    let member = packed.finish()?;
    fs::write(&path, member.repeat((1 << 30) / MEMBER_BYTES))?;
    let row = r#"{"topic":"a","partition":0,"offset":7,"timestamp":"2026-11-22T18:15:21.101Z","key":"","key_format":"none","id":"","value_format":"none","value_base64":"","value":null}"#;
    fs::write(path.with_file_name("a+0+00000000000000000007.jsonl"), format!("{row}\n"))?;
    let inner = verify(folder.path());
    let mut command = Command::new("sh");
    command.env_clear().args(["-c", "ulimit -v 2097152 && exec \"$0\" \"$@\""]);
    command.arg(inner.as_std().get_program()).args(inner.as_std().get_args());
    let ended = Process::spawn("superhero verify", command)?.wait().await?;
    ensure!(ended.status.code() == Some(NOT_VERIFIED), "{}: {}", ended.status, ended.output);
    for said in [&*path.to_string_lossy(), "row 1 has more than 134217728 bytes", "1 rows of"] {
        ensure!(ended.output.contains(said), "it does not say {said:?}: {}", ended.output);
    }
    Ok(())
}

async fn refuses_a_link() -> Result<()> {
    let (out, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
    // Where the broker is another one, the run's folder is the one that is named.
    let mut broker = binary("superhero");
    broker.args(["broker", "listen=127.0.0.1:0"]);
    let mut broker = Process::spawn("superhero broker", broker)?;
    let kafka = broker.listening().await?;
    for name in ["log", "superhero"] {
        symlink(elsewhere.path(), out.path().join(name))?;
        let mut command = binary("superhero");
        command.args(["up", "players=2", "games=1", "pace=0", &format!("kafka={kafka}")]);
        command.arg(format!("out={}", out.path().display()));
        let ended = Process::spawn("superhero up", command)?.wait().await?;
        let said = format!("{name} is a link");
        ensure!(
            ended.status.code() == Some(FAILURE) && ended.output.contains(&said),
            "{}: {}",
            ended.status,
            ended.output
        );
        fs::remove_file(out.path().join(name))?;
    }
    ensure!(fs::read_dir(elsewhere.path())?.next().is_none(), "something was written there");
    broker.stop().await?;
    Ok(())
}
