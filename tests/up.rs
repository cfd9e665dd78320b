//! `superhero up`, `trial`, `verify` and `broker` as their users meet them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::process::Command;

use crate::checker::files_below;
use crate::process::{EXIT_DEADLINE, Ended, Process, Signal, binary, eventually, signal};
use crate::services::{Kafka, free_port};
use crate::terminal::{Terminal, pieces};
use crate::test;

const FAILURE: i32 = 1;
const NOT_VERIFIED: i32 = 4;
const USAGE: i32 = 2;
const INTERRUPTED: i32 = 130;

/// A first Ctrl-C is answered by then, however busy the machine is.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Far less than a run waits for workers that do nothing.
const WITHOUT_A_WAIT: Duration = Duration::from_secs(30);

/// The all-in-one commands.
pub fn tests() -> Vec<Trial> {
    vec![
        test("up: plays, checks, sums up, and verify agrees", sums_up),
        test("up: what it prints for copying works for a folder of any name", copies),
        test("up: what was lost from the files afterwards is told by verify", loss_is_told),
        test("up: an unknown key or a bad value is refused with the list of keys", refuses),
        test("up: more partitions than can be are refused by the setting, with the most that can", many_partitions),
        test("up: one SIGTERM ends the playing early and brings everything to its end", stops_early),
        test("up: a second signal aborts", aborts),
        test("up: a Kafka or a Redis that is not there is told at once, and a signal ends the wait", waits),
        test("up: on a terminal no line is longer than it is wide, and the first Ctrl-C says what is still done", fits),
        test("up: on a terminal a wait tells its reason, and Ctrl-C ends it", waits_on_a_terminal),
        test(
            "up: a folder of another cluster or topic, or without the rows of before, is refused before anything is played",
            other_origin,
        ),
        test("up: what keeps the workers from writing is told at once, and a signal ends the waiting", cannot_write),
        test("trial: ends in a table and a chart", trial),
        test("trial scale: one row for each size", scale),
        test("trial scale: a SIGTERM reaches the run that goes on", scale_stops),
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
    let verdict = ended.output.lines().last();
    ensure!(verdict == Some("Every event is in the files, once."), "it ends with {verdict:?}:\n{}", ended.output);
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
    let mut mistyped = binary("superhero");
    mistyped.args(["verify", folder, "topics=lib.server.lobby,lib.server.loby"]);
    let ended = run(mistyped).await?;
    ensure!(
        ended.status.code() == Some(USAGE) && ended.output.contains("--topics lib.server.loby: there is nothing"),
        "it ended with {}:\n{}",
        ended.status,
        ended.output
    );
    let raw = Path::new(folder).join("superhero/raw/topic=lib.server.lobby");
    let files = files_below(&raw)?;
    std::fs::remove_file(files.first().context("a file")?)?;
    let ended = verify(folder).await?;
    ensure!(ended.status.code() == Some(NOT_VERIFIED), "it ended with {}:\n{}", ended.status, ended.output);
    ensure!(ended.output.contains("lib.server.lobby"), "the topic is not named:\n{}", ended.output);
    Ok(())
}

async fn many_partitions() -> Result<()> {
    let out = tempfile::tempdir()?;
    for (partitions, said) in [
        (
            "2000",
            "partitions=2000 needs some 60232 open files, but this process may have 10000; partitions=325 is the most",
        ),
        ("3334", "partitions=3334: the embedded broker takes at most 3333 of each topic"),
    ] {
        let mut limited = Command::new("bash");
        let superhero = binary("superhero").as_std().get_program().to_owned();
        limited.args(["-c", "ulimit -n 10000; exec \"$0\" \"$@\""]).arg(superhero).args([
            "up",
            "players=4",
            "games=2",
            "pace=0",
        ]);
        limited.arg(format!("partitions={partitions}")).arg(format!("out={}", out.path().display()));
        let ended = run(limited).await?;
        ensure!(ended.status.code() == Some(USAGE), "{}: {}", ended.status, ended.output);
        ensure!(ended.output.contains(said), "{}", ended.output);
    }
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
async fn long(words: &[&str], out: &Path) -> Result<Process> {
    let mut command = binary("superhero");
    command.args(words).args(["games=1000", "pace=0.05", "output=json", "log-level=info"]);
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
    let process = long(&["up", "players=10"], out.path()).await?;
    process.signal(Signal::TERM)?;
    let ended = process.wait().await?;
    ensure!(ended.output.contains("stopping: "), "it does not say that it stops:\n{}", ended.output);
    let report = report(&ended)?;
    ensure!(report["verified"] == true && report["stopped_early"] == true, "{report}");
    ensure!(report["events"]["written"] == report["events"]["emitted"], "{report}");
    Ok(())
}

async fn aborts() -> Result<()> {
    let out = tempfile::tempdir()?;
    let process = long(&["up", "players=10"], out.path()).await?;
    // Two of the same kind may be told as one. What the first has begun waits for files to be due, for longer than a signal takes.
    process.signal(Signal::TERM)?;
    process.signal(Signal::INT)?;
    let ended = process.wait().await?;
    ensure!(ended.status.code() == Some(INTERRUPTED), "it ended with {}:\n{}", ended.status, ended.output);
    Ok(())
}

/// A run that needs a service where nobody listens, and the service's address.
fn command_in_vain(service: &str, out: &Path) -> Result<(Command, String)> {
    let address = format!("127.0.0.1:{}", free_port()?);
    Ok((command(&["up", &format!("{service}={address}")], out), address))
}

async fn waits() -> Result<()> {
    for (service, name) in [("kafka", "Kafka"), ("redis", "Redis")] {
        let out = tempfile::tempdir()?;
        let (command, address) = command_in_vain(service, out.path())?;
        let mut process = Process::spawn("superhero up", command)?;
        process.prints(&format!("waiting for {name} at {address}, ")).await?;
        process.prints("refused").await?;
        process.signal(Signal::INT)?;
        let ended = process.wait().await?;
        ensure!(ended.status.code() == Some(FAILURE), "it ended with {}:\n{}", ended.status, ended.output);
        let said = format!("stopped before {name} at {address} was ready");
        ensure!(ended.output.contains(&said), "it does not say {said:?}:\n{}", ended.output);
        ensure!(!ended.output.contains(['\r', '\x1b']), "it draws where no terminal is:\n{}", ended.output);
    }
    Ok(())
}

async fn waits_on_a_terminal() -> Result<()> {
    for (service, name) in [("kafka", "Kafka"), ("redis", "Redis")] {
        let out = tempfile::tempdir()?;
        let (command, address) = command_in_vain(service, out.path())?;
        let mut terminal = Terminal::spawn(command, 60, 24)?;
        shows(&terminal, &format!("waiting for {name} at {address}, 0 of 30 s"), EXIT_DEADLINE).await?;
        shows(&terminal, "refused", EXIT_DEADLINE).await?;
        shows(&terminal, &format!("waiting for {name} at {address}, 1 of 30 s"), EXIT_DEADLINE).await?;
        signal(terminal.child.id().context("it waits")?, Signal::INT)?;
        shows(&terminal, &format!("stopped before {name} at {address} was ready"), AT_ONCE).await?;
        let status = tokio::time::timeout(EXIT_DEADLINE, terminal.child.wait()).await??;
        ensure!(status.code() == Some(FAILURE), "it ended with {status}:\n{}", terminal.written());
    }
    Ok(())
}

async fn fits() -> Result<()> {
    let out = tempfile::tempdir()?;
    let mut command = binary("superhero");
    command.args(["up", "players=10", "games=1000", "pace=0.05", "log-level=info"]);
    command.arg(format!("out={}", out.path().display()));
    // The one line that is no progress: a folder's name is told whole.
    let other = |piece: &String| !piece.starts_with("the run's files go to");
    let is_longer = |written: &str, columns| {
        pieces(written).into_iter().filter(other).find(|piece| piece.chars().count() > columns)
    };
    let terminal = Terminal::spawn(command, 80, 24)?;
    shows(&terminal, "playing", EXIT_DEADLINE).await?;
    shows(&terminal, "lag", EXIT_DEADLINE).await?;
    let wide = terminal.written();
    ensure!(is_longer(&wide, 80).is_none(), "longer than 80 columns: {:?}", is_longer(&wide, 80));

    terminal.resize(24, 24)?;
    let drawings = || terminal.written().matches("playing").count();
    let before = drawings();
    // One drawing may be under way with the old size.
    eventually("it is drawn at the new size", EXIT_DEADLINE, async || Ok(drawings() > before + 1)).await?;
    let narrow = terminal.written().len();
    eventually("it is drawn again", EXIT_DEADLINE, async || Ok(drawings() > before + 3)).await?;

    signal(terminal.child.id().context("it plays")?, Signal::INT)?;
    eventually("the stop is told", AT_ONCE, async || Ok(terminal.written()[narrow..].contains("stopping: "))).await?;
    signal(terminal.child.id().context("it stops")?, Signal::INT)?;
    let narrow = terminal.written().split_off(narrow);
    ensure!(is_longer(&narrow, 24).is_none(), "longer than 24 columns: {:?}", is_longer(&narrow, 24));
    Ok(())
}

async fn shows(terminal: &Terminal, text: &str, deadline: Duration) -> Result<()> {
    eventually(&format!("{text:?} is shown"), deadline, async || Ok(terminal.written().contains(text)))
        .await
        .with_context(|| {
            format!("its last lines are {:?}", pieces(&terminal.written()).iter().rev().take(20).collect::<Vec<_>>())
        })
}

/// A run on a Kafka, whose files go straight to `out`.
fn on_kafka(kafka: &Kafka, out: &Path) -> Command {
    let mut command = command(&["up"], out);
    command.arg(format!("kafka={}", kafka.bootstrap));
    command
}

async fn other_origin() -> Result<()> {
    let (out, kafka) = (tempfile::tempdir()?, Kafka::embedded()?);
    let first = run(on_kafka(&kafka, out.path())).await?;
    ensure!(first.status.success(), "it ended with {}:\n{}", first.status, first.output);
    let refused = async |kafka: &Kafka, says: &[&str]| -> Result<()> {
        let begun = Instant::now();
        let ended = run(on_kafka(kafka, out.path())).await?;
        ensure!(ended.status.code() == Some(1), "it ended with {}:\n{}", ended.status, ended.output);
        ensure!(
            begun.elapsed() < WITHOUT_A_WAIT && !ended.output.contains("events"),
            "it has played:\n{}",
            ended.output
        );
        for said in says.iter().chain([&&*kafka.bootstrap, &out.path().to_string_lossy().as_ref()]) {
            ensure!(ended.output.contains(said), "it does not say {said:?}:\n{}", ended.output);
        }
        Ok(())
    };
    let remembered = out.path().join("superhero/.superhero");
    let cluster = std::fs::read_to_string(remembered.join("cluster"))?;
    let other = Kafka::embedded()?;
    // Its own group, and a folder that has none of its rows.
    let elsewhere = tempfile::tempdir()?;
    let ended = run(on_kafka(&kafka, elsewhere.path())).await?;
    let says = "the group superhero_sim has taken";
    ensure!(ended.status.code() == Some(1) && ended.output.contains(says), "{}:\n{}", ended.status, ended.output);
    refused(&other, &["holds records of the Kafka cluster", &cluster, "connect to the cluster of the folder"]).await?;
    // As if the topic were another since.
    std::fs::write(remembered.join("topics/lib.server.game"), "an-id-of-before")?;
    refused(&kafka, &["lib.server.game", "an-id-of-before", "deleted and made again", "use a new folder"]).await
}

async fn cannot_write() -> Result<()> {
    const SYSTEM_SAYS: &str = "Not a directory (os error 20)";
    let (out, kafka) = (tempfile::tempdir()?, Kafka::embedded()?);
    // Nothing can be made below a file, whoever tries; to the worker it is the same as a full disk.
    let in_the_way = out.path().join("superhero/GAME_META");
    std::fs::create_dir(out.path().join("superhero"))?;
    std::fs::write(&in_the_way, "")?;
    let mut command = binary("superhero");
    command.args(["up", "players=4", "games=1000", "pace=0.05"]).arg(format!("kafka={}", kafka.bootstrap));
    command.arg(format!("out={}", out.path().display()));
    let mut process = Process::spawn("superhero up", command)?;
    process.prints("the workers cannot go on, and try again: ").await?;
    process.prints(SYSTEM_SAYS).await?;
    let begun = Instant::now();
    process.signal(Signal::TERM)?;
    let ended = process.wait().await?;
    ensure!(begun.elapsed() < WITHOUT_A_WAIT, "it went on for {:?}:\n{}", begun.elapsed(), ended.output);
    ensure!(ended.status.code() == Some(NOT_VERIFIED), "it ended with {}:\n{}", ended.status, ended.output);
    let finding = ended.output.lines().find(|line| line.contains("the workers could not go on: "));
    let place = in_the_way.display().to_string();
    ensure!(finding.is_some_and(|said| said.contains(SYSTEM_SAYS) && said.contains(&place)), "{}", ended.output);
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
        let verdict = ended.output.lines().last();
        ensure!(verdict == Some("Every event is in the files, once."), "it ends with {verdict:?}:\n{}", ended.output);
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

async fn scale_stops() -> Result<()> {
    let out = tempfile::tempdir()?;
    let process = long(&["trial", "scale", "players=10,20"], out.path()).await?;
    process.signal(Signal::TERM)?;
    let ended = process.wait().await?;
    ensure!(ended.output.contains("stopped early: 1 of 2 runs"), "{}", ended.output);
    let reports = report(&ended)?;
    ensure!(reports.as_array().is_some_and(|reports| reports.len() == 1), "{reports}");
    ensure!(reports[0]["stopped_early"] == true && reports[0]["verified"] == true, "{reports}");
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
