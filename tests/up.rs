//! `superhero up`, `trial`, `verify` and `broker` as their users meet them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::process::Command;

use crate::checker::files_below;
use crate::process::{EXIT_DEADLINE, Ended, Process, Signal, binary, eventually};
use crate::test;

const NOT_VERIFIED: i32 = 4;
const USAGE: i32 = 2;
const INTERRUPTED: i32 = 130;

/// The all-in-one commands.
pub fn tests() -> Vec<Trial> {
    vec![
        test("up: plays, checks, sums up, and verify agrees", sums_up),
        test("up: what it prints for copying works for a folder of any name", copies),
        test("up: what was lost from the files afterwards is told by verify", loss_is_told),
        test("up: an unknown key or a bad value is refused with the list of keys", refuses),
        test("up: one SIGTERM ends the playing early and brings everything to its end", stops_early),
        test("up: a second signal aborts", aborts),
        test("trial: ends in a table and a chart", trial),
        test("trial scale: one row for each size", scale),
        test("broker: a taken port is named", taken),
    ]
}

/// Small and fast.
fn command(words: &[&str], out: &Path) -> Command {
    let mut command = binary("superhero");
    command.args(words).args(["players=4", "games=2", "pace=0", "seed=3"]).arg(format!("out={}", out.display()));
    command
}

async fn run(command: Command) -> Result<Ended> {
    Process::spawn("superhero", command)?.wait().await
}

/// The object that was printed, in the last line.
fn report(ended: &Ended) -> Result<Value> {
    ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.output);
    let line = ended.output.lines().last().context("nothing was printed")?;
    serde_json::from_str(line).with_context(|| format!("no JSON object: {line}"))
}

async fn sums_up() -> Result<()> {
    let out = tempfile::tempdir()?;
    let ended = run(command(&["up"], out.path())).await?;
    ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.output);
    for said in ["Every event is in the files, once.", "latency", "hero", "DuckDB", "pandas", "polars", "Spark", "jq"] {
        ensure!(ended.output.contains(said), "the summary lacks {said:?}:\n{}", ended.output);
    }
    ensure!(
        !ended.output.contains('\r') && !ended.output.contains('\x1b'),
        "progress where no terminal is:\n{}",
        ended.output
    );

    let mut json = command(&["up", "output=json", "--workers", "2"], out.path());
    json.arg("servers=2");
    let report = report(&run(json).await?)?;
    let events = &report["events"];
    ensure!(report["verified"] == true && events["emitted"].as_u64() > Some(0), "{report}");
    ensure!(events["emitted"] == events["acknowledged"] && events["emitted"] == events["written"], "{report}");
    ensure!(events["duplicates"] == 0 && report["settings"]["workers"] == 2, "{report}");
    let runs = std::fs::read_dir(out.path())?.count();
    ensure!(runs == 2, "two runs made {runs} folders");

    let folder = report["folder"].as_str().context("a folder")?;
    let verified = self::report(&verify(folder).await?)?;
    ensure!(
        verified["rows"]["raw"] == events["written"] && verified["games"] == report["games"]["completed"],
        "{verified}"
    );
    Ok(())
}

async fn verify(folder: &str) -> Result<Ended> {
    let mut command = binary("superhero");
    command.args(["verify", "output=json", folder]);
    run(command).await
}

async fn copies() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("it's \"my\" $data [of] *");
    let ended = run(command(&["up"], &out)).await?;
    ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.output);
    let line = ended.output.lines().find_map(|line| line.strip_prefix("jq ")).context("no line for jq")?;
    // Nothing is to be installed for this test: what jq would get is enough.
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("jq() {{ cat; }}; {}", line.trim())]);
    let rows = run(shell).await?;
    ensure!(rows.status.success() && rows.output.contains("\"rank\""), "{line}\n{}", rows.output);
    Ok(())
}

async fn loss_is_told() -> Result<()> {
    let out = tempfile::tempdir()?;
    let report = report(&run(command(&["up", "output=json"], out.path())).await?)?;
    let folder = report["folder"].as_str().context("a folder")?;
    let raw = Path::new(folder).join("superhero/raw/topic=lib.server.lobby");
    let files = files_below(&raw)?;
    std::fs::remove_file(files.first().context("a file")?)?;
    let ended = verify(folder).await?;
    ensure!(ended.status.code() == Some(NOT_VERIFIED), "it ended with {}:\n{}", ended.status, ended.output);
    ensure!(ended.output.contains("lib.server.lobby"), "the topic is not named:\n{}", ended.output);
    Ok(())
}

async fn refuses() -> Result<()> {
    let out = tempfile::tempdir()?;
    for (word, says) in [
        ("playrs=3", &["playrs", "players, "][..]),
        ("workers=many", &["many", "workers", "players, "]),
        ("kafka=nowhere", &["nowhere", "port"]),
        ("redis=nowhere", &["nowhere", "host:port"]),
        ("workers=0", &["workers=0", "at least 1"]),
        ("players=1", &["players=1", "at least 2"]),
        ("partitions=-3", &["-3", "from 1 upwards"]),
    ] {
        let mut command = binary("superhero");
        command.args(["up", word]).arg(format!("out={}", out.path().display()));
        let ended = run(command).await?;
        ensure!(ended.status.code() == Some(USAGE), "{word}: it ended with {}:\n{}", ended.status, ended.output);
        for said in says {
            ensure!(ended.output.contains(said), "{word}: it does not say {said:?}:\n{}", ended.output);
        }
    }
    ensure!(std::fs::read_dir(out.path())?.next().is_none(), "a folder was made");
    Ok(())
}

/// A run that would take long.
async fn long(out: &Path) -> Result<Process> {
    let mut command = binary("superhero");
    command.args(["up", "players=10", "games=1000", "pace=0.05", "output=json", "log-level=info"]);
    command.arg(format!("out={}", out.display()));
    let process = Process::spawn("superhero up", command)?;
    eventually("games are over", EXIT_DEADLINE, async || {
        let files = files_below(out)?;
        Ok(files.iter().any(|file| file.to_string_lossy().contains("GAME_PODIUM")))
    })
    .await?;
    Ok(process)
}

async fn stops_early() -> Result<()> {
    let out = tempfile::tempdir()?;
    let process = long(out.path()).await?;
    process.signal(Signal::TERM)?;
    let report = report(&process.wait().await?)?;
    ensure!(report["verified"] == true && report["stopped_early"] == true, "{report}");
    ensure!(report["events"]["written"] == report["events"]["emitted"], "{report}");
    Ok(())
}

async fn aborts() -> Result<()> {
    let out = tempfile::tempdir()?;
    let process = long(out.path()).await?;
    // Two of the same kind may be told as one. What the first has begun waits for files to be due, for longer than a signal takes.
    process.signal(Signal::TERM)?;
    process.signal(Signal::INT)?;
    let ended = process.wait().await?;
    ensure!(ended.status.code() == Some(INTERRUPTED), "it ended with {}:\n{}", ended.status, ended.output);
    Ok(())
}

async fn trial() -> Result<()> {
    let out = tempfile::tempdir()?;
    for name in ["production", "workers", "dead-workers"] {
        let ended = run(command(&["trial", name], out.path())).await?;
        ensure!(ended.status.success(), "{name} ended with {}:\n{}", ended.status, ended.output);
        for said in ["Every event is in the files, once.", "┤", "0 s"] {
            ensure!(ended.output.contains(said), "{name} does not show {said:?}:\n{}", ended.output);
        }
        let since = if name == "dead-workers" { "s after the workers' start" } else { "s after the last event" };
        ensure!(ended.output.contains(since), "{name} does not count the lag's time {since:?}:\n{}", ended.output);
    }
    Ok(())
}

async fn scale() -> Result<()> {
    let out = tempfile::tempdir()?;
    let mut command = binary("superhero");
    command.args(["trial", "scale", "players=2,4", "games=1", "pace=0", "output=json"]);
    command.arg(format!("out={}", out.path().display()));
    let reports = report(&run(command).await?)?;
    let players: Vec<_> =
        reports.as_array().context("a list")?.iter().map(|report| &report["settings"]["players"]).collect();
    ensure!(players == [2, 4], "the runs had {players:?} players");
    Ok(())
}

async fn taken() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let mut command = binary("superhero");
    command.args(["broker", "--listen", &address]);
    let ended = run(command).await?;
    ensure!(ended.status.code() == Some(1), "it ended with {}:\n{}", ended.status, ended.output);
    ensure!(ended.output.contains(&address) && ended.output.contains("in use"), "{}", ended.output);
    Ok(())
}
