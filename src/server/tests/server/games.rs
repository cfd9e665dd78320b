//! Whole games, and what becomes of players who leave.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use superhero_event::{message, topic};
use superhero_server::{Fate, ServerConfig, Undelivered};
use superhero_store::memory::Memory;
use superhero_store::{GameEvent, GameStore};
use tracing::Level;

use crate::captured::{self, Captured};
use crate::client::{Client, HERO, Player, enter, text};
use crate::running::{Running, quick, within};

/// What a player saw of a game, from START to COMPLETE.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) turns: usize,
    last_answer: Value,
}

/// Plays to the end: on its turn attacks the first living opponent.
pub(crate) async fn play(server: &Running, player: &mut Player) -> Seen {
    let start = player.lobby.next().await;
    assert_eq!(start["STATUS"]["GAME"], "START");
    play_on(server, player, &start).await
}

pub(crate) async fn play_on(server: &Running, player: &mut Player, start: &Value) -> Seen {
    let participants: Vec<String> = start["PAYLOAD"]["PARTICIPANTS"].as_array().unwrap().iter().map(text).collect();
    let mut heroes = server.connect(HERO).await;
    let mut seen = Seen::default();
    loop {
        match player.push().await.as_str() {
            "USER'S TURN" => {
                seen.turns += 1;
                seen.last_answer = attack_somebody(player, &participants, &mut heroes).await;
            }
            "COMPLETE" => return seen,
            other => panic!("{other} came after START"),
        }
    }
}

async fn attack_somebody(player: &mut Player, participants: &[String], heroes: &mut Client) -> Value {
    for enemy in participants.iter().filter(|enemy| **enemy != player.user) {
        let answer = heroes.ask(json!({"GAME_TOKEN": player.game, "USER_TOKEN": enemy})).await;
        if answer["PAYLOAD"]["HERO"]["health"].as_u64().unwrap() > 0 {
            let answer = player.attack(json!(enemy)).await;
            assert_eq!(answer["STATUS"]["ACTION"], "ATTACK", "{answer}");
            assert_eq!(answer["STATUS"]["DETAILS"]["ENEMY_TOKEN"], json!(enemy));
            return answer;
        }
    }
    panic!("a player is on turn and nobody else is alive");
}

fn count(events: &[Captured], message: &str) -> usize {
    events.iter().filter(|event| event.message() == message).count()
}

/// The last moves and the cleaning after it, which happens once for everybody.
fn check_cleaning(events: &[Captured], users: &[&str]) {
    let last = events.iter().rposition(|event| event.message() == message::ATTACK_COMPLETED).unwrap();
    let cleaned: Vec<Value> = events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.message() == message::CLEANING)
        .map(|(at, event)| {
            assert!(at > last, "a game is cleaned before its last move");
            assert_eq!(
                (event.level, event.field("queue"), event.field("task")),
                (Level::INFO, Some(topic::LOBBY), None)
            );
            serde_json::from_str(event.field("task_object").unwrap()).unwrap()
        })
        .collect();
    let mut users = users.to_vec();
    users.sort_unstable();
    let game = events[last].field("key").unwrap();
    let expected: Vec<Value> = users.iter().map(|user| json!({"game_token": game, "user_token": user})).collect();
    assert_eq!(cleaned, expected);
}

#[tokio::test]
async fn a_game_of_three_is_played_to_its_end_and_told_in_events() {
    let server = Running::start().await;
    let mut players = Vec::new();
    for name in ["One", "Two", "Three"] {
        players.push(Player::join(&server, name, 3).await);
    }
    let seen = join_all(players.iter_mut().map(|player| play(&server, player))).await;
    let game = players[0].game.clone();
    let turns: usize = seen.iter().map(|seen| seen.turns).sum();

    // Attacking nobody is right only now.
    let answer = players[0].attack(json!(null)).await;
    assert_eq!(answer["STATUS"], json!({"ACTION": "NA", "DETAILS": {"ENEMY_TOKEN": null, "ENEMY_STATUS": "DEAD"}}));
    let enemy = json!(players[1].user);
    assert_eq!(players[0].attack(enemy).await["STATUS"], "GAME IS NOT IN PROGRESS");
    let summary = server.stop().await;
    assert_eq!((summary.panics, summary.cut_off), (0, 0));

    let events = captured::of_game(&game);
    for (message, queue, expected) in [
        (message::HERO_SELECTED, topic::LOBBY, 3),
        (message::STARTING_MATCH, topic::LOBBY, 3),
        (message::TURN, topic::LOBBY, turns),
        (message::ATTACK_COMPLETED, topic::GAME, turns),
        (message::CLEANING, topic::LOBBY, 3),
        (message::GAME_FINISHED, topic::LOBBY, 3),
        (message::ATTACKED_DEAD_ENEMY, topic::GAME, 1),
    ] {
        let found: Vec<_> = events.iter().filter(|event| event.message() == message).collect();
        assert_eq!(found.len(), expected, "{message}");
        let level = if message == message::ATTACKED_DEAD_ENEMY { Level::ERROR } else { Level::INFO };
        assert!(found.iter().all(|event| event.level == level && event.field("queue") == Some(queue)), "{message}");
        if message != message::CLEANING {
            let tasks = found.iter().map(|event| serde_json::from_str::<Value>(event.field("task").unwrap()).unwrap());
            assert!({ tasks }.all(|task| task["PAYLOAD"]["GAME_TOKEN"] == game), "{message}");
        }
    }
    check_cleaning(&events, &players.iter().map(|player| player.user.as_str()).collect::<Vec<_>>());
    let answers: Vec<String> = seen.iter().map(|seen| seen.last_answer.to_string()).collect();
    let told = |answer: &String| {
        let answer: Value = serde_json::from_str(answer).unwrap();
        events
            .iter()
            .filter_map(|event| event.field("task"))
            .any(|task| serde_json::from_str::<Value>(task).unwrap() == answer)
    };
    assert!(answers.iter().all(told), "the task of an attack is the record that was answered");
    assert!(!captured::with_message(message::STARTING_SERVER).is_empty());
    assert!(captured::with_message(message::STARTING_SERVER).iter().all(|event| {
        event.field("key").is_none() && event.field("task").is_none() && event.field("queue") == Some(topic::CLIENT)
    }));
}

#[tokio::test]
async fn what_earlier_runs_left_is_told_before_anything_else() {
    let left = [(Fate::Lost, "a1"), (Fate::SentAgain { events: 7 }, "b2")];
    let undelivered = left.map(|(fate, producer)| Undelivered { producer: producer.to_owned(), fate });
    let config = ServerConfig { undelivered: undelivered.to_vec(), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    let listening = format!("Listening on ws://{}", server.address);
    within("the listening", async {
        while captured::with_message(&listening).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(captured::place_of(message::UNDELIVERED) < captured::place_of(&listening));
    let told = captured::with_message(message::UNDELIVERED);
    let tasks: Vec<_> = told.iter().map(|event| event.field("task").unwrap()).collect();
    let expected = [r#"{"producer":"a1","fate":"lost"}"#, r#"{"producer":"b2","fate":"sent again","events":7}"#];
    assert_eq!(tasks, expected);
    assert!(told.iter().all(|event| event.level == Level::WARN && event.field("queue") == Some(topic::CLIENT)));
    server.stop().await;
}

#[tokio::test]
async fn players_of_one_game_on_different_servers_play_it_to_its_end() {
    let store = Memory::new();
    let here = Running::with(quick(), store.clone()).await;
    let there = Running::with(quick(), store).await;
    let mut first = Player::join(&here, "Here", 2).await;
    let mut second = Player::join(&there, "There", 2).await;
    assert_eq!(first.game, second.game);
    let (seen_here, seen_there) = tokio::join!(play(&here, &mut first), play(&there, &mut second));
    assert!(seen_here.turns + seen_there.turns > 0);
    here.stop().await;
    there.stop().await;
    let events = captured::of_game(&first.game);
    check_cleaning(&events, &[&first.user, &second.user]);
    assert_eq!(count(&events, message::TURN), count(&events, message::ATTACK_COMPLETED));
    assert_eq!(count(&events, message::GAME_FINISHED), 2);
}

#[tokio::test]
async fn many_games_at_once_end_each_with_its_own_players() {
    let server = Running::start().await;
    let mut players = Vec::new();
    for number in 0..12 {
        players.push(Player::join(&server, &format!("USER{number:03}"), 2 + number % 2).await);
    }
    join_all(players.iter_mut().map(|player| play(&server, player))).await;
    server.stop().await;
    let mut games: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for player in &players {
        games.entry(player.game.clone()).or_default().push(&player.user);
    }
    assert_eq!(games.len(), 3 + 2);
    for (game, users) in games {
        check_cleaning(&captured::of_game(&game), &users);
    }
}

#[tokio::test]
async fn a_player_who_leaves_forfeits_and_the_other_hears_the_end() {
    let config = ServerConfig { turn_deadline: Duration::from_secs(1), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    let mut stays = Player::join(&server, "Stays", 2).await;
    let leaves = Player::join(&server, "Leaves", 2).await;
    let users = [stays.user.clone(), leaves.user.clone()];
    let start = stays.lobby.next().await;
    drop(leaves);
    // If it has the first turn, it lets that pass to the other by an attack, which with its hero may even win.
    play_on(&server, &mut stays, &start).await;
    server.stop().await;
    let events = captured::of_game(&stays.game);
    check_cleaning(&events, &[&users[0], &users[1]]);
    assert_eq!(count(&events, message::GAME_FINISHED), 1, "nobody is told who is not there");
}

#[tokio::test]
async fn a_game_that_everybody_left_ends_by_forfeits() {
    let store = Memory::new();
    let config = ServerConfig { turn_deadline: Duration::from_millis(50), ..quick() };
    let server = Running::with(config, store.clone()).await;
    let first = Player::join(&server, "First", 3).await;
    let second = Player::join(&server, "Second", 3).await;
    let third = Player::join(&server, "Third", 3).await;
    let game = first.game.clone();
    let mut subscription = store.subscribe(game.parse().unwrap()).await.unwrap();
    let users = [first.user.clone(), second.user.clone(), third.user.clone()];
    drop((first, second, third));
    let completed = async { while subscription.events.recv().await.unwrap() != GameEvent::Completed {} };
    within("the end of the game", completed).await;
    server.stop().await;
    let events = captured::of_game(&game);
    check_cleaning(&events, &[&users[0], &users[1], &users[2]]);
    let forfeits = events.iter().filter(|event| {
        event.message() == message::ATTACK_COMPLETED && event.field("task").unwrap().contains(r#""ACTION":"FORFEIT""#)
    });
    assert_eq!(forfeits.count(), 2);
}

#[tokio::test]
async fn every_server_keeps_the_deadlines_and_one_of_them_acts() {
    let store = Memory::new();
    let config = ServerConfig { turn_deadline: Duration::from_millis(50), ..quick() };
    let here = Running::with(config.clone(), store.clone()).await;
    let there = Running::with(config, store).await;
    let mut first = Player::join(&here, "Here", 2).await;
    let mut second = Player::join(&there, "There", 2).await;
    for player in [&mut first, &mut second] {
        assert_eq!(player.push().await, "START");
        while player.push().await != "COMPLETE" {}
    }
    here.stop().await;
    there.stop().await;
    let events = captured::of_game(&first.game);
    assert_eq!(count(&events, message::ATTACK_COMPLETED), 1, "one forfeit ends a game of two");
    check_cleaning(&events, &[&first.user, &second.user]);
}

#[tokio::test]
async fn seats_that_are_not_filled_time_out() {
    let config = ServerConfig { lobby_timeout: Duration::from_millis(100), ..quick() };
    let server = Running::with(config, Memory::new()).await;
    let mut player = Player::join(&server, "Alone", 2).await;
    let push = player.lobby.next().await;
    assert_eq!(push["STATUS"], json!({"GAME": "TIMED OUT"}));
    assert_eq!(push["PAYLOAD"], json!({"GAME_TOKEN": player.game}));
    assert_eq!(text(&push["TIMESTAMP"]).len(), "2026-11-22T18:15:21.101031".len());
    // The same connection serves the next game's lobby, and who comes late is told the same.
    player.lobby.send(json!({"GAME_TOKEN": player.game, "USER_TOKEN": player.user})).await;
    assert_eq!(player.push().await, "TIMED OUT");
    let next = Player::join(&server, "Alone", 2).await;
    assert_ne!(next.game, player.game);
    server.stop().await;
    let events = captured::of_game(&player.game);
    assert_eq!(count(&events, message::GAME_TIMED_OUT), 2);
    assert_eq!(count(&events, message::CLEANING), 0);
}

#[tokio::test]
async fn a_player_who_comes_back_gets_the_start_and_its_turn_again() {
    let server = Running::start().await;
    let first = Player::join(&server, "First", 2).await;
    let second = Player::join(&server, "Second", 2).await;
    let (mut on_turn, mut waits) = if first.user < second.user { (first, second) } else { (second, first) };
    assert_eq!(on_turn.push().await, "START");
    assert_eq!(on_turn.push().await, "USER'S TURN");

    // A second session of the user, while the first still stands as far as the server knows.
    let mut again = enter(&server, &on_turn.game, &on_turn.user).await;
    let start = again.next().await;
    assert_eq!(start["STATUS"]["GAME"], "START");
    assert_eq!(again.next().await["STATUS"]["GAME"], "USER'S TURN");

    // From now on the newest has the turns; both are told the end.
    let mut old = std::mem::replace(&mut on_turn.lobby, again);
    attack_somebody(&mut on_turn, &[waits.user.clone()], &mut server.connect(HERO).await).await;
    let (seen, _) = tokio::join!(play_on(&server, &mut on_turn, &start), play(&server, &mut waits));
    assert_eq!(old.next().await["STATUS"]["GAME"], "COMPLETE", "after {seen:?}");
}

#[tokio::test]
async fn an_older_session_takes_over_when_the_newer_leaves() {
    let server = Running::start().await;
    let first = Player::join(&server, "First", 2).await;
    let second = Player::join(&server, "Second", 2).await;
    let (mut on_turn, mut waits) = if first.user < second.user { (first, second) } else { (second, first) };
    let mut newer = enter(&server, &waits.game, &waits.user).await;
    assert_eq!(newer.next().await["STATUS"]["GAME"], "START");
    assert_eq!(waits.push().await, "START");
    assert_eq!(on_turn.push().await, "START");
    assert_eq!(on_turn.push().await, "USER'S TURN");
    let answer = on_turn.attack(json!(waits.user)).await;
    if answer["STATUS"]["DETAILS"]["ENEMY_HEALTH_POST"] == 0 {
        return;
    }
    assert_eq!(newer.next().await["STATUS"]["GAME"], "USER'S TURN");
    drop(newer);
    assert_eq!(waits.push().await, "USER'S TURN");
}
