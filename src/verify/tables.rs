//! The two game tables beside the raw rows: each game in both, once, with the same users, made of the event of its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use superhero_event::Cleaning;
use superhero_game::{GameToken, HeroId, UserToken};
use superhero_sink::{PartitionId, Table};

use crate::coverage::Late;
use crate::envelope::Kind;
use crate::game_row::{GameRow, MetaRow, PodiumRow, Share};
use crate::games::Games;
use crate::id::Id;
use crate::lane::{Ahead, Lane};
use crate::row::RawRow;
use crate::survey::Survey;
use crate::{Fault, Standing, Verification, VerifyError};

/// More than any game can have, since no two heroes of a game are the same; the users of one record's rows are held at once.
const MAX_USERS: usize = 65_536;

/// Both tables' rows of one partition.
pub(crate) struct Tables {
    meta: Lane<MetaRow>,
    podium: Lane<PodiumRow>,
    games: Games,
    topic: String,
    partition: i32,
}

/// The rows of a table that are made of one record.
struct Group {
    offset: i64,
    game: GameToken,
    users: BTreeMap<UserToken, Share>,
    path: Arc<Path>,
    late: Option<Late>,
    /// What is wrong with them.
    reason: Option<String>,
}

/// What a raw row's event says of a game.
#[derive(Clone, Copy)]
struct Ending {
    cleaning: Cleaning,
    /// It is among the dead letters, or may be.
    is_dead: bool,
    id: Option<Id>,
}

impl Tables {
    pub(crate) fn open(
        survey: &Arc<Survey>,
        partition: &PartitionId,
        found: &mut Verification,
    ) -> Result<Self, VerifyError> {
        let (topic, number) = (partition.topic().to_owned(), partition.partition());
        Ok(Self {
            meta: Lane::open(survey, partition, found)?,
            podium: Lane::open(survey, partition, found)?,
            games: Games::new(&topic, number),
            topic,
            partition: number,
        })
    }

    /// Takes the next raw row; `is_dead` tells whether its record is among the dead letters, or may be.
    pub(crate) fn meet(
        &mut self,
        row: &RawRow<'_>,
        kind: Kind,
        is_dead: bool,
        found: &mut Verification,
    ) -> Result<(), VerifyError> {
        self.pass_below(row.offset, found)?;
        let ending = match kind {
            Kind::Cleaning(cleaning) => Some(Ending { cleaning, is_dead, id: row.id }),
            Kind::HeroSelected => {
                if let Some(game) = row.game() {
                    self.games.of(game, row.offset, found).selected += 1;
                }
                None
            }
            Kind::Plain | Kind::TimedOut | Kind::Bad => None,
        };
        let has_rows = self.meta.up_to(row.offset).is_some() || self.podium.up_to(row.offset).is_some();
        if !has_rows && ending.is_none() {
            return Ok(());
        }
        // Reading on may bring the sight back, but not to what lies before.
        let is_blind = self.meta.is_blind() || self.podium.is_blind();
        self.meta.check_date(row.offset, row.timestamp.date, found);
        self.podium.check_date(row.offset, row.timestamp.date, found);
        let (topic, partition) = (&self.topic, self.partition);
        let meta = Group::take(&mut self.meta, row.offset, found)?;
        let podium = Group::take(&mut self.podium, row.offset, found)?;
        let is_blind = is_blind || self.meta.is_blind() || self.podium.is_blind();
        let belongs = |group: Group, table: Table, found: &mut Verification| {
            let reason = match ending {
                None => "the record there ends no game",
                Some(ending) if ending.cleaning.game_token != group.game => "the record there ends another game",
                Some(_) => return Some(group),
            };
            found.faults.push(orphan(topic, partition, table, &group, reason));
            None
        };
        let meta = meta.and_then(|group| belongs(group, Table::GameMeta, found));
        let podium = podium.and_then(|group| belongs(group, Table::GamePodium, found));
        if let Some(ending) = ending {
            self.end(row.offset, ending, meta, podium, is_blind, found);
        }
        Ok(())
    }

    /// Tells of all that was not met.
    pub(crate) fn finish(mut self, found: &mut Verification) -> Result<(), VerifyError> {
        self.pass_below(i64::MAX, found)?;
        self.games.finish(found);
        Ok(())
    }

    fn pass_below(&mut self, offset: i64, found: &mut Verification) -> Result<(), VerifyError> {
        while self.meta.up_to(offset).is_some_and(|ahead| ahead.late.is_some() || ahead.row_offset() < offset) {
            let group = Group::take(&mut self.meta, i64::MAX, found)?;
            self.pass_by(group, Table::GameMeta, found);
        }
        while self.podium.up_to(offset).is_some_and(|ahead| ahead.late.is_some() || ahead.row_offset() < offset) {
            let group = Group::take(&mut self.podium, i64::MAX, found)?;
            self.pass_by(group, Table::GamePodium, found);
        }
        Ok(())
    }

    /// Rows whose raw row has gone by, or never was.
    fn pass_by(&mut self, group: Option<Group>, table: Table, found: &mut Verification) {
        let Some(group) = group else { return };
        match group.late {
            Some(Late::Duplicate) => {}
            // That they stand in the wrong place is told, and that they are missing would not be right.
            Some(Late::Inversion) => self.games.of(group.game, group.offset, found).has(table),
            None => {
                let reason = "the raw table has no row there";
                found.faults.push(orphan(&self.topic, self.partition, table, &group, reason));
            }
        }
    }

    /// Takes the event that ends a game, with the rows that were made of it.
    fn end(
        &mut self,
        offset: i64,
        ending: Ending,
        meta: Option<Group>,
        podium: Option<Group>,
        is_blind: bool,
        found: &mut Verification,
    ) {
        let Ending { cleaning: Cleaning { game_token: token, user_token: user }, is_dead, id } = ending;
        let (topic, partition, game) = (&self.topic, self.partition, token.to_string());
        let known = self.games.of(token, offset, found);
        known.ended += 1;
        known.is_excused |= is_dead || is_blind;
        let before = *known;
        for (table, group) in [(Table::GameMeta, &meta), (Table::GamePodium, &podium)] {
            let Some(group) = group else { continue };
            known.has(table);
            if before.is_in(table) {
                found.faults.push(Fault::RepeatedGame {
                    table: table.name(),
                    game: game.clone(),
                    topic: topic.clone(),
                    partition,
                    offset,
                    path: group.path.to_path_buf(),
                });
            }
            let not_there =
                || (!group.users.contains_key(&user)).then(|| format!("the host {user} is not among its users"));
            if let Some(reason) = group.reason.clone().or_else(not_there)
                && !is_blind
            {
                found.faults.push(Fault::BadGame {
                    table: table.name(),
                    game: game.clone(),
                    topic: topic.clone(),
                    partition,
                    offset,
                    path: group.path.to_path_buf(),
                    reason,
                });
            }
        }
        if !before.is_in(Table::GameMeta) && !before.is_in(Table::GamePodium) && (meta.is_some() || podium.is_some()) {
            found.games += 1;
            count_heroes(meta.as_ref(), podium.as_ref(), &mut found.heroes);
            if let Some(figures) = found.figures_of(id) {
                figures.games += 1;
                count_heroes(meta.as_ref(), podium.as_ref(), &mut figures.heroes);
            }
        }
        if let (Some(meta), Some(podium), false) = (meta, podium, is_blind)
            && !meta.users.keys().eq(podium.users.keys())
        {
            let count = |users: &BTreeMap<UserToken, Share>| u32::try_from(users.len()).unwrap_or(u32::MAX);
            found.faults.push(Fault::OtherUsers {
                game,
                topic: topic.clone(),
                partition,
                offset,
                game_meta: count(&meta.users),
                game_podium: count(&podium.users),
            });
        }
    }
}

/// Who the heroes were stands in one table, and what became of them in the other.
fn count_heroes(meta: Option<&Group>, podium: Option<&Group>, heroes: &mut BTreeMap<HeroId, Standing>) {
    let (Some(meta), Some(podium)) = (meta, podium) else { return };
    for (user, Share { rank, damage_delivered, .. }) in &podium.users {
        let Some(hero) = meta.users.get(user).and_then(|share| share.hero) else { continue };
        let standing = heroes.entry(hero).or_default();
        standing.games += 1;
        standing.wins += u64::from(*rank == Some(1));
        standing.damage_delivered = standing.damage_delivered.saturating_add(*damage_delivered);
    }
}

impl Group {
    /// The next rows of a lane that are of one record, if its offset is not above `offset`.
    fn take<R: GameRow>(
        lane: &mut Lane<R>,
        offset: i64,
        found: &mut Verification,
    ) -> Result<Option<Self>, VerifyError> {
        let Some(Ahead { row, late, path }) = lane.up_to(offset).cloned() else { return Ok(None) };
        let (offset, game) = (row.offset(), row.game());
        let mut group = Self { offset, game, users: BTreeMap::new(), path, late, reason: None };
        let mut rank = 0;
        while let Some(Ahead { row, late, path }) = lane.up_to(offset).cloned() {
            // A record's rows stand in one file.
            if row.offset() != offset || late != group.late || path != group.path {
                break;
            }
            rank += 1;
            let wrong = if row.game() != game {
                Some(format!("there are rows of game {} as well", row.game()))
            } else if group.users.contains_key(&row.user()) {
                Some(format!("user {} has two rows", row.user()))
            } else if row.share().rank.is_some_and(|found| found != rank) {
                Some(format!(
                    "user {} is on rank {} where {rank} should stand",
                    row.user(),
                    row.share().rank.unwrap_or_default()
                ))
            } else if row.share().rank.is_none()
                && group.users.last_key_value().is_some_and(|(last, _)| *last > row.user())
            {
                Some(format!("user {} does not stand in order", row.user()))
            } else {
                None
            };
            group.reason = group.reason.or(wrong);
            if group.users.len() < MAX_USERS {
                group.users.insert(row.user(), row.share());
            }
            lane.advance(found)?;
        }
        Ok(Some(group))
    }
}

impl<R: GameRow> Ahead<R> {
    fn row_offset(&self) -> i64 {
        self.row.offset()
    }
}

fn orphan(topic: &str, partition: i32, table: Table, group: &Group, reason: &str) -> Fault {
    Fault::Orphan {
        table: table.name(),
        topic: topic.to_owned(),
        partition,
        offset: group.offset,
        path: group.path.to_path_buf(),
        reason: reason.to_owned(),
    }
}
