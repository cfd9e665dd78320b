//! One game in memory.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use superhero_game::{Action, AttackRecord, Duel, Fighter, GameToken, Limits, Move, Refusal, UserToken};
use tokio::time::Instant;

use crate::{GameEvent, Outcome, Snapshot, Status};

#[derive(Debug)]
pub(super) struct Game {
    pub(super) seats: u32,
    host: UserToken,
    phase: Phase,
    records: Vec<AttackRecord>,
    /// When it goes, once it was cleaned.
    pub(super) expires: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    Waiting(BTreeMap<UserToken, Fighter>),
    TimedOut(BTreeMap<UserToken, Fighter>),
    Going(Duel),
    Completed(Duel),
}

impl Game {
    /// A game that waits for its players, the host among them.
    pub(super) fn new(seats: u32, host: UserToken) -> Self {
        Self { seats, host, phase: Phase::Waiting(BTreeMap::new()), records: Vec::new(), expires: None }
    }

    pub(super) fn fighters(&self) -> &BTreeMap<UserToken, Fighter> {
        match &self.phase {
            Phase::Waiting(fighters) | Phase::TimedOut(fighters) => fighters,
            Phase::Going(duel) | Phase::Completed(duel) => duel.fighters(),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (status, order) = match &self.phase {
            Phase::Waiting(_) => (Status::WaitingLobby, Vec::new()),
            Phase::TimedOut(_) => (Status::TimedOut, Vec::new()),
            Phase::Going(duel) => (Status::WaitingPlayer, duel.order().iter().copied().collect()),
            Phase::Completed(duel) => (Status::Completed, duel.order().iter().copied().collect()),
        };
        Snapshot {
            status,
            seats: self.seats,
            host: self.host,
            fighters: self.fighters().clone(),
            order,
            records: self.records.clone(),
        }
    }

    /// Seats a player of a game that waits with the first candidate that is free. Answers its fighter and, when the game
    /// has started with it, who is on turn.
    pub(super) fn seat(&mut self, user: UserToken, candidates: &[Fighter]) -> (Fighter, Option<UserToken>) {
        let Phase::Waiting(fighters) = &mut self.phase else { unreachable!("only games that wait are open") };
        let is_free = |candidate: &&Fighter| fighters.values().all(|taken| taken.hero != candidate.hero);
        let fighter = *candidates.iter().find(is_free).expect("there are as many candidates as seats");
        fighters.insert(user, fighter);
        if fighters.len() < self.seats as usize {
            return (fighter, None);
        }
        let duel = Duel::new(std::mem::take(fighters));
        let first = duel.order().front().copied();
        self.phase = Phase::Going(duel);
        (fighter, first)
    }

    /// Whether it waited, and now does so no more.
    pub(super) fn time_out(&mut self) -> bool {
        let Phase::Waiting(fighters) = &mut self.phase else { return false };
        self.phase = Phase::TimedOut(std::mem::take(fighters));
        true
    }

    /// The event is none for a repetition, which was told already.
    pub(super) fn attack(
        &mut self,
        game: GameToken,
        user: UserToken,
        enemy: UserToken,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Result<(Outcome, Option<GameEvent>), Refusal> {
        let recent = self.records.len().saturating_sub(self.fighters().len());
        let is_this = |record: &AttackRecord| {
            let hit = matches!(record.action, Action::Attack { enemy: hit, .. } if hit == enemy);
            hit && record.timestamp == now && record.user == user
        };
        if let Some(index) = self.records[recent..].iter().rposition(is_this) {
            return Ok((self.outcome(recent + index), None));
        }
        let Phase::Going(duel) = &mut self.phase else { return Err(Refusal::NotInProgress) };
        let going = one_more_move(duel, limits);
        let Move { damage, health_prior, health_post, .. } = duel.attack(user, enemy, going)?;
        let action = Action::Attack { enemy, damage, health_prior, health_post };
        let (outcome, event) = self.moved(AttackRecord { timestamp: now, game, user, action }, limits);
        Ok((outcome, Some(event)))
    }

    pub(super) fn forfeit(
        &mut self,
        game: GameToken,
        moves: u32,
        now: DateTime<Utc>,
        limits: Limits,
    ) -> Option<(Outcome, GameEvent)> {
        let Phase::Going(duel) = &mut self.phase else { return None };
        if duel.moves() != moves {
            return None;
        }
        let going = one_more_move(duel, limits);
        let user = duel.on_turn(going)?;
        duel.forfeit(user, going).ok()?;
        Some(self.moved(AttackRecord { timestamp: now, game, user, action: Action::Forfeit }, limits))
    }

    /// Keeps the record of a move that the duel just made, and ends the game if that was the last.
    fn moved(&mut self, record: AttackRecord, limits: Limits) -> (Outcome, GameEvent) {
        self.records.push(record);
        let mut event = GameEvent::Completed;
        if let Phase::Going(duel) = &self.phase {
            match duel.on_turn(limits) {
                Some(user) => event = GameEvent::Turn { user, moves: duel.moves() },
                None => self.phase = Phase::Completed(duel.clone()),
            }
        }
        (self.outcome(self.records.len() - 1), event)
    }

    /// What the move that left `records[index]` led to, however many moves ago it was.
    fn outcome(&self, index: usize) -> Outcome {
        let next = match (self.records.get(index + 1), &self.phase) {
            (Some(following), _) => Some(following.user),
            (None, Phase::Going(duel)) => duel.order().front().copied(),
            (None, _) => None,
        };
        Outcome {
            record: self.records[index].clone(),
            next,
            moves: u32::try_from(index + 1).unwrap_or(u32::MAX),
            participants: self.fighters().keys().copied().collect(),
        }
    }
}

/// `limits` for a duel that is not over yet: one whose cap was lowered below its moves ends with the next move, it does
/// not stand still without one.
fn one_more_move(duel: &Duel, limits: Limits) -> Limits {
    let rounds_made = duel.moves() / u32::try_from(duel.fighters().len().max(1)).unwrap_or(u32::MAX);
    Limits { rounds: limits.rounds.max(rounds_made.saturating_add(1)) }
}
