//! What a worker has done, counted when it is published for good.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a run has published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records archived.
    pub records: u64,
    /// Records left out because their producer and sequence number had been seen before.
    pub duplicates: u64,
    /// Records that producers have numbered and that never came; an upper bound, see [`superhero_sink::Verdict::Gap`].
    pub missing: u64,
    /// Records that the brokers deleted before they were read.
    pub lost: u64,
    /// Records in batches that cannot be read, by the batches' headers.
    pub unreadable: u64,
    /// Records kept among the dead letters.
    pub dead_letters: u64,
    /// Records whose timestamp is no plausible time, and null in their rows.
    pub undated: u64,
    /// Games in the tables.
    pub games: u64,
    /// Rows over all tables.
    pub rows: u64,
    /// Files over all tables.
    pub files: u64,
}

impl Summary {
    fn counts(&mut self) -> [&mut u64; 10] {
        let Self { records, duplicates, missing, lost, unreadable, dead_letters, undated, games, rows, files } = self;
        [records, duplicates, missing, lost, unreadable, dead_letters, undated, games, rows, files]
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, duplicates, missing, lost, unreadable, dead_letters, undated, games, rows, files } = self;
        write!(
            f,
            "{records} records ({dead_letters} of them dead letters, {undated} without a plausible timestamp) and {games} games in {rows} rows of {files} files; \
             {duplicates} duplicates left out, {missing} records missing, {lost} lost at the broker, {unreadable} lost in batches that cannot be read"
        )
    }
}

/// The sum over all partitions.
#[derive(Debug, Default)]
pub(crate) struct Totals([AtomicU64; 10]);

impl Totals {
    /// Adds what one segment held.
    pub(crate) fn add(&self, mut segment: Summary) {
        for (total, count) in self.0.iter().zip(segment.counts()) {
            total.fetch_add(*count, Ordering::Relaxed);
        }
    }

    /// The sum so far.
    pub(crate) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (total, count) in self.0.iter().zip(summary.counts()) {
            *count = total.load(Ordering::Relaxed);
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_the_sum_of_their_segments() {
        let totals = Totals::default();
        let segment = Summary { records: 5, rows: 7, files: 2, ..Summary::default() };
        totals.add(segment);
        totals.add(Summary { duplicates: 1, lost: 3, ..segment });
        let expected = Summary { records: 10, rows: 14, files: 4, duplicates: 1, lost: 3, ..Summary::default() };
        assert_eq!(totals.summary(), expected);
        assert!(expected.to_string().contains("10 records") && expected.to_string().contains("4 files"));
    }
}
