//! Requests and their answers, one socket at a time and in order; lobbies have [their own](crate::lobby).

use std::sync::Arc;

use superhero_api::{Endpoint, FindAnswer, HeroAnswer, LoginAnswer, Rejection, Request};
use superhero_game::{Action, AttackRecord, GameToken, Refusal, UserToken};
use superhero_store::{GameStore, Status, StoreError};
use uuid::Uuid;

use crate::events;
use crate::retry::persistently;
use crate::server::{Server, now};
use crate::socket::{End, Message, Socket};

/// Answers until the client leaves or has to.
pub(crate) async fn run<S: GameStore>(server: &Arc<Server<S>>, socket: &mut Socket, endpoint: Endpoint) -> End {
    loop {
        let message = tokio::select! {
            biased;
            () = server.closing.cancelled() => return End::shutting_down(),
            message = socket.next() => message,
        };
        let result = match message {
            Ok(Message::Text(text)) => {
                // Boxed, so that an idle session does not carry the room that a request takes.
                Box::pin(carry_out(server, socket, endpoint, &text)).await
            }
            Ok(Message::Binary) => Err(Rejection::NotText.into()),
            Err(end) => return end,
        };
        let answer = match result {
            Ok(answer) => answer,
            Err(Otherwise::Rejection(rejection)) => rejection.to_json(),
            Err(Otherwise::End(end)) => return end,
        };
        if let Err(end) = socket.send(answer.into()).await {
            return end;
        }
    }
}

/// What there is in place of the answer that was asked for.
pub(crate) enum Otherwise {
    /// An answer that says why not.
    Rejection(Rejection),
    /// None: the session is over.
    End(End),
}

impl From<Rejection> for Otherwise {
    fn from(rejection: Rejection) -> Self {
        Self::Rejection(rejection)
    }
}

impl From<Refusal> for Otherwise {
    fn from(refusal: Refusal) -> Self {
        Self::Rejection(refusal.into())
    }
}

impl From<End> for Otherwise {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<StoreError> for Otherwise {
    fn from(error: StoreError) -> Self {
        Self::Rejection(match error {
            StoreError::NoHeroes => Rejection::NoHeroes,
            StoreError::Unavailable(reason) => {
                tracing::warn!(reason, "a request could not be carried out: the store is not available");
                Rejection::Unavailable
            }
            StoreError::Malformed { .. } => {
                tracing::error!(%error, "a request could not be carried out");
                Rejection::Unavailable
            }
        })
    }
}

async fn carry_out<S: GameStore>(
    server: &Server<S>,
    socket: &mut Socket,
    endpoint: Endpoint,
    text: &str,
) -> Result<String, Otherwise> {
    match Request::parse(endpoint, text, server.config.max_participants)? {
        Request::Login { user } => login(server, socket, &user).await,
        Request::Find { user, participants } => find(server, user, participants).await,
        Request::Hero { game, user } => hero(server, game, user).await,
        Request::Action { game, user, enemy: Some(enemy) } => attack(server, game, user, enemy).await,
        Request::Action { game, user, enemy: None } => attack_nobody(server, game, user).await,
        Request::Lobby { .. } => unreachable!("lobbies have sessions of their own"),
    }
}

async fn login<S: GameStore>(server: &Server<S>, socket: &mut Socket, name: &str) -> Result<String, Otherwise> {
    let login = persistently(server.config.store_patience, || server.store.login(name)).await?;
    if login.created {
        socket.send(LoginAnswer::Created.to_json().into()).await?;
    }
    Ok(LoginAnswer::Token(login.user).to_json())
}

/// Any token is taken, be it known or not, as in the reference: a token is known to its bearer alone.
async fn find<S: GameStore>(server: &Server<S>, user: UserToken, participants: u32) -> Result<String, Otherwise> {
    admission(server).await?;
    if server.draining.is_cancelled() {
        return Err(Rejection::Stopping.into());
    }
    let (request, at) = (Uuid::new_v4(), now());
    let call = || server.store.find(request, user, participants, at);
    let seat = persistently(server.config.store_patience, call).await?;
    let answer = FindAnswer { game: seat.game, hero: seat.hero }.to_json();
    events::hero_selected(seat.game, &answer);
    Ok(answer)
}

async fn hero<S: GameStore>(server: &Server<S>, game: GameToken, user: UserToken) -> Result<String, Otherwise> {
    let fighter = persistently(server.config.store_patience, || server.store.hero(game, user)).await?;
    Ok(HeroAnswer { game, user, fighter }.to_json())
}

async fn attack<S: GameStore>(
    server: &Server<S>,
    game: GameToken,
    user: UserToken,
    enemy: UserToken,
) -> Result<String, Otherwise> {
    let _held_back = if server.admission.is_open() { None } else { server.hub.hold_back(game, user) };
    admission(server).await?;
    // The same time in each try, so that a move whose answer was lost is found again and not made twice.
    let at = now();
    let call = || server.store.attack(game, user, enemy, at, server.config.limits);
    let outcome = persistently(server.config.store_patience, call).await??;
    events::move_made(&outcome);
    Ok(outcome.record.to_json())
}

/// The player found nobody alive: right when its game is over, and otherwise it keeps its turn.
async fn attack_nobody<S: GameStore>(
    server: &Server<S>,
    game: GameToken,
    user: UserToken,
) -> Result<String, Otherwise> {
    admission(server).await?;
    let call = || server.store.snapshot(game);
    let snapshot = persistently(server.config.store_patience, call).await?.ok_or(Refusal::UnknownGame)?;
    if !snapshot.fighters.contains_key(&user) {
        return Err(Refusal::NotAPlayer.into());
    }
    match snapshot.status {
        Status::Completed => {
            let record = AttackRecord { timestamp: now(), game, user, action: Action::NotAvailable }.to_json();
            events::attacked_dead_enemy(game, &record);
            Ok(record)
        }
        Status::WaitingLobby | Status::TimedOut => Err(Refusal::NotInProgress.into()),
        Status::Starting | Status::InProgress | Status::WaitingPlayer => Err(Rejection::NoEnemy.into()),
    }
}

/// Waits while the transport has no room for more events.
async fn admission<S: GameStore>(server: &Server<S>) -> Result<(), End> {
    tokio::select! {
        biased;
        () = server.admission.admit() => Ok(()),
        () = server.closing.cancelled() => Err(End::shutting_down()),
    }
}
