//! The group's coordinator, two workers around the state machine that ships, their disks, and what is on its way between them.

use std::collections::VecDeque;

use superhero_sink::{
    CommitAnswer, FolderId, NamedSegment, WriterId,
    protocol::{Action, Event, Joined, Protocol, State},
};

use crate::{Bounds, LeftOut};

/// Offsets 0 and 1: two segments of one record, or one of two.
pub(crate) const END: i64 = 2;

/// What a step is called that does what the state machine wants done.
pub(crate) const ACTS: &str = "does";

/// A member of the group: a worker and which of its lives.
type Member = (usize, u8);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    group: Group,
    disks: [Disk; 2],
    pub(crate) workers: [Worker; 2],
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
pub(crate) struct Worker {
    alive: bool,
    life: u8,
    /// The generation that it believes in, and whether it owns the partition in it.
    membership: Option<(i32, bool)>,
    /// It has joined, and has not fetched the offset yet.
    to_fetch: bool,
    /// It was told to become a member in another generation.
    to_rejoin: bool,
    protocol: Protocol,
    pub(crate) queue: VecDeque<Action>,
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
pub(crate) struct Step {
    pub(crate) what: &'static str,
    pub(crate) who: usize,
    pub(crate) outcome: Result<World, String>,
}

impl World {
    pub(crate) fn start(bounds: Bounds) -> Self {
        Self {
            group: Group::default(),
            disks: Default::default(),
            workers: [Worker::new(0, 0, bounds), Worker::new(1, 0, bounds)],
            flight: vec![],
            faults: bounds.faults,
        }
    }

    /// Everything that can happen next.
    pub(crate) fn steps(&self, bounds: Bounds) -> Vec<Step> {
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
        } else if at_leisure && (stale || worker.to_rejoin) && self.group.generation < bounds.generations {
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
        if self.faults > 0 && self.group.generation < bounds.generations {
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

    pub(crate) fn published(&self) -> Vec<i64> {
        let segments = self.disks.iter().flat_map(|disk| &disk.published);
        let mut offsets: Vec<_> = segments.flat_map(|segment| segment.first..segment.next).collect();
        offsets.sort_unstable();
        offsets
    }

    /// All alive, in the newest generation, with nothing on its way or undone.
    pub(crate) fn is_settled(&self) -> bool {
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
