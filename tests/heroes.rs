//! Hero files: the public superhero JSON imports into Redis, and its duels end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fred::prelude::*;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::process::{Process, binary};
use crate::services::Redis;
use crate::test;

/// The imports.
pub fn tests() -> Vec<Trial> {
    vec![
        test("the built-in roster loads", built_in),
        test("the public hero file imports as the reference stores it", public_file),
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

async fn public_file() -> Result<()> {
    let file = public_heroes();
    let source: Vec<Value> = serde_json::from_slice(
        &std::fs::read(&file).with_context(|| format!("{}; set SUPERHERO_JSON to a hero file", file.display()))?,
    )?;
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
