//! One server with 2,000 bots at the reference's pace, and the memory of a player that waits.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use tokio_tungstenite::tungstenite::Message;

use crate::process::{Process, binary};
use crate::services::Redis;
use crate::usage;

/// Bots of the load.
const BOTS: usize = 2_000;
/// Sockets whose memory is measured; the more, the less the server's own counts.
const IDLE: usize = 4_000;
/// Handshakes at one time.
const CONNECTING: usize = 64;

/// What the load came to.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Games that ended, of those that began.
    pub completed: u64,
    /// Games whose seats were not filled: at most one per number of participants.
    pub timed_out: u64,
    /// From the first bot to the last game's end, in seconds.
    pub seconds: f64,
    /// CPU time of the server.
    pub cpu_seconds: f64,
    /// Its largest memory.
    pub peak_mib: f64,
}

/// Lets the bots play a game each.
pub async fn load(redis: &Redis) -> Result<Load> {
    let (server, address) = server(redis).await?;
    let mut command = binary("superhero-player");
    command.args(["--players", &BOTS.to_string(), "--games", "1", "--seed", "3", "--servers", &address]);
    let start = Instant::now();
    let printed = Process::spawn("players", command)?.succeed().await?;
    let seconds = start.elapsed().as_secs_f64();
    let (cpu_seconds, peak_mib) = (usage::seconds_of(server.pid()?)?, usage::mib_of(server.pid()?, "VmHWM")?);
    server.stop().await?;
    let counted = |what: &str| -> Result<u64> {
        let before = printed.split(what).next().context("the players' summary")?;
        Ok(before.split_whitespace().last().context("a number")?.parse()?)
    };
    Ok(Load { completed: counted(" completed")?, timed_out: counted(" timed out")?, seconds, cpu_seconds, peak_mib })
}

/// KiB of the server's memory for each player that waits in a lobby.
pub async fn idle(redis: &Redis) -> Result<f64> {
    let (server, address) = server(redis).await?;
    let pid = server.pid()?;
    let before = usage::mib_of(pid, "VmRSS")?;
    let sockets: Vec<_> = stream::iter(0..IDLE)
        .map(async |player| {
            let login = format!(r#"{{"PAYLOAD":{{"USER":"IDLE{player}"}}}}"#);
            let user = ask(&address, "/api/v1/login", login, "USER_TOKEN").await?;
            let find = format!(r#"{{"PAYLOAD":{{"USER_TOKEN":"{user}","PARTICIPANTS":16}}}}"#);
            let game = ask(&address, "/api/v1/game/find", find, "GAME_TOKEN").await?;
            let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/api/v1/game/lobby")).await?;
            let lobby = format!(r#"{{"PAYLOAD":{{"GAME_TOKEN":"{game}","USER_TOKEN":"{user}"}}}}"#);
            socket.send(Message::text(lobby)).await?;
            anyhow::Ok(socket)
        })
        .buffer_unordered(CONNECTING)
        .try_collect()
        .await?;
    let kib = (usage::mib_of(pid, "VmRSS")? - before) * 1024.0 / IDLE as f64;
    ensure!(sockets.len() == IDLE, "{} of {IDLE} sockets", sockets.len());
    drop(sockets);
    server.stop().await?;
    Ok(kib)
}

async fn server(redis: &Redis) -> Result<(Process, String)> {
    let mut command = binary("superhero-server");
    command.env("REDIS_PORT", redis.port.to_string()).env("WEBSOCKET_PORT", "0").env("SERVER_SLEEP", "0.2");
    command.env("LOGGER_MODULE", "default").env("LOBBY_TIMEOUT", "20");
    let mut server = Process::spawn("server", command)?;
    let address = server.listening().await?;
    Ok((server, address))
}

/// Sends a request on a connection of its own and takes a field of the first answer that has it.
async fn ask(address: &str, path: &str, request: String, field: &str) -> Result<String> {
    let deadline = Duration::from_secs(30);
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}{path}")).await?;
    socket.send(Message::text(request)).await?;
    loop {
        let frame = tokio::time::timeout(deadline, socket.next()).await?.context("the socket was closed")??;
        let answer: serde_json::Value = serde_json::from_str(frame.to_text()?)?;
        if let Some(value) = answer["PAYLOAD"][field].as_str() {
            socket.close(None).await?;
            return Ok(value.to_owned());
        }
    }
}
