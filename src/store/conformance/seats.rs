//! Logins and seats.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;
use uuid::Uuid;

use super::{find, new_user, start_of_time};
use crate::{GameStore, Status, StoreError};

pub(super) async fn a_name_has_one_token<S: GameStore>(store: S) {
    let name = format!("USER{}", Uuid::new_v4());
    let mut logins = JoinSet::new();
    for _ in 0..16 {
        let (store, name) = (store.clone(), name.clone());
        logins.spawn(async move { store.login(&name).await.unwrap() });
    }
    let logins = logins.join_all().await;
    let tokens: BTreeSet<_> = logins.iter().map(|login| login.user).collect();
    assert_eq!(tokens.len(), 1, "{logins:?}");
    assert_eq!(logins.iter().filter(|login| login.created).count(), 1, "{logins:?}");
    let other = store.login(&format!("{name} too")).await.unwrap();
    assert!(other.created && !tokens.contains(&other.user));
}

pub(super) async fn concurrent_finds_fill_games_and_overfill_none<S: GameStore>(store: S) {
    const SEATS: u32 = 5;
    const GAMES: u32 = 12;
    let mut finds = JoinSet::new();
    for _ in 0..SEATS * GAMES {
        let (store, user) = (store.clone(), new_user());
        finds.spawn(async move { (user, find(&store, user, SEATS).await) });
    }
    let mut games: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (user, seat) in finds.join_all().await {
        games.entry(seat.game).or_default().push((user, seat.hero));
    }
    assert_eq!(games.len(), GAMES as usize);
    for (game, players) in games {
        let snapshot = store.snapshot(game).await.unwrap().expect("the game is known");
        assert_eq!((snapshot.status, snapshot.seats), (Status::WaitingPlayer, SEATS));
        assert_eq!(snapshot.fighters.len(), SEATS as usize);
        let heroes: BTreeSet<_> = snapshot.fighters.values().map(|fighter| fighter.hero).collect();
        assert_eq!(heroes.len(), SEATS as usize, "a hero sits twice in {:?}", snapshot.fighters);
        for (user, hero) in players {
            assert_eq!(snapshot.fighters[&user].hero, hero);
        }
    }
}

pub(super) async fn a_user_never_sits_twice_in_one_game<S: GameStore>(store: S) {
    const SEATS: u32 = 6;
    let user = new_user();
    let first = find(&store, user, SEATS).await;
    let second = find(&store, user, SEATS).await;
    assert_ne!(first.game, second.game);
    for expected in [first.game, second.game] {
        for _ in 1..SEATS {
            assert_eq!(find(&store, new_user(), SEATS).await.game, expected, "the oldest open game is filled first");
        }
    }
    for seat in [first, second] {
        let snapshot = store.snapshot(seat.game).await.unwrap().expect("the game is known");
        assert_eq!((snapshot.status, snapshot.host), (Status::WaitingPlayer, user));
        assert_eq!(snapshot.fighters[&user].hero, seat.hero);
    }
}

pub(super) async fn a_repeated_find_keeps_its_seat<S: GameStore>(store: S) {
    const SEATS: u32 = 7;
    let (request, user) = (Uuid::new_v4(), new_user());
    let mut finds = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        finds.spawn(async move { store.find(request, user, SEATS, start_of_time()).await.unwrap() });
    }
    let seats = finds.join_all().await;
    assert!(seats.iter().all(|seat| *seat == seats[0]), "{seats:?}");
    let snapshot = store.snapshot(seats[0].game).await.unwrap().expect("the game is known");
    assert_eq!(snapshot.fighters.len(), 1);
    assert!(store.time_out(seats[0].game).await.unwrap());
    assert_eq!(store.find(request, user, SEATS, start_of_time()).await.unwrap(), seats[0]);
}

pub(super) async fn the_last_seat_starts_the_game<S: GameStore>(store: S) {
    const SEATS: u32 = 8;
    let host = new_user();
    let game = find(&store, host, SEATS).await.game;
    let mut users = BTreeSet::from([host]);
    for seated in 1..=SEATS {
        let snapshot = store.snapshot(game).await.unwrap().expect("the game is known");
        assert_eq!((snapshot.seats, snapshot.host), (SEATS, host));
        assert!(snapshot.fighters.keys().eq(&users));
        assert!(snapshot.records.is_empty());
        if seated < SEATS {
            assert_eq!((snapshot.status, snapshot.order), (Status::WaitingLobby, Vec::new()));
            let user = new_user();
            users.insert(user);
            assert_eq!(find(&store, user, SEATS).await.game, game);
        } else {
            assert_eq!(snapshot.status, Status::WaitingPlayer);
            assert!(snapshot.order.iter().eq(&users), "the order is that of the tokens: {:?}", snapshot.order);
        }
    }
}

pub(super) async fn a_game_with_more_seats_than_heroes_is_not_opened<S: GameStore>(store: S) {
    let found = store.find(Uuid::new_v4(), new_user(), 1_000_000, start_of_time()).await;
    assert!(matches!(found, Err(StoreError::NoHeroes)), "{found:?}");
}
