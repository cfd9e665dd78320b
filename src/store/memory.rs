//! The store in this process: for tests, and for runs of one server without Redis.

mod game;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use superhero_game::{Fighter, GameToken, Hero, Limits, Refusal, SeatSecret, UserToken, derive_seed};
use tokio::time::Instant;
use uuid::Uuid;

use self::game::{Game, Welcome};
use crate::outlet::Outlet;
use crate::roster::Roster;
use crate::{
    Find, GAME_KEPT, GAMES_KEPT, GameEvent, GameStore, HIDDEN_AT_ONCE, Login, OPEN_GAMES_LOOKED_AT, OVERDUE_AFTER,
    Outcome, REQUEST_KEPT, Seat, Snapshot, StoreError, Subscription, TIMED_OUT_KEPT, TRUSTED_NEW_SEATS, TRUSTED_SEATS,
    UNATTENDED_SEATS, USERS_KEPT, WAITING_GAMES,
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
            users_by_age: BTreeMap::new(),
            logins: 0,
            seats_taken: HashMap::new(),
            unattended: HashMap::new(),
            games: HashMap::new(),
            waiting: 0,
            started: VecDeque::new(),
            open: HashMap::new(),
            attended: HashMap::new(),
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
        Ok(self.lock().login(name, Instant::now()))
    }

    async fn find(&self, find: Find) -> Result<Seat, StoreError> {
        let participants = find.participants;
        assert!(participants >= 2, "a game has 2 seats or more, not {participants}");
        self.lock().find(&find, Instant::now())
    }

    async fn attend(
        &self,
        game: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        visit: Uuid,
    ) -> Result<Result<(), Refusal>, StoreError> {
        Ok(self.lock().attend(game, user, secret, visit))
    }

    async fn leave(&self, game: GameToken, user: UserToken, visit: Uuid) -> Result<(), StoreError> {
        self.lock().leave(game, user, visit);
        Ok(())
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        drop(self.lock());
        Ok(true)
    }

    async fn hero(&self, game: GameToken, user: UserToken) -> Result<Option<Fighter>, StoreError> {
        Ok(self.lock().games.get(&game).and_then(|game| game.fighters().get(&user).copied()))
    }

    async fn attack(
        &self,
        game: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        enemy: UserToken,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        Ok(self.lock().attack(game, user, secret, enemy, now.trunc_subsecs(6), limits))
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
        Ok(self.lock().time_out(game, Instant::now()))
    }

    async fn snapshot(&self, game: GameToken) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.lock().games.get(&game).map(|game| game.snapshot(Instant::now())))
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
    /// With the number of the last login.
    users: HashMap<String, (UserToken, u64)>,
    /// By the number of their last login, with its time.
    users_by_age: BTreeMap<u64, (Instant, String)>,
    logins: u64,
    /// Of everybody in `users`, which their next hero depends on.
    seats_taken: HashMap<UserToken, u64>,
    /// Seats that were taken and not attended since, oldest first, for as long as their games would wait for players.
    unattended: HashMap<UserToken, BTreeSet<(Instant, GameToken)>>,
    games: HashMap<GameToken, Game>,
    /// How many of them wait for players.
    waiting: usize,
    /// The others, and some that are gone, oldest first.
    started: VecDeque<GameToken>,
    /// Per number of seats, the games with free ones that nobody attended yet, oldest first.
    open: HashMap<u32, VecDeque<GameToken>>,
    /// The same of those that somebody attends.
    attended: HashMap<u32, VecDeque<GameToken>>,
    requests: HashMap<Uuid, Seat>,
    requests_by_age: VecDeque<(Instant, Uuid)>,
    /// An entry whose time is not that of what it is about any more is void.
    expiries: BinaryHeap<Reverse<(Instant, Due)>>,
    outlets: HashMap<GameToken, Vec<Outlet>>,
    /// Doubles with what a sweep leaves, so that a subscription costs the same however many there are.
    sweep_outlets_at: usize,
}

/// What happens in its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A game times out, or goes.
    Game(GameToken),
    /// A seat does not count as unattended any more.
    Seat(UserToken, Instant, GameToken),
}

impl State {
    fn login(&mut self, name: &str, now: Instant) -> Login {
        self.logins += 1;
        let known = self.users.get(name).copied();
        if let Some((_, login)) = known {
            self.users_by_age.remove(&login);
        }
        let user = known.map_or_else(|| self.token_of(name), |(user, _)| user);
        self.users.insert(name.to_owned(), (user, self.logins));
        self.users_by_age.insert(self.logins, (now, name.to_owned()));
        self.seats_taken.entry(user).or_insert(0);
        while let Some(oldest) = self.users_by_age.first_entry()
            && (self.users.len() > USERS_KEPT || oldest.get().0 + GAME_KEPT <= now)
        {
            let (_, name) = oldest.remove();
            if let Some((user, _)) = self.users.remove(&name) {
                self.seats_taken.remove(&user);
            }
        }
        Login { user, created: known.is_none() }
    }

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
        while let Some(Reverse((due, _))) = self.expiries.peek()
            && *due <= now
            && let Some(Reverse((_, due))) = self.expiries.pop()
        {
            match due {
                Due::Game(token) => self.expire_game(token, now),
                Due::Seat(user, since, game) => self.not_unattended(user, since, game),
            }
        }
        while self.started.len() > GAMES_KEPT
            && let Some(oldest) = self.started.pop_front()
        {
            self.games.remove(&oldest);
        }
    }

    fn expire_game(&mut self, token: GameToken, now: Instant) {
        let Some(game) = self.games.get(&token) else { return };
        let is_over = game.expires <= now;
        if game.is_waiting() && (is_over || game.waits_until <= now) {
            // Where one of its players takes many seats and comes to none, nobody asks for it.
            let may_be_asked_for =
                game.is_attended() || game.fighters().keys().all(|user| self.unattended(*user) <= TRUSTED_SEATS);
            self.time_out(token, now);
            if is_over || !may_be_asked_for {
                self.games.remove(&token);
            }
        } else if is_over {
            self.games.remove(&token);
        }
    }

    /// The user has come to the seat, or would come too late.
    fn not_unattended(&mut self, user: UserToken, since: Instant, game: GameToken) {
        if let Some(seats) = self.unattended.get_mut(&user) {
            seats.remove(&(since, game));
            if seats.is_empty() {
                self.unattended.remove(&user);
            }
        }
    }

    fn unattended(&self, user: UserToken) -> usize {
        self.unattended.get(&user).map_or(0, BTreeSet::len)
    }

    /// Whether the user is likely to come to a seat that it took at `since`.
    fn is_trusted(&self, user: UserToken, since: Instant, now: Instant) -> bool {
        let is_overdue = |since: Instant| since + OVERDUE_AFTER <= now;
        let Some(seats) = self.unattended.get(&user) else { return true };
        let has_many_overdue = || seats.iter().nth(TRUSTED_SEATS).is_some_and(|(since, _)| is_overdue(*since));
        seats.len() <= TRUSTED_NEW_SEATS && !(is_overdue(since) && has_many_overdue())
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

    fn find(&mut self, find: &Find, now: Instant) -> Result<Seat, StoreError> {
        let Find { request, user, participants, secret, wait } = *find;
        let wait = wait.min(GAME_KEPT);
        if let Some(seat) = self.requests.get(&request) {
            return Ok(*seat);
        }
        if self.unattended(user) >= UNATTENDED_SEATS {
            return Err(StoreError::TooManySeats);
        }
        let joined = self.joined_game(user, participants, now);
        if joined.is_none() && self.waiting >= WAITING_GAMES {
            return Err(StoreError::TooManyGames);
        }
        let mut rng = self.next_seat(user);
        let candidates = self.roster.draw(participants, &mut rng)?;
        let token = joined.unwrap_or_else(|| self.open(user, participants, now, wait));
        let game = self.games.get_mut(&token).expect("it was open, or has just been opened");
        let (fighter, first) = game.seat(user, secret, now, &candidates);
        if let Some(user) = first {
            self.leave_open(token, participants);
            self.waiting -= 1;
            self.started.push_back(token);
            self.publish(token, GameEvent::Started);
            self.publish(token, GameEvent::Turn { user, moves: 0 });
        }
        self.unattended.entry(user).or_default().insert((now, token));
        self.expiries.push(Reverse((now + wait, Due::Seat(user, now, token))));
        let seat = Seat { game: token, hero: fighter.hero };
        self.requests.insert(request, seat);
        self.requests_by_age.push_back((now + REQUEST_KEPT, request));
        Ok(seat)
    }

    /// The first game that takes the user. Those before it that take nobody leave their lists, and cost no later call anything.
    fn joined_game(&mut self, user: UserToken, participants: u32, now: Instant) -> Option<GameToken> {
        let mut hidden = 0;
        for of_attended in [true, false] {
            let mut at = 0;
            while at < OPEN_GAMES_LOOKED_AT && hidden < HIDDEN_AT_ONCE {
                let games = if of_attended { &self.attended } else { &self.open };
                let Some(token) = games.get(&participants).and_then(|games| games.get(at)).copied() else { break };
                let is_trusted = |user, since| self.is_trusted(user, since, now);
                match self.games.get(&token).map_or(Welcome::Nobody, |game| game.welcome(user, is_trusted)) {
                    Welcome::Asker => return Some(token),
                    Welcome::Others => at += 1,
                    Welcome::Nobody => {
                        hidden += 1;
                        self.hide(token, participants);
                    }
                }
            }
        }
        None
    }

    fn hide(&mut self, token: GameToken, seats: u32) {
        self.leave_open(token, seats);
        if let Some(game) = self.games.get_mut(&token) {
            game.is_hidden = true;
        }
    }

    fn open(&mut self, host: UserToken, participants: u32, now: Instant, wait: Duration) -> GameToken {
        let (token, waits_until, expires) = (GameToken::new(Uuid::new_v4()), now + wait, now + GAME_KEPT);
        self.games.insert(token, Game::new(participants, host, waits_until, expires));
        self.waiting += 1;
        self.expiries.push(Reverse((waits_until, Due::Game(token))));
        self.expiries.push(Reverse((expires, Due::Game(token))));
        // The seat that is taken with it counts, too. Once the user comes to it, it is listed all the same.
        if self.unattended(host) < TRUSTED_NEW_SEATS {
            self.open.entry(participants).or_default().push_back(token);
        }
        token
    }

    fn attend(
        &mut self,
        token: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        visit: Uuid,
    ) -> Result<(), Refusal> {
        let game = self.games.get_mut(&token).ok_or(Refusal::UnknownGame)?;
        let was_attended = game.is_attended();
        let awaited_since = game.attend(user, secret, visit)?;
        if game.is_waiting() && game.is_listed && (!was_attended || game.is_hidden) {
            let seats = game.seats;
            game.is_hidden = false;
            self.leave_open(token, seats);
            self.attended.entry(seats).or_default().push_back(token);
        }
        if let Some(since) = awaited_since {
            self.not_unattended(user, since, token);
        }
        Ok(())
    }

    fn leave(&mut self, token: GameToken, user: UserToken, visit: Uuid) {
        let Some(game) = self.games.get_mut(&token).filter(|game| game.is_waiting()) else { return };
        if game.leave(user, visit) {
            let seats = game.seats;
            self.hide(token, seats);
        }
    }

    fn leave_open(&mut self, game: GameToken, seats: u32) {
        for games in [&mut self.attended, &mut self.open] {
            if let Some(open) = games.get_mut(&seats)
                && let Some(at) = open.iter().position(|other| *other == game)
            {
                open.remove(at);
                if open.is_empty() {
                    games.remove(&seats);
                }
            }
        }
    }

    fn attack(
        &mut self,
        token: GameToken,
        user: UserToken,
        secret: Option<SeatSecret>,
        enemy: UserToken,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<Outcome, Refusal> {
        let game = self.games.get_mut(&token).ok_or(Refusal::UnknownGame)?;
        let (outcome, event) = game.attack(token, user, secret, enemy, now, limits)?;
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

    fn time_out(&mut self, token: GameToken, now: Instant) -> bool {
        let Some(game) = self.games.get_mut(&token) else { return false };
        let seats = game.seats;
        let timed_out = game.time_out();
        if timed_out {
            game.expires = game.expires.min(now + TIMED_OUT_KEPT);
            self.expiries.push(Reverse((game.expires, Due::Game(token))));
            self.waiting -= 1;
            self.leave_open(token, seats);
            self.publish(token, GameEvent::TimedOut);
        }
        timed_out
    }

    fn clean(&mut self, token: GameToken, expires: Instant) {
        if let Some(game) = self.games.get_mut(&token) {
            game.expires = expires;
            game.is_listed = false;
            let seats = game.seats;
            self.expiries.push(Reverse((expires, Due::Game(token))));
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

    fn a_find(request: Uuid, user: UserToken, participants: u32) -> Find {
        let (secret, wait) = (SeatSecret::new(Uuid::new_v4()), Duration::from_secs(3600));
        Find { request, user, participants, secret, wait }
    }

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
                let seat_taken = store.find(a_find(Uuid::new_v4(), users[name], 2 + (seat % 2))).await.unwrap();
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
        let find = |request| store.find(a_find(Uuid::from_u128(request), user, 2));
        let first = find(1).await.unwrap();
        store.clean(first.game, REQUEST_KEPT).await.unwrap();
        tokio::time::advance(REQUEST_KEPT - Duration::from_millis(1)).await;
        assert_eq!(find(1).await.unwrap(), first);
        assert!(store.snapshot(first.game).await.unwrap().is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(store.snapshot(first.game).await.unwrap(), None);
        assert_ne!(find(1).await.unwrap(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_seats_that_nobody_came_to() {
        let store = Memory::new();
        let user = UserToken::new(Uuid::from_u128(1));
        let wait = Duration::from_secs(10);
        let mut taken = 0;
        while store.find(Find { wait, ..a_find(Uuid::new_v4(), user, 2) }).await.is_ok() {
            taken += 1;
        }
        assert_eq!((taken, store.lock().games.len()), (UNATTENDED_SEATS, UNATTENDED_SEATS));
        tokio::time::advance(wait).await;
        let counts = |store: &Memory| {
            let state = store.lock();
            (state.games.len(), state.waiting, state.unattended.len(), state.open.len(), state.attended.len())
        };
        assert!(counts(&store).0 <= TRUSTED_SEATS, "of so many seats nobody asks for the games");
        tokio::time::advance(TIMED_OUT_KEPT).await;
        assert_eq!(counts(&store), (0, 0, 0, 0, 0));
        tokio::time::advance(GAME_KEPT).await;
        let State { requests, requests_by_age, expiries, .. } = &*store.lock();
        assert_eq!((requests.len(), requests_by_age.len(), expiries.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn games_are_kept_for_their_time_and_users_up_to_their_number() {
        let store = Memory::new();
        let game = conformance::started(&store).await;
        tokio::time::advance(GAME_KEPT - Duration::from_secs(1)).await;
        assert!(store.snapshot(game).await.unwrap().is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(store.snapshot(game).await.unwrap(), None);
        let first = store.login("first").await.unwrap();
        let second = store.login("second").await.unwrap();
        assert!(!store.login("first").await.unwrap().created);
        for other in 0..USERS_KEPT - 1 {
            store.login(&format!("USER{other}")).await.unwrap();
        }
        assert_eq!(store.lock().users.len(), USERS_KEPT);
        assert_eq!(store.lock().seats_taken.len(), USERS_KEPT);
        assert_eq!(store.login("first").await.unwrap(), Login { created: false, ..first });
        assert!(store.login("second").await.unwrap().created, "{second:?} is the one that was away for longest");
        tokio::time::advance(GAME_KEPT).await;
        store.login("third").await.unwrap();
        assert_eq!(store.lock().users.len(), 1);
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
