//! The commit of one partition's segments, as a state machine without I/O and without a clock.
//!
//! [`Protocol::on`] takes what has happened and returns what is to be done, in order. Whoever drives it does that, and tells
//! it what came of it. States can be compared and hashed, so that a model checker can drive it through every interleaving:
//! `tests/commit_decides.rs` does.
//!
//! ```text
//!  Outside ──Joined──▶ Recovering ──Published, LastRow──▶ Writing ──Sealed──▶ Committing ──Accepted──▶ Publishing ─┐
//!     ▲  ▲                 │ not the owner                 ▲  │ Released         │    │                    │      │
//!     │  └─────────────────┘                               │  ▼                  │    │ refused            │      │
//!     │◀────────────── refused for sure: Discard, Rejoin ──┼─────────────────────┘    │ after unknown      │      │
//!     │◀────────────── published after an unknown answer: Rejoin ────────────────────────────────────────┘      │
//!     │                                                    └────────────────────── Published ─────────────────────┘
//!  Joined: named ▶ Publish, not named ▶ Discard ◀──────────────────────────────── Resolving ◀── Rejoin
//! ```
//!
//! What is not obvious:
//!
//! * The group's offset commit decides. It is fenced: a commit that carries an old generation is refused. So once a newer
//!   generation exists, what it reads as committed is final for the older ones, whatever is still on its way.
//! * Within one generation nothing fences: a sending whose answer never came may still be on its way, and would put the offset
//!   back if another commit overtook it. So after an unknown answer only the same commit is sent, and when that is
//!   accepted, the next one waits for another generation.
//! * A sealed segment that is not named may be thrown away by the partition's owner if it is of an *older* generation than the
//!   owner's, even if the owner has been asleep since it read the metadata: commits of that segment are refused by now.
//!   One of the same or a newer generation may have been named since, so it stays.

use crate::{
    layout::{FolderId, NamedSegment},
    metadata::MAX_NAMED,
};

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The group was joined, and *after that* the partition's offset and metadata were fetched.
    Joined(Joined),
    /// Everything of the last [`Action::Publish`] stands under its final name.
    Published,
    /// The answer to [`Action::ReadLastRow`]: the offset after the last row published in this folder.
    LastRow {
        /// None if there is no row.
        next: Option<i64>,
    },
    /// What was written is sealed, or nothing was written and the offset has moved all the same.
    Sealed {
        /// None if there are no rows.
        segment: Option<NamedSegment>,
        /// The offset to commit.
        next: i64,
    },
    /// Writing or sealing failed, and what was written is thrown away.
    WriteFailed,
    /// What came of the last [`Action::SendCommit`].
    Answer(CommitAnswer),
    /// The partition is given up in good order: everything written is sealed and published.
    Released,
    /// The partition was taken away, or the generation is over.
    Lost,
    /// Something that makes going on dangerous was found; its message is elsewhere.
    Broken,
}

/// A membership of the group in one generation, and what the group knew of the partition within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The group's generation.
    pub generation: i32,
    /// Whether the partition is assigned to this member in it.
    pub owner: bool,
    /// The committed offset; fetched after the generation was joined.
    pub committed: Option<i64>,
    /// The segments that its metadata names.
    pub named: Vec<NamedSegment>,
}

/// What came of sending a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitAnswer {
    /// It is committed.
    Accepted,
    /// The coordinator answered that it does not take this sending, and that sending it again is of no use: the generation or the
    /// member is not known any more (ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID). Whether this decides
    /// anything depends on earlier sendings, which the state machine remembers.
    Refused,
    /// Nobody knows: a timeout, a lost connection, or an error that may follow an append (REQUEST_TIMED_OUT,
    /// COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR).
    Unknown,
    /// The coordinator did nothing with this sending, and may accept the next (COORDINATOR_LOAD_IN_PROGRESS,
    /// REBALANCE_IN_PROGRESS); also if the request never left this process.
    RetryLater,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Give these their final names, then report [`Event::Published`]. Each is committed and lies in this folder.
    Publish(Vec<NamedSegment>),
    /// Throw away this folder's sealed segments of the partition, and what dead writers were writing, of generations below.
    Sweep {
        /// Only what was written in a generation before this one.
        below: i32,
    },
    /// Look for the last published row in this folder, then report [`Event::LastRow`].
    ReadLastRow,
    /// Write from this offset on; from the earliest there is if there is none.
    StartAt(Option<i64>),
    /// Throw away what is being written and not sealed.
    Abandon,
    /// Commit under this generation, then report [`Event::Answer`].
    SendCommit {
        /// The generation of the membership to commit with.
        generation: i32,
        /// The offset of the next record to be read.
        offset: i64,
        /// The segments that the metadata has to name.
        named: Vec<NamedSegment>,
        /// Whether this very commit was sent before: then pause before sending it again.
        again: bool,
    },
    /// Throw this sealed segment away: its commit will never be accepted.
    Discard(NamedSegment),
    /// Become a member in another generation than this one (leaving the group first, if need be), fetch, and report
    /// [`Event::Joined`].
    Rejoin {
        /// Commits in this generation are over for this partition.
        other_than: i32,
    },
    /// Stop the partition with an error.
    Stop(Fault),
}

/// Why a partition cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The next commit could not name all that it has to.
    TooManyNamed {
        /// How many segments wait in other folders.
        waiting: usize,
    },
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is open or undecided, and nothing may be written.
    Outside {
        /// No commit may be sent in this generation any more.
        barred: Option<i32>,
    },
    /// What is committed is being published, what never will be is thrown away, and the place to start is looked for.
    Recovering {
        /// The membership.
        generation: i32,
        /// Whether to write when this is done.
        owner: bool,
        /// The group's offset.
        committed: Option<i64>,
        /// Segments of this folder that are being published.
        ours: Vec<NamedSegment>,
        /// Named segments of other folders.
        foreign: Vec<NamedSegment>,
    },
    /// Rows are being written.
    Writing {
        /// The membership.
        generation: i32,
        /// Where the segment begins; none: at the earliest record.
        start: Option<i64>,
        /// Named segments of other folders, for the next commit.
        foreign: Vec<NamedSegment>,
        /// Whether the committed metadata names segments of this folder, all of which are published by now.
        still_named: bool,
    },
    /// A commit is on its way.
    Committing {
        /// What is sent.
        commit: Commit,
        /// Whether a sending of it may have been accepted unknown to us.
        uncertain: bool,
        /// Whether it is the last one before the partition is given up.
        farewell: bool,
    },
    /// Accepted; the segment's files get their final names.
    Publishing {
        /// The membership that it was committed in.
        generation: i32,
        /// What is being published.
        segment: NamedSegment,
        /// Named segments of other folders, for the next commit.
        foreign: Vec<NamedSegment>,
        /// Whether a sending of the commit may still be on its way.
        uncertain: bool,
    },
    /// Refused after a sending with an unknown answer: what a newer generation reads decides.
    Resolving {
        /// What may be committed or not.
        segment: NamedSegment,
    },
    /// For good.
    Stopped,
}

/// A commit, the same each time that it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Commit {
    /// The membership.
    pub generation: i32,
    /// The segment that it decides on, if there are rows.
    pub segment: Option<NamedSegment>,
    /// The offset of the next record to be read.
    pub offset: i64,
    /// Named segments of other folders.
    pub foreign: Vec<NamedSegment>,
}

impl Commit {
    fn send(&self, again: bool) -> Action {
        let named = self.foreign.iter().chain(&self.segment).copied().collect();
        Action::SendCommit { generation: self.generation, offset: self.offset, named, again }
    }
}

/// The state machine of one partition in one process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Protocol {
    folder: FolderId,
    state: State,
}

impl Protocol {
    /// Of a partition that nothing is known of yet.
    pub fn new(folder: FolderId) -> Self {
        Self { folder, state: State::Outside { barred: None } }
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The sealed segment that may be committed or not; until that is known this partition must be reported in [`Event::Joined`]
    /// whoever owns it.
    pub fn undecided(&self) -> Option<NamedSegment> {
        match &self.state {
            State::Committing { commit, .. } => commit.segment,
            State::Resolving { segment } => Some(*segment),
            _ => None,
        }
    }

    /// Takes an event and tells what is to be done, in order. An event that means nothing in the present state (an answer
    /// that nobody waits for any more) changes nothing.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let state = std::mem::replace(&mut self.state, State::Stopped);
        let (state, actions) = self.next(state, event);
        self.state = state;
        actions
    }

    fn next(&self, state: State, event: Event) -> (State, Vec<Action>) {
        match (state, event) {
            (State::Stopped, _) | (_, Event::Broken) => (State::Stopped, vec![]),
            (state, Event::Joined(joined)) => self.joined(state, joined),
            (State::Recovering { generation, owner: true, committed, ours, foreign }, Event::Published) => {
                let state = State::Recovering { generation, owner: true, committed, ours, foreign };
                (state, vec![Action::Sweep { below: generation }, Action::ReadLastRow])
            }
            (State::Recovering { owner: false, .. }, Event::Published) => (State::Outside { barred: None }, vec![]),
            (State::Recovering { generation, committed, ours, foreign, .. }, Event::LastRow { next }) => {
                let start = committed.max(next);
                let state = State::Writing { generation, start, foreign, still_named: !ours.is_empty() };
                (state, vec![Action::StartAt(start)])
            }
            (State::Writing { generation, start, foreign, still_named }, Event::Sealed { segment, next }) => {
                if segment.is_none() && start == Some(next) {
                    return (State::Writing { generation, start, foreign, still_named }, vec![Action::StartAt(start)]);
                }
                let commit = Commit { generation, segment, offset: next, foreign };
                send(commit, false)
            }
            (state, Event::Sealed { segment: Some(segment), .. }) => (state, vec![Action::Discard(segment)]),
            (State::Writing { generation, start, foreign, still_named }, Event::WriteFailed) => (
                State::Writing { generation, start, foreign, still_named },
                vec![Action::Abandon, Action::StartAt(start)],
            ),
            (State::Committing { commit, uncertain, farewell }, Event::Answer(answer)) => {
                answered(commit, uncertain, farewell, answer)
            }
            (State::Publishing { generation, segment, foreign, uncertain }, Event::Published) => {
                if uncertain {
                    let state = State::Outside { barred: Some(generation) };
                    return (state, vec![Action::Rejoin { other_than: generation }]);
                }
                let start = Some(segment.next);
                (State::Writing { generation, start, foreign, still_named: true }, vec![Action::StartAt(start)])
            }
            // What is published needs no name any more; without this, a host that never comes back would be named for ever.
            (State::Writing { generation, start: Some(offset), foreign, still_named: true }, Event::Released) => {
                let commit = Commit { generation, segment: None, offset, foreign };
                let (state, actions) = send(commit, true);
                (state, [vec![Action::Abandon], actions].concat())
            }
            (State::Writing { .. }, Event::Released | Event::Lost) => {
                (State::Outside { barred: None }, vec![Action::Abandon])
            }
            (State::Recovering { .. }, Event::Released | Event::Lost) => (State::Outside { barred: None }, vec![]),
            (state, _) => (state, vec![]),
        }
    }

    fn joined(&self, state: State, joined: Joined) -> (State, Vec<Action>) {
        let Joined { generation, owner, committed, named } = joined;
        let rejoin = vec![Action::Rejoin { other_than: generation }];
        let (mut ours, foreign): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|segment| segment.folder == self.folder);
        let mut actions = vec![];
        match state {
            State::Outside { barred } if barred == Some(generation) => return (State::Outside { barred }, rejoin),
            State::Resolving { segment } if segment.generation == generation => {
                return (State::Resolving { segment }, rejoin);
            }
            // The same generation again tells nothing about what is on its way in it; nobody waits for that answer any more.
            State::Committing { commit, farewell, .. } if commit.generation == generation => {
                return answered(commit, true, farewell, CommitAnswer::Unknown);
            }
            State::Publishing { generation: committed_in, segment, foreign, uncertain }
                if committed_in == generation =>
            {
                let state = State::Publishing { generation, segment, foreign, uncertain };
                return (state, vec![Action::Publish(vec![segment])]);
            }
            State::Writing { .. } => actions.push(Action::Abandon),
            State::Committing { commit: Commit { segment: Some(segment), .. }, .. } | State::Resolving { segment } => {
                if !ours.contains(&segment) {
                    actions.push(Action::Discard(segment));
                }
            }
            State::Publishing { segment, .. } => {
                if !ours.contains(&segment) {
                    ours.push(segment);
                }
            }
            State::Committing { .. } | State::Recovering { .. } | State::Outside { .. } | State::Stopped => {}
        }
        actions.push(Action::Publish(ours.clone()));
        if owner && foreign.len() >= MAX_NAMED {
            actions.push(Action::Stop(Fault::TooManyNamed { waiting: foreign.len() }));
            return (State::Stopped, actions);
        }
        (State::Recovering { generation, owner, committed, ours, foreign }, actions)
    }
}

fn send(commit: Commit, farewell: bool) -> (State, Vec<Action>) {
    let actions = vec![commit.send(false)];
    (State::Committing { commit, uncertain: false, farewell }, actions)
}

fn answered(commit: Commit, uncertain: bool, farewell: bool, answer: CommitAnswer) -> (State, Vec<Action>) {
    let Commit { generation, segment, offset, .. } = commit;
    match (answer, segment) {
        // Nothing depends on a farewell: whoever comes next finds the segments published, named or not.
        (CommitAnswer::Unknown | CommitAnswer::RetryLater | CommitAnswer::Refused | CommitAnswer::Accepted, None)
            if farewell =>
        {
            (State::Outside { barred: Some(generation) }, vec![])
        }
        (CommitAnswer::Unknown | CommitAnswer::RetryLater, _) => {
            let again = vec![commit.send(true)];
            let uncertain = uncertain || answer == CommitAnswer::Unknown;
            (State::Committing { commit, uncertain, farewell }, again)
        }
        (CommitAnswer::Accepted, Some(segment)) => {
            let state = State::Publishing { generation, segment, foreign: commit.foreign, uncertain };
            (state, vec![Action::Publish(vec![segment])])
        }
        (CommitAnswer::Accepted, None) if !uncertain => {
            let start = Some(offset);
            let state = State::Writing { generation, start, foreign: commit.foreign, still_named: false };
            (state, vec![Action::StartAt(start)])
        }
        (CommitAnswer::Refused, Some(segment)) if uncertain => {
            (State::Resolving { segment }, vec![Action::Rejoin { other_than: generation }])
        }
        (CommitAnswer::Refused, Some(segment)) => {
            let actions = vec![Action::Discard(segment), Action::Rejoin { other_than: generation }];
            (State::Outside { barred: Some(generation) }, actions)
        }
        (CommitAnswer::Refused | CommitAnswer::Accepted, None) => {
            (State::Outside { barred: Some(generation) }, vec![Action::Rejoin { other_than: generation }])
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::{any, prop, proptest};

    use super::*;
    use crate::layout::WriterId;

    const HERE: FolderId = FolderId(1);

    fn segment(folder: u64, generation: i32, first: i64) -> NamedSegment {
        NamedSegment { folder: FolderId(folder), writer: WriterId(9), generation, first, next: first + 1 }
    }

    fn joined(generation: i32, owner: bool, committed: Option<i64>, named: &[NamedSegment]) -> Event {
        Event::Joined(Joined { generation, owner, committed, named: named.to_vec() })
    }

    fn writing(generation: i32, named: &[NamedSegment]) -> Protocol {
        let mut protocol = Protocol::new(HERE);
        protocol.on(joined(generation, true, Some(10), named));
        protocol.on(Event::Published);
        protocol.on(Event::LastRow { next: None });
        assert!(matches!(protocol.state(), State::Writing { .. }));
        protocol
    }

    #[test]
    fn taking_over_publishes_before_it_sweeps_and_sweeps_before_it_looks_for_the_last_row() {
        let (ours, foreign) = (segment(1, 4, 8), segment(2, 3, 9));
        let mut protocol = Protocol::new(HERE);
        assert_eq!(protocol.on(joined(5, true, Some(10), &[ours, foreign])), [Action::Publish(vec![ours])]);
        assert_eq!(protocol.on(Event::Published), [Action::Sweep { below: 5 }, Action::ReadLastRow]);
        assert_eq!(protocol.on(Event::LastRow { next: Some(12) }), [Action::StartAt(Some(12))]);
        let mine = segment(1, 5, 12);
        let named = vec![foreign, mine];
        let send = Action::SendCommit { generation: 5, offset: 13, named, again: false };
        assert_eq!(protocol.on(Event::Sealed { segment: Some(mine), next: 13 }), [send]);
    }

    #[test]
    fn a_member_that_does_not_own_the_partition_publishes_and_never_sweeps() {
        let ours = segment(1, 4, 8);
        let mut protocol = Protocol::new(HERE);
        assert_eq!(protocol.on(joined(5, false, Some(10), &[ours])), [Action::Publish(vec![ours])]);
        assert_eq!(protocol.on(Event::Published), []);
        assert_eq!(*protocol.state(), State::Outside { barred: None });
    }

    #[test]
    fn a_segment_sealed_after_the_partition_was_lost_is_thrown_away() {
        let mut protocol = writing(5, &[]);
        assert_eq!(protocol.on(Event::Lost), [Action::Abandon]);
        let late = segment(1, 5, 10);
        assert_eq!(protocol.on(Event::Sealed { segment: Some(late), next: 11 }), [Action::Discard(late)]);
    }

    #[test]
    fn joining_again_decides_a_commit_whose_answer_nobody_waits_for() {
        let mine = segment(1, 5, 10);
        let committing = || {
            let mut protocol = writing(5, &[]);
            protocol.on(Event::Sealed { segment: Some(mine), next: 11 });
            protocol
        };
        assert_eq!(committing().on(joined(6, false, Some(11), &[mine])), [Action::Publish(vec![mine])]);
        let discarded = [Action::Discard(mine), Action::Publish(vec![])];
        assert_eq!(committing().on(joined(6, false, Some(10), &[])), discarded);
        let again = Action::SendCommit { generation: 5, offset: 11, named: vec![mine], again: true };
        assert_eq!(committing().on(joined(5, true, Some(10), &[])), [again], "the same generation decides nothing");
    }

    #[test]
    fn an_accepted_segment_is_published_whatever_a_newer_generation_names() {
        let mine = segment(1, 5, 10);
        let mut protocol = writing(5, &[]);
        protocol.on(Event::Sealed { segment: Some(mine), next: 11 });
        assert_eq!(protocol.on(Event::Answer(CommitAnswer::Accepted)), [Action::Publish(vec![mine])]);
        assert_eq!(protocol.on(joined(6, false, Some(20), &[])), [Action::Publish(vec![mine])]);
    }

    #[test]
    fn a_failed_write_begins_anew_at_the_same_offset() {
        let mut protocol = writing(5, &[]);
        assert_eq!(protocol.on(Event::WriteFailed), [Action::Abandon, Action::StartAt(Some(10))]);
    }

    #[test]
    fn a_broken_partition_stays_stopped() {
        let mut protocol = writing(5, &[]);
        protocol.on(Event::Broken);
        assert_eq!(protocol.on(joined(6, true, Some(10), &[])), []);
        assert_eq!(*protocol.state(), State::Stopped);
    }

    proptest! {
        #[test]
        fn after_an_unknown_answer_a_generation_sees_the_same_commit_only(
            events in prop::collection::vec((0..12u8, any::<bool>(), 0..3i64), 1..60),
        ) {
            let mut protocol = Protocol::new(HERE);
            let (mut generation, mut last, mut uncertain) = (1, None, HashMap::new());
            for (kind, flag, number) in events {
                let event = match kind {
                    0 | 1 => {
                        generation += i32::from(flag);
                        let named = [segment(1, generation - 1, 0), segment(2, 1, 5)];
                        joined(generation, number > 0, Some(number), &named[..number as usize])
                    }
                    2..=4 => Event::Published,
                    5 => Event::LastRow { next: flag.then_some(number) },
                    6 | 7 => match *protocol.state() {
                        State::Writing { generation, start, .. } => {
                            let first = start.unwrap_or(0);
                            Event::Sealed { segment: flag.then(|| segment(1, generation, first)), next: first + 1 }
                        }
                        _ => continue,
                    },
                    8 => Event::Answer(CommitAnswer::Accepted),
                    9 => Event::Answer(if flag { CommitAnswer::Refused } else { CommitAnswer::RetryLater }),
                    10 => Event::Answer(CommitAnswer::Unknown),
                    _ => [Event::Released, Event::Lost, Event::WriteFailed][number as usize].clone(),
                };
                if matches!((&event, protocol.state()), (Event::Answer(CommitAnswer::Unknown), State::Committing { .. })) {
                    let (generation, sent) = last.clone().unwrap();
                    uncertain.insert(generation, sent);
                }
                for action in protocol.on(event) {
                    if let Action::SendCommit { generation, offset, named, .. } = action {
                        let sent = (offset, named);
                        if let Some(first) = uncertain.get(&generation) {
                            assert_eq!(*first, sent, "another commit in generation {generation}");
                        }
                        last = Some((generation, sent));
                    }
                }
            }
        }
    }
}
