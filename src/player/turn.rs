//! Whether a turn is the bot's, told by the heroes.
//!
//! A notice says that it is the bot's turn, but not which: a server may announce a turn until the action comes, and have sent one notice
//! more when it comes. Whoever acts upon that one acts out of turn. But a move always costs somebody health, so that the heroes
//! tell whether all the others have moved since the bot did.

use std::collections::BTreeMap;

use superhero_game::{Fighter, UserToken};

/// The heroes of a game at some time; `None` for one that the server does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heroes {
    me: UserToken,
    fighters: BTreeMap<UserToken, Option<Fighter>>,
}

/// How the heroes stand once the bot's last move is made, and nobody has moved since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved(Heroes);

impl Heroes {
    pub(crate) fn new(me: UserToken, fighters: BTreeMap<UserToken, Option<Fighter>>) -> Self {
        Self { me, fighters }
    }

    /// Those whom the bot may attack, in the order of their tokens.
    pub(crate) fn living_enemies(&self) -> Vec<UserToken> {
        self.living_others().map(|(user, _)| user).collect()
    }

    /// Whether the bot may move, after that last move of its.
    pub(crate) fn are_on_my_turn(&self, last: Option<&Moved>) -> bool {
        let fallen = self.fighter(self.me).is_some_and(|me| me.health == 0);
        !fallen && last.is_none_or(|last| last.others_have_moved(self))
    }

    /// What the bot's move will make of them: its hero's attack value is what it costs the enemy.
    pub(crate) fn after_move(self, enemy: Option<UserToken>) -> Moved {
        let damage = self.fighter(self.me).map_or(1, damage);
        let left = enemy.and_then(|enemy| self.fighter(enemy)).map(|enemy| enemy.health.saturating_sub(damage));
        let mut moved = Moved(self);
        if let (Some(enemy), Some(left)) = (enemy, left) {
            moved.correct(enemy, left);
        }
        moved
    }

    fn fighter(&self, user: UserToken) -> Option<&Fighter> {
        self.fighters.get(&user)?.as_ref()
    }

    fn living_others(&self) -> impl Iterator<Item = (UserToken, &Fighter)> {
        let known = self.fighters.iter().filter_map(|(user, fighter)| Some((*user, fighter.as_ref()?)));
        known.filter(|(user, fighter)| *user != self.me && fighter.health > 0)
    }
}

impl Moved {
    /// Takes the server's word for what is left of the enemy.
    pub(crate) fn correct(&mut self, enemy: UserToken, health: u64) {
        if let Some(Some(enemy)) = self.0.fighters.get_mut(&enemy) {
            enemy.health = health;
        }
    }

    /// Whether everybody who could move since has done so; where that cannot be told, it is taken for so, as nobody may
    /// miss its turn. Of three players it can always be told, as long as nobody forfeits.
    fn others_have_moved(&self, now: &Heroes) -> bool {
        if self.0.living_others().next().is_none() {
            // The game is over, and its end is about to be told.
            return false;
        }
        let mut lost: u64 = 0;
        for (user, then) in &self.0.fighters {
            let (Some(then), Some(now)) = (then, now.fighter(*user)) else { return true };
            // More than there was: the move was not made. Fallen: by a blow of which only a part is seen.
            if now.health > then.health || (now.health == 0 && then.health > 0) {
                return true;
            }
            lost = lost.saturating_add(then.health - now.health);
        }
        // All who live have made one move each, or it is somebody else's turn.
        lost >= self.0.living_others().map(|(_, enemy)| damage(enemy)).fold(0, u64::saturating_add)
    }
}

/// What an attack costs, unless less is left: never nothing.
fn damage(fighter: &Fighter) -> u64 {
    fighter.attack.max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use superhero_game::{Duel, HeroId, Limits};

    use super::*;

    fn user(number: u32) -> UserToken {
        format!("{number:032x}").parse().unwrap()
    }

    /// The bot is user 1; users 1, 2, … with (attack, health).
    fn heroes(fighters: &[(u64, u64)]) -> Heroes {
        let fighter = |(at, &(attack, health)): (u32, &(u64, u64))| {
            (user(at + 1), Some(Fighter { hero: HeroId(at), attack, health }))
        };
        Heroes::new(user(1), (0..).zip(fighters).map(fighter).collect())
    }

    #[track_caller]
    fn check(moved: &Moved, now: &[(u64, u64)], mine: bool) {
        assert_eq!(heroes(now).are_on_my_turn(Some(moved)), mine, "{moved:?} and now {now:?}");
    }

    #[test]
    fn of_two_the_other_has_to_hit_first() {
        let moved = heroes(&[(3, 10), (4, 10)]).after_move(Some(user(2)));
        check(&moved, &[(3, 10), (4, 7)], false);
        check(&moved, &[(3, 6), (4, 7)], true);
        check(&moved, &[(3, 0), (4, 7)], false);
    }

    #[test]
    fn of_three_both_others_have_to_hit_first() {
        let moved = heroes(&[(3, 10), (4, 10), (5, 10)]).after_move(Some(user(2)));
        check(&moved, &[(3, 10), (4, 7), (5, 10)], false);
        check(&moved, &[(3, 6), (4, 7), (5, 10)], false);
        check(&moved, &[(3, 10), (4, 7), (5, 6)], false);
        check(&moved, &[(3, 1), (4, 7), (5, 10)], true);
        check(&moved, &[(3, 5), (4, 7), (5, 6)], true);
        check(&moved, &[(3, 10), (4, 2), (5, 6)], true);
        // Whoever of the two has killed the other has moved, and nobody else is left to.
        check(&moved, &[(3, 10), (4, 7), (5, 0)], true);
        check(&moved, &[(3, 10), (4, 0), (5, 6)], true);
    }

    #[test]
    fn whoever_fell_by_the_bots_own_hand_is_not_waited_for() {
        let moved = heroes(&[(30, 10), (4, 10), (5, 10)]).after_move(Some(user(2)));
        check(&moved, &[(30, 10), (4, 0), (5, 10)], false);
        check(&moved, &[(30, 5), (4, 0), (5, 10)], true);
    }

    #[test]
    fn after_the_last_enemys_fall_there_is_no_turn() {
        let moved = heroes(&[(30, 10), (4, 10)]).after_move(Some(user(2)));
        check(&moved, &[(30, 10), (4, 0)], false);
        let nobody = heroes(&[(30, 10)]).after_move(None);
        check(&nobody, &[(30, 10)], false);
    }

    #[test]
    fn a_move_whose_answer_was_lost_was_made_if_it_is_seen() {
        let moved = heroes(&[(3, 10), (4, 10)]).after_move(Some(user(2)));
        check(&moved, &[(3, 10), (4, 10)], true);
        // A server that does not tell attack values: any health that is gone is a move.
        let moved = heroes(&[(0, 10), (0, 10)]).after_move(Some(user(2)));
        check(&moved, &[(0, 10), (0, 10)], true);
        check(&moved, &[(0, 10), (0, 9)], false);
        check(&moved, &[(0, 9), (0, 9)], true);
    }

    #[test]
    fn the_servers_word_for_what_is_left_counts() {
        let mut moved = heroes(&[(3, 10), (4, 10)]).after_move(Some(user(2)));
        moved.correct(user(2), 8);
        check(&moved, &[(3, 10), (4, 8)], false);
    }

    #[test]
    fn what_cannot_be_told_is_taken_for_a_turn() {
        let moved = heroes(&[(3, 10), (4, 10)]).after_move(Some(user(2)));
        check(&moved, &[], true);
        let mut unknown = heroes(&[(3, 10), (4, 10)]);
        unknown.fighters.insert(user(1), None);
        check(&unknown.after_move(Some(user(2))), &[(3, 10), (4, 9)], true);
        assert!(heroes(&[(3, 10), (4, 10)]).are_on_my_turn(None));
        assert!(!heroes(&[(3, 0), (4, 10)]).are_on_my_turn(None));
    }

    /// Duels of three with every choice of enemies for some moves: the bot's turn is known after each move.
    #[test]
    fn duels_of_three_are_told_right_whatever_is_chosen() {
        let limits = Limits::default();
        for choices in 0u32..1 << 12 {
            for mine in 1..=3 {
                let fighters = [(4, 11), (5, 14), (2, 9)];
                let known = heroes(&fighters).fighters;
                let mut duel = Duel::new(known.into_iter().map(|(user, fighter)| (user, fighter.unwrap())).collect());
                let mut last: Option<Moved> = None;
                let mut bits = (0..12).map(|bit| choices >> bit & 1 == 1);
                while let (Some(on_turn), Some(second)) = (duel.on_turn(limits), bits.next()) {
                    let fighters = duel.fighters().iter().map(|(user, fighter)| (*user, Some(*fighter)));
                    let now = Heroes::new(user(mine), fighters.collect());
                    let expected = on_turn == user(mine);
                    if expected || last.is_some() {
                        assert_eq!(now.are_on_my_turn(last.as_ref()), expected, "{choices:b} {mine} {duel:?} {last:?}");
                    }
                    let mut enemies = duel.order().iter().copied().filter(|enemy| *enemy != on_turn);
                    let enemy = if second { enemies.next_back() } else { enemies.next() }.unwrap();
                    if expected {
                        last = Some(now.after_move(Some(enemy)));
                    }
                    duel.attack(on_turn, enemy, limits).unwrap();
                }
            }
        }
    }
}
