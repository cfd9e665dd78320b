//! The state of the games: [`GameStore`], one atomic operation per method, kept [in memory](memory) or [in Redis](redis).
//!
//! Both keep to the same suite of cases, `conformance` (feature of that name).

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use superhero_game::{AttackRecord, Fighter, GameToken, Hero, HeroId, Limits, Refusal, SeatSecret, UserToken};
use tokio::sync::mpsc;
use uuid::Uuid;

#[cfg(any(test, feature = "conformance"))]
#[allow(clippy::unwrap_used)] // It is a test wherever it is compiled.
pub mod conformance;
pub mod memory;
pub mod redis;

mod any;
mod outlet;
mod roster;

pub use any::AnyStore;

/// How many open games of one size, of those that somebody attends and of the others, a `find` looks at, oldest first, before it opens
/// another: a bound on the work of one call. Those that take nobody do not count.
const OPEN_GAMES_LOOKED_AT: usize = 128;

/// How many open games that take nobody a `find` takes out of their lists: a bound on the work of one call as well.
const HIDDEN_AT_ONCE: usize = 1024;

/// So many seats of one user may be taken and not attended yet: more than the bots that share a name and start at the same moment.
const UNATTENDED_SEATS: usize = 1024;

/// A seat that is not attended for so long is overdue: clients may pause between `find` and lobby.
const OVERDUE_AFTER: Duration = Duration::from_secs(3);

/// A user with more overdue seats than these comes to none of them in time, or does not mean to: nobody is seated with it where it is
/// overdue.
const TRUSTED_SEATS: usize = 16;

/// Nor is anybody seated with a user who has more unattended seats than these, however new: more than the bots that share a name take at
/// once, and fewer than somebody takes who wants to hold up others until the seats are overdue.
const TRUSTED_NEW_SEATS: usize = 256;

/// Games that wait for players at the same time, in all.
const WAITING_GAMES: usize = 65_536;

/// For how long a game is kept from its opening: longer than it takes to play it, and than topics usually keep its events for a worker.
const GAME_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// For how long a game that timed out can be asked for, by those who come late to its lobby.
const TIMED_OUT_KEPT: Duration = REQUEST_KEPT;

/// Games that are kept after their start; beyond these the oldest go first.
const GAMES_KEPT: usize = 1_000_000;

/// Users whose tokens are kept; beyond these go those who have not logged in for the longest time, and get another token the next time.
const USERS_KEPT: usize = 100_000;

/// How many games and users whose time has come are looked after by a [`sweep`](GameStore::sweep).
const SWEPT_AT_ONCE: usize = 256;

/// For how long the answer to a [`find`](GameStore::find) is kept for its repetition: longer than a caller goes on trying.
const REQUEST_KEPT: Duration = Duration::from_secs(120);

/// Where the games live. One method is one atomic operation, however many servers share the store.
///
/// # Errors
/// [`StoreError::Unavailable`] within a bounded time while the store cannot be reached; calls work again once it can.
/// [`StoreError::Malformed`] where somebody else has written into the store; then nothing was changed.
///
/// # Cancellation
/// Dropping a call's future leaves it open whether the operation took place. Each can be called again with the same
/// arguments without harm; [`find`](Self::find) and [`attack`](Self::attack) then answer as they did the first time.
/// The others tell only one caller that it was the one who did it ([`Login::created`], [`forfeit`](Self::forfeit),
/// [`time_out`](Self::time_out)); a connection that was lost inside a call does not make that caller lose this answer.
pub trait GameStore: Clone + Send + Sync + 'static {
    /// Answers when the store can be used; for readiness.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The user's token, made at the first login of the name.
    fn login(&self, name: &str) -> impl Future<Output = Result<Login, StoreError>> + Send;

    /// Puts the user into an open game for so many participants, or opens one, and gives it a hero that nobody else in the game has.
    /// Games that somebody [attends](Self::attend) come first, and among them and among the others the oldest; a user never gets two seats
    /// in one game, but may sit in several. Nobody is seated with players who are not likely to come:
    /// who have left, have had the seat for three seconds and with it more than 16 of that age that they do not attend, or do not attend
    /// more than 256 of any age.
    ///
    /// The last seat starts the game: status, order and the first turn are set with it, and [`GameEvent::Started`] and
    /// [`GameEvent::Turn`] are told. A game whose seats are not filled in its time [times out](Self::time_out), whoever is there to see it.
    ///
    /// # Errors
    /// [`StoreError::NoHeroes`] when the roster has fewer heroes than the game has seats; [`StoreError::TooManySeats`] and
    /// [`StoreError::TooManyGames`].
    ///
    /// # Panics
    /// For fewer than 2 participants, of whom no game can be made.
    fn find(&self, find: Find) -> impl Future<Output = Result<Seat, StoreError>> + Send;

    /// The user has come to its seat, from now until it [leaves](Self::leave); `visit` is drawn anew for each of its coming. Once it has come with the seat's secret, here or with an
    /// attack, the seat takes nothing without.
    ///
    /// [`Refusal`]'s `UnknownGame`, `NotAPlayer` and `WrongSeat` are possible; a refusal changes nothing.
    fn attend(
        &self,
        game: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        visit: Uuid,
    ) -> impl Future<Output = Result<Result<(), Refusal>, StoreError>> + Send;

    /// Nobody attends the user's seat any more. Without effect on a game that does not wait for players, and where the user has come another
    /// time after `visit`, through whichever server.
    fn leave(
        &self,
        game: GameToken,
        user: UserToken,
        visit: Uuid,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends what has had its time: games that wait for players in vain, of which those go as a whole that nobody attends and for which nobody
    /// is likely to ask, games that were
    /// kept for long enough, users who have not come for so long. Each other method that opens or shows such a game does it on its way for a
    /// few; this is for times in which nobody calls. `false`: more is left to do.
    fn sweep(&self) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// A player's hero in a game; `None` for a player or a game that is not known.
    fn hero(
        &self,
        game: GameToken,
        user: UserToken,
    ) -> impl Future<Output = Result<Option<Fighter>, StoreError>> + Send;

    /// `user` hits `enemy` at `now`, which counts in microseconds and with the other arguments names the attack.
    ///
    /// The checks, in this order: an attack that stands among the last records already (as many as the game has players) is
    /// a repetition and gets the [`Outcome`] that it had; then [`Refusal`]'s `UnknownGame`, `NotInProgress`, `NotAPlayer`, `WrongSeat`,
    /// `OutOfTurn`, `OneSelf`, `EnemyNotInGame`, `EnemyDead`. A refusal changes nothing, but the seat's right secret counts as
    /// with [`attend`](Self::attend) all the same. The move that leaves one player
    /// alive, or that is the last of `limits`, completes the game.
    fn attack(
        &self,
        game: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        enemy: UserToken,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> impl Future<Output = Result<Result<Outcome, Refusal>, StoreError>> + Send;

    /// The player on turn after `moves` moves has let its deadline pass: its hero falls and the game goes on. `None`
    /// when that turn is over already, or when there is no such game, so that any number of servers may call it for the same
    /// turn and exactly one gets the [`Outcome`].
    fn forfeit(
        &self,
        game: GameToken,
        moves: u32,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> impl Future<Output = Result<Option<Outcome>, StoreError>> + Send;

    /// Times out a game that still waits for players; `false` when it does not wait any more.
    fn time_out(&self, game: GameToken) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// All that is known of a game; `None` when it is not known.
    fn snapshot(&self, game: GameToken) -> impl Future<Output = Result<Option<Snapshot>, StoreError>> + Send;

    /// What happens in a game from now on; the subscription stands on the store's side when this returns, so a snapshot read
    /// after it together with the events to come misses nothing. A game that is not known has no events.
    fn subscribe(&self, game: GameToken) -> impl Future<Output = Result<Subscription, StoreError>> + Send;

    /// Gives all that is kept of the game an expiry and takes the game out of the lists of games. Without effect on a game
    /// that is not known.
    fn clean(&self, game: GameToken, expiry: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces the roster as a whole; none at all brings the built-in roster back. Seats taken from now on through this
    /// store draw from it; other processes follow within a few seconds.
    fn load_heroes(&self, heroes: &[Hero]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How many heroes are loaded (the built-in roster, used when none are, not counted).
    fn hero_count(&self) -> impl Future<Output = Result<usize, StoreError>> + Send;
}

/// What a [`find`](GameStore::find) asks for.
#[derive(Clone, Copy, Debug)]
pub struct Find {
    /// Drawn anew by the caller for each, so that a repetition (within two minutes) finds the seat that it already has.
    pub request: Uuid,
    /// Who wants the seat.
    pub user: UserToken,
    /// How many play, 2 or more.
    pub participants: u32,
    /// What is to be the seat's secret, drawn at random by the caller. Of no repetition is another one taken.
    pub secret: SeatSecret,
    /// For how long the game waits for its players if this opens it.
    pub wait: Duration,
}

/// The answer to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's token.
    pub user: UserToken,
    /// Whether the name was new.
    pub created: bool,
}

/// A seat in a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The game.
    pub game: GameToken,
    /// The hero drawn.
    pub hero: HeroId,
}

/// What a move led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The record that stands in the game's logs now.
    pub record: AttackRecord,
    /// Who is on turn now; `None`: the game is completed, by this very move.
    pub next: Option<UserToken>,
    /// Moves made so far, this one included.
    pub moves: u32,
    /// Every participant, so that the end can be told for each of them.
    pub participants: Vec<UserToken>,
}

/// `games:<g>:status`. The start of a game is one step, so nobody sees its `Starting` and `In-Progress`; a store that
/// another program wrote may hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `Waiting Lobby`: seats are free.
    WaitingLobby,
    /// `Starting`.
    Starting,
    /// `In-Progress`.
    InProgress,
    /// `Waiting Player`: somebody is on turn.
    WaitingPlayer,
    /// `Completed`.
    Completed,
    /// `Timed Out`: the seats were not filled in time.
    TimedOut,
}

impl Status {
    /// Each of them, in the order of a game's life.
    pub const ALL: [Self; 6] =
        [Self::WaitingLobby, Self::Starting, Self::InProgress, Self::WaitingPlayer, Self::Completed, Self::TimedOut];

    /// The words that stand in the key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WaitingLobby => "Waiting Lobby",
            Self::Starting => "Starting",
            Self::InProgress => "In-Progress",
            Self::WaitingPlayer => "Waiting Player",
            Self::Completed => "Completed",
            Self::TimedOut => "Timed Out",
        }
    }
}

/// A game as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its status.
    pub status: Status,
    /// How many seats it has.
    pub seats: u32,
    /// Whoever opened it.
    pub host: UserToken,
    /// For how long it still waits for players; `None` once it does not, or where another program has opened it.
    pub waits: Option<Duration>,
    /// Everybody seated, with the health left.
    pub fighters: BTreeMap<UserToken, Fighter>,
    /// The living in turn order, head = on turn; empty before the start.
    pub order: Vec<UserToken>,
    /// The records of its moves, oldest first.
    pub records: Vec<AttackRecord>,
}

/// Something that happened in a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GameEvent {
    /// All seats are taken; whoever is on turn first follows as [`GameEvent::Turn`].
    Started,
    /// `user` is on turn after `moves` moves.
    Turn {
        /// Who.
        user: UserToken,
        /// Moves made before this turn.
        moves: u32,
    },
    /// The game is over.
    Completed,
    /// The seats were not filled in time.
    TimedOut,
    /// Events may have been missed (the store's connection was lost, or the reader was slow): read a snapshot.
    Resync,
}

/// The events of one game, each subscription all of them in their order; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    /// Bounded; a reader that falls behind gets [`GameEvent::Resync`] in place of what did not fit. What happened just before
    /// the subscription may still come. It ends (`None`) only when the store was closed.
    pub events: mpsc::Receiver<GameEvent>,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not enough heroes to draw from.
    #[error("fewer heroes are loaded than the game has seats")]
    NoHeroes,
    /// The user does not come to the seats that it takes.
    #[error("{UNATTENDED_SEATS} seats of the user are not attended, and there may be no more")]
    TooManySeats,
    /// No game can be opened for now.
    #[error("{WAITING_GAMES} games wait for players, and there may be no more")]
    TooManyGames,
    /// A value that is not what the keys' description says.
    #[error("{key} holds {value:?}, which is not {expected}")]
    Malformed {
        /// The key.
        key: String,
        /// What it holds.
        value: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// The store cannot be reached or did not answer in time.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}
