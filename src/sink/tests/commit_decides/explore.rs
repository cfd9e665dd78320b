//! Everything that can come of a start, breadth first.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::Bounds;
use crate::world::{ACTS, END, Step, World};

/// Among a million states two share one with a chance of one in thirty million.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) settled: usize,
    pub(crate) violation: Option<String>,
}

/// Everything that can come of the start, nearest first, until something that must never happen does.
pub(crate) fn explore(bounds: Bounds) -> Explored {
    let mut known = HashSet::new();
    // How each state was come by: from which, and by which of its steps.
    let mut history: Vec<(usize, usize)> = vec![(0, 0)];
    let mut frontier = VecDeque::from([(0, World::start(bounds))]);
    known.insert(fingerprint(&frontier[0].1));
    let mut settled = 0;
    while let Some((at, world)) = frontier.pop_front() {
        let published = world.published();
        let twice = published.windows(2).any(|pair| pair[0] == pair[1]);
        let is_settled = world.is_settled();
        if twice || (is_settled && published != (0..END).collect::<Vec<_>>()) {
            let what =
                format!("{} {published:?}", if twice { "published twice:" } else { "lost, at the end there are" });
            return Explored { states: known.len(), settled, violation: Some(trace(bounds, &history, at) + &what) };
        }
        settled += usize::from(is_settled);
        for (number, step) in world.steps(bounds).into_iter().enumerate() {
            match step.outcome {
                Ok(next) => {
                    if known.insert(fingerprint(&next)) {
                        history.push((at, number));
                        frontier.push_back((history.len() - 1, next));
                    }
                }
                Err(violation) => {
                    let violation = trace(bounds, &history, at) + &violation;
                    return Explored { states: known.len(), settled, violation: Some(violation) };
                }
            }
        }
    }
    Explored { states: known.len(), settled, violation: None }
}

/// The steps that led to a state, a line each.
fn trace(bounds: Bounds, history: &[(usize, usize)], mut at: usize) -> String {
    let mut numbers = Vec::new();
    while at != 0 {
        numbers.push(history[at].1);
        at = history[at].0;
    }
    let mut world = World::start(bounds);
    let mut lines = String::new();
    for number in numbers.into_iter().rev() {
        let Step { what, who, outcome } = world.steps(bounds).swap_remove(number);
        let action = world.workers[who].queue.front().filter(|_| what == ACTS);
        let action = action.map(|action| format!("{action:?}")).unwrap_or_default();
        writeln!(lines, "worker {who} {what} {action}").unwrap();
        world = outcome.unwrap();
    }
    lines
}
