//! Lines of the log that clients could cause without end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Such a line is written so often at most.
const EVERY: Duration = Duration::from_secs(1);

/// When a line was written last, and what has happened since.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// It happened `times` times. Whether a line is due: how often it happened before without one.
    pub(crate) fn next(&self, times: u64) -> Option<u64> {
        self.next_at(Instant::now(), times)
    }

    fn next_at(&self, now: Instant, times: u64) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, untold) = &mut *last;
        if at.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            *untold += times;
            return None;
        }
        *at = Some(now);
        Some(std::mem::take(untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_second_tells_what_was_left_out() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        for (milliseconds, times, expected) in
            [(0, 1, Some(0)), (1, 3, None), (999, 2, None), (1000, 1, Some(5)), (1999, 1, None), (2000, 4, Some(1))]
        {
            assert_eq!(
                seldom.next_at(start + Duration::from_millis(milliseconds), times),
                expected,
                "{milliseconds} ms"
            );
        }
    }
}
