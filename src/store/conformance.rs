//! The suite that every store has to pass.
//!
//! The cases share one store, one after the other or at the same time: each plays in games of its own. A case that leaves
//! seats free on purpose uses a number of seats that no other case does.

mod events;
mod moves;
mod play;
mod records;
mod seats;

use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use superhero_game::{Fighter, GameToken, Limits, Refusal, SeatSecret, UserToken};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{Find, GameEvent, GameStore, Outcome, Seat, Snapshot, Subscription};

/// A case, ready to be run against a store; it panics with what was wrong.
pub type Case<S> = fn(S) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// More moves than any case makes.
const UNLIMITED: Limits = Limits { rounds: 1_000_000 };

/// For how long games wait for players where a case does not want to see the end of that.
const LONG_WAIT: Duration = Duration::from_secs(3600);

/// How long an event that was published may take to arrive.
const EVENT_DEADLINE: Duration = Duration::from_secs(10);

macro_rules! cases {
    ($($module:ident::$name:ident),+ $(,)?) => {
        vec![$((stringify!($name), |store| Box::pin($module::$name(store)))),+]
    };
}

/// Every case with its name, for a harness that lists them.
pub fn cases<S: GameStore>() -> Vec<(&'static str, Case<S>)> {
    cases![
        seats::a_name_has_one_token,
        seats::concurrent_finds_fill_games_and_overfill_none,
        seats::a_user_never_sits_twice_in_one_game,
        seats::a_repeated_find_keeps_its_seat,
        seats::the_last_seat_starts_the_game,
        seats::a_game_with_more_seats_than_heroes_is_not_opened,
        seats::games_that_somebody_attends_are_filled_first,
        seats::nobody_is_seated_with_whoever_left,
        seats::a_visit_that_ends_late_does_not_undo_a_later_one,
        seats::games_that_take_nobody_hide_no_others,
        seats::users_who_share_names_are_seated_together_before_they_come,
        seats::whoever_is_slow_is_awaited_for_the_whole_time,
        seats::nobody_is_seated_with_a_user_who_takes_many_seats_and_comes_to_none,
        seats::nobody_is_seated_with_a_user_who_takes_very_many_seats_at_once,
        seats::a_user_has_no_more_unattended_seats_than_there_may_be,
        seats::a_seat_that_its_user_came_to_with_the_secret_takes_nothing_without,
        seats::a_seat_whose_secret_nobody_has_shown_takes_whoever_has_the_token,
        moves::an_attack_hits_and_passes_the_turn,
        moves::refusals_change_nothing,
        moves::the_last_one_alive_completes_the_game,
        moves::the_round_cap_completes_the_game,
        moves::a_lowered_round_cap_ends_the_game_with_the_next_move,
        moves::a_repeated_attack_gets_its_outcome_again,
        moves::concurrent_repetitions_hit_once,
        moves::a_forfeit_goes_to_one_of_many_callers,
        moves::forfeits_of_other_turns_do_nothing,
        play::random_play_is_that_of_the_rules,
        events::two_subscribers_see_all_events_in_order,
        events::a_dropped_subscription_leaves_the_others,
        events::subscriptions_of_many_games_do_not_mix,
        events::a_game_times_out_once,
        events::a_started_game_does_not_time_out,
        events::a_game_whose_time_is_over_times_out_whoever_sees_it,
        records::a_game_that_nobody_attends_tells_those_who_come_late,
        records::a_game_of_a_user_who_comes_to_no_seat_goes_with_its_time,
        records::what_is_not_known_is_none,
        records::a_cleaned_game_keeps_until_its_expiry,
        records::a_cleaned_game_is_gone_after_its_expiry,
        records::a_cleaned_game_takes_no_more_players,
        records::loaded_heroes_replace_the_roster,
    ]
}

/// Runs every case, one after the other.
///
/// # Panics
/// With what was wrong in the first case that fails.
pub async fn run<S: GameStore>(store: &S) {
    for (_, case) in cases::<S>() {
        case(store.clone()).await;
    }
}

#[cfg(test)]
pub(crate) async fn started<S: GameStore>(store: &S) -> GameToken {
    Arena::seated(store, 2).await.game
}

/// A started game whose players are all played by the case.
struct Arena<S> {
    store: S,
    game: GameToken,
    /// The time of the next move; each has one of its own.
    now: DateTime<Utc>,
}

impl<S: GameStore> Arena<S> {
    /// Seats new users until the game starts. One at a time: two cases that fill games of one size at once would share them.
    async fn seated(store: &S, seats: u32) -> Self {
        let _seating = SEATING.lock().await;
        let mut game = None;
        for _ in 0..seats {
            let seat = find(store, new_user(), seats).await;
            assert_eq!(*game.get_or_insert(seat.game), seat.game, "a game for {seats} was open already");
        }
        Self { store: store.clone(), game: game.expect("a game has seats"), now: start_of_time() }
    }

    async fn snapshot(&self) -> Snapshot {
        self.store.snapshot(self.game).await.unwrap().expect("the game is known")
    }

    async fn on_turn(&self) -> UserToken {
        self.snapshot().await.order[0]
    }

    fn tick(&mut self) -> DateTime<Utc> {
        self.now += TimeDelta::microseconds(1001);
        self.now
    }

    async fn try_attack(&mut self, user: UserToken, enemy: UserToken, limits: Limits) -> Result<Outcome, Refusal> {
        let now = self.tick();
        self.store.attack(self.game, user, None, enemy, now, limits).await.unwrap()
    }

    /// The player on turn attacks whoever is next in the order.
    async fn attack_next(&mut self, limits: Limits) -> Outcome {
        let order = self.snapshot().await.order;
        self.try_attack(order[0], order[1], limits).await.expect("the player is on turn and the enemy alive")
    }

    async fn forfeit(&mut self, moves: u32) -> Option<Outcome> {
        let now = self.tick();
        self.store.forfeit(self.game, moves, now, UNLIMITED).await.unwrap()
    }
}

/// Held by whoever seats users in games that are to start at once.
static SEATING: Mutex<()> = Mutex::const_new(());

async fn find<S: GameStore>(store: &S, user: UserToken, seats: u32) -> Seat {
    store.find(a_find(user, seats)).await.unwrap()
}

fn a_find(user: UserToken, participants: u32) -> Find {
    Find { request: Uuid::new_v4(), user, participants, secret: new_secret(), wait: LONG_WAIT }
}

fn new_secret() -> SeatSecret {
    SeatSecret::new(Uuid::new_v4())
}

async fn fighter<S: GameStore>(store: &S, game: GameToken, user: UserToken) -> Fighter {
    store.hero(game, user).await.unwrap().expect("the player has a hero")
}

/// Lets the store look after what has had its time, until the game has.
async fn swept<S: GameStore>(store: &S, game: GameToken, is_done: fn(Option<Snapshot>) -> bool) {
    let sweeping = async {
        while !is_done(store.snapshot(game).await.unwrap()) {
            store.sweep().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(EVENT_DEADLINE, sweeping).await.expect("the time comes");
}

/// Waits until the store's clock says that the game, which was opened for `wait`, is so old.
async fn aged<S: GameStore>(store: &S, game: GameToken, wait: Duration, age: Duration) {
    let aging = async {
        while store.snapshot(game).await.unwrap().expect("it waits").waits.expect("it waits") > wait - age {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(age + EVENT_DEADLINE, aging).await.expect("the store's clock goes on");
}

fn new_user() -> UserToken {
    UserToken::new(Uuid::new_v4())
}

/// With microseconds, which records keep, and nanoseconds, which they do not.
fn start_of_time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_371_321, 101_031_999).expect("a time of the year 2026")
}

async fn next_event(subscription: &mut Subscription) -> GameEvent {
    tokio::time::timeout(EVENT_DEADLINE, subscription.events.recv())
        .await
        .expect("an event arrives in time")
        .expect("the store is not closed")
}
