//! Point 4 of the delivery contract by exhaustion: the state machine of [`superhero_sink::protocol`] is driven, breadth first,
//! through every interleaving of two workers of one partition with crashes, evictions, commits whose answers are late or lost, and
//! commits that are themselves late, on one shared folder and on a folder each.
//!
//! No offset may ever be published twice, nothing committed may ever be nowhere, and wherever all has come to rest every offset
//! must be published. Leaving a rule out must be caught: otherwise the check shows nothing.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{HashSet, VecDeque},
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
};

use superhero_sink::{
    CommitAnswer, FolderId, NamedSegment, WriterId,
    protocol::{Action, Event, Joined, Protocol, State},
};

/// Offsets 0 and 1: two segments of one record, or one of two.
const END: i64 = 2;

/// Enough for each worker to join anew after a fault or two.
const MAX_GENERATION: i32 = 3;

/// What a step is called that does what the state machine wants done.
const ACTS: &str = "does";

/// A rule that is left out, to see it missed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum LeftOut {
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
struct Bounds {
    shared_folder: bool,
    /// Crashes, evictions, leavings and lost answers, all together.
    faults: u8,
    left_out: LeftOut,
}

/// A member of the group: a worker and which of its lives.
type Member = (usize, u8);

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    group: Group,
    disks: [Disk; 2],
    workers: [Worker; 2],
    flight: Vec<Sending>,
    faults: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Group {
    generation: i32,
    members: Vec<Member>,
    owner: Option<Member>,
    committed: Option<i64>,
    named: Vec<NamedSegment>,
}

#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Disk {
    sealed: Vec<NamedSegment>,
    published: Vec<NamedSegment>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Worker {
    alive: bool,
    life: u8,
    /// The generation that it believes in, and whether it owns the partition in it.
    membership: Option<(i32, bool)>,
    /// It has joined, and has not fetched the offset yet.
    to_fetch: bool,
    /// It was told to become a member in another generation.
    to_rejoin: bool,
    protocol: Protocol,
    queue: VecDeque<Action>,
}

/// A commit on its way to the coordinator, or its answer on the way back.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sending {
    member: Member,
    generation: i32,
    offset: i64,
    named: Vec<NamedSegment>,
    awaited: bool,
    accepted: Option<bool>,
}

fn folder_of(worker: usize, bounds: Bounds) -> usize {
    if bounds.shared_folder { 0 } else { worker }
}

impl Worker {
    fn new(worker: usize, life: u8, bounds: Bounds) -> Self {
        Self {
            alive: true,
            life,
            membership: None,
            to_fetch: false,
            to_rejoin: false,
            protocol: Protocol::new(FolderId(folder_of(worker, bounds) as u64)),
            queue: VecDeque::new(),
        }
    }

    fn on(&mut self, event: Event) {
        let actions = self.protocol.on(event);
        self.queue.extend(actions);
        // What touches nothing that others can see happens at once.
        while let Some(action) = self.queue.front() {
            match action {
                Action::StartAt(_) | Action::Abandon => drop(self.queue.pop_front()),
                Action::Publish(segments) if segments.is_empty() => {
                    self.queue.pop_front();
                    self.on(Event::Published);
                }
                _ => break,
            }
        }
    }
}

/// What happens to whom; or why it must never have happened.
struct Step {
    what: &'static str,
    who: usize,
    outcome: Result<World, String>,
}

impl World {
    fn start(bounds: Bounds) -> Self {
        Self {
            group: Group::default(),
            disks: Default::default(),
            workers: [Worker::new(0, 0, bounds), Worker::new(1, 0, bounds)],
            flight: vec![],
            faults: bounds.faults,
        }
    }

    /// Everything that can happen next.
    fn steps(&self, bounds: Bounds) -> Vec<Step> {
        let mut steps = Vec::new();
        // The workers are alike, so it is always the same that comes first.
        for worker in 0..if self.group.generation == 0 { 1 } else { 2 } {
            self.worker_steps(worker, bounds, &mut steps);
        }
        self.coordinator_steps(bounds, &mut steps);
        steps
    }

    fn worker_steps(&self, at: usize, bounds: Bounds, steps: &mut Vec<Step>) {
        let worker = &self.workers[at];
        let member = (at, worker.life);
        let mut step = |what: &'static str, change: &dyn Fn(&mut World) -> Result<(), String>| {
            let mut world = self.clone();
            let outcome = change(&mut world).map(|()| world);
            steps.push(Step { what, who: at, outcome });
        };
        if !worker.alive {
            step("starts again", &|world| {
                world.workers[at] = Worker::new(at, worker.life + 1, bounds);
                Ok(())
            });
            return;
        }
        if self.faults > 0 && worker.membership.is_some() {
            step("crashes", &|world| {
                world.faults -= 1;
                world.workers[at] = Worker { alive: false, ..Worker::new(at, worker.life, bounds) };
                world.nobody_waits(member);
                Ok(())
            });
        }

        let is_member = self.group.members.contains(&member);
        let stale = !is_member || worker.membership.is_none_or(|(generation, _)| generation != self.group.generation);
        // A worker whose disk hangs may lose its membership and join again before it has published.
        let at_leisure = matches!(worker.queue.front(), None | Some(Action::Publish(_)));
        if at_leisure && is_member && stale {
            step("learns the generation", &|world| {
                world.become_member(at, world.group.generation, world.group.owner == Some(member));
                Ok(())
            });
        } else if at_leisure && (stale || worker.to_rejoin) && self.group.generation < MAX_GENERATION {
            let mut members: Vec<_> = self.group.members.iter().copied().filter(|other| other.0 != at).collect();
            members.push(member);
            members.sort_unstable();
            for &owner in &members {
                step("joins", &|world| {
                    world.group.generation += 1;
                    world.group.members = members.clone();
                    world.group.owner = Some(owner);
                    world.become_member(at, world.group.generation, owner == member);
                    Ok(())
                });
            }
        }

        if worker.to_fetch {
            step("fetches", &|world| {
                world.fetch(at, bounds);
                Ok(())
            });
        } else if let Some(action) = worker.queue.front() {
            step(ACTS, &|world| {
                world.workers[at].queue.pop_front();
                world.act(at, action.clone(), bounds)
            });
        } else if let State::Writing { generation, start, still_named, .. } = *worker.protocol.state() {
            let first = start.unwrap_or(0);
            for next in first + 1..=END {
                let folder = FolderId(folder_of(at, bounds) as u64);
                let writer = WriterId((at as u64) << 8 | u64::from(worker.life));
                let segment = NamedSegment { folder, writer, generation, first, next };
                step("seals", &|world| {
                    world.disks[folder_of(at, bounds)].sealed.push(segment);
                    world.workers[at].on(Event::Sealed { segment: Some(segment), next });
                    Ok(())
                });
            }
            if still_named && self.faults > 0 {
                step("leaves in good order", &|world| {
                    world.faults -= 1;
                    world.workers[at].on(Event::Released);
                    world.workers[at].to_rejoin = true;
                    Ok(())
                });
            }
        }
    }

    fn coordinator_steps(&self, bounds: Bounds, steps: &mut Vec<Step>) {
        if self.faults > 0 && self.group.generation < MAX_GENERATION {
            for member in &self.group.members {
                let members: Vec<_> = self.group.members.iter().copied().filter(|other| other != member).collect();
                let owner = members.first().copied();
                let mut world = self.clone();
                world.faults -= 1;
                world.group = Group { generation: self.group.generation + 1, members, owner, ..world.group };
                steps.push(Step { what: "is evicted", who: member.0, outcome: Ok(world) });
            }
        }
        for (at, sending) in self.flight.iter().enumerate() {
            let who = sending.member.0;
            let mut world = self.clone();
            let what = if let Some(accepted) = sending.accepted {
                world.flight.remove(at);
                let answer = if accepted { CommitAnswer::Accepted } else { CommitAnswer::Refused };
                world.workers[who].on(Event::Answer(answer));
                "is answered"
            } else {
                let group = &mut world.group;
                let accepted = sending.generation == group.generation && group.members.contains(&sending.member);
                if accepted {
                    group.committed = Some(sending.offset);
                    group.named = sending.named.clone();
                }
                if sending.awaited {
                    world.flight[at].accepted = Some(accepted);
                    world.flight.sort_unstable();
                } else {
                    world.flight.remove(at);
                }
                if accepted { "has a commit accepted" } else { "has a commit refused" }
            };
            steps.push(Step { what, who, outcome: Ok(world) });
            if sending.awaited && self.faults > 0 {
                let mut world = self.clone();
                world.faults -= 1;
                world.nobody_waits(sending.member);
                world.workers[who].on(Event::Answer(match bounds.left_out {
                    LeftOut::UnknownIsNotRefused => CommitAnswer::RetryLater,
                    _ => CommitAnswer::Unknown,
                }));
                steps.push(Step { what: "waits no longer", who, outcome: Ok(world) });
            }
        }
    }

    /// Answers that are on their way are lost; commits are not.
    fn nobody_waits(&mut self, member: Member) {
        self.flight.retain(|sending| sending.member != member || sending.accepted.is_none());
        for sending in self.flight.iter_mut().filter(|sending| sending.member == member) {
            sending.awaited = false;
        }
        self.flight.sort_unstable();
    }

    fn become_member(&mut self, at: usize, generation: i32, owner: bool) {
        let worker = &mut self.workers[at];
        worker.membership = Some((generation, owner));
        worker.to_fetch = true;
        worker.to_rejoin = false;
        worker.queue.clear();
    }

    fn fetch(&mut self, at: usize, bounds: Bounds) {
        let worker = &mut self.workers[at];
        worker.to_fetch = false;
        worker.queue.clear();
        let (generation, owner) = worker.membership.unwrap();
        let mut named = self.group.named.clone();
        if bounds.left_out == LeftOut::PublishNamed {
            let undecided = worker.protocol.undecided();
            named.retain(|segment| Some(*segment) == undecided);
        }
        worker.on(Event::Joined(Joined { generation, owner, committed: self.group.committed, named }));
        let member = (at, worker.life);
        self.nobody_waits(member);
    }

    /// Does what the state machine wants done, one atomic step.
    fn act(&mut self, at: usize, action: Action, bounds: Bounds) -> Result<(), String> {
        let disk = &mut self.disks[folder_of(at, bounds)];
        let worker = &mut self.workers[at];
        match action {
            Action::Publish(mut segments) => {
                if let Some(segment) = segments.pop() {
                    publish(disk, segment)?;
                }
                if segments.is_empty() {
                    worker.on(Event::Published);
                } else {
                    worker.queue.push_front(Action::Publish(segments));
                }
            }
            Action::Sweep { below } => disk
                .sealed
                .retain(|segment| segment.generation >= below && bounds.left_out != LeftOut::SweepOnlyOlderGenerations),
            Action::ReadLastRow => {
                let next = disk.published.iter().map(|segment| segment.next).max();
                worker.on(Event::LastRow { next });
            }
            Action::StartAt(_) | Action::Abandon => unreachable!("done at once"),
            Action::SendCommit { generation, offset, mut named, again } => {
                let segment = worker.protocol.undecided();
                if bounds.left_out == LeftOut::CommitBeforePublish && !again {
                    segment.map(|segment| publish(disk, segment)).transpose()?;
                }
                if bounds.left_out == LeftOut::Chain {
                    named.retain(|other| Some(*other) == segment);
                }
                let member = (at, worker.life);
                self.flight.push(Sending { member, generation, offset, named, awaited: true, accepted: None });
                self.flight.sort_unstable();
            }
            Action::Discard(segment) => disk.sealed.retain(|other| *other != segment),
            Action::Rejoin { other_than } => {
                worker.to_rejoin = true;
                let forgetful = Protocol::new(FolderId(folder_of(at, bounds) as u64));
                match (bounds.left_out, worker.protocol.state()) {
                    // The same generation is taken for another one.
                    (LeftOut::NewGenerationAfterUnknown, State::Outside { .. })
                        if self.group.generation == other_than && self.group.owner == Some((at, worker.life)) =>
                    {
                        worker.to_rejoin = false;
                        worker.to_fetch = true;
                        worker.protocol = forgetful;
                    }
                    (LeftOut::DecideByMetadata, State::Resolving { segment }) => {
                        disk.sealed.retain(|other| other != segment);
                        worker.protocol = forgetful;
                    }
                    _ => {}
                }
            }
            Action::Stop(fault) => return Err(format!("stopped: {fault:?}")),
        }
        Ok(())
    }

    fn published(&self) -> Vec<i64> {
        let segments = self.disks.iter().flat_map(|disk| &disk.published);
        let mut offsets: Vec<_> = segments.flat_map(|segment| segment.first..segment.next).collect();
        offsets.sort_unstable();
        offsets
    }

    /// All alive, in the newest generation, with nothing on its way or undone.
    fn is_settled(&self) -> bool {
        let at_rest = |(at, worker): (usize, &Worker)| {
            worker.membership.is_some_and(|(generation, _)| generation == self.group.generation)
                && self.group.members.contains(&(at, worker.life))
                && !worker.to_fetch
                && !worker.to_rejoin
                && worker.queue.is_empty()
                && match worker.protocol.state() {
                    State::Outside { .. } => true,
                    State::Writing { start, .. } => start.unwrap_or(0) >= END,
                    _ => false,
                }
        };
        let writing = |worker: &Worker| matches!(worker.protocol.state(), State::Writing { .. });
        self.flight.is_empty()
            && self.workers.iter().any(writing)
            && self.workers.iter().enumerate().all(at_rest)
            // What a folder's own worker publishes as soon as it looks again is not lost.
            && !self.disks.iter().any(|disk| disk.sealed.iter().any(|segment| self.group.named.contains(segment)))
    }
}

fn publish(disk: &mut Disk, segment: NamedSegment) -> Result<(), String> {
    if disk.sealed.contains(&segment) {
        disk.sealed.retain(|other| *other != segment);
        disk.published.push(segment);
        disk.published.sort_unstable();
        Ok(())
    } else if disk.published.contains(&segment) {
        Ok(())
    } else {
        Err(format!("committed and nowhere: {segment}"))
    }
}

/// Among a million states two share one with a chance of one in thirty million.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

struct Explored {
    states: usize,
    settled: usize,
    violation: Option<String>,
}

/// Everything that can come of the start, nearest first, until something that must never happen does.
fn explore(bounds: Bounds) -> Explored {
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

const SHARED: Bounds = Bounds { shared_folder: true, faults: 1, left_out: LeftOut::Nothing };
const EACH: Bounds = Bounds { shared_folder: false, ..SHARED };

#[test]
fn nothing_is_lost_or_doubled_on_a_shared_folder() {
    check_all_is_well(SHARED);
}

#[test]
fn nothing_is_lost_or_doubled_on_a_folder_each() {
    check_all_is_well(EACH);
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
