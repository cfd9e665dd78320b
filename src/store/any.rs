//! Either of the two stores, chosen while the program runs: what is generic over the store is compiled once for both.

use std::time::Duration;

use chrono::{DateTime, Utc};
use superhero_game::{Fighter, GameToken, Hero, Limits, Refusal, SeatSecret, UserToken};
use uuid::Uuid;

use crate::memory::Memory;
use crate::redis::Redis;
use crate::{Find, GameStore, Login, Outcome, Seat, Snapshot, StoreError, Subscription};

/// A store, of one kind or the other. As [`GameStore`] says of each.
#[derive(Clone, Debug)]
pub enum AnyStore {
    /// In this process.
    Memory(Memory),
    /// In Redis.
    Redis(Redis),
}

/// Each operation is that of the store.
macro_rules! passed_on {
    ($(fn $operation:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        impl GameStore for AnyStore {
            $(async fn $operation(&self, $($argument: $kind),*) -> $answer {
                match self {
                    Self::Memory(store) => store.$operation($($argument),*).await,
                    Self::Redis(store) => store.$operation($($argument),*).await,
                }
            })*
        }
    };
}

passed_on! {
    fn ping() -> Result<(), StoreError>;
    fn login(name: &str) -> Result<Login, StoreError>;
    fn find(find: Find) -> Result<Seat, StoreError>;
    fn attend(
        game: GameToken, user: UserToken, secret: Option<SeatSecret>, visit: Uuid
    ) -> Result<Result<(), Refusal>, StoreError>;
    fn leave(game: GameToken, user: UserToken, visit: Uuid) -> Result<(), StoreError>;
    fn sweep() -> Result<bool, StoreError>;
    fn hero(game: GameToken, user: UserToken) -> Result<Option<Fighter>, StoreError>;
    fn attack(
        game: GameToken, user: UserToken, secret: Option<SeatSecret>, enemy: UserToken, now: DateTime<Utc>, limits: Limits
    ) -> Result<Result<Outcome, Refusal>, StoreError>;
    fn forfeit(game: GameToken, moves: u32, now: DateTime<Utc>, limits: Limits) -> Result<Option<Outcome>, StoreError>;
    fn time_out(game: GameToken) -> Result<bool, StoreError>;
    fn snapshot(game: GameToken) -> Result<Option<Snapshot>, StoreError>;
    fn subscribe(game: GameToken) -> Result<Subscription, StoreError>;
    fn clean(game: GameToken, expiry: Duration) -> Result<(), StoreError>;
    fn load_heroes(heroes: &[Hero]) -> Result<(), StoreError>;
    fn hero_count() -> Result<usize, StoreError>;
}
