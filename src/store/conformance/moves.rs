//! Attacks and forfeits.

use chrono::{SubsecRound, TimeDelta};
use superhero_game::{Action, AttackRecord, GameToken, Limits, Refusal};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Arena, UNLIMITED, fighter, find, new_user, start_of_time};
use crate::{GameStore, Status};

pub(super) async fn an_attack_hits_and_passes_the_turn<S: GameStore>(store: S) {
    let mut arena = Arena::seated(&store, 3).await;
    let before = arena.snapshot().await;
    let [user, enemy, third] = before.order[..] else { panic!("three players: {before:?}") };
    let (damage, health_prior) = (before.fighters[&user].attack, before.fighters[&enemy].health);
    let outcome = arena.try_attack(user, enemy, UNLIMITED).await.unwrap();

    let health_post = health_prior.saturating_sub(damage);
    let expected = AttackRecord {
        timestamp: arena.now.trunc_subsecs(6),
        game: arena.game,
        user,
        action: Action::Attack { enemy, damage, health_prior, health_post },
    };
    let dies = health_post == 0;
    let next = if dies { third } else { enemy };
    assert_eq!(outcome.record, expected);
    assert_eq!((outcome.next, outcome.moves), (Some(next), 1));
    assert!(outcome.participants.iter().eq(before.fighters.keys()));

    let after = arena.snapshot().await;
    assert_eq!(after.records, [expected]);
    assert_eq!(after.order, if dies { vec![third, user] } else { vec![enemy, third, user] });
    assert_eq!(after.status, Status::WaitingPlayer);
    assert_eq!(after.fighters[&enemy].health, health_post);
    assert_eq!(fighter(&store, arena.game, enemy).await, after.fighters[&enemy]);
    assert_eq!(after.fighters[&third], before.fighters[&third]);
}

pub(super) async fn refusals_change_nothing<S: GameStore>(store: S) {
    let mut arena = Arena::seated(&store, 3).await;
    let forfeited = arena.forfeit(0).await.expect("the first turn is open");
    let dead = forfeited.record.user;
    let before = arena.snapshot().await;
    let [user, enemy] = before.order[..] else { panic!("two are alive: {before:?}") };
    let stranger = new_user();
    let table = [
        (stranger, enemy, Refusal::NotAPlayer),
        (stranger, stranger, Refusal::NotAPlayer),
        (enemy, user, Refusal::OutOfTurn),
        (enemy, enemy, Refusal::OutOfTurn),
        (dead, user, Refusal::OutOfTurn),
        (user, user, Refusal::OneSelf),
        (user, stranger, Refusal::EnemyNotInGame),
        (user, dead, Refusal::EnemyDead),
    ];
    for (user, enemy, refusal) in table {
        assert_eq!(arena.try_attack(user, enemy, UNLIMITED).await, Err(refusal));
        assert_eq!(arena.snapshot().await, before, "{refusal}");
    }
    let nowhere = GameToken::new(Uuid::new_v4());
    let attack = store.attack(nowhere, user, None, enemy, start_of_time(), UNLIMITED).await.unwrap();
    assert_eq!(attack, Err(Refusal::UnknownGame));
    assert_eq!(store.snapshot(nowhere).await.unwrap(), None);

    const OWN_SEATS: u32 = 9;
    let waiting = find(&store, user, OWN_SEATS).await.game;
    for status in [Status::WaitingLobby, Status::TimedOut] {
        let attack = store.attack(waiting, user, None, user, start_of_time(), UNLIMITED).await.unwrap();
        assert_eq!(attack, Err(Refusal::NotInProgress), "{status:?}");
        let snapshot = store.snapshot(waiting).await.unwrap().expect("the game is known");
        assert_eq!((snapshot.status, snapshot.records.len()), (status, 0));
        assert_eq!(store.time_out(waiting).await.unwrap(), status == Status::WaitingLobby);
    }

    arena.forfeit(1).await.expect("the second turn is open");
    let completed = arena.snapshot().await;
    assert_eq!(completed.status, Status::Completed);
    for (user, enemy) in [(enemy, user), (user, enemy), (stranger, stranger)] {
        assert_eq!(arena.try_attack(user, enemy, UNLIMITED).await, Err(Refusal::NotInProgress));
    }
    assert_eq!(arena.snapshot().await, completed);
}

pub(super) async fn the_last_one_alive_completes_the_game<S: GameStore>(store: S) {
    let mut arena = Arena::seated(&store, 3).await;
    let mut moves = 0;
    loop {
        let outcome = arena.attack_next(UNLIMITED).await;
        moves += 1;
        assert_eq!(outcome.moves, moves);
        let snapshot = arena.snapshot().await;
        let living = snapshot.fighters.values().filter(|fighter| fighter.health > 0).count();
        assert_eq!(living, snapshot.order.len());
        assert_eq!(outcome.next, snapshot.order.first().copied().filter(|_| living > 1));
        if outcome.next.is_none() {
            assert_eq!(snapshot.status, Status::Completed);
            assert_eq!(snapshot.order, [outcome.record.user]);
            assert_eq!(snapshot.records.len(), moves as usize);
            return;
        }
        assert_eq!(snapshot.status, Status::WaitingPlayer);
    }
}

pub(super) async fn the_round_cap_completes_the_game<S: GameStore>(store: S) {
    let mut arena = Arena::seated(&store, 4).await;
    let limits = Limits { rounds: 1 };
    // Four moves among four players kill three at most, and only if every hit kills.
    let mut outcome = arena.attack_next(limits).await;
    while outcome.next.is_some() {
        assert!(outcome.moves < 4);
        outcome = arena.attack_next(limits).await;
    }
    let snapshot = arena.snapshot().await;
    assert_eq!(snapshot.status, Status::Completed);
    assert!(outcome.moves == 4 || snapshot.order.len() == 1, "{snapshot:?}");
}

pub(super) async fn a_lowered_round_cap_ends_the_game_with_the_next_move<S: GameStore>(store: S) {
    let mut arena = Arena::seated(&store, 4).await;
    for moves in 0..2 {
        arena.forfeit(moves).await.expect("the turn is open");
    }
    let outcome = arena.attack_next(Limits { rounds: 0 }).await;
    assert_eq!((outcome.next, outcome.moves), (None, 3));
    assert_eq!(arena.snapshot().await.status, Status::Completed);
}

pub(super) async fn a_repeated_attack_gets_its_outcome_again<S: GameStore>(store: S) {
    let mut arena = Arena::seated(&store, 3).await;
    // All of one round, so that the first is repeated when each of the others has moved, and at last by a completed game.
    let mut made = Vec::new();
    for _ in 0..3 {
        let order = arena.snapshot().await.order;
        let limits = Limits { rounds: 1 };
        let outcome = arena.try_attack(order[0], order[1], limits).await.unwrap();
        made.push((order[0], order[1], arena.now, outcome));
        let before = arena.snapshot().await;
        for (user, enemy, now, outcome) in &made {
            let again = store.attack(arena.game, *user, None, *enemy, *now, limits).await.unwrap();
            assert_eq!(again.as_ref(), Ok(outcome));
        }
        assert_eq!(arena.snapshot().await, before);
        let (user, enemy, now, _) = made[0];
        // Where the first attack was deadly, it is the first's turn again after the second.
        if before.status == Status::Completed || before.order[0] == user {
            break;
        }
        let later =
            store.attack(arena.game, user, None, enemy, now + TimeDelta::microseconds(1), limits).await.unwrap();
        assert_eq!(later, Err(Refusal::OutOfTurn), "another time is another attack");
        let other = store.attack(arena.game, user, None, new_user(), now, limits).await.unwrap();
        assert_eq!(other, Err(Refusal::OutOfTurn), "another enemy is another attack");
    }
}

pub(super) async fn concurrent_repetitions_hit_once<S: GameStore>(store: S) {
    let arena = Arena::seated(&store, 2).await;
    let order = arena.snapshot().await.order;
    let (game, user, enemy, now) = (arena.game, order[0], order[1], arena.now);
    let mut attacks = JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        attacks.spawn(async move { store.attack(game, user, None, enemy, now, UNLIMITED).await.unwrap().unwrap() });
    }
    let outcomes = attacks.join_all().await;
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
    assert_eq!(arena.snapshot().await.records, [outcomes[0].record.clone()]);
}

pub(super) async fn a_forfeit_goes_to_one_of_many_callers<S: GameStore>(store: S) {
    let arena = Arena::seated(&store, 3).await;
    let game = arena.game;
    for moves in 0..2 {
        let before = arena.snapshot().await;
        let user = before.order[0];
        let mut forfeits = JoinSet::new();
        for _ in 0..16 {
            let store = store.clone();
            // The very same time: servers and sessions cannot be relied on to differ in it.
            forfeits.spawn(async move { store.forfeit(game, moves, start_of_time(), UNLIMITED).await.unwrap() });
        }
        let done: Vec<_> = forfeits.join_all().await.into_iter().flatten().collect();
        let [outcome] = &done[..] else { panic!("one caller is told of the forfeit: {done:?}") };
        let timestamp = start_of_time().trunc_subsecs(6);
        assert_eq!(outcome.record, AttackRecord { timestamp, game, user, action: Action::Forfeit });
        let after = arena.snapshot().await;
        assert_eq!(outcome.next, (moves == 0).then(|| after.order[0]));
        assert_eq!(outcome.moves, moves + 1);
        assert!(outcome.participants.iter().eq(after.fighters.keys()));
        assert_eq!(after.order, before.order[1..]);
        assert_eq!(after.fighters[&user].health, 0);
        assert_eq!(after.records.last(), Some(&outcome.record));
        assert_eq!(after.status, if moves == 0 { Status::WaitingPlayer } else { Status::Completed });
    }
}

pub(super) async fn forfeits_of_other_turns_do_nothing<S: GameStore>(store: S) {
    let mut arena = Arena::seated(&store, 2).await;
    assert_eq!(arena.forfeit(1).await, None, "a turn that is still to come");
    let outcome = arena.attack_next(UNLIMITED).await;
    let before = arena.snapshot().await;
    assert_eq!(arena.forfeit(0).await, None, "a turn that is over");
    assert_eq!(arena.snapshot().await, before);
    if outcome.next.is_some() {
        assert!(arena.forfeit(1).await.is_some());
    }
    assert_eq!(arena.forfeit(2).await, None, "a game that is completed");
    let nowhere = GameToken::new(Uuid::new_v4());
    assert_eq!(store.forfeit(nowhere, 0, start_of_time(), UNLIMITED).await.unwrap(), None);
    const OWN_SEATS: u32 = 13;
    let waiting = find(&store, new_user(), OWN_SEATS).await.game;
    assert_eq!(store.forfeit(waiting, 0, start_of_time(), UNLIMITED).await.unwrap(), None);
    assert!(store.time_out(waiting).await.unwrap());
}
