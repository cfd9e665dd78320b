//! The dead letters beside the raw rows: each of a record that cannot be used, and each such record among them.

use std::collections::BTreeSet;
use std::sync::Arc;

use superhero_sink::{PartitionId, Table};

use crate::coverage::Late;
use crate::envelope::{self, Kind};
use crate::lane::{Ahead, Lane};
use crate::row::{DeadRow, RawRow, TableRow};
use crate::survey::Survey;
use crate::{Fault, Verification, VerifyError};

/// Records whose dead letter may still come, out of order; beyond so many the oldest is told.
const MAX_AWAITED: usize = 65_536;

/// The dead letters of one partition.
pub(crate) struct DeadLetters {
    lane: Lane<DeadRow>,
    topic: String,
    partition: i32,
    /// Offsets of bad records without one.
    awaited: BTreeSet<i64>,
}

impl DeadLetters {
    pub(crate) fn open(
        survey: &Arc<Survey>,
        partition: &PartitionId,
        found: &mut Verification,
    ) -> Result<Self, VerifyError> {
        Ok(Self {
            lane: Lane::open(survey, partition, found)?,
            topic: partition.topic().to_owned(),
            partition: partition.partition(),
            awaited: BTreeSet::new(),
        })
    }

    /// Takes the next raw row. Returns whether its record is among the dead letters, or may be.
    pub(crate) fn meet(&mut self, row: &RawRow<'_>, kind: Kind, found: &mut Verification) -> Result<bool, VerifyError> {
        // Reading on may bring the sight back, but not to what lies before.
        let mut is_blind = self.lane.is_blind();
        while let Some(Ahead { row: dead, late, path }) = self.lane.up_to(row.offset).cloned() {
            match late {
                Some(Late::Duplicate) => {}
                Some(Late::Inversion) => {
                    self.awaited.remove(&dead.offset());
                }
                None if dead.offset() < row.offset => {
                    self.orphan(dead.offset(), &path, "the raw table has no row there", found);
                }
                None => {
                    if dead.fingerprint != row.fingerprint() {
                        self.orphan(row.offset, &path, "the raw table has another record there", found);
                    } else if self.is_in_order(row) {
                        self.orphan(row.offset, &path, "nothing is wrong with the record there", found);
                    }
                    self.lane.advance(found)?;
                    return Ok(true);
                }
            }
            self.lane.advance(found)?;
            is_blind |= self.lane.is_blind();
        }
        if kind == Kind::Bad && !is_blind {
            self.awaited.insert(row.offset);
            if self.awaited.len() > MAX_AWAITED
                && let Some(offset) = self.awaited.pop_first()
            {
                self.tell(offset, found);
            }
        }
        Ok(is_blind)
    }

    /// Tells of all that was not met.
    pub(crate) fn finish(mut self, found: &mut Verification) -> Result<(), VerifyError> {
        while let Some(Ahead { row, late, path }) = self.lane.up_to(i64::MAX).cloned() {
            match late {
                Some(Late::Duplicate) => {}
                Some(Late::Inversion) => {
                    self.awaited.remove(&row.offset());
                }
                None => self.orphan(row.offset(), &path, "the raw table has no row there", found),
            }
            self.lane.advance(found)?;
        }
        for offset in &self.awaited {
            self.tell(*offset, found);
        }
        Ok(())
    }

    /// The end of a game may be a dead letter for what the store says.
    fn is_in_order(&self, row: &RawRow<'_>) -> bool {
        let event = envelope::read_whole(row.value().as_deref(), envelope::makes_tables(&self.topic));
        matches!(event.kind, Kind::Plain | Kind::HeroSelected | Kind::TimedOut)
    }

    fn tell(&self, offset: i64, found: &mut Verification) {
        found.faults.push(Fault::NoDeadLetter { topic: self.topic.clone(), partition: self.partition, offset });
    }

    fn orphan(&self, offset: i64, path: &std::path::Path, reason: &str, found: &mut Verification) {
        found.faults.push(Fault::Orphan {
            table: Table::Dead.name(),
            topic: self.topic.clone(),
            partition: self.partition,
            offset,
            path: path.to_owned(),
            reason: reason.to_owned(),
        });
    }
}
