//! Two workers on real files through random runs of crashes, takeovers, commits that are refused, lost or late, and steps on disk that
//! fail or end the process: whatever happened, in the end every record stands exactly once in the published files of one folder or
//! two, in order.
#![allow(clippy::unwrap_used)]

mod recovery;
mod world;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use self::world::{Delivery, Event, Run};
use crate::fault::{self, Fault, Point};

const POINTS: [Point; 23] = [
    Point::Probe,
    Point::WriteOnce,
    Point::SyncOnce,
    Point::NameOnce,
    Point::RemoveAttempt,
    Point::SyncNames,
    Point::CreateDirectory,
    Point::SyncParent,
    Point::ClearWriting,
    Point::CreateFile,
    Point::WriteRows,
    Point::SyncRows,
    Point::SyncWriting,
    Point::ClearSealed,
    Point::Seal,
    Point::SyncSealed,
    Point::RemoveWriting,
    Point::RemoveSealed,
    Point::Publish,
    Point::SyncPublished,
    Point::MarkPublished,
    Point::EmptyMark,
    Point::RemoveMark,
];

// None is left out.
const _: () = assert!(POINTS.len() == Point::RemoveMark as usize + 1);

/// Of the cases of a property: a seed is some hundred runs.
const CASES_PER_SEED: u32 = 128;
const EVENTS: std::ops::Range<usize> = 0..80;

fn event() -> impl Strategy<Value = Event> {
    let worker = 0..2usize;
    let delivery = prop_oneof![
        4 => Just(Delivery::Answered),
        1 => Just(Delivery::AnswerLost),
        1 => Just(Delivery::Late),
    ];
    prop_oneof![
        30 => worker.clone().prop_map(|worker| Event::GoOn { worker }),
        3 => worker.clone().prop_map(|worker| Event::Join { worker }),
        6 => (worker.clone(), 1..4i64).prop_map(|(worker, records)| Event::Write { worker, records }),
        3 => worker.clone().prop_map(|worker| Event::Seal { worker }),
        5 => (worker.clone(), delivery).prop_map(|(worker, delivery)| Event::Commit { worker, delivery }),
        2 => (0..3usize).prop_map(|number| Event::LateCommit { number }),
        2 => worker.clone().prop_map(|worker| Event::Retry { worker }),
        1 => worker.clone().prop_map(|worker| Event::Leave { worker }),
        1 => worker.prop_map(|worker| Event::Crash { worker }),
    ]
}

/// Lets the events happen with faults at their steps, and judges what came of it.
fn play(
    shared: bool,
    events: &[Event],
    faults: impl IntoIterator<Item = (Point, Fault, usize)>,
) -> Result<bool, String> {
    fault::arm(faults);
    let mut run = Run::new(shared);
    for event in events {
        run.on(*event);
    }
    let all_came = fault::are_all_done();
    let (committed, folders) = run.settle();
    let mut all = folders.concat();
    all.sort_unstable();
    if !folders.iter().all(|offsets| offsets.is_sorted()) || !all.iter().copied().eq(0..committed) {
        return Err(format!("{committed} offsets are committed, and the folders hold {folders:?}"));
    }
    Ok(all_came)
}

proptest! {
    // A failure prints the shortest run that shows it.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn every_record_is_published_exactly_once_in_order(
        shared: bool,
        events in prop::collection::vec(event(), EVENTS),
        faults in prop::collection::vec(
            (prop::sample::select(&POINTS[..]), prop::sample::select(&Fault::ALL[..]), 0..20usize), 0..5,
        ),
    ) {
        prop_assert_eq!(play(shared, &events, faults).map(drop), Ok(()));
    }
}

/// Every step, in every way, at some time of many runs.
#[test]
fn every_step_on_disk_may_fail_or_be_the_last() {
    let seeds = (ProptestConfig::default().cases / CASES_PER_SEED).max(1);
    let (mut runs, mut met) = (0, BTreeSet::new());
    for seed in 0..seeds {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&seed.to_le_bytes());
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), random);
        let events = prop::collection::vec(event(), EVENTS.end).new_tree(&mut runner).unwrap().current();
        for shared in [true, false] {
            assert_eq!(play(shared, &events, []), Ok(true), "seed {seed}, shared {shared}");
            // Once more for the count: settling has counted, too.
            fault::arm([]);
            let mut run = Run::new(shared);
            events.iter().for_each(|event| run.on(*event));
            for (point, times) in fault::hits() {
                for (number, fault) in Fault::ALL.into_iter().enumerate() {
                    let chosen = BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, shared, point, number));
                    let nth = chosen as usize % times;
                    let played = play(shared, &events, [(point, fault, nth)]);
                    assert_eq!(played, Ok(true), "seed {seed}, shared {shared}, {fault:?} at the {nth}th {point:?}");
                    met.insert((point, number));
                    runs += 1;
                }
            }
        }
    }
    println!("{runs} runs of {seeds} seeds, each with a fault");
    let missed: Vec<_> = POINTS.iter().filter(|point| !met.contains(&(**point, 0))).collect();
    assert!(missed.is_empty(), "no run has come to {missed:?}");
}
