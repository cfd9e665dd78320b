//! What listens in a service's place, or wants to know first who we are: told as what it is, and at once where waiting is of no use.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_util::task::AbortOnDropHandle;

use crate::process::{Ended, Process, binary};
use crate::services::{Kafka, Redis, Started};
use crate::{real, test};

const NOT_READY: i32 = 3;
/// A command that does not wait has ended by then, on a busy machine too; the shortest that waits is given 30 s.
const AT_ONCE: Duration = Duration::from_secs(15);

/// A TLS server that nobody can agree with, as any that is asked in plaintext; it needs no certificate for that.
const TLS_SERVER: &str = "
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    try:
        context.wrap_socket(connection, server_side=True)
    except OSError:
        pass
";

/// Who answers, and what about.
pub fn tests() -> Vec<Trial> {
    vec![
        test("peers: TLS, HTTP and Redis in Kafka's place are told at once", in_kafkas_place),
        test(
            "peers: a listener that closes after ApiVersions is told as one that asks for SASL",
            closes_after_versions,
        ),
        test("peers: TLS, HTTP and Kafka in Redis's place are told at once", in_redis_place),
        test("peers: an advertised address that does not resolve is told with its broker", advertised),
        real(
            "peers: a worker that is to come to an end gives up an advertised address that does not resolve",
            until_end,
        ),
        real("peers: Apache Kafka's SASL listener is told with its mechanisms, by every role", sasl),
        real("peers: a real TLS server is told", tls),
        real("peers: Redis takes an ACL user, and what it refuses is told with the setting", acl_user),
    ]
}

/// What a peer does with a connection.
type Serve = fn(TcpStream) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

/// A listener that serves until it is dropped.
struct Peer {
    address: String,
    _serving: AbortOnDropHandle<()>,
}

impl Peer {
    async fn start(serve: Serve) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who has gone needs no answer.
                let _ = serve(stream).await;
            }
        });
        Ok(Self { address, _serving: AbortOnDropHandle::new(serving) })
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap_or_default()
    }
}

async fn first_bytes(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1024];
    let length = stream.read(&mut bytes).await?;
    bytes.truncate(length);
    Ok(bytes)
}

/// An alert, whatever comes.
const TLS: Serve = |mut stream| {
    Box::pin(async move {
        first_bytes(&mut stream).await?;
        stream.write_all(b"\x15\x03\x03\0\x02\x02\x46").await
    })
};

/// An alert to who speaks TLS; nobody else is worth a word.
const SILENT_TLS: Serve = |mut stream| {
    Box::pin(async move {
        match first_bytes(&mut stream).await?.starts_with(b"\x16\x03") {
            true => stream.write_all(b"\x15\x03\x03\0\x02\x02\x32").await,
            false => Ok(()),
        }
    })
};

const HTTP: Serve = |mut stream| {
    Box::pin(async move {
        first_bytes(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await
    })
};

const REDIS: Serve = |mut stream| {
    Box::pin(async move {
        match first_bytes(&mut stream).await?.starts_with(b"PING\r\n") {
            true => stream.write_all(b"-NOAUTH Authentication required.\r\n").await,
            false => Ok(()),
        }
    })
};

/// Answers ApiVersions, and hangs up on everything else.
const SASL: Serve = |mut stream| {
    Box::pin(async move {
        let asked = first_bytes(&mut stream).await?;
        let mut answer = asked.get(8..12).unwrap_or_default().to_vec();
        answer.extend_from_slice(&[0, 0, 0, 0, 0, 40]);
        for api in 0_u8..40 {
            answer.extend_from_slice(&[0, api, 0, 0, 0, 20]);
        }
        stream.write_all(&(answer.len() as u32).to_be_bytes()).await?;
        stream.write_all(&answer).await?;
        first_bytes(&mut stream).await.map(drop)
    })
};

/// Runs it; it must end with the code, within the time, having said all the words.
async fn refused(command: Command, code: i32, within: Duration, words: &[&str]) -> Result<()> {
    let begun = Instant::now();
    let Ended { status, output } = Process::spawn("superhero", command)?.wait().await?;
    ensure!(status.code() == Some(code), "it ended with {status}, not {code}:\n{output}");
    ensure!(begun.elapsed() < within, "it took {:?}:\n{output}", begun.elapsed());
    for word in words {
        ensure!(output.contains(word), "it does not say {word:?}:\n{output}");
    }
    Ok(())
}

fn superhero(arguments: &[&str]) -> Command {
    let mut command = binary("superhero");
    command.args(arguments);
    command
}

/// The commands that need nothing but a Kafka.
fn with_kafka(address: &str, folder: &Path) -> Result<[Command; 3]> {
    std::fs::create_dir_all(folder.join("superhero"))?;
    let mut up = superhero(&["up", "players=2", "games=1", "pace=0"]);
    up.arg(format!("kafka={address}")).arg(format!("out={}", folder.display()));
    let mut verify = superhero(&["verify", "--kafka", address, "--out"]);
    verify.arg(folder);
    Ok([superhero(&["wait", "--timeout", "30", "--kafka-bootstrap-servers", address]), up, verify])
}

async fn in_kafkas_place() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (serve, says) in [
        (TLS, "speaks TLS; superhero speaks plaintext only: name a PLAINTEXT listener"),
        (SILENT_TLS, "speaks TLS; superhero speaks plaintext only"),
        (HTTP, "speaks HTTP"),
        (REDIS, "speaks Redis's protocol"),
    ] {
        let peer = Peer::start(serve).await?;
        for command in with_kafka(&peer.address, folder.path())? {
            refused(command, NOT_READY, AT_ONCE, &[&format!("{} {says}", peer.address)]).await?;
        }
    }
    Ok(())
}

async fn closes_after_versions() -> Result<()> {
    let peer = Peer::start(SASL).await?;
    let command = superhero(&["wait", "--timeout", "3", "--kafka-bootstrap-servers", &peer.address]);
    let says = ["closed the connection at Metadata, right after ApiVersions", "SASL", "PLAINTEXT", &peer.address];
    refused(command, NOT_READY, AT_ONCE, &says).await
}

async fn in_redis_place() -> Result<()> {
    for (serve, says) in [
        (TLS, "it speaks TLS, and superhero plaintext only"),
        (SILENT_TLS, "it speaks TLS"),
        (HTTP, "it speaks HTTP"),
        (SASL, "it is a Kafka broker"),
    ] {
        let peer = Peer::start(serve).await?;
        let mut command = binary("superhero-build-db");
        command.args(["--timeout", "30", "--redis-port", peer.port()]);
        refused(command, NOT_READY, AT_ONCE, &[says, &peer.address]).await?;
    }
    Ok(())
}

const NOWHERE: &str = "kafka.invalid:9092";

/// A broker that tells its clients to connect to where it is not.
async fn misadvertised() -> Result<(Process, String)> {
    let broker = superhero(&["broker", "--listen", "127.0.0.1:0", "--advertised-listener", NOWHERE]);
    let mut broker = Process::spawn("superhero broker", broker)?;
    let address = broker.listening().await?;
    Ok((broker, address))
}

async fn advertised() -> Result<()> {
    let (_broker, address) = misadvertised().await?;
    let says = ["broker 1 of the Kafka cluster", NOWHERE, "advertised.listeners"];
    let wait = superhero(&["wait", "--timeout", "3", "--kafka-bootstrap-servers", &address]);
    refused(wait, NOT_READY, AT_ONCE, &says).await
}

async fn until_end() -> Result<()> {
    let (redis, folder) = (Redis::shared()?, tempfile::tempdir()?);
    let (_broker, address) = misadvertised().await?;
    let wait = superhero(&["wait", "--timeout", "3", "--kafka-bootstrap-servers", &address]);
    // It makes the topics, which have to be there for their leader to be looked for.
    refused(wait, NOT_READY, AT_ONCE, &[]).await?;
    let mut command = binary("superhero-worker");
    command.args(["--until-end", "--timeout", "5", "--kafka-bootstrap-servers", &address]);
    command.args(["--redis-port", &redis.port.to_string()]).arg("--output-dir").arg(folder.path());
    let says = ["broker 1 of the Kafka cluster", NOWHERE, "advertised.listeners"];
    refused(command, NOT_READY, AT_ONCE, &says).await
}

/// Every command that talks to Kafka.
fn roles(address: &str, redis: &Redis, folder: &Path) -> Result<Vec<Command>> {
    let mut commands = Vec::from(with_kafka(address, folder)?);
    for role in ["worker", "server"] {
        let mut command = superhero(&[role, "--timeout", "30", "--kafka-bootstrap-servers", address]);
        command.args(["--redis-port", &redis.port.to_string()]);
        command.env("OUTPUT_DIR", folder).env("WEBSOCKET_PORT", "0");
        commands.push(command);
    }
    Ok(commands)
}

async fn sasl() -> Result<()> {
    let (redis, folder) = (Redis::shared()?, tempfile::tempdir()?);
    let kafka = Started::up(&["--only", "kafka", "--kafka-port", "0", "--sasl", "yes"])?;
    let address = kafka.setting("KAFKA_SASL")?;
    for command in roles(&address, &redis, folder.path())? {
        let says = [&*address, "asks for SASL (it takes PLAIN)", "name a PLAINTEXT listener"];
        refused(command, NOT_READY, AT_ONCE, &says).await?;
    }
    let open = kafka.setting("KAFKA_BOOTSTRAP_SERVERS")?;
    Process::spawn("superhero wait", superhero(&["wait", "--kafka-bootstrap-servers", &open]))?.succeed().await?;
    Ok(())
}

/// Killed when dropped.
struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn tls() -> Result<()> {
    let (redis, folder) = (Redis::shared()?, tempfile::tempdir()?);
    let mut server = std::process::Command::new("python3");
    server.args(["-c", TLS_SERVER]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Python(server.spawn().context("python3 does not start")?);
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().context("a piped standard output")?).read_line(&mut port)?;
    let address = format!("127.0.0.1:{}", port.trim());
    for command in roles(&address, &redis, folder.path())? {
        refused(command, NOT_READY, AT_ONCE, &[&format!("{address} speaks TLS")]).await?;
    }
    let mut command = binary("superhero-build-db");
    command.args(["--timeout", "30", "--redis-port", port.trim()]);
    refused(command, NOT_READY, AT_ONCE, &["it speaks TLS", &address]).await
}

async fn acl_user() -> Result<()> {
    let (kafka, redis, folder) = (Kafka::shared()?, Redis::start()?, tempfile::tempdir()?);
    let port = redis.port.to_string();
    // As one that stays allowed to, whatever becomes of the default user.
    let cli = |arguments: &[&str]| -> Result<()> {
        let mut cli = std::process::Command::new("redis-cli");
        cli.args(["-p", &port]);
        if arguments.get(2) == Some(&"default") {
            cli.args(["--user", "bot", "--pass", "hush", "--no-auth-warning"]);
        }
        let output = cli.args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.trim() == "OK", "redis-cli {arguments:?}: {said}");
        Ok(())
    };
    cli(&["ACL", "SETUSER", "bot", "on", ">hush", "~*", "&*", "+@all"])?;
    cli(&["ACL", "SETUSER", "guest", "on", ">hush", "+ping", "+select", "+client"])?;
    let build_db = |user: Option<&str>, password: Option<&str>| {
        let mut command = binary("superhero-build-db");
        command.args(["--timeout", "30", "--redis-port", &port]);
        command.envs(user.map(|user| ("REDIS_USERNAME", user)));
        command.envs(password.map(|password| ("REDIS_PASSWORD", password)));
        command
    };
    cli(&["ACL", "SETUSER", "default", "off"])?;
    let says = ["NOAUTH", "REDIS_PASSWORD is not the default user's: set REDIS_USERNAME"];
    refused(build_db(None, Some("hush")), NOT_READY, AT_ONCE, &says).await?;
    cli(&["ACL", "SETUSER", "default", "on", ">another"])?;
    refused(build_db(None, None), NOT_READY, AT_ONCE, &["NOAUTH", "set REDIS_PASSWORD", "REDIS_USERNAME"]).await?;
    refused(build_db(None, Some("hush")), NOT_READY, AT_ONCE, &["WRONGPASS", "REDIS_USERNAME"]).await?;
    refused(build_db(Some("bot"), Some("no")), NOT_READY, AT_ONCE, &["WRONGPASS", "user bot", "REDIS_PASSWORD"])
        .await?;
    refused(build_db(Some("guest"), Some("hush")), 1, AT_ONCE, &["NOPERM", "REDIS_USERNAME", "+@all"]).await?;
    Process::spawn("superhero-build-db", build_db(Some("bot"), Some("hush")))?.succeed().await?;

    let as_bot = |mut command: Command| {
        command.env("REDIS_PORT", &port).env("REDIS_USERNAME", "bot").env("REDIS_PASSWORD", "hush");
        command.env("KAFKA_BOOTSTRAP_SERVERS", &kafka.bootstrap).env("OUTPUT_DIR", folder.path());
        command
    };
    let mut worker = as_bot(binary("superhero-worker"));
    worker.args(["--wait", "--until-end", "--group", "peers.acl-user", "--worker-channel", "peers.acl-user"]);
    Process::spawn("superhero-worker", worker)?.succeed().await?;
    let mut server = as_bot(binary("superhero-server"));
    server.env("LOGGER_MODULE", "redis").env("WEBSOCKET_PORT", "0");
    let mut serving = Process::spawn("superhero-server", server)?;
    serving.listening().await?;
    serving.stop().await?;
    let mut up = as_bot(superhero(&["up", "players=2", "games=1", "pace=0"]));
    up.arg(format!("redis=127.0.0.1:{port}"));
    Process::spawn("superhero up", up)?.succeed().await?;
    Ok(())
}
