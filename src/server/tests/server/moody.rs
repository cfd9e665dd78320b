//! A store that can be told not to answer, and to panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use superhero_game::{Fighter, GameToken, Hero, Limits, Refusal, SeatSecret, UserToken};
use superhero_store::memory::Memory;
use superhero_store::{Find, GameStore, Login, Outcome, Seat, Snapshot, StoreError, Subscription};
use tokio::sync::watch;
use uuid::Uuid;

use crate::running::within;

/// The name whose login panics.
pub(crate) const PANIC: &str = "panic";

#[derive(Clone, Debug, Default)]
pub(crate) struct Moody {
    inner: Memory,
    away: Arc<AtomicBool>,
    refused: Arc<watch::Sender<u32>>,
}

impl Moody {
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Waits until so many calls in all have got no answer.
    pub(crate) async fn refused(&self, calls: u32) {
        within("a call to the store", self.refused.subscribe().wait_for(|refused| *refused >= calls)).await.unwrap();
    }

    fn inner(&self) -> Result<&Memory, StoreError> {
        if self.away.load(Ordering::SeqCst) {
            self.refused.send_modify(|refused| *refused += 1);
            return Err(StoreError::Unavailable("as the test wants it".to_owned()));
        }
        Ok(&self.inner)
    }
}

impl GameStore for Moody {
    async fn ping(&self) -> Result<(), StoreError> {
        self.inner()?.ping().await
    }

    async fn login(&self, name: &str) -> Result<Login, StoreError> {
        assert_ne!(name, PANIC, "as the test wants it");
        self.inner()?.login(name).await
    }

    async fn find(&self, find: Find) -> Result<Seat, StoreError> {
        self.inner()?.find(find).await
    }

    async fn attend(
        &self,
        game: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        visit: Uuid,
    ) -> Result<Result<(), Refusal>, StoreError> {
        self.inner()?.attend(game, user, secret, visit).await
    }

    async fn leave(&self, game: GameToken, user: UserToken, visit: Uuid) -> Result<(), StoreError> {
        self.inner()?.leave(game, user, visit).await
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        self.inner.sweep().await
    }

    async fn hero(&self, game: GameToken, user: UserToken) -> Result<Option<Fighter>, StoreError> {
        self.inner()?.hero(game, user).await
    }

    async fn attack(
        &self,
        game: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        enemy: UserToken,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        self.inner()?.attack(game, user, secret, enemy, now, limits).await
    }

    async fn forfeit(
        &self,
        game: GameToken,
        moves: u32,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Option<Outcome>, StoreError> {
        self.inner()?.forfeit(game, moves, now, limits).await
    }

    async fn time_out(&self, game: GameToken) -> Result<bool, StoreError> {
        self.inner()?.time_out(game).await
    }

    async fn snapshot(&self, game: GameToken) -> Result<Option<Snapshot>, StoreError> {
        self.inner()?.snapshot(game).await
    }

    async fn subscribe(&self, game: GameToken) -> Result<Subscription, StoreError> {
        self.inner()?.subscribe(game).await
    }

    async fn clean(&self, game: GameToken, expiry: Duration) -> Result<(), StoreError> {
        self.inner()?.clean(game, expiry).await
    }

    async fn load_heroes(&self, heroes: &[Hero]) -> Result<(), StoreError> {
        self.inner()?.load_heroes(heroes).await
    }

    async fn hero_count(&self) -> Result<usize, StoreError> {
        self.inner()?.hero_count().await
    }
}
