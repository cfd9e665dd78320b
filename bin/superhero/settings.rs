//! What a run in one process is told.

use std::num::NonZeroI32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};
use superhero_kafka::KafkaConfig;
use superhero_service::{
    Failure, Kind, LogArguments, LogFormat, LogGuard, LogLevel, SEEDS, Secret, address, host_and_port, max_open_files,
    positive, seconds, whole, whole_of,
};
use superhero_simulation::{ConfigError, LOG, Simulation, SimulationConfig, SimulationError, WorkersStart};
use superhero_store::redis::RedisConfig;

use crate::output::Output;

/// Both ends of a bot's four connections are in this process.
const FILES_PER_PLAYER: u64 = 8;
/// For everything else: members of the group, libraries.
const OTHER_FILES: u64 = 200;

/// Settings of a run, the players excepted.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArguments {
    /// Workers, which share the topics' partitions [default: 1; 4 in the trials workers and dead-workers]
    #[arg(long, env = "WORKERS", value_name = "COUNT", value_parser = whole_of(SimulationConfig::WORKERS))]
    pub(crate) workers: Option<usize>,

    /// Game servers, over which the bots spread
    #[arg(long, env = "SERVERS", value_name = "COUNT", default_value = "1", value_parser = whole_of(SimulationConfig::SERVERS))]
    servers: usize,

    /// Games that each bot plays
    #[arg(long, env = "CLIENT_GAMES", value_name = "COUNT", default_value = "10", value_parser = whole_of(1..=u32::MAX))]
    pub(crate) games: u32,

    /// Seconds before a turn is announced; 0 for load
    #[arg(long, env = "SERVER_SLEEP", value_name = "SECONDS", default_value = "0.2", value_parser = seconds)]
    pace: Duration,

    /// What the games are drawn from: the same seed, players and games play the same games again, whatever the pace, the servers and
    /// the workers. With redis=… heroes and turn orders are Redis's, and other bots there may take seats. Drawn at random if not given, and shown
    #[arg(long, env = "SEED", value_name = "NUMBER", value_parser = whole(SEEDS))]
    seed: Option<u64>,

    /// Where the files go: to a folder of the run's own in it, or, with kafka=…, to it
    #[arg(long, env = "OUTPUT_DIR", value_name = "FOLDER", default_value = "data")]
    out: PathBuf,

    /// Partitions of a topic that is made for the run
    #[arg(long, env = "KAFKA_PARTITIONS", value_name = "COUNT", default_value = "4", value_parser = positive)]
    partitions: NonZeroI32,

    /// A Kafka in place of the embedded broker, as host:port
    #[arg(long, env = "SUPERHERO_KAFKA", value_name = "HOST:PORT,…", value_parser = kafka)]
    kafka: Option<String>,

    /// A Redis in place of this process's memory, as host:port or host:port/database
    #[arg(long, env = "SUPERHERO_REDIS", value_name = "HOST:PORT", value_parser = redis)]
    redis: Option<RedisPlace>,

    /// Its ACL user [default: Redis's own default user]
    #[arg(long, env = "REDIS_USERNAME", value_name = "NAME")]
    redis_username: Option<String>,

    /// The user's password, if it has one
    #[arg(long, env = "REDIS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    redis_password: Option<Secret>,

    /// Stay up after the end, for looking around
    #[arg(long, env = "KEEP", value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true",
        action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub(crate) keep: bool,

    /// The least severe lines of the run's log, which is in the folder log/ beside the files
    #[arg(long, env = "LOG_LEVEL", value_enum, ignore_case = true, default_value_t = LogLevel::Warning)]
    log_level: LogLevel,

    /// How the summary is shown
    #[arg(long, value_enum, ignore_case = true, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RedisPlace {
    host: String,
    port: u16,
    database: u8,
}

/// Reads the brokers to ask first, and leaves them as they are.
pub(crate) fn kafka(text: &str) -> Result<String, superhero_kafka::ConfigError> {
    KafkaConfig::new(text, "").map(|_| text.to_owned())
}

fn redis(text: &str) -> Result<RedisPlace, String> {
    let (place, database) = match text.split_once('/') {
        Some((place, database)) => {
            (place, whole(0..=u8::MAX)(database).map_err(|error| format!("the database is {error}"))?)
        }
        None => (text, 0),
    };
    let (host, port) = host_and_port(place)?;
    Ok(RedisPlace { host, port, database })
}

impl RunArguments {
    /// The validated settings of a run with so many players.
    pub(crate) fn config(&self, players: usize, workers_start: WorkersStart) -> Result<SimulationConfig, Failure> {
        let usage = |error: superhero_kafka::ConfigError| Failure::new(Kind::Usage, error);
        let kafka = self.kafka.as_deref().map(|servers| KafkaConfig::new(servers, "superhero-up")).transpose();
        let password = self.redis_password.as_ref().map(Secret::reveal).map(str::to_owned);
        let defaults = SimulationConfig::default();
        let config = SimulationConfig {
            players,
            games: self.games,
            servers: self.servers,
            workers: self.workers.unwrap_or(defaults.workers),
            workers_start,
            partitions: self.partitions.get(),
            pace: self.pace,
            seed: self.seed(),
            out: self.out.clone(),
            keep: self.keep,
            kafka: kafka.map_err(usage)?,
            redis: self.redis.as_ref().map(|place| RedisConfig {
                username: self.redis_username.clone(),
                password,
                ..RedisConfig::new(&place.host, place.port, place.database)
            }),
        };
        config.check().map_err(|error: ConfigError| Failure::new(Kind::Usage, error))?;
        let (of_players, of_one) = (players as u64 * FILES_PER_PLAYER, config.files_per_partition());
        let of_partitions = u64::from(self.partitions.get().unsigned_abs()) * of_one;
        let needed = of_players + of_partitions + OTHER_FILES;
        match max_open_files() {
            Some(limit) if limit < needed && of_partitions > of_players => Err(Failure::new(
                Kind::Usage,
                format!(
                    "partitions={} needs some {needed} open files, but this process may have {limit}; partitions={} is the most, unless \
                     the limit is raised (ulimit -Hn)",
                    self.partitions,
                    limit.saturating_sub(of_players + OTHER_FILES) / of_one
                ),
            )),
            Some(limit) if limit < needed => Err(Failure::new(
                Kind::Usage,
                format!(
                    "players={players} needs some {needed} open sockets, but this process may have {limit} open files; \
                     raise the limit (ulimit -Hn), or start the binaries on several hosts"
                ),
            )),
            _ => Ok(config),
        }
    }

    /// The seed that is given, or one that is drawn.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| rand::random_range(SEEDS))
    }

    /// Begins the run's log.
    pub(crate) fn log(&self, simulation: &Simulation) -> Result<LogGuard, Failure> {
        let folder = simulation.folder().join(LOG);
        if folder.is_symlink() {
            return Err(format!("{} is a link, and below out= none is followed; remove it", folder.display()).into());
        }
        let log = LogArguments { log_level: self.log_level, log_format: LogFormat::Text, log_dir: Some(folder) };
        Ok(log.start("superhero", simulation.layer())?)
    }

    /// The same settings as words for another process, the players, the seed, and how the result is shown excepted.
    pub(crate) fn words(&self) -> Vec<String> {
        let Self { servers, games, pace, out, partitions, log_level, .. } = self;
        let mut words = vec![
            format!("servers={servers}"),
            format!("games={games}"),
            format!("pace={}", pace.as_secs_f64()),
            format!("out={}", out.display()),
            format!("partitions={partitions}"),
        ];
        words.extend(log_level.to_possible_value().map(|level| format!("log-level={}", level.get_name())));
        words.extend(self.workers.map(|workers| format!("workers={workers}")));
        words.extend(self.kafka.as_ref().map(|kafka| format!("kafka={kafka}")));
        let redis = |place: &RedisPlace| format!("redis={}/{}", address(&place.host, place.port), place.database);
        words.extend(self.redis.as_ref().map(redis));
        words.extend(self.redis_username.as_ref().map(|name| format!("redis-username={name}")));
        words
    }

    /// What the other process is not to be told where everybody can read it.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.redis_password.iter().map(|password| ("REDIS_PASSWORD", password.reveal()))
    }

    pub(crate) fn out(&self) -> &Path {
        &self.out
    }
}

/// What kind of failure an error of a run is.
pub(crate) fn kind(error: &SimulationError) -> Kind {
    match error {
        SimulationError::Config(_) => Kind::Usage,
        SimulationError::NotReady(_)
        | SimulationError::Kafka(_)
        | SimulationError::Transport(_)
        | SimulationError::Store(_) => Kind::NotReady,
        _ => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_has_a_host_a_port_and_perhaps_a_database() {
        let place = |host: &str, database| RedisPlace { host: host.to_owned(), port: 6379, database };
        assert_eq!(redis("localhost:6379"), Ok(place("localhost", 0)));
        assert_eq!(redis("[::1]:6379/3"), Ok(place("::1", 3)));
        for (text, reason) in
            [("localhost", "host:port"), (":6379", "host:port"), ("localhost:0", "65535"), ("localhost:6379/x", "255")]
        {
            assert!(redis(text).is_err_and(|error| error.contains(reason)), "{text}");
        }
    }
}
