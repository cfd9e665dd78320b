//! Who plays with whom where all players are bots of one process: drawn from the seed, whoever comes first.
//!
//! In each round every bot has a match. The bots of a match wait for each other and then ask for their seats one after the other, while
//! no other match of so many players does: a server gives each the oldest open game, so that they come to sit in the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use superhero_game::derive_seed;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Where a bot's choices have its number, so that no draw of a round is one of theirs.
const NO_BOT: u64 = u64::MAX;

/// A count of more seats than these would take longer than it is worth.
const MAX_SEATS_COUNTED: u64 = 10_000_000;

/// The matches of a run.
#[derive(Debug)]
pub(crate) struct Matchmaker {
    seed: u64,
    sizes: RangeInclusive<u32>,
    state: Mutex<State>,
    /// By the number of players: the match that takes its seats now.
    doors: BTreeMap<u32, Arc<Semaphore>>,
}

#[derive(Debug)]
struct State {
    /// Bots that have not left.
    present: BTreeSet<usize>,
    /// Of each round that somebody has come to, the bots that have not, with their matches.
    rounds: BTreeMap<u64, BTreeMap<usize, Arc<watch::Sender<Match>>>>,
}

/// One match, until all its players have their seats.
#[derive(Debug)]
struct Match {
    /// Who has no seat yet, in the order in which they get them.
    players: VecDeque<usize>,
    /// How many of them are still in their games before.
    missing: usize,
    /// How many play, known once none is missing.
    size: Option<u32>,
    /// Taken by the first, given back after the last.
    door: Option<OwnedSemaphorePermit>,
}

impl Matchmaker {
    pub(crate) fn new(seed: u64, bots: usize, sizes: RangeInclusive<u32>) -> Self {
        let doors = sizes.clone().map(|size| (size, Arc::new(Semaphore::new(1)))).collect();
        let state = State { present: (0..bots).collect(), rounds: BTreeMap::new() };
        Self { seed, sizes, state: Mutex::new(state), doors }
    }

    /// Waits for the other players of the bot's match in that round; none if nobody is left to play with.
    ///
    /// # Cancellation
    /// Safe: the others play without the bot.
    pub(crate) async fn meet(&self, bot: usize, round: u64) -> Option<Meeting> {
        let seat = Unseated { of: self.place(bot, round)?, bot };
        seat.of.send_modify(Match::one_missing_less);
        let participants = seat.of.subscribe().wait_for(|place| place.size.is_some()).await.ok()?.size?;
        let door = Arc::clone(self.doors.get(&participants)?);
        Some(Meeting { seat, participants, door })
    }

    /// Whether too few are left for any match.
    pub(crate) fn is_deserted(&self) -> bool {
        self.lock().present.len() < *self.sizes.start() as usize
    }

    /// Nobody waits for the bot any more.
    pub(crate) fn leave(&self, bot: usize) {
        let mut state = self.lock();
        state.present.remove(&bot);
        for round in state.rounds.values_mut() {
            if let Some(place) = round.remove(&bot) {
                place.send_modify(|place| {
                    place.players.retain(|player| *player != bot);
                    place.one_missing_less();
                });
            }
        }
        state.rounds.retain(|_, awaited| !awaited.is_empty());
    }

    fn place(&self, bot: usize, round: u64) -> Option<Arc<watch::Sender<Match>>> {
        let mut state = self.lock();
        let State { present, rounds } = &mut *state;
        let awaited = rounds.entry(round).or_insert_with(|| {
            let bots: Vec<_> = present.iter().copied().collect();
            let matches = matches(self.seed, round, bots, &self.sizes).into_iter().flat_map(|players| {
                let place = Arc::new(watch::Sender::new(Match::of(&players)));
                players.into_iter().map(move |player| (player, Arc::clone(&place)))
            });
            matches.collect()
        });
        let place = awaited.remove(&bot);
        if awaited.is_empty() {
            rounds.remove(&round);
        }
        place
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the matches")
    }
}

impl Match {
    fn of(players: &[usize]) -> Self {
        Self { players: players.iter().copied().collect(), missing: players.len(), size: None, door: None }
    }

    fn one_missing_less(&mut self) {
        self.missing -= 1;
        if self.missing == 0 {
            self.size = u32::try_from(self.players.len()).ok();
        }
    }
}

/// A bot in a match whose players are all there; dropping it says that the bot has its seat, or wants none.
#[derive(Debug)]
pub(crate) struct Meeting {
    seat: Unseated,
    /// How many play.
    pub(crate) participants: u32,
    door: Arc<Semaphore>,
}

impl Meeting {
    /// Waits until it is the bot's turn to ask for its seat.
    ///
    /// # Cancellation
    /// Safe.
    pub(crate) async fn turn(&self) {
        let Unseated { of, bot } = &self.seat;
        let mut place = of.subscribe();
        let is_first = match place.wait_for(|place| place.players.front() == Some(bot)).await {
            Ok(place) => place.door.is_none(),
            // The sender is ours, so waiting cannot fail.
            Err(_) => return,
        };
        if is_first {
            let door = Arc::clone(&self.door).acquire_owned().await.expect("the semaphore is never closed");
            of.send_modify(|place| place.door = Some(door));
        }
    }
}

/// A bot that its match waits for; dropping it lets the next one go on.
#[derive(Debug)]
struct Unseated {
    of: Arc<watch::Sender<Match>>,
    bot: usize,
}

impl Drop for Unseated {
    fn drop(&mut self) {
        self.of.send_modify(|place| {
            place.players.retain(|player| *player != self.bot);
            if place.players.is_empty() {
                place.door = None;
            }
        });
    }
}

/// How many games so many bots play in so many rounds, if none of them leaves early; none where that takes too long to count.
pub(crate) fn count_matches(seed: u64, bots: usize, rounds: u32, sizes: &RangeInclusive<u32>) -> Option<u64> {
    (bots as u64).checked_mul(u64::from(rounds)).filter(|seats| *seats <= MAX_SEATS_COUNTED)?;
    Some((0..u64::from(rounds)).map(|round| match_sizes(seed, round, bots, sizes).len() as u64).sum())
}

/// The players of each match of a round, in the order of their seats.
fn matches(seed: u64, round: u64, mut bots: Vec<usize>, sizes: &RangeInclusive<u32>) -> Vec<Vec<usize>> {
    bots.shuffle(&mut draw(seed, round, Draw::Players));
    let mut rest = bots.as_slice();
    let mut matches = Vec::new();
    for size in match_sizes(seed, round, bots.len(), sizes) {
        let (players, others) = rest.split_at(size);
        matches.push(players.to_vec());
        rest = others;
    }
    matches
}

/// The number of players of each match, so that nobody is left over if that can be had.
fn match_sizes(seed: u64, round: u64, bots: usize, sizes: &RangeInclusive<u32>) -> Vec<usize> {
    let mut rng = draw(seed, round, Draw::Sizes);
    let (least, most) = (*sizes.start() as usize, *sizes.end() as usize);
    let comes_out = |left: usize| left == 0 || left.div_ceil(most) * least <= left;
    let mut drawn = Vec::new();
    let mut left = bots;
    while left >= least {
        let fitting: Vec<_> = (least..=most.min(left)).filter(|size| comes_out(left - size)).collect();
        let size = match fitting.as_slice() {
            [] => most.min(left),
            fitting => fitting[rng.random_range(0..fitting.len())],
        };
        drawn.push(size);
        left -= size;
    }
    drawn
}

/// What of a round is drawn.
#[derive(Clone, Copy)]
enum Draw {
    Players,
    Sizes,
}

fn draw(seed: u64, round: u64, what: Draw) -> StdRng {
    StdRng::seed_from_u64(derive_seed(seed, [NO_BOT, round, what as u64]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    const SIZES: RangeInclusive<u32> = 2..=3;
    const DEADLINE: Duration = Duration::from_secs(10);

    #[test]
    fn every_bot_has_one_match_a_round_and_nobody_is_left_over() {
        for (bots, seed, round) in (2..=40).flat_map(|bots| (0..20).map(move |seed| (bots, seed, seed % 3))) {
            let matches = matches(seed, round, (0..bots).collect(), &SIZES);
            assert!(matches.iter().all(|players| (2..=3).contains(&players.len())), "{matches:?}");
            let seated: BTreeSet<_> = matches.iter().flatten().copied().collect();
            assert_eq!(seated.len(), bots, "{matches:?}");
            assert_eq!(matches.iter().map(Vec::len).sum::<usize>(), bots, "{matches:?}");
            assert_eq!(count_matches(seed, bots, 1, &SIZES), Some(match_sizes(seed, 0, bots, &SIZES).len() as u64));
        }
    }

    #[test]
    fn where_it_cannot_come_out_as_few_as_possible_are_left_over() {
        assert_eq!(match_sizes(1, 0, 7, &(3..=3)), [3, 3]);
        assert_eq!(match_sizes(1, 0, 5, &(4..=4)), [4]);
        assert!(match_sizes(1, 0, 1, &SIZES).is_empty());
        assert_eq!(match_sizes(1, 0, 11, &(4..=5)).iter().sum::<usize>(), 10);
    }

    #[test]
    fn rounds_and_seeds_differ_in_who_plays_and_in_how_many() {
        let of = |seed, round| matches(seed, round, (0..12).collect(), &SIZES);
        assert_eq!(of(1, 0), of(1, 0));
        assert!(of(1, 0) != of(1, 1) && of(1, 0) != of(2, 0));
        let counts: BTreeSet<_> = (0..50).map(|round| of(1, round).len()).collect();
        assert!(counts.len() > 1, "{counts:?}");
    }

    /// All bots play all rounds on a table of open games that seats people as a server does; gives who sat with whom.
    async fn play(
        bots: usize,
        rounds: u64,
        leaves: impl Fn(usize, u64) -> bool + Copy + Send + 'static,
    ) -> Vec<Vec<usize>> {
        let matchmaker = Arc::new(Matchmaker::new(7, bots, SIZES));
        let open: Arc<Mutex<BTreeMap<u32, Vec<usize>>>> = Arc::default();
        let played: Arc<Mutex<Vec<Vec<usize>>>> = Arc::default();
        let mut tasks = JoinSet::new();
        for bot in 0..bots {
            let (matchmaker, open, played) = (Arc::clone(&matchmaker), Arc::clone(&open), Arc::clone(&played));
            tasks.spawn(async move {
                for round in 0..rounds {
                    if leaves(bot, round) {
                        break;
                    }
                    let Some(meeting) = matchmaker.meet(bot, round).await else { continue };
                    meeting.turn().await;
                    // A server takes its time between two answers.
                    tokio::task::yield_now().await;
                    let mut open = open.lock().expect("no test panics with it");
                    let game = open.entry(meeting.participants).or_default();
                    game.push(bot);
                    if game.len() == meeting.participants as usize {
                        played.lock().expect("no test panics with it").push(std::mem::take(game));
                    }
                }
                matchmaker.leave(bot);
            });
        }
        timeout(DEADLINE, tasks.join_all()).await.expect("nobody waits for ever");
        assert!(open.lock().expect("no test panics with it").values().all(Vec::is_empty), "somebody waits in vain");
        assert!(matchmaker.lock().rounds.is_empty());
        let mut played = std::mem::take(&mut *played.lock().expect("no test panics with it"));
        played.sort();
        played
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_is_matched_comes_to_sit_in_the_same_game_in_the_same_order() {
        let played = play(25, 8, |_, _| false).await;
        let mut planned: Vec<_> = (0..8).flat_map(|round| matches(7, round, (0..25).collect(), &SIZES)).collect();
        planned.sort();
        assert_eq!(played, planned);
        assert_eq!(count_matches(7, 25, 8, &SIZES), Some(planned.len() as u64));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_waits_for_those_who_leave() {
        let played = play(9, 6, |bot, round| round >= 2 && bot < 4 || bot == 8).await;
        assert!(played.iter().flatten().all(|bot| *bot != 8));
        let played_often = |bot: usize| played.iter().filter(|players| players.contains(&bot)).count();
        assert!((4..8).all(|bot| played_often(bot) >= 4), "{played:?}");
        assert!(play(3, 4, |bot, round| bot > 0 && round > 0).await.len() <= 1);
        let matchmaker = Matchmaker::new(7, 3, SIZES);
        matchmaker.leave(0);
        assert!(!matchmaker.is_deserted());
        matchmaker.leave(2);
        assert!(matchmaker.is_deserted() && matchmaker.meet(1, 0).await.is_none());
    }
}
