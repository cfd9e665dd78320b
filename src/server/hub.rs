//! The games that have lobbies on this server: one [`Game`] with one task each, whoever and however many attend it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use superhero_game::{GameToken, UserToken};
use superhero_store::GameStore;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

use crate::game;
use crate::server::Server;

/// All games with a task on this server.
#[derive(Debug)]
pub(crate) struct Hub {
    games: Mutex<HashMap<GameToken, Arc<Game>>>,
    /// How many lobby sessions attend a game; what a stopping server waits for.
    attended: watch::Sender<usize>,
}

/// One game as the lobbies here see it.
#[derive(Debug)]
pub(crate) struct Game {
    pub(crate) token: GameToken,
    /// Not a queue: a lobby that is slow to push finds the newest state and skips turns that are over.
    pub(crate) stage: watch::Sender<Stage>,
    attendants: Mutex<Attendants>,
}

/// Who of this server's clients takes part.
#[derive(Debug, Default)]
struct Attendants {
    arrived: u64,
    /// Per user its sessions, newest last, by number of arrival.
    sessions: BTreeMap<UserToken, Sessions>,
    /// Whose actions wait for room in the transport, once for each.
    held_back: Vec<UserToken>,
}

/// One user's lobbies of a game.
#[derive(Debug)]
struct Sessions {
    numbers: Vec<u64>,
    /// As which the store knows that the user came last through this server, by whichever session.
    visit: Uuid,
}

/// What the lobbies have to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not read from the store yet.
    Opening,
    /// Seats are free.
    Waiting,
    /// The game goes on.
    Going {
        /// The start frame, the same for everybody.
        start: Utf8Bytes,
        /// The turn, once it may be announced.
        turn: Option<Turn>,
    },
    /// Over.
    Completed {
        /// Told first to those who have not got it yet; `None` if the game is gone from the store.
        start: Option<Utf8Bytes>,
    },
    /// The seats were not filled in time.
    TimedOut,
    /// The store knows no such game.
    Unknown,
    /// The store was away for too long; whoever wants may enter again.
    Unavailable,
}

/// One turn of a game.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Who has it.
    pub(crate) user: UserToken,
    /// Moves made before it; its name within the game.
    pub(crate) moves: u32,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { games: Mutex::default(), attended: watch::Sender::new(0) }
    }

    /// Takes a place in a game's lobby, and starts the game's task if nobody here has one yet.
    pub(crate) fn enter<S: GameStore>(
        server: &Arc<Server<S>>,
        token: GameToken,
        user: UserToken,
        visit: Uuid,
    ) -> Attendance {
        let hub = Arc::clone(&server.hub);
        let (game, is_new) = {
            let mut games = hub.lock();
            match games.get(&token) {
                Some(game) => (Arc::clone(game), false),
                None => {
                    let game = Arc::new(Game {
                        token,
                        stage: watch::Sender::new(Stage::Opening),
                        attendants: Mutex::default(),
                    });
                    games.insert(token, Arc::clone(&game));
                    (game, true)
                }
            }
        };
        let number = game.arrive(user, visit);
        hub.attended.send_modify(|attended| *attended += 1);
        let stage = game.stage.subscribe();
        if is_new {
            server.crew.spawn("game", game::drive(Arc::clone(server), Arc::clone(&game)));
        }
        Attendance { hub, game, user, number, stage }
    }

    /// Notes that an action waits for room in the transport: its player does not forfeit meanwhile.
    pub(crate) fn hold_back(&self, token: GameToken, user: UserToken) -> Option<HeldBack> {
        let game = Arc::clone(self.lock().get(&token)?);
        game.lock().held_back.push(user);
        Some(HeldBack { game, user })
    }

    /// Forgets a game that nobody drives any more, before its last stage is told: whoever enters then starts anew.
    pub(crate) fn remove(&self, game: &Arc<Game>) {
        let mut games = self.lock();
        if games.get(&game.token).is_some_and(|known| Arc::ptr_eq(known, game)) {
            games.remove(&game.token);
        }
    }

    /// Waits until no lobby is attended.
    pub(crate) async fn deserted(&self) {
        let mut attended = self.attended.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = attended.wait_for(|attended| *attended == 0).await;
    }

    /// How many lobbies are attended.
    pub(crate) fn attended(&self) -> usize {
        *self.attended.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GameToken, Arc<Game>>> {
        self.games.lock().expect("nobody panics while holding the table of games")
    }
}

impl Game {
    fn arrive(&self, user: UserToken, visit: Uuid) -> u64 {
        let mut attendants = self.lock();
        attendants.arrived += 1;
        let number = attendants.arrived;
        let sessions = attendants.sessions.entry(user).or_insert(Sessions { numbers: Vec::new(), visit });
        sessions.numbers.push(number);
        sessions.visit = visit;
        number
    }

    fn leave(&self, user: UserToken, number: u64) {
        let mut attendants = self.lock();
        if let Some(sessions) = attendants.sessions.get_mut(&user) {
            sessions.numbers.retain(|session| *session != number);
            if sessions.numbers.is_empty() {
                attendants.sessions.remove(&user);
            }
        }
    }

    /// Whether an action of the user waits for room in the transport.
    pub(crate) fn holds_back(&self, user: UserToken) -> bool {
        self.lock().held_back.contains(&user)
    }

    fn lock(&self) -> MutexGuard<'_, Attendants> {
        self.attendants.lock().expect("nobody panics while holding a game's attendants")
    }
}

/// A session's place in a game's lobby; dropping it leaves.
///
/// A user may have several, such as an old connection that it lost without our knowing and the new one: all of them hear of
/// start and end, and the newest gets the turns.
#[derive(Debug)]
pub(crate) struct Attendance {
    hub: Arc<Hub>,
    game: Arc<Game>,
    user: UserToken,
    number: u64,
    /// What there is to tell; changes wake the session.
    pub(crate) stage: watch::Receiver<Stage>,
}

impl Attendance {
    /// Whether no newer session of this user attends the game.
    pub(crate) fn is_newest(&self) -> bool {
        self.game.lock().sessions.get(&self.user).and_then(|sessions| sessions.numbers.last()) == Some(&self.number)
    }
}

impl Attendance {
    /// The user's last visit here, if no other session of this user attends the game here.
    pub(crate) fn only_visit(&self) -> Option<Uuid> {
        let attendants = self.game.lock();
        let sessions = attendants.sessions.get(&self.user)?;
        (sessions.numbers[..] == [self.number]).then_some(sessions.visit)
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.game.leave(self.user, self.number);
        // An older session of the user has the turn now.
        self.game.stage.send_modify(|_| {});
        self.hub.attended.send_modify(|attended| *attended -= 1);
    }
}

/// An action that waits for room in the transport, or has just found it; dropped when it has been carried out.
#[derive(Debug)]
pub(crate) struct HeldBack {
    game: Arc<Game>,
    user: UserToken,
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        let held_back = &mut self.game.lock().held_back;
        if let Some(at) = held_back.iter().position(|user| *user == self.user) {
            held_back.swap_remove(at);
        }
    }
}
