//! Requests and their answers, one socket at a time and in order; lobbies have [their own](crate::lobby).

use std::sync::Arc;

use superhero_api::{Endpoint, Field, FindAnswer, HeroAnswer, LoginAnswer, Rejection, Request};
use superhero_game::{Action, AttackRecord, GameToken, Refusal, SeatSecret, UserToken};
use superhero_store::{Find, GameStore, Status, StoreError};
use uuid::Uuid;

use crate::events;
use crate::retry::persistently;
use crate::server::{Server, now};
use crate::socket::{End, Message, Socket};
use crate::visitors::Visit;

/// Answers until the client leaves or has to.
pub(crate) async fn run<S: GameStore>(
    server: &Arc<Server<S>>,
    socket: &mut Socket,
    endpoint: Endpoint,
    visit: &Visit,
) -> End {
    loop {
        let message = tokio::select! {
            biased;
            () = server.closing.cancelled() => return End::shutting_down(),
            message = socket.next() => message,
        };
        let result = match message {
            Ok(Message::Text(text)) => {
                // Boxed, so that an idle session does not carry the room that a request takes.
                Box::pin(carry_out(server, socket, endpoint, visit, &text)).await
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
            StoreError::TooManySeats => Rejection::TooManySeats,
            StoreError::TooManyGames => {
                tracing::warn!(%error, "a seat could not be given");
                Rejection::TooManyGames
            }
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

/// A secret that is not there is told as any other field.
pub(crate) fn of_seat(refusal: Refusal, secret: Option<SeatSecret>) -> Rejection {
    match (refusal, secret) {
        (Refusal::WrongSeat, None) => Rejection::Missing(Field::Seat),
        (refusal, _) => refusal.into(),
    }
}

async fn carry_out<S: GameStore>(
    server: &Server<S>,
    socket: &mut Socket,
    endpoint: Endpoint,
    visit: &Visit,
    text: &str,
) -> Result<String, Otherwise> {
    match Request::parse(endpoint, text, server.config.max_participants)? {
        Request::Login { user } => login(server, socket, &user).await,
        Request::Find { user, participants } => find(server, visit, user, participants).await,
        Request::Hero { game, user } => hero(server, game, user).await,
        Request::Action { game, user, enemy: Some(enemy), seat } => attack(server, game, user, seat, enemy).await,
        Request::Action { game, user, enemy: None, seat } => attack_nobody(server, game, user, seat).await,
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
async fn find<S: GameStore>(
    server: &Server<S>,
    visit: &Visit,
    user: UserToken,
    participants: u32,
) -> Result<String, Otherwise> {
    if !visit.finds() {
        return Err(Rejection::TooOften.into());
    }
    admission(server).await?;
    if server.draining.is_cancelled() {
        return Err(Rejection::Stopping.into());
    }
    // Never from a seed: whoever knows it could take the seat.
    let (request, secret) = (Uuid::new_v4(), SeatSecret::new(Uuid::new_v4()));
    let find = Find { request, user, participants, secret, wait: server.config.lobby_timeout };
    let seat = persistently(server.config.store_patience, || server.store.find(find)).await?;
    let answer = FindAnswer { game: seat.game, hero: seat.hero, seat: None };
    // Whoever reads events is not to take seats.
    events::hero_selected(seat.game, &answer.to_json());
    Ok(FindAnswer { seat: Some(secret), ..answer }.to_json())
}

async fn hero<S: GameStore>(server: &Server<S>, game: GameToken, user: UserToken) -> Result<String, Otherwise> {
    let fighter = persistently(server.config.store_patience, || server.store.hero(game, user)).await?;
    Ok(HeroAnswer { game, user, fighter }.to_json())
}

async fn attack<S: GameStore>(
    server: &Server<S>,
    game: GameToken,
    user: UserToken,
    seat: Option<SeatSecret>,
    enemy: UserToken,
) -> Result<String, Otherwise> {
    let _held_back = if server.admission.is_open() { None } else { server.hub.hold_back(game, user) };
    admission(server).await?;
    // The same time in each try, so that a move whose answer was lost is found again and not made twice.
    let at = now();
    let call = || server.store.attack(game, user, seat, enemy, at, server.config.limits);
    let outcome = persistently(server.config.store_patience, call).await?.map_err(|refusal| of_seat(refusal, seat))?;
    events::move_made(&outcome);
    Ok(outcome.record.to_json())
}

/// The player found nobody alive: right when its game is over, and otherwise it keeps its turn.
async fn attack_nobody<S: GameStore>(
    server: &Server<S>,
    game: GameToken,
    user: UserToken,
    seat: Option<SeatSecret>,
) -> Result<String, Otherwise> {
    admission(server).await?;
    let call = || server.store.snapshot(game);
    let snapshot = persistently(server.config.store_patience, call).await?.ok_or(Refusal::UnknownGame)?;
    if !snapshot.fighters.contains_key(&user) {
        return Err(Refusal::NotAPlayer.into());
    }
    match snapshot.status {
        Status::Completed => {
            let visit = Uuid::new_v4();
            let call = || server.store.attend(game, user, seat, visit);
            persistently(server.config.store_patience, call).await?.map_err(|refusal| of_seat(refusal, seat))?;
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
