//! What a bot chooses: pure, and drawn from the seed, the bot and the situation alone.

use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use superhero_game::{UserToken, derive_seed};

/// The choices of one bot.
///
/// Each is drawn on its own from what it is about, not from one stream after the other: whatever a reconnect repeats or
/// leaves out, the choices after it stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    seed: u64,
    bot: u64,
}

/// How many user names there are.
const USERS: u32 = 1_000;

/// What a choice is about.
#[derive(Clone, Copy)]
enum About {
    User,
    Participants { game: u64 },
    Enemy { game: u64, attack: u64 },
    Pause { failure: u64 },
}

impl Choices {
    /// The choices of the bot of that number among those that share the seed.
    pub fn new(seed: u64, bot: usize) -> Self {
        Self { seed, bot: bot as u64 }
    }

    /// The name to log in with: `USER000` to `USER999`.
    pub fn user(&self) -> String {
        format!("USER{:03}", self.random(About::User).random_range(0..USERS))
    }

    /// How many participants to ask for in the bot's game of that number; the range must not be empty.
    pub fn participants(&self, game: u64, range: RangeInclusive<u32>) -> u32 {
        self.random(About::Participants { game }).random_range(range)
    }

    /// Whom to hit, after that many attacks in that game; `None` when nobody is alive.
    pub fn enemy(&self, game: u64, attack: u64, living: &[UserToken]) -> Option<UserToken> {
        match living {
            [] => None,
            [only] => Some(*only),
            _ => Some(living[self.random(About::Enemy { game, attack }).random_range(0..living.len())]),
        }
    }

    /// The part of a pause to wait, from a half to the whole, after that many failures: bots that failed together do
    /// not try again together.
    pub(crate) fn pause(&self, failure: u64) -> f64 {
        self.random(About::Pause { failure }).random_range(0.5..=1.0)
    }

    fn random(&self, about: About) -> StdRng {
        let parts = match about {
            About::User => [1, 0, 0],
            About::Participants { game } => [2, game, 0],
            About::Enemy { game, attack } => [3, game, attack],
            About::Pause { failure } => [4, failure, 0],
        };
        StdRng::seed_from_u64(derive_seed(self.seed, [self.bot].into_iter().chain(parts)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn tokens(count: u32) -> Vec<UserToken> {
        (1..=count).map(|number| format!("{number:032x}").parse().unwrap()).collect()
    }

    /// A bot's first choices, told as texts.
    fn choices(seed: u64, bot: usize) -> Vec<String> {
        let choices = Choices::new(seed, bot);
        let living = tokens(4);
        let mut told = vec![choices.user()];
        for game in 0..20 {
            told.push(choices.participants(game, 2..=3).to_string());
            told.extend((0..5).map(|attack| choices.enemy(game, attack, &living).unwrap().to_string()));
        }
        told
    }

    #[test]
    fn the_same_seed_and_bot_choose_the_same_and_others_do_not() {
        assert_eq!(choices(7, 3), choices(7, 3));
        assert_ne!(choices(7, 3), choices(7, 4));
        assert_ne!(choices(7, 3), choices(8, 3));
    }

    #[test]
    fn every_value_is_chosen_at_some_time_and_no_other() {
        let participants: BTreeSet<_> = (0..100).map(|game| Choices::new(1, 0).participants(game, 2..=3)).collect();
        assert_eq!(participants, BTreeSet::from([2, 3]));
        let users: BTreeSet<_> = (0..500).map(|bot| Choices::new(1, bot).user()).collect();
        assert!(users.len() > 300 && users.iter().all(|user| user.len() == "USER000".len()));
        let living = tokens(3);
        let enemies: BTreeSet<_> = (0..100).filter_map(|attack| Choices::new(1, 0).enemy(0, attack, &living)).collect();
        assert_eq!(enemies, living.iter().copied().collect());
    }

    #[test]
    fn the_only_one_alive_is_hit_and_of_none_none() {
        let living = tokens(1);
        assert_eq!(Choices::new(1, 0).enemy(0, 0, &living), Some(living[0]));
        assert_eq!(Choices::new(1, 0).enemy(0, 0, &[]), None);
    }

    #[test]
    fn a_pause_is_cut_by_half_at_most() {
        assert!((0..1_000).all(|failure| (0.5..=1.0).contains(&Choices::new(1, 0).pause(failure))));
    }
}
