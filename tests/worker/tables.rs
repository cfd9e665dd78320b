//! Games that are over: tables, dead letters, the store's part.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use superhero_event::{Cleaning, Task, message, topic};
use superhero_game::{GameToken, Hero, Limits, Refusal, SeatSecret, UserToken};
use superhero_store::memory::Memory;
use superhero_store::{Find, GameStore, Login, Outcome, Seat, Snapshot, StoreError, Subscription};
use uuid::Uuid;

use super::setting::{PATIENCE, Producer, Setting, offsets};
use crate::process::eventually;
use crate::services::Kafka;

const LIMITS: Limits = Limits { rounds: 50 };
/// Short, so that the case can see it pass.
const EXPIRY: Duration = Duration::from_secs(2);

/// A game of two, played to its end; its players, the host first.
pub async fn played(store: &Memory) -> Result<(GameToken, [UserToken; 2])> {
    let (game, players) = begun(store).await?;
    let mut on_turn = store.snapshot(game).await?.context("it was begun")?.order.first().copied();
    while let Some(user) = on_turn {
        let enemy = if user == players[0] { players[1] } else { players[0] };
        let outcome = store.attack(game, user, None, enemy, Utc::now(), LIMITS).await?;
        on_turn = outcome.map_err(|refusal| anyhow::anyhow!("{refusal}"))?.next;
    }
    Ok((game, players))
}

async fn begun(store: &Memory) -> Result<(GameToken, [UserToken; 2])> {
    let mut players = [UserToken::new(Uuid::nil()); 2];
    let mut game = None;
    for player in &mut players {
        *player = store.login(&Uuid::new_v4().to_string()).await?.user;
        game = Some(store.find(a_find(*player)).await?.game);
    }
    Ok((game.context("two have found it")?, players))
}

pub fn cleaning(game_token: GameToken, user_token: UserToken) -> String {
    Cleaning { game_token, user_token }.to_json()
}

pub async fn games_that_are_over_make_the_tables_and_are_cleaned_afterwards(
    kafka: &Kafka,
    folder: &Path,
) -> Result<()> {
    let setting = Setting::of_topic(kafka, folder, topic::LOBBY, 2).await?;
    let (store, mut producer) = (Memory::new(), Producer::new());
    let mut games = Vec::new();
    for n in 0..10 {
        let (game, players) = played(&store).await?;
        let told = players.map(|user| producer.event(n % 2, message::CLEANING, Task::Object(&cleaning(game, user))));
        setting.produce(n % 2, told.into()).await?;
        games.push((game, store.snapshot(game).await?.context("it was played")?));
    }
    // Not over, never heard of, and not the state's words.
    let (going_on, [host, _]) = begun(&store).await?;
    let unknown = GameToken::new(Uuid::new_v4());
    for task in [cleaning(going_on, host), cleaning(unknown, host), r#"{"game_token":5}"#.to_owned()] {
        setting.produce(0, vec![producer.event(0, message::CLEANING, Task::Object(&task))]).await?;
    }
    let config = superhero_worker::WorkerConfig { game_expiry: Some(EXPIRY), until_end: true, ..setting.config() };
    let summary = setting.start_with(config, store.clone()).ended().await?;
    ensure!((summary.records, summary.games, summary.dead_letters) == (23, 10, 3), "{summary:?}");
    ensure!(summary.rows == 23 + 3 + 10 * 4, "{summary:?}");
    setting.check_complete().await?;

    let (meta, podium) = (setting.table("GAME_META")?, setting.table("GAME_PODIUM")?);
    for (game, snapshot) in &games {
        let of_game = |row: &&serde_json::Value| row["game_token"] == game.to_string();
        for row in meta.iter().filter(of_game) {
            let user: UserToken = row["user_token"].as_str().unwrap_or_default().parse()?;
            ensure!(row["superhero_id"] == snapshot.fighters[&user].hero.0, "{row}");
        }
        let health = snapshot.fighters.iter().map(|(user, fighter)| (*user, fighter.health)).collect();
        let expected = superhero_game::podium(&health, &snapshot.records);
        let found: Vec<_> = podium.iter().filter(of_game).collect();
        ensure!(found.len() == expected.len() && expected.len() == 2, "{found:?}");
        for (row, expected) in found.iter().zip(expected) {
            ensure!(row["user_token"] == expected.user.to_string() && row["rank"] == expected.rank, "{row}");
            ensure!(row["rounds"] == expected.rounds && row["damage_delivered"] == expected.damage_delivered, "{row}");
        }
    }
    ensure!(meta.len() == 20 && podium.len() == 20, "{} and {} rows", meta.len(), podium.len());
    ensure!(offsets(&setting.table("dead")?)? == [10, 11, 12], "{:?}", setting.table("dead")?);
    for (game, _) in games {
        eventually("a game is cleaned", PATIENCE, async || Ok(store.snapshot(game).await?.is_none())).await?;
    }
    ensure!(store.snapshot(going_on).await?.is_some(), "a game that goes on was cleaned");
    Ok(())
}

pub async fn a_store_that_does_not_answer_holds_the_partition_up(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::of_topic(kafka, folder, topic::LOBBY, 2).await?;
    let (store, mut producer) = (Troubled::new(u32::MAX, Trouble::Silence), Producer::new());
    let (game, [host, _]) = played(&store.games).await?;
    setting.produce(0, vec![producer.event(0, message::CLEANING, Task::Object(&cleaning(game, host)))]).await?;
    setting.produce(0, producer.events(0, 10)).await?;
    setting.produce(1, producer.events(1, 10)).await?;
    let worker = setting.start_with(setting.config(), store.clone());
    setting.published(10).await?;
    eventually("the store was asked again", PATIENCE, async || Ok(store.asked.load(Ordering::Relaxed) > 2)).await?;
    ensure!(setting.raw(0)?.is_empty() && setting.raw(1)?.len() == 10, "only the other partition goes on");
    // A stop does not wait for the store, and loses nothing.
    let summary = worker.stopped().await?;
    ensure!(summary.records == 10, "{summary:?}");
    let worker = setting.start_with(setting.config(), store.clone());
    eventually("the store was asked again", PATIENCE, async || Ok(store.asked.load(Ordering::Relaxed) > 4)).await?;
    store.left.store(0, Ordering::Relaxed);
    setting.published(21).await?;
    let summary = worker.stopped().await?;
    ensure!((summary.records, summary.games, summary.dead_letters) == (11, 1, 0), "{summary:?}");
    setting.check_complete().await
}

pub async fn a_panic_of_one_partition_is_survived_by_all(kafka: &Kafka, folder: &Path) -> Result<()> {
    let setting = Setting::of_topic(kafka, folder, topic::LOBBY, 2).await?;
    let (store, mut producer) = (Troubled::new(2, Trouble::Panic), Producer::new());
    let (game, [host, _]) = played(&store.games).await?;
    setting.produce(0, producer.events(0, 10)).await?;
    setting.produce(0, vec![producer.event(0, message::CLEANING, Task::Object(&cleaning(game, host)))]).await?;
    setting.produce(1, producer.events(1, 10)).await?;
    let worker = setting.start_with(setting.config(), store.clone());
    setting.published(21).await?;
    let summary = worker.stopped().await?;
    ensure!((summary.records, summary.games) == (21, 1), "{summary:?}");
    setting.check_complete().await?;

    // What never stops panicking is left alone in the end, and told.
    store.left.store(u32::MAX, Ordering::Relaxed);
    setting.produce(0, vec![producer.event(0, message::CLEANING, Task::Object(&cleaning(game, host)))]).await?;
    setting.produce(1, producer.events(1, 10)).await?;
    let config = superhero_worker::WorkerConfig { until_end: true, ..setting.config() };
    let failed = setting.start_with(config, store).outcome().await?;
    ensure!(
        matches!(&failed, Err(superhero_worker::WorkerError::Partitions { partitions }) if partitions.len() == 1),
        "{failed:?}"
    );
    ensure!(setting.raw(0)?.len() == 11 && setting.raw(1)?.len() == 20, "the other partition is complete");
    Ok(())
}

fn a_find(user: UserToken) -> Find {
    let (request, secret) = (Uuid::new_v4(), SeatSecret::new(Uuid::new_v4()));
    Find { request, user, participants: 2, secret, wait: Duration::from_secs(3600) }
}

#[derive(Clone, Copy)]
enum Trouble {
    Silence,
    Panic,
}

/// A store that makes trouble when it is asked for a game's state, so many times.
#[derive(Clone)]
struct Troubled {
    games: Memory,
    trouble: Trouble,
    left: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
}

impl Troubled {
    fn new(times: u32, trouble: Trouble) -> Self {
        Self { games: Memory::new(), trouble, left: Arc::new(times.into()), asked: Arc::default() }
    }
}

impl GameStore for Troubled {
    async fn ping(&self) -> Result<(), StoreError> {
        self.games.ping().await
    }

    async fn login(&self, name: &str) -> Result<Login, StoreError> {
        self.games.login(name).await
    }

    async fn find(&self, find: Find) -> Result<Seat, StoreError> {
        self.games.find(find).await
    }

    async fn attend(
        &self,
        game: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        visit: Uuid,
    ) -> Result<Result<(), Refusal>, StoreError> {
        self.games.attend(game, user, secret, visit).await
    }

    async fn leave(&self, game: GameToken, user: UserToken, visit: Uuid) -> Result<(), StoreError> {
        self.games.leave(game, user, visit).await
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        self.games.sweep().await
    }

    async fn hero(&self, game: GameToken, user: UserToken) -> Result<Option<superhero_game::Fighter>, StoreError> {
        self.games.hero(game, user).await
    }

    async fn attack(
        &self,
        game: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        enemy: UserToken,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        self.games.attack(game, user, secret, enemy, now, limits).await
    }

    async fn forfeit(
        &self,
        game: GameToken,
        moves: u32,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Option<Outcome>, StoreError> {
        self.games.forfeit(game, moves, now, limits).await
    }

    async fn time_out(&self, game: GameToken) -> Result<bool, StoreError> {
        self.games.time_out(game).await
    }

    async fn snapshot(&self, game: GameToken) -> Result<Option<Snapshot>, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let troubled = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        match self.trouble {
            Trouble::Silence if troubled => Err(StoreError::Unavailable("it was told not to answer".to_owned())),
            Trouble::Panic if troubled => panic!("the store was told to panic"),
            _ => self.games.snapshot(game).await,
        }
    }

    async fn subscribe(&self, game: GameToken) -> Result<Subscription, StoreError> {
        self.games.subscribe(game).await
    }

    async fn clean(&self, game: GameToken, expiry: Duration) -> Result<(), StoreError> {
        self.games.clean(game, expiry).await
    }

    async fn load_heroes(&self, heroes: &[Hero]) -> Result<(), StoreError> {
        self.games.load_heroes(heroes).await
    }

    async fn hero_count(&self) -> Result<usize, StoreError> {
        self.games.hero_count().await
    }
}
