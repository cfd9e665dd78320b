//! Bots against a server of a few lines, over real sockets: it has one opponent, who hits back at once unless a whim says otherwise.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use futures_util::{SinkExt, StreamExt};
use superhero_api::{Endpoint, FindAnswer, HeroAnswer, LobbyPush, LoginAnswer, Rejection, Request};
use superhero_game::{Action, AttackRecord, Fighter, GameToken, HeroId, SeatSecret, UserToken};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Handshake, Response};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_util::sync::CancellationToken;

use crate::{PlayersConfig, Summary, run};

const DEADLINE: Duration = Duration::from_secs(20);
const FULL_HEALTH: u64 = 3;
/// Of the bot: more than its opponent ever takes.
const OWN_HEALTH: u64 = 100;
/// How often a turn is announced by servers that do so again and again.
const EVERY: Duration = Duration::from_millis(10);

/// What the server does out of the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whim {
    None,
    /// Seats are never filled.
    NeverStarts,
    /// The lobby's connection is dropped after each attack but the last.
    DropsLobby,
    /// The action's connection is dropped once in place of the answer, though the attack was made.
    DropsAction,
    /// The first find is refused.
    RefusesFindOnce,
    /// The lobby says once that there is no such game.
    ForgetsGame,
    /// The hero's connection has to answer a ping before the game goes on after the first attack.
    PingsHero,
    /// The lobby says nothing.
    Silent,
    /// Every action is refused.
    RefusesActions,
    /// Every action's connection is dropped, and nothing done.
    DropsEveryAction,
    /// The first turn is announced before the start is told.
    TurnBeforeStart,
    /// The bot is alone in its game, as one user can have two seats.
    Alone,
    /// A turn is announced again and again until the action comes, and once more when it has; the opponent hits back as soon as the bot
    /// has looked at the heroes.
    Repeats,
    /// The same, and the action's connection is dropped once in place of the answer, though the attack was made.
    RepeatsAndDropsAction,
    /// A turn is announced again and again, and the opponent never hits back.
    RepeatsForEver,
}

impl Whim {
    fn repeats(self) -> bool {
        matches!(self, Self::Repeats | Self::RepeatsAndDropsAction | Self::RepeatsForEver)
    }
}

struct Game {
    whim: Whim,
    whim_done: bool,
    health: u64,
    own_health: u64,
    on_turn: bool,
    logins: Vec<String>,
    finds: u32,
    lobbies: u32,
    notices: u64,
    attacks: u32,
    attacks_out_of_turn: u32,
    nobody_attacked: u32,
}

struct Server {
    game: Mutex<Game>,
    /// The enemy's health, for the lobbies to see.
    health: watch::Sender<u64>,
    /// How often the bot has looked at all heroes.
    looks: watch::Sender<u64>,
    ponged: watch::Sender<bool>,
}

fn secret() -> SeatSecret {
    "00000000-0000-0000-0000-000000000077".parse().unwrap()
}

fn me() -> UserToken {
    format!("{:032x}", 2).parse().unwrap()
}

fn enemy() -> UserToken {
    format!("{:032x}", 1).parse().unwrap()
}

fn game() -> GameToken {
    format!("{:032x}", 9).parse().unwrap()
}

fn fighter(health: u64) -> Fighter {
    Fighter { hero: HeroId(1), attack: 1, health }
}

impl Server {
    fn new(whim: Whim) -> Arc<Self> {
        let game = Game {
            whim,
            whim_done: false,
            health: FULL_HEALTH,
            own_health: OWN_HEALTH,
            on_turn: true,
            logins: Vec::new(),
            finds: 0,
            lobbies: 0,
            notices: 0,
            attacks: 0,
            attacks_out_of_turn: 0,
            nobody_attacked: 0,
        };
        Arc::new(Self {
            game: Mutex::new(game),
            health: watch::Sender::new(FULL_HEALTH),
            looks: watch::Sender::new(0),
            ponged: watch::Sender::new(false),
        })
    }

    /// Whether it is time for a whim that comes once.
    fn once(&self, whim: Whim) -> bool {
        let mut game = self.game.lock().unwrap();
        game.whim == whim && !std::mem::replace(&mut game.whim_done, true)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut sessions = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            sessions.spawn(Arc::clone(&self).session(stream));
        }
    }

    async fn session(self: Arc<Self>, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut path = String::new();
        #[allow(clippy::result_large_err)]
        let note = |request: &Handshake, response: Response| -> Result<Response, ErrorResponse> {
            path = request.uri().path().to_owned();
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
        let endpoint = Endpoint::from_path(&path).unwrap();
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Text(text) => {
                    let request = Request::parse(endpoint, &text, 8).unwrap();
                    if !self.answer(&mut socket, request).await {
                        return;
                    }
                }
                Message::Pong(_) => {
                    self.ponged.send_replace(true);
                }
                _ => {}
            }
        }
    }

    /// `false`: the connection is dropped.
    async fn answer(&self, socket: &mut WebSocketStream<TcpStream>, request: Request) -> bool {
        match request {
            Request::Login { user } => {
                let first = self.game.lock().unwrap().logins.is_empty();
                self.game.lock().unwrap().logins.push(user);
                if first {
                    send(socket, LoginAnswer::Created.to_json()).await;
                }
                send(socket, LoginAnswer::Token(me()).to_json()).await;
            }
            Request::Find { user, participants } => {
                assert_eq!((user, participants), (me(), 2));
                self.game.lock().unwrap().finds += 1;
                if self.once(Whim::RefusesFindOnce) {
                    send(socket, Rejection::NoHeroes.to_json()).await;
                } else {
                    {
                        let mut game = self.game.lock().unwrap();
                        (game.health, game.own_health, game.on_turn) = (FULL_HEALTH, OWN_HEALTH, true);
                    }
                    self.health.send_replace(FULL_HEALTH);
                    send(socket, FindAnswer { game: game(), hero: HeroId(1), seat: Some(secret()) }.to_json()).await;
                }
            }
            Request::Lobby { seat, .. } => {
                assert_eq!(seat, Some(secret()));
                return self.lobby(socket).await;
            }
            Request::Hero { user, .. } => {
                let health = {
                    let game = self.game.lock().unwrap();
                    if user == me() { game.own_health } else { game.health }
                };
                send(socket, HeroAnswer { game: game(), user, fighter: Some(fighter(health)) }.to_json()).await;
                if user == me() {
                    self.looks.send_modify(|looks| *looks += 1);
                }
                if self.once(Whim::PingsHero) {
                    socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
                }
            }
            Request::Action { user, enemy: target, seat, .. } => {
                assert_eq!((user, seat), (me(), Some(secret())));
                let whim = self.game.lock().unwrap().whim;
                if whim == Whim::DropsEveryAction {
                    return false;
                }
                if whim == Whim::RefusesActions {
                    send(socket, Rejection::NoEnemy.to_json()).await;
                    return true;
                }
                let Some(target) = target else {
                    self.game.lock().unwrap().nobody_attacked += 1;
                    let action = Action::NotAvailable;
                    send(socket, AttackRecord { timestamp: Utc::now(), game: game(), user, action }.to_json()).await;
                    self.health.send_replace(0);
                    return true;
                };
                assert_eq!(target, enemy());
                let health_post = {
                    let mut game = self.game.lock().unwrap();
                    game.attacks += 1;
                    game.attacks_out_of_turn += u32::from(!game.on_turn);
                    game.health -= 1;
                    if whim.repeats() {
                        game.on_turn = false;
                    } else {
                        game.own_health -= 1;
                    }
                    game.health
                };
                let action = Action::Attack { enemy: enemy(), damage: 1, health_prior: health_post + 1, health_post };
                let record = AttackRecord { timestamp: Utc::now(), game: game(), user, action };
                let dropped = self.once(Whim::DropsAction) || self.once(Whim::RepeatsAndDropsAction);
                if !dropped {
                    send(socket, record.to_json()).await;
                }
                self.health.send_replace(health_post);
                return !dropped;
            }
        }
        true
    }

    async fn lobby(&self, socket: &mut WebSocketStream<TcpStream>) -> bool {
        let whim = {
            let mut game = self.game.lock().unwrap();
            game.lobbies += 1;
            game.whim
        };
        if whim == Whim::Silent {
            return true;
        }
        if whim == Whim::NeverStarts {
            send(socket, LobbyPush::TimedOut { timestamp: Utc::now(), game: game() }.to_json()).await;
            return true;
        }
        if self.once(Whim::ForgetsGame) {
            send(socket, Rejection::UnknownGame.to_json()).await;
            return true;
        }
        let mut health = self.health.subscribe();
        if self.once(Whim::TurnBeforeStart) {
            self.announce(socket).await;
            tokio::time::sleep(EVERY).await;
        }
        let mut fighters = BTreeMap::from([(me(), fighter(OWN_HEALTH)), (enemy(), fighter(*health.borrow()))]);
        if whim == Whim::Alone {
            fighters.remove(&enemy());
        }
        send(socket, LobbyPush::Start { timestamp: Utc::now(), game: game(), fighters }.to_json()).await;
        if whim.repeats() {
            return self.repeat(socket, whim).await;
        }
        loop {
            let left = *health.borrow_and_update();
            if left == 0 {
                send(socket, LobbyPush::Complete { game: game() }.to_json()).await;
                return true;
            }
            if whim == Whim::PingsHero && left < FULL_HEALTH {
                self.ponged.subscribe().wait_for(|ponged| *ponged).await.unwrap();
            }
            self.announce(socket).await;
            tokio::select! {
                changed = health.changed() => changed.unwrap(),
                // The bot listens anew: whatever it was, this connection is over.
                _ = socket.next() => return false,
            }
            if whim == Whim::DropsLobby && *health.borrow() > 0 {
                return false;
            }
        }
    }

    /// The lobby of the servers that announce a turn again and again.
    async fn repeat(&self, socket: &mut WebSocketStream<TcpStream>, whim: Whim) -> bool {
        let (mut health, mut looks) = (self.health.subscribe(), self.looks.subscribe());
        loop {
            let left = *health.borrow_and_update();
            looks.mark_unchanged();
            self.announce(socket).await;
            if left == 0 {
                send(socket, LobbyPush::Complete { game: game() }.to_json()).await;
                return true;
            }
            let strikes = whim != Whim::RepeatsForEver && !self.game.lock().unwrap().on_turn;
            tokio::select! {
                changed = health.changed() => changed.unwrap(),
                changed = looks.changed(), if strikes => {
                    changed.unwrap();
                    let mut game = self.game.lock().unwrap();
                    // A lobby that the bot has left may have been quicker.
                    if !std::mem::replace(&mut game.on_turn, true) {
                        game.own_health -= 1;
                    }
                }
                () = tokio::time::sleep(EVERY), if !strikes => {}
                _ = socket.next() => return false,
            }
        }
    }

    async fn announce(&self, socket: &mut WebSocketStream<TcpStream>) {
        self.game.lock().unwrap().notices += 1;
        send(socket, LobbyPush::Turn { game: game() }.to_json()).await;
    }
}

async fn send(socket: &mut WebSocketStream<TcpStream>, text: String) {
    // A bot that has gone meanwhile is a bot that has lost its connection.
    let _ = socket.send(Message::text(text)).await;
}

fn config(servers: &[SocketAddr]) -> PlayersConfig {
    PlayersConfig {
        servers: servers.iter().map(|address| address.to_string().parse().unwrap()).collect(),
        participants: 2..=2,
        first_pause: Duration::from_millis(1),
        patience: Duration::from_secs(10),
        ..PlayersConfig::default()
    }
}

/// An address where connections are refused for as long as the socket keeps its port from others.
fn nobody_listens() -> (TcpSocket, SocketAddr) {
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = taken.local_addr().unwrap();
    (taken, address)
}

/// Runs a bot against a server with a whim.
async fn play(whim: Whim, configure: impl FnOnce(&mut PlayersConfig)) -> (Summary, Arc<Server>) {
    let server = Server::new(whim);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&[listener.local_addr().unwrap()]);
    configure(&mut config);
    let summary = tokio::select! {
        summary = timeout(DEADLINE, run(config, CancellationToken::new())) => summary.unwrap().unwrap(),
        () = Arc::clone(&server).serve(listener) => unreachable!("the server has no end"),
    };
    (summary, server)
}

const ONE_GAME: Summary = Summary {
    players: 1,
    finished: 1,
    failed: 0,
    seats_completed: 1,
    seats_timed_out: 0,
    seats_abandoned: 0,
    attacks: FULL_HEALTH,
    reconnects: 0,
};

#[tokio::test]
async fn a_bot_logs_in_once_and_plays_its_games() {
    let (summary, server) = play(Whim::None, |config| config.games = Some(3)).await;
    assert_eq!(summary, Summary { seats_completed: 3, attacks: 3 * FULL_HEALTH, ..ONE_GAME });
    // A game has as many seats as players, so this is no number of games.
    assert!(summary.to_string().contains("seats: 3 played to the end, 0 timed out, 0 abandoned"), "{summary}");
    let game = server.game.lock().unwrap();
    assert_eq!((game.logins.len(), game.finds), (1, 3));
}

#[tokio::test]
async fn a_game_whose_seats_are_not_filled_counts_as_played() {
    let (summary, _) = play(Whim::NeverStarts, |config| config.games = Some(2)).await;
    assert_eq!(summary, Summary { seats_completed: 0, seats_timed_out: 2, attacks: 0, ..ONE_GAME });
}

#[tokio::test]
async fn a_bot_that_loses_its_lobby_comes_back_to_the_same_game() {
    let (summary, server) = play(Whim::DropsLobby, |_| {}).await;
    assert_eq!(summary, Summary { reconnects: FULL_HEALTH - 1, ..ONE_GAME });
    assert_eq!(server.game.lock().unwrap().finds, 1);
}

#[tokio::test]
async fn an_attack_whose_answer_is_lost_does_not_stall_the_game() {
    let (summary, server) = play(Whim::DropsAction, |_| {}).await;
    assert_eq!(summary, Summary { reconnects: 1, attacks: FULL_HEALTH - 1, ..ONE_GAME });
    assert_eq!(u64::from(server.game.lock().unwrap().attacks), FULL_HEALTH);
}

#[tokio::test]
async fn a_refused_find_is_tried_again_with_a_new_login() {
    let (summary, server) = play(Whim::RefusesFindOnce, |_| {}).await;
    assert_eq!(summary, ONE_GAME);
    let game = server.game.lock().unwrap();
    assert_eq!((game.logins.len(), game.finds), (2, 2));
    assert_eq!(game.logins[0], game.logins[1]);
}

#[tokio::test]
async fn a_game_that_the_server_does_not_know_is_left() {
    let (summary, _) = play(Whim::ForgetsGame, |config| config.games = Some(2)).await;
    assert_eq!(summary, Summary { seats_abandoned: 1, ..ONE_GAME });
}

#[tokio::test]
async fn idle_connections_answer_pings_while_the_bot_waits() {
    let (summary, _) = play(Whim::PingsHero, |_| {}).await;
    assert_eq!(summary, ONE_GAME);
}

#[tokio::test]
async fn a_game_that_stays_silent_is_left_after_some_tries() {
    let (summary, _) = play(Whim::Silent, |config| config.push_timeout = Duration::from_millis(20)).await;
    assert_eq!(summary, Summary { seats_completed: 0, seats_abandoned: 1, attacks: 0, ..ONE_GAME });
}

#[tokio::test]
async fn a_turn_is_one_turn_however_often_it_is_announced() {
    for sleep in [Duration::ZERO, EVERY / 5, 5 * EVERY] {
        let (summary, server) = play(Whim::Repeats, |config| config.sleep = sleep).await;
        assert_eq!(summary, ONE_GAME, "with pauses of {sleep:?}");
        let game = server.game.lock().unwrap();
        assert_eq!((u64::from(game.attacks), game.attacks_out_of_turn), (FULL_HEALTH, 0), "with pauses of {sleep:?}");
        assert!(game.notices > FULL_HEALTH, "nothing was announced again");
    }
}

#[tokio::test]
async fn an_attack_whose_answer_is_lost_is_not_made_again_when_its_turn_is_announced_again() {
    let (summary, server) = play(Whim::RepeatsAndDropsAction, |_| {}).await;
    assert_eq!(summary, Summary { reconnects: 1, attacks: FULL_HEALTH - 1, ..ONE_GAME });
    assert_eq!(server.game.lock().unwrap().attacks_out_of_turn, 0);
}

#[tokio::test]
async fn a_turn_that_is_announced_for_ever_is_believed_after_a_silence() {
    let (summary, server) = play(Whim::RepeatsForEver, |config| config.push_timeout = 20 * EVERY).await;
    assert_eq!(summary, ONE_GAME);
    assert!(u64::from(server.game.lock().unwrap().lobbies) >= FULL_HEALTH);
}

#[tokio::test]
async fn a_game_in_which_nothing_is_taken_is_left() {
    for whim in [Whim::RefusesActions, Whim::DropsEveryAction] {
        let (Summary { finished, seats_abandoned, .. }, _) = play(whim, |config| {
            config.push_timeout = EVERY;
            config.patience = 5 * EVERY;
        })
        .await;
        assert_eq!((finished, seats_abandoned), (1, 1), "{whim:?}");
    }
}

#[tokio::test]
async fn a_pause_may_be_longer_than_the_wait_for_a_push() {
    let (summary, _) = play(Whim::None, |config| {
        (config.sleep, config.push_timeout) = (30 * EVERY, 15 * EVERY);
    })
    .await;
    assert_eq!(summary, ONE_GAME);
}

#[tokio::test]
async fn a_bot_does_not_act_before_it_knows_who_plays() {
    let (summary, server) = play(Whim::TurnBeforeStart, |_| {}).await;
    assert_eq!(summary, ONE_GAME);
    assert_eq!(server.game.lock().unwrap().nobody_attacked, 0);
}

#[tokio::test]
async fn a_bot_that_is_alone_in_its_game_attacks_nobody_once() {
    let (summary, server) = play(Whim::Alone, |_| {}).await;
    assert_eq!(summary, Summary { attacks: 0, ..ONE_GAME });
    assert_eq!(server.game.lock().unwrap().nobody_attacked, 1);
}

#[tokio::test]
async fn a_bot_goes_on_to_the_next_server_when_its_own_is_away() {
    let (_taken, away) = nobody_listens();
    let (summary, _) = play(Whim::None, |config| {
        config.servers.insert(0, away.to_string().parse().unwrap());
    })
    .await;
    assert_eq!(summary, Summary { reconnects: 1, ..ONE_GAME });
}

#[tokio::test]
async fn bots_that_reach_no_server_give_up_when_their_patience_ends() {
    let (_taken, away) = nobody_listens();
    let mut config = config(&[away]);
    config.players = 3;
    config.patience = Duration::from_millis(50);
    let summary = timeout(DEADLINE, run(config, CancellationToken::new())).await.unwrap().unwrap();
    assert_eq!((summary.finished, summary.failed, summary.stopped()), (0, 3, 0));
    assert!(summary.reconnects >= 3);
}

#[tokio::test]
async fn a_stop_ends_bots_that_would_play_for_ever() {
    let server = Server::new(Whim::None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&[listener.local_addr().unwrap()]);
    config.games = None;
    let shutdown = CancellationToken::new();
    let mut health = server.health.subscribe();
    let third_game = async {
        for _ in 0..3 {
            health.wait_for(|health| *health == 0).await.unwrap();
            health.wait_for(|health| *health > 0).await.unwrap();
        }
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    let summary = tokio::select! {
        summary = timeout(DEADLINE, run(config, shutdown.clone())) => summary.unwrap().unwrap(),
        () = Arc::clone(&server).serve(listener) => unreachable!("the server has no end"),
        () = third_game => unreachable!("the stop has no end"),
    };
    assert_eq!((summary.finished, summary.failed, summary.stopped()), (0, 0, 1));
    assert!(summary.seats_completed >= 2, "{summary}");
}

#[tokio::test]
async fn settings_that_leave_nothing_to_do_are_refused() {
    let error = run(config(&[]), CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "no server is given");
    let mut config = config(&[SocketAddr::from(([127, 0, 0, 1], 1))]);
    #[allow(clippy::reversed_empty_ranges)]
    {
        config.participants = 3..=2;
    }
    let error = run(config, CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "participants 3 to 2: there is no such number");
}
