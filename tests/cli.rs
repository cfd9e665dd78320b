//! Wrong configuration: one clear message each, and the exit code that tells what kind it is.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use tokio::process::Command;

use crate::process::{EXIT_DEADLINE, Ended, Process, binary, eventually};
use crate::services::{Kafka, Redis, free_port};
use crate::{real, test};

const FAILURE: i32 = 1;
const USAGE: i32 = 2;
const NOT_READY: i32 = 3;

const BINARIES: [&str; 5] =
    ["superhero", "superhero-server", "superhero-player", "superhero-worker", "superhero-build-db"];

/// The command lines.
pub fn tests() -> Vec<Trial> {
    vec![
        test("every binary explains itself", explains_itself),
        test("every binary completes itself in every shell", completes_itself),
        test("a role is the same in a binary of its own and in the one of all", is_the_same_role),
        test("--check shows what settings come to, and no secret", checks_settings),
        test("--check refuses what a start would refuse", checks_in_vain),
        real("a healthcheck tells whether a worker and a server are ready", healthchecks),
        test("an unknown flag is refused", unknown_flag),
        test("bad values are refused by name", bad_values),
        real("a taken port is named", port_taken),
        real("a Kafka that is not there is named", no_kafka),
        test("a Redis that is not there is named", no_redis),
        real("an unreadable or broken hero file is refused and Redis left as it was", broken_heroes),
        real("an OUTPUT_DIR that cannot be written is named", unwritable_output),
        real("a folder of another cluster is refused", other_cluster),
    ]
}

async fn run(name: &str, command: Command) -> Result<Ended> {
    Process::spawn(name, command)?.wait().await
}

/// Runs it and expects an exit code and one message that has all the words.
async fn refused(name: &str, command: Command, code: i32, words: &[&str]) -> Result<()> {
    let ended = run(name, command).await?;
    ensure!(ended.status.code() == Some(code), "{name}: {}, not {code}; it printed:\n{}", ended.status, ended.output);
    for word in words {
        ensure!(ended.output.contains(word), "{name} does not say {word:?}; it printed:\n{}", ended.output);
    }
    ensure!(!ended.output.contains("panicked"), "{name} panicked:\n{}", ended.output);
    Ok(())
}

async fn explains_itself() -> Result<()> {
    for name in BINARIES {
        for (flag, says) in
            [("--help", format!("Usage: {name} ")), ("--version", format!("{name} {}", env!("CARGO_PKG_VERSION")))]
        {
            let mut command = binary(name);
            command.arg(flag);
            let printed = Process::spawn(name, command)?.succeed().await?;
            ensure!(printed.contains(&says), "{name} {flag} does not say {says:?}; it printed:\n{printed}");
        }
    }
    Ok(())
}

async fn completes_itself() -> Result<()> {
    for name in BINARIES {
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let mut command = binary(name);
            command.args(["completions", shell]);
            let script = Process::spawn(name, command)?.succeed().await?;
            ensure!(script.contains(name) && script.contains("check"), "{name} completions {shell}:\n{script}");
        }
        let mut command = binary(name);
        command.args(["completions", "cmd"]);
        refused(name, command, USAGE, &["cmd", "bash"]).await?;
    }
    Ok(())
}

async fn is_the_same_role() -> Result<()> {
    for role in ["server", "player", "worker", "build-db"] {
        let name = format!("superhero-{role}");
        let (mut alone, mut among) = (binary(&name), binary("superhero"));
        alone.arg("--check");
        among.args([role, "--check"]);
        let (alone, among) = (Process::spawn(&name, alone)?, Process::spawn(role, among)?);
        let (alone, among) = (alone.succeed().await?, among.succeed().await?);
        ensure!(alone == among, "{name} has the settings\n{alone}and superhero {role} has\n{among}");
    }
    Ok(())
}

async fn checks_settings() -> Result<()> {
    let cases: [(&str, &[&str], &[&str]); 6] = [
        (
            "superhero-worker",
            &["--check"],
            &["--group KAFKA_GROUP superhero_sim default", "--group-instance-id KAFKA_GROUP_INSTANCE_ID - -"],
        ),
        ("superhero-server", &["--server-sleep", "1", "--check"], &["--server-sleep SERVER_SLEEP 1 command line"]),
        ("superhero-player", &["--check"], &["--players PLAYERS 7 environment"]),
        ("superhero-build-db", &["--check"], &["--redis-password REDIS_PASSWORD *** environment"]),
        (
            "superhero",
            &["up", "players=3", "--check"],
            &["--players PLAYERS 3 command line", "--pace SERVER_SLEEP 0.2"],
        ),
        ("superhero", &["--check", "trial", "scale"], &["--players PLAYERS 7 environment"]),
    ];
    for (name, arguments, says) in cases {
        let mut command = binary(name);
        command.args(arguments).env("PLAYERS", "7").env("REDIS_PASSWORD", "hush");
        let printed = Process::spawn(name, command)?.succeed().await?;
        let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in says {
            ensure!(words.contains(line) && !words.contains("hush"), "{name} {arguments:?} lacks {line:?}:\n{printed}");
        }
    }
    Ok(())
}

async fn checks_in_vain() -> Result<()> {
    let cases: [(&str, &[&str], i32, &[&str]); 7] = [
        ("superhero-worker", &["--kafka-bootstrap-servers", "nowhere"], USAGE, &["nowhere", "port"]),
        ("superhero-worker", &["--heartbeat-interval", "3"], USAGE, &["heartbeat interval", "third"]),
        ("superhero-server", &["--logger-spool-dir", "x", "--logger-module", "redis"], USAGE, &["LOGGER_SPOOL_DIR=x"]),
        ("superhero-player", &["--websocket-host", "a b"], USAGE, &["a b"]),
        ("superhero-build-db", &["--heroes", "/nowhere.json"], FAILURE, &["/nowhere.json"]),
        ("superhero", &["trial", "scale", "keep=true"], USAGE, &["keep=true"]),
        ("superhero", &["wait", "--kafka-bootstrap-servers", "nowhere"], USAGE, &["nowhere"]),
    ];
    for (name, arguments, code, words) in cases {
        for check in [&["--check"][..], &[]] {
            let mut command = binary(name);
            command.args(arguments).args(check);
            refused(name, command, code, words).await?;
        }
    }
    Ok(())
}

async fn healthchecks() -> Result<()> {
    let (kafka, redis) = (Kafka::shared()?, Redis::shared()?);
    let folder = tempfile::tempdir()?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    let topic = "healthcheck.comes.later";
    let worker_with = |arguments: &[&str]| {
        let mut command = worker(&kafka, &redis);
        command.args(["--group", topic]).env("WORKER_CHANNEL", topic).env("OUTPUT_DIR", folder.path());
        command.env("HEALTH_LISTEN", &listen).args(arguments);
        command
    };
    let asked = async || run("superhero-worker", worker_with(&["healthcheck"])).await;
    refused("superhero-worker", worker_with(&["healthcheck"]), FAILURE, &[&listen, "nobody answers"]).await?;
    let working = Process::spawn("superhero-worker", worker_with(&[]))?;
    let mut said = String::new();
    let ready = eventually("the worker is ready", EXIT_DEADLINE, async || {
        let ended = asked().await?;
        said = ended.output;
        Ok(ended.status.success())
    });
    ready.await.with_context(|| said.clone())?;
    working.stop().await?;

    let port = free_port()?.to_string();
    let server_with = |arguments: &[&str]| {
        let mut command = binary("superhero-server");
        command.env("REDIS_PORT", redis.port.to_string()).env("LOGGER_MODULE", "default").env("WEBSOCKET_PORT", &port);
        command.env("WEBSOCKET_HOST", "0.0.0.0").args(arguments);
        command
    };
    refused("superhero-server", server_with(&["healthcheck"]), FAILURE, &[&port, "nobody answers"]).await?;
    let mut serving = Process::spawn("superhero-server", server_with(&[]))?;
    serving.listening().await?;
    Process::spawn("superhero-server", server_with(&["healthcheck"]))?.succeed().await?;
    serving.stop().await?;
    Ok(())
}

async fn unknown_flag() -> Result<()> {
    for name in BINARIES {
        let mut command = binary(name);
        command.arg("--no-such-flag");
        refused(name, command, USAGE, &["--no-such-flag"]).await?;
    }
    Ok(())
}

async fn bad_values() -> Result<()> {
    let cases = [
        ("superhero-server", "LOGGER_MODULE", "rabbitmq", ["rabbitmq", "kafka"]),
        ("superhero-server", "WEBSOCKET_PORT", "70000", ["70000", "65535"]),
        ("superhero-server", "SERVER_SLEEP", "fast", ["fast", "SERVER_SLEEP"]),
        ("superhero-server", "LOG_LEVEL", "loud", ["loud", "info"]),
        ("superhero-player", "CLIENT_GAMES", "many", ["many", "CLIENT_GAMES"]),
        ("superhero-worker", "KAFKA_BOOTSTRAP_SERVERS", "nowhere", ["nowhere", "port"]),
        ("superhero-worker", "SINK_COMPRESSION", "zip", ["zip", "gzip"]),
        ("superhero-worker", "REDIS_PORT", "redis", ["redis", "REDIS_PORT"]),
    ];
    for (name, variable, value, words) in cases {
        let mut command = binary(name);
        command.env(variable, value);
        refused(&format!("{name} with {variable}={value}"), command, USAGE, &words).await?;
    }
    Ok(())
}

async fn port_taken() -> Result<()> {
    let redis = Redis::shared()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let mut command = binary("superhero-server");
    command.env("WEBSOCKET_HOST", "127.0.0.1").env("WEBSOCKET_PORT", &port);
    command.env("REDIS_PORT", redis.port.to_string()).env("LOGGER_MODULE", "default");
    refused("superhero-server", command, FAILURE, &[&port, "in use"]).await
}

async fn no_kafka() -> Result<()> {
    let redis = Redis::shared()?;
    let nobody = format!("127.0.0.1:{}", free_port()?);
    for (name, arguments) in [
        ("superhero", &["wait", "--timeout", "2"][..]),
        ("superhero-worker", &["--wait", "--timeout", "2"]),
        ("superhero-server", &["--wait", "--timeout", "2", "--logger-module", "kafka"]),
    ] {
        let mut command = binary(name);
        command.args(arguments).env("KAFKA_BOOTSTRAP_SERVERS", &nobody);
        command.env("REDIS_PORT", redis.port.to_string()).env("WEBSOCKET_PORT", "0");
        refused(name, command, NOT_READY, &[&nobody]).await?;
    }
    Ok(())
}

async fn no_redis() -> Result<()> {
    let port = free_port()?.to_string();
    for name in ["superhero-server", "superhero-worker", "superhero-build-db"] {
        let mut command = binary(name);
        command.env("REDIS_PORT", &port).env("WEBSOCKET_PORT", "0").env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
        command.args(["--timeout", "2"]);
        refused(name, command, NOT_READY, &["Redis", &port]).await?;
    }
    Ok(())
}

async fn broken_heroes() -> Result<()> {
    let redis = Redis::shared()?;
    let folder = tempfile::tempdir()?;
    let broken = folder.path().join("broken.json");
    std::fs::write(
        &broken,
        "[\n  {\"id\": \"1\", \"name\": \"Nobody\", \"powerstats\": {\"intelligence\": \"x\"}}\n]",
    )?;
    let cut = folder.path().join("cut.json");
    std::fs::write(&cut, "[\n  {\"id\": \"1\",\n")?;
    let missing = folder.path().join("missing.json");
    for (file, words) in
        [(&broken, &["Nobody", "intelligence"][..]), (&cut, &["line 3"]), (&missing, &["missing.json"])]
    {
        let mut command = binary("superhero-build-db");
        command.env("REDIS_PORT", redis.port.to_string()).env("REDIS_DB", "3").arg("--heroes").arg(file);
        refused("superhero-build-db", command, FAILURE, words).await?;
    }
    let heroes = crate::heroes::loaded(redis.port, 3).await?;
    ensure!(heroes.is_empty(), "a refused file left {} heroes in Redis", heroes.len());
    Ok(())
}

async fn unwritable_output() -> Result<()> {
    let (kafka, redis) = (Kafka::shared()?, Redis::shared()?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder")?;
    let mut command = worker(&kafka, &redis);
    command.env("OUTPUT_DIR", &file);
    refused("superhero-worker", command, FAILURE, &[&file.display().to_string()]).await
}

async fn other_cluster() -> Result<()> {
    let (kafka, redis) = (Kafka::shared()?, Redis::shared()?);
    let folder = tempfile::tempdir()?;
    let topic = "folder.of.another.cluster";
    kafka.tool("org.apache.kafka.tools.TopicCommand", &["--create", "--topic", topic, "--partitions", "1"])?;
    let until_end = |kafka: &Kafka| {
        let mut command = worker(kafka, &redis);
        command.args(["--until-end", "--group", topic]).env("WORKER_CHANNEL", topic).env("OUTPUT_DIR", folder.path());
        command
    };
    Process::spawn("superhero-worker", until_end(&kafka))?.succeed().await?;
    let other = Kafka::start()?;
    other.tool("org.apache.kafka.tools.TopicCommand", &["--create", "--topic", topic, "--partitions", "1"])?;
    refused("superhero-worker", until_end(&other), FAILURE, &["cluster", &folder.path().display().to_string()]).await
}

fn worker(kafka: &Kafka, redis: &Redis) -> Command {
    let mut command = binary("superhero-worker");
    command.env("KAFKA_BOOTSTRAP_SERVERS", &kafka.bootstrap).env("REDIS_PORT", redis.port.to_string());
    command
}
