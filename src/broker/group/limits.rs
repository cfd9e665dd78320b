//! What clients may ask of the coordinator.

use std::time::Duration;

/// What a client may ask of the group coordinator, so that none makes it keep or wait without bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// A member with a shorter session is refused. Kafka's default is 6 s, which is long for a run that takes some seconds.
    pub min_session_timeout: Duration,
    /// A member with a longer session is refused: so long would the others wait for one that has gone without a word.
    pub max_session_timeout: Duration,
    /// How many groups are kept, those that have only offsets included.
    pub max_groups: usize,
    /// How many members a group may have, those included that were given an id and have not come back yet.
    pub max_members_per_group: usize,
    /// What a member may say of itself with JoinGroup, and what its leader may assign to it, in bytes each.
    pub max_member_metadata_bytes: usize,
    /// Of how many partitions a group may keep offsets. They live until the group or the topic is deleted.
    pub max_offsets_per_group: usize,
    /// What a client may store beside an offset, as Kafka's `offset.metadata.max.bytes`.
    pub max_offset_metadata_bytes: usize,
    /// What all groups may take in memory, in bytes: what members say of themselves and are assigned, and offsets with what is stored
    /// beside them.
    pub max_bytes: usize,
    /// How long the first rebalance of an empty group waits for further members, as Kafka's
    /// `group.initial.rebalance.delay.ms`; zero does not wait.
    pub initial_rebalance_delay: Duration,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            min_session_timeout: Duration::from_secs(1),
            max_session_timeout: Duration::from_secs(30 * 60),
            max_groups: 1_000,
            max_members_per_group: 500,
            max_member_metadata_bytes: 1 << 20,
            max_offsets_per_group: 10_000,
            max_offset_metadata_bytes: 4096,
            max_bytes: 64 * 1024 * 1024,
            initial_rebalance_delay: Duration::ZERO,
        }
    }
}
