//! One duel: who fights, who is on turn, and what a move does.

use std::collections::{BTreeMap, VecDeque};

use crate::{HeroId, UserToken};

/// A player's hero in one duel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fighter {
    /// The hero drawn at the seat.
    pub hero: HeroId,
    /// Damage of one attack.
    pub attack: u64,
    /// Health points left.
    pub health: u64,
}

/// What bounds a duel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Moves per participant after which the duel ends, most health left winning.
    pub rounds: u32,
}

impl Limits {
    /// Moves after which a duel of `participants` ends.
    pub fn moves(self, participants: usize) -> u32 {
        self.rounds.saturating_mul(u32::try_from(participants).unwrap_or(u32::MAX))
    }
}

impl Default for Limits {
    /// 100 moves each: five times what the built-in roster's longest duels need. Of two heroes of the public file 99 in
    /// 100 have it out before that, and twice as many moves would end hardly any more of the rest, whose heroes can do
    /// each other no harm. A duel of two that only the cap ends takes 40 s at the default pause of 0.2 s before a turn.
    fn default() -> Self {
        Self { rounds: 100 }
    }
}

/// A duel between its first turn and its end.
///
/// The order starts as the participants' tokens, sorted; its head has the turn, goes to the back after a move, and leaves
/// it when its health is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duel {
    fighters: BTreeMap<UserToken, Fighter>,
    order: VecDeque<UserToken>,
    moves: u32,
}

/// What a move did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Damage of the attack, 0 for a forfeit.
    pub damage: u64,
    /// The health of whom it struck (of the player itself for a forfeit), before.
    pub health_prior: u64,
    /// The same after.
    pub health_post: u64,
    /// Who has the turn now; `None` when the duel is over.
    pub next: Option<UserToken>,
    /// How many moves were made so far, this one included; it names the turn that follows.
    pub moves: u32,
}

/// Why a move was not made; nothing changed. Where several hold, it is the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The game is not known.
    #[error("unknown game")]
    UnknownGame,
    /// The game is not going on: not started, completed or timed out.
    #[error("the game is not in progress")]
    NotInProgress,
    /// The player is not part of this game.
    #[error("not a player of this game")]
    NotAPlayer,
    /// The seat takes nothing without its secret, or this is not its secret.
    #[error("the seat belongs to whoever has its secret")]
    WrongSeat,
    /// Another player is on turn.
    #[error("it is another player's turn")]
    OutOfTurn,
    /// The enemy is not part of this game.
    #[error("the enemy is not a player of this game")]
    EnemyNotInGame,
    /// The enemy is the player itself.
    #[error("a hero cannot attack itself")]
    OneSelf,
    /// The enemy's health is 0 already.
    #[error("the enemy is dead")]
    EnemyDead,
}

impl Duel {
    /// Starts a duel between two or more fighters.
    pub fn new(fighters: BTreeMap<UserToken, Fighter>) -> Self {
        let order = fighters.iter().filter(|(_, fighter)| fighter.health > 0).map(|(user, _)| *user).collect();
        Self { fighters, order, moves: 0 }
    }

    /// Whoever has the turn; `None` when the duel is over.
    pub fn on_turn(&self, limits: Limits) -> Option<UserToken> {
        if self.order.len() < 2 || self.moves >= limits.moves(self.fighters.len()) {
            return None;
        }
        self.order.front().copied()
    }

    /// The living, head = on turn.
    pub fn order(&self) -> &VecDeque<UserToken> {
        &self.order
    }

    /// Everybody who takes part, with the health left.
    pub fn fighters(&self) -> &BTreeMap<UserToken, Fighter> {
        &self.fighters
    }

    /// Moves made so far.
    pub fn moves(&self) -> u32 {
        self.moves
    }

    /// `user` hits `enemy`.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed.
    pub fn attack(&mut self, user: UserToken, enemy: UserToken, limits: Limits) -> Result<Move, Refusal> {
        let damage = self.mover(user, limits)?.attack;
        let target = self.fighters.get_mut(&enemy).ok_or(Refusal::EnemyNotInGame)?;
        if enemy == user {
            return Err(Refusal::OneSelf);
        }
        if target.health == 0 {
            return Err(Refusal::EnemyDead);
        }
        let health_prior = target.health;
        target.health = health_prior.saturating_sub(damage);
        let health_post = target.health;
        if health_post == 0 {
            self.order.retain(|living| *living != enemy);
        }
        self.order.rotate_left(1);
        Ok(self.moved(damage, health_prior, health_post, limits))
    }

    /// `user`, who is on turn, lets it pass and falls.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed.
    pub fn forfeit(&mut self, user: UserToken, limits: Limits) -> Result<Move, Refusal> {
        let health_prior = self.mover(user, limits)?.health;
        self.fighters.entry(user).and_modify(|fighter| fighter.health = 0);
        self.order.pop_front();
        Ok(self.moved(0, health_prior, 0, limits))
    }

    /// The fighter of `user`, when it may make a move now.
    fn mover(&self, user: UserToken, limits: Limits) -> Result<Fighter, Refusal> {
        let on_turn = self.on_turn(limits).ok_or(Refusal::NotInProgress)?;
        let fighter = self.fighters.get(&user).ok_or(Refusal::NotAPlayer)?;
        if on_turn == user { Ok(*fighter) } else { Err(Refusal::OutOfTurn) }
    }

    fn moved(&mut self, damage: u64, health_prior: u64, health_post: u64, limits: Limits) -> Move {
        self.moves += 1;
        Move { damage, health_prior, health_post, next: self.on_turn(limits), moves: self.moves }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use uuid::Uuid;

    use super::*;
    use crate::{Action, AttackRecord, GameToken, podium};

    const NO_CAP: Limits = Limits { rounds: u32::MAX };

    fn user(number: usize) -> UserToken {
        UserToken::new(Uuid::from_u128(number as u128))
    }

    /// A duel of users 1, 2, … with (attack, health).
    fn duel(fighters: &[(u64, u64)]) -> Duel {
        let fighter = |(at, &(attack, health)): (usize, &(u64, u64))| {
            (user(at + 1), Fighter { hero: HeroId(at as u32), attack, health })
        };
        Duel::new(fighters.iter().enumerate().map(fighter).collect())
    }

    fn order(duel: &Duel) -> Vec<UserToken> {
        duel.order().iter().copied().collect()
    }

    #[test]
    fn the_order_starts_sorted_and_whoever_moved_goes_to_its_back() {
        let mut duel = duel(&[(3, 10), (4, 10), (5, 10)]);
        assert_eq!(order(&duel), [user(1), user(2), user(3)]);
        let expected = Move { damage: 3, health_prior: 10, health_post: 7, next: Some(user(2)), moves: 1 };
        assert_eq!(duel.attack(user(1), user(3), NO_CAP), Ok(expected));
        assert_eq!(order(&duel), [user(2), user(3), user(1)]);
    }

    #[test]
    fn whoever_falls_leaves_the_order_and_health_stops_at_0() {
        let mut duel = duel(&[(30, 10), (4, 10), (5, 10)]);
        let expected = Move { damage: 30, health_prior: 10, health_post: 0, next: Some(user(3)), moves: 1 };
        assert_eq!(duel.attack(user(1), user(2), NO_CAP), Ok(expected));
        assert_eq!(order(&duel), [user(3), user(1)]);
        assert_eq!(duel.attack(user(3), user(1), NO_CAP).unwrap().next, Some(user(1)));
        assert_eq!(duel.attack(user(1), user(3), NO_CAP).unwrap().next, None);
        assert_eq!(order(&duel), [user(1)]);
        assert_eq!(duel.attack(user(1), user(3), NO_CAP), Err(Refusal::NotInProgress));
    }

    #[test]
    fn a_forfeit_is_a_fall_without_a_blow() {
        let mut duel = duel(&[(3, 10), (4, 10), (5, 10)]);
        assert_eq!(duel.forfeit(user(2), NO_CAP), Err(Refusal::OutOfTurn));
        let expected = Move { damage: 0, health_prior: 10, health_post: 0, next: Some(user(2)), moves: 1 };
        assert_eq!(duel.forfeit(user(1), NO_CAP), Ok(expected));
        assert_eq!(duel.forfeit(user(2), NO_CAP).unwrap().next, None);
        assert_eq!(order(&duel), [user(3)]);
    }

    #[test]
    fn the_round_cap_ends_a_duel_that_nobody_wins() {
        let limits = Limits { rounds: 2 };
        let mut duel = duel(&[(1, 100), (1, 100)]);
        for (by, at) in [(1, 2), (2, 1), (1, 2)] {
            assert!(duel.attack(user(by), user(at), limits).unwrap().next.is_some());
        }
        assert_eq!(duel.attack(user(2), user(1), limits).unwrap().next, None);
        assert_eq!((duel.on_turn(limits), duel.order().len()), (None, 2));
        assert_eq!(duel.forfeit(user(1), limits), Err(Refusal::NotInProgress));
    }

    #[test]
    fn refusals_change_nothing() {
        let mut started = duel(&[(30, 10), (4, 10), (5, 10)]);
        started.attack(user(1), user(2), NO_CAP).unwrap();
        let before = started.clone();
        for (by, at, refusal) in [
            (9, 1, Refusal::NotAPlayer),
            (1, 3, Refusal::OutOfTurn),
            (2, 3, Refusal::OutOfTurn),
            (3, 9, Refusal::EnemyNotInGame),
            (3, 3, Refusal::OneSelf),
            (3, 2, Refusal::EnemyDead),
        ] {
            assert_eq!(started.attack(user(by), user(at), NO_CAP), Err(refusal), "{by} attacks {at}");
            assert_eq!(started, before);
        }
    }

    proptest! {
        #[test]
        fn any_duel_keeps_the_rules(
            fighters in proptest::collection::vec((1u64..50, 1u64..200), 2..6),
            rounds in 1u32..40,
            choices in proptest::collection::vec((any::<Index>(), 0u8..20), 250),
        ) {
            let limits = Limits { rounds };
            let mut duel = duel(&fighters);
            let mut records = Vec::new();
            let mut choices = choices.into_iter();
            while let Some(on_turn) = duel.on_turn(limits) {
                let before = duel.clone();
                let (enemy, whim) = choices.next().expect("a duel takes at most its cap of moves");
                let enemies: Vec<_> = duel.order().iter().copied().filter(|living| *living != on_turn).collect();
                let enemy = enemies[enemy.index(enemies.len())];
                let action = if whim == 0 {
                    duel.forfeit(on_turn, limits).unwrap();
                    Action::Forfeit
                } else {
                    let Move { damage, health_prior, health_post, .. } = duel.attack(on_turn, enemy, limits).unwrap();
                    prop_assert_eq!(damage, before.fighters()[&on_turn].attack);
                    Action::Attack { enemy, damage, health_prior, health_post }
                };
                let (timestamp, game) = (DateTime::UNIX_EPOCH, GameToken::new(Uuid::nil()));
                records.push(AttackRecord { timestamp, game, user: on_turn, action });

                for (user, fighter) in duel.fighters() {
                    prop_assert!(fighter.health <= before.fighters()[user].health, "health rose");
                }
                let mut living = order(&duel);
                living.sort();
                let alive: Vec<_> =
                    duel.fighters().iter().filter(|(_, fighter)| fighter.health > 0).map(|(user, _)| *user).collect();
                prop_assert_eq!(living, alive, "the order is no permutation of the living");
                prop_assert_eq!(duel.moves() as usize, records.len());
            }

            let cap = duel.moves() == limits.moves(fighters.len());
            prop_assert!(duel.order().len() == 1 || cap, "neither one winner nor the round cap");
            prop_assert!(!duel.order().is_empty());

            let health = duel.fighters().iter().map(|(user, fighter)| (*user, fighter.health)).collect();
            let rows = podium(&health, &records);
            prop_assert_eq!(rows.iter().map(|row| row.rank).collect::<Vec<_>>(), (1..=fighters.len() as u32).collect::<Vec<_>>());
            let sum = |of: fn(&crate::PodiumRow) -> u64| rows.iter().map(of).sum::<u64>();
            prop_assert_eq!(sum(|row| row.damage_delivered), sum(|row| row.damage_received));
            let healths: Vec<_> = rows.iter().map(|row| health[&row.user]).collect();
            prop_assert!(healths.is_sorted_by(|above, below| above >= below), "{:?}", healths);
        }
    }
}
