//! What is kept, for how long, and the roster.

use std::time::Duration;

use superhero_game::{GameToken, Hero, HeroId, Refusal};
use uuid::Uuid;

use super::{Arena, UNLIMITED, a_find, fighter, find, new_secret, new_user, swept};
use crate::{Find, GameStore, Status, TRUSTED_SEATS};

const AN_HOUR: Duration = Duration::from_secs(3600);

pub(super) async fn what_is_not_known_is_none<S: GameStore>(store: S) {
    store.ping().await.unwrap();
    let nowhere = GameToken::new(Uuid::new_v4());
    assert_eq!(store.snapshot(nowhere).await.unwrap(), None);
    assert_eq!(store.hero(nowhere, new_user()).await.unwrap(), None);
    assert!(!store.time_out(nowhere).await.unwrap());
    store.clean(nowhere, Duration::ZERO).await.unwrap();
    assert_eq!(store.attend(nowhere, new_user(), None, Uuid::new_v4()).await.unwrap(), Err(Refusal::UnknownGame));
    store.leave(nowhere, new_user(), Uuid::new_v4()).await.unwrap();
    let mut silent = store.subscribe(nowhere).await.unwrap();
    assert!(silent.events.try_recv().is_err());
    assert!(!silent.events.is_closed());
    let arena = Arena::seated(&store, 2).await;
    assert_eq!(store.hero(arena.game, new_user()).await.unwrap(), None);
    for (user, expected) in arena.snapshot().await.fighters {
        assert_eq!(fighter(&store, arena.game, user).await, expected);
    }
}

pub(super) async fn a_cleaned_game_keeps_until_its_expiry<S: GameStore>(store: S) {
    let mut arena = Arena::seated(&store, 2).await;
    let before = arena.snapshot().await;
    for _ in 0..2 {
        store.clean(arena.game, AN_HOUR).await.unwrap();
        assert_eq!(arena.snapshot().await, before);
    }
    arena.forfeit(0).await.expect("the game goes on");
    assert_eq!(arena.snapshot().await.status, Status::Completed);
}

pub(super) async fn a_cleaned_game_is_gone_after_its_expiry<S: GameStore>(store: S) {
    let arena = Arena::seated(&store, 2).await;
    let order = arena.snapshot().await.order;
    store.clean(arena.game, Duration::ZERO).await.unwrap();
    assert_eq!(store.snapshot(arena.game).await.unwrap(), None);
    assert_eq!(store.hero(arena.game, order[0]).await.unwrap(), None);
    let attack = store.attack(arena.game, order[0], None, order[1], arena.now, UNLIMITED).await.unwrap();
    assert_eq!(attack, Err(Refusal::UnknownGame));
    assert_eq!(store.snapshot(arena.game).await.unwrap(), None);
}

pub(super) async fn a_cleaned_game_takes_no_more_players<S: GameStore>(store: S) {
    const SEATS: u32 = 12;
    for expiry in [AN_HOUR, Duration::ZERO] {
        let game = find(&store, new_user(), SEATS).await.game;
        store.clean(game, expiry).await.unwrap();
        let other = find(&store, new_user(), SEATS).await.game;
        assert_ne!(other, game);
        assert!(store.time_out(other).await.unwrap());
    }
}

pub(super) async fn a_game_that_nobody_attends_tells_those_who_come_late<S: GameStore>(store: S) {
    const SEATS: u32 = 19;
    let (left, never) = (new_user(), new_user());
    for user in [left, never] {
        let (wait, secret) = (Duration::from_millis(if user == left { 500 } else { 1 }), new_secret());
        let game = store.find(Find { wait, secret, ..a_find(user, SEATS) }).await.unwrap().game;
        if user == left {
            let visit = Uuid::new_v4();
            let _ = store.attend(game, user, None, visit).await.unwrap();
            store.leave(game, user, visit).await.unwrap();
        }
        swept(&store, game, |game| game.is_none_or(|game| game.status == Status::TimedOut)).await;
        let late = store.attend(game, user, Some(secret), Uuid::new_v4()).await.unwrap();
        assert_eq!(late, Ok(()), "whoever comes late is known");
        let snapshot = store.snapshot(game).await.unwrap().expect("whoever comes late is told");
        assert_eq!((snapshot.status, snapshot.fighters.len()), (Status::TimedOut, 1));
        let other = find(&store, user, SEATS).await.game;
        assert_ne!(other, game);
        assert!(store.time_out(other).await.unwrap());
    }
}

pub(super) async fn a_game_of_a_user_who_comes_to_no_seat_goes_with_its_time<S: GameStore>(store: S) {
    const SEATS: u32 = 24;
    let (user, wait) = (new_user(), Duration::from_millis(500));
    let of_wait = || store.find(Find { wait, ..a_find(user, SEATS) });
    let game = of_wait().await.unwrap().game;
    for _ in 0..2 * TRUSTED_SEATS {
        of_wait().await.unwrap();
    }
    swept(&store, game, |game| game.is_none()).await;
    assert_eq!(store.hero(game, user).await.unwrap(), None);
}

pub(super) async fn loaded_heroes_replace_the_roster<S: GameStore>(store: S) {
    const SEATS: u32 = 14;
    for (first, count) in [(10_000, 60), (20_000, 150)] {
        let heroes: Vec<Hero> = (first..first + count).map(hero).collect();
        for _ in 0..2 {
            store.load_heroes(&heroes).await.unwrap();
            assert_eq!(store.hero_count().await.unwrap(), count as usize);
        }
        let game = find(&store, new_user(), SEATS).await.game;
        for _ in 1..SEATS {
            assert_eq!(find(&store, new_user(), SEATS).await.game, game);
        }
        let snapshot = store.snapshot(game).await.unwrap().expect("the game is known");
        for fighter in snapshot.fighters.values() {
            let loaded = heroes.iter().find(|hero| hero.id == fighter.hero).expect("a hero of the new roster");
            assert_eq!((fighter.attack, fighter.health), (loaded.attack, loaded.health));
        }
    }
    let dead = Hero { health: 0, ..hero(1) };
    assert!(store.load_heroes(&[dead]).await.is_err());
    assert_eq!(store.hero_count().await.unwrap(), 150, "a roster that is refused changes nothing");
    store.load_heroes(&[]).await.unwrap();
    assert_eq!(store.hero_count().await.unwrap(), 0);
    Arena::seated(&store, 2).await;
}

fn hero(id: u32) -> Hero {
    let (attack, health) = (u64::from(id % 7 + 10), u64::from(id % 11 + 50));
    let json = format!(r#"{{"name":"Hero {id}","powerstats":{{"health":{health},"attack":{attack}}}}}"#);
    Hero { id: HeroId(id), attack, health, json }
}
