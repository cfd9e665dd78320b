//! The pauses between failures, and the end of the patience.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Choices;

/// Pauses that double from one failure to the next, until something succeeds or the patience ends.
#[derive(Debug)]
pub(crate) struct Retry {
    choices: Choices,
    first_pause: Duration,
    longest_pause: Duration,
    patience: Duration,
    /// Of all failures, so that no two pauses are cut alike.
    failures: u64,
    /// The failures since the last success, and when the first of them was.
    streak: Option<(u32, Instant)>,
}

impl Retry {
    pub(crate) fn new(choices: Choices, first_pause: Duration, longest_pause: Duration, patience: Duration) -> Self {
        Self { choices, first_pause, longest_pause, patience, failures: 0, streak: None }
    }

    /// Something succeeded: the next failure is the first again.
    pub(crate) fn succeeded(&mut self) {
        self.streak = None;
    }

    /// Waits after a failure; `false`, at once, when the patience has ended.
    pub(crate) async fn pause(&mut self) -> bool {
        let (streak, since) = self.streak.unwrap_or_else(|| (0, Instant::now()));
        if since.elapsed() >= self.patience {
            return false;
        }
        let whole = self.first_pause.saturating_mul(2u32.saturating_pow(streak)).min(self.longest_pause);
        let pause = whole.mul_f64(self.choices.pause(self.failures));
        self.failures += 1;
        self.streak = Some((streak + 1, since));
        sleep(pause.min(self.patience.saturating_sub(since.elapsed()))).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest_and_end_with_the_patience() {
        let mut retry = Retry::new(Choices::new(1, 0), FIRST, LONGEST, PATIENCE);
        let start = Instant::now();
        let mut pauses = Vec::new();
        loop {
            let before = Instant::now();
            if !retry.pause().await {
                break;
            }
            pauses.push(before.elapsed());
        }
        // tokio's timer counts milliseconds, and rounds up.
        let tick = Duration::from_millis(1);
        assert!(start.elapsed() >= PATIENCE && start.elapsed() <= PATIENCE + 2 * tick, "{:?}", start.elapsed());
        for (at, pause) in pauses[..pauses.len() - 1].iter().enumerate() {
            let whole = FIRST.saturating_mul(1 << at.min(10)).min(LONGEST);
            assert!(*pause >= whole / 2 && *pause <= whole + tick, "pause {at} is {pause:?} of {whole:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_makes_the_next_failure_the_first() {
        let mut retry = Retry::new(Choices::new(1, 0), FIRST, LONGEST, PATIENCE);
        while retry.pause().await {}
        retry.succeeded();
        let before = Instant::now();
        assert!(retry.pause().await);
        assert!(before.elapsed() <= FIRST + Duration::from_millis(1));
    }
}
