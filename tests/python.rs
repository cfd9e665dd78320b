//! A Python client and a Python server, written against the specification alone: the one plays with our bots on our server, and our bots
//! play on the other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::process::Command;

use crate::process::{Process, binary};
use crate::real;
use crate::services::{Kafka, Redis};

/// Games with a stranger.
pub fn tests() -> Vec<Trial> {
    vec![
        real("a Python client plays whole games with our bots", plays_with_our_bots),
        real(
            "our bots play whole games on a server that announces turns as the reference does",
            plays_as_the_reference,
        ),
    ]
}

/// An interpreter that has what `requirements.txt` lists.
pub async fn interpreter() -> Result<String> {
    let made = Command::new(folder().join("venv")).output().await?;
    ensure!(made.status.success(), "tests/python/venv: {}", String::from_utf8_lossy(&made.stderr));
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}

/// `kafka_client.py`, which tells its use in its head.
pub async fn kafka_client(library: &str, action: &str, kafka: &Kafka, topic: &str) -> Result<Command> {
    let mut command = Command::new(interpreter().await?);
    command.arg(folder().join("kafka_client.py"));
    command.args([library, action, "--bootstrap", &kafka.bootstrap, "--topic", topic]);
    Ok(command)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}

async fn plays_with_our_bots() -> Result<()> {
    const GAMES: u64 = 3;
    let (folder, python) = (folder(), interpreter().await?);
    let redis = Redis::shared()?;
    let mut command = binary("superhero-server");
    command.env("REDIS_PORT", redis.port.to_string()).env("REDIS_DB", "6").env("LOGGER_MODULE", "default");
    command.env("WEBSOCKET_HOST", "127.0.0.1").env("WEBSOCKET_PORT", "0").env("SERVER_SLEEP", "0.01");
    let mut server = Process::spawn("server", command)?;
    let address = server.listening().await?;

    let mut command = binary("superhero-player");
    command.args(["--players", "6", "--games", "-1", "--servers", &address, "--seed", "11"]);
    let bots = Process::spawn("players", command)?;

    for participants in ["2", "3"] {
        // Clients of the reference share names: both play as one user, each in games of its own.
        let mut clients = Vec::new();
        for seed in ["5", "6"] {
            let mut command = Command::new(&python);
            command.arg(folder.join("bot.py")).args(["--url", &format!("ws://{address}"), "--seed", seed]);
            command.args(["--games", &GAMES.to_string(), "--participants", participants, "--user", "Monty"]);
            clients.push(Process::spawn("bot.py", command)?);
        }
        for client in clients {
            let summary = summary(&client.succeed().await?)?;
            ensure!(summary["games"] == GAMES, "bot.py played {summary}");
        }
    }
    bots.stop().await?;
    server.stop().await?;
    Ok(())
}

/// What a Python program sums up in its last line.
fn summary(printed: &str) -> Result<Value> {
    Ok(serde_json::from_str(printed.lines().last().context("nothing was printed")?)?)
}

async fn plays_as_the_reference() -> Result<()> {
    let python = interpreter().await?;
    // Waits for each other would add up.
    tokio::try_join!(
        play_on_reference(&python, "0.1", "--sleep 0.02", ["repeated"]),
        play_on_reference(&python, "0.02", "--sleep 0.1 --late", ["late"]),
        play_on_reference(&python, "0", "--sleep 0.05 --late", ["late"]),
        play_on_reference(&python, "0.1", "--sleep 0.02 --late --lose-answers 5", ["repeated", "late", "lost_answers"]),
    )?;
    Ok(())
}

/// Lets bots with a `CLIENT_SLEEP` play on a server with such arguments, which must see some of each of `seen`, and nothing wrong.
async fn play_on_reference<const N: usize>(
    python: &str,
    client_sleep: &str,
    arguments: &str,
    seen: [&str; N],
) -> Result<()> {
    let mut command = Command::new(python);
    command.arg(folder().join("reference_server.py")).args(["--lobby-timeout", "2"]);
    command.args(arguments.split(' '));
    let mut server = Process::spawn("reference_server.py", command)?;
    let address = server.listening().await?;

    let mut command = binary("superhero-player");
    command.args(["--players", "9", "--games", "3", "--servers", &address, "--seed", "11"]);
    command.args(["--client-sleep", client_sleep]);
    let played = Process::spawn("players", command)?.succeed().await;

    let summary = summary(&server.stop().await?)?;
    let told = format!("CLIENT_SLEEP {client_sleep}, {arguments}: {summary}");
    println!("{told}");
    played.with_context(|| told.clone())?;
    ensure!(summary["violations"] == serde_json::json!({}), "a bot did what a correct client never does; {told}");
    ensure!(summary["unfinished"] == 0, "games have no end; {told}");
    for what in ["completed", "attacks"].into_iter().chain(seen) {
        ensure!(summary[what].as_u64().is_some_and(|count| count > 0), "none {what}; {told}");
    }
    Ok(())
}
