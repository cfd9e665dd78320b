//! Seats: whose they are, what shows it, and when nobody is seated with whoever is not there.

use std::time::Duration;

use serde_json::{Value, json};
use superhero_event::message;
use superhero_game::GameToken;
use superhero_server::ServerConfig;
use superhero_store::memory::Memory;
use superhero_store::{GameStore, Status};

use crate::captured;
use crate::client::{ACTION, Client, FIND, LOBBY, LOGIN, Player, login, text};
use crate::games::play;
use crate::running::{Running, quick, within};

/// A player as our bots are, which show the secret of their seats.
async fn join_with_secret(server: &Running, name: &str) -> (Player, String) {
    let user = login(server, name).await;
    let found = server.connect(FIND).await.ask(json!({"USER_TOKEN": user, "PARTICIPANTS": 2})).await;
    let (game, seat) = (text(&found["PAYLOAD"]["GAME_TOKEN"]), text(&found["PAYLOAD"]["SEAT"]));
    let mut lobby = server.connect(LOBBY).await;
    lobby.send(json!({"GAME_TOKEN": game, "USER_TOKEN": user, "SEAT": seat})).await;
    let action = server.connect(ACTION).await;
    (Player { user, game, lobby, action }, seat)
}

async fn status(client: &mut Client, payload: &Value) -> Value {
    client.ask(payload.clone()).await["STATUS"].take()
}

#[tokio::test]
async fn whoever_has_anothers_token_can_neither_act_nor_listen_in_its_name() {
    let server = Running::start().await;
    let (one, seat_of_one) = join_with_secret(&server, "One").await;
    let (two, seat_of_two) = join_with_secret(&server, "Two").await;
    assert_eq!(one.game, two.game);
    let mut players = [(one, seat_of_one), (two, seat_of_two)];
    players.sort_by(|one, other| one.0.user.cmp(&other.0.user));
    let [(mut victim, seat), (mut thief, other_seat)] = players;
    // The thief reads the token where everybody is told it.
    let start = thief.lobby.next().await;
    assert!(start["PAYLOAD"]["PARTICIPANTS"].as_array().unwrap().contains(&json!(victim.user)), "{start}");
    let listen = json!({"GAME_TOKEN": thief.game, "USER_TOKEN": victim.user});
    let act =
        json!({"GAME_TOKEN": thief.game, "USER_TOKEN": victim.user, "ENEMY_TOKEN": thief.user, "ACTION": "ATTACK"});
    let mut client = server.connect(LOBBY).await;
    for (payload, client) in [(&listen, &mut client), (&act, &mut thief.action)] {
        assert_eq!(status(client, payload).await, "MISSING SEAT IN PAYLOAD", "{payload}");
        for wrong in [json!(other_seat), json!(victim.user), json!("a guess"), json!("")] {
            let mut payload = payload.clone();
            payload["SEAT"] = wrong;
            assert_eq!(status(client, &payload).await, "WRONG SEAT IN PAYLOAD", "{payload}");
        }
    }
    assert_eq!(victim.push().await, "START");
    assert_eq!(victim.push().await, "USER'S TURN");
    let mut act = act;
    act["SEAT"] = json!(seat);
    assert_eq!(status(&mut victim.action, &act).await["ACTION"], "ATTACK");
    // After its game nobody else finds the victim's enemies dead either.
    act["ENEMY_TOKEN"] = json!(null);
    act.as_object_mut().unwrap().remove("SEAT");
    let over = status(&mut thief.action, &act).await;
    assert!(over == "MISSING SEAT IN PAYLOAD" || over == "ENEMY TOKEN IS NULL WHILE OTHERS LIVE", "{over}");

    let events = captured::of_game(&thief.game);
    assert!(events.iter().any(|event| event.message() == message::HERO_SELECTED));
    let secrets = [seat, other_seat];
    assert!(!secrets.iter().any(|seat| format!("{events:?}").contains(seat)), "an event tells a secret");
}

#[tokio::test]
async fn clients_that_know_of_no_secret_play_as_ever() {
    let server = Running::start().await;
    let mut without = Player::join(&server, "Without", 2).await;
    let (mut with, seat) = join_with_secret(&server, "With").await;
    let mut act =
        json!({"GAME_TOKEN": with.game, "USER_TOKEN": with.user, "ENEMY_TOKEN": without.user, "ACTION": "ATTACK"});
    act["SEAT"] = json!(seat);
    let with_secret = async {
        loop {
            match with.push().await.as_str() {
                "USER'S TURN" => assert_eq!(status(&mut with.action, &act).await["ACTION"], "ATTACK"),
                "COMPLETE" => return,
                other => assert_eq!(other, "START"),
            }
        }
    };
    tokio::join!(with_secret, play(&server, &mut without));
    assert_eq!(server.stop().await.panics, 0);
}

#[tokio::test]
async fn nobody_is_seated_with_whoever_has_left_the_lobby() {
    let server = Running::start().await;
    let left = Player::join(&server, "Left", 16).await;
    let game = left.game.clone();
    drop(left);
    let mut find = server.connect(FIND).await;
    let mut number = 0;
    let seated_elsewhere = async {
        loop {
            number += 1;
            let user = login(&server, &format!("Comes {number}")).await;
            let found = find.ask(json!({"USER_TOKEN": user, "PARTICIPANTS": 16})).await;
            if found["PAYLOAD"]["GAME_TOKEN"] != json!(game) {
                return;
            }
        }
    };
    within("a game with others", seated_elsewhere).await;
    assert!(number < 16, "the game was filled with those who came");
}

#[tokio::test]
async fn whoever_comes_to_the_lobby_after_the_wait_is_told_so() {
    let config = ServerConfig { lobby_timeout: Duration::from_millis(200), ..quick() };
    let store = Memory::new();
    let server = Running::with(config, store.clone()).await;
    let user = login(&server, "Late").await;
    let found = server.connect(FIND).await.ask(json!({"USER_TOKEN": user, "PARTICIPANTS": 2})).await;
    let game = text(&found["PAYLOAD"]["GAME_TOKEN"]);
    let token = GameToken::new(game.parse().unwrap());
    let over = async {
        while store.snapshot(token).await.unwrap().is_some_and(|game| game.status == Status::WaitingLobby) {
            tokio::task::yield_now().await;
        }
    };
    within("the end of the game", over).await;
    let mut lobby = server.connect(LOBBY).await;
    assert_eq!(
        status(&mut lobby, &json!({"GAME_TOKEN": game, "USER_TOKEN": user})).await,
        json!({"GAME": "TIMED OUT"})
    );
}

#[tokio::test]
async fn a_user_who_comes_to_no_seat_gets_no_more_and_another_does() {
    let server = Running::start().await;
    let user = login(&server, "Ghost").await;
    let mut find = server.connect(FIND).await;
    let mut refused = json!(null);
    for _ in 0..1_100 {
        refused = status(&mut find, &json!({"USER_TOKEN": user, "PARTICIPANTS": 2})).await;
    }
    assert_eq!(refused, "TOO MANY SEATS OF USER ARE NOT ATTENDED");
    let other = login(&server, "Other").await;
    assert_eq!(status(&mut find, &json!({"USER_TOKEN": other, "PARTICIPANTS": 2})).await["JOINED"], "SUCESS");
}

#[tokio::test]
async fn a_name_has_128_bytes_at_most() {
    let server = Running::start().await;
    let mut client = server.connect(LOGIN).await;
    for name in ["x".repeat(60_000), "é".repeat(65)] {
        assert_eq!(status(&mut client, &json!({"USER": name})).await, "USER IN PAYLOAD IS LONGER THAN 128 BYTES");
    }
    assert_eq!(status(&mut client, &json!({"USER": "é".repeat(64)})).await, "USER CREATED");
}
