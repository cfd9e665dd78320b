//! Wrong configuration: one clear message each, and the exit code that tells what kind it is.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use tokio::process::Command;

use crate::process::{EXIT_DEADLINE, Ended, Process, Signal, binary, eventually};
use crate::services::{Kafka, Redis, free_port};
use crate::{real, test};

const FAILURE: i32 = 1;
const USAGE: i32 = 2;
const NOT_READY: i32 = 3;
const NOT_VERIFIED: i32 = 4;

const BINARIES: [&str; 5] =
    ["superhero", "superhero-server", "superhero-player", "superhero-worker", "superhero-build-db"];

/// The command lines.
pub fn tests() -> Vec<Trial> {
    vec![
        test("every binary explains itself", explains_itself),
        test("every binary completes itself in every shell", completes_itself),
        test("a role is the same in a binary of its own and in the one of all", is_the_same_role),
        test("settings are words in every binary", takes_words),
        test("--check shows what settings come to, and no secret", checks_settings),
        test("credentials in a URL show nowhere", hides_credentials),
        test("--check refuses what a start would refuse", checks_in_vain),
        real("a healthcheck tells whether a worker and a server are ready", healthchecks),
        test("an unknown flag is refused", unknown_flag),
        test("a command that there is not is answered with those that there are", unknown_command),
        test("bad values are refused by name", bad_values),
        test("what a number may be is told for every setting that is one", bad_numbers),
        test("an address that is none is refused by name", bad_addresses),
        test("an IPv6 address is taken with and without its brackets", ipv6).with_ignored_flag(!has_ipv6()),
        test("a reader that leaves is no failure, and a full device is one", readers_leave),
        test("verify: the runs of a folder are listed, the newest first", lists_runs),
        test("up: a run that never began leaves no folder", leaves_nothing),
        test("a server that is not there is named, and how to choose another", no_server),
        real("a taken port is named", port_taken),
        real("a Kafka that is not there is named", no_kafka),
        test("a Redis that is not there is named", no_redis),
        test("a game server that is not there is named at once, by all bots together", no_server_yet),
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
    for debris in ["panicked", "Os {", "kind:", "Some(", "Err("] {
        ensure!(!ended.output.contains(debris), "{name} shows {debris:?}, which is for programmers:\n{}", ended.output);
    }
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

async fn takes_words() -> Result<()> {
    let cases: [(&str, &[&str], &str); 9] = [
        ("superhero-player", &["players=3"], "--players PLAYERS 3 command line"),
        ("superhero-server", &["server-sleep=0"], "--server-sleep SERVER_SLEEP 0 command line"),
        ("superhero-worker", &["until-end=true"], "--until-end UNTIL_END true command line"),
        ("superhero-server", &["wait=yes"], "--wait WAIT yes command line"),
        ("superhero-build-db", &["pull=false"], "--pull HEROES_PULL false command line"),
        ("superhero-worker", &["--until-end", "group=a=b"], "--group KAFKA_GROUP a=b command line"),
        ("superhero-build-db", &["redis-port=7"], "--redis-port REDIS_PORT 7 command line"),
        ("superhero", &["player", "players=3"], "--players PLAYERS 3 command line"),
        ("superhero", &["verify", "a", "b c"], "FOLDER… - a,b c command line"),
    ];
    for (name, words, line) in cases {
        let mut command = binary(name);
        command.args(words).arg("--check");
        let printed = Process::spawn(name, command)?.succeed().await?;
        let shown = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(shown.contains(line), "{name} {words:?} lacks {line:?}:\n{printed}");
    }
    // The settings of a role, behind what else it can be asked for.
    let nobody = format!("127.0.0.1:{}", free_port()?);
    let mut command = binary("superhero-worker");
    command.args(["healthcheck", &format!("health-listen={nobody}")]);
    refused("superhero-worker", command, FAILURE, &[&nobody, "nobody answers"]).await?;
    let mut command = binary("superhero-player");
    command.arg("playrs=3");
    refused("superhero-player", command, USAGE, &["--playrs", "players, ", "name=value"]).await
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

async fn hides_credentials() -> Result<()> {
    let url = "http://user:hush@127.0.0.1:1/api?token=hush";
    let cases: [(&str, &[&str], Option<i32>, &str); 6] = [
        ("superhero-build-db", &["--check"], Some(0), "http://***@127.0.0.1:1/api?***"),
        ("superhero-build-db", &["--help"], Some(0), "API_URL"),
        (
            "superhero-build-db",
            &["--pull", "--api-url", "ftp://user:hush@host/?hush"],
            Some(USAGE),
            "ftp://***@host/?***",
        ),
        ("superhero-worker", &["--redis-host", "redis://user:hush@host"], Some(USAGE), "redis://***@host"),
        ("superhero-worker", &["--kafka-bootstrap-servers", "user:hush@host:9092"], Some(USAGE), "***@host:9092"),
        ("superhero", &["verify", "--kafka", "user:hush@host:9092"], Some(USAGE), "***@host:9092"),
    ];
    for (name, arguments, code, says) in cases {
        let mut command = binary(name);
        command.args(arguments).env("API_URL", url).env("API_TOKEN", "hush");
        let ended = run(name, command).await?;
        ensure!(ended.status.code() == code, "{name} {arguments:?}: {}:\n{}", ended.status, ended.output);
        ensure!(
            ended.output.contains(says) && !ended.output.contains("hush"),
            "{name} {arguments:?}:\n{}",
            ended.output
        );
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

    for host in if has_ipv6() { &["0.0.0.0", "::1", "[::1]", "::"][..] } else { &["0.0.0.0"] } {
        let port = free_port()?.to_string();
        let server_with = |arguments: &[&str]| {
            let mut command = binary("superhero-server");
            command.env("REDIS_PORT", redis.port.to_string()).env("LOGGER_MODULE", "default");
            command.env("WEBSOCKET_HOST", host).env("WEBSOCKET_PORT", &port).args(arguments);
            command
        };
        refused("superhero-server", server_with(&["healthcheck"]), FAILURE, &[&port, "nobody answers"]).await?;
        let mut serving = Process::spawn("superhero-server", server_with(&[]))?;
        serving.listening().await?;
        Process::spawn("superhero-server", server_with(&["healthcheck"]))?.succeed().await?;
        serving.stop().await?;
    }
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

async fn unknown_command() -> Result<()> {
    for (words, says) in [
        (&["upp"][..], &["'up'", "The commands are up, trial, verify, "][..]),
        (&["players=3"], &["--players", "The commands are up, "]),
        (&["trial", "scal"], &["'scale'", "The commands are production, workers, dead-workers, scale"]),
        (&["up", "on=compose"], &["just up … on=compose"]),
        (&["up", "--on", "compose"], &["just up … on=compose"]),
    ] {
        let mut command = binary("superhero");
        command.args(words);
        let ended = run("superhero", command).await?;
        ensure!(ended.status.code() == Some(USAGE), "{words:?}: {}:\n{}", ended.status, ended.output);
        for said in says {
            ensure!(ended.output.contains(said), "{words:?} lacks {said:?}:\n{}", ended.output);
        }
        ensure!(!ended.output.contains("settings are check"), "{words:?}:\n{}", ended.output);
    }
    Ok(())
}

/// Every row of what `--check` shows: the setting's name and its default, if it has one.
async fn settings_of(name: &str, command: &[&str]) -> Result<Vec<(String, String)>> {
    let mut check = binary(name);
    check.args(command).arg("--check");
    let printed = Process::spawn(name, check)?.succeed().await?;
    let rows = printed.lines().skip(1).filter_map(|row| {
        let mut cells = row.split_whitespace();
        Some((cells.next()?.strip_prefix("--")?.to_owned(), cells.nth(1)?.to_owned()))
    });
    Ok(rows.collect())
}

async fn bad_numbers() -> Result<()> {
    let commands: [(&str, &[&str]); 11] = [
        ("superhero", &["up"]),
        ("superhero", &["trial", "production"]),
        ("superhero", &["trial", "scale"]),
        ("superhero", &["verify"]),
        ("superhero", &["broker"]),
        ("superhero", &["wait"]),
        ("superhero", &["build-db"]),
        ("superhero-server", &[]),
        ("superhero-player", &[]),
        ("superhero-worker", &[]),
        ("superhero-build-db", &[]),
    ];
    for (name, words) in commands {
        for (setting, default) in settings_of(name, words).await? {
            let is_number = default.parse::<f64>().is_ok() || default.starts_with("10,");
            if !(is_number || ["workers", "redis-db"].contains(&setting.as_str())) {
                continue;
            }
            let mut command = binary(name);
            command.args(words).arg(format!("{setting}=ten"));
            let ended = run(name, command).await?;
            let says = ended.output.contains("a whole number") || ended.output.contains("a number of seconds");
            ensure!(
                says && ended.output.contains(&format!("--{setting} ")) && ended.status.code() == Some(USAGE),
                "{name} {words:?} {setting}=ten: {}:\n{}",
                ended.status,
                ended.output
            );
        }
    }
    for (name, word, says) in [
        ("superhero-server", "websocket-port=80800", "from 0 to 65535"),
        ("superhero-player", "websocket-port=0", "from 1 to 65535"),
        ("superhero-worker", "redis-db=256", "from 0 to 255"),
        ("superhero-worker", "redis-port=-1", "from 1 to 65535"),
        ("superhero-worker", "kafka-replication-factor=0", "from 1 to 32767"),
        ("superhero-player", "games=ten", "-1 for ever"),
        ("superhero-server", "server-sleep=-1", "from 0 upwards"),
    ] {
        let mut command = binary(name);
        command.arg(word);
        refused(name, command, USAGE, &[word.split_once('=').map_or("", |(_, value)| value), says]).await?;
    }
    Ok(())
}

async fn bad_addresses() -> Result<()> {
    for (name, words, says) in [
        (
            "superhero",
            &["broker", "--listen", "127.0.0.1:80800"][..],
            &["--listen", "127.0.0.1:80800", "0 to 65535"][..],
        ),
        ("superhero", &["broker", "listen=nowhere"], &["--listen", "nowhere", "host:port"]),
        ("superhero", &["broker", "advertised-listener=a:0"], &["--advertised-listener", "a:0", "1 to 65535"]),
        ("superhero", &["up", "redis=a:80800"], &["--redis", "a:80800", "1 to 65535"]),
        ("superhero", &["up", "kafka=a:80800"], &["--kafka", "a:80800", "1 to 65535"]),
        ("superhero", &["verify", "kafka=a:80800"], &["--kafka", "a:80800", "1 to 65535"]),
        (
            "superhero",
            &["wait", "kafka-bootstrap-servers=a:80800"],
            &["KAFKA_BOOTSTRAP_SERVERS", "a:80800", "1 to 65535"],
        ),
        ("superhero-worker", &["health-listen=a:80800"], &["--health-listen", "a:80800", "1 to 65535"]),
        ("superhero-worker", &["health-listen=::1:80"], &["--health-listen", "::1:80", "[::1]:80"]),
        ("superhero-player", &["servers=a:80800"], &["--servers", "a:80800", "1 to 65535"]),
        (
            "superhero-player",
            &["websocket-host=localhost:8080"],
            &["--websocket-host", "localhost:8080", "without a port"],
        ),
        ("superhero-worker", &["redis-host=redis:6379"], &["--redis-host", "redis:6379", "without a port"]),
        ("superhero-worker", &["kafka-host=a b"], &["--kafka-host", "a b"]),
    ] {
        let mut command = binary(name);
        command.args(words);
        refused(&format!("{name} {words:?}"), command, USAGE, says).await?;
    }
    Ok(())
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

async fn ipv6() -> Result<()> {
    let mut broker = binary("superhero");
    broker.args(["broker", "listen=[::1]:0"]);
    let mut broker = Process::spawn("superhero broker", broker)?;
    let port = broker.listening().await?.trim_start_matches("[::1]:").to_owned();
    for host in ["::1", "[::1]"] {
        let mut wait = binary("superhero");
        wait.args(["wait", "topics=a"]).env("KAFKA_HOST", host).env("KAFKA_PORT", &port);
        Process::spawn("superhero wait", wait)?.succeed().await?;
    }
    broker.stop().await?;

    let nobody = TcpListener::bind("[::1]:0")?.local_addr()?.port().to_string();
    let place = format!("[::1]:{nobody}");
    for host in ["::1", "[::1]"] {
        let with = |name: &str, words: &[&str]| {
            let mut command = binary(name);
            command.args(words).env("WEBSOCKET_HOST", host).env("WEBSOCKET_PORT", &nobody);
            command.env("REDIS_HOST", host).env("REDIS_PORT", &nobody).env("HEALTH_LISTEN", &place);
            command
        };
        let cases: [(&str, &[&str], i32); 4] = [
            ("superhero-player", &["patience=0"], FAILURE),
            ("superhero-server", &["healthcheck"], FAILURE),
            ("superhero-worker", &["healthcheck"], FAILURE),
            ("superhero-build-db", &["timeout=1"], NOT_READY),
        ];
        for (name, words, code) in cases {
            refused(name, with(name, words), code, &[&place, "refused"]).await?;
        }
    }
    Ok(())
}

/// Runs it with its streams going there, and gives its exit code and, where it is captured, what it said on standard error.
async fn run_to(mut command: Command, stdout: Stdio, stderr: Stdio) -> Result<(Option<i32>, String)> {
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).kill_on_drop(true).spawn()?;
    let ended = tokio::time::timeout(EXIT_DEADLINE, child.wait_with_output()).await??;
    Ok((ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned()))
}

fn full() -> Result<Stdio> {
    Ok(File::options().write(true).open("/dev/full")?.into())
}

/// A pipe that nobody reads any more.
fn left() -> Result<Stdio> {
    Ok(std::io::pipe()?.1.into())
}

async fn readers_leave() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let wrong = folder.path().join("wrong");
    fs::create_dir_all(wrong.join("superhero"))?;
    fs::write(wrong.join("superhero/stray"), "not ours")?;
    let out = |name: &str| format!("out={}", folder.path().join(name).display());
    let mut cases: Vec<(&str, Vec<String>, i32)> = vec![
        ("superhero", vec!["verify".into(), wrong.display().to_string()], NOT_VERIFIED),
        ("superhero", ["up", "players=2", "games=1", "pace=0", &out("runs")].map(String::from).into(), 0),
        ("superhero-player", vec!["players=0".into()], 0),
        ("superhero-player", vec!["players=ten".into()], USAGE),
        ("superhero", vec!["up".into(), "players=1".into()], USAGE),
    ];
    for name in BINARIES {
        for words in [&["completions", "bash"][..], &["--help"], &["--version"]] {
            cases.push((name, words.iter().map(ToString::to_string).collect(), 0));
        }
    }
    for role in ["up", "server", "worker", "player", "build-db"] {
        cases.push(("superhero", vec![role.into(), "--check".into()], 0));
    }
    for (name, words, code) in cases {
        let with = || {
            let mut command = binary(name);
            command.args(&words);
            command
        };
        let (ended, _) = run_to(with(), left()?, left()?).await?;
        ensure!(ended == Some(code), "{name} {words:?} |& true: {ended:?}, not {code}");
        let (ended, _) = run_to(with(), Stdio::null(), full()?).await?;
        ensure!(ended == Some(code), "{name} {words:?} 2> /dev/full: {ended:?}, not {code}");
        if code != USAGE {
            let (ended, said) = run_to(with(), full()?, Stdio::piped()).await?;
            let told = said.contains("standard output") && said.contains("No space left");
            ensure!(ended == Some(FAILURE) && told, "{name} {words:?} > /dev/full: {ended:?}, not {FAILURE}:\n{said}");
        }
    }
    Ok(())
}

async fn lists_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("my data");
    let run_of = |name: &str| out.join(name).join("superhero");
    for day in 10..25 {
        fs::create_dir_all(run_of(&format!("run-202611{day}T181521Z")))?;
    }
    fs::create_dir_all(run_of("run-20261124T181521Z-2"))?;
    fs::create_dir_all(run_of("run-20261124T181521Z-10"))?;
    fs::create_dir_all(out.join("run-20261231T000000Z/log"))?;
    for named in [&["verify", "my data"][..], &["verify", "--out", "my data"]] {
        let mut command = binary("superhero");
        command.args(named).current_dir(folder.path());
        let ended = run("superhero verify", command).await?;
        ensure!(ended.status.code() == Some(FAILURE), "{}:\n{}", ended.status, ended.output);
        let newest = "superhero verify 'my data/run-20261124T181521Z-10'";
        let newest = newest.replace('\'', "\"");
        ensure!(ended.output.contains(&newest), "{newest} is not there:\n{}", ended.output);
        let listed: Vec<_> = ended.output.lines().filter(|line| line.starts_with("  ")).collect();
        ensure!(listed.len() == 11 && listed[10].contains("7 older"), "{listed:?}");
        ensure!(listed[1].ends_with("run-20261124T181521Z-2\""), "{listed:?}");
        ensure!(listed[2].ends_with("run-20261124T181521Z\""), "{listed:?}");
        ensure!(!ended.output.contains("20261231"), "a run without rows:\n{}", ended.output);
    }
    // Nobody is to believe that the runs were checked as well, where the folder has rows of its own.
    fs::create_dir(out.join("superhero"))?;
    let mut command = binary("superhero");
    command.args(["verify", "my data"]).current_dir(folder.path());
    let ended = run("superhero verify", command).await?;
    let told = ended.output.contains("not checked: 17 runs with folders of their own in \"my data\"");
    ensure!(ended.status.success() && told, "{}:\n{}", ended.status, ended.output);
    Ok(())
}

async fn leaves_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = binary("superhero");
    command.args(["up", &format!("redis=127.0.0.1:{}", free_port()?), &format!("out={}", folder.path().display())]);
    let mut process = Process::spawn("superhero up", command)?;
    process.prints("the run's files go to").await?;
    process.signal(Signal::TERM)?;
    let ended = process.wait().await?;
    ensure!(ended.status.code() == Some(FAILURE), "{}:\n{}", ended.status, ended.output);
    let left: Vec<_> = fs::read_dir(folder.path())?.collect::<Result<_, _>>()?;
    ensure!(left.is_empty(), "{left:?} is left");
    Ok(())
}

async fn no_server() -> Result<()> {
    let port = free_port()?.to_string();
    let mut command = binary("superhero-player");
    command.args(["patience=0", &format!("websocket-port={port}")]);
    let says = [&format!("cannot reach ws://127.0.0.1:{port}"), "refused", "WEBSOCKET_HOST", "--servers"];
    refused("superhero-player", command, FAILURE, &says).await
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
    let (kafka, redis) = (Kafka::shared()?, Redis::shared()?);
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    for module in ["default", "kafka"] {
        let mut command = binary("superhero-server");
        command.env("WEBSOCKET_HOST", "127.0.0.1").env("WEBSOCKET_PORT", &port).env("LOGGER_MODULE", module);
        command.env("REDIS_PORT", redis.port.to_string()).env("KAFKA_BOOTSTRAP_SERVERS", &kafka.bootstrap);
        let ended = run("superhero-server", command).await?;
        ensure!(ended.status.code() == Some(FAILURE), "{}:\n{}", ended.status, ended.output);
        ensure!(ended.output.contains(&port) && ended.output.contains("in use"), "{}", ended.output);
        ensure!(!ended.output.contains("transport"), "not about the port alone:\n{}", ended.output);
    }
    Ok(())
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
        refused(name, command, NOT_READY, &["Redis is not ready yet", &port]).await?;
    }
    Ok(())
}

async fn no_server_yet() -> Result<()> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut command = binary("superhero-player");
    command.args(["--players", "3", "--servers", &address]);
    let mut player = Process::spawn("superhero-player", command)?;
    player.prints("a bot tries again").await?;
    player.prints(&address).await?;
    let printed = player.stop().await?;
    let told = printed.matches("a bot tries again").count();
    ensure!(told < 3, "each bot tells the same:\n{printed}");
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
