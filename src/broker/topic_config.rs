//! The configuration of a topic.
//!
//! Three entries are heeded: `retention.bytes`, `segment.bytes` and `max.message.bytes`. Every other is kept and told again, and
//! has no effect: nothing is compacted, nothing goes because of its age, and nothing is ever written to a disk.

use std::collections::BTreeMap;

use crate::BrokerConfig;
use crate::log::Limits;
use crate::topics::TopicError;

pub(crate) const RETENTION_BYTES: &str = "retention.bytes";
pub(crate) const SEGMENT_BYTES: &str = "segment.bytes";
pub(crate) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// Kafka has some forty; more is no configuration but a way to take memory.
const MAX_ENTRIES: usize = 100;
/// Of a name and of a value, in bytes: the longest that mean something are lists of replicas.
const MAX_ENTRY_BYTES: usize = 1024;

/// Of all names and values of a topic together, in bytes.
const MAX_CONFIG_BYTES: usize = 4096;

/// What was set for a topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicConfig {
    entries: BTreeMap<String, String>,
}

impl TopicConfig {
    /// Sets an entry.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), TopicError> {
        if name.is_empty() || name.len() > MAX_ENTRY_BYTES || value.len() > MAX_ENTRY_BYTES {
            let reason = format!("names and values have 1 to {MAX_ENTRY_BYTES} bytes");
            return Err(TopicError::Config { name: name.chars().take(100).collect(), reason });
        }
        let lowest = match name {
            RETENTION_BYTES => Some(-1),
            SEGMENT_BYTES | MAX_MESSAGE_BYTES => Some(1),
            _ => None,
        };
        if lowest.is_some_and(|lowest| value.trim().parse::<i64>().ok().is_none_or(|value| value < lowest)) {
            let reason = format!("{value:?} is no number of bytes");
            return Err(TopicError::Config { name: name.to_owned(), reason });
        }
        if self.entries.len() == MAX_ENTRIES && !self.entries.contains_key(name) {
            let reason = format!("a topic has {MAX_ENTRIES} entries at most");
            return Err(TopicError::Config { name: name.to_owned(), reason });
        }
        let others = self.entries.iter().filter(|(other, _)| *other != name);
        let others: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        if others + name.len() + value.len() > MAX_CONFIG_BYTES {
            let reason = format!("a topic's names and values have {MAX_CONFIG_BYTES} bytes together at most");
            return Err(TopicError::Config { name: name.to_owned(), reason });
        }
        self.entries.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Takes an entry back.
    pub(crate) fn unset(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Whether this entry was set for the topic.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Everything that holds for the topic, by name.
    pub(crate) fn all(&self, broker: &BrokerConfig) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            (RETENTION_BYTES.to_owned(), broker.retention_bytes.to_string()),
            (SEGMENT_BYTES.to_owned(), broker.segment_bytes.to_string()),
            (MAX_MESSAGE_BYTES.to_owned(), broker.max_batch_bytes.to_string()),
            // What clients look at to learn what a topic does with its records.
            ("cleanup.policy".to_owned(), "delete".to_owned()),
            ("retention.ms".to_owned(), "-1".to_owned()),
            ("message.timestamp.type".to_owned(), "CreateTime".to_owned()),
            ("min.insync.replicas".to_owned(), "1".to_owned()),
        ]);
        all.extend(self.entries.clone());
        all
    }

    /// What the topic's logs may take.
    pub(crate) fn limits(&self, broker: &BrokerConfig) -> Limits {
        // Unlimited, -1, means what the broker allows.
        let bytes = |name, otherwise| {
            let value = self.entries.get(name).and_then(|value| value.trim().parse().ok());
            value.unwrap_or(otherwise)
        };
        Limits {
            retention_bytes: bytes(RETENTION_BYTES, broker.retention_bytes),
            segment_bytes: bytes(SEGMENT_BYTES, broker.segment_bytes),
            max_batch_bytes: bytes(MAX_MESSAGE_BYTES, broker.max_batch_bytes),
        }
    }
}
