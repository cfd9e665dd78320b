//! Patience with a store that does not answer for a while.

use std::future::Future;
use std::time::Duration;

use superhero_store::StoreError;
use tokio::time::{Instant, sleep};

/// A blip of the store is over before anybody notices.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Long enough for thousands of games not to be the reason why the store stays away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Calls again while the store is not available, for as long as `patience` allows, with growing pauses; `call` has to be
/// one that a repetition does no harm to. Any other result is given back at once.
///
/// # Cancellation
/// Leaves open whether the last call took effect.
pub(crate) async fn persistently<T, C, F>(patience: Duration, mut call: C) -> Result<T, StoreError>
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, StoreError>>,
{
    let until = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        match call().await {
            Err(StoreError::Unavailable(reason)) if Instant::now() + pause < until => {
                tracing::debug!(reason, pause_ms = pause.as_millis(), "the store is not available, trying again");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> StoreError {
        StoreError::Unavailable("as the test wants it".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_back_within_the_patience_is_waited_for() {
        let mut calls = 0;
        let answer = persistently(Duration::from_secs(5), || {
            calls += 1;
            let answer = if calls < 4 { Err(away()) } else { Ok(calls) };
            async { answer }
        });
        assert!(matches!(answer.await, Ok(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_in_time() {
        let start = Instant::now();
        let answer: Result<(), _> = persistently(Duration::from_secs(5), || async { Err(away()) }).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        assert!(start.elapsed() <= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_outage_is_not_tried_again() {
        let mut calls = 0;
        let answer: Result<(), _> = persistently(Duration::from_secs(5), || {
            calls += 1;
            async { Err(StoreError::NoHeroes) }
        })
        .await;
        assert!(matches!(answer, Err(StoreError::NoHeroes)));
        assert_eq!(calls, 1);
    }
}
