//! The store in this process: for tests, and for runs of one server without Redis.

mod game;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use superhero_game::{Fighter, GameToken, Hero, Limits, Refusal, UserToken, derive_seed};
use tokio::time::Instant;
use uuid::Uuid;

use self::game::Game;
use crate::outlet::Outlet;
use crate::roster::Roster;
use crate::{
    GameEvent, GameStore, Login, OPEN_GAMES_LOOKED_AT, Outcome, REQUEST_KEPT, Seat, Snapshot, StoreError, Subscription,
};

/// The games of one process; clones share them.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Held for the few microseconds of one operation, never across an await.
    state: Arc<Mutex<State>>,
}

impl Memory {
    /// An empty store with the built-in roster.
    pub fn new() -> Self {
        Self::with_seed(rand::random())
    }

    /// The same, with users' tokens and the heroes of their seats drawn from `seed`: a name has the same token whenever it logs
    /// in first, so turn orders are the same, and a user's first, second, … seat has the same hero unless another player of
    /// the game has it. Games have tokens that no other store gives out, since the topics keep the games of several runs.
    pub fn with_seed(seed: u64) -> Self {
        let state = State {
            seed,
            roster: Roster::built_in(),
            heroes_loaded: 0,
            users: HashMap::new(),
            seats_taken: HashMap::new(),
            games: HashMap::new(),
            open: HashMap::new(),
            requests: HashMap::new(),
            requests_by_age: VecDeque::new(),
            expiries: BinaryHeap::new(),
            outlets: HashMap::new(),
            sweep_outlets_at: OUTLETS_SWEPT_FROM,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("no operation panics half-way");
        state.expire(Instant::now());
        state
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl GameStore for Memory {
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn login(&self, name: &str) -> Result<Login, StoreError> {
        let mut state = self.lock();
        if let Some(user) = state.users.get(name) {
            return Ok(Login { user: *user, created: false });
        }
        let user = state.token_of(name);
        state.users.insert(name.to_owned(), user);
        state.seats_taken.insert(user, 0);
        Ok(Login { user, created: true })
    }

    async fn find(
        &self,
        request: Uuid,
        user: UserToken,
        participants: u32,
        _now: DateTime<Utc>,
    ) -> Result<Seat, StoreError> {
        assert!(participants >= 2, "a game has 2 seats or more, not {participants}");
        self.lock().find(request, user, participants)
    }

    async fn hero(&self, game: GameToken, user: UserToken) -> Result<Option<Fighter>, StoreError> {
        Ok(self.lock().games.get(&game).and_then(|game| game.fighters().get(&user).copied()))
    }

    async fn attack(
        &self,
        game: GameToken,
        user: UserToken,
        enemy: UserToken,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        Ok(self.lock().attack(game, user, enemy, now.trunc_subsecs(6), limits))
    }

    async fn forfeit(
        &self,
        game: GameToken,
        moves: u32,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Option<Outcome>, StoreError> {
        Ok(self.lock().forfeit(game, moves, now.trunc_subsecs(6), limits))
    }

    async fn time_out(&self, game: GameToken) -> Result<bool, StoreError> {
        Ok(self.lock().time_out(game))
    }

    async fn snapshot(&self, game: GameToken) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.lock().games.get(&game).map(Game::snapshot))
    }

    async fn subscribe(&self, game: GameToken) -> Result<Subscription, StoreError> {
        Ok(self.lock().subscribe(game))
    }

    async fn clean(&self, game: GameToken, expiry: Duration) -> Result<(), StoreError> {
        self.lock().clean(game, Instant::now() + expiry);
        Ok(())
    }

    async fn load_heroes(&self, heroes: &[Hero]) -> Result<(), StoreError> {
        let roster = if heroes.is_empty() { Roster::built_in() } else { Roster::of_heroes(heroes)? };
        let mut state = self.lock();
        state.roster = roster;
        state.heroes_loaded = heroes.len();
        Ok(())
    }

    async fn hero_count(&self) -> Result<usize, StoreError> {
        Ok(self.lock().heroes_loaded)
    }
}

/// From how many games with subscriptions on, those whose subscriptions were all dropped are looked for.
const OUTLETS_SWEPT_FROM: usize = 64;

#[derive(Debug)]
struct State {
    seed: u64,
    roster: Roster,
    heroes_loaded: usize,
    users: HashMap<String, UserToken>,
    /// Of everybody in `users`, which their next hero depends on.
    seats_taken: HashMap<UserToken, u64>,
    games: HashMap<GameToken, Game>,
    /// Per number of seats, the games that have free ones, oldest first.
    open: HashMap<u32, VecDeque<GameToken>>,
    requests: HashMap<Uuid, Seat>,
    requests_by_age: VecDeque<(Instant, Uuid)>,
    /// When the cleaned games go; an entry whose time is not the game's own any more is void.
    expiries: BinaryHeap<Reverse<(Instant, GameToken)>>,
    outlets: HashMap<GameToken, Vec<Outlet>>,
    /// Doubles with what a sweep leaves, so that a subscription costs the same however many there are.
    sweep_outlets_at: usize,
}

impl State {
    fn token_of(&self, name: &str) -> UserToken {
        let mut rng = StdRng::seed_from_u64(derive_seed(self.seed, name.bytes().map(u64::from)));
        UserToken::new(uuid::Builder::from_random_bytes(rng.random()).into_uuid())
    }

    /// What the hero of the user's next seat is drawn from.
    fn next_seat(&mut self, user: UserToken) -> StdRng {
        let Some(taken) = self.seats_taken.get_mut(&user) else { return rand::make_rng() };
        *taken += 1;
        let (high, low) = user.uuid().as_u64_pair();
        StdRng::seed_from_u64(derive_seed(self.seed, [high, low, *taken]))
    }

    fn expire(&mut self, now: Instant) {
        while let Some((kept_until, request)) = self.requests_by_age.front()
            && *kept_until <= now
        {
            self.requests.remove(request);
            self.requests_by_age.pop_front();
        }
        while let Some(Reverse((expires, token))) = self.expiries.peek()
            && *expires <= now
        {
            if self.games.get(token).is_some_and(|game| game.expires == Some(*expires)) {
                self.games.remove(token);
            }
            self.expiries.pop();
        }
    }

    fn publish(&mut self, game: GameToken, event: GameEvent) {
        if let Some(outlets) = self.outlets.get_mut(&game) {
            outlets.retain(|outlet| !outlet.is_closed());
            outlets.iter_mut().for_each(|outlet| outlet.put(event));
        }
    }

    fn subscribe(&mut self, game: GameToken) -> Subscription {
        if self.outlets.len() >= self.sweep_outlets_at {
            self.outlets.retain(|_, outlets| {
                outlets.retain(|outlet| !outlet.is_closed());
                !outlets.is_empty()
            });
            self.sweep_outlets_at = OUTLETS_SWEPT_FROM.max(2 * self.outlets.len());
        }
        let (outlet, subscription) = Outlet::new();
        self.outlets.entry(game).or_default().push(outlet);
        subscription
    }

    fn find(&mut self, request: Uuid, user: UserToken, participants: u32) -> Result<Seat, StoreError> {
        if let Some(seat) = self.requests.get(&request) {
            return Ok(*seat);
        }
        let mut rng = self.next_seat(user);
        let candidates = self.roster.draw(participants, &mut rng)?;
        let seated_in = |game: &GameToken| self.games.get(game).is_some_and(|game| game.fighters().contains_key(&user));
        let open = self.open.entry(participants).or_default();
        let joined = open.iter().take(OPEN_GAMES_LOOKED_AT).find(|game| !seated_in(game)).copied();
        let token = joined.unwrap_or_else(|| {
            let token = GameToken::new(Uuid::new_v4());
            open.push_back(token);
            token
        });
        let game = self.games.entry(token).or_insert_with(|| Game::new(participants, user));
        let (fighter, first) = game.seat(user, &candidates);
        if let Some(user) = first {
            self.leave_open(token, participants);
            self.publish(token, GameEvent::Started);
            self.publish(token, GameEvent::Turn { user, moves: 0 });
        }
        let seat = Seat { game: token, hero: fighter.hero };
        self.requests.insert(request, seat);
        self.requests_by_age.push_back((Instant::now() + REQUEST_KEPT, request));
        Ok(seat)
    }

    fn leave_open(&mut self, game: GameToken, seats: u32) {
        if let Some(open) = self.open.get_mut(&seats) {
            open.retain(|other| *other != game);
        }
    }

    fn attack(
        &mut self,
        token: GameToken,
        user: UserToken,
        enemy: UserToken,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Outcome, Refusal> {
        let game = self.games.get_mut(&token).ok_or(Refusal::UnknownGame)?;
        let (outcome, event) = game.attack(token, user, enemy, now, limits)?;
        if let Some(event) = event {
            self.publish(token, event);
        }
        Ok(outcome)
    }

    fn forfeit(&mut self, token: GameToken, moves: u32, now: DateTime<Utc>, limits: Limits) -> Option<Outcome> {
        let (outcome, event) = self.games.get_mut(&token)?.forfeit(token, moves, now, limits)?;
        self.publish(token, event);
        Some(outcome)
    }

    fn time_out(&mut self, token: GameToken) -> bool {
        let Some(game) = self.games.get_mut(&token) else { return false };
        let seats = game.seats;
        let timed_out = game.time_out();
        if timed_out {
            self.leave_open(token, seats);
            self.publish(token, GameEvent::TimedOut);
        }
        timed_out
    }

    fn clean(&mut self, token: GameToken, expires: Instant) {
        if let Some(game) = self.games.get_mut(&token) {
            game.expires = Some(expires);
            let seats = game.seats;
            self.expiries.push(Reverse((expires, token)));
            self.leave_open(token, seats);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use tokio::task::JoinSet;

    use super::*;
    use crate::conformance;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_conforms() {
        conformance::run(&Memory::new()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_conforms_to_all_cases_at_once() {
        let store = Memory::new();
        let mut cases = JoinSet::new();
        for (_, case) in conformance::cases::<Memory>() {
            cases.spawn(case(store.clone()));
        }
        cases.join_all().await;
    }

    #[tokio::test]
    async fn a_seed_replays_tokens_and_heroes_whoever_comes_first_but_never_a_game() {
        let mut runs = Vec::new();
        for names in [["USER001", "USER002"], ["USER002", "USER001"]] {
            let store = Memory::with_seed(5);
            let mut users = BTreeMap::new();
            for name in names {
                users.insert(name, store.login(name).await.unwrap().user);
            }
            let mut seats = BTreeMap::new();
            for (seat, name) in (0..4).flat_map(|seat| names.map(|name| (seat, name))) {
                let (request, participants) = (Uuid::new_v4(), 2 + (seat % 2));
                let seat_taken = store.find(request, users[name], participants, DateTime::UNIX_EPOCH).await.unwrap();
                seats.insert((name, seat), seat_taken);
            }
            runs.push((users, seats));
        }
        let [(users, seats), (users_again, seats_again)] = &runs[..] else { unreachable!("two runs") };
        assert_eq!(users, users_again);
        let heroes = |seats: &BTreeMap<_, Seat>| seats.iter().map(|(key, seat)| (*key, seat.hero)).collect::<Vec<_>>();
        assert_eq!(heroes(seats), heroes(seats_again));
        assert!(seats.iter().all(|(key, seat)| seat.game != seats_again[key].game));
        let of_one: BTreeSet<_> = (0..4).map(|seat| seats[&("USER001", seat)].hero).collect();
        assert!(of_one.len() > 1, "always the same hero: {of_one:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_and_cleaned_games_are_kept_for_their_time() {
        let store = Memory::new();
        let user = UserToken::new(Uuid::from_u128(1));
        let find = |request| store.find(Uuid::from_u128(request), user, 2, DateTime::UNIX_EPOCH);
        let first = find(1).await.unwrap();
        store.clean(first.game, REQUEST_KEPT).await.unwrap();
        tokio::time::advance(REQUEST_KEPT - Duration::from_millis(1)).await;
        assert_eq!(find(1).await.unwrap(), first);
        assert!(store.snapshot(first.game).await.unwrap().is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(store.snapshot(first.game).await.unwrap(), None);
        assert_ne!(find(1).await.unwrap(), first);
    }

    #[tokio::test]
    async fn dropped_subscriptions_do_not_pile_up() {
        let store = Memory::new();
        for game in 0..1000 {
            store.subscribe(GameToken::new(Uuid::from_u128(game))).await.unwrap();
        }
        assert!(store.lock().outlets.len() <= OUTLETS_SWEPT_FROM);
    }
}
