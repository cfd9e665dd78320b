//! Where the cluster is and how long to wait for it.

use std::time::Duration;

use crate::check_topic_name;

/// A connection that is not up by then goes to the next address.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Above the pause of a leader election, below what a person would wait.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach a cluster. Made by [`KafkaConfig::new`], the rest of the crate trusts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port` addresses, at least one.
    pub bootstrap_servers: Vec<String>,
    /// What the brokers log and the group lists us as.
    pub client_id: String,
    /// Bound of one TCP connect, name look-up included.
    pub connect_timeout: Duration,
    /// Bound of one request with its answer.
    pub request_timeout: Duration,
}

impl KafkaConfig {
    /// Parses `host:port[,host:port …]` and takes the default timeouts (connect 5 s, request 10 s).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the address that cannot be used.
    pub fn new(bootstrap_servers: &str, client_id: impl Into<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            bootstrap_servers: parse_bootstrap_servers(bootstrap_servers)?,
            client_id: client_id.into(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
        })
    }

    /// The addresses as one text, for messages.
    pub fn servers(&self) -> String {
        self.bootstrap_servers.join(",")
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The list has no address at all.
    #[error("the list of Kafka bootstrap servers is empty; give host:port[,host:port …]")]
    NoServers,
    /// One address of the list.
    #[error("{value:?} in the list of Kafka bootstrap servers {reason}; give host:port[,host:port …]")]
    Server {
        /// The address as given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A topic's name against Kafka's rule.
    #[error("{name:?} cannot be a topic's name; use 1 to 249 of A-Z a-z 0-9 . _ - (and neither \".\" nor \"..\")")]
    TopicName {
        /// The name as given.
        name: String,
    },
    /// Another setting of this crate's rooms.
    #[error("{setting} = {value} cannot be used: {reason}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it, and what to give instead.
        reason: &'static str,
    },
}

impl ConfigError {
    pub(crate) fn setting(setting: &'static str, value: impl ToString, reason: &'static str) -> Self {
        Self::Setting { setting, value: value.to_string(), reason }
    }
}

/// Parses `host:port[,host:port …]`; an IPv6 address stands in brackets, blanks around an address are ignored.
///
/// # Errors
///
/// [`ConfigError`] names the address that cannot be used.
pub fn parse_bootstrap_servers(list: &str) -> Result<Vec<String>, ConfigError> {
    if list.trim().is_empty() {
        return Err(ConfigError::NoServers);
    }
    let mut servers = Vec::new();
    for value in list.split(',').map(str::trim) {
        // A password that somebody takes for a part of the address is not for a message.
        let shown = || value.rsplit_once('@').map_or_else(|| value.to_owned(), |(_, host)| format!("***@{host}"));
        check_server(value).map_err(|reason| ConfigError::Server { value: shown(), reason })?;
        if !servers.iter().any(|known| known == value) {
            servers.push(value.to_owned());
        }
    }
    Ok(servers)
}

fn check_server(value: &str) -> Result<(), &'static str> {
    if value.contains("://") {
        return Err("names a protocol, which must be left out");
    }
    let (host, port) = value.rsplit_once(':').ok_or("has no port")?;
    if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c == '/') {
        return Err("has no usable host");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("has more than one colon (an IPv6 address stands in brackets)");
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(()),
        _ => Err("has a port that is not a number from 1 to 65535"),
    }
}

pub(crate) fn check_topics(topics: &[String]) -> Result<(), ConfigError> {
    topics.iter().try_for_each(|topic| check_topic_name(topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_addresses_is_taken_in_order_without_blanks_and_repetitions() {
        assert_eq!(
            parse_bootstrap_servers("kafka-1:9092, [::1]:9093,kafka-1:9092 "),
            Ok(vec!["kafka-1:9092".to_owned(), "[::1]:9093".to_owned()])
        );
    }

    #[test]
    fn an_unusable_address_is_named_with_its_reason() {
        for (list, expected) in [
            ("", "list of Kafka bootstrap servers is empty"),
            (" ", "list of Kafka bootstrap servers is empty"),
            ("kafka", "\"kafka\" in the list of Kafka bootstrap servers has no port"),
            ("a:1,,b:2", "\"\" in the list of Kafka bootstrap servers has no port"),
            ("a:0", "\"a:0\" in the list of Kafka bootstrap servers has a port that is not a number from 1 to 65535"),
            ("a:66000", "has a port that is not"),
            ("a:x", "has a port that is not"),
            (":9092", "has no usable host"),
            ("a b:9092", "has no usable host"),
            ("::1:9092", "has more than one colon"),
            ("kafka://a:9092", "names a protocol"),
            ("kafka://user:pass@a:9092", "\"***@a:9092\" in the list"),
            ("user:pass@a:9092", "\"***@a:9092\" in the list of Kafka bootstrap servers has more than one colon"),
        ] {
            let message = parse_bootstrap_servers(list).expect_err(list).to_string();
            assert!(message.contains(expected), "{list:?} gives {message:?}, expected {expected:?}");
        }
    }
}
