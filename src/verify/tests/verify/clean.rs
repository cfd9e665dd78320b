//! What is right, however strange, is not told; and what there is is counted.

use std::fs;

use superhero_sink::{Compression, Folder};
use superhero_verify::{Rows, VerifyError};

use crate::world::{LOBBY, Worker, check, everything, faults, game, try_check, user};

#[test]
fn a_clean_folder_has_no_faults_and_everything_is_counted() {
    let dir = everything();
    let found = check(dir.path());
    assert!(found.is_clean(), "{found}");
    assert_eq!(found.rows, Rows { raw: 47, game_meta: 12, game_podium: 12, dead: 5 });
    assert_eq!((found.games, found.files), (6, 3 * 4 + 4 + 2));
    assert!(found.bytes > 0);
    let (games, wins) = found.heroes.values().fold((0, 0), |sum, hero| (sum.0 + hero.games, sum.1 + hero.wins));
    assert_eq!((games, wins), (12, 6));
    assert_eq!(found.heroes.values().map(|hero| hero.damage_delivered).sum::<u64>(), 2 * 12);
    assert_eq!(found.producers.clone().into_iter().collect::<Vec<_>>(), [(1, 32), (2, 15)]);
    let partitions: Vec<_> = found.partitions.iter().map(|partition| (&*partition.topic, partition.rows)).collect();
    assert_eq!(partitions, [(LOBBY, 33), ("other", 14)]);
    let lobby = &found.partitions[0];
    assert_eq!((lobby.first_offset, lobby.last_offset, lobby.files), (Some(0), Some(32), 3));
    let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
    assert_eq!(json["faults"]["total"], 0);
    assert_eq!(json["faults"]["counts"]["gap"], 0);
    assert_eq!(json["rows"]["raw"], 47);
}

#[test]
fn figures_are_those_of_one_producer_alone() {
    let dir = everything();
    let figures_of = |producer| {
        let folders = vec![dir.path().to_owned()];
        let config = superhero_verify::VerifyConfig { folders, figures_of: Some(producer), ..Default::default() };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let found = runtime.block_on(superhero_verify::verify(config, tokio_util::sync::CancellationToken::new()));
        found.unwrap().figures.unwrap()
    };
    let (one, two, nobody) = (figures_of(1), figures_of(2), figures_of(3));
    assert_eq!((one.rows, two.rows, nobody.rows), (32, 15, 0));
    // Dead letters that are no events were not logged at any time.
    assert_eq!(one.latency.len() + two.latency.len(), 42);
    assert_eq!((two.latency.len(), two.played.events + two.timed_out.events), (15, 15));
    assert_eq!((one.games + two.games, nobody.games), (6, 0));
    assert!(one.games > 0 && two.games > 0);
    for figures in [one, two] {
        assert_eq!(figures.heroes.values().map(|hero| hero.games).sum::<u64>(), 2 * figures.games);
        assert_eq!(figures.heroes.values().map(|hero| hero.wins).sum::<u64>(), figures.games);
    }
}

#[test]
fn repetitions_that_were_left_out_are_proven_by_those_who_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), "t", 0);
    // A producer that has died long before has no say.
    worker.events(3, 2);
    for _ in 0..600 {
        worker.events(1, 1);
        worker.events(2, 1);
    }
    worker.repeat(5);
    worker.events(1, 1);
    worker.events(2, 1);
    worker.publish();
    worker.repeat(3);
    worker.events(2, 1);
    worker.events(1, 1);
    worker.publish();
    let found = check(dir.path());
    assert!(found.is_clean(), "{found}");
    assert_eq!(found.duplicates_left_out(), 8);
}

#[test]
fn the_union_of_folders_is_checked() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut first = Worker::new(one.path(), "t", 0);
    first.events(1, 5);
    first.publish();
    let mut second = Worker::from(two.path(), "t", 0, Compression::None, first.offset);
    second.numbers = first.numbers.clone();
    second.events(1, 5);
    second.publish();
    let found = try_check(&[one.path(), two.path()]).unwrap();
    assert!(found.is_clean(), "{found}");
    assert_eq!(found.rows.raw, 10);
    assert_eq!(faults(two.path()).len(), 1, "the first half is not there");
    let twice = try_check(&[one.path(), one.path()]).unwrap_err();
    assert!(matches!(twice, VerifyError::SameFolder { .. }), "{twice}");
    Folder::open(&one.path().join("other"), "another cluster").unwrap();
    let apart = try_check(&[one.path(), &one.path().join("other")]).unwrap_err();
    assert!(matches!(apart, VerifyError::NotOneSource { .. }), "{apart}");
}

#[test]
fn a_producer_that_died_in_the_midst_of_a_games_end_leaves_nothing_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), LOBBY, 0);
    worker.select(1, game(1));
    worker.select(1, game(1));
    worker.end(1, game(1), user(1), None);
    // Another took over.
    worker.whole_game(2, 2);
    worker.publish();
    assert_eq!(faults(dir.path()), []);
}

#[test]
fn strangers_and_odd_values_are_rows_as_good_as_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), "t", 0);
    worker.stranger();
    worker.bad(None, "no json");
    worker.bad(None, "null");
    worker.bad(None, "[1,2]");
    worker.bad(None, "");
    worker.events(1, 2);
    worker.stranger();
    worker.publish();
    assert_eq!(faults(dir.path()), []);
}

#[test]
fn dates_that_go_to_and_fro_between_the_rows_of_games_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut lobby = Worker::new(dir.path(), LOBBY, 0);
    let users = [user(1), user(2)];
    let rows = || vec![(users[0], 1), (users[1], 2)];
    for number in 0..3 {
        users.iter().for_each(|_| lobby.select(1, game(number)));
        // The other participants' ends, which have no rows, are of a server whose clock is wrong.
        let today = lobby.date;
        lobby.next_day();
        lobby.end(1, game(number), users[0], None);
        lobby.date = today;
        lobby.end(1, game(number), users[1], Some((rows(), rows())));
    }
    lobby.publish();
    let found = check(dir.path());
    assert!(found.is_clean() && found.games == 3, "{found}");
}

#[test]
fn the_end_of_a_game_whose_state_is_gone_is_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), LOBBY, 0);
    worker.record(Some(1), None, &crate::world::cleaning(game(1), user(1)), Some("it is gone"), &[]);
    worker.record(Some(1), None, &crate::world::cleaning(game(1), user(2)), Some("it is gone"), &[]);
    worker.publish();
    assert_eq!(faults(dir.path()), []);
}

#[test]
fn a_folder_without_rows_is_clean_and_one_that_is_none_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(try_check(&[]), Err(VerifyError::NoFolders)));
    assert!(matches!(try_check(&[&dir.path().join("none")]), Err(VerifyError::NoDirectory { .. })));
    assert!(matches!(try_check(&[dir.path()]), Err(VerifyError::NoRows { .. })));
    Folder::open(dir.path(), "cluster").unwrap();
    let found = check(dir.path());
    assert!(found.is_clean() && found.partitions.is_empty(), "{found}");
    assert!(found.to_string().contains("there are no rows"), "{found}");
}

#[test]
fn copies_without_the_hidden_work_area_are_checked_too() {
    let dir = everything();
    fs::remove_dir_all(dir.path().join("superhero/.superhero")).unwrap();
    assert_eq!(faults(dir.path()), []);
}

#[test]
fn only_the_topics_that_are_asked_for_are_checked() {
    let dir = everything();
    let only = |topic: &str| {
        let config = superhero_verify::VerifyConfig {
            folders: vec![dir.path().to_owned()],
            topics: Some(vec![topic.to_owned()]),
            ..Default::default()
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(superhero_verify::verify(config, tokio_util::sync::CancellationToken::new())).unwrap()
    };
    assert_eq!(only("other").rows, Rows { raw: 14, dead: 2, ..Rows::default() });
    assert_eq!(only("third").rows, Rows::default());
}

#[test]
fn a_stop_ends_the_check() {
    let dir = everything();
    let config = superhero_verify::VerifyConfig { folders: vec![dir.path().to_owned()], ..Default::default() };
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stopped = runtime.block_on(superhero_verify::verify(config, stop)).unwrap_err();
    assert!(matches!(stopped, VerifyError::Stopped), "{stopped}");
}
