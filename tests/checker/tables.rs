//! `GAME_META` and `GAME_PODIUM` against what was played.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::anomaly::Anomaly;
use super::files::{by_first_offset, lines};
use super::games::Game;

pub const META: &str = "GAME_META";
pub const PODIUM: &str = "GAME_PODIUM";

/// The rows of a table by game.
pub type Table = BTreeMap<String, Vec<Value>>;

/// Reads a table from all folders.
pub fn read(outputs: &[&Path], name: &str) -> Result<Table> {
    let mut games = Table::new();
    for output in outputs {
        for (_, file) in by_first_offset(&output.join("superhero").join(name))? {
            for line in lines(&file)? {
                let row: Value =
                    serde_json::from_str(&line).with_context(|| format!("a row that is not JSON: {line}"))?;
                games.entry(text(&row, "game_token")).or_default().push(row);
            }
        }
    }
    Ok(games)
}

/// Compares the rows with the games that were played to their end; what cannot be computed is an error.
pub fn compare(games: &BTreeMap<String, Game>, meta: &Table, podium: &Table) -> Result<Vec<Anomaly>> {
    let ended = games.iter().map(|(token, game)| (token.as_str(), game.heroes.len()));
    let mut anomalies = membership(&ended.collect(), &games.keys().map(String::as_str).collect(), meta, podium);
    for (token, game) in games {
        let wrong = |table, reason| Anomaly::WrongRows { table, game: token.clone(), reason };
        let found: BTreeMap<String, u64> =
            rows(meta, token).map(|row| (text(row, "user_token"), number(row, "superhero_id"))).collect();
        if !found.is_empty() && found != game.heroes {
            anomalies.push(wrong(META, format!("{found:?}, and {:?} took part", game.heroes)));
        }
        let expected = game.podium()?;
        for row in rows(podium, token) {
            let found = ["rounds", "rank", "damage_delivered", "damage_received"].map(|name| number(row, name));
            let (user, known) = (text(row, "user_token"), expected.get(&text(row, "user_token")));
            if known != Some(&found) {
                anomalies.push(wrong(PODIUM, format!("{user} has {found:?}, and {known:?} was played")));
            }
        }
    }
    Ok(anomalies)
}

/// Which games have rows: `ended` must, with so many players; `known` may.
pub fn membership(ended: &BTreeMap<&str, usize>, known: &BTreeSet<&str>, meta: &Table, podium: &Table) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    for (name, table) in [(META, meta), (PODIUM, podium)] {
        for (game, players) in ended {
            if rows(table, game).count() != *players {
                anomalies.push(Anomaly::GameWithoutRows { table: name, game: (*game).to_owned() });
            }
        }
        for game in table.keys().filter(|game| !known.contains(game.as_str())) {
            anomalies.push(Anomaly::RowsWithoutGame { table: name, game: game.clone() });
        }
    }
    anomalies
}

fn rows<'a>(table: &'a Table, game: &str) -> impl Iterator<Item = &'a Value> {
    table.get(game).into_iter().flatten()
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or(u64::MAX)
}
