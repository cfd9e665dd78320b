//! Where Redis is, and how its client is set up.

use std::fmt;
use std::time::Duration;

use fred::types::Builder;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, ServerConfig, UnresponsiveConfig,
};

/// The longest that one attempt to connect takes.
pub(super) const CONNECT_ATTEMPT: Duration = Duration::from_secs(2);

/// The longest pause between two attempts to connect again, so that the games go on soon after Redis is back.
const RECONNECT_PAUSE_MAX_MS: u32 = 1000;

/// The shortest such pause; it doubles.
const RECONNECT_PAUSE_MIN_MS: u32 = 50;

/// Commands that wait for a connection; beyond these a call fails at once. Far more than the sessions of one server.
const COMMANDS_QUEUED: usize = 16_384;

/// Where Redis is and how it is used.
#[derive(Clone)]
pub struct RedisConfig {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Number of the database.
    pub database: u8,
    /// The ACL user; none is the default one.
    pub username: Option<String>,
    /// The user's password, where it has one.
    pub password: Option<String>,
    /// Connections for commands; one more is for the events.
    pub connections: usize,
    /// The longest that a command waits for its answer, the time of a reconnection included; a method of the store takes
    /// three times as long at most, and mostly is one command. A connection that has not answered for half of it is given
    /// up and made anew, so that a command can still succeed on the next.
    pub command_timeout: Duration,
}

impl RedisConfig {
    /// The usual settings for a Redis at this place.
    pub fn new(host: impl Into<String>, port: u16, database: u8) -> Self {
        Self {
            host: host.into(),
            port,
            database,
            username: None,
            password: None,
            connections: 2,
            command_timeout: Duration::from_secs(4),
        }
    }

    /// `host:port`, for messages; an IPv6 address in brackets.
    pub fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    pub(super) fn builder(&self) -> Builder {
        let mut policy = ReconnectPolicy::new_exponential(0, RECONNECT_PAUSE_MIN_MS, RECONNECT_PAUSE_MAX_MS, 2);
        policy.set_jitter(RECONNECT_PAUSE_MIN_MS);
        let mut builder = Builder::from_config(Config {
            server: ServerConfig::new_centralized(self.host.clone(), self.port),
            database: Some(self.database),
            username: self.username.clone(),
            // A user without a password takes any, and is not told of otherwise.
            password: self.password.clone().or_else(|| self.username.as_ref().map(|_| String::new())),
            ..Config::default()
        });
        builder.set_policy(policy);
        builder.set_performance_config(PerformanceConfig {
            default_command_timeout: self.command_timeout,
            ..PerformanceConfig::default()
        });
        builder.set_connection_config(ConnectionConfig {
            connection_timeout: CONNECT_ATTEMPT,
            internal_command_timeout: CONNECT_ATTEMPT,
            max_command_buffer_len: COMMANDS_QUEUED,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(self.command_timeout / 2),
                interval: self.command_timeout / 8,
            },
            ..ConnectionConfig::default()
        });
        builder
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, username, password, connections, command_timeout } = self;
        f.debug_struct("RedisConfig")
            .field("host", host)
            .field("port", port)
            .field("database", database)
            .field("username", username)
            .field("password", &password.as_ref().map(|_| "***"))
            .field("connections", connections)
            .field("command_timeout", command_timeout)
            .finish()
    }
}
