//! The store in Redis: any number of servers and workers share one database.
//!
//! # Keys
//!
//! `<g>` is a game token, `<u>` a user token, `<n>` a number of seats. These are the simulator's own, which redis-cli users
//! and the workers of others read:
//!
//! | key | type | content |
//! |---|---|---|
//! | `superheros` | hash | hero id → JSON; the built-in roster is used while there is none |
//! | `users` | hash | user name → user token |
//! | `games:players:<n>` | list | the games opened for n players |
//! | `games:participants` | sorted set | game → seats taken |
//! | `games:<g>` | set | the users seated |
//! | `games:<g>:participants` | string | seats |
//! | `games:<g>:status` | string | `Waiting Lobby`, `Starting`, `In-Progress`, `Waiting Player`, `Completed`, `Timed Out` |
//! | `games:<g>:host` | string | the opener |
//! | `games:<g>:order` | list | the living, head = on turn; from the start on |
//! | `games:<g>:superheros` | set | the hero ids taken |
//! | `games:<g>:superheros:<u>` | hash | `id`, `attack`, `health` |
//! | `games:<g>:logs` | list | the records of the moves, JSON, oldest first |
//!
//! These are ours beside them:
//!
//! | key | type | content |
//! |---|---|---|
//! | `games:attended:<n>` | list | the games for n players with free seats that somebody attends: what a `find` looks through first |
//! | `games:open:<n>` | list | those that nobody has attended yet, oldest first |
//! | `games:waiting` | sorted set | `<g> <n>` → until when it waits for players, in milliseconds since 1970 |
//! | `games:started` | sorted set | `<g> <n>` → when all that is kept of it goes |
//! | `games:<g>:seats` | hash | user → whether the seat is claimed, `+` or `-`; `here`, `left`, or since when the user is awaited; the SHA-1 of the seat's secret; and of one that is `here` since which visit |
//! | `games:<g>:hidden` | string | nothing; while the game is out of these lists, since nobody would be seated with its players |
//! | `seats:<u>` | sorted set | the user's seats that it does not attend yet → when it took them |
//! | `users:seen` | sorted set | user name → the last login |
//! | `requests:<uuid>` | string, 2 minutes | `<g> <hero id>`: the answer to a `find`; `forfeit`, `time out`: that a call did it |
//! | `superheros:loading` | hash | a roster while one script loads it; nobody else ever sees it |
//!
//! Whatever is kept of a game or a user expires: a game that waits in vain soon after its time, any other 30 days after its opening, and a user
//! 30 days after the last login, or before where there are too many. The times are those of Redis's clock.
//!
//! Channel `games:<g>:events` carries `started`, `turn <u> <moves>`, `completed`, `timed-out`.
//!
//! # Atomicity
//! An operation that changes more than one key is one Lua script. The scripts build their keys themselves, so this is for
//! a single Redis (6 or newer), not for a cluster. A connection that is lost inside a command makes the client send it
//! again; the scripts know a repetition by its request, its call, or the record that it left.

mod answer;
mod config;
mod events;
mod heroes;
mod refusal;
mod scripts;
mod servers;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use fred::clients::{Client, Pool};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, HashesInterface};
use fred::types::scripts::Script;
use fred::types::{ConnectHandle, Value};
use sha1::{Digest, Sha1};
use superhero_game::{AttackRecord, Fighter, GameToken, Hero, HeroId, Limits, Refusal, SeatSecret, UserToken};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use self::answer::{Answer, Fields};
use self::config::CONNECT_ATTEMPT;
pub use self::config::RedisConfig;
use self::events::Events;
use self::heroes::Heroes;
use self::scripts::Scripts;
use crate::roster::Roster;
use crate::{
    Find, GAME_KEPT, GAMES_KEPT, GameStore, HIDDEN_AT_ONCE, Login, OPEN_GAMES_LOOKED_AT, OVERDUE_AFTER, Outcome,
    REQUEST_KEPT, SWEPT_AT_ONCE, Seat, Snapshot, StoreError, Subscription, TIMED_OUT_KEPT, TRUSTED_NEW_SEATS,
    TRUSTED_SEATS, UNATTENDED_SEATS, USERS_KEPT, WAITING_GAMES,
};

/// Between two attempts to connect at the start.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How long the connections get for their farewell.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// The store in one Redis; clones share the connections.
#[derive(Clone, Debug)]
pub struct Redis {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: Pool,
    scripts: Scripts,
    events: Events,
    heroes: Heroes,
    command_timeout: Duration,
    /// The client's tasks, one per connection; taken out by [`Redis::close`].
    connections: Mutex<Vec<ConnectHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for connection in self.connections.get_mut().expect("no code panics while it holds the list").drain(..) {
            connection.abort();
        }
    }
}

impl Redis {
    /// Connects, trying again until `deadline` has passed; an attempt that has begun is waited for, some seconds at most. A
    /// wrong user, password or database is told at once, and so is who listens there and is no Redis.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] that names host, port and database, and why the last attempt failed.
    pub async fn connect(config: RedisConfig, deadline: Duration) -> Result<Self, StoreError> {
        Self::connect_telling(config, deadline, |_| {}).await
    }

    /// As [`connect`](Self::connect); `tell` hears why an attempt has failed as soon as it has, once while the reason stays the same.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_telling(
        config: RedisConfig,
        deadline: Duration,
        mut tell: impl FnMut(&str) + Send,
    ) -> Result<Self, StoreError> {
        let give_up_at = Instant::now() + deadline;
        let (mut told, mut seen) = (String::new(), None);
        loop {
            let error = match Self::connect_once(&config).await {
                Ok(store) => return Ok(store),
                Err(error) => error,
            };
            // What a wrong password or database brings does not change by waiting, nor does who listens there.
            let for_good =
                refusal::is_of_rights(&error) || matches!(error.kind(), ErrorKind::Config | ErrorKind::InvalidArgument);
            // Whoever fails in another way than before may be another.
            let failed = error.to_string();
            let is_known = seen.replace(failed.clone()) == Some(failed);
            let stranger = if for_good || is_known { None } else { refusal::stranger(&config).await };
            let reason = stranger.map_or_else(|| refusal::explained(&error, config.password.is_some()), str::to_owned);
            if for_good || stranger.is_some() || Instant::now() + CONNECT_PAUSE >= give_up_at {
                let user = config.username.as_ref().map(|name| format!(", user {name}")).unwrap_or_default();
                return Err(StoreError::Unavailable(format!(
                    "no connection to Redis at {} (database {}{user}): {reason}",
                    config.address(),
                    config.database,
                )));
            }
            if reason != told {
                let RedisConfig { host, port, database, .. } = &config;
                tracing::info!(host, port, database, reason, "Redis is not ready yet");
                tell(&reason);
                told = reason;
            }
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    }

    async fn connect_once(config: &RedisConfig) -> Result<Self, Error> {
        let mut builder = config.builder();
        let pool = builder.build_pool(config.connections.max(1))?;
        builder.with_performance_config(|performance| performance.broadcast_channel_capacity = events::MESSAGES_KEPT);
        let subscriber = builder.build()?;
        let mut connections = Vec::with_capacity(pool.size() + 1);
        for client in pool.clients().iter().chain([&subscriber]) {
            match connect_client(client).await {
                Ok(connection) => connections.push(connection),
                Err(error) => {
                    connections.iter().for_each(ConnectHandle::abort);
                    return Err(error);
                }
            }
        }
        let inner = Inner {
            pool,
            scripts: Scripts::new(),
            events: Events::start(subscriber, config.command_timeout),
            heroes: Heroes::default(),
            command_timeout: config.command_timeout,
            connections: Mutex::new(connections),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ends the subscriptions and closes the connections of all clones; their calls fail from then on.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the farewell could not be sent in time; the connections are gone all the same.
    pub async fn close(self) -> Result<(), StoreError> {
        let connections =
            std::mem::take(&mut *self.inner.connections.lock().expect("no code panics while it holds the list"));
        let farewell = async { tokio::join!(self.inner.events.close(), self.inner.pool.quit()).1.map_err(unavailable) };
        let in_time = timeout(CLOSE_DEADLINE, farewell).await;
        for connection in connections {
            // QUIT was sent, or it never will be: the tasks have nothing left to do.
            connection.abort();
        }
        match in_time {
            Ok(farewell) => farewell,
            Err(_) => Err(StoreError::Unavailable("the farewell to Redis could not be sent in time".to_owned())),
        }
    }

    async fn run<const N: usize>(&self, script: &Script, arguments: [String; N]) -> Result<Answer, StoreError> {
        self.run_with(script, arguments.into()).await
    }

    async fn run_with(&self, script: &Script, arguments: Vec<String>) -> Result<Answer, StoreError> {
        let client = self.inner.pool.next_connected();
        let value: Value =
            script.evalsha_with_reload(client, Vec::<String>::new(), arguments).await.map_err(unavailable)?;
        Answer::read(value)
    }
}

/// Connects one client and makes sure that somebody answers: a stopped server's kernel accepts connections too.
async fn connect_client(client: &Client) -> Result<ConnectHandle, Error> {
    let connection = client.init().await?;
    match timeout(CONNECT_ATTEMPT, client.ping::<Value>(None)).await {
        Ok(Ok(_)) => Ok(connection),
        Ok(Err(error)) => {
            connection.abort();
            Err(error)
        }
        Err(_) => {
            connection.abort();
            Err(Error::new(ErrorKind::Timeout, "connected, but PING was not answered"))
        }
    }
}

/// What Redis keeps and sees of a seat's secret, 40 hex digits: whoever reads there, or its log of slow commands, does not get the secret
/// itself. It is random, so that nobody can try what it may be.
fn digest(secret: Option<SeatSecret>) -> String {
    let Some(secret) = secret else { return String::new() };
    let digest = Sha1::digest(secret.reveal().as_bytes());
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
        text
    })
}

fn unavailable(error: Error) -> StoreError {
    StoreError::Unavailable(refusal::explained(&error, false))
}

/// The error of a plain command on one key.
fn of_key(key: &str, expected: &'static str, error: Error) -> StoreError {
    if error.details().starts_with("WRONGTYPE") {
        return StoreError::Malformed { key: key.to_owned(), value: "another type".to_owned(), expected };
    }
    unavailable(error)
}

impl GameStore for Redis {
    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.pool.ping::<Value>(None).await.map(drop).map_err(unavailable)
    }

    async fn login(&self, name: &str) -> Result<Login, StoreError> {
        let drawn = UserToken::new(Uuid::new_v4());
        let answer =
            self.run(&self.inner.scripts.login, [name.to_owned(), drawn.to_string(), USERS_KEPT.to_string()]).await?;
        let user = answer.done()?.parse("users", "a user token")?;
        Ok(Login { user, created: user == drawn })
    }

    async fn find(&self, find: Find) -> Result<Seat, StoreError> {
        let Find { request, user, participants, secret, wait } = find;
        assert!(participants >= 2, "a game has 2 seats or more, not {participants}");
        let roster = self.inner.heroes.roster(&self.inner.pool, self.inner.command_timeout).await?;
        let candidates = roster.draw(participants, &mut rand::rng())?;
        let mut arguments = vec![
            request.to_string(),
            REQUEST_KEPT.as_secs().to_string(),
            user.to_string(),
            participants.to_string(),
            GameToken::new(Uuid::new_v4()).to_string(),
            OPEN_GAMES_LOOKED_AT.to_string(),
            digest(Some(secret)),
            wait.min(GAME_KEPT).as_millis().max(1).to_string(),
            UNATTENDED_SEATS.to_string(),
            TRUSTED_SEATS.to_string(),
            TRUSTED_NEW_SEATS.to_string(),
            OVERDUE_AFTER.as_millis().to_string(),
            HIDDEN_AT_ONCE.to_string(),
            WAITING_GAMES.to_string(),
            GAME_KEPT.as_millis().to_string(),
            TIMED_OUT_KEPT.as_millis().to_string(),
        ];
        for candidate in candidates {
            arguments.extend([
                candidate.hero.0.to_string(),
                candidate.attack.to_string(),
                candidate.health.to_string(),
            ]);
        }
        let mut fields = self.run_with(&self.inner.scripts.find, arguments).await?.done()?;
        let open = format!("games:open:{participants}");
        Ok(Seat {
            game: fields.parse(&open, "a game token")?,
            hero: HeroId(fields.parse(&format!("requests:{request}"), "a hero's id")?),
        })
    }

    async fn attend(
        &self,
        game: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        visit: Uuid,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let kept_ms = TIMED_OUT_KEPT.as_millis().to_string();
        let arguments = [game.to_string(), user.to_string(), digest(secret), kept_ms, visit.to_string()];
        match self.run(&self.inner.scripts.attend, arguments).await? {
            Answer::Refused(refusal) => Ok(Err(refusal)),
            answer => Ok(Ok(answer.done().map(drop)?)),
        }
    }

    async fn leave(&self, game: GameToken, user: UserToken, visit: Uuid) -> Result<(), StoreError> {
        self.run(&self.inner.scripts.leave, [game.to_string(), user.to_string(), visit.to_string()]).await.map(drop)
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        let arguments = [
            SWEPT_AT_ONCE.to_string(),
            TIMED_OUT_KEPT.as_millis().to_string(),
            GAMES_KEPT.to_string(),
            USERS_KEPT.to_string(),
            GAME_KEPT.as_millis().to_string(),
            TRUSTED_SEATS.to_string(),
        ];
        let done: u8 =
            self.run(&self.inner.scripts.sweep, arguments).await?.done()?.parse("games:waiting", "a number")?;
        Ok(done == 1)
    }

    async fn hero(&self, game: GameToken, user: UserToken) -> Result<Option<Fighter>, StoreError> {
        let key = format!("games:{game}:superheros:{user}");
        let values: Vec<Value> = self
            .inner
            .pool
            .hmget(key.as_str(), vec!["id", "attack", "health"])
            .await
            .map_err(|error| of_key(&key, "a hash", error))?;
        if values.iter().all(Value::is_null) {
            return Ok(None);
        }
        Fields::of(values).fighter(&key).map(Some)
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
        let [a, b, c, d] = AttackRecord::attack_parts(now.trunc_subsecs(6), game, user, enemy);
        let (rounds, digest) = (limits.rounds.to_string(), digest(secret));
        let arguments = [game.to_string(), user.to_string(), enemy.to_string(), rounds, a, b, c, d, digest];
        match self.run(&self.inner.scripts.attack, arguments).await? {
            Answer::Refused(refusal) => Ok(Err(refusal)),
            answer => Ok(Ok(answer.done()?.outcome(game)?)),
        }
    }

    async fn forfeit(
        &self,
        game: GameToken,
        moves: u32,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Option<Outcome>, StoreError> {
        let [before, after] = AttackRecord::forfeit_parts(now.trunc_subsecs(6), game);
        let arguments = [
            game.to_string(),
            moves.to_string(),
            Uuid::new_v4().to_string(),
            REQUEST_KEPT.as_secs().to_string(),
            limits.rounds.to_string(),
            before,
            after,
        ];
        match self.run(&self.inner.scripts.forfeit, arguments).await? {
            Answer::None => Ok(None),
            answer => Ok(Some(answer.done()?.outcome(game)?)),
        }
    }

    async fn time_out(&self, game: GameToken) -> Result<bool, StoreError> {
        let kept_ms = TIMED_OUT_KEPT.as_millis().to_string();
        let arguments = [game.to_string(), Uuid::new_v4().to_string(), REQUEST_KEPT.as_secs().to_string(), kept_ms];
        Ok(!matches!(self.run(&self.inner.scripts.time_out, arguments).await?, Answer::None))
    }

    async fn snapshot(&self, game: GameToken) -> Result<Option<Snapshot>, StoreError> {
        match self.run(&self.inner.scripts.snapshot, [game.to_string()]).await? {
            Answer::None => Ok(None),
            answer => Ok(Some(answer.done()?.snapshot(game)?)),
        }
    }

    async fn subscribe(&self, game: GameToken) -> Result<Subscription, StoreError> {
        self.inner.events.subscribe(game).await
    }

    async fn clean(&self, game: GameToken, expiry: Duration) -> Result<(), StoreError> {
        // Redis counts in an i64; a longer time is for ever in practice, and an error to it.
        let expiry_ms = expiry.as_millis().min(u128::from(u32::MAX) * 1000);
        self.run(&self.inner.scripts.clean, [game.to_string(), expiry_ms.to_string()]).await.map(drop)
    }

    async fn load_heroes(&self, heroes: &[Hero]) -> Result<(), StoreError> {
        Roster::of_heroes(heroes)?;
        let arguments = heroes.iter().flat_map(|hero| [hero.id.0.to_string(), hero.json.clone()]).collect();
        let loaded = self.run_with(&self.inner.scripts.load_heroes, arguments).await.map(drop);
        self.inner.heroes.forget().await;
        loaded
    }

    async fn hero_count(&self) -> Result<usize, StoreError> {
        self.inner.pool.hlen(heroes::KEY).await.map_err(|error| of_key(heroes::KEY, "a hash", error))
    }
}
