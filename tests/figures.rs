//! What a run says of itself, computed once more from its rows, and what it promises for a seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::process::Command;

use crate::checker::{files_below, lines};
use crate::process::{Ended, Process, Signal, binary, eventually};
use crate::services::Redis;
use crate::{real, test};

const NOT_VERIFIED: i32 = 4;

/// For the embedded broker and for a run to get somewhere.
const DEADLINE: Duration = Duration::from_secs(60);

/// Rates may differ by so much from those of the rows' times, which are rounded to milliseconds.
const TOLERANCE: f64 = 0.05;

/// Figures and seeds.
pub fn tests() -> Vec<Trial> {
    vec![
        test("figures: rates are those of the rows' own times", rates),
        test("figures: two players play their game, whatever the seed", everybody_plays),
        test("figures: a seed plays the same games, whatever the pace, the workers and the servers", same_games),
        real("figures: with a Redis everybody plays as well, runs of before included", everybody_plays_with_redis),
        test("figures: a second run on the same Kafka counts its own games", of_this_run),
        test("figures: a run without a game says so first and ends with 4", no_game),
        test("figures: how late rows were is not told of files that may be copies", copies),
    ]
}

async fn superhero(words: &[&str], out: &Path) -> Result<Ended> {
    let mut command = binary("superhero");
    command.args(words).arg(format!("out={}", out.display()));
    Process::spawn("superhero", command)?.wait().await
}

/// What a run that ended well printed in its last line.
async fn report(words: &[&str], out: &Path) -> Result<Value> {
    let ended = superhero(&[words, &["output=json"]].concat(), out).await?;
    ensure!(ended.status.success(), "{words:?} ended with {}:\n{}", ended.status, ended.output);
    let line = ended.output.lines().last().context("nothing was printed")?;
    serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))
}

fn folder(report: &Value) -> Result<&Path> {
    Ok(Path::new(report["folder"].as_str().context("a folder")?))
}

/// The rows of a table.
fn rows(folder: &Path, table: &str) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for file in files_below(&folder.join("superhero").join(table))? {
        for line in lines(&file)? {
            rows.push(serde_json::from_str(&line).with_context(|| format!("{}: {line}", file.display()))?);
        }
    }
    Ok(rows)
}

/// Events a second, from the first row's time to the last's.
fn events_per_second(folder: &Path) -> Result<f64> {
    let mut times = Vec::new();
    for row in rows(folder, "raw")? {
        let text = row["timestamp"].as_str().context("a timestamp")?;
        times.push(chrono::DateTime::parse_from_rfc3339(text)?.timestamp_millis());
    }
    let (first, last) = times.iter().min().zip(times.iter().max()).context("no rows")?;
    ensure!(last > first, "all {} rows are of one millisecond", times.len());
    Ok(times.len() as f64 * 1000.0 / (last - first) as f64)
}

async fn rates() -> Result<()> {
    let out = tempfile::tempdir()?;
    let up = report(&["up", "players=30", "games=4", "pace=0"], out.path()).await?;
    let scale = report(&["trial", "scale", "players=10,40", "games=3", "pace=0"], out.path()).await?;
    for report in [&up].into_iter().chain(scale.as_array().context("a report for each size")?) {
        let told = report["events"]["per_second"].as_f64().context("a rate")?;
        let found = events_per_second(folder(report)?)?;
        ensure!((told / found - 1.0).abs() < TOLERANCE, "{told} events a second are told, {found} are in the rows");
        let games = report["games"]["per_second"].as_f64().context("a rate")?;
        let share = report["games"]["completed"].as_f64().context("games")?
            / report["events"]["emitted"].as_f64().context("events")?;
        ensure!((games / (found * share) - 1.0).abs() < TOLERANCE, "{games} games a second: {report}");
        ensure!(report["games"]["completed"] == report["games"]["planned"], "{}", report["games"]);
        ensure!(report["used"]["waiting_seconds"] == 0.0, "{}", report["used"]);
    }
    Ok(())
}

async fn everybody_plays() -> Result<()> {
    let out = tempfile::tempdir()?;
    for seed in 1..=6 {
        let report = report(&["up", "players=2", "games=1", "pace=0", &format!("seed={seed}")], out.path()).await?;
        ensure!(report["games"]["completed"] == 1 && report["games"]["in_tables"] == 1, "seed {seed}: {report}");
    }
    Ok(())
}

async fn everybody_plays_with_redis() -> Result<()> {
    let out = tempfile::tempdir()?;
    let redis = Redis::start()?;
    let redis = format!("redis=127.0.0.1:{}", redis.port);
    for seed in 1..=3 {
        let words = ["up", "players=5", "games=2", "pace=0", &redis, &format!("seed={seed}")];
        let games = &report(&words, out.path()).await?["games"];
        ensure!(
            games["completed"] == games["planned"] && games["in_tables"] == games["planned"],
            "seed {seed}: {games}"
        );
    }
    Ok(())
}

/// Of each game, its rows in the tables without the tokens and places that are new with every run; the games in no order.
fn games(folder: &Path) -> Result<Vec<String>> {
    let mut players: BTreeMap<(String, String), [Option<Value>; 2]> = BTreeMap::new();
    for (place, table) in ["GAME_META", "GAME_PODIUM"].into_iter().enumerate() {
        for mut row in rows(folder, table)? {
            let fields = row.as_object_mut().context("an object")?;
            ["topic", "partition", "offset"].iter().for_each(|name| drop(fields.remove(*name)));
            let mut token = |name: &str| {
                let token = fields.remove(name).context("a token")?;
                Ok::<_, anyhow::Error>(token.as_str().context("a text")?.to_owned())
            };
            let player = (token("game_token")?, token("user_token")?);
            players.entry(player).or_default()[place] = Some(row);
        }
    }
    let mut games: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((game, _), rows) in players {
        games.entry(game).or_default().push(format!("{rows:?}"));
    }
    let mut games: Vec<_> = games.into_values().map(|players| players.join("\n")).collect();
    games.sort();
    Ok(games)
}

async fn same_games() -> Result<()> {
    let out = tempfile::tempdir()?;
    let mut known = None;
    for differently in [
        ["pace=0", "workers=1", "servers=1"],
        ["pace=0", "workers=3", "servers=1"],
        ["pace=0.05", "workers=1", "servers=3"],
    ] {
        let words = [&["up", "players=6", "games=2", "seed=42"], &differently[..]].concat();
        let report = report(&words, out.path()).await?;
        let games = games(folder(&report)?)?;
        ensure!(report["games"]["planned"] == games.len() && !games.is_empty(), "{}", report["games"]);
        let known = known.get_or_insert_with(|| games.clone());
        ensure!(*known == games, "{differently:?} played other games:\n{known:#?}\n{games:#?}");
    }
    let other = report(&["up", "players=6", "games=2", "seed=43", "pace=0"], out.path()).await?;
    ensure!(known != Some(games(folder(&other)?)?), "another seed plays the same games");
    let drawn = report(&["up", "players=2", "games=1", "pace=0"], out.path()).await?;
    let seed = drawn["settings"]["seed"].as_u64().context("a seed")?;
    ensure!(seed < 1 << 53, "{seed} is no number that every reader of JSON keeps");
    Ok(())
}

async fn of_this_run() -> Result<()> {
    let out = tempfile::tempdir()?;
    let mut command = binary("superhero");
    command.args(["broker", "--listen", "127.0.0.1:0"]);
    let mut broker = Process::spawn("superhero broker", command)?;
    let address = broker.listening().await?;
    let kafka = format!("kafka={address}");
    let words = ["up", "players=4", "games=1", "pace=0", "seed=7", &kafka];
    let (first, second) = (report(&words, out.path()).await?, report(&words, out.path()).await?);
    for name in ["completed", "in_tables"] {
        ensure!(first["games"][name] == second["games"][name], "{name}: {} and {}", first["games"], second["games"]);
    }
    ensure!(first["winners"] == second["winners"], "{} and {}", first["winners"], second["winners"]);
    ensure!(first["files"]["with_others"] == false && second["files"]["with_others"] == true, "{}", second["files"]);
    let told = superhero(&words, out.path()).await?.output;
    ensure!(told.contains("in the folder, others' rows and those of earlier runs included"), "{told}");
    broker.stop().await.map(drop)
}

async fn no_game() -> Result<()> {
    let out = tempfile::tempdir()?;
    let mut command = binary("superhero");
    // A turn takes so long that no game is over.
    command
        .args(["up", "players=2", "games=1", "pace=20", "log-level=info"])
        .arg(format!("out={}", out.path().display()));
    let process = Process::spawn("superhero up", command)?;
    eventually("the players have their seats", DEADLINE, async || {
        let rows = "raw/topic=lib.server.lobby";
        Ok(files_below(out.path())?.iter().any(|file| file.to_string_lossy().contains(rows)))
    })
    .await?;
    process.signal(Signal::TERM)?;
    let ended = process.wait().await?;
    ensure!(ended.status.code() == Some(NOT_VERIFIED), "it ended with {}:\n{}", ended.status, ended.output);
    // What comes before is told on standard error.
    let mut lines = ended.output.lines().skip_while(|line| !line.starts_with("stopping: ")).skip(1);
    let summary = lines.next().unwrap_or_default();
    ensure!(summary == "NO GAME WAS PLAYED", "it says first {summary:?}:\n{}", ended.output);
    Ok(())
}

async fn copies() -> Result<()> {
    let out = tempfile::tempdir()?;
    let report = report(&["up", "players=2", "games=1", "pace=0"], out.path()).await?;
    ensure!(report["latency"]["p50_ms"].as_f64() > Some(0.0), "a run knows when it published: {report}");
    let copy = out.path().join("copy");
    let copied = Command::new("cp").arg("-r").arg(folder(&report)?).arg(&copy).status().await?;
    ensure!(copied.success(), "cp ended with {copied}");
    for output in ["output=text", "output=json"] {
        let mut command = binary("superhero");
        command.args(["verify", output, "--out"]).arg(&copy);
        let ended = Process::spawn("superhero verify", command)?.wait().await?;
        ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.output);
        ensure!(
            !ended.output.contains("p50"),
            "a copy's files do not know when they were published:\n{}",
            ended.output
        );
    }
    Ok(())
}
