//! A Python client, written against the specification alone, plays with our bots on our server.

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
    vec![real("a Python client plays whole games with our bots", plays_with_our_bots)]
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
    command.args(["--players", "3", "--games", "-1", "--servers", &address, "--seed", "11"]);
    let bots = Process::spawn("players", command)?;

    for participants in ["2", "3"] {
        let mut command = Command::new(&python);
        command.arg(folder.join("bot.py")).args(["--url", &format!("ws://{address}"), "--seed", "5"]);
        command.args(["--games", &GAMES.to_string(), "--participants", participants, "--user", "Monty"]);
        let printed = Process::spawn("bot.py", command)?.succeed().await?;
        let summary: Value = serde_json::from_str(printed.lines().last().context("bot.py printed nothing")?)?;
        ensure!(summary["games"] == GAMES, "bot.py played {summary}");
    }
    bots.stop().await?;
    server.stop().await?;
    Ok(())
}
