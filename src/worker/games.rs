//! The store's part: the state of games that are over, and their end in the store. Waits for a store that does not answer.

use std::time::Duration;

use superhero_event::Cleaning;
use superhero_game::GameToken;
use superhero_kafka::TopicPartition;
use superhero_store::{GameStore, Snapshot, StoreError};
use tracing::warn;

use crate::backoff::Backoff;
use crate::handler::{self, Verdict};

/// The store's own bounds come first; this is for one that has none.
const STORE_TIMEOUT: Duration = Duration::from_secs(15);

/// The state of the last game that was asked for: its participants' events stand close together, and a completed game
/// does not change any more.
#[derive(Debug, Default)]
pub(crate) struct LastGame(Option<(GameToken, Snapshot)>);

impl LastGame {
    /// What the state of a game makes of the event at `offset`, once the store tells it.
    ///
    /// # Cancellation
    /// Safe: it is only asked again.
    pub(crate) async fn judge<S: GameStore>(
        &mut self,
        store: &S,
        partition: &TopicPartition,
        offset: i64,
        cleaning: Cleaning,
    ) -> Verdict {
        let game = cleaning.game_token;
        if let Some((known, snapshot)) = &self.0
            && *known == game
        {
            return handler::judge(cleaning, Some(snapshot));
        }
        let mut backoff = Backoff::default();
        let snapshot = loop {
            match answered(store.snapshot(game)).await {
                Ok(snapshot) => break snapshot,
                Err(error @ StoreError::Unavailable(_)) => {
                    warn!(%partition, offset, %game, %error, "the partition waits for the state of a game that is over");
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) => return Verdict::DeadLetter(handler::reason(&error)),
            }
        };
        let verdict = handler::judge(cleaning, snapshot.as_ref());
        if !matches!(verdict, Verdict::DeadLetter(_)) {
            self.0 = snapshot.map(|snapshot| (game, snapshot));
        }
        verdict
    }
}

/// Gives the keys of games whose rows are published their expiry.
///
/// # Cancellation
/// Those that it did not come to stay as they are; it can be asked again for all.
pub(crate) async fn clean<S: GameStore>(store: &S, partition: &TopicPartition, games: &[GameToken], expiry: Duration) {
    for game in games {
        let mut backoff = Backoff::default();
        while let Err(error) = answered(store.clean(*game, expiry)).await {
            if !matches!(error, StoreError::Unavailable(_)) {
                warn!(%partition, %game, %error, "a game whose rows are published cannot be cleaned; it stays in the store");
                break;
            }
            warn!(%partition, %game, %error, "a game whose rows are published cannot be cleaned now; trying again");
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

async fn answered<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let silent = || StoreError::Unavailable(format!("no answer within {} ms", STORE_TIMEOUT.as_millis()));
    tokio::time::timeout(STORE_TIMEOUT, asked).await.unwrap_or_else(|_| Err(silent()))
}
