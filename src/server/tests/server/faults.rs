//! A store that is away, a transport without room, and the stop signal.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use superhero_game::SeatSecret;
use superhero_server::ServerConfig;
use superhero_store::memory::Memory;
use superhero_store::{Find, GameStore};
use tokio_tungstenite::tungstenite;
use uuid::Uuid;

use crate::client::{ACTION, Client, FIND, HERO, LOBBY, LOGIN, Player, enter, login};
use crate::moody::{Moody, PANIC};
use crate::running::{Running, quick, within};

const AWAY: &str = "GAMES NOT AVAILABLE";

#[tokio::test]
async fn a_store_that_is_away_is_told_and_the_socket_stays_open() {
    let store = Moody::default();
    let config = ServerConfig { store_patience: Duration::from_millis(100), ..quick() };
    let server = Running::with(config, store.clone()).await;
    let player = Player::join(&server, "Known", 2).await;
    let tokens = json!({"GAME_TOKEN": player.game, "USER_TOKEN": player.user});
    let mut attack = tokens.clone();
    attack["ENEMY_TOKEN"] = json!(player.user);
    attack["ACTION"] = json!("ATTACK");
    store.set_away(true);
    let mut clients = Vec::new();
    for (path, payload) in [
        (LOGIN, json!({"USER": "New"})),
        (FIND, json!({"USER_TOKEN": player.user, "PARTICIPANTS": 2})),
        (LOBBY, tokens.clone()),
        (HERO, tokens),
        (ACTION, attack),
    ] {
        let mut client = server.connect(path).await;
        assert_eq!(client.ask(payload).await, json!({"PAYLOAD": {}, "STATUS": AWAY}), "{path}");
        clients.push(client);
    }
    store.set_away(false);
    assert_eq!(clients[0].ask(json!({"USER": "New"})).await["STATUS"], "USER CREATED");
    drop((player, clients));
    assert_eq!(server.stop().await.panics, 0);
}

#[tokio::test]
async fn a_lobby_outlasts_an_outage_of_the_store() {
    let store = Moody::default();
    let config = ServerConfig { lobby_timeout: Duration::from_millis(200), ..quick() };
    let server = Running::with(config, store.clone()).await;
    let mut player = Player::join(&server, "Waits", 2).await;
    store.set_away(true);
    // The timeout comes due while the store is away, and is carried out afterwards.
    store.refused(3).await;
    store.set_away(false);
    assert_eq!(player.push().await, "TIMED OUT");
}

#[tokio::test]
async fn a_lobby_whose_store_stays_away_is_told_and_may_enter_again() {
    let store = Moody::default();
    let config = ServerConfig {
        lobby_timeout: Duration::from_millis(100),
        game_patience: Duration::from_millis(100),
        ..quick()
    };
    let server = Running::with(config, store.clone()).await;
    let mut player = Player::join(&server, "Waits", 2).await;
    store.set_away(true);
    assert_eq!(player.lobby.next().await, json!({"PAYLOAD": {}, "STATUS": AWAY}));
    store.set_away(false);
    player.lobby.send(json!({"GAME_TOKEN": player.game, "USER_TOKEN": player.user})).await;
    assert_eq!(player.push().await, "TIMED OUT");
}

#[tokio::test]
async fn a_session_that_panics_takes_nobody_else_with_it() {
    let server = Running::with(quick(), Moody::default()).await;
    let mut other = server.connect(LOGIN).await;
    let mut client = server.connect(LOGIN).await;
    client.send(json!({"USER": PANIC})).await;
    assert!(!matches!(within("the end of the connection", client.socket.next()).await, Some(Ok(_))));
    assert_eq!(other.ask(json!({"USER": "Other"})).await["STATUS"], "USER CREATED");
    drop(other);
    assert_eq!(server.stop().await.panics, 1);
}

#[tokio::test]
async fn a_transport_without_room_holds_the_game_back_and_nothing_else() {
    // The deadline would pass many times while nobody can act.
    let config = ServerConfig { turn_deadline: Duration::from_millis(20), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    let waits = login(&server, "Waits").await;
    server.admission.close();
    let mut find = server.connect(FIND).await;
    find.send(json!({"USER_TOKEN": waits, "PARTICIPANTS": 2})).await;
    let mut hero = server.connect(HERO).await;
    for _ in 0..50 {
        let answer = hero.ask(json!({"GAME_TOKEN": waits, "USER_TOKEN": waits})).await;
        assert_eq!(answer["STATUS"]["GAME"], "HERO SPEC");
    }
    assert!(find.socket.next().now_or_never().is_none(), "a find was answered without room for its event");
    server.admission.open();
    assert_eq!(find.next().await["STATUS"]["JOINED"], "SUCESS");
}

#[tokio::test]
async fn nobody_forfeits_a_turn_in_which_the_transport_had_no_room() {
    let store = Memory::new();
    let (turn_deadline, lobby_timeout) = (Duration::from_millis(50), Duration::from_millis(500));
    let config = ServerConfig { turn_deadline, lobby_timeout, ..quick() };
    let server = Running::with(config, store.clone()).await;
    let mut clock = Player::join(&server, "Clock", 3).await;
    let mut player = Player::join(&server, "Held back", 2).await;
    server.admission.close();
    let other = login(&server, "Other").await;
    // Not by the server, which holds this back, too.
    let find = Find {
        request: Uuid::new_v4(),
        user: other.parse().unwrap(),
        participants: 2,
        secret: SeatSecret::new(Uuid::new_v4()),
        wait: lobby_timeout,
    };
    let seat = store.find(find).await.unwrap();
    assert_eq!(seat.game.to_string(), player.game);
    let mut enemy = other.clone();
    if other < player.user {
        enemy = std::mem::replace(&mut player.user, other);
        player.lobby = enter(&server, &player.game, &player.user).await;
    }
    assert_eq!(player.push().await, "START");
    assert_eq!(player.push().await, "USER'S TURN");
    let payload =
        json!({"GAME_TOKEN": player.game, "USER_TOKEN": player.user, "ENEMY_TOKEN": enemy, "ACTION": "ATTACK"});
    player.action.send(payload).await;
    assert_eq!(clock.push().await, "TIMED OUT");
    assert!(player.action.socket.next().now_or_never().is_none(), "an attack was answered without room for its event");
    server.admission.open();
    assert_eq!(player.action.next().await["STATUS"]["ACTION"], "ATTACK");
}

#[tokio::test]
async fn the_stop_signal_closes_idle_sockets_with_a_reason() {
    let server = Running::start().await;
    let mut clients = Vec::new();
    for path in [LOGIN, FIND, LOBBY, HERO, ACTION] {
        clients.push(server.connect(path).await);
    }
    server.signal();
    for client in &mut clients {
        assert_eq!(client.closed().await, (1001, "the server is shutting down".to_owned()));
    }
    let summary = server.stopped().await;
    assert_eq!((summary.sessions, summary.panics, summary.cut_off), (5, 0, 0));
}

#[tokio::test]
async fn games_go_on_after_the_stop_signal_and_no_new_ones_begin() {
    let config = ServerConfig { drain_deadline: Duration::from_secs(600), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    let mut find = server.connect(FIND).await;
    let first = Player::join(&server, "First", 2).await;
    let second = Player::join(&server, "Second", 2).await;
    let (mut on_turn, mut waits) = if first.user < second.user { (first, second) } else { (second, first) };
    for player in [&mut on_turn, &mut waits] {
        assert_eq!(player.push().await, "START");
    }
    server.signal();
    let answer = find.ask(json!({"USER_TOKEN": on_turn.user, "PARTICIPANTS": 2})).await;
    assert_eq!(answer["STATUS"], "SERVER IS STOPPING");
    let Err(tungstenite::Error::Http(refusal)) = Client::try_connect(server.address, LOBBY).await else {
        panic!("a draining server let somebody in")
    };
    assert_eq!(refusal.status(), 503);
    loop {
        assert_eq!(on_turn.push().await, "USER'S TURN");
        let answer = on_turn.attack(json!(waits.user)).await;
        if answer["STATUS"]["DETAILS"]["ENEMY_HEALTH_POST"] == 0 {
            break;
        }
        std::mem::swap(&mut on_turn, &mut waits);
    }
    for player in [&mut on_turn, &mut waits] {
        assert_eq!(player.push().await, "COMPLETE");
    }
    assert_eq!(find.closed().await.0, 1001);
    assert_eq!(server.stopped().await.cut_off, 0);
}

#[tokio::test]
async fn games_that_outlast_the_drain_deadline_are_cut_off_with_a_reason() {
    let config = ServerConfig { drain_deadline: Duration::from_millis(100), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    let mut player = Player::join(&server, "Waits", 2).await;
    // An action that waits for room in the transport is cut off as well.
    server.admission.close();
    let payload =
        json!({"GAME_TOKEN": player.game, "USER_TOKEN": player.user, "ENEMY_TOKEN": null, "ACTION": "ATTACK"});
    player.action.send(payload).await;
    server.signal();
    assert_eq!(player.lobby.closed().await, (1001, "the server is shutting down".to_owned()));
    assert_eq!(player.action.closed().await.0, 1001);
    let summary = server.stopped().await;
    assert_eq!((summary.cut_off, summary.panics), (1, 0));
}
