//! The local log, which every transport has beside it.

use std::io;
use std::path::PathBuf;

use chrono::Utc;
use clap::{Args, ValueEnum};
use superhero_text::shown;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

use crate::days::Days;
use crate::output::{self, Lines};

/// What the local log shows, and where.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Local log")]
pub struct LogArguments {
    /// The least severe lines that the local log shows
    #[arg(long, env = "LOG_LEVEL", value_enum, ignore_case = true, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,

    /// Text for people, or a JSON object a line
    #[arg(long, env = "LOG_FORMAT", value_enum, ignore_case = true, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// A folder for the log, a file a day, instead of standard error. Only the process's user may read what is made there
    #[arg(long, env = "LOG_DIR", value_name = "FOLDER")]
    pub log_dir: Option<PathBuf>,
}

/// How severe a line is, by the names of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What may need a look.
    #[value(alias = "warn")]
    Warning,
    /// What went wrong.
    Error,
    /// The same as error.
    #[value(hide = true)]
    Critical,
}

impl LogLevel {
    /// Our own lines from this level on; of the libraries', which tell each of their connections, only warnings, unless
    /// somebody is debugging.
    fn targets(self) -> Targets {
        let (ours, libraries) = match self {
            Self::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
            Self::Info => (LevelFilter::INFO, LevelFilter::WARN),
            Self::Warning => (LevelFilter::WARN, LevelFilter::WARN),
            Self::Error | Self::Critical => (LevelFilter::ERROR, LevelFilter::ERROR),
        };
        Targets::new().with_default(libraries).with_target("superhero", ours)
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Writes the rest of the log when it is dropped; keep it until the end of the process.
#[derive(Debug)]
pub struct LogGuard {
    _writer: WorkerGuard,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The folder cannot be written.
    #[error("cannot write the log to LOG_DIR {}: {source}", shown::path(folder))]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else has taken the process's log already.
    #[error("the log was started before")]
    Taken(#[from] TryInitError),
}

impl LogArguments {
    /// Starts the log of the process, named in the files of `--log-dir`. `events` sees every call, whatever the level of the
    /// local log: an event that is not shown is an event all the same.
    ///
    /// # Errors
    /// A folder that cannot be written, or a log that was started before.
    pub fn start(&self, name: &str, events: impl Layer<Registry> + Send + Sync) -> Result<LogGuard, LogError> {
        self.start_beside(name, events.boxed())
    }

    /// The same once for all kinds of layers.
    fn start_beside(&self, name: &str, events: BoxedLayer) -> Result<LogGuard, LogError> {
        let (writer, guard) = match &self.log_dir {
            None => tracing_appender::non_blocking(Lines(output::Log)),
            Some(folder) => {
                let days = Days::begin(folder, name, Utc::now().date_naive());
                let days = days.map_err(|source| LogError::Folder { folder: folder.clone(), source })?;
                tracing_appender::non_blocking(Lines(days))
            }
        };
        let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
        let lines = match self.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry().with(events).with(lines.with_filter(self.log_level.targets())).try_init()?;
        Ok(LogGuard { _writer: guard })
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_level_is_for_our_own_lines() {
        let info = LogLevel::Info.targets();
        assert!(info.would_enable("superhero_server::game", &Level::INFO));
        assert!(!info.would_enable("superhero_server::game", &Level::DEBUG));
        assert!(!info.would_enable("rskafka::connection", &Level::INFO));
        assert!(info.would_enable("rskafka::connection", &Level::WARN));
        assert!(LogLevel::Debug.targets().would_enable("rskafka::connection", &Level::INFO));
    }
}
