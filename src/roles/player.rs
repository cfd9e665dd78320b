//! Bots.

use std::time::Duration;

use clap::Parser;
use superhero_player::{PlayersConfig, PlayersError, ServerAddress, ServerAddressError};
use superhero_service::{Failure, Kind, LogArguments, SEEDS, Settings, address, host, print, seconds, whole};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::Identity;

/// Bots that play on a game server, any number in one process; ends when all have played
#[derive(Debug, Parser)]
#[command(name = "superhero-player")]
pub struct Player {
    /// How many bots
    #[arg(long, env = "PLAYERS", value_name = "COUNT", default_value = "1", value_parser = whole::<usize>(0..))]
    players: usize,

    /// How many games each plays; -1: for ever
    #[arg(long, env = "CLIENT_GAMES", value_name = "COUNT", default_value = "1", value_parser = games, allow_negative_numbers = true)]
    games: Games,

    /// Seconds between the notice of a turn and the attack
    #[arg(long, env = "CLIENT_SLEEP", value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    client_sleep: Duration,

    /// What the bots draw from: names, numbers of participants, and whom to attack among the same opponents. Who plays with
    /// whom, and as which hero, depends on the server and on who comes first. Drawn at random if not given, and logged
    #[arg(long, env = "SEED", value_name = "NUMBER", value_parser = whole(SEEDS))]
    seed: Option<u64>,

    /// Servers to spread over, as host:port,host:port,…
    ///
    /// Wins over --websocket-host and --websocket-port.
    #[arg(long, env = "WEBSOCKET_SERVERS", value_name = "HOST:PORT,…", value_delimiter = ',')]
    servers: Vec<ServerAddress>,

    /// The host of the server
    #[arg(long, env = "WEBSOCKET_HOST", value_name = "HOST", default_value = "127.0.0.1", value_parser = host)]
    websocket_host: String,

    /// Its port
    // 0 is a server's way to say any; where all roles have the same environment it does not matter to bots that are given --servers.
    #[arg(long, env = "WEBSOCKET_PORT", value_name = "PORT", default_value = "8080", value_parser = whole(0..=u16::MAX))]
    websocket_port: u16,

    /// Seconds that a bot tries to reach a server before it gives up
    #[arg(long, env = "CLIENT_PATIENCE", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    patience: Duration,

    #[command(flatten)]
    log: LogArguments,
}

/// How many games a bot plays.
#[derive(Clone, Copy, Debug)]
struct Games(Option<u32>);

fn games(text: &str) -> Result<Games, String> {
    match text {
        "-1" => Ok(Games(None)),
        count => whole(0..=u32::MAX)(count)
            .map(|count| Games(Some(count)))
            .map_err(|error| format!("{error}, nor -1 for ever")),
    }
}

impl Settings for Player {
    fn validate(&self) -> Result<(), Failure> {
        self.places().map(drop)
    }
}

impl Player {
    /// Plays until all bots have played their games, or until `stop`, and prints what came of it.
    ///
    /// # Errors
    /// [`Kind::Failed`] if a bot gave up.
    ///
    /// # Cancellation
    /// Dropping the future closes the bots' connections; their games go on without them.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let _log = self.log.start("superhero-player", Identity::new())?;
        let config = self.config()?;
        let servers: Vec<_> = config.servers.iter().map(ToString::to_string).collect();
        let summary = superhero_player::run(config, stop)
            .await
            .map_err(|error: PlayersError| Failure::new(Kind::Usage, error))?;
        print(summary)?;
        if summary.failed > 0 {
            let (failed, players, servers) = (summary.failed, summary.players, servers.join(", "));
            return Err(format!(
                "{failed} of {players} players gave up on {servers}; WEBSOCKET_HOST and WEBSOCKET_PORT, or --servers, choose another server"
            )
            .into());
        }
        Ok(())
    }

    fn config(&self) -> Result<PlayersConfig, Failure> {
        let seed = self.seed.unwrap_or_else(|| rand::random_range(SEEDS));
        tracing::info!(
            seed,
            "--seed draws the same names, numbers of participants and targets again, not the same opponents"
        );
        Ok(PlayersConfig {
            servers: self.places()?,
            players: self.players,
            games: self.games.0,
            sleep: self.client_sleep,
            seed,
            patience: self.patience,
            ..PlayersConfig::default()
        })
    }

    /// The servers to spread over.
    fn places(&self) -> Result<Vec<ServerAddress>, Failure> {
        if !self.servers.is_empty() {
            return Ok(self.servers.clone());
        }
        let place = address(&self.websocket_host, self.websocket_port).parse();
        Ok(vec![place.map_err(|error: ServerAddressError| Failure::new(Kind::Usage, error))?])
    }
}
