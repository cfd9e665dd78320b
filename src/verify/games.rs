//! The games of a partition: which are over, and which of the tables has them.

use std::collections::HashMap;

use superhero_game::GameToken;
use superhero_sink::Table;

use crate::{Fault, Verification};

/// Games remembered in each of two generations: some 20 MiB. A game's events stand close together; only that it is in a table twice
/// is not noticed when as many games lie in between.
const MAX_GAMES: usize = 131_072;

/// The games that were heard of lately.
#[derive(Debug)]
pub(crate) struct Games {
    topic: String,
    partition: i32,
    recent: HashMap<GameToken, Game>,
    older: HashMap<GameToken, Game>,
}

/// What is known of a game.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Game {
    /// Participants that got a hero.
    pub(crate) selected: u32,
    /// Participants for whom it is over.
    pub(crate) ended: u32,
    /// One of the events of its end is a dead letter, or what was made of it cannot be read.
    pub(crate) is_excused: bool,
    in_meta: bool,
    in_podium: bool,
    /// The latest offset that tells of it.
    offset: i64,
}

impl Game {
    /// It has rows in a table.
    pub(crate) fn has(&mut self, table: Table) {
        match table {
            Table::GameMeta => self.in_meta = true,
            Table::GamePodium => self.in_podium = true,
            Table::Raw | Table::Dead => {}
        }
    }

    /// Whether it has rows in a table.
    pub(crate) fn is_in(&self, table: Table) -> bool {
        match table {
            Table::GameMeta => self.in_meta,
            Table::GamePodium => self.in_podium,
            Table::Raw | Table::Dead => false,
        }
    }

    /// The table that lacks it, none if both do; no answer if nothing is missing.
    ///
    /// The host's event makes the rows, and nobody knows which one that is. So a game without rows is missing only if the
    /// events of all that got a hero are there: a server may have died between them, or the rest is not read yet.
    fn missing(&self) -> Option<Option<&'static str>> {
        match (self.in_meta, self.in_podium) {
            _ if self.is_excused => None,
            (true, true) => None,
            (true, false) => Some(Some(Table::GamePodium.name())),
            (false, true) => Some(Some(Table::GameMeta.name())),
            (false, false) => (self.ended > 0 && self.ended >= self.selected).then_some(None),
        }
    }
}

impl Games {
    pub(crate) fn new(topic: &str, partition: i32) -> Self {
        Self { topic: topic.to_owned(), partition, recent: HashMap::new(), older: HashMap::new() }
    }

    /// The game, of which an event or a row tells that is made of the record at `offset`.
    pub(crate) fn of(&mut self, game: GameToken, offset: i64, found: &mut Verification) -> &mut Game {
        if self.recent.len() >= MAX_GAMES && !self.recent.contains_key(&game) {
            let recent = std::mem::take(&mut self.recent);
            let forgotten = std::mem::replace(&mut self.older, recent);
            self.tell(forgotten, found);
        }
        let older = &mut self.older;
        let known = self.recent.entry(game).or_insert_with(|| older.remove(&game).unwrap_or_default());
        known.offset = known.offset.max(offset);
        known
    }

    /// Tells which games are missing.
    pub(crate) fn finish(mut self, found: &mut Verification) {
        for games in [std::mem::take(&mut self.older), std::mem::take(&mut self.recent)] {
            self.tell(games, found);
        }
    }

    fn tell(&self, games: HashMap<GameToken, Game>, found: &mut Verification) {
        let mut missing: Vec<_> =
            games.into_iter().filter_map(|(token, game)| Some((game.offset, token, game.missing()?))).collect();
        missing.sort_unstable();
        for (offset, token, table) in missing {
            found.faults.push(Fault::MissingGame {
                table,
                game: token.to_string(),
                topic: self.topic.clone(),
                partition: self.partition,
                offset,
            });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_game_is_missing_when_it_is_over_for_all_that_took_part() {
        let game = |selected, ended, in_meta, in_podium, is_excused| {
            Game { selected, ended, in_meta, in_podium, is_excused, offset: 0 }.missing()
        };
        for (found, expected) in [
            (game(2, 2, true, true, false), None),
            (game(2, 2, false, false, false), Some(None)),
            (game(0, 2, false, false, false), Some(None)),
            (game(3, 2, false, false, false), None),
            (game(3, 0, false, false, false), None),
            (game(2, 2, false, false, true), None),
            (game(3, 1, true, false, false), Some(Some("GAME_PODIUM"))),
            (game(2, 2, false, true, false), Some(Some("GAME_META"))),
        ] {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn games_are_forgotten_from_the_oldest_on_and_judged_by_then() {
        let mut found = Verification::default();
        let mut games = Games::new("t", 0);
        let token = |number: usize| -> GameToken { format!("00000000-0000-0000-0000-{number:012x}").parse().unwrap() };
        games.of(token(0), 0, &mut found).ended = 1;
        for number in 1..2 * MAX_GAMES {
            games.of(token(number), number as i64, &mut found);
        }
        assert!(found.faults.is_empty());
        assert_eq!(games.of(token(1), 1, &mut found).offset, 1);
        games.of(token(2 * MAX_GAMES), 1, &mut found);
        assert_eq!(found.faults.count("missing_game"), 1);
        games.finish(&mut found);
        assert_eq!(found.faults.total(), 1);
    }
}
