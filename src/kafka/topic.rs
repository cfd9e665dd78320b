//! Names of topics and of their partitions.

use std::fmt;

use crate::ConfigError;

/// Kafka refuses longer names, since a partition's folder must fit into a file name.
const MAX_TOPIC_NAME_BYTES: usize = 249;

/// One partition of one topic; ordered by topic, then by number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names the partition `partition` of `topic`.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Checks a topic's name by Kafka's rule: 1 to 249 of `A-Z a-z 0-9 . _ -`, and neither `.` nor `..`.
///
/// # Errors
///
/// [`ConfigError::TopicName`] names the value.
pub fn check_topic_name(name: &str) -> Result<(), ConfigError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=MAX_TOPIC_NAME_BYTES).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal) {
        Ok(())
    } else {
        Err(ConfigError::TopicName { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for name in ["lib.server.game", "a", "A_b-0", "...", &"x".repeat(249)] {
            assert!(check_topic_name(name).is_ok(), "{name} is legal");
        }
        for name in ["", ".", "..", "a b", "a/b", "é", &"x".repeat(250)] {
            assert!(check_topic_name(name).is_err(), "{name} is illegal");
        }
    }
}
