//! One game in memory.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use superhero_game::{Action, AttackRecord, Duel, Fighter, GameToken, Limits, Move, Refusal, SeatSecret, UserToken};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{GameEvent, Outcome, Snapshot, Status};

#[derive(Debug)]
pub(super) struct Game {
    pub(super) seats: u32,
    host: UserToken,
    phase: Phase,
    records: Vec<AttackRecord>,
    chairs: BTreeMap<UserToken, Chair>,
    /// Until when it waits for players.
    pub(super) waits_until: Instant,
    /// Whether it takes players as long as it waits for them.
    pub(super) is_listed: bool,
    /// Out of the lists until somebody comes to it: nobody would be seated with those who are to play.
    pub(super) is_hidden: bool,
    /// When it goes.
    pub(super) expires: Instant,
}

/// Whom a game takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Welcome {
    /// The user who asks.
    Asker,
    /// Others: the user who asks has a seat there.
    Others,
    Nobody,
}

/// What of a seat is nobody's business but its user's.
#[derive(Debug)]
struct Chair {
    secret: SeatSecret,
    /// Whether it takes nothing without the secret.
    is_claimed: bool,
    presence: Presence,
}

/// Whether the user is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Not yet, since the seat was taken.
    Awaited {
        since: Instant,
    },
    /// Since that visit of it.
    Attends(Uuid),
    Left,
}

impl Chair {
    fn claim(&mut self, secret: Option<SeatSecret>) -> Result<(), Refusal> {
        match secret {
            Some(secret) if secret != self.secret => return Err(Refusal::WrongSeat),
            None if self.is_claimed => return Err(Refusal::WrongSeat),
            Some(_) => self.is_claimed = true,
            None => {}
        }
        Ok(())
    }
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
    pub(super) fn new(seats: u32, host: UserToken, waits_until: Instant, expires: Instant) -> Self {
        Self {
            seats,
            host,
            phase: Phase::Waiting(BTreeMap::new()),
            records: Vec::new(),
            chairs: BTreeMap::new(),
            waits_until,
            is_listed: true,
            is_hidden: false,
            expires,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    /// Whether somebody is there.
    pub(super) fn is_attended(&self) -> bool {
        self.chairs.values().any(|chair| matches!(chair.presence, Presence::Attends(_)))
    }

    /// Whether the user can be seated with those who have seats, whom it would not wait for in vain as far as can be told.
    pub(super) fn welcome(&self, user: UserToken, is_trusted: impl Fn(UserToken, Instant) -> bool) -> Welcome {
        let is_likely_to_come = |(user, chair): (&UserToken, &Chair)| match chair.presence {
            Presence::Attends(_) => true,
            Presence::Awaited { since } => is_trusted(*user, since),
            Presence::Left => false,
        };
        if !self.is_listed || !self.is_waiting() || !self.chairs.iter().all(is_likely_to_come) {
            return Welcome::Nobody;
        }
        if self.chairs.contains_key(&user) { Welcome::Others } else { Welcome::Asker }
    }

    /// Answers since when the user was awaited, if it was.
    pub(super) fn attend(
        &mut self,
        user: UserToken,
        secret: Option<SeatSecret>,
        visit: Uuid,
    ) -> Result<Option<Instant>, Refusal> {
        let chair = self.chairs.get_mut(&user).ok_or(Refusal::NotAPlayer)?;
        chair.claim(secret)?;
        match std::mem::replace(&mut chair.presence, Presence::Attends(visit)) {
            Presence::Awaited { since } => Ok(Some(since)),
            Presence::Attends(_) | Presence::Left => Ok(None),
        }
    }

    /// Whether it was still the user's last visit that has ended.
    pub(super) fn leave(&mut self, user: UserToken, visit: Uuid) -> bool {
        let chair = self.chairs.get_mut(&user).filter(|chair| chair.presence == Presence::Attends(visit));
        chair.map(|chair| chair.presence = Presence::Left).is_some()
    }

    pub(super) fn fighters(&self) -> &BTreeMap<UserToken, Fighter> {
        match &self.phase {
            Phase::Waiting(fighters) | Phase::TimedOut(fighters) => fighters,
            Phase::Going(duel) | Phase::Completed(duel) => duel.fighters(),
        }
    }

    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
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
            waits: self.is_waiting().then(|| self.waits_until.saturating_duration_since(now)),
            fighters: self.fighters().clone(),
            order,
            records: self.records.clone(),
        }
    }

    /// Seats a player of a game that waits with the first candidate that is free. Answers its fighter and, when the game
    /// has started with it, who is on turn.
    pub(super) fn seat(
        &mut self,
        user: UserToken,
        secret: SeatSecret,
        now: Instant,
        candidates: &[Fighter],
    ) -> (Fighter, Option<UserToken>) {
        let presence = Presence::Awaited { since: now };
        self.chairs.insert(user, Chair { secret, is_claimed: false, presence });
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
        secret: Option<SeatSecret>,
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
        if let Some(chair) = self.chairs.get_mut(&user) {
            chair.claim(secret)?;
        }
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
