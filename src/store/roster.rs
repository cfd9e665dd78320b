//! The heroes that seats draw from.

use rand::Rng;
use superhero_game::{Fighter, Hero, HeroId, built_in_roster};

use crate::StoreError;

/// The greatest health or attack: up to here a Lua number, an `f64`, counts every whole number.
pub(crate) const MAX_POINTS: u64 = 1 << 53;

const EXPECTED_POINTS: &str = "a hero whose attack and health are whole numbers from 1 to 2^53";

/// Each hero as it enters a duel.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    fighters: Vec<Fighter>,
}

impl Roster {
    /// # Errors
    /// [`StoreError::Malformed`] for a hero that cannot fight.
    pub(crate) fn new(fighters: Vec<Fighter>) -> Result<Self, StoreError> {
        let fights = |points: u64| (1..=MAX_POINTS).contains(&points);
        match fighters.iter().find(|fighter| !fights(fighter.attack) || !fights(fighter.health)) {
            Some(fighter) => {
                let Fighter { hero, attack, health } = fighter;
                Err(malformed(hero.0, format!("attack {attack} and health {health}")))
            }
            None => Ok(Self { fighters }),
        }
    }

    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn of_heroes(heroes: &[Hero]) -> Result<Self, StoreError> {
        let fighter = |hero: &Hero| Fighter { hero: hero.id, attack: hero.attack, health: hero.health };
        Self::new(heroes.iter().map(fighter).collect())
    }

    pub(crate) fn built_in() -> Self {
        Self::of_heroes(&built_in_roster()).expect("the built-in heroes can fight")
    }

    /// Heroes for a seat, in the order in which they are to be tried: as many as the game has seats, so that the others can
    /// have taken all but one of them at most.
    pub(crate) fn draw(&self, seats: u32, rng: &mut impl Rng) -> Result<Vec<Fighter>, StoreError> {
        let seats = usize::try_from(seats).unwrap_or(usize::MAX);
        if self.fighters.len() < seats {
            return Err(StoreError::NoHeroes);
        }
        let drawn = rand::seq::index::sample(rng, self.fighters.len(), seats);
        Ok(drawn.iter().map(|index| self.fighters[index]).collect())
    }
}

/// Reads a hero as a field of the `superheros` hash holds it.
pub(crate) fn read_fighter(id: &str, json: &str) -> Result<Fighter, StoreError> {
    #[derive(serde::Deserialize)]
    struct Wire {
        powerstats: Powerstats,
    }
    #[derive(serde::Deserialize)]
    struct Powerstats {
        attack: u64,
        health: u64,
    }
    let hero = id.parse().map(HeroId).map_err(|_| malformed(id, json.to_owned()))?;
    let Wire { powerstats } = serde_json::from_str(json).map_err(|_| malformed(id, json.to_owned()))?;
    Ok(Fighter { hero, attack: powerstats.attack, health: powerstats.health })
}

fn malformed(id: impl std::fmt::Display, value: String) -> StoreError {
    StoreError::Malformed { key: format!("superheros, field {id},"), value, expected: EXPECTED_POINTS }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn fighter(hero: u32) -> Fighter {
        Fighter { hero: HeroId(hero), attack: 3, health: 10 }
    }

    #[test]
    fn a_draw_gives_each_hero_once_and_as_many_as_there_are_seats() {
        let roster = Roster::new((0..10).map(fighter).collect()).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        for seats in 2..=10 {
            let mut drawn: Vec<HeroId> = roster.draw(seats, &mut rng).unwrap().iter().map(|f| f.hero).collect();
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), seats as usize);
        }
        assert!(matches!(roster.draw(11, &mut rng), Err(StoreError::NoHeroes)));
    }

    #[test]
    fn heroes_that_cannot_fight_are_refused_by_name() {
        for (attack, health) in [(0, 1), (1, 0), (MAX_POINTS + 1, 1), (1, MAX_POINTS + 1)] {
            let error = Roster::new(vec![fighter(1), Fighter { hero: HeroId(7), attack, health }]).unwrap_err();
            assert!(error.to_string().starts_with("superheros, field 7, holds"), "{error}");
        }
    }

    #[test]
    fn a_hero_of_the_hash_is_read() {
        let json = r#"{"name":"A","powerstats":{"intelligence":1,"health":10,"attack":3}}"#;
        assert_eq!(read_fighter("4", json).unwrap(), fighter(4));
        for (id, json) in [("x", json), ("4", "{}"), ("4", "text"), ("4", r#"{"powerstats":{"health":-1,"attack":3}}"#)]
        {
            assert!(matches!(read_fighter(id, json), Err(StoreError::Malformed { .. })), "{id} {json}");
        }
    }
}
