//! The pause between two attempts: doubles up to a cap, so that a broker that comes back is met within a second.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A longer pause would be felt after every restart of a broker; a shorter one would hammer it.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Pauses of one series of attempts.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// How many pauses have been taken since the last success.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next attempt starts a new series.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    fn next_pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.attempts.min(10)).min(MAX_PAUSE);
        self.attempts = self.attempts.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_one_second_and_start_again_after_a_reset() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next_pause(), FIRST_PAUSE);
    }
}
