//! What a server is told at its start; every bound has its default and its reason here.

use std::time::Duration;

use superhero_game::Limits;

use crate::{AllowedOrigin, Network};

/// The settings of one server. All waits are bounded by one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Pause before a turn is announced (`SERVER_SLEEP`); 0 announces at once.
    pub turn_delay: Duration,
    /// For how long a game that is opened here waits for its players (`LOBBY_TIMEOUT`).
    pub lobby_timeout: Duration,
    /// For how long a player may think, from the announcement of its turn; then it forfeits.
    pub turn_deadline: Duration,
    /// What ends duels that nobody wins.
    pub limits: Limits,
    /// The most seats that a game can have; the fewest are 2.
    pub max_participants: u32,
    /// Sockets at a time; more are refused with 503 and a reason.
    pub max_connections: usize,
    /// Sockets of one client address at a time, 0 for any number; more are refused with 429 and a reason. This host's own addresses are
    /// not counted.
    pub max_connections_per_address: usize,
    /// Seats that one client address may ask for in a second, 0 for any number; in the first one ten times as many.
    pub max_finds_per_address: u32,
    /// Proxies, which name in `X-Forwarded-For` whom they speak for.
    pub trusted_proxies: Vec<Network>,
    /// Whose pages may play in a browser, besides those of the host that they ask.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// The largest frame, and the largest message, that a client may send.
    pub max_frame_bytes: usize,
    /// From the accepted connection to the answered upgrade.
    pub handshake_timeout: Duration,
    /// A client that was silent for so long is asked for a sign of life.
    pub ping_interval: Duration,
    /// For how long that sign may take.
    pub pong_timeout: Duration,
    /// For how long a client may leave an answer unread that does not fit the socket's buffers any more.
    pub send_timeout: Duration,
    /// For how long a request is tried again while the store does not answer, before the client is told.
    pub store_patience: Duration,
    /// For how long a game is kept while the store does not answer, before its lobbies are told.
    pub game_patience: Duration,
    /// For how long games go on after the stop signal.
    pub drain_deadline: Duration,
    /// Runs of this server that did not deliver all of their events; its first events say so.
    pub undelivered: Vec<Undelivered>,
}

/// What an earlier run of a server had accepted and not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The producer of its events.
    pub producer: String,
    /// What becomes of them.
    pub fate: Fate,
}

/// What becomes of events that an earlier run did not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A spool has them; so many are sent again, before any new one.
    SentAgain {
        /// How many.
        events: u64,
    },
    /// They were in that process's memory only, and nobody knows how many there were.
    Lost,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            turn_delay: Duration::from_millis(200),
            // Bots that are to come come within seconds, and the last ones of a run wait for so long in vain.
            lobby_timeout: Duration::from_secs(10),
            // A bot answers within milliseconds; this leaves a reconnecting one its back-off and a person time to choose.
            turn_deadline: Duration::from_secs(30),
            limits: Limits::default(),
            // Each player needs a hero of its own, and a start frame grows by some 90 bytes for each.
            max_participants: 16,
            // At under 10 KiB each that is 100 MiB.
            max_connections: 10_000,
            // Three sockets for a bot make this some 800 of them; and one address leaves room for others.
            max_connections_per_address: 2_500,
            // As many bots without a pause at a turn; a server of two cores does not do more altogether.
            max_finds_per_address: 200,
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            max_frame_bytes: 64 * 1024,
            handshake_timeout: Duration::from_secs(5),
            // 20 and 20 seconds are what the `websockets` package of Python, the reference's, does as well.
            ping_interval: Duration::from_secs(20),
            pong_timeout: Duration::from_secs(20),
            send_timeout: Duration::from_secs(10),
            store_patience: Duration::from_secs(5),
            // Longer than a Redis takes to restart with its data.
            game_patience: Duration::from_secs(60),
            // Container runtimes kill 10 seconds after the signal by default.
            drain_deadline: Duration::from_secs(8),
            undelivered: Vec::new(),
        }
    }
}
