//! The store in Redis: the conformance suite, and what only a real server can do to it.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chrono::Utc;
use libtest_mimic::Trial;
use superhero_game::{GameToken, Hero, Limits, SeatSecret, UserToken, built_in_roster};
use superhero_store::redis::{Redis, RedisConfig};
use superhero_store::{Find, GameEvent, GameStore, Seat, Status, StoreError, Subscription, conformance};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::process::{self, Signal};
use crate::real;
use crate::services;

/// The database of the conformance suite on the shared server.
const DATABASE: u8 = 9;

/// Longer than a server takes to start.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A command's time in the tests that take the server away; short, so that they are too.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a subscription may take to be whole again once the server is.
const EVENT_DEADLINE: Duration = Duration::from_secs(10);

const LIMITS: Limits = Limits { rounds: 100 };

/// The cases of the suite, and those of this file.
pub fn tests() -> Vec<Trial> {
    let cases = conformance::cases::<Redis>().into_iter().map(|(name, case)| {
        real(&format!("redis store: {name}"), move || async move {
            let port = services::Redis::shared()?.port;
            let store = Redis::connect(RedisConfig::new("127.0.0.1", port, DATABASE), CONNECT_DEADLINE).await?;
            case(store.clone()).await;
            Ok(store.close().await?)
        })
    });
    let own = vec![
        real("redis store: keys have the names and types of the specification", keys_are_those_of_the_specification),
        real("redis store: a cleaned game's keys all expire", a_cleaned_games_keys_expire),
        real("redis store: what others wrote into a key is named and nothing is changed", malformed_keys_are_named),
        real("redis store: two servers fill and play the same games", two_servers_share_games),
        real("redis store: a restarted server is found again", a_restarted_server_is_found_again),
        real("redis store: a stopped server fails calls in time", a_stopped_server_fails_calls_in_time),
        real("redis store: lost connections lose and double no move", lost_connections_double_nothing),
        real("redis store: a server that comes late is waited for", a_late_server_is_waited_for),
        real("redis store: no server is told with its address", no_server_is_told),
        real("redis store: a run that did not end is told to the next", unended_runs_are_told),
        real("redis store: after closing it calls fail and subscriptions end", a_closed_store_ends),
    ];
    cases.chain(own).collect()
}

/// A redis-server of a test's own, which it may take away.
struct Server {
    port: u16,
    folder: TempDir,
    process: Option<Child>,
}

impl Server {
    fn start() -> Result<Self> {
        let mut server = Self { port: services::free_port()?, folder: tempfile::tempdir()?, process: None };
        server.up()?;
        Ok(server)
    }

    fn up(&mut self) -> Result<()> {
        let process = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("redis-server does not start; it is in Debian's package of that name")?;
        self.process = Some(process);
        Ok(())
    }

    fn down(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Stops or continues the process: it keeps its connections and answers nothing meanwhile.
    fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.process.as_ref().context("the server runs")?.id(), signal)
    }

    fn config(&self) -> RedisConfig {
        RedisConfig { command_timeout: COMMAND_TIMEOUT, ..RedisConfig::new("127.0.0.1", self.port, 0) }
    }

    async fn connect(&self) -> Result<Redis> {
        Ok(Redis::connect(self.config(), CONNECT_DEADLINE).await?)
    }

    /// What redis-cli shows, a line per value.
    fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("redis-cli does not start; it is in Debian's package redis-tools")?;
        ensure!(output.status.success(), "redis-cli {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Everything that the server holds, to see that nothing was changed.
    fn dump(&self) -> Result<String> {
        const SCRIPT: &str = "local all = {} for _, key in ipairs(redis.call('KEYS', '*')) do \
            all[#all + 1] = key .. redis.sha1hex(redis.call('DUMP', key)) end table.sort(all) return all";
        self.cli(&["EVAL", SCRIPT, "0"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            eprintln!("redis-server on port {} is not stopped: {error}", self.port);
        }
    }
}

fn new_user() -> UserToken {
    UserToken::new(Uuid::new_v4())
}

async fn find(store: &Redis, user: UserToken, seats: u32) -> Result<Seat> {
    Ok(store.find(a_find(user, seats)).await?)
}

fn a_find(user: UserToken, participants: u32) -> Find {
    let (request, secret) = (Uuid::new_v4(), SeatSecret::new(Uuid::new_v4()));
    Find { request, user, participants, secret, wait: Duration::from_secs(3600) }
}

async fn seated(store: &Redis, seats: u32) -> Result<GameToken> {
    for _ in 1..seats {
        find(store, new_user(), seats).await?;
    }
    Ok(find(store, new_user(), seats).await?.game)
}

async fn next_event(subscription: &mut Subscription) -> Result<GameEvent> {
    let event = tokio::time::timeout(EVENT_DEADLINE, subscription.events.recv()).await.context("no event in time")?;
    event.context("the subscription ended")
}

/// The next event but a `Resync`, of which a lost connection may bring several.
async fn next_news(subscription: &mut Subscription) -> Result<GameEvent> {
    loop {
        let event = next_event(subscription).await?;
        if event != GameEvent::Resync {
            return Ok(event);
        }
    }
}

/// Calls until it works, which has to be soon.
async fn eventually(store: &Redis) -> Result<()> {
    let start = Instant::now();
    while let Err(error) = store.ping().await {
        ensure!(start.elapsed() < EVENT_DEADLINE, "the store does not come back: {error}");
    }
    Ok(())
}

async fn keys_are_those_of_the_specification() -> Result<()> {
    let server = Server::start()?;
    let store = server.connect().await?;
    let heroes: Vec<Hero> = built_in_roster();
    store.load_heroes(&heroes).await?;
    ensure!(server.cli(&["TYPE", "superheros"])? == "hash" && server.cli(&["EXISTS", "superheros:loading"])? == "0");
    let hero = &heroes[3];
    ensure!(server.cli(&["HGET", "superheros", &hero.id.0.to_string()])? == hero.json);
    let user = store.login("USER001").await?.user;
    ensure!(server.cli(&["HGETALL", "users"])? == format!("USER001\n{user}"));

    let Seat { game, hero } = find(&store, user, 2).await?;
    let key = |kind: &str| format!("games:{game}{kind}");
    let get = |kind: &str| server.cli(&["GET", &key(kind)]);
    ensure!(get(":status")? == "Waiting Lobby" && get(":participants")? == "2" && get(":host")? == user.to_string());
    ensure!(server.cli(&["ZRANGE", "games:participants", "0", "-1", "WITHSCORES"])? == format!("{game}\n1"));
    ensure!(server.cli(&["LRANGE", "games:open:2", "0", "-1"])? == game.to_string());

    find(&store, new_user(), 2).await?;
    let snapshot = store.snapshot(game).await?.context("the game is known")?;
    let order: Vec<String> = snapshot.order.iter().map(UserToken::to_string).collect();
    ensure!(get(":status")? == "Waiting Player");
    ensure!(server.cli(&["ZSCORE", "games:participants", &game.to_string()])? == "2");
    ensure!(server.cli(&["EXISTS", "games:open:2"])? == "0");
    ensure!(server.cli(&["LRANGE", "games:players:2", "0", "-1"])? == game.to_string());
    ensure!(server.cli(&["LRANGE", &key(":order"), "0", "-1"])? == order.join("\n"));
    let members: BTreeSet<String> = server.cli(&["SMEMBERS", &key("")])?.lines().map(str::to_owned).collect();
    ensure!(members == order.iter().cloned().collect());
    ensure!(server.cli(&["SCARD", &key(":superheros")])? == "2");
    ensure!(server.cli(&["SISMEMBER", &key(":superheros"), &hero.0.to_string()])? == "1");
    let fighter = snapshot.fighters[&user];
    let hash = server.cli(&["HGETALL", &key(&format!(":superheros:{user}"))])?;
    ensure!(hash == format!("id\n{}\nattack\n{}\nhealth\n{}", hero.0, fighter.attack, fighter.health), "{hash}");

    let now = Utc::now();
    let mut records = vec![
        store.attack(game, snapshot.order[0], None, snapshot.order[1], now, LIMITS).await??.record,
        store.forfeit(game, 1, now, LIMITS).await?.context("the turn is open")?.record,
    ];
    ensure!(server.cli(&["TYPE", &key(":logs")])? == "list");
    for record in records.drain(..) {
        ensure!(server.cli(&["LPOP", &key(":logs")])? == record.to_json());
    }
    ensure!(get(":status")? == "Completed");
    ensure!(server.cli(&["LRANGE", &key(":order"), "0", "-1"])? == order[0]);
    ensure!(server.cli(&["HGET", &key(&format!(":superheros:{}", order[1])), "health"])? == "0");

    ensure!(server.cli(&["ZCARD", "games:waiting"])? == "0");
    ensure!(server.cli(&["ZRANGE", "games:started", "0", "-1"])? == format!("{game} 2"));
    ensure!(server.cli(&["EXISTS", "games:attended:2", &format!("seats:{user}")])? == "1");
    let seat = server.cli(&["HGET", &key(":seats"), &user.to_string()])?;
    ensure!(seat.starts_with("- ") && seat.len() == "- 1795371321101 ".len() + 40, "{seat}");
    for key in server.cli(&["KEYS", "games:????????-*"])?.lines().map(str::to_owned).chain([format!("seats:{user}")]) {
        let ttl: i64 = server.cli(&["TTL", &key])?.parse()?;
        ensure!((1..=30 * 24 * 3600).contains(&ttl), "{key} expires in {ttl}");
    }

    for request in server.cli(&["KEYS", "requests:*"])?.lines() {
        let ttl: i64 = server.cli(&["TTL", request])?.parse()?;
        ensure!((1..=120).contains(&ttl), "{request} expires in {ttl}");
    }
    Ok(store.close().await?)
}

async fn a_cleaned_games_keys_expire() -> Result<()> {
    let server = Server::start()?;
    let store = server.connect().await?;
    let game = seated(&store, 3).await?;
    let kept = seated(&store, 3).await?;
    store.clean(game, Duration::from_secs(3600)).await?;
    let order = store.snapshot(game).await?.context("the game is still known")?.order;
    store.attack(game, order[0], None, order[1], Utc::now(), LIMITS).await??;
    let keys = server.cli(&["KEYS", &format!("games:{game}*")])?;
    ensure!(keys.lines().count() == 11, "{keys}");
    for key in keys.lines() {
        let ttl: i64 = server.cli(&["TTL", key])?.parse()?;
        ensure!((3500..=3600).contains(&ttl), "{key} expires in {ttl}");
    }
    ensure!(server.cli(&["LRANGE", "games:players:3", "0", "-1"])? == kept.to_string());
    ensure!(server.cli(&["ZRANGE", "games:participants", "0", "-1"])? == kept.to_string());
    Ok(store.close().await?)
}

async fn malformed_keys_are_named() -> Result<()> {
    let server = Server::start()?;
    let store = server.connect().await?;
    let game = seated(&store, 2).await?;
    let waiting = find(&store, new_user(), 3).await?.game;
    let order = store.snapshot(game).await?.context("the game is known")?.order;
    let enemy_key = format!("games:{game}:superheros:{}", order[1]);

    // What is written, which key is to be named, and which calls have to name it.
    let attack = || async { store.attack(game, order[0], None, order[1], Utc::now(), LIMITS).await.map(drop) };
    let forfeit = || async { store.forfeit(game, 0, Utc::now(), LIMITS).await.map(drop) };
    let snapshot = || async { store.snapshot(game).await.map(drop) };
    let find_three = || async { store.find(a_find(new_user(), 3)).await.map(drop) };
    let login = || async { store.login("USER001").await.map(drop) };
    let clean = || async { store.clean(game, Duration::from_secs(1)).await };
    let hero = || async { store.hero(game, order[1]).await.map(drop) };
    let time_out = || async { store.time_out(waiting).await.map(drop) };
    type Call<'a> = (&'a str, &'a dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = Result<(), StoreError>> + 'a>>);
    let calls: [Call<'_>; 8] = [
        ("attack", &|| Box::pin(attack())),
        ("forfeit", &|| Box::pin(forfeit())),
        ("snapshot", &|| Box::pin(snapshot())),
        ("find", &|| Box::pin(find_three())),
        ("login", &|| Box::pin(login())),
        ("clean", &|| Box::pin(clean())),
        ("hero", &|| Box::pin(hero())),
        ("time_out", &|| Box::pin(time_out())),
    ];
    let in_game = |kind: &str| format!("games:{game}{kind}");
    let first = order[0].to_string();
    let table: Vec<(Vec<&str>, String, &[&str])> = vec![
        (vec!["SET", "KEY", "text"], in_game(""), &["attack", "forfeit", "snapshot", "clean"]),
        (vec!["SET", "KEY", "text"], in_game(":order"), &["attack", "forfeit", "snapshot"]),
        (vec!["SET", "KEY", "text"], in_game(":logs"), &["attack", "forfeit", "snapshot"]),
        (vec!["RPUSH", "KEY", "no record"], in_game(":logs"), &["snapshot"]),
        (vec!["SET", "KEY", "Asleep"], in_game(":status"), &["attack", "forfeit", "snapshot"]),
        (vec!["RPUSH", "KEY", "text"], in_game(":status"), &["attack", "forfeit", "snapshot"]),
        (vec!["SET", "KEY", "two"], in_game(":participants"), &["snapshot", "clean"]),
        (vec!["SET", "KEY", "nobody"], in_game(":host"), &["snapshot"]),
        (vec!["SET", "KEY", "text"], enemy_key.clone(), &["attack", "snapshot", "hero"]),
        (vec!["HSET", "KEY", "id", "1", "attack", "1", "health", "much"], enemy_key, &["attack", "snapshot", "hero"]),
        (vec!["SET", "KEY", "text"], in_game(":seats"), &["attack"]),
        (vec!["HSET", "KEY", &first, "+ here"], in_game(":seats"), &["attack"]),
        (vec!["SET", "KEY", "text"], format!("games:{waiting}:seats"), &["find"]),
        (vec!["SET", "KEY", "text"], "games:attended:3".to_owned(), &["find", "time_out"]),
        (vec!["SET", "KEY", "text"], "games:waiting".to_owned(), &["find", "clean", "time_out"]),
        (vec!["SET", "KEY", "text"], "games:started".to_owned(), &["find", "clean"]),
        (vec!["SET", "KEY", "text"], "users:seen".to_owned(), &["login"]),
        (vec!["SET", "KEY", "text"], "users".to_owned(), &["login"]),
        (vec!["HSET", "KEY", "USER001", "nobody"], "users".to_owned(), &["login"]),
        (vec!["SET", "KEY", "text"], "games:open:3".to_owned(), &["find", "time_out"]),
        (vec!["SET", "KEY", "text"], "games:players:3".to_owned(), &["find"]),
        (vec!["SET", "KEY", "text"], "games:participants".to_owned(), &["find", "clean"]),
        (vec!["SET", "KEY", "text"], format!("games:{waiting}:superheros"), &["find"]),
    ];
    let spare = "spare";
    for (mut write, key, named_by) in table {
        let existed = server.cli(&["EXISTS", &key])? == "1";
        if existed {
            server.cli(&["RENAME", &key, spare])?;
        }
        write[1] = &key;
        server.cli(&write)?;
        let before = server.dump()?;
        for (name, call) in calls.iter().filter(|(name, _)| named_by.contains(name)) {
            match call().await {
                Err(StoreError::Malformed { key: named, .. }) if named == key => {}
                other => bail!("{write:?}: {name} answered {other:?}"),
            }
            ensure!(server.dump()? == before, "{write:?}: {name} has changed something");
        }
        server.cli(&["DEL", &key])?;
        if existed {
            server.cli(&["RENAME", spare, &key])?;
        }
    }
    for (_, call) in calls {
        call().await?;
    }

    for (field, hero) in [("one", "{}"), ("1", "text"), ("1", r#"{"powerstats":{"attack":1,"health":0}}"#)] {
        server.cli(&["HSET", "superheros", field, hero])?;
        // A store of its own has no roster yet.
        let fresh = server.connect().await?;
        let found = fresh.find(a_find(new_user(), 2)).await;
        ensure!(matches!(found, Err(StoreError::Malformed { .. })), "{hero}: {found:?}");
        fresh.close().await?;
        server.cli(&["DEL", "superheros"])?;
    }
    Ok(store.close().await?)
}

async fn two_servers_share_games() -> Result<()> {
    const GAMES: usize = 30;
    let server = Server::start()?;
    let stores = [server.connect().await?, server.connect().await?];
    let mut finds = JoinSet::new();
    for seat in 0..2 * GAMES {
        let store = stores[seat % 2].clone();
        finds.spawn(async move { find(&store, new_user(), 2).await });
    }
    let mut games = BTreeSet::new();
    while let Some(seat) = finds.join_next().await {
        games.insert(seat??.game);
    }
    ensure!(games.len() == GAMES);
    for game in games {
        let mut subscription = stores[0].subscribe(game).await?;
        let mut moves = 0;
        loop {
            let order = stores[0].snapshot(game).await?.context("the game is known")?.order;
            let outcome = stores[1].attack(game, order[0], None, order[1], Utc::now(), LIMITS).await??;
            moves += 1;
            let event = next_event(&mut subscription).await?;
            match outcome.next {
                Some(user) => ensure!(event == GameEvent::Turn { user, moves }),
                None => {
                    ensure!(event == GameEvent::Completed);
                    break;
                }
            }
        }
    }
    for store in stores {
        store.close().await?;
    }
    Ok(())
}

async fn a_restarted_server_is_found_again() -> Result<()> {
    let mut server = Server::start()?;
    let store = server.connect().await?;
    seated(&store, 2).await?;
    // The channel outlives the server's memory; its game is made again under the same token by hand below.
    let lost = find(&store, new_user(), 3).await?.game;
    let mut subscriptions = [store.subscribe(lost).await?, store.subscribe(lost).await?];
    server.down()?;

    let start = Instant::now();
    for _ in 0..3 {
        let call = store.find(a_find(new_user(), 2)).await;
        ensure!(matches!(call, Err(StoreError::Unavailable(_))), "{call:?}");
    }
    let subscribed = store.subscribe(GameToken::new(Uuid::new_v4())).await;
    ensure!(matches!(subscribed, Err(StoreError::Unavailable(_))), "{subscribed:?}");
    ensure!(start.elapsed() < 6 * COMMAND_TIMEOUT, "failing took {:?}", start.elapsed());

    server.up()?;
    eventually(&store).await?;
    for subscription in &mut subscriptions {
        ensure!(next_event(subscription).await? == GameEvent::Resync);
    }
    server.cli(&["PUBLISH", &format!("games:{lost}:events"), "completed"])?;
    for subscription in &mut subscriptions {
        ensure!(next_news(subscription).await? == GameEvent::Completed);
    }
    // The new server knows no script and no key.
    ensure!(store.snapshot(lost).await?.is_none());
    let game = seated(&store, 2).await?;
    let mut subscription = store.subscribe(game).await?;
    let outcome = store.forfeit(game, 0, Utc::now(), LIMITS).await?.context("the turn is open")?;
    ensure!(outcome.next.is_none() && next_news(&mut subscription).await? == GameEvent::Completed);

    server.cli(&["SCRIPT", "FLUSH"])?;
    seated(&store, 2).await?;
    Ok(store.close().await?)
}

async fn a_stopped_server_fails_calls_in_time() -> Result<()> {
    let server = Server::start()?;
    let store = server.connect().await?;
    let game = seated(&store, 2).await?;
    // No roster is known, so that the finds have to wait for one another's reading.
    store.load_heroes(&[]).await?;
    let mut subscription = store.subscribe(game).await?;
    server.signal(Signal::STOP)?;
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for call in 0..40 {
        let store = store.clone();
        calls.spawn(async move {
            match call % 2 {
                0 => store.snapshot(game).await.map(drop),
                _ => store.find(a_find(new_user(), 2)).await.map(drop),
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        ensure!(matches!(call?, Err(StoreError::Unavailable(_))));
    }
    ensure!(start.elapsed() < 4 * COMMAND_TIMEOUT, "failing took {:?}", start.elapsed());
    server.signal(Signal::CONT)?;
    eventually(&store).await?;
    ensure!(store.snapshot(game).await?.is_some());
    // Whether the subscribed connection was given up or not, what happens now arrives.
    let outcome = store.forfeit(game, 0, Utc::now(), LIMITS).await?.context("the turn is open")?;
    ensure!(outcome.next.is_none());
    loop {
        let event = next_event(&mut subscription).await?;
        let completed = store.snapshot(game).await?.is_some_and(|snapshot| snapshot.status == Status::Completed);
        if event == GameEvent::Completed || (event == GameEvent::Resync && completed) {
            break;
        }
    }
    Ok(store.close().await?)
}

async fn lost_connections_double_nothing() -> Result<()> {
    const GAMES: usize = 60;
    let server = Server::start()?;
    let store = server.connect().await?;
    let play = fill_and_play_through_losses(store.clone(), GAMES);
    tokio::pin!(play);
    let mut kills = 0;
    loop {
        let port = server.port.to_string();
        let kill = tokio::task::spawn_blocking(move || {
            Command::new("redis-cli").args(["-p", &port, "CLIENT", "KILL", "TYPE", "normal"]).output()
        });
        tokio::select! {
            played = &mut play => {
                played?;
                break;
            }
            killed = kill => {
                killed??;
                kills += 1;
            }
        }
    }
    ensure!(kills > 3, "only {kills} times were the connections cut");
    Ok(store.close().await?)
}

/// Fills that many games of two with concurrent finds, and plays them.
async fn fill_and_play_through_losses(store: Redis, games: usize) -> Result<()> {
    let mut finds = JoinSet::new();
    for _ in 0..2 * games {
        let (store, find) = (store.clone(), a_find(new_user(), 2));
        finds.spawn(async move { persist(|| store.find(find)).await });
    }
    let mut seats = Vec::new();
    while let Some(seat) = finds.join_next().await {
        seats.push(seat??.game);
    }
    let games: BTreeSet<GameToken> = seats.iter().copied().collect();
    ensure!(seats.len() == 2 * games.len(), "{} seats in {} games", seats.len(), games.len());
    let mut plays = JoinSet::new();
    for game in games {
        plays.spawn(play_through_losses(store.clone(), game));
    }
    while let Some(play) = plays.join_next().await {
        play??;
    }
    Ok(())
}

/// Plays a game of two to its end; its records are what its moves answered.
async fn play_through_losses(store: Redis, game: GameToken) -> Result<()> {
    let mut made = Vec::new();
    loop {
        let snapshot = persist(|| store.snapshot(game)).await?.context("the game is known")?;
        ensure!(snapshot.records == made, "{} moves were made, {} are kept", made.len(), snapshot.records.len());
        if snapshot.status == Status::Completed {
            return Ok(());
        }
        let (user, enemy, now) = (snapshot.order[0], snapshot.order[1], Utc::now());
        let outcome = persist(|| store.attack(game, user, None, enemy, now, LIMITS)).await??;
        made.push(outcome.record);
    }
}

/// Repeats a call until the store answers it.
async fn persist<T, Fut>(call: impl Fn() -> Fut) -> Result<T>
where
    Fut: Future<Output = Result<T, StoreError>>,
{
    let start = Instant::now();
    loop {
        match call().await {
            Err(StoreError::Unavailable(error)) => {
                ensure!(start.elapsed() < 6 * EVENT_DEADLINE, "the store does not come back: {error}");
                tokio::task::yield_now().await;
            }
            answer => return Ok(answer?),
        }
    }
}

async fn a_late_server_is_waited_for() -> Result<()> {
    let mut server = Server::start()?;
    server.down()?;
    let connecting = tokio::spawn(Redis::connect(server.config(), CONNECT_DEADLINE));
    // The first attempt has most likely failed by the time that the new process listens.
    server.up()?;
    let store = connecting.await??;
    store.ping().await?;
    Ok(store.close().await?)
}

async fn no_server_is_told() -> Result<()> {
    let port = services::free_port()?;
    let start = Instant::now();
    let connected = Redis::connect(RedisConfig::new("127.0.0.1", port, 3), Duration::from_secs(1)).await;
    let error = connected.err().context("nobody listens there")?.to_string();
    ensure!(error.contains(&format!("127.0.0.1:{port} (database 3)")), "{error}");
    ensure!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    let server = Server::start()?;
    server.connect().await?.close().await?;
    let wrong = Redis::connect(RedisConfig { database: 99, ..server.config() }, CONNECT_DEADLINE).await;
    let error = wrong.err().context("there are 16 databases")?.to_string();
    ensure!(error.contains("(database 99)"), "{error}");
    server.cli(&["CONFIG", "SET", "requirepass", "secret"])?;
    let start = Instant::now();
    for password in [None, Some("guessed".to_owned())] {
        let wrong = Redis::connect(RedisConfig { password, ..server.config() }, CONNECT_DEADLINE).await;
        let error = wrong.err().context("the password is wrong")?.to_string();
        ensure!(error.contains("127.0.0.1") && !error.contains("guessed"), "{error}");
    }
    ensure!(start.elapsed() < CONNECT_DEADLINE, "a wrong password was tried for {:?}", start.elapsed());
    let right = RedisConfig { password: Some("secret".to_owned()), ..server.config() };
    Ok(Redis::connect(right, CONNECT_DEADLINE).await?.close().await?)
}

async fn a_closed_store_ends() -> Result<()> {
    let server = Server::start()?;
    let store = server.connect().await?;
    let game = seated(&store, 2).await?;
    let mut subscription = store.subscribe(game).await?;
    store.clone().close().await?;
    ensure!(subscription.events.recv().await.is_none());
    ensure!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    ensure!(matches!(store.snapshot(game).await, Err(StoreError::Unavailable(_))));
    ensure!(matches!(store.subscribe(game).await, Err(StoreError::Unavailable(_))));
    let clients = server.cli(&["CLIENT", "LIST"])?;
    ensure!(clients.lines().count() == 1, "redis-cli is not alone: {clients}");
    store.close().await?;

    let left = server.connect().await?;
    let subscription = left.subscribe(game).await?;
    server.signal(Signal::STOP)?;
    let start = Instant::now();
    // Whether QUIT can still be written is the kernel's affair; that it is not waited for longer is ours.
    let _ = left.close().await;
    ensure!(start.elapsed() < Duration::from_secs(4), "closing took {:?}", start.elapsed());
    ensure!(subscription.events.is_closed());
    let connected = Redis::connect(server.config(), Duration::from_secs(1)).await;
    ensure!(connected.is_err() && start.elapsed() < Duration::from_secs(12), "refusing took {:?}", start.elapsed());
    Ok(())
}

async fn unended_runs_are_told() -> Result<()> {
    let server = Server::start()?;
    let store = server.connect().await?;
    ensure!(store.begin_run("host:8080", "first").await?.is_none(), "there was no run before");
    ensure!(store.begin_run("host:8081", "of another").await?.is_none(), "servers are told apart");
    ensure!(store.begin_run("host:8080", "second").await?.as_deref() == Some("first"), "the first did not end");
    store.end_run("host:8080").await?;
    ensure!(store.begin_run("host:8080", "third").await?.is_none(), "the second has ended");
    let expiry: i64 = server.cli(&["TTL", "servers:host:8080"])?.trim().parse()?;
    ensure!(expiry > 0, "notes of servers that never come back go");
    server.cli(&["LPUSH", "servers:host:8082", "of others"])?;
    let error = store.begin_run("host:8082", "a run").await.err().context("a key of another type")?;
    ensure!(error.to_string().contains("servers:host:8082"), "{error}");
    Ok(store.close().await?)
}
