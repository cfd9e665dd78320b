//! Where Redis is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::{host, seconds, whole};

/// Where Redis is, and how long the keys of a finished game are kept.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Redis")]
pub struct RedisArguments {
    /// The host of Redis
    #[arg(long, env = "REDIS_HOST", value_name = "HOST", default_value = "127.0.0.1", value_parser = host)]
    pub redis_host: String,

    /// Its port
    #[arg(long, env = "REDIS_PORT", value_name = "PORT", default_value = "6379", value_parser = whole(1..=u16::MAX))]
    pub redis_port: u16,

    /// The database's number
    #[arg(long, env = "REDIS_DB", value_name = "NUMBER", default_value = "0", value_parser = whole(0..=u8::MAX))]
    pub redis_db: u8,

    /// The ACL user [default: Redis's own default user]
    #[arg(long, env = "REDIS_USERNAME", value_name = "NAME")]
    pub redis_username: Option<String>,

    /// The user's password, if it has one
    #[arg(long, env = "REDIS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub redis_password: Option<Secret>,

    /// Seconds that a cleaned game's keys are kept
    #[arg(long, env = "REDIS_EXPIRY", value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub redis_expiry: Duration,
}

/// A text that shows neither in logs nor in `--help`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
