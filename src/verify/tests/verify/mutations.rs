//! No change of a single row escapes.

use std::fs;

use crate::world::{Worker, check, everything, files, rows, write};

#[test]
fn any_row_that_is_removed_repeated_or_swapped_is_told() {
    let dir = everything();
    let mut mutants = 0;
    for path in files(&dir.path().join("superhero")) {
        let (whole, bytes) = (rows(&path), fs::read(&path).unwrap());
        for at in 0..whole.len() {
            let mut removed = whole.clone();
            removed.remove(at);
            let mut repeated = whole.clone();
            repeated.insert(at, whole[at].clone());
            let mut swapped = whole.clone();
            swapped.swap(at, (at + 1) % whole.len());
            for (what, mutant) in [("removed", removed), ("repeated", repeated), ("swapped", swapped)] {
                if mutant == whole {
                    continue;
                }
                write(&path, &mutant);
                let found = check(dir.path());
                assert!(!found.is_clean(), "row {at} of {} was {what}", path.display());
                mutants += 1;
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(mutants > 200, "{mutants}");
    assert!(check(dir.path()).is_clean());
}

#[test]
fn any_file_that_is_removed_or_torn_is_told() {
    let dir = everything();
    for path in files(&dir.path().join("superhero")) {
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!check(dir.path()).is_clean(), "{} was removed", path.display());
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(!check(dir.path()).is_clean(), "{} was cut to {length} bytes", path.display());
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(check(dir.path()).is_clean());
}

/// Some numbers, the same for a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        // A linear congruential generator with Knuth's constants; its high bits are good.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn repetitions_that_were_left_out_are_no_place_to_hide_a_row() {
    for seed in 0..12 {
        let mut numbers = Numbers(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut worker = Worker::new(dir.path(), "t", 0);
        let mut repeated = 0;
        for _ in 0..40 {
            match numbers.below(10) {
                0 if worker.offset > 0 => {
                    let count = 1 + numbers.below(4);
                    worker.repeat(count as i64);
                    repeated += count;
                }
                1 => {
                    // All that are at work go on behind each gap.
                    (1..4).for_each(|producer| worker.event(producer));
                    worker.publish();
                }
                choice => worker.event(u128::from(1 + choice % 3)),
            }
        }
        (1..4).for_each(|producer| worker.event(producer));
        worker.publish();
        let found = check(dir.path());
        assert!(found.is_clean(), "seed {seed}: {found}");
        assert_eq!(found.duplicates_left_out(), repeated, "seed {seed}");

        for path in files(&dir.path().join("superhero")) {
            let (whole, bytes) = (rows(&path), fs::read(&path).unwrap());
            for at in 0..whole.len() {
                let mut removed = whole.clone();
                removed.remove(at);
                write(&path, &removed);
                assert!(!check(dir.path()).is_clean(), "seed {seed}: row {at} of {} was removed", path.display());
            }
            fs::write(&path, bytes).unwrap();
        }
    }
}
