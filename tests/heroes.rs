//! Hero files: the public superhero JSON imports into Redis, and its duels end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fred::prelude::*;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use libtest_mimic::Trial;
use serde_json::Value;
use superhero_game::{Duel, Fighter, Hero, Limits, UserToken, parse_heroes};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::process::{Ended, Process, binary};
use crate::services::Redis;
use crate::{real, test};

/// The imports.
pub fn tests() -> Vec<Trial> {
    vec![
        real("the built-in roster loads", built_in),
        real("the public hero file imports as the reference stores it", public_file),
        test("every duel of public heroes ends", public_duels_end).with_ignored_flag(!public_heroes().exists()),
        real("heroes are pulled from a hero API until it has no more", pulled),
        real("a hero API that refuses is named without the token", pull_refused),
        test("a hero API without end is given up with the limit, in little memory", endless_api),
        test("a hero file without end is refused, and one that is none", endless_file),
    ]
}

/// Where the public hero file lies, which is not the project's to ship: beside the checkout, or where `SUPERHERO_JSON` says.
fn public_heroes() -> PathBuf {
    std::env::var_os("SUPERHERO_JSON")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/superhero.json"))
}

/// The hash `superheros` as it stands in a database.
pub async fn loaded(port: u16, database: u8) -> Result<BTreeMap<String, String>> {
    let config = Config {
        server: ServerConfig::new_centralized("127.0.0.1", port),
        database: Some(database),
        ..Config::default()
    };
    let redis = Builder::from_config(config).build()?;
    redis.init().await?;
    let heroes = redis.hgetall("superheros").await?;
    redis.quit().await?;
    Ok(heroes)
}

async fn load(database: u8, arguments: &[&str]) -> Result<BTreeMap<String, String>> {
    let redis = Redis::shared()?;
    let mut command = binary("superhero-build-db");
    command.env("REDIS_PORT", redis.port.to_string()).env("REDIS_DB", database.to_string()).args(arguments);
    Process::spawn("superhero-build-db", command)?.succeed().await?;
    loaded(redis.port, database).await
}

async fn built_in() -> Result<()> {
    let heroes = load(4, &[]).await?;
    ensure!(heroes.len() >= 120, "{} heroes", heroes.len());
    Ok(())
}

fn public_json() -> Result<String> {
    let file = public_heroes();
    std::fs::read_to_string(&file).with_context(|| format!("{}; set SUPERHERO_JSON to a hero file", file.display()))
}

async fn public_file() -> Result<()> {
    let file = public_heroes();
    let source: Vec<Value> = serde_json::from_str(&public_json()?)?;
    let heroes = load(5, &["--heroes", file.to_str().context("a path that is text")?]).await?;
    ensure!(heroes.len() == source.len(), "{} heroes of {}", heroes.len(), source.len());
    for hero in &source {
        let id = hero["id"].as_str().context("id")?;
        let stored: Value = serde_json::from_str(heroes.get(id).with_context(|| format!("hero {id} is missing"))?)?;
        let stat = |name: &str| match hero["powerstats"][name].as_str() {
            None | Some("null" | "0") => 1,
            Some(value) => value.parse::<u64>().unwrap_or(u64::MAX),
        };
        let health = stat("intelligence") * stat("strength") * stat("durability") * 10;
        let attack = stat("speed") * stat("power") * stat("combat");
        ensure!(stored["powerstats"]["health"] == health, "hero {id}: health {}", stored["powerstats"]["health"]);
        ensure!(stored["powerstats"]["attack"] == attack, "hero {id}: attack {}", stored["powerstats"]["attack"]);
        ensure!(stored["name"] == hero["name"] && stored["biography"] == hero["biography"], "hero {id} was changed");
        ensure!(stored.get("id").is_none() && stored.get("response").is_none(), "hero {id} keeps its id or response");
    }
    Ok(())
}

/// Each hero against each with the fewest moves that a duel of theirs can need: both always hit the only enemy.
async fn public_duels_end() -> Result<()> {
    let heroes = parse_heroes(&public_json()?)?;
    let limits = Limits::default();
    let users = [1, 2].map(|number| UserToken::new(Uuid::from_u128(number)));
    let (mut longest, mut capped) = (0, 0);
    for (number, one) in heroes.iter().enumerate() {
        for other in &heroes[number + 1..] {
            let fighter = |hero: &Hero| Fighter { hero: hero.id, attack: hero.attack, health: hero.health };
            let mut duel = Duel::new([(users[0], fighter(one)), (users[1], fighter(other))].into());
            while let Some(user) = duel.on_turn(limits) {
                let enemy = if user == users[0] { users[1] } else { users[0] };
                duel.attack(user, enemy, limits)?;
            }
            longest = longest.max(duel.moves());
            capped += usize::from(duel.order().len() > 1);
        }
    }
    ensure!(longest <= limits.rounds * 2, "a duel took {longest} moves");
    ensure!(capped > 0, "the public file has heroes that cannot hurt each other, but no duel met the round cap");
    Ok(())
}

/// A hero API of three heroes, which answers with `status`.
async fn hero_api(status: StatusCode) -> Result<(String, JoinSet<()>)> {
    const HEROES: usize = 3;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/api", listener.local_addr()?);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| async move {
                let number = request.uri().path().strip_prefix("/api/secret-token/").and_then(|id| id.parse().ok());
                let json = match number {
                    Some(number @ 1..=HEROES) => format!(
                        r#"{{"response":"success","id":"{number}","name":"Pulled {number}","powerstats":{{"intelligence":"2","strength":"3","speed":"4","durability":"5","power":"6","combat":"7"}}}}"#
                    ),
                    _ => r#"{"response":"error","error":"invalid id"}"#.to_owned(),
                };
                Response::builder().status(status).body(Full::new(Bytes::from(json)))
            });
            connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok((url, serving))
}

async fn pulled() -> Result<()> {
    let (url, _serving) = hero_api(StatusCode::OK).await?;
    let redis = Redis::shared()?;
    let mut command = binary("superhero-build-db");
    command.env("REDIS_PORT", redis.port.to_string()).env("REDIS_DB", "7").env("API_TOKEN", "secret-token");
    command.args(["--pull", "--api-url", &url]);
    let printed = Process::spawn("superhero-build-db", command)?.succeed().await?;
    ensure!(printed.contains("asking for the heroes"), "it does not say whom it asks:\n{printed}");
    let heroes = loaded(redis.port, 7).await?;
    ensure!(heroes.keys().map(String::as_str).eq(["1", "2", "3"]), "pulled {heroes:?}");
    Ok(())
}

async fn pull_refused() -> Result<()> {
    let (url, _serving) = hero_api(StatusCode::FORBIDDEN).await?;
    let redis = Redis::shared()?;
    let mut command = binary("superhero-build-db");
    command.env("REDIS_PORT", redis.port.to_string()).env("API_TOKEN", "secret-token");
    command.args(["--pull", "--api-url", &url]);
    let ended = Process::spawn("superhero-build-db", command)?.wait().await?;
    ensure!(ended.status.code() == Some(1) && ended.output.contains("403"), "{}: {}", ended.status, ended.output);
    ensure!(!ended.output.contains("secret-token"), "the token shows: {}", ended.output);
    Ok(())
}

/// Loads heroes with no more than 512 MiB of address space; there is no Redis.
async fn load_in_little_memory(arguments: &[&str]) -> Result<Ended> {
    let mut command = Command::new("bash");
    let build_db = binary("superhero-build-db").as_std().get_program().to_owned();
    command.args(["-c", "ulimit -v 524288; exec \"$0\" \"$@\""]).arg(build_db).args(arguments);
    command.env("API_TOKEN", "secret-token").env("WAIT_TIMEOUT", "1");
    Process::spawn("superhero-build-db", command)?.wait().await
}

/// One that has a hero for each number, as large as `bytes`.
async fn endless(bytes: usize) -> Result<(String, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/api", listener.local_addr()?);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(move |request: Request<Incoming>| async move {
                let number = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                let json = format!(
                    r#"{{"id":"{number}","name":"{}","powerstats":{{"intelligence":"2","strength":"3","speed":"4","durability":"5","power":"6","combat":"7"}}}}"#,
                    "n".repeat(bytes)
                );
                Response::builder().body(Full::new(Bytes::from(json)))
            });
            connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok((url, serving))
}

async fn endless_api() -> Result<()> {
    for (bytes, said) in [
        (10, "still has heroes after 10000, which are the limit"),
        (200 * 1024, "sent more than 32 MiB for 164 heroes, which are the limit"),
        (300 * 1024, "sent more than 256 KiB for hero 1, which are the limit"),
    ] {
        let (url, _serving) = endless(bytes).await?;
        let ended = load_in_little_memory(&["--pull", "--api-url", &url]).await?;
        ensure!(ended.status.code() == Some(1) && ended.output.contains(said), "{}: {}", ended.status, ended.output);
    }
    Ok(())
}

async fn endless_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (large, pipe) = (folder.path().join("large.json"), folder.path().join("pipe.json"));
    std::fs::File::create(&large)?.set_len(1 << 40)?;
    ensure!(Command::new("mkfifo").arg(&pipe).status().await?.success(), "no pipe can be made");
    for (file, said) in [
        (Path::new("/dev/zero"), "/dev/zero is no regular file"),
        (&pipe, "pipe.json is no regular file"),
        (folder.path(), "is no regular file"),
        (&large, "large.json has more than 32 MiB, which are the limit"),
    ] {
        let ended = load_in_little_memory(&["--heroes", file.to_str().context("a path that is text")?]).await?;
        ensure!(!ended.status.success() && ended.output.contains(said), "{}: {}", ended.status, ended.output);
    }
    Ok(())
}
