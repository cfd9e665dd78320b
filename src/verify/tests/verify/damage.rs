//! Each way to damage files and dead letters, and exactly what is told of it.

use std::fs;
use std::path::{Path, PathBuf};

use superhero_verify::Fault;

use crate::world::{TODAY, Worker, check, edit, everything, faults, file, files};

/// Offsets 0 to 9 of one producer in two files.
fn ten() -> (tempfile::TempDir, [PathBuf; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), "t", 3);
    worker.events(7, 5);
    worker.publish();
    worker.events(7, 5);
    worker.publish();
    let paths = [file(dir.path(), &["+00000000000000000000."]), file(dir.path(), &["+00000000000000000005."])];
    (dir, paths)
}

fn topic() -> String {
    "t".to_owned()
}

fn gap(first_offset: i64, last_offset: i64, path: Option<&Path>) -> Fault {
    Fault::Gap { topic: topic(), partition: 3, first_offset, last_offset, path: path.map(Path::to_owned) }
}

#[test]
fn a_row_that_is_missing_is_a_gap() {
    for (file, row, offset, before) in [(0, 2, 2, Some(0)), (0, 4, 4, Some(1)), (1, 4, 9, None)] {
        let (dir, paths) = ten();
        edit(&paths[file], |rows| _ = rows.remove(row));
        assert_eq!(faults(dir.path()), [gap(offset, offset, before.map(|file: usize| paths[file].as_path()))]);
    }
}

#[test]
fn a_file_that_is_missing_is_a_gap() {
    for (file, first, last) in [(0, 0, 4), (1, 5, 9)] {
        let (dir, paths) = ten();
        fs::remove_file(&paths[file]).unwrap();
        assert_eq!(faults(dir.path()), [gap(first, last, (file == 0).then_some(&paths[1]))]);
    }
}

#[test]
fn rows_that_stand_twice_are_duplicates() {
    let duplicate = |first_offset, last_offset, path: &Path| Fault::Duplicate {
        table: "raw",
        topic: topic(),
        partition: 3,
        first_offset,
        last_offset,
        path: path.to_owned(),
    };
    let (dir, paths) = ten();
    edit(&paths[0], |rows| rows.insert(2, rows[1].clone()));
    assert_eq!(faults(dir.path()), [duplicate(1, 1, &paths[0])]);

    // In another folder of the same group.
    let (dir, paths) = ten();
    let other = tempfile::tempdir().unwrap();
    let copy = other.path().join(paths[0].strip_prefix(dir.path()).unwrap());
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::copy(&paths[0], &copy).unwrap();
    let found = crate::world::try_check(&[dir.path(), other.path()]).unwrap();
    assert_eq!(found.faults.first(), [duplicate(0, 4, &copy)]);
}

#[test]
fn rows_out_of_order_are_inversions() {
    let (dir, paths) = ten();
    edit(&paths[1], |rows| rows.swap(1, 2));
    assert_eq!(
        faults(dir.path()),
        [Fault::Inversion {
            table: "raw",
            topic: topic(),
            partition: 3,
            first_offset: 6,
            last_offset: 6,
            path: paths[1].clone()
        }]
    );
}

#[test]
fn a_torn_file_is_told_with_what_it_lacks() {
    let (dir, paths) = ten();
    let bytes = fs::read(&paths[0]).unwrap();
    fs::write(&paths[0], &bytes[..bytes.len() - 10]).unwrap();
    let found = faults(dir.path());
    assert!(matches!(&found[0], Fault::Torn { partition: 3, path, .. } if *path == paths[0]), "{found:?}");
    assert!(found[1..].iter().all(|fault| matches!(fault, Fault::Gap { last_offset: 4, .. })), "{found:?}");

    let dir = everything();
    let plain = file(dir.path(), &["topic=other", "+00000000000000000007."]);
    let text = fs::read_to_string(&plain).unwrap();
    fs::write(&plain, &text[..text.len() - 5]).unwrap();
    let found = faults(dir.path());
    assert!(
        matches!(&found[0], Fault::Torn { rows: 4, path, reason, .. } if *path == plain && reason.contains("not complete")),
        "{found:?}"
    );
    let gap = |fault: &Fault| matches!(fault, Fault::Gap { first_offset: 11, last_offset: 11, .. });
    assert!(found.iter().any(gap), "{found:?}");
}

#[test]
fn what_is_not_of_the_sinks_making_is_foreign() {
    let (dir, paths) = ten();
    let root = dir.path().join("superhero");
    let strange = [
        root.join("NOTES.txt"),
        root.join("raw/topic=t/notes"),
        root.join("raw/topic=t/partition=3/dt=2026-11-22/_SUCCESS"),
        root.join("raw/topic=t/partition=3/dt=2026-11-22/t+3+5.jsonl"),
        root.join(".superhero/sealed/something"),
    ];
    for path in &strange {
        fs::write(path, "").unwrap();
        assert!(matches!(&*faults(dir.path()), [Fault::ForeignFile { path: told, .. }] if told == path), "{path:?}");
        fs::remove_file(path).unwrap();
    }
    fs::create_dir(paths[0].with_file_name("dir.jsonl")).unwrap();
    assert!(matches!(&*faults(dir.path()), [Fault::ForeignFile { .. }]));
}

#[test]
fn a_file_in_the_wrong_place_is_misplaced() {
    let (dir, paths) = ten();
    let elsewhere = dir.path().join("superhero/raw/topic=t/partition=4/dt=2026-11-22");
    fs::create_dir_all(&elsewhere).unwrap();
    let moved = elsewhere.join(paths[1].file_name().unwrap());
    fs::rename(&paths[1], &moved).unwrap();
    let found = faults(dir.path());
    assert!(
        matches!(&*found, [Fault::Misplaced { partition: 3, offset: None, path, .. }] if *path == moved),
        "{found:?}"
    );

    let (dir, paths) = ten();
    let elsewhere = dir.path().join("superhero/raw/topic=t/partition=3/dt=2026-11-23");
    fs::create_dir_all(&elsewhere).unwrap();
    let moved = elsewhere.join(paths[1].file_name().unwrap());
    fs::rename(&paths[1], &moved).unwrap();
    let found = faults(dir.path());
    assert!(
        matches!(&*found, [Fault::Misplaced { partition: 3, offset: Some(5), path, reason, .. }]
            if *path == moved && reason.contains(&TODAY.to_string())),
        "{found:?}"
    );
}

#[test]
fn a_file_begins_with_the_offset_that_its_name_tells() {
    let (dir, paths) = ten();
    let named = paths[1].with_file_name("t+3+00000000000000000006.jsonl.gz");
    fs::rename(&paths[1], &named).unwrap();
    assert_eq!(
        faults(dir.path()),
        [Fault::FirstRow { topic: topic(), partition: 3, named_offset: 6, offset: 5, path: named }]
    );
}

#[test]
fn a_line_that_is_no_row_is_told_by_its_number() {
    for (from, to, expected) in [
        ("\"offset\":2", "\"offset\":-2", "negative"),
        ("{\"topic\"", "[\"topic\"", "no JSON object"),
        ("\"key\":\"\",", "", "missing field `key`"),
        ("18:15:21.101Z", "18:15:21Z", "is not like"),
    ] {
        let (dir, paths) = ten();
        edit(&paths[0], |rows| rows[2] = rows[2].replace(from, to));
        let found = faults(dir.path());
        assert!(
            matches!(&*found, [Fault::BadRow { partition: 3, row: 3, path, reason, .. }]
                if *path == paths[0] && reason.contains(expected)),
            "{found:?}"
        );
    }
}

#[test]
fn a_segment_that_is_sealed_and_not_published_is_told_and_nothing_of_it_besides() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), "t", 3);
    worker.events(7, 5);
    worker.publish();
    worker.events(7, 3);
    worker.seal();
    let numbers = worker.numbers.clone();
    worker.crash();
    let sealed = fs::read_dir(dir.path().join("superhero/.superhero/sealed")).unwrap().next().unwrap().unwrap().path();
    let expected =
        [Fault::Unpublished { topic: topic(), partition: 3, first_offset: 5, last_offset: 7, path: sealed.clone() }];
    assert_eq!(faults(dir.path()), expected);
    // Another host has gone on.
    let other = tempfile::tempdir().unwrap();
    let mut worker = Worker::from(other.path(), "t", 3, Default::default(), 8);
    worker.numbers = numbers;
    worker.events(7, 2);
    worker.publish();
    let found = crate::world::try_check(&[dir.path(), other.path()]).unwrap();
    assert_eq!(found.faults.first(), expected);
}

#[test]
fn a_run_that_goes_on_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), "t", 3);
    worker.events(7, 5);
    worker.publish();
    worker.events(7, 3);
    let found = faults(dir.path());
    assert!(
        matches!(&*found, [Fault::Unfinished { partition: 3, first_offset: Some(5), path, .. }] if path.is_dir()),
        "{found:?}"
    );
}

#[test]
fn an_id_that_comes_again_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), "t", 3);
    worker.events(7, 5);
    worker.numbers.insert(7, 3);
    worker.events(7, 1);
    worker.publish();
    assert_eq!(
        faults(dir.path()),
        [Fault::DuplicateId {
            topic: topic(),
            partition: 3,
            offset: 5,
            id: format!("{:032x}-3", 7),
            path: file(dir.path(), &["raw"])
        }]
    );
}

#[test]
fn numbers_that_never_came_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), "t", 3);
    worker.events(7, 5);
    worker.numbers.insert(7, 8);
    worker.events(7, 1);
    worker.publish();
    assert_eq!(
        faults(dir.path()),
        [Fault::Missing {
            topic: topic(),
            partition: 3,
            producer: format!("{:032x}", 7),
            first_sequence: 5,
            last_sequence: 7,
            offset: 5,
            path: Some(file(dir.path(), &["raw"]))
        }]
    );
}

#[test]
fn a_gap_is_no_repetition_if_anybody_at_work_lacks_a_record_or_does_not_go_on() {
    type Lose = fn(&mut Worker);
    let lost: [Lose; 3] = [
        |worker| *worker.numbers.get_mut(&2).unwrap() += 1,
        |worker| _ = worker.numbers.remove(&2),
        |worker| worker.stranger(),
    ];
    for lose in lost {
        let dir = tempfile::tempdir().unwrap();
        let mut worker = Worker::new(dir.path(), "t", 3);
        worker.events(2, 1);
        worker.events(1, 1);
        lose(&mut worker);
        let gap = worker.offset;
        worker.repeat(1);
        worker.events(1, 2);
        if worker.numbers.contains_key(&2) {
            worker.events(2, 1);
        }
        worker.events(1, 1);
        worker.publish();
        let found = faults(dir.path());
        assert!(
            matches!(&*found, [Fault::Gap { first_offset, last_offset, .. }] if (*first_offset, *last_offset) == (gap, gap)),
            "{found:?}"
        );
    }
}

#[test]
fn dead_letters_and_raw_rows_bear_each_other_out() {
    let dir = everything();
    let dead = file(dir.path(), &["/dead/", "other+3+00000000000000000004."]);
    let raw = file(dir.path(), &["topic=other", "+00000000000000000000."]);
    let whole = crate::world::rows(&dead);
    let orphan = |offset, reason: &str| Fault::Orphan {
        table: "dead",
        topic: "other".to_owned(),
        partition: 3,
        offset,
        path: dead.clone(),
        reason: reason.to_owned(),
    };

    fs::remove_file(&dead).unwrap();
    assert_eq!(faults(dir.path()), [Fault::NoDeadLetter { topic: "other".to_owned(), partition: 3, offset: 4 }]);

    crate::world::write(&dead, &[whole[0].replace("{\"a\":1}", "{\"a\":2}")]);
    assert_eq!(faults(dir.path()), [orphan(4, "the raw table has another record there")]);

    let good = crate::world::rows(&raw)[3].replacen('{', "{\"reason\":\"none\",", 1);
    crate::world::write(&dead, &[good, whole[0].clone()]);
    let found = faults(dir.path());
    assert!(matches!(&found[0], Fault::FirstRow { offset: 3, .. }), "{found:?}");
    assert_eq!(found[1..], [orphan(3, "nothing is wrong with the record there")]);

    let between = whole[0].replace("\"offset\":4", "\"offset\":6");
    crate::world::write(&dead, &[whole[0].clone(), between]);
    edit(&raw, |rows| _ = rows.remove(1));
    edit(&file(dir.path(), &["topic=other", "+00000000000000000005."]), |rows| _ = rows.remove(1));
    let found = faults(dir.path());
    assert!(found.contains(&orphan(6, "the raw table has no row there")), "{found:?}");
}

#[test]
fn many_faults_are_all_counted_and_the_first_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::new(dir.path(), "t", 3);
    worker.events(1, 1000);
    worker.publish();
    edit(&files(&dir.path().join("superhero/raw"))[0], |rows| {
        let mut number = 0;
        rows.retain(|_| {
            number += 1;
            number % 2 == 1
        });
    });
    let found = check(dir.path());
    assert_eq!((found.faults.total(), found.faults.count("gap"), found.faults.first().len()), (500, 500, 100));
    assert!(found.to_string().contains("… and 400 more") && found.to_string().contains("--kafka"), "{found}");
}
