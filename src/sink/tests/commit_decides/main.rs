//! Point 4 of the delivery contract by exhaustion: the state machine of [`superhero_sink::protocol`] is driven, breadth first,
//! through every interleaving of two workers of one partition with crashes, evictions, commits whose answers are late or lost, and
//! commits that are themselves late, on one shared folder and on a folder each.
//!
//! No offset may ever be published twice, nothing committed may ever be nowhere, and wherever all has come to rest every offset
//! must be published. Leaving a rule out must be caught: otherwise the check shows nothing.
//!
//! `EXPLORE_FAULTS=2 cargo test --release -p superhero-sink --test commit_decides -- --nocapture` goes deeper: ten million states, a
//! minute, some GiB.
// A test that cannot print has nobody to tell.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod explore;
mod world;

use self::explore::{Explored, explore};

/// A rule that is left out, to see it missed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum LeftOut {
    Nothing,
    /// Sweeping spares what is of the sweeper's own or a newer generation.
    SweepOnlyOlderGenerations,
    /// A refusal after an unknown answer decides nothing.
    UnknownIsNotRefused,
    /// After an unknown answer nothing but the same commit is sent in that generation.
    NewGenerationAfterUnknown,
    /// Segments of other folders stay named.
    Chain,
    /// Nothing is published before it is committed.
    CommitBeforePublish,
    /// Named segments are published on taking over.
    PublishNamed,
    /// An undecided segment is decided by what a newer generation reads, not before.
    DecideByMetadata,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) shared_folder: bool,
    /// Crashes, evictions, leavings and lost answers, all together.
    pub(crate) faults: u8,
    /// The last; one more than faults is enough for each worker to join anew after each.
    pub(crate) generations: i32,
    pub(crate) left_out: LeftOut,
}

fn check_all_is_well(bounds: Bounds) {
    let Explored { states, settled, violation } = explore(bounds);
    println!("{bounds:?}: {states} states, {settled} settled ends");
    if let Some(violation) = violation {
        panic!("{bounds:?}: violation after {states} states:\n{violation}");
    }
    assert!(settled > 0, "{bounds:?}: nothing was ever at rest in {states} states, so nothing is shown");
}

fn check_is_missed(left_out: LeftOut, bounds: Bounds) {
    let Explored { states, violation, .. } = explore(Bounds { left_out, ..bounds });
    match violation {
        Some(violation) => println!("without {left_out:?}, after {states} states:\n{violation}"),
        None => panic!("{left_out:?} can be left out unnoticed in {states} states"),
    }
}

const SHARED: Bounds = Bounds { shared_folder: true, faults: 1, generations: 3, left_out: LeftOut::Nothing };
const EACH: Bounds = Bounds { shared_folder: false, ..SHARED };

/// With as many faults as are wanted.
fn deep(bounds: Bounds) -> Bounds {
    match std::env::var("EXPLORE_FAULTS").map(|faults| faults.parse::<u8>()) {
        Ok(faults) => {
            let faults = faults.expect("EXPLORE_FAULTS is a number");
            Bounds { faults, generations: i32::from(faults) + 2, ..bounds }
        }
        Err(_) => bounds,
    }
}

#[test]
fn nothing_is_lost_or_doubled_on_a_shared_folder() {
    check_all_is_well(deep(SHARED));
}

#[test]
fn nothing_is_lost_or_doubled_on_a_folder_each() {
    check_all_is_well(deep(EACH));
}

#[test]
fn every_rule_is_missed_when_it_is_left_out() {
    check_is_missed(LeftOut::SweepOnlyOlderGenerations, SHARED);
    check_is_missed(LeftOut::UnknownIsNotRefused, SHARED);
    check_is_missed(LeftOut::NewGenerationAfterUnknown, EACH);
    check_is_missed(LeftOut::Chain, EACH);
    check_is_missed(LeftOut::CommitBeforePublish, EACH);
    check_is_missed(LeftOut::PublishNamed, EACH);
    check_is_missed(LeftOut::DecideByMetadata, SHARED);
}
