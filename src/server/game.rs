//! One game on one server: hears of it from the store, tells the lobbies, and keeps its deadlines.
//!
//! ```text
//! Waiting ──started──▶ Started ──turn──▶ Pausing ──pause over──▶ Thinking ─┬─turn──▶ Pausing …
//!    │                                                            deadline │
//!    └─lobby timeout──▶ (timed out)             forfeit, next turn ◀───────┤
//!                                                                          └─completed──▶ (completed)
//! ```
//!
//! The task lives until the game has ended, even when all its sessions have gone: players who vanish forfeit one after the
//! other, which the turn deadline bounds. Every server that has the game keeps the same deadlines; the store lets exactly
//! one of them act. A game whose servers all died goes on as soon as one of its players enters a lobby again.

use std::sync::Arc;

use superhero_api::LobbyPush;
use superhero_store::{GameEvent, GameStore, Snapshot, Status, StoreError, Subscription};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::events;
use crate::hub::{Game, Hub, Stage, Turn};
use crate::retry::persistently;
use crate::server::{Server, now};

/// The task of one game.
pub(crate) async fn drive<S: GameStore>(server: Arc<Server<S>>, game: Arc<Game>) {
    let mut farewell = Farewell { hub: &server.hub, game: &game, last: Stage::Unavailable };
    let driver = Driver { server: &server, game: &game };
    if let Err(Over(last)) = driver.follow().await {
        farewell.last = last;
    }
}

/// Tells the last stage however the task ends, a panic included: nobody may wait for a game that nobody drives.
struct Farewell<'a> {
    hub: &'a Hub,
    game: &'a Arc<Game>,
    last: Stage,
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        self.hub.remove(self.game);
        self.game.stage.send_replace(self.last.clone());
    }
}

/// The game has come to its last stage.
struct Over(Stage);

/// Where a game is, and what is due next.
#[derive(Debug)]
enum Phase {
    /// Seats are free until the game times out, of which the store knows the time, and each server that has the game reminds it.
    Waiting { times_out: Instant },
    /// Its first turn has not been heard of yet.
    Started { start: Utf8Bytes },
    /// A turn is about to be announced.
    Pausing { start: Utf8Bytes, turn: Turn, announced: Instant },
    /// A player is on turn and knows it.
    Thinking { start: Utf8Bytes, turn: Turn, forfeits: Instant },
}

impl Phase {
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Waiting { times_out: due }
            | Self::Pausing { announced: due, .. }
            | Self::Thinking { forfeits: due, .. } => Some(*due),
            Self::Started { .. } => None,
        }
    }

    fn start(&self) -> Option<&Utf8Bytes> {
        match self {
            Self::Waiting { .. } => None,
            Self::Started { start } | Self::Pausing { start, .. } | Self::Thinking { start, .. } => Some(start),
        }
    }

    fn turn(&self) -> Option<Turn> {
        match self {
            Self::Waiting { .. } | Self::Started { .. } => None,
            Self::Pausing { turn, .. } | Self::Thinking { turn, .. } => Some(*turn),
        }
    }
}

struct Driver<'a, S> {
    server: &'a Server<S>,
    game: &'a Game,
}

impl<S: GameStore> Driver<'_, S> {
    /// Follows the game to its end; returns early only when the server stops.
    async fn follow(&self) -> Result<(), Over> {
        // First subscribe, then read: between the two nothing can be missed, and what comes twice is known by its number.
        let mut subscription = self.subscribe().await?;
        let waiting = Phase::Waiting { times_out: Instant::now() + self.server.config.lobby_timeout };
        let mut phase = self.read(waiting).await?;
        loop {
            self.tell(&phase);
            let due = phase.due();
            tokio::select! {
                () = self.server.closing.cancelled() => return Ok(()),
                event = subscription.events.recv() => phase = match event {
                    Some(event) => self.hear(phase, event).await?,
                    None => {
                        subscription = self.subscribe().await?;
                        self.read(phase).await?
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => phase = self.act(phase).await?,
            }
        }
    }

    async fn subscribe(&self) -> Result<Subscription, Over> {
        let patience = self.server.config.game_patience;
        let call = || Box::pin(self.server.store.subscribe(self.game.token));
        persistently(patience, call).await.map_err(|error| self.unavailable(&error))
    }

    /// What the store says of the game now, following on `phase`.
    async fn read(&self, phase: Phase) -> Result<Phase, Over> {
        let patience = self.server.config.game_patience;
        let call = || Box::pin(self.server.store.snapshot(self.game.token));
        let snapshot = persistently(patience, call).await.map_err(|error| self.unavailable(&error))?;
        let Some(snapshot) = snapshot else {
            // A game that was going on and is gone has been cleaned after its end.
            return Err(Over(match phase.start() {
                Some(start) => Stage::Completed { start: Some(start.clone()) },
                None => Stage::Unknown,
            }));
        };
        let start = || phase.start().cloned().unwrap_or_else(|| self.start_frame(&snapshot));
        match snapshot.status {
            Status::WaitingLobby => Ok(match (phase, snapshot.waits) {
                (Phase::Waiting { .. }, Some(waits)) => Phase::Waiting { times_out: Instant::now() + waits },
                (phase, _) => phase,
            }),
            Status::Completed => Err(Over(Stage::Completed { start: Some(start()) })),
            Status::TimedOut => Err(Over(Stage::TimedOut)),
            Status::Starting | Status::InProgress | Status::WaitingPlayer => {
                let moves = u32::try_from(snapshot.records.len()).unwrap_or(u32::MAX);
                Ok(match snapshot.order.first() {
                    Some(&user) if phase.turn().is_none_or(|turn| turn.moves < moves) => {
                        self.pause_before(start(), Turn { user, moves })
                    }
                    None if phase.start().is_none() => Phase::Started { start: start() },
                    _ => phase,
                })
            }
        }
    }

    async fn hear(&self, phase: Phase, event: GameEvent) -> Result<Phase, Over> {
        match event {
            GameEvent::Turn { moves, .. } if phase.turn().is_some_and(|turn| turn.moves >= moves) => Ok(phase),
            GameEvent::Turn { user, moves } => match phase.start() {
                Some(start) => Ok(self.pause_before(start.clone(), Turn { user, moves })),
                None => self.read(phase).await,
            },
            GameEvent::Started if phase.start().is_some() => Ok(phase),
            GameEvent::Started | GameEvent::Resync => self.read(phase).await,
            GameEvent::Completed => match phase.start() {
                Some(start) => Err(Over(Stage::Completed { start: Some(start.clone()) })),
                None => self.read(phase).await,
            },
            GameEvent::TimedOut => Err(Over(Stage::TimedOut)),
        }
    }

    /// The time of `phase` is over.
    async fn act(&self, phase: Phase) -> Result<Phase, Over> {
        let (config, store, token) = (&self.server.config, &self.server.store, self.game.token);
        match phase {
            Phase::Waiting { .. } => {
                let call = || Box::pin(store.time_out(token));
                let timed_out =
                    persistently(config.game_patience, call).await.map_err(|error| self.unavailable(&error))?;
                if timed_out {
                    return Err(Over(Stage::TimedOut));
                }
                self.read(Phase::Waiting { times_out: Instant::now() + config.lobby_timeout }).await
            }
            Phase::Started { .. } => Ok(phase),
            Phase::Pausing { start, turn, .. } => {
                Ok(Phase::Thinking { start, turn, forfeits: Instant::now() + config.turn_deadline })
            }
            // Nobody can be blamed for a turn in which the transport held the actions back.
            Phase::Thinking { start, turn, .. }
                if !self.server.admission.is_open() || self.game.holds_back(turn.user) =>
            {
                Ok(Phase::Thinking { start, turn, forfeits: Instant::now() + config.turn_deadline })
            }
            Phase::Thinking { start, turn, .. } => {
                let at = now();
                let call = || Box::pin(store.forfeit(token, turn.moves, at, config.limits));
                let outcome =
                    persistently(config.game_patience, call).await.map_err(|error| self.unavailable(&error))?;
                let Some(outcome) = outcome else {
                    let forfeits = Instant::now() + config.turn_deadline;
                    return self.read(Phase::Thinking { start, turn, forfeits }).await;
                };
                events::move_made(&outcome);
                tracing::debug!(game = %token, user = %turn.user, "a player let its turn pass and forfeits");
                match outcome.next {
                    Some(user) => Ok(self.pause_before(start, Turn { user, moves: outcome.moves })),
                    None => Err(Over(Stage::Completed { start: Some(start) })),
                }
            }
        }
    }

    fn pause_before(&self, start: Utf8Bytes, turn: Turn) -> Phase {
        let config = &self.server.config;
        let announced = Instant::now() + config.turn_delay;
        if config.turn_delay.is_zero() {
            return Phase::Thinking { start, turn, forfeits: announced + config.turn_deadline };
        }
        Phase::Pausing { start, turn, announced }
    }

    /// Wakes the lobbies if there is something new for them.
    fn tell(&self, phase: &Phase) {
        let stage = match phase {
            Phase::Waiting { .. } => Stage::Waiting,
            Phase::Started { start } | Phase::Pausing { start, .. } => {
                Stage::Going { start: start.clone(), turn: None }
            }
            Phase::Thinking { start, turn, .. } => Stage::Going { start: start.clone(), turn: Some(*turn) },
        };
        self.game.stage.send_if_modified(|told| {
            let is_new = *told != stage;
            *told = stage;
            is_new
        });
    }

    fn start_frame(&self, snapshot: &Snapshot) -> Utf8Bytes {
        let push = LobbyPush::Start { timestamp: now(), game: self.game.token, fighters: snapshot.fighters.clone() };
        push.to_json().into()
    }

    fn unavailable(&self, error: &StoreError) -> Over {
        tracing::error!(game = %self.game.token, %error, "a game is given up until one of its players comes back");
        Over(Stage::Unavailable)
    }
}
