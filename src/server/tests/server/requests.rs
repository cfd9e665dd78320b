//! Single requests: what is answered, be it right or wrong.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::client::{ACTION, FIND, HERO, LOBBY, LOGIN, Player, enter, login, text};
use crate::running::{Running, within};

const STRANGER: &str = "00000000-0000-4000-8000-000000000001";

#[tokio::test]
async fn the_first_login_of_a_name_is_answered_twice_and_each_later_one_with_the_same_token() {
    let server = Running::start().await;
    let mut client = server.connect(LOGIN).await;
    assert_eq!(client.ask(json!({"USER": "USER001"})).await, json!({"PAYLOAD": {}, "STATUS": "USER CREATED"}));
    let answer = client.next().await;
    let user = text(&answer["PAYLOAD"]["USER_TOKEN"]);
    assert_eq!(answer, json!({"PAYLOAD": {"USER_TOKEN": user}}));
    assert_eq!(client.ask(json!({"USER": "USER001"})).await, answer);
    assert_ne!(login(&server, "USER002").await, user);
}

#[tokio::test]
async fn requests_that_cannot_be_carried_out_are_answered_in_order_and_the_socket_stays_open() {
    let server = Running::start().await;
    let mut player = Player::join(&server, "Waits", 2).await;
    let (game, user) = (player.game.clone(), player.user.clone());
    let other = login(&server, "Other").await;
    let action = |game: &str, user: &str, enemy: Value| json!({"PAYLOAD": {"GAME_TOKEN": game, "USER_TOKEN": user, "ENEMY_TOKEN": enemy, "ACTION": "ATTACK"}});
    let cases = [
        (LOGIN, json!({}), "MISSING PAYLOAD IN MESSAGE"),
        (LOGIN, json!({"PAYLOAD": {}}), "MISSING USER IN PAYLOAD"),
        (LOGIN, json!({"PAYLOAD": {"USER": 1}}), "USER IN PAYLOAD IS NOT A STRING"),
        (LOGIN, json!(["PAYLOAD"]), "MESSAGE IS NOT AN OBJECT"),
        (FIND, json!({"PAYLOAD": {}}), "MISSING USER TOKEN IN PAYLOAD"),
        (FIND, json!({"PAYLOAD": {"USER_TOKEN": user}}), "MISSING PARTICIPANTS IN PAYLOAD"),
        (
            FIND,
            json!({"PAYLOAD": {"USER_TOKEN": user, "PARTICIPANTS": 1}}),
            "PARTICIPANTS IN PAYLOAD IS NOT FROM 2 TO 16",
        ),
        (
            FIND,
            json!({"PAYLOAD": {"USER_TOKEN": user, "PARTICIPANTS": 17}}),
            "PARTICIPANTS IN PAYLOAD IS NOT FROM 2 TO 16",
        ),
        (FIND, json!({"PAYLOAD": {"USER_TOKEN": "me", "PARTICIPANTS": 2}}), "UNKNOWN USER TOKEN"),
        (LOBBY, json!({"PAYLOAD": {}}), "MISSING GAME TOKEN IN PAYLOAD"),
        (LOBBY, json!({"PAYLOAD": {"GAME_TOKEN": game}}), "MISSING USER TOKEN IN PAYLOAD"),
        (LOBBY, json!({"PAYLOAD": {"GAME_TOKEN": STRANGER, "USER_TOKEN": user}}), "UNKNOWN GAME TOKEN"),
        (LOBBY, json!({"PAYLOAD": {"GAME_TOKEN": game, "USER_TOKEN": other}}), "USER IS NOT IN THIS GAME"),
        (HERO, json!({"PAYLOAD": {}}), "MISSING GAME TOKEN IN PAYLOAD"),
        (ACTION, json!({"PAYLOAD": {"GAME_TOKEN": game}}), "MISSING USER TOKEN IN PAYLOAD"),
        (ACTION, json!({"PAYLOAD": {"GAME_TOKEN": game, "USER_TOKEN": user}}), "MISSING ENEMY TOKEN IN PAYLOAD"),
        (
            ACTION,
            json!({"PAYLOAD": {"GAME_TOKEN": game, "USER_TOKEN": user, "ENEMY_TOKEN": null}}),
            "MISSING ACTION IN PAYLOAD",
        ),
        (ACTION, action(STRANGER, &user, json!(other)), "UNKNOWN GAME TOKEN"),
        (ACTION, action(STRANGER, &user, json!(null)), "UNKNOWN GAME TOKEN"),
        (ACTION, action(&game, &user, json!(other)), "GAME IS NOT IN PROGRESS"),
        (ACTION, action(&game, &user, json!(null)), "GAME IS NOT IN PROGRESS"),
    ];
    for (path, request, status) in &cases {
        let mut client = server.connect(path).await;
        client.send_text(&request.to_string()).await;
        client.send_text("hello").await;
        assert_eq!(client.next().await, json!({"PAYLOAD": {}, "STATUS": status}), "{path} {request}");
        assert_eq!(client.next().await["STATUS"], "MESSAGE IS NOT JSON", "{path} after {request}");
    }

    let rival = Player::join(&server, "Rival", 2).await;
    assert_eq!(rival.game, game);
    let (mut on_turn, mut waiting) = if user < rival.user { (player, rival) } else { (rival, player) };
    let cases = [
        (json!(on_turn.user), true, "ENEMY IS USER"),
        (json!(other), true, "ENEMY IS NOT IN THIS GAME"),
        (json!(null), true, "ENEMY TOKEN IS NULL WHILE OTHERS LIVE"),
        (json!(on_turn.user), false, "NOT USER'S TURN"),
    ];
    for (enemy, its_turn, status) in cases {
        let player = if its_turn { &mut on_turn } else { &mut waiting };
        assert_eq!(player.attack(enemy).await["STATUS"], status);
    }
    player = Player { user: other, ..on_turn };
    assert_eq!(player.attack(json!(waiting.user)).await["STATUS"], "USER IS NOT IN THIS GAME");
}

#[tokio::test]
async fn binary_frames_are_answered_and_the_socket_stays_open() {
    let server = Running::start().await;
    for path in [LOGIN, LOBBY] {
        let mut client = server.connect(path).await;
        client.socket.send(Message::Binary(Bytes::from_static(b"{}"))).await.unwrap();
        assert_eq!(client.next().await["STATUS"], "MESSAGE IS NOT TEXT");
        client.send_text("{}").await;
        assert_eq!(client.next().await["STATUS"], "MISSING PAYLOAD IN MESSAGE");
    }
    let mut player = Player::join(&server, "Waits", 2).await;
    player.lobby.socket.send(Message::Binary(Bytes::new())).await.unwrap();
    assert_eq!(player.lobby.next().await["STATUS"], "MESSAGE IS NOT TEXT");
}

#[tokio::test]
async fn a_hero_is_shown_to_anybody_and_nobodys_has_no_id() {
    let server = Running::start().await;
    let player = Player::join(&server, "Shows", 2).await;
    let mut client = server.connect(HERO).await;
    let answer = client.ask(json!({"GAME_TOKEN": player.game, "USER_TOKEN": player.user})).await;
    assert_eq!(answer["STATUS"]["GAME"], "HERO SPEC");
    let hero = &answer["PAYLOAD"]["HERO"];
    assert_eq!(hero["token"], player.user);
    assert!(hero["health"].as_u64().unwrap() > 0 && hero["id"].is_u64(), "{hero}");

    let answer = client.ask(json!({"GAME_TOKEN": player.game, "USER_TOKEN": STRANGER})).await;
    let nobody = json!({"token": STRANGER, "id": null, "attack": 0, "health": 0});
    assert_eq!(answer["PAYLOAD"]["HERO"], nobody);
}

#[tokio::test]
async fn a_lobby_request_that_comes_early_waits_for_the_end_of_the_stream_before_it() {
    let server = Running::start().await;
    let first = Player::join(&server, "Twice", 2).await;
    let mut lobby = enter(&server, &first.game, &first.user).await;
    lobby.send(json!({"GAME_TOKEN": STRANGER, "USER_TOKEN": first.user})).await;
    let mut rival = Player::join(&server, "Rival", 2).await;
    assert_eq!(lobby.next().await["STATUS"]["GAME"], "START");
    assert_eq!(rival.push().await, "START");
    lobby.send(json!({})).await;
    let reason = loop {
        // The player may be on turn, too.
        match within("a frame", lobby.socket.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => break (u16::from(frame.code), frame.reason.to_string()),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason, (1008, "too many requests during a game".to_owned()));
}
