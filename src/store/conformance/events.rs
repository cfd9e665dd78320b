//! What subscribers are told.

use std::time::Duration;

use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Arena, UNLIMITED, a_find, find, new_user, next_event, start_of_time, swept};
use crate::{Find, GameEvent, GameStore, Status};

pub(super) async fn two_subscribers_see_all_events_in_order<S: GameStore>(store: S) {
    const SEATS: u32 = 10;
    let game = find(&store, new_user(), SEATS).await.game;
    let mut first = store.subscribe(game).await.unwrap();
    let mut second = store.subscribe(game).await.unwrap();
    for _ in 1..SEATS {
        assert_eq!(find(&store, new_user(), SEATS).await.game, game);
    }
    let mut arena = Arena { store, game, now: start_of_time() };
    let user = arena.on_turn().await;
    let mut expected = vec![GameEvent::Started, GameEvent::Turn { user, moves: 0 }];
    for moves in 1..SEATS {
        let outcome = arena.forfeit(moves - 1).await.expect("the turn is open");
        expected.push(match outcome.next {
            Some(user) => GameEvent::Turn { user, moves },
            None => GameEvent::Completed,
        });
    }
    assert_eq!(expected.last(), Some(&GameEvent::Completed));
    for event in expected {
        assert_eq!(next_event(&mut first).await, event);
        assert_eq!(next_event(&mut second).await, event);
    }
}

pub(super) async fn a_dropped_subscription_leaves_the_others<S: GameStore>(store: S) {
    let mut arena = Arena::seated(&store, 4).await;
    let dropped = store.subscribe(arena.game).await.unwrap();
    let mut kept = store.subscribe(arena.game).await.unwrap();
    drop(dropped);
    let next = arena.forfeit(0).await.and_then(|outcome| outcome.next).expect("three are left");
    assert_eq!(next_event(&mut kept).await, GameEvent::Turn { user: next, moves: 1 });
    drop(kept);
    // The last one gone and the next one come at the same moment.
    for moves in 1..3 {
        let mut again = store.subscribe(arena.game).await.unwrap();
        let event = match arena.forfeit(moves).await.expect("the turn is open").next {
            Some(user) => GameEvent::Turn { user, moves: moves + 1 },
            None => GameEvent::Completed,
        };
        assert_eq!(next_event(&mut again).await, event);
    }
}

pub(super) async fn subscriptions_of_many_games_do_not_mix<S: GameStore>(store: S) {
    let mut games = JoinSet::new();
    for _ in 0..20 {
        let mut arena = Arena::seated(&store, 3).await;
        games.spawn(async move {
            let mut subscription = arena.store.subscribe(arena.game).await.unwrap();
            for moves in 1.. {
                let outcome = arena.attack_next(UNLIMITED).await;
                let Some(user) = outcome.next else { break };
                assert_eq!(next_event(&mut subscription).await, GameEvent::Turn { user, moves });
            }
            assert_eq!(next_event(&mut subscription).await, GameEvent::Completed);
            assert!(subscription.events.try_recv().is_err());
        });
    }
    while let Some(game) = games.join_next().await {
        game.expect("the game went as it should");
    }
}

pub(super) async fn a_game_times_out_once<S: GameStore>(store: S) {
    const SEATS: u32 = 11;
    let game = find(&store, new_user(), SEATS).await.game;
    let mut subscription = store.subscribe(game).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        calls.spawn(async move { store.time_out(game).await.unwrap() });
    }
    assert_eq!(calls.join_all().await.into_iter().filter(|done| *done).count(), 1);
    assert_eq!(next_event(&mut subscription).await, GameEvent::TimedOut);
    let snapshot = store.snapshot(game).await.unwrap().expect("the game is known");
    assert_eq!(snapshot.status, Status::TimedOut);
    let other = find(&store, new_user(), SEATS).await.game;
    assert_ne!(other, game, "nobody is seated in a game that timed out");
    assert!(store.time_out(other).await.unwrap());
    assert!(subscription.events.try_recv().is_err());
}

pub(super) async fn a_started_game_does_not_time_out<S: GameStore>(store: S) {
    let arena = Arena::seated(&store, 2).await;
    let before = arena.snapshot().await;
    assert!(!store.time_out(arena.game).await.unwrap());
    assert_eq!(arena.snapshot().await, before);
}

pub(super) async fn a_game_whose_time_is_over_times_out_whoever_sees_it<S: GameStore>(store: S) {
    const SEATS: u32 = 18;
    let user = new_user();
    // Long enough for what is done within, on a slow machine as well.
    let wait = Duration::from_secs(2);
    let game = store.find(Find { wait, ..a_find(user, SEATS) }).await.unwrap().game;
    let mut subscription = store.subscribe(game).await.unwrap();
    store.attend(game, user, None, Uuid::new_v4()).await.unwrap().unwrap();
    let waits = store.snapshot(game).await.unwrap().unwrap().waits.expect("it waits");
    assert!(waits <= wait, "{waits:?}");
    swept(&store, game, |game| game.is_some_and(|game| game.status == Status::TimedOut)).await;
    assert_eq!(next_event(&mut subscription).await, GameEvent::TimedOut);
    assert!(!store.time_out(game).await.unwrap(), "it has timed out once");
    let snapshot = store.snapshot(game).await.unwrap().expect("whoever comes late is told");
    assert_eq!((snapshot.waits, snapshot.fighters.len()), (None, 1));
    let other = find(&store, user, SEATS).await.game;
    assert_ne!(other, game);
    assert!(store.time_out(other).await.unwrap());
}
