//! The offsets that a group has committed. They live until the group or the topic is deleted; no time ends them.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::{GroupLimits, owned};

/// Where a group goes on reading a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    /// −1 if the client told none.
    pub(crate) leader_epoch: i32,
    /// What the client keeps beside the offset.
    pub(crate) metadata: StrBytes,
    pub(crate) committed_at: Instant,
}

/// What is to be committed for one partition.
#[derive(Clone, Debug)]
pub(crate) struct OffsetToCommit {
    pub(crate) topic: StrBytes,
    pub(crate) partition: i32,
    pub(crate) committed: Committed,
}

/// By topic and partition, so that answers and deletions need no search.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    topics: BTreeMap<StrBytes, BTreeMap<i32, Committed>>,
    count: usize,
    bytes: usize,
}

/// What an offset takes in memory beside what is stored with it, and a topic beside its name.
const OFFSET_BYTES: usize = 128;

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn get(&self, topic: &StrBytes, partition: i32) -> Option<&Committed> {
        self.topics.get(topic)?.get(&partition)
    }

    /// What they take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of them, topic by topic.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (&StrBytes, &BTreeMap<i32, Committed>)> {
        self.topics.iter()
    }

    /// Keeps an offset, of which it makes its own copy: what the request holds is a part of the whole frame.
    pub(super) fn commit(
        &mut self,
        limits: &GroupLimits,
        room: usize,
        offset: &OffsetToCommit,
    ) -> Result<(), ResponseError> {
        let committed = &offset.committed;
        if committed.metadata.len() > limits.max_offset_metadata_bytes {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        let known = self.get(&offset.topic, offset.partition).map(|known| known.metadata.len());
        let is_known = known.is_some();
        if !is_known && self.count >= limits.max_offsets_per_group {
            return Err(ResponseError::InvalidCommitOffsetSize);
        }
        let topic = if self.topics.contains_key(&offset.topic) { 0 } else { offset.topic.len() + OFFSET_BYTES };
        let before = self.bytes;
        let after = before - known.map_or(0, |metadata| metadata + OFFSET_BYTES)
            + committed.metadata.len()
            + OFFSET_BYTES
            + topic;
        if after > before && after > room {
            return Err(ResponseError::InvalidCommitOffsetSize);
        }
        self.bytes = after;
        let kept = Committed { metadata: owned(&committed.metadata), ..*committed };
        match self.topics.get_mut(&offset.topic) {
            Some(partitions) => partitions.insert(offset.partition, kept),
            None => self.topics.entry(owned(&offset.topic)).or_default().insert(offset.partition, kept),
        };
        self.count += usize::from(!is_known);
        Ok(())
    }

    pub(super) fn delete(&mut self, topic: &StrBytes, partition: i32) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        if let Some(removed) = partitions.remove(&partition) {
            self.count -= 1;
            self.bytes -= removed.metadata.len() + OFFSET_BYTES;
        }
        if partitions.is_empty() {
            self.topics.remove(topic);
            self.bytes -= topic.len() + OFFSET_BYTES;
        }
    }

    pub(super) fn delete_topic(&mut self, topic: &StrBytes) {
        let Some(partitions) = self.topics.remove(topic) else { return };
        self.count -= partitions.len();
        self.bytes -= partitions.values().map(|removed| removed.metadata.len() + OFFSET_BYTES).sum::<usize>();
        self.bytes -= topic.len() + OFFSET_BYTES;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn offset(topic: &'static str, partition: i32, offset: i64) -> OffsetToCommit {
        let committed =
            Committed { offset, leader_epoch: -1, metadata: StrBytes::default(), committed_at: Instant::now() };
        OffsetToCommit { topic: topic.into(), partition, committed }
    }

    #[test]
    fn the_limit_holds_for_new_partitions_and_room_comes_back() {
        let limits = GroupLimits { max_offsets_per_group: 2, ..GroupLimits::default() };
        let mut offsets = Offsets::default();
        offsets.commit(&limits, usize::MAX, &offset("a", 0, 1)).unwrap();
        offsets.commit(&limits, usize::MAX, &offset("b", 0, 1)).unwrap();
        assert_eq!(
            offsets.commit(&limits, usize::MAX, &offset("b", 1, 1)),
            Err(ResponseError::InvalidCommitOffsetSize)
        );
        offsets.commit(&limits, usize::MAX, &offset("a", 0, 2)).unwrap();
        assert_eq!(offsets.get(&"a".into(), 0).unwrap().offset, 2);
        offsets.delete(&"a".into(), 0);
        offsets.delete(&"a".into(), 0);
        offsets.commit(&limits, usize::MAX, &offset("b", 1, 1)).unwrap();
        offsets.delete_topic(&"b".into());
        assert!(offsets.is_empty() && offsets.topics().next().is_none());
        assert_eq!(offsets.bytes(), 0);
    }
}
