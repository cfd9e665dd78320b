//! Loads the heroes into Redis.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser};
use superhero_game::{Hero, built_in_roster, parse_heroes};
use superhero_service::{Failure, Kind, LogArguments, RedisArguments, Secret, Settings, seconds};
use superhero_store::GameStore;
use superhero_text::shown;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::layer::Identity;

use crate::hero_api::MAX_HEROES_BYTES;
use crate::{hero_api, redis};

/// Loads the heroes into Redis in place of those that are there: the built-in ones, a file's, or the hero API's
#[derive(Debug, Parser)]
#[command(name = "superhero-build-db")]
pub struct BuildDb {
    /// A file in the form of the public superhero JSON, instead of the built-in heroes
    #[arg(long, env = "HEROES", value_name = "FILE", conflicts_with = "pull")]
    heroes: Option<PathBuf>,

    /// Fetch the heroes from the hero API instead
    #[arg(long, env = "HEROES_PULL", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pull: bool,

    /// The access token of the hero API
    #[arg(long, env = "API_TOKEN", value_name = "TOKEN", hide_env_values = true, required_if_eq("pull", "true"))]
    api_token: Option<Secret>,

    /// Where the hero API is, by plain HTTP; a user, a password and a query in it are not sent
    #[arg(long, env = "API_URL", value_name = "URL", default_value = "http://superheroapi.com/api")]
    api_url: String,

    /// Seconds to wait for Redis before exiting with 3
    #[arg(long, env = "WAIT_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,

    #[command(flatten)]
    redis: RedisArguments,
    #[command(flatten)]
    log: LogArguments,
}

/// Why there are no heroes to load; Redis is as it was.
#[derive(Debug, thiserror::Error)]
enum HeroesError {
    #[error("the hero file {file} is no regular file; give one")]
    NoFile { file: PathBuf },
    #[error(
        "the hero file {file} has more than {} MiB, which are the limit, nothing was loaded",
        MAX_HEROES_BYTES / (1024 * 1024)
    )]
    TooLarge { file: PathBuf },
    #[error("cannot read the hero file {file}: {source}")]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("the hero file {file} is refused, nothing was loaded: {source}")]
    Broken { file: PathBuf, source: Box<superhero_game::HeroError> },
    #[error("what the hero API sent is refused, nothing was loaded: {0}")]
    Sent(#[source] Box<superhero_game::HeroError>),
}

impl Settings for BuildDb {
    fn validate(&self) -> Result<(), Failure> {
        if let (true, Some(token)) = (self.pull, &self.api_token) {
            hero_api::Api::new(&self.api_url, token).map_err(|error| Failure::new(Kind::Usage, error))?;
        }
        if let Some(file) = &self.heroes {
            from_file(file)?;
        }
        Ok(())
    }
}

impl BuildDb {
    /// Loads the heroes, all or none.
    ///
    /// # Errors
    /// [`Kind::NotReady`] if Redis is not there; [`Kind::Failed`] if there are no heroes to load, or `stop` came first.
    ///
    /// # Cancellation
    /// Dropping the future leaves Redis with the heroes from before, or with all the new ones.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let _log = self.log.start("superhero-build-db", Identity::new())?;
        tokio::select! {
            ended = self.load() => ended,
            () = stop.cancelled() => Err("stopped before the heroes were loaded".into()),
        }
    }

    async fn load(&self) -> Result<(), Failure> {
        // The file is read whole before Redis is asked for anything, so that a broken one changes nothing.
        let (heroes, source) = self.read().await?;
        let store = redis::connect(&self.redis, self.timeout).await?;
        store.load_heroes(&heroes).await?;
        info!(heroes = heroes.len(), from = source, "the heroes are loaded");
        store.close().await?;
        Ok(())
    }

    async fn read(&self) -> Result<(Vec<Hero>, String), Failure> {
        if let (true, Some(token)) = (self.pull, &self.api_token) {
            let json = hero_api::pull(&self.api_url, token).await?;
            return Ok((
                parse_heroes(&json).map_err(|error| HeroesError::Sent(Box::new(error)))?,
                shown::without_credentials(&self.api_url),
            ));
        }
        match &self.heroes {
            Some(file) => Ok((from_file(file)?, file.display().to_string())),
            None => Ok((built_in_roster(), "the built-in roster".to_owned())),
        }
    }
}

fn from_file(file: &Path) -> Result<Vec<Hero>, HeroesError> {
    let unreadable = |source| HeroesError::Unreadable { file: file.to_owned(), source };
    // Not opened otherwise: a pipe that nobody writes to would wait for ever.
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(HeroesError::NoFile { file: file.to_owned() });
    }
    let mut json = String::new();
    // One that tells no size, or grows, is no longer read either.
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    opened.take(MAX_HEROES_BYTES as u64 + 1).read_to_string(&mut json).map_err(unreadable)?;
    if json.len() > MAX_HEROES_BYTES {
        return Err(HeroesError::TooLarge { file: file.to_owned() });
    }
    parse_heroes(&json).map_err(|source| HeroesError::Broken { file: file.to_owned(), source: Box::new(source) })
}
