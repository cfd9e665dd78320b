//! What was played: as Redis holds it, or as the events tell it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use fred::prelude::*;
use serde_json::Value;

/// A game that was played to its end.
#[derive(Debug, Default)]
pub struct Game {
    /// Everybody who took part, with the hero's id.
    pub heroes: BTreeMap<String, u64>,
    /// Each one's health at the end.
    health: BTreeMap<String, u64>,
    /// The records of its moves, oldest first.
    moves: Vec<Value>,
}

/// The completed games by their tokens, from the raw keys of Redis.
pub async fn of_redis(port: u16) -> Result<BTreeMap<String, Game>> {
    let redis =
        Builder::from_config(Config { server: ServerConfig::new_centralized("127.0.0.1", port), ..Config::default() })
            .build()?;
    redis.init().await?;
    let tokens: Vec<String> = redis.zrange("games:participants", 0, -1, None, false, None, false).await?;
    let mut games = BTreeMap::new();
    for token in tokens {
        let status: String = redis.get(format!("games:{token}:status")).await?;
        if status != "Completed" {
            continue;
        }
        let mut game = Game::default();
        for user in redis.smembers::<Vec<String>, _>(format!("games:{token}")).await? {
            let hero: BTreeMap<String, String> = redis.hgetall(format!("games:{token}:superheros:{user}")).await?;
            game.heroes.insert(user.clone(), hero["id"].parse()?);
            game.health.insert(user, hero["health"].parse()?);
        }
        let moves: Vec<String> = redis.lrange(format!("games:{token}:logs"), 0, -1).await?;
        game.moves = moves.iter().map(|json| Ok(serde_json::from_str(json)?)).collect::<Result<_>>()?;
        games.insert(token, game);
    }
    redis.quit().await?;
    Ok(games)
}

/// The same from the values of all topics, those of a partition in their order.
pub fn of_events<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<BTreeMap<String, Game>> {
    let mut games: BTreeMap<String, Game> = BTreeMap::new();
    let mut completed = BTreeSet::new();
    for value in values {
        let event: Value = serde_json::from_slice(value)?;
        let task = || -> Result<Value> { Ok(serde_json::from_str(event["task"].as_str().context("a task in text")?)?) };
        match event["log_message"].as_str() {
            Some("Starting Match") => {
                let payload = &task()?["PAYLOAD"];
                let game = games.entry(text(&payload["GAME_TOKEN"])?).or_default();
                for (user, hero) in payload["PARTICIPANTS_HEROS"].as_object().context("heroes")? {
                    game.heroes.insert(user.clone(), hero["id"].as_u64().context("a hero's id")?);
                    // What the game's first move has taken already is told by the move.
                    game.health.entry(user.clone()).or_insert(hero["health"].as_u64().context("a hero's health")?);
                }
            }
            Some("Attack Completed") => {
                let record = task()?;
                let game = games.entry(text(&record["PAYLOAD"]["GAME_TOKEN"])?).or_default();
                let details = &record["STATUS"]["DETAILS"];
                if let (Some(enemy), Some(left)) =
                    (details["ENEMY_TOKEN"].as_str(), details["ENEMY_HEALTH_POST"].as_u64())
                {
                    game.health.insert(enemy.to_owned(), left);
                }
                game.moves.push(record);
            }
            Some("Cleaning Game Records") => {
                completed.insert(text(&event["task"]["game_token"])?);
            }
            _ => {}
        }
    }
    games.retain(|token, _| completed.contains(token));
    Ok(games)
}

/// Who took part in each game, and whose records are to be cleaned: enough to say which games ended, in memory for very many.
#[derive(Debug, Default)]
pub struct Endings(BTreeMap<String, Ending>);

#[derive(Debug, Default)]
struct Ending {
    players: BTreeSet<String>,
    cleaned: BTreeSet<String>,
}

impl Endings {
    /// Takes an event's value; others than those two are passed over, as is what is no event.
    pub fn take(&mut self, value: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Value>(value) else { return };
        match event["log_message"].as_str() {
            Some("Starting Match") => {
                let Some(Ok(task)) = event["task"].as_str().map(serde_json::from_str::<Value>) else { return };
                let (Some(game), Some(heroes)) =
                    (task["PAYLOAD"]["GAME_TOKEN"].as_str(), task["PAYLOAD"]["PARTICIPANTS_HEROS"].as_object())
                else {
                    return;
                };
                self.0.entry(game.to_owned()).or_default().players.extend(heroes.keys().cloned());
            }
            Some("Cleaning Game Records") => {
                let (Some(game), Some(user)) =
                    (event["task"]["game_token"].as_str(), event["task"]["user_token"].as_str())
                else {
                    return;
                };
                self.0.entry(game.to_owned()).or_default().cleaned.insert(user.to_owned());
            }
            _ => {}
        }
    }

    /// Games whose end is told for every player, with the number of players.
    pub fn ended(&self) -> BTreeMap<&str, usize> {
        let ended = self.0.iter().filter(|(_, game)| !game.players.is_empty() && game.players == game.cleaned);
        ended.map(|(token, game)| (token.as_str(), game.players.len())).collect()
    }

    /// Games whose end is told for somebody; a server that is killed in the middle of it tells no more.
    pub fn known(&self) -> BTreeSet<&str> {
        self.0.iter().filter(|(_, game)| !game.cleaned.is_empty()).map(|(token, _)| token.as_str()).collect()
    }
}

impl Game {
    /// rounds, rank, damage delivered and received of each player.
    pub fn podium(&self) -> Result<BTreeMap<String, [u64; 4]>> {
        let mut rows: BTreeMap<String, [u64; 4]> = self.heroes.keys().map(|user| (user.clone(), [0; 4])).collect();
        let mut fallen = Vec::new();
        for record in &self.moves {
            let user = record["PAYLOAD"]["USER_TOKEN"].as_str().context("USER_TOKEN")?;
            let details = &record["STATUS"]["DETAILS"];
            match record["STATUS"]["ACTION"].as_str() {
                Some("ATTACK") => {
                    let enemy = details["ENEMY_TOKEN"].as_str().context("ENEMY_TOKEN")?;
                    let damage = details["ENEMY_DAMAGE"].as_u64().context("ENEMY_DAMAGE")?;
                    let attacker = rows.get_mut(user).context("an attacker of another game")?;
                    attacker[0] += 1;
                    attacker[2] += damage;
                    rows.get_mut(enemy).context("an enemy of another game")?[3] += damage;
                    if details["ENEMY_HEALTH_POST"] == 0 {
                        fallen.push(enemy.to_owned());
                    }
                }
                Some("FORFEIT") => fallen.push(user.to_owned()),
                other => bail!("the action {other:?}"),
            }
        }
        let mut living: Vec<&String> = self.heroes.keys().filter(|user| !fallen.contains(user)).collect();
        living.sort_by_key(|user| (std::cmp::Reverse(self.health[*user]), *user));
        for (place, user) in living.into_iter().chain(fallen.iter().rev()).enumerate() {
            rows.get_mut(user).context("a fallen hero of another game")?[1] = place as u64 + 1;
        }
        Ok(rows)
    }
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("a token")?.to_owned())
}
