//! Waiting for the services that a role needs.

use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use crate::seconds;

/// Whether and how long to wait for Kafka and Redis.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Readiness")]
pub struct WaitArguments {
    /// Before anything else, create missing topics and wait until Kafka truly serves, as `superhero wait` does
    #[arg(long, env = "WAIT", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub wait: bool,

    /// Seconds to wait for Kafka and Redis before exiting with 3
    #[arg(long, env = "WAIT_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
}
