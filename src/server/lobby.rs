//! The push stream of a game: START once, the player's turns, and the end.
//!
//! A connection has one stream at a time. When it has ended, or the request was refused, the next request opens another; one
//! that comes early waits for it.

use std::sync::Arc;
use std::time::Duration;

use superhero_api::{Endpoint, LobbyPush, Rejection, Request};
use superhero_game::{GameToken, Refusal, UserToken};
use superhero_store::GameStore;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use crate::events;
use crate::hub::{Attendance, Hub, Stage};
use crate::retry::persistently;
use crate::server::{Server, now};
use crate::session::{Otherwise, of_seat};
use crate::socket::{End, Message, Socket};

/// For how long the store may take to hear that a player has left; the game's own time ends the same.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves one stream after the other until the client leaves or has to.
pub(crate) async fn run<S: GameStore>(server: &Arc<Server<S>>, socket: &mut Socket) -> End {
    let mut early = None;
    loop {
        let message = match early.take() {
            Some(text) => Ok(Message::Text(text)),
            None => tokio::select! {
                biased;
                () = server.closing.cancelled() => return End::shutting_down(),
                message = socket.next() => message,
            },
        };
        let entry = match message {
            // Boxed, so that a session that waits for its turn does not carry the room that its entry took.
            Ok(Message::Text(text)) => Box::pin(entry(server, &text)).await,
            Ok(Message::Binary) => Err(Rejection::NotText.into()),
            Err(end) => return end,
        };
        let result = match entry {
            Ok((game, user, visit)) => attend(server, socket, game, user, visit, &mut early).await,
            Err(Otherwise::Rejection(rejection)) => socket.send(rejection.to_json().into()).await,
            Err(Otherwise::End(end)) => Err(end),
        };
        if let Err(end) = result {
            return end;
        }
    }
}

/// Reads a request and makes sure that its user has a seat, and this is its client as far as can be told.
async fn entry<S: GameStore>(server: &Server<S>, text: &str) -> Result<(GameToken, UserToken, Uuid), Otherwise> {
    let Request::Lobby { game, user, seat } = Request::parse(Endpoint::Lobby, text, server.config.max_participants)?
    else {
        unreachable!("what is read as the lobby's is the lobby's")
    };
    let visit = Uuid::new_v4();
    let call = || server.store.attend(game, user, seat, visit);
    match persistently(server.config.store_patience, call).await? {
        Ok(()) => Ok((game, user, visit)),
        Err(refusal) => Err(of_seat(refusal, seat).into()),
    }
}

/// One stream, from its request to its last frame.
async fn attend<S: GameStore>(
    server: &Arc<Server<S>>,
    socket: &mut Socket,
    game: GameToken,
    user: UserToken,
    visit: Uuid,
    early: &mut Option<Utf8Bytes>,
) -> Result<(), End> {
    let mut attendance = Hub::enter(server, game, user, visit);
    let streamed = stream(server, socket, game, user, &mut attendance, early).await;
    // A game that goes on tells of it by the deadline of a turn; one that waits is not to seat others with whoever has gone.
    if streamed.is_err()
        && matches!(*attendance.stage.borrow(), Stage::Opening | Stage::Waiting)
        && !server.closing.is_cancelled()
        && let Some(visit) = attendance.only_visit()
        && let Ok(Err(error)) = timeout(LEAVE_TIMEOUT, Box::pin(server.store.leave(game, user, visit))).await
    {
        tracing::debug!(%game, %error, "the store does not know yet that a player has left");
    }
    streamed
}

async fn stream<S: GameStore>(
    server: &Arc<Server<S>>,
    socket: &mut Socket,
    game: GameToken,
    user: UserToken,
    attendance: &mut Attendance,
    early: &mut Option<Utf8Bytes>,
) -> Result<(), End> {
    let mut told = Told::default();
    loop {
        let stage = attendance.stage.borrow_and_update().clone();
        // After the stage was marked as seen: whoever leaves later marks it as changed again.
        match told.next(stage, user, attendance.is_newest()) {
            Some(Push::Start(frame)) => {
                events::starting_match(game, &frame);
                socket.send(frame).await?;
            }
            Some(Push::Turn) => {
                let frame = LobbyPush::Turn { game }.to_json();
                events::turn(game, &frame);
                socket.send(frame.into()).await?;
            }
            Some(Push::Complete) => {
                let frame = LobbyPush::Complete { game }.to_json();
                events::game_finished(game, &frame);
                return socket.send(frame.into()).await;
            }
            Some(Push::TimedOut) => {
                let frame = LobbyPush::TimedOut { timestamp: now(), game }.to_json();
                events::game_timed_out(game, &frame);
                return socket.send(frame.into()).await;
            }
            Some(Push::Rejection(rejection)) => return socket.send(rejection.to_json().into()).await,
            None => tokio::select! {
                biased;
                () = server.closing.cancelled() => return Err(End::shutting_down()),
                // The sender lives as long as the attendance.
                _ = attendance.stage.changed() => {}
                message = socket.next() => match message? {
                    Message::Binary => socket.send(Rejection::NotText.to_json().into()).await?,
                    Message::Text(text) if early.is_none() => *early = Some(text),
                    Message::Text(_) => {
                        return Err(End::Closed(CloseCode::Policy, "too many requests during a game".into()));
                    }
                },
            },
        }
    }
}

/// What a stream has told of its game already.
#[derive(Debug, Default)]
struct Told {
    start: bool,
    /// The turn by its number of moves.
    turn: Option<u32>,
}

/// The next frame of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Push {
    Start(Utf8Bytes),
    Turn,
    Complete,
    TimedOut,
    Rejection(Rejection),
}

impl Told {
    /// What to tell `user` next, if anything, and that it has been told.
    fn next(&mut self, stage: Stage, user: UserToken, newest: bool) -> Option<Push> {
        match stage {
            Stage::Opening | Stage::Waiting => None,
            Stage::Going { start, .. } | Stage::Completed { start: Some(start) } if !self.start => {
                self.start = true;
                Some(Push::Start(start))
            }
            Stage::Going { turn: Some(turn), .. }
                if newest && turn.user == user && self.turn.is_none_or(|told| told < turn.moves) =>
            {
                self.turn = Some(turn.moves);
                Some(Push::Turn)
            }
            Stage::Going { .. } => None,
            Stage::Completed { .. } => Some(Push::Complete),
            Stage::TimedOut => Some(Push::TimedOut),
            Stage::Unknown => Some(Push::Rejection(Refusal::UnknownGame.into())),
            Stage::Unavailable => Some(Push::Rejection(Rejection::Unavailable)),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::hub::Turn;

    const START: Utf8Bytes = Utf8Bytes::from_static("start");

    fn user(number: u128) -> UserToken {
        UserToken::new(Uuid::from_u128(number))
    }

    fn going(number: u128, moves: u32) -> Stage {
        Stage::Going { start: START, turn: Some(Turn { user: user(number), moves }) }
    }

    /// All frames for user 1 on its newest session, as the stages come by.
    fn check(stages: &[Stage], expected: &[Push]) {
        let mut told = Told::default();
        let mut frames = Vec::new();
        for stage in stages {
            while let Some(push) = told.next(stage.clone(), user(1), true) {
                let last = matches!(push, Push::Complete | Push::TimedOut | Push::Rejection(_));
                frames.push(push);
                if last {
                    break;
                }
            }
        }
        assert_eq!(frames, expected, "{stages:?}");
    }

    #[test]
    fn a_stream_tells_the_start_once_and_each_own_turn_once() {
        let over = Stage::Completed { start: Some(START) };
        let stages = [Stage::Opening, Stage::Waiting, going(1, 0), going(1, 0), going(2, 1), going(1, 2), over];
        check(&stages, &[Push::Start(START), Push::Turn, Push::Turn, Push::Complete]);
    }

    #[test]
    fn a_stream_that_comes_late_gets_the_start_before_whatever_is_the_matter() {
        check(&[going(2, 7)], &[Push::Start(START)]);
        check(&[going(1, 8)], &[Push::Start(START), Push::Turn]);
        check(&[Stage::Completed { start: Some(START) }], &[Push::Start(START), Push::Complete]);
        check(&[Stage::Completed { start: None }], &[Push::Complete]);
    }

    #[test]
    fn a_game_that_does_not_come_to_its_start_is_told_so() {
        check(&[Stage::Waiting, Stage::TimedOut], &[Push::TimedOut]);
        check(&[Stage::Opening, Stage::Unknown], &[Push::Rejection(Rejection::UnknownGame)]);
        check(&[Stage::Opening, Stage::Unavailable], &[Push::Rejection(Rejection::Unavailable)]);
    }

    #[test]
    fn an_older_session_gets_the_turn_once_it_is_the_newest_again() {
        let mut told = Told::default();
        assert_eq!(told.next(going(1, 0), user(1), false), Some(Push::Start(START)));
        assert_eq!(told.next(going(1, 0), user(1), false), None);
        assert_eq!(told.next(going(1, 0), user(1), true), Some(Push::Turn));
    }
}
