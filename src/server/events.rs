//! The events of the server: one function for each row of the specification's table.
//!
//! `key` is the game token, so that a game's events stay in order; the server's own events have none.

use std::net::SocketAddr;

use superhero_event::{TARGET, message, topic};
use superhero_game::{AttackRecord, GameToken, UserToken};
use superhero_store::Outcome;

use crate::{Fate, Undelivered};

/// An earlier run of the server did not deliver all of its events.
pub(crate) fn undelivered(run: &Undelivered) {
    let producer = &run.producer;
    let task = match run.fate {
        Fate::SentAgain { events } => format!(r#"{{"producer":"{producer}","fate":"sent again","events":{events}}}"#),
        Fate::Lost => format!(r#"{{"producer":"{producer}","fate":"lost"}}"#),
    };
    tracing::warn!(target: TARGET, queue = topic::CLIENT, task, "{}", message::UNDELIVERED);
}

/// The server starts.
pub(crate) fn starting_server() {
    tracing::info!(target: TARGET, queue = topic::CLIENT, "{}", message::STARTING_SERVER);
}

/// Where it listens.
pub(crate) fn listening_on(address: SocketAddr) {
    tracing::info!(target: TARGET, queue = topic::CLIENT, "Listening on ws://{address}");
}

/// A player got a seat; `answer` is that to its `find`.
pub(crate) fn hero_selected(game: GameToken, answer: &str) {
    tracing::info!(target: TARGET, queue = topic::LOBBY, key = %game, task = answer, "{}", message::HERO_SELECTED);
}

/// One player is told that the game starts.
pub(crate) fn starting_match(game: GameToken, frame: &str) {
    tracing::info!(target: TARGET, queue = topic::LOBBY, key = %game, task = frame, "{}", message::STARTING_MATCH);
}

/// One player is told that the seats were not filled.
pub(crate) fn game_timed_out(game: GameToken, frame: &str) {
    tracing::info!(target: TARGET, queue = topic::LOBBY, key = %game, task = frame, "{}", message::GAME_TIMED_OUT);
}

/// A player is told that it is on turn.
pub(crate) fn turn(game: GameToken, frame: &str) {
    tracing::info!(target: TARGET, queue = topic::LOBBY, key = %game, task = frame, "{}", message::TURN);
}

/// One player is told that the game is over.
pub(crate) fn game_finished(game: GameToken, frame: &str) {
    tracing::info!(target: TARGET, queue = topic::LOBBY, key = %game, task = frame, "{}", message::GAME_FINISHED);
}

/// A move was made by whoever calls this; if it was the last, the game is cleaned for everybody who took part.
///
/// Exactly one caller in all servers sees the move that completes a game, so this happens once.
pub(crate) fn move_made(outcome: &Outcome) {
    let record = &outcome.record;
    attack_completed(record);
    if outcome.next.is_none() {
        for user in &outcome.participants {
            cleaning_game_records(record.game, *user);
        }
    }
}

/// A move, be it an attack or a forfeit, stands in the game's logs.
fn attack_completed(record: &AttackRecord) {
    let (game, task) = (record.game, record.to_json());
    tracing::info!(target: TARGET, queue = topic::GAME, key = %game, task, "{}", message::ATTACK_COMPLETED);
}

/// The game is over for one participant; the host's makes the tables.
fn cleaning_game_records(game: GameToken, user: UserToken) {
    let task_object = serde_json::json!({"game_token": game, "user_token": user}).to_string();
    tracing::info!(target: TARGET, queue = topic::LOBBY, key = %game, task_object, "{}", message::CLEANING);
}

/// A player whose game is over attacked nobody; `record` is the answer.
pub(crate) fn attacked_dead_enemy(game: GameToken, record: &str) {
    tracing::error!(target: TARGET, queue = topic::GAME, key = %game, task = record, "{}", message::ATTACKED_DEAD_ENEMY);
}
