//! The tables: each game in both, once, as the raw rows bear it out.

use std::fs;

use superhero_game::{GameToken, UserToken};
use superhero_verify::Fault;

use crate::world::{LOBBY, Users, Worker, edit, faults, file, game, rows, user, write};

/// One game whose second event makes the given rows.
fn game_of(meta: &[(UserToken, u64)], podium: &[(UserToken, u64)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), LOBBY, 1);
    worker.end(7, game(5), user(1), None);
    worker.end(7, game(5), user(2), Some((meta.to_vec(), podium.to_vec())));
    worker.publish();
    dir
}

fn both() -> Users {
    vec![(user(1), 1), (user(2), 2)]
}

fn topic() -> String {
    LOBBY.to_owned()
}

fn named(game: GameToken) -> String {
    game.to_string()
}

#[test]
fn a_game_without_rows_is_missing() {
    let both = both();
    assert_eq!(faults(game_of(&both, &both).path()), []);
    let missing = |table| [Fault::MissingGame { table, game: named(game(5)), topic: topic(), partition: 1, offset: 1 }];
    assert_eq!(faults(game_of(&[], &[]).path()), missing(None));
    assert_eq!(faults(game_of(&both, &[]).path()), missing(Some("GAME_PODIUM")));
    assert_eq!(faults(game_of(&[], &both).path()), missing(Some("GAME_META")));
}

#[test]
fn a_games_rows_are_one_for_each_user_in_order_with_ranks_from_one_on() {
    let both = both();
    type Rows<'a> = &'a [(UserToken, u64)];
    let cases: [(Rows<'_>, Rows<'_>, &str, &str); 6] = [
        (&[(user(1), 1), (user(1), 1), (user(2), 1)], &both, "GAME_META", "has two rows"),
        (&[(user(2), 1), (user(1), 1)], &both, "GAME_META", "does not stand in order"),
        (&both, &[(user(1), 1), (user(2), 3)], "GAME_PODIUM", "is on rank 3 where 2 should stand"),
        (&both, &[(user(1), 2), (user(2), 3)], "GAME_PODIUM", "is on rank 2 where 1 should stand"),
        (&both, &[(user(1), 2), (user(2), 1)], "GAME_PODIUM", "is on rank 2 where 1 should stand"),
        (&both, &[(user(2), 1), (user(1), 2), (user(2), 3)], "GAME_PODIUM", "has two rows"),
    ];
    for (meta, podium, wrong, expected) in cases {
        let dir = game_of(meta, podium);
        let found = faults(dir.path());
        assert!(
            matches!(&*found, [Fault::BadGame { table, game: token, partition: 1, offset: 1, path, reason, .. }]
                if *table == wrong && *token == named(game(5)) && *path == file(dir.path(), &[wrong]) && reason.contains(expected)),
            "{found:?}"
        );
    }
}

#[test]
fn both_tables_have_the_same_users_and_the_host_among_them() {
    let found = faults(game_of(&both(), &[(user(1), 1), (user(2), 2), (user(3), 3)]).path());
    let expected = Fault::OtherUsers {
        game: named(game(5)),
        topic: topic(),
        partition: 1,
        offset: 1,
        game_meta: 2,
        game_podium: 3,
    };
    assert_eq!(found, [expected]);
    let strangers = [(user(3), 1), (user(4), 2)];
    let found = faults(game_of(&strangers, &strangers).path());
    assert!(
        matches!(&*found, [Fault::BadGame { reason, .. }, Fault::BadGame { .. }] if reason.contains("the host")),
        "{found:?}"
    );
}

#[test]
fn a_game_that_is_made_twice_is_told_for_each_table() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), LOBBY, 1);
    worker.whole_game(7, 5);
    worker.publish();
    worker.end(7, game(5), user(2), Some((both(), both())));
    worker.publish();
    let expected = ["GAME_META", "GAME_PODIUM"].map(|table| Fault::RepeatedGame {
        table,
        game: named(game(5)),
        topic: topic(),
        partition: 1,
        offset: 4,
        path: file(dir.path(), &[table, "+00000000000000000004."]),
    });
    assert_eq!(faults(dir.path()), expected);
}

#[test]
fn rows_that_no_event_bears_out_are_orphans() {
    for (offset, expected) in [
        (0, "the record there ends no game"),
        (7, "the record there ends another game"),
        (9, "the raw table has no row there"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut worker = Worker::new(dir.path(), LOBBY, 1);
        worker.whole_game(7, 5);
        worker.whole_game(7, 6);
        worker.publish();
        let meta = file(dir.path(), &["GAME_META"]);
        edit(&meta, |rows| {
            let mut row = rows[0].replace("\"offset\":3", &format!("\"offset\":{offset}"));
            if offset == 7 {
                row = row.replace(&named(game(5)), &named(game(9)));
                rows.truncate(2);
            }
            rows.insert(if offset == 0 { 0 } else { rows.len() }, row);
        });
        let found = faults(dir.path());
        let orphan = found.iter().find(|fault| matches!(fault, Fault::Orphan { .. })).unwrap();
        assert!(
            matches!(orphan, Fault::Orphan { table: "GAME_META", offset: told, path, reason, .. }
                if *told == offset && *path == meta && reason == expected),
            "{found:?}"
        );
        let others = found.len() - 1;
        // The name of the file; the game whose rows were replaced.
        assert_eq!(others, if offset == 9 { 0 } else { 1 }, "{found:?}");
    }
}

#[test]
fn a_file_of_a_table_that_stands_twice_is_a_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), LOBBY, 1);
    worker.whole_game(7, 5);
    worker.whole_game(7, 6);
    worker.publish();
    let meta = file(dir.path(), &["GAME_META"]);
    let other = tempfile::tempdir().unwrap();
    let copy = other.path().join(meta.strip_prefix(dir.path()).unwrap());
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::copy(&meta, &copy).unwrap();
    let found = crate::world::try_check(&[dir.path(), other.path()]).unwrap();
    let duplicate = |offset| Fault::Duplicate {
        table: "GAME_META",
        topic: topic(),
        partition: 1,
        first_offset: offset,
        last_offset: offset,
        path: copy.clone(),
    };
    assert_eq!(found.faults.first(), [duplicate(3), duplicate(7)]);
}

#[test]
fn what_cannot_be_read_is_not_told_to_be_missing_as_well() {
    let dir = game_of(&both(), &both());
    let podium = file(dir.path(), &["GAME_PODIUM"]);
    let broken: Vec<String> = rows(&podium).into_iter().map(|row| row.replace("\"rank\"", "\"rang\"")).collect();
    write(&podium, &broken);
    let found = faults(dir.path());
    assert!(matches!(&*found, [Fault::BadRow { row: 1, .. }, Fault::BadRow { row: 2, .. }]), "{found:?}");
}
