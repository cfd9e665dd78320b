//! Seats that nobody comes to, on a real Redis: what they do to those who play, and what is left of them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use libtest_mimic::Trial;
use tokio_tungstenite::tungstenite::Message;

use crate::process::{Process, binary, eventually};
use crate::real;
use crate::services::Redis;

/// Games that one user asks for and never attends.
const GHOSTS: usize = 4_000;
/// Connections that it asks on at the same time.
const CONNECTIONS: usize = 8;
/// For the store to have looked after all that is left.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// The tests of this file.
pub fn tests() -> Vec<Trial> {
    vec![real("ghosts: thousands of seats that nobody attends hold nobody up and leave nothing in Redis", ghosts)]
}

async fn ghosts() -> Result<()> {
    let redis = Redis::start()?;
    let mut command = binary("superhero-server");
    command.env("REDIS_PORT", redis.port.to_string()).env("WEBSOCKET_PORT", "0").env("SERVER_SLEEP", "0");
    command.env("LOGGER_MODULE", "default").env("LOBBY_TIMEOUT", "5");
    let mut server = Process::spawn("server", command)?;
    let address = server.listening().await?;

    let alone = bots_play(&address).await?;
    let before = left(&redis)?;
    take_seats(&address).await?;
    let haunted = bots_play(&address).await?;
    // The last bots of each run wait in vain for the whole time of a lobby, with ghosts and without.
    ensure!(haunted < 2 * alone, "20 bots took {haunted:?} beside ghosts and {alone:?} without");

    // Games of the bots have 11 keys at most, with those of two players 10; each of 20 bots has played three.
    let bound = before.len() + 11 * 20 * 3;
    eventually("the ghosts' keys are gone", GONE_WITHIN, async || Ok(left(&redis)?.len() <= bound)).await?;
    let waiting = cli(&redis, &["ZCARD", "games:waiting"])?;
    ensure!(waiting == "0", "{waiting} games wait for ever");
    let mut lists = left(&redis)?;
    lists.retain(|key| key.starts_with("games:open:") || key.starts_with("games:attended:"));
    ensure!(lists.is_empty(), "{lists:?} list games that nobody comes to");
    for key in left(&redis)? {
        let lists = ["users", "users:seen", "superheros", "games:participants", "games:started"];
        let is_list = lists.contains(&key.as_str()) || key.starts_with("games:players:");
        let expires = cli(&redis, &["TTL", &key])?;
        ensure!(is_list || expires.parse::<i64>()? > 0, "{key} is kept for ever");
    }
    server.stop().await?;
    Ok(())
}

/// Twenty bots play a few games each; how long that took.
async fn bots_play(address: &str) -> Result<Duration> {
    let mut command = binary("superhero-player");
    command.args(["--players", "20", "--games", "3", "--seed", "7", "--servers", address]);
    let begin = Instant::now();
    let printed = Process::spawn("players", command)?.succeed().await?;
    ensure!(printed.contains("20 finished"), "{printed}");
    Ok(begin.elapsed())
}

async fn take_seats(address: &str) -> Result<()> {
    let user = ask(address, "/api/v1/login", r#"{"PAYLOAD":{"USER":"GHOST"}}"#, 2).await?;
    let user = user.split(r#""USER_TOKEN":""#).nth(1).and_then(|rest| rest.get(..36)).context("a token")?.to_owned();
    let find = format!(r#"{{"PAYLOAD":{{"USER_TOKEN":"{user}","PARTICIPANTS":2}}}}"#);
    stream::iter(0..CONNECTIONS)
        .map(|_| ask(address, "/api/v1/game/find", &find, GHOSTS / CONNECTIONS))
        .buffer_unordered(CONNECTIONS)
        .try_for_each(|_| async { Ok(()) })
        .await
}

/// Asks so often on one connection, one answer after the other; gives the last.
async fn ask(address: &str, path: &str, request: &str, times: usize) -> Result<String> {
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}{path}")).await?;
    let mut last = String::new();
    for _ in 0..times {
        socket.send(Message::text(request)).await?;
        let answer = tokio::time::timeout(Duration::from_secs(30), socket.next()).await?;
        last = answer.context("the socket was closed")??.to_text()?.to_owned();
    }
    Ok(last)
}

/// All keys but the answers to finds, which are kept for two minutes.
fn left(redis: &Redis) -> Result<Vec<String>> {
    let keys = cli(redis, &["--scan"])?;
    Ok(keys.lines().filter(|key| !key.starts_with("requests:")).map(str::to_owned).collect())
}

/// What redis-cli shows.
fn cli(redis: &Redis, arguments: &[&str]) -> Result<String> {
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &redis.port.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("redis-cli does not start; it is in Debian's package redis-tools")?;
    ensure!(output.status.success(), "redis-cli {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
