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
//! | `games:open:<n>` | list | the games for n players with free seats, oldest first: what a `find` looks through |
//! | `requests:<uuid>` | string, 2 minutes | `<g> <hero id>`: the answer to a `find`; `forfeit`, `time out`: that a call did it |
//! | `superheros:loading` | hash | a roster while one script loads it; nobody else ever sees it |
//!
//! Channel `games:<g>:events` carries `started`, `turn <u> <moves>`, `completed`, `timed-out`.
//!
//! # Atomicity
//! An operation that changes more than one key is one Lua script. The scripts build their keys themselves, so this is for
//! a single Redis (6 or newer), not for a cluster. A connection that is lost inside a command makes the client send it again; the
//! scripts know a repetition by its request, its call, or the record that it left.

mod answer;
mod events;
mod scripts;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use fred::clients::{Client, Pool};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, HashesInterface};
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, ServerConfig, UnresponsiveConfig,
};
use fred::types::scripts::Script;
use fred::types::{Builder, ConnectHandle, Value};
use superhero_game::{AttackRecord, Fighter, GameToken, Hero, HeroId, Limits, Refusal, UserToken};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use self::answer::{Answer, Fields};
use self::events::Events;
use self::scripts::Scripts;
use crate::roster::{Roster, read_fighter};
use crate::{GameStore, Login, OPEN_GAMES_LOOKED_AT, Outcome, REQUEST_KEPT, Seat, Snapshot, StoreError, Subscription};

/// How old the roster that seats are drawn from may be: another process may have loaded a new one since.
const ROSTER_STALENESS: Duration = Duration::from_secs(5);

/// Between two attempts to connect at the start.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// The longest that one attempt to connect takes.
const CONNECT_ATTEMPT: Duration = Duration::from_secs(2);

/// The longest pause between two attempts to connect again, so that the games go on soon after Redis is back.
const RECONNECT_PAUSE_MAX_MS: u32 = 1000;

/// The shortest such pause; it doubles.
const RECONNECT_PAUSE_MIN_MS: u32 = 50;

/// Commands that wait for a connection; beyond these a call fails at once. Far more than the sessions of one server.
const COMMANDS_QUEUED: usize = 16_384;

/// How long the connections get for their farewell.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Where Redis is and how it is used.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Number of the database.
    pub database: u8,
    /// Its password, where it wants one.
    pub password: Option<String>,
    /// Connections for commands; one more is for the events.
    pub connections: usize,
    /// The longest that a command waits for its answer, the time of a reconnection included. A connection that has not
    /// answered for half of it is given up and made anew, so that a command can still succeed on the next.
    pub command_timeout: Duration,
}

impl RedisConfig {
    /// The usual settings for a Redis at this place.
    pub fn new(host: impl Into<String>, port: u16, database: u8) -> Self {
        Self {
            host: host.into(),
            port,
            database,
            password: None,
            connections: 2,
            command_timeout: Duration::from_secs(4),
        }
    }

    fn builder(&self) -> Builder {
        let mut policy = ReconnectPolicy::new_exponential(0, RECONNECT_PAUSE_MIN_MS, RECONNECT_PAUSE_MAX_MS, 2);
        policy.set_jitter(RECONNECT_PAUSE_MIN_MS);
        let mut builder = Builder::from_config(Config {
            server: ServerConfig::new_centralized(self.host.clone(), self.port),
            database: Some(self.database),
            password: self.password.clone(),
            ..Config::default()
        });
        builder.set_policy(policy);
        builder.set_performance_config(PerformanceConfig {
            default_command_timeout: self.command_timeout,
            ..PerformanceConfig::default()
        });
        builder.set_connection_config(ConnectionConfig {
            connection_timeout: CONNECT_ATTEMPT,
            internal_command_timeout: CONNECT_ATTEMPT,
            max_command_buffer_len: COMMANDS_QUEUED,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(self.command_timeout / 2),
                interval: self.command_timeout / 8,
            },
            ..ConnectionConfig::default()
        });
        builder
    }
}

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
    /// `None` until a seat is drawn, and after this process has loaded another.
    roster: tokio::sync::Mutex<Option<(Instant, Arc<Roster>)>>,
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
    /// Connects, trying again until `deadline` has passed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] that names host, port and database, and why the last attempt failed.
    pub async fn connect(config: RedisConfig, deadline: Duration) -> Result<Self, StoreError> {
        let give_up_at = Instant::now() + deadline;
        loop {
            let error = match Self::connect_once(&config).await {
                Ok(store) => return Ok(store),
                Err(error) => error,
            };
            // What a wrong password or database brings does not change by waiting.
            let for_good = matches!(error.kind(), ErrorKind::Auth | ErrorKind::Config | ErrorKind::InvalidArgument);
            if for_good || Instant::now() + CONNECT_PAUSE >= give_up_at {
                let RedisConfig { host, port, database, .. } = config;
                return Err(StoreError::Unavailable(format!(
                    "no connection to Redis at {host}:{port} (database {database}): {error}"
                )));
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
            roster: tokio::sync::Mutex::new(None),
            connections: Mutex::new(connections),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ends the subscriptions and closes the connections of all clones; their calls fail from then on.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when Redis did not answer the farewell in time; the connections are gone all the same.
    pub async fn close(self) -> Result<(), StoreError> {
        let connections =
            std::mem::take(&mut *self.inner.connections.lock().expect("no code panics while it holds the list"));
        let farewell = async { tokio::join!(self.inner.events.close(), self.inner.pool.quit()).1.map_err(unavailable) };
        let in_time = timeout(CLOSE_DEADLINE, farewell).await;
        for connection in connections {
            // QUIT was answered, or there will be no answer: the tasks have nothing left to do.
            connection.abort();
        }
        match in_time {
            Ok(farewell) => farewell,
            Err(_) => Err(StoreError::Unavailable("Redis did not answer the farewell in time".to_owned())),
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

    /// The roster, no older than [`ROSTER_STALENESS`].
    async fn roster(&self) -> Result<Arc<Roster>, StoreError> {
        let mut roster = self.inner.roster.lock().await;
        if let Some((read_at, roster)) = &*roster
            && read_at.elapsed() < ROSTER_STALENESS
        {
            return Ok(roster.clone());
        }
        let read_at = Instant::now();
        let hash: Vec<(String, String)> =
            self.inner.pool.hgetall("superheros").await.map_err(|error| of_key("superheros", "a hash", error))?;
        let read = if hash.is_empty() {
            Roster::built_in()
        } else {
            Roster::new(hash.iter().map(|(id, json)| read_fighter(id, json)).collect::<Result<_, _>>()?)?
        };
        let read = Arc::new(read);
        *roster = Some((read_at, read.clone()));
        Ok(read)
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

fn unavailable(error: Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
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
        let answer = self.run(&self.inner.scripts.login, [name.to_owned(), drawn.to_string()]).await?;
        let user = answer.done()?.parse("users", "a user token")?;
        Ok(Login { user, created: user == drawn })
    }

    async fn find(
        &self,
        request: Uuid,
        user: UserToken,
        participants: u32,
        _now: DateTime<Utc>,
    ) -> Result<Seat, StoreError> {
        assert!(participants >= 2, "a game has 2 seats or more, not {participants}");
        let candidates = self.roster().await?.draw(participants, &mut rand::rng())?;
        let mut arguments = vec![
            request.to_string(),
            REQUEST_KEPT.as_secs().to_string(),
            user.to_string(),
            participants.to_string(),
            GameToken::new(Uuid::new_v4()).to_string(),
            OPEN_GAMES_LOOKED_AT.to_string(),
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
        enemy: UserToken,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        let [a, b, c, d] = AttackRecord::attack_parts(now.trunc_subsecs(6), game, user, enemy);
        let arguments = [game.to_string(), user.to_string(), enemy.to_string(), limits.rounds.to_string(), a, b, c, d];
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
        let arguments = [game.to_string(), Uuid::new_v4().to_string(), REQUEST_KEPT.as_secs().to_string()];
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
        *self.inner.roster.lock().await = None;
        loaded
    }

    async fn hero_count(&self) -> Result<usize, StoreError> {
        self.inner.pool.hlen("superheros").await.map_err(|error| of_key("superheros", "a hash", error))
    }
}
