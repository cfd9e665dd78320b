//! Random play beside the rules themselves.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use superhero_game::{Action, AttackRecord, Duel, Limits, Move, UserToken};

use super::{Arena, new_user};
use crate::{GameStore, Outcome, Status};

/// Games per run; each has a seed of its own, which a failure names.
const GAMES: u64 = 24;

/// Operations per game; most games end before.
const OPERATIONS: usize = 150;

/// The heroes are drawn at random in every store, so what is compared is not two stores but each with [`Duel`], started
/// from the fighters that the store drew.
pub(super) async fn random_play_is_that_of_the_rules<S: GameStore>(store: S) {
    for seed in 0..GAMES {
        let mut rng = StdRng::seed_from_u64(seed);
        let seats = rng.random_range(2..=4);
        let limits = Limits { rounds: rng.random_range(1..40) };
        let arena = Arena::seated(&store, seats).await;
        play(arena, limits, rng, seed).await;
    }
}

async fn play<S: GameStore>(mut arena: Arena<S>, limits: Limits, mut rng: StdRng, seed: u64) {
    let start = arena.snapshot().await;
    let mut duel = Duel::new(start.fighters.clone());
    let mut records = Vec::new();
    let players: Vec<UserToken> = start.fighters.keys().copied().chain([new_user()]).collect();
    let any = |rng: &mut StdRng| players[rng.random_range(0..players.len())];
    let mut last: Option<Outcome> = None;
    for step in 0..OPERATIONS {
        let context = format!("seed {seed}, step {step}");
        let now = arena.tick();
        match rng.random_range(0..100) {
            0..80 => {
                let user = duel.order()[0];
                // Two of three attacks are likely to be fine.
                let user = if rng.random_bool(0.9) { user } else { any(&mut rng) };
                let enemy = any(&mut rng);
                let expected = duel
                    .attack(user, enemy, limits)
                    .map(|made| outcome(&duel, attack_record(&arena, user, enemy, made), made));
                let outcome = arena.store.attack(arena.game, user, None, enemy, now, limits).await.unwrap();
                assert_eq!(outcome, expected, "{context}");
                last = outcome.ok().or(last);
            }
            80..95 => {
                let Some(Outcome { record, .. }) = &last else { continue };
                let Action::Attack { enemy, .. } = record.action else { continue };
                let again =
                    arena.store.attack(arena.game, record.user, None, enemy, record.timestamp, limits).await.unwrap();
                assert_eq!(again.as_ref().ok(), last.as_ref(), "{context}");
                continue;
            }
            _ => {
                let moves = duel.moves() + u32::from(rng.random_bool(0.3));
                let user = duel.on_turn(limits).filter(|_| moves == duel.moves());
                let expected = user.map(|user| {
                    let made = duel.forfeit(user, limits).expect("the player is on turn");
                    let record =
                        AttackRecord { timestamp: micros(now), game: arena.game, user, action: Action::Forfeit };
                    outcome(&duel, record, made)
                });
                let outcome = arena.store.forfeit(arena.game, moves, now, limits).await.unwrap();
                assert_eq!(outcome, expected, "{context}");
                last = outcome.or(last);
            }
        }
        if let Some(outcome) = &last
            && records.last() != Some(&outcome.record)
        {
            records.push(outcome.record.clone());
        }
        let snapshot = arena.snapshot().await;
        assert_eq!(&snapshot.fighters, duel.fighters(), "{context}");
        assert!(snapshot.order.iter().eq(duel.order()), "{context}");
        assert_eq!(snapshot.records, records, "{context}");
        let status = if duel.on_turn(limits).is_some() { Status::WaitingPlayer } else { Status::Completed };
        assert_eq!(snapshot.status, status, "{context}");
    }
}

fn attack_record<S>(arena: &Arena<S>, user: UserToken, enemy: UserToken, made: Move) -> AttackRecord {
    let Move { damage, health_prior, health_post, .. } = made;
    let action = Action::Attack { enemy, damage, health_prior, health_post };
    AttackRecord { timestamp: micros(arena.now), game: arena.game, user, action }
}

fn micros(now: chrono::DateTime<chrono::Utc>) -> chrono::DateTime<chrono::Utc> {
    chrono::SubsecRound::trunc_subsecs(now, 6)
}

fn outcome(duel: &Duel, record: AttackRecord, made: Move) -> Outcome {
    Outcome { record, next: made.next, moves: made.moves, participants: duel.fighters().keys().copied().collect() }
}
