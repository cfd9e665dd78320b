//! The roster as this process last read it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::clients::Pool;
use fred::interfaces::HashesInterface;
use tokio::time::{Instant, timeout};

use super::of_key;
use crate::StoreError;
use crate::roster::{Roster, read_fighter};

/// The hash that holds the roster.
pub(super) const KEY: &str = "superheros";

/// How old the roster that seats are drawn from may be: another process may have loaded a new one since.
const STALENESS: Duration = Duration::from_secs(5);

/// A roster is hundreds of heroes, so it is read every few seconds at most, and by one call at a time; the others draw
/// from the old one meanwhile, where there is one.
#[derive(Debug, Default)]
pub(super) struct Heroes {
    known: Mutex<Option<Known>>,
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Known {
    read_at: Instant,
    roster: Arc<Roster>,
}

impl Heroes {
    /// What to draw from. Waits for another call's reading no longer than `patience`.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] for a hero that cannot fight, [`StoreError::Unavailable`].
    pub(super) async fn roster(&self, pool: &Pool, patience: Duration) -> Result<Arc<Roster>, StoreError> {
        let known = self.known();
        let reading = match &known {
            Some(known) if known.read_at.elapsed() < STALENESS => return Ok(known.roster.clone()),
            Some(known) => match self.reading.try_lock() {
                Ok(reading) => reading,
                Err(_) => return Ok(known.roster.clone()),
            },
            None => timeout(patience, self.reading.lock())
                .await
                .map_err(|_| StoreError::Unavailable("the heroes were not read in time".to_owned()))?,
        };
        // Another call may have read it while this one waited.
        if let Some(known) = self.known()
            && known.read_at.elapsed() < STALENESS
        {
            return Ok(known.roster);
        }
        let read_at = Instant::now();
        let roster = Arc::new(read(pool).await?);
        *self.lock() = Some(Known { read_at, roster: roster.clone() });
        drop(reading);
        Ok(roster)
    }

    /// Forgets the roster: this process has loaded another.
    pub(super) async fn forget(&self) {
        // A reading under way may have seen the old one, and would keep it.
        let _reading = self.reading.lock().await;
        *self.lock() = None;
    }

    fn known(&self) -> Option<Known> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().expect("no code panics while it holds the roster")
    }
}

async fn read(pool: &Pool) -> Result<Roster, StoreError> {
    let hash: Vec<(String, String)> = pool.hgetall(KEY).await.map_err(|error| of_key(KEY, "a hash", error))?;
    if hash.is_empty() {
        return Ok(Roster::built_in());
    }
    Roster::new(hash.iter().map(|(id, json)| read_fighter(id, json)).collect::<Result<_, _>>()?)
}
