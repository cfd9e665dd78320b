//! Which batches of an answer belong to transactions that were aborted, as Kafka's own consumers find out.

use kafka_protocol::messages::fetch_response::AbortedTransaction;

use super::batch::Batch;

/// The aborted transactions of an answer.
#[derive(Debug, Default)]
pub(super) struct Aborted {
    /// Those that are still to begin: first offset and producer, the first of them last.
    ahead: Vec<(i64, i64)>,
    /// The producers of those that are not over.
    present: Vec<i64>,
}

impl Aborted {
    pub(super) fn new(told: Vec<AbortedTransaction>) -> Self {
        let mut ahead: Vec<_> = told.iter().map(|aborted| (aborted.first_offset, aborted.producer_id.0)).collect();
        ahead.sort_unstable_by(|one, other| other.cmp(one));
        Self { ahead, present: Vec::new() }
    }

    /// Whether a batch belongs to one of them, or is a mark. To be asked of each batch, in their order.
    pub(super) fn leaves_out(&mut self, batch: &Batch) -> bool {
        while let Some((_, producer)) = self.ahead.pop_if(|(first, _)| *first < batch.next) {
            if !self.present.contains(&producer) {
                self.present.push(producer);
            }
        }
        let producer = batch.transaction();
        match batch.mark() {
            Some(true) => {
                self.present.retain(|present| Some(*present) != producer);
                true
            }
            Some(false) => true,
            None => producer.is_some_and(|producer| self.present.contains(&producer)),
        }
    }
}
