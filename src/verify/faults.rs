//! All findings of a check, counted, and the first of them in detail.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Fault;

/// So many findings are told in detail; all are counted. A folder that is wrong in one place is mostly wrong in many.
pub const MAX_DETAILS: usize = 100;

/// Every finding, counted by kind, and the first [`MAX_DETAILS`] in detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// All of them.
    total: u64,
    /// By kind; every kind stands here.
    counts: BTreeMap<&'static str, u64>,
    /// The first of them.
    first: Vec<Fault>,
    /// The last one, when it is not among the first: the next may only be its continuation.
    #[serde(skip)]
    last: Option<Fault>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            total: 0,
            counts: Fault::KINDS.into_iter().map(|kind| (kind, 0)).collect(),
            first: Vec::new(),
            last: None,
        }
    }
}

impl Faults {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How many there are. Runs of offsets in one file are one finding.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many there are of a kind, one of [`Fault::KINDS`].
    pub fn count(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or_default()
    }

    /// The kinds that there are, with their counts.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(kind, count)| (*kind, *count)).filter(|(_, count)| *count > 0)
    }

    /// The first [`MAX_DETAILS`].
    pub fn first(&self) -> &[Fault] {
        &self.first
    }

    /// Takes in the findings of another part of the check, after its own.
    pub(crate) fn append(&mut self, other: Self) {
        self.total += other.total;
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        let room = MAX_DETAILS - self.first.len();
        self.first.extend(other.first.into_iter().take(room));
        self.last = None;
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        if self.last.as_mut().or(self.first.last_mut()).is_some_and(|last| last.absorb(&fault)) {
            return;
        }
        self.total += 1;
        *self.counts.entry(fault.kind()).or_default() += 1;
        if self.first.len() < MAX_DETAILS {
            self.first.push(fault);
        } else {
            self.last = Some(fault);
        }
    }
}
