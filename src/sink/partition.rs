//! The sink of one partition: what a worker's task holds, with all file operations inside and all network outside.

use std::{collections::VecDeque, time::Instant};

use chrono::NaiveDate;

use crate::{
    SinkError,
    dedupe::{Dedupe, Verdict},
    folder::Folder,
    layout::{NamedSegment, PartitionId, SegmentName, Table},
    metadata::{self, Decoded, Encoded, Metadata},
    protocol::{Action, CommitAnswer, Event, Fault, Joined, Protocol, State},
    recover,
    sealed::Sealed,
    segment::{Fill, Room, SegmentWriter, Settings},
};

/// A membership of the group, and what the group knows of the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership<'a> {
    /// The group's generation.
    pub generation: i32,
    /// Whether the partition is assigned to this member in it.
    pub owner: bool,
    /// The committed offset, none if there is none; fetched *after* the generation was joined.
    pub committed: Option<i64>,
    /// The metadata that it was committed with; empty if there is none.
    pub metadata: &'a str,
}

/// What the worker has to do next.
#[derive(Debug)]
#[must_use = "a step that is not taken leaves the partition standing still"]
pub enum Step {
    /// Append records from [`PartitionSink::next_offset`] on. Everything sealed before is published.
    Write,
    /// Send this commit, and give the answer to [`PartitionSink::answered`].
    Commit(CommitRequest),
    /// The disk does not let us go on: say why, wait a while, and call [`PartitionSink::retry`].
    Retry(SinkError),
    /// Become a member in another generation than this one, fetch offset and metadata of this partition *even if it is assigned
    /// to another member then*, and call [`PartitionSink::joined`].
    ///
    /// A member that joins again may be given the present generation; leaving the group first makes a new one.
    Rejoin {
        /// The generation in which nothing more can be committed for this partition.
        other_than: i32,
    },
    /// Nothing is to be done before [`PartitionSink::joined`] is called; the sink may as well be dropped.
    Idle,
}

/// An offset commit for this partition, under member and generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    /// The generation to send with it; never a newer one.
    pub generation: i32,
    /// The offset.
    pub offset: i64,
    /// The metadata; at most [`metadata::MAX_BYTES`].
    pub metadata: String,
    /// Producers that had no room in the metadata: a repetition of theirs would not be noticed after a restart.
    pub producers_left_out: usize,
    /// How often this very commit was sent before; from 1 on pause before sending it again.
    pub sent_before: u32,
}

/// The sink of one partition. See the crate's page for how it is used.
///
/// All methods block on file operations where they say so, and none on anything else. Dropping it throws away what is not
/// sealed; what is sealed and undecided stays on disk, and is decided by whoever owns the partition next.
pub struct PartitionSink {
    folder: Folder,
    partition: PartitionId,
    settings: Settings,
    protocol: Protocol,
    /// What the protocol wants done; its head may have failed and be tried again.
    queue: VecDeque<Action>,
    writer: Option<SegmentWriter>,
    /// An append or a seal has failed, and the worker does not know yet that it has to go back.
    failed: bool,
    dedupe: Dedupe,
    /// As it was where the segment begins: what an abandoned segment has taken in must not count as seen.
    dedupe_at_start: Dedupe,
    commit: Option<CommitRequest>,
    published_next: Option<i64>,
}

impl PartitionSink {
    /// Of a partition that nothing is known of yet; [`Self::joined`] comes next.
    ///
    /// The folder must have been asked about the topic: [`Folder::check_topic`].
    pub fn new(folder: &Folder, partition: PartitionId, settings: Settings) -> Self {
        Self {
            folder: folder.clone(),
            partition,
            settings,
            protocol: Protocol::new(folder.id()),
            queue: VecDeque::new(),
            writer: None,
            failed: false,
            dedupe: Dedupe::default(),
            dedupe_at_start: Dedupe::default(),
            commit: None,
            published_next: None,
        }
    }

    /// Takes a membership: publishes what is committed, throws away what never will be, and finds where to start.
    ///
    /// Blocks on file operations. Also to be called, with `owner: false`, for a partition that went to somebody else
    /// while [`Self::is_undecided`].
    pub fn joined(&mut self, membership: Membership<'_>) -> Result<Step, SinkError> {
        let Membership { generation, owner, committed, metadata } = membership;
        let decoded = metadata::decode(metadata).or_else(|error| self.broken(error.into()))?;
        let Metadata { named, last_sequences } = match decoded {
            Decoded::Ours(metadata) => metadata,
            Decoded::Foreign => Metadata::default(),
        };
        // What was to be done belongs to an older membership; all of it that is still right is wanted again by the new one.
        self.queue.clear();
        self.failed = false;
        self.dedupe = Dedupe::restore(last_sequences);
        self.dedupe_at_start = self.dedupe.clone();
        self.drive(Event::Joined(Joined { generation, owner, committed, named }))
    }

    /// The offset of the next record to append; none means the earliest that there is.
    pub fn next_offset(&self) -> Option<i64> {
        self.writer.as_ref().and_then(SegmentWriter::next)
    }

    /// Whether a number is not above the last of its producer: the record may be a repetition.
    #[inline]
    pub fn is_behind(&self, producer: u128, sequence: u64) -> bool {
        self.dedupe.is_behind(producer, sequence)
    }

    /// Judges the next record by its producer and sequence number. To be asked once per record, just before
    /// [`Self::append`]; a repetition is appended without rows.
    #[inline]
    pub fn seen(&mut self, producer: u128, sequence: u64) -> Verdict {
        self.dedupe.seen(producer, sequence)
    }

    /// Takes a record with all its rows, each without its line feed; see [`SegmentWriter::append`].
    ///
    /// After an error nothing is taken any more until [`Self::resume`] has told where to go back to.
    #[inline]
    pub fn append(
        &mut self,
        offset: i64,
        date: impl Into<Option<NaiveDate>>,
        rows: &[(Table, &[u8])],
        now: Instant,
    ) -> Result<Room, SinkError> {
        let writer = match &mut self.writer {
            Some(writer) if !self.failed => writer,
            _ => return Err(self.not_writing()),
        };
        let room = writer.append(offset, date, rows, now);
        if room.is_err() {
            self.failed = true;
        }
        room
    }

    /// Moves on over offsets that have no record, for example to the end of an empty batch.
    pub fn advance_to(&mut self, next: i64, now: Instant) {
        if let Some(writer) = self.writer.as_mut().filter(|_| !self.failed) {
            writer.advance_to(next, now);
        }
    }

    /// Whether it is time to seal; to be asked after each batch and by a timer.
    pub fn should_seal(&self, now: Instant) -> bool {
        !self.failed && self.writer.as_ref().is_some_and(|writer| writer.should_seal(now))
    }

    /// What the segment being written holds.
    pub fn fill(&self) -> Fill {
        self.writer.as_ref().map(SegmentWriter::fill).unwrap_or_default()
    }

    /// Seals what is written and begins its commit. Blocks on file operations. After an error: [`Self::resume`].
    ///
    /// Also when the partition is revoked, before [`Self::released`]. With nothing written there is nothing to commit.
    pub fn seal(&mut self) -> Result<Step, SinkError> {
        if self.failed {
            return Err(self.not_writing());
        }
        let Some(next) = self.next_offset() else { return self.work() };
        let Some(writer) = self.writer.take() else { return self.work() };
        match writer.seal() {
            Ok(sealed) => self.drive(Event::Sealed { segment: sealed.as_ref().map(Sealed::named), next }),
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    /// Takes what came of a commit, and publishes or throws away what it decides. Blocks on file operations.
    pub fn answered(&mut self, answer: CommitAnswer) -> Result<Step, SinkError> {
        self.drive(Event::Answer(answer))
    }

    /// Goes on with what could not be done when [`Step::Retry`] was returned. Blocks on file operations.
    pub fn retry(&mut self) -> Result<Step, SinkError> {
        self.work()
    }

    /// After a failed [`Self::append`] or [`Self::seal`]: throws the segment away, and tells the offset to fetch from again
    /// (none: the earliest). What the records of the segment had taught [`Self::seen`] is forgotten.
    ///
    /// The next append fails again while the disk is not well, so wait between attempts. Blocks on file operations.
    pub fn resume(&mut self) -> Result<Option<i64>, SinkError> {
        if self.failed {
            self.failed = false;
            // The state is `Writing`: the segment is abandoned and a new one begun, nothing else.
            let _ = self.drive(Event::WriteFailed)?;
        }
        Ok(self.next_offset())
    }

    /// Gives the partition up in good order, after [`Self::seal`] has led to [`Step::Write`] again; what is written and not
    /// sealed is thrown away.
    ///
    /// May return one last commit, which takes the published segment's name back; whatever its answer, [`Step::Idle`] follows.
    pub fn released(&mut self) -> Result<Step, SinkError> {
        self.drive(Event::Released)
    }

    /// The partition was taken away, or the membership is over: throws away what is written and not sealed.
    ///
    /// A commit that is on its way is still to be resolved.
    pub fn lost(&mut self) -> Result<Step, SinkError> {
        self.drive(Event::Lost)
    }

    /// Whether a sealed segment may be committed or not: then the sink should be kept until that is known.
    pub fn is_undecided(&self) -> bool {
        self.protocol.undecided().is_some()
    }

    /// The rows of all records below this offset that this sink has seen published; none if it has seen nothing published.
    ///
    /// What may only be done once a record's rows are published for good waits for this.
    pub fn published_next(&self) -> Option<i64> {
        self.published_next
    }

    /// The partition.
    pub fn partition(&self) -> &PartitionId {
        &self.partition
    }

    /// How many producers were forgotten because too many were heard of; see [`Dedupe::forgotten`].
    pub fn producers_forgotten(&self) -> u64 {
        self.dedupe.forgotten()
    }

    fn drive(&mut self, event: Event) -> Result<Step, SinkError> {
        self.queue.extend(self.protocol.on(event));
        self.work()
    }

    fn work(&mut self) -> Result<Step, SinkError> {
        while let Some(action) = self.queue.pop_front() {
            match action {
                Action::Publish(segments) => match recover::publish_named(&self.folder, &self.partition, &segments) {
                    Ok(()) => {
                        let next = segments.iter().map(|segment| segment.next).max();
                        self.published_next = self.published_next.max(next);
                        self.queue.extend(self.protocol.on(Event::Published));
                    }
                    Err(error) => return self.again_later(Action::Publish(segments), error),
                },
                Action::Sweep { below } => {
                    if let Err(error) = recover::sweep(&self.folder, &self.partition, below) {
                        tracing::warn!(partition = %self.partition, %error, "old temporary files stay for now");
                    }
                }
                Action::ReadLastRow => {
                    let State::Recovering { committed, .. } = *self.protocol.state() else { continue };
                    match recover::beyond(&self.folder, &self.partition, committed, &mut self.dedupe) {
                        Ok(next) => self.queue.extend(self.protocol.on(Event::LastRow { next })),
                        Err(error) => return self.again_later(Action::ReadLastRow, error),
                    }
                }
                Action::StartAt(start) => self.start_at(start),
                Action::Abandon => {
                    self.writer = None;
                    self.dedupe = self.dedupe_at_start.clone();
                }
                Action::SendCommit { generation, offset, named, again } => {
                    return Ok(Step::Commit(self.commit_request(generation, offset, &named, again)));
                }
                Action::Discard(segment) => {
                    Sealed::of(&self.folder, SegmentName::of(&self.partition, &segment)).discard_or_warn();
                }
                Action::Rejoin { other_than } => return Ok(Step::Rejoin { other_than }),
                Action::Stop(Fault::TooManyNamed { waiting }) => {
                    let folder = self.folder.root().to_owned();
                    return Err(SinkError::TooManyNamed { partition: self.partition.clone(), waiting, folder });
                }
            }
        }
        Ok(match self.protocol.state() {
            State::Writing { .. } => Step::Write,
            State::Outside { .. } => Step::Idle,
            State::Stopped => return Err(self.not_writing()),
            State::Resolving { segment } => Step::Rejoin { other_than: segment.generation },
            // Nobody waits for its answer any more, so it counts as unknown.
            State::Committing { .. } => return self.drive(Event::Answer(CommitAnswer::Unknown)),
            State::Recovering { .. } | State::Publishing { .. } => unreachable!("both leave an action in the queue"),
        })
    }

    fn start_at(&mut self, start: Option<i64>) {
        let State::Writing { generation, .. } = *self.protocol.state() else { return };
        self.dedupe_at_start = self.dedupe.clone();
        self.writer = Some(SegmentWriter::open(&self.folder, &self.partition, generation, start, self.settings));
    }

    /// The same commit has the same text, whatever has been seen since.
    fn commit_request(&mut self, generation: i32, offset: i64, named: &[NamedSegment], again: bool) -> CommitRequest {
        match &mut self.commit {
            Some(commit) if again => commit.sent_before += 1,
            _ => {
                let Encoded { text, left_out } = metadata::encode(named, &self.dedupe.last_sequences());
                self.commit = Some(CommitRequest {
                    generation,
                    offset,
                    metadata: text,
                    producers_left_out: left_out,
                    sent_before: 0,
                });
            }
        }
        self.commit.clone().expect("it was just put there")
    }

    fn again_later(&mut self, action: Action, error: SinkError) -> Result<Step, SinkError> {
        if error.stops_partition() {
            return self.broken(error);
        }
        self.queue.push_front(action);
        Ok(Step::Retry(error))
    }

    fn broken<T>(&mut self, error: SinkError) -> Result<T, SinkError> {
        self.protocol.on(Event::Broken);
        self.queue.clear();
        self.writer = None;
        Err(error)
    }

    #[cold]
    fn not_writing(&self) -> SinkError {
        SinkError::NotWriting { partition: self.partition.clone() }
    }
}
