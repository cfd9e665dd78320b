//! Settings of a membership, and their limits.

use std::time::Duration;

use super::Assignor;
use crate::ConfigError;
use crate::config::check_topics;

/// Short enough that a killed worker's partitions have a new owner within five seconds: this, the survivors' heartbeat
/// interval, and a rejoin. Brokers refuse it below `group.min.session.timeout.ms`; then [`BROKER_MIN_SESSION`] is taken.
const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(4);
/// Kafka's default of `group.min.session.timeout.ms`.
pub(super) const BROKER_MIN_SESSION: Duration = Duration::from_secs(6);
const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// What an owner has for sealing and committing; also what the others wait for a member that hangs.
const DEFAULT_REBALANCE_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_METADATA_MAX_AGE: Duration = Duration::from_secs(30);

/// How to be a member. Made by [`GroupConfig::new`]; checked when a member joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// The group's name.
    pub group_id: String,
    /// The topics to take partitions of.
    pub topics: Vec<String>,
    /// Makes the member static: with the same id it gets its partitions back when it returns within the session timeout
    /// (so give that more than a restart takes), and it does not leave when closed.
    pub instance_id: Option<String>,
    /// In order of preference; all members of a group must share one.
    pub assignors: Vec<Assignor>,
    /// A member that is silent for so long is dead. Default 4 s; 6 s where the broker allows no less.
    pub session_timeout: Duration,
    /// Default 0.5 s; at most a third of the session timeout, so that one lost heartbeat does no harm.
    pub heartbeat_interval: Duration,
    /// How long a rebalance waits for a member to give its partitions back. Default 30 s.
    pub rebalance_timeout: Duration,
    /// How often the group's leader looks for new partitions. Default 30 s.
    pub metadata_max_age: Duration,
}

impl GroupConfig {
    /// A dynamic member of `group_id` that takes partitions of `topics` by `range` or `roundrobin`.
    pub fn new(group_id: impl Into<String>, topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            group_id: group_id.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            instance_id: None,
            assignors: vec![Assignor::Range, Assignor::RoundRobin],
            session_timeout: DEFAULT_SESSION_TIMEOUT,
            heartbeat_interval: DEFAULT_HEARTBEAT_INTERVAL,
            rebalance_timeout: DEFAULT_REBALANCE_TIMEOUT,
            metadata_max_age: DEFAULT_METADATA_MAX_AGE,
        }
    }

    /// Looks for values that the protocol or the group would refuse.
    ///
    /// # Errors
    /// Names the setting, its value, and what is wrong with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |setting, value: String, reason| Err(ConfigError::setting(setting, value, reason));
        let millis = |duration: Duration| format!("{} ms", duration.as_millis());
        if self.group_id.is_empty() {
            return wrong("group", String::new(), "a group needs a name");
        }
        if self.topics.is_empty() {
            return wrong("topics", String::new(), "a member needs at least one topic");
        }
        check_topics(&self.topics)?;
        if self.instance_id.as_deref() == Some("") {
            return wrong("group instance id", String::new(), "leave it out for a dynamic member");
        }
        if self.assignors.is_empty() {
            return wrong("assignors", String::new(), "give range or roundrobin");
        }
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval * 3 > self.session_timeout {
            let value = millis(self.heartbeat_interval);
            return wrong("heartbeat interval", value, "it must be above 0 and at most a third of the session timeout");
        }
        if self.rebalance_timeout < self.heartbeat_interval * 2 {
            let value = millis(self.rebalance_timeout);
            return wrong("rebalance timeout", value, "it must be at least two heartbeat intervals");
        }
        // The protocol carries both as a 32-bit number of milliseconds.
        for (setting, value) in
            [("session timeout", self.session_timeout), ("rebalance timeout", self.rebalance_timeout)]
        {
            if i32::try_from(value.as_millis()).is_err() {
                return wrong(setting, millis(value), "it must be below 24 days");
            }
        }
        if self.metadata_max_age.is_zero() {
            return wrong("metadata max age", millis(self.metadata_max_age), "it must be above 0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used() {
        assert_eq!(GroupConfig::new("superhero_sim", ["lib.server.game"]).check(), Ok(()));
    }

    #[test]
    fn an_unusable_setting_is_named_with_its_value() {
        type Change = fn(&mut GroupConfig);
        let cases: [(Change, &str); 8] = [
            (|c| c.group_id.clear(), "group = "),
            (|c| c.topics.clear(), "topics = "),
            (|c| c.topics.push("a b".into()), "\"a b\""),
            (|c| c.instance_id = Some(String::new()), "group instance id = "),
            (|c| c.assignors.clear(), "assignors = "),
            (|c| c.heartbeat_interval = Duration::from_secs(2), "heartbeat interval = 2000 ms"),
            (|c| c.rebalance_timeout = Duration::from_millis(1), "rebalance timeout = 1 ms"),
            (|c| c.session_timeout = Duration::from_secs(1 << 40), "session timeout = "),
        ];
        for (change, expected) in cases {
            let mut config = GroupConfig::new("g", ["t"]);
            change(&mut config);
            let message = config.check().expect_err(expected).to_string();
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }
}
