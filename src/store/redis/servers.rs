//! Which servers run, so that one that starts learns that the run before did not end in order.

use std::time::Duration;

use fred::interfaces::KeysInterface;
use fred::types::Expiration;

use super::{Redis, of_key, unavailable};
use crate::StoreError;

/// For how long a note outlives its server: whoever brings it back has done so by then.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Redis {
    /// Notes that `run` of `server` has begun, for 30 days; gives the run before if that has not [ended](Self::end_run).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    ///
    /// # Cancellation
    /// The note may be there or not.
    pub async fn begin_run(&self, server: &str, run: &str) -> Result<Option<String>, StoreError> {
        let key = key(server);
        let kept = Some(Expiration::EX(KEPT.as_secs().cast_signed()));
        let before = self.inner.pool.set(key.as_str(), run, kept, None, true).await;
        before.map_err(|error| of_key(&key, "a string", error))
    }

    /// Notes that the run of `server` has ended, with nothing left to do.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    ///
    /// # Cancellation
    /// The note may be there or not.
    pub async fn end_run(&self, server: &str) -> Result<(), StoreError> {
        self.inner.pool.del(key(server)).await.map_err(unavailable)
    }
}

fn key(server: &str) -> String {
    format!("servers:{server}")
}
