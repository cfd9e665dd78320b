//! Which offsets of a partition have a row, told by the gaps between them.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Gaps remembered of a partition, the latest ones: some 3 MiB. A row that comes later than that is told as a
/// repetition even if it had no place yet, and what is said of older gaps is final.
pub(crate) const MAX_GAPS: usize = 32_768;

/// What is known of a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing explains it.
    Unexplained,
    /// Only repetitions were left out, if each of these producers goes on with its numbers. The others have done so.
    Awaiting(Vec<u128>),
    /// Only repetitions were left out, as the producers' numbers show.
    Repetitions,
    /// There is no doubt.
    Known(Known),
}

/// What the topic tells of offsets, or a finding that was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Records that should have rows.
    Lost,
    /// Records that repeat others.
    Repetitions,
    /// There never were records.
    Holes,
    /// There may have been records that were compacted away, of whoever's.
    Compacted,
    /// What is wrong there is told already.
    Told,
}

/// Offsets without rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) offsets: Range<i64>,
    pub(crate) verdict: Verdict,
    /// The file of the row after it.
    pub(crate) before: Option<Arc<Path>>,
}

/// What a row is that comes after higher offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// Its offset has a row.
    Duplicate,
    /// Its offset had none.
    Inversion,
}

/// The offsets of one partition from 0 on.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    next: i64,
    gaps: VecDeque<Gap>,
    /// Offsets of which nobody knows whose record stood there.
    unknown: u64,
}

impl Coverage {
    /// The offset after the highest that was passed.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// How many offsets were passed without anybody knowing whose record stood there.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Passes an offset that has a row.
    pub(crate) fn pass(&mut self, offset: i64) {
        debug_assert!(offset >= self.next);
        self.next = offset + 1;
    }

    /// Passes offsets that have none, up to `end`. Returns the gap that is too old to be remembered.
    pub(crate) fn leave_out(&mut self, end: i64, verdict: Verdict, before: Option<&Arc<Path>>) -> Option<Gap> {
        let offsets = self.next..end;
        self.next = end;
        if !matches!(verdict, Verdict::Known(Known::Lost | Known::Repetitions | Known::Holes)) {
            self.unknown += offsets.end.abs_diff(offsets.start);
        }
        match self.gaps.back_mut() {
            Some(last)
                if last.offsets.end == offsets.start && last.verdict == verdict && last.before.as_ref() == before =>
            {
                last.offsets.end = offsets.end;
            }
            _ => self.gaps.push_back(Gap { offsets, verdict, before: before.cloned() }),
        }
        if self.gaps.len() > MAX_GAPS { self.gaps.pop_front() } else { None }
    }

    /// Takes a row that comes after higher offsets.
    pub(crate) fn late(&mut self, offset: i64) -> Late {
        let at = self.gaps.partition_point(|gap| gap.offsets.end <= offset);
        let Some(gap) = self.gaps.get_mut(at).filter(|gap| gap.offsets.contains(&offset)) else {
            return Late::Duplicate;
        };
        let after = Gap { offsets: offset + 1..gap.offsets.end, ..gap.clone() };
        gap.offsets.end = offset;
        if gap.offsets.is_empty() {
            self.gaps.remove(at);
        }
        // At most one more than there were, which the next one that is left out makes good.
        if !after.offsets.is_empty() {
            let at = self.gaps.partition_point(|gap| gap.offsets.end <= offset);
            self.gaps.insert(at, after);
        }
        Late::Inversion
    }

    /// Where the unexplained gap begins that ends right before `offset`.
    pub(crate) fn unexplained_before(&self, offset: i64) -> Option<i64> {
        let last = self.gaps.back().filter(|gap| gap.offsets.end == offset && gap.verdict == Verdict::Unexplained);
        last.map(|gap| gap.offsets.start)
    }

    /// Says that the latest gap holds only repetitions if these producers go on.
    pub(crate) fn await_producers(&mut self, producers: Vec<u128>) {
        if let Some(gap) = self.gaps.back_mut() {
            gap.verdict = if producers.is_empty() { Verdict::Repetitions } else { Verdict::Awaiting(producers) };
        }
    }

    /// A producer whose last row stood at `since` went on with its numbers.
    pub(crate) fn prove(&mut self, producer: u128, since: i64) {
        for gap in self.gaps.iter_mut().rev().take_while(|gap| gap.offsets.start > since) {
            if let Verdict::Awaiting(awaited) = &mut gap.verdict {
                awaited.retain(|awaited| *awaited != producer);
                if awaited.is_empty() {
                    gap.verdict = Verdict::Repetitions;
                }
            }
        }
    }

    /// A producer whose last row stood at `since` lacks records: any gap from there on may be where they stood.
    pub(crate) fn doubt(&mut self, since: i64) {
        for gap in self.gaps.iter_mut().rev().take_while(|gap| gap.offsets.start > since) {
            if !matches!(gap.verdict, Verdict::Known(_)) {
                gap.verdict = Verdict::Unexplained;
            }
        }
    }

    /// The gaps that are left, each to be asked for once.
    pub(crate) fn take_gaps(&mut self) -> VecDeque<Gap> {
        std::mem::take(&mut self.gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(offsets: &[i64]) -> Coverage {
        let mut coverage = Coverage::default();
        for offset in offsets {
            if *offset > coverage.next() {
                coverage.leave_out(*offset, Verdict::Unexplained, None);
            }
            coverage.pass(*offset);
        }
        coverage
    }

    fn gaps(coverage: &mut Coverage) -> Vec<Range<i64>> {
        coverage.take_gaps().into_iter().map(|gap| gap.offsets).collect()
    }

    #[test]
    fn what_is_late_is_a_repetition_or_fills_a_gap() {
        let mut coverage = passed(&[0, 1, 5, 9]);
        for (offset, expected) in [
            (1, Late::Duplicate),
            (3, Late::Inversion),
            (3, Late::Duplicate),
            (9, Late::Duplicate),
            (2, Late::Inversion),
            (6, Late::Inversion),
            (8, Late::Inversion),
        ] {
            assert_eq!(coverage.late(offset), expected, "{offset}");
        }
        assert_eq!(gaps(&mut coverage), [4..5, 7..8]);
    }

    #[test]
    fn gaps_are_forgotten_from_the_oldest_on() {
        let mut coverage = Coverage::default();
        for offset in 0..MAX_GAPS as i64 {
            coverage.pass(2 * offset);
            assert_eq!(coverage.leave_out(2 * offset + 2, Verdict::Known(Known::Told), None), None);
        }
        coverage.pass(coverage.next());
        let forgotten = coverage.leave_out(coverage.next() + 1, Verdict::Unexplained, None);
        assert_eq!(forgotten.map(|gap| gap.offsets), Some(1..2));
        assert_eq!(coverage.late(1), Late::Duplicate);
        assert_eq!(coverage.late(3), Late::Inversion);
    }

    #[test]
    fn gaps_side_by_side_are_one_if_they_are_alike() {
        let mut coverage = Coverage::default();
        for (end, known) in [(1, Known::Lost), (2, Known::Lost), (3, Known::Holes), (4, Known::Lost)] {
            coverage.leave_out(end, Verdict::Known(known), None);
        }
        assert_eq!(coverage.unknown(), 0);
        assert_eq!(gaps(&mut coverage), [0..2, 2..3, 3..4]);
    }

    #[test]
    fn a_gap_is_proven_by_all_around_it_and_doubted_by_anyone_who_lacks_records() {
        let verdicts = |coverage: &Coverage| coverage.gaps.iter().map(|gap| gap.verdict.clone()).collect::<Vec<_>>();
        let mut coverage = passed(&[0, 2]);
        coverage.leave_out(4, Verdict::Unexplained, None);
        coverage.await_producers(vec![7, 9]);
        coverage.pass(4);
        assert_eq!(coverage.unknown(), 2);
        coverage.prove(8, 2);
        coverage.prove(9, 2);
        assert_eq!(verdicts(&coverage), [Verdict::Unexplained, Verdict::Awaiting(vec![7])]);
        coverage.prove(7, 2);
        assert_eq!(verdicts(&coverage), [Verdict::Unexplained, Verdict::Repetitions]);
        coverage.doubt(3);
        assert_eq!(verdicts(&coverage), [Verdict::Unexplained, Verdict::Repetitions], "it stood before the gap");
        coverage.doubt(1);
        assert_eq!(verdicts(&coverage), [Verdict::Unexplained, Verdict::Unexplained]);
    }
}
