//! What goes along with the binaries: who can reach the containers, and read what the units write.

use std::fs;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::test;

const COMPOSE: &str = include_str!("../compose.yaml");

/// Compose and systemd.
pub fn tests() -> Vec<Trial> {
    vec![
        test("compose: every port is this host's alone, unless a setting says otherwise", publishes),
        test("nginx: clients do not say themselves for which address they are counted", names_clients),
        test("systemd: what a unit writes is its user's alone", keeps_private),
    ]
}

async fn publishes() -> Result<()> {
    let ports: Vec<_> = COMPOSE.lines().filter_map(|line| line.trim().strip_prefix("ports: ")).collect();
    ensure!(ports.len() == COMPOSE.matches("ports:").count() && ports.len() == 5, "not each on its line: {ports:?}");
    for port in ports {
        let published = port.trim_start_matches("[\"");
        let is_setting = published.starts_with("${") && published.contains(":-127.0.0.1}:");
        ensure!(is_setting || published.starts_with("127.0.0.1:"), "{port} is for everybody");
    }
    let documented = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/deploy.md"))?;
    for setting in ["KAFKA_UI_PUBLISH_ADDRESS", "PUBLISH_ADDRESS"] {
        ensure!(COMPOSE.contains(&format!("${{{setting}:-127.0.0.1}}")) && documented.contains(setting), "{setting}");
    }
    Ok(())
}

async fn names_clients() -> Result<()> {
    let nginx = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/bin/deploy/nginx.conf"))?;
    let named: Vec<_> = nginx.lines().map(str::trim).filter(|line| line.contains(" X-Forwarded-For ")).collect();
    ensure!(named == ["proxy_set_header X-Forwarded-For $remote_addr;"], "{named:?}");
    Ok(())
}

async fn keeps_private() -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/bin/deploy/systemd");
    for unit in fs::read_dir(folder)? {
        let path = unit?.path();
        let unit = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let has = |line: &str| unit.lines().any(|known| known == line);
        ensure!(has("UMask=0077"), "{} lets others read", path.display());
        let has_folder = unit.contains("\nStateDirectory=");
        ensure!(!has_folder || has("StateDirectoryMode=0700"), "{} has a folder for all", path.display());
    }
    Ok(())
}
