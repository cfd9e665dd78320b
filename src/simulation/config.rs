//! What a run is told.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use superhero_broker::BrokerConfig;
use superhero_event::topic;
use superhero_kafka::KafkaConfig;
use superhero_player::{PlayersConfig, Seating};
use superhero_server::ServerConfig;
use superhero_sink::{Rotation, Settings};
use superhero_store::redis::RedisConfig;

/// A run's settings; [`SimulationConfig::check`] says which can be used.
#[derive(Clone, Debug)]
pub struct SimulationConfig {
    /// How many bots, from 2 on.
    pub players: usize,
    /// How many games each plays, those included whose seats were not filled.
    pub games: u32,
    /// How many game servers; bots spread over them.
    pub servers: usize,
    /// How many workers share the topics' partitions.
    pub workers: usize,
    /// When the workers start.
    pub workers_start: WorkersStart,
    /// Partitions of a topic that is made for the run.
    pub partitions: i32,
    /// Pause before a turn is announced; 0 for load.
    pub pace: Duration,
    /// What the bots' choices and, without a Redis, the games' heroes are drawn from.
    pub seed: u64,
    /// Where files go: to a folder of the run's own in it, or, with a Kafka that outlives the run, to it.
    pub out: PathBuf,
    /// Servers, broker and workers stay up after the end.
    pub keep: bool,
    /// The Kafka to use instead of the embedded broker.
    pub kafka: Option<KafkaConfig>,
    /// The Redis to use instead of this process's memory.
    pub redis: Option<RedisConfig>,
}

/// When the workers start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkersStart {
    /// Before the first game.
    #[default]
    AtOnce,
    /// After the last game, when every event has been acknowledged.
    AfterGames,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}={value}: {reason}")]
pub struct ConfigError {
    /// Its name on the command line.
    pub setting: &'static str,
    /// Its value.
    pub value: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// A bot's connections at one time, lobby, hero, action and the one that it asks for a seat with.
pub(crate) const SOCKETS_PER_PLAYER: usize = 4;

/// Connections to Kafka for each partition of each topic at a time: of whoever measures the lag, produces, and fetches for the worker.
const CONNECTIONS_PER_PARTITION: usize = 3;

/// Those that the embedded broker takes beyond them: some are replaced before the old ones have ended, and there are members of the
/// group, whoever looks at metadata, and other people's clients.
const OTHER_CONNECTIONS: usize = 1000;

/// Files that a worker has open for a partition of a topic: what it writes, and folders.
const FILES_PER_PARTITION: usize = 4;

/// Short, so that the rows of a run that somebody watches are there while it goes on, and long enough for files worth the name.
const ROTATE_AFTER: Duration = Duration::from_secs(2);

/// Bots come at once and come again for their next game: whoever waits for longer waits for somebody who has played all his games.
const LOBBY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a game in memory is kept after its rows were published, for whoever asks a little late.
pub(crate) const GAME_EXPIRY: Duration = Duration::from_secs(30);

impl Default for SimulationConfig {
    fn default() -> Self {
        Self {
            players: 10,
            games: 10,
            servers: 1,
            workers: 1,
            workers_start: WorkersStart::default(),
            partitions: 4,
            pace: Duration::from_millis(200),
            seed: 0,
            out: PathBuf::from("data"),
            keep: false,
            kafka: None,
            redis: None,
        }
    }
}

impl SimulationConfig {
    /// How many bots can play in one process: as many as it can have sockets for, a few thousand, and some more where the system allows it.
    pub const PLAYERS: RangeInclusive<usize> = 2..=100_000;
    /// How many servers one process takes.
    pub const SERVERS: RangeInclusive<usize> = 1..=64;
    /// How many workers one process takes.
    pub const WORKERS: RangeInclusive<usize> = 1..=64;

    /// How many partitions a topic can have on the embedded broker.
    pub fn max_partitions() -> usize {
        // One is left for the topic with which it is tried whether Kafka serves.
        (BrokerConfig::default().max_partitions - 1) / topic::ALL.len()
    }

    /// How many files a partition of each topic needs to be open, both ends of its connections included where the broker is embedded.
    pub fn files_per_partition(&self) -> u64 {
        let ends = if self.kafka.is_none() { 2 } else { 1 };
        (topic::ALL.len() * (CONNECTIONS_PER_PARTITION * ends + FILES_PER_PARTITION)) as u64
    }

    /// The embedded broker's settings: it has to take a connection of each part of the run to each partition.
    pub(crate) fn broker(&self) -> BrokerConfig {
        let partitions = usize::try_from(self.partitions).unwrap_or(0);
        let connections = 2 * topic::ALL.len() * partitions * CONNECTIONS_PER_PARTITION;
        BrokerConfig { max_connections: OTHER_CONNECTIONS + connections, ..BrokerConfig::default() }
    }

    /// Whether a run can be made of it.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (setting, value, range) in [
            ("players", self.players, Self::PLAYERS),
            ("servers", self.servers, Self::SERVERS),
            ("workers", self.workers, Self::WORKERS),
            ("games", usize::try_from(self.games).unwrap_or(usize::MAX), 1..=usize::MAX),
        ] {
            if !range.contains(&value) {
                let reason = match (value < *range.start(), setting) {
                    (true, "players") => "a game needs at least 2 players".to_owned(),
                    (true, _) => format!("there has to be at least {}", range.start()),
                    (false, _) => {
                        format!("one process takes at most {}; start the binaries by themselves", range.end())
                    }
                };
                return Err(ConfigError { setting, value, reason });
            }
        }
        let (partitions, most) = (usize::try_from(self.partitions).unwrap_or(0), Self::max_partitions());
        if self.kafka.is_none() && partitions > most {
            let reason =
                format!("the embedded broker takes at most {most} of each topic; kafka=HOST:PORT takes another Kafka");
            return Err(ConfigError { setting: "partitions", value: partitions, reason });
        }
        Ok(())
    }

    pub(crate) fn server(&self) -> ServerConfig {
        ServerConfig {
            turn_delay: self.pace,
            lobby_timeout: LOBBY_TIMEOUT,
            max_connections: self.players * SOCKETS_PER_PLAYER,
            ..ServerConfig::default()
        }
    }

    pub(crate) fn bots(&self) -> PlayersConfig {
        PlayersConfig {
            players: self.players,
            games: Some(self.games),
            seating: Seating::Matched,
            seed: self.seed,
            ..PlayersConfig::default()
        }
    }

    pub(crate) fn sink(&self) -> Settings {
        Settings { rotation: Rotation { max_age: ROTATE_AFTER, ..Rotation::default() }, ..Settings::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_broker_takes_the_connections_of_all_partitions() {
        let connections = |partitions| {
            let config = SimulationConfig { partitions, ..SimulationConfig::default() };
            config.broker().max_connections
        };
        let needed = |partitions: usize| topic::ALL.len() * partitions * CONNECTIONS_PER_PARTITION;
        assert!(connections(350) >= needed(350) + 500, "{}", connections(350));
        assert!(connections(3333) >= needed(3333) + 500, "{}", connections(3333));
    }

    #[test]
    fn what_cannot_be_played_is_refused_by_name() {
        assert_eq!(SimulationConfig::default().check(), Ok(()));
        for (config, said) in [
            (SimulationConfig { players: 1, ..SimulationConfig::default() }, "players=1: a game needs at least 2"),
            (SimulationConfig { workers: 0, ..SimulationConfig::default() }, "workers=0: there has to be at least 1"),
            (
                SimulationConfig { servers: 65, ..SimulationConfig::default() },
                "servers=65: one process takes at most 64",
            ),
            (
                SimulationConfig { partitions: 3334, ..SimulationConfig::default() },
                "partitions=3334: the embedded broker takes at most 3333",
            ),
            (SimulationConfig { games: 0, ..SimulationConfig::default() }, "games=0: there has to be at least 1"),
        ] {
            let error = config.check().expect_err("cannot be played").to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
