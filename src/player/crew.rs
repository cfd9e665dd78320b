//! All bots of a process, and what they did.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bot::Bot;
use crate::matchmaker::Matchmaker;
use crate::{PlayersConfig, Seating};

/// How often it is told that bots try again; each of thousands may have the same trouble.
const TELL_TROUBLE_EVERY: Duration = Duration::from_secs(10);

/// Why no bot played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlayersError {
    /// There is nowhere to play.
    #[error("no server is given")]
    NoServer,
    /// There is no number of participants to choose.
    #[error("participants {first} to {last}: there is no such number")]
    NoParticipants {
        /// The fewest.
        first: u32,
        /// The most.
        last: u32,
    },
}

/// What the bots of a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bots that were started.
    pub players: usize,
    /// Bots that played all their games.
    pub finished: usize,
    /// Bots that gave up: they reached no server for longer than their patience, or nothing came of their games.
    pub failed: usize,
    /// Seats of games that were seen to their end: a game of three bots has three.
    pub seats_completed: u64,
    /// Seats of games that did not begin, since the others were not taken in time.
    pub seats_timed_out: u64,
    /// Seats that a bot left because it could not make out what became of the game.
    pub seats_abandoned: u64,
    /// Attacks made.
    pub attacks: u64,
    /// Connections that were opened again after a loss.
    pub reconnects: u64,
}

impl Summary {
    /// Bots that were stopped before they had played all their games.
    pub fn stopped(&self) -> usize {
        self.players - self.finished - self.failed
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { players, finished, failed, seats_completed, seats_timed_out, seats_abandoned, attacks, reconnects } =
            self;
        write!(
            f,
            "{players} players: {finished} finished, {failed} failed, {} stopped; seats: {seats_completed} played to the end, \
             {seats_timed_out} timed out, {seats_abandoned} abandoned; {attacks} attacks; {reconnects} reconnects",
            self.stopped()
        )
    }
}

/// What the bots of one run share.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) config: PlayersConfig,
    /// Where bots are [matched](crate::Seating::Matched).
    pub(crate) matchmaker: Option<Matchmaker>,
    pub(crate) connects: Semaphore,
    pub(crate) seats_completed: AtomicU64,
    pub(crate) seats_timed_out: AtomicU64,
    pub(crate) seats_abandoned: AtomicU64,
    pub(crate) attacks: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    /// When a bot's trouble was told last.
    trouble_told: Mutex<Option<Instant>>,
}

impl Crew {
    /// Whether a trouble is to be told; the next one only after a while.
    pub(crate) fn tells_trouble(&self) -> bool {
        let now = Instant::now();
        let mut told = self.trouble_told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|told| now - told >= TELL_TROUBLE_EVERY);
        if due {
            *told = Some(now);
        }
        due
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Plays until every bot has played all its games or has given up, or until `shutdown`, which leaves games as they are.
///
/// # Errors
/// Settings with which no bot can play; bots that give up are in the summary.
///
/// # Cancellation
/// Dropping the future stops all bots.
pub async fn run(config: PlayersConfig, shutdown: CancellationToken) -> Result<Summary, PlayersError> {
    if config.servers.is_empty() {
        return Err(PlayersError::NoServer);
    }
    if config.participants.is_empty() {
        let (first, last) = config.participants.into_inner();
        return Err(PlayersError::NoParticipants { first, last });
    }
    let crew = Arc::new(Crew {
        matchmaker: match config.seating {
            Seating::Strangers => None,
            Seating::Matched => Some(Matchmaker::new(config.seed, config.players, config.participants.clone())),
        },
        connects: Semaphore::new(config.concurrent_connects.clamp(1, Semaphore::MAX_PERMITS)),
        config,
        seats_completed: AtomicU64::new(0),
        seats_timed_out: AtomicU64::new(0),
        seats_abandoned: AtomicU64::new(0),
        attacks: AtomicU64::new(0),
        reconnects: AtomicU64::new(0),
        trouble_told: Mutex::new(None),
    });

    let mut bots = JoinSet::new();
    for index in 0..crew.config.players {
        let (crew, shutdown) = (Arc::clone(&crew), shutdown.clone());
        bots.spawn(async move {
            let mut bot = Bot::new(crew, index);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Ok(false),
                played = bot.play() => played.map(|()| true),
            }
            .inspect_err(|reason| tracing::error!(bot = index, %reason, "a bot gives up"))
        });
    }
    let (mut finished, mut failed) = (0, 0);
    while let Some(end) = bots.join_next().await {
        match end {
            Ok(Ok(true)) => finished += 1,
            Ok(Ok(false)) => {}
            Ok(Err(_)) => failed += 1,
            Err(error) => {
                tracing::error!(%error, "a bot broke down");
                failed += 1;
            }
        }
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Summary {
        players: crew.config.players,
        finished,
        failed,
        seats_completed: read(&crew.seats_completed),
        seats_timed_out: read(&crew.seats_timed_out),
        seats_abandoned: read(&crew.seats_abandoned),
        attacks: read(&crew.attacks),
        reconnects: read(&crew.reconnects),
    })
}
