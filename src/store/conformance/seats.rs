//! Logins and seats.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use superhero_game::Refusal;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{LONG_WAIT, SEATING, UNLIMITED, a_find, aged, find, new_secret, new_user, start_of_time};
use crate::{
    Find, GameStore, OPEN_GAMES_LOOKED_AT, OVERDUE_AFTER, Status, StoreError, TRUSTED_NEW_SEATS, TRUSTED_SEATS,
    UNATTENDED_SEATS,
};

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
    let again = a_find(new_user(), SEATS);
    let mut finds = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        finds.spawn(async move { store.find(again).await.unwrap() });
    }
    let seats = finds.join_all().await;
    assert!(seats.iter().all(|seat| *seat == seats[0]), "{seats:?}");
    let snapshot = store.snapshot(seats[0].game).await.unwrap().expect("the game is known");
    assert_eq!(snapshot.fighters.len(), 1);
    assert!(store.time_out(seats[0].game).await.unwrap());
    assert_eq!(store.find(again).await.unwrap(), seats[0]);
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
    let found = store.find(a_find(new_user(), 1_000_000)).await;
    assert!(matches!(found, Err(StoreError::NoHeroes)), "{found:?}");
}

pub(super) async fn games_that_somebody_attends_are_filled_first<S: GameStore>(store: S) {
    const SEATS: u32 = 13;
    let (early, late) = (new_user(), new_user());
    let first = find(&store, early, SEATS).await.game;
    let second = find(&store, early, SEATS).await.game;
    assert_ne!(first, second);
    store.attend(second, early, None, Uuid::new_v4()).await.unwrap().unwrap();
    assert_eq!(find(&store, late, SEATS).await.game, second, "somebody waits there");
    assert_eq!(find(&store, late, SEATS).await.game, first, "the user has a seat in the other already");
    for game in [first, second] {
        assert!(store.time_out(game).await.unwrap());
    }
}

pub(super) async fn nobody_is_seated_with_whoever_left<S: GameStore>(store: S) {
    const SEATS: u32 = 15;
    let user = new_user();
    let left = find(&store, user, SEATS).await.game;
    let visit = Uuid::new_v4();
    store.attend(left, user, None, visit).await.unwrap().unwrap();
    store.leave(left, user, visit).await.unwrap();
    let other = find(&store, new_user(), SEATS).await.game;
    assert_ne!(other, left);
    store.attend(left, user, None, Uuid::new_v4()).await.unwrap().unwrap();
    assert_eq!(find(&store, new_user(), SEATS).await.game, left, "the user is back");
    for game in [left, other] {
        assert!(store.time_out(game).await.unwrap());
    }
}

pub(super) async fn a_visit_that_ends_late_does_not_undo_a_later_one<S: GameStore>(store: S) {
    const SEATS: u32 = 23;
    let (user, first, second) = (new_user(), Uuid::new_v4(), Uuid::new_v4());
    let game = find(&store, user, SEATS).await.game;
    for visit in [first, second] {
        store.attend(game, user, None, visit).await.unwrap().unwrap();
    }
    store.leave(game, user, first).await.unwrap();
    assert_eq!(find(&store, new_user(), SEATS).await.game, game, "the user is there, on its second visit");
    store.leave(game, user, second).await.unwrap();
    let other = find(&store, new_user(), SEATS).await.game;
    assert_ne!(other, game, "nobody is there");
    for game in [game, other] {
        assert!(store.time_out(game).await.unwrap());
    }
}

pub(super) async fn games_that_take_nobody_hide_no_others<S: GameStore>(store: S) {
    const SEATS: u32 = 22;
    let (stays, leaves, comes, visit) = (new_user(), new_user(), new_user(), Uuid::new_v4());
    let mut games = Vec::new();
    for _ in 0..OPEN_GAMES_LOOKED_AT {
        let game = find(&store, stays, SEATS).await.game;
        store.attend(game, stays, None, Uuid::new_v4()).await.unwrap().unwrap();
        games.push(game);
    }
    for game in &games {
        assert_eq!(find(&store, leaves, SEATS).await.game, *game);
        store.attend(*game, leaves, None, visit).await.unwrap().unwrap();
    }
    for game in &games {
        store.leave(*game, leaves, visit).await.unwrap();
    }
    let open = find(&store, comes, SEATS).await.game;
    store.attend(open, comes, None, Uuid::new_v4()).await.unwrap().unwrap();
    assert_eq!(find(&store, new_user(), SEATS).await.game, open, "behind games that take nobody");
    store.attend(games[0], leaves, None, Uuid::new_v4()).await.unwrap().unwrap();
    assert_eq!(find(&store, comes, SEATS).await.game, games[0], "the user is back, and the game listed again");
    for game in games.into_iter().chain([open]) {
        assert!(store.time_out(game).await.unwrap());
    }
}

pub(super) async fn users_who_share_names_are_seated_together_before_they_come<S: GameStore>(store: S) {
    let _seating = SEATING.lock().await;
    for (names, bots) in [(2, 12), (2, 50), (10, 20)] {
        let mut games = Vec::new();
        for _ in 0..names {
            let user = new_user();
            for _ in 0..bots {
                games.push(find(&store, user, 2).await.game);
            }
        }
        let mut seated = 0;
        for game in games {
            let snapshot = store.snapshot(game).await.unwrap().expect("the game is known");
            seated += usize::from(snapshot.status == Status::WaitingPlayer);
            store.time_out(game).await.unwrap();
        }
        assert_eq!(seated, names * bots, "{names} names of {bots} bots each");
    }
}

pub(super) async fn whoever_is_slow_is_awaited_for_the_whole_time<S: GameStore>(store: S) {
    const SEATS: u32 = 20;
    let wait = 2 * OVERDUE_AFTER;
    let game = store.find(Find { wait, ..a_find(new_user(), SEATS) }).await.unwrap().game;
    aged(&store, game, wait, OVERDUE_AFTER + Duration::from_millis(100)).await;
    let slow_too = store.find(Find { wait, ..a_find(new_user(), SEATS) }).await.unwrap().game;
    assert_eq!(slow_too, game, "its time is not over");
    assert!(store.time_out(game).await.unwrap());
}

pub(super) async fn nobody_is_seated_with_a_user_who_takes_many_seats_and_comes_to_none<S: GameStore>(store: S) {
    const SEATS: u32 = 16;
    let ghost = new_user();
    let mut games = Vec::new();
    for _ in 0..=OPEN_GAMES_LOOKED_AT.max(TRUSTED_SEATS) {
        games.push(find(&store, ghost, SEATS).await.game);
    }
    let early = find(&store, new_user(), SEATS).await.game;
    assert_eq!(early, games[0], "the user may still come");
    let last = games[games.len() - 1];
    aged(&store, last, LONG_WAIT, OVERDUE_AFTER).await;
    let honest = find(&store, new_user(), SEATS).await.game;
    assert!(!games.contains(&honest), "seated with whoever is not there");
    assert_eq!(find(&store, new_user(), SEATS).await.game, honest);
    store.attend(last, ghost, None, Uuid::new_v4()).await.unwrap().unwrap();
    assert_eq!(find(&store, new_user(), SEATS).await.game, last, "its user has come");
    for game in games.into_iter().chain([honest]) {
        assert!(store.time_out(game).await.unwrap());
    }
}

pub(super) async fn nobody_is_seated_with_a_user_who_takes_very_many_seats_at_once<S: GameStore>(store: S) {
    const SEATS: u32 = 21;
    let ghost = new_user();
    let mut games = Vec::new();
    for _ in 0..=TRUSTED_NEW_SEATS {
        games.push(find(&store, ghost, SEATS).await.game);
    }
    let honest = find(&store, new_user(), SEATS).await.game;
    assert!(!games.contains(&honest), "seated with whoever is not there");
    // It was not listed when it was opened.
    let last = games[games.len() - 1];
    store.attend(last, ghost, None, Uuid::new_v4()).await.unwrap().unwrap();
    assert_eq!(find(&store, new_user(), SEATS).await.game, last, "its user has come");
    for game in games.into_iter().chain([honest]) {
        assert!(store.time_out(game).await.unwrap());
    }
}

pub(super) async fn a_user_has_no_more_unattended_seats_than_there_may_be<S: GameStore>(store: S) {
    const SEATS: u32 = 17;
    let user = new_user();
    let mut games = Vec::new();
    for _ in 0..UNATTENDED_SEATS {
        games.push(find(&store, user, SEATS).await.game);
    }
    let one_more = || store.find(a_find(user, SEATS));
    assert!(matches!(one_more().await, Err(StoreError::TooManySeats)));
    store.attend(games[0], user, None, Uuid::new_v4()).await.unwrap().unwrap();
    games.push(one_more().await.unwrap().game);
    assert!(matches!(one_more().await, Err(StoreError::TooManySeats)));
    let other = find(&store, new_user(), SEATS).await.game;
    assert_eq!(other, games[0], "others have seats of their own");
    for game in games {
        assert!(store.time_out(game).await.unwrap());
    }
}

pub(super) async fn a_seat_that_its_user_came_to_with_the_secret_takes_nothing_without<S: GameStore>(store: S) {
    let _seating = SEATING.lock().await;
    let users = BTreeSet::from([new_user(), new_user()]);
    let (on_turn, other) = (*users.first().unwrap(), *users.last().unwrap());
    let secret = new_secret();
    let game = store.find(Find { secret, ..a_find(on_turn, 2) }).await.unwrap().game;
    let of_other = new_secret();
    assert_eq!(store.find(Find { secret: of_other, ..a_find(other, 2) }).await.unwrap().game, game);
    let attend = |secret| store.attend(game, on_turn, secret, Uuid::new_v4());
    let attack = |user, enemy, secret| store.attack(game, user, secret, enemy, start_of_time(), UNLIMITED);
    for wrong in [new_secret(), of_other] {
        assert_eq!(attend(Some(wrong)).await.unwrap(), Err(Refusal::WrongSeat));
        assert_eq!(attack(on_turn, other, Some(wrong)).await.unwrap(), Err(Refusal::WrongSeat));
    }
    assert_eq!(attend(None).await.unwrap(), Ok(()), "nobody has shown the secret yet");
    assert_eq!(attend(Some(secret)).await.unwrap(), Ok(()));
    for wrong in [None, Some(of_other)] {
        assert_eq!(attend(wrong).await.unwrap(), Err(Refusal::WrongSeat));
        assert_eq!(attack(on_turn, other, wrong).await.unwrap(), Err(Refusal::WrongSeat));
    }
    assert!(store.snapshot(game).await.unwrap().unwrap().records.is_empty());
    // An attack shows it as well, even one that is refused.
    assert_eq!(attack(other, on_turn, Some(of_other)).await.unwrap(), Err(Refusal::OutOfTurn));
    assert_eq!(attack(other, on_turn, None).await.unwrap(), Err(Refusal::WrongSeat));
    let outcome = attack(on_turn, other, Some(secret)).await.unwrap().unwrap();
    assert_eq!(outcome.record.user, on_turn);
}

pub(super) async fn a_seat_whose_secret_nobody_has_shown_takes_whoever_has_the_token<S: GameStore>(store: S) {
    let _seating = SEATING.lock().await;
    let users = BTreeSet::from([new_user(), new_user()]);
    let (on_turn, other) = (*users.first().unwrap(), *users.last().unwrap());
    let game = find(&store, on_turn, 2).await.game;
    assert_eq!(find(&store, other, 2).await.game, game);
    assert_eq!(store.attend(game, on_turn, None, Uuid::new_v4()).await.unwrap(), Ok(()));
    let attack = store.attack(game, on_turn, None, other, start_of_time(), UNLIMITED).await.unwrap();
    assert_eq!(attack.unwrap().record.user, on_turn);
    for nobody in [new_user(), new_user()] {
        assert_eq!(store.attend(game, nobody, None, Uuid::new_v4()).await.unwrap(), Err(Refusal::NotAPlayer));
    }
}
