//! The queue between the log calls and the publisher: bounded in bytes, cheap for the caller.
//!
//! Events lie one behind the other in [chunks](Chunk) of memory that go round between the two sides, so that an event costs a
//! copy and no allocation. An event stays accounted for, in bytes and in number, until the publisher settles it.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use superhero_event::Admission;
use tokio::sync::Notify;

use crate::chunk::{Chunk, Event, MAX_EVENT_BYTES};
use crate::config::{QueueConfig, WhenFull};
use crate::spool::{Blocked, Segments};

/// Empty chunks that are kept; more would only keep memory after a burst.
const SPARE_CHUNKS: usize = 8;

/// What a session may say after it was admitted and before it asks again: eight events of half a KiB.
const SESSION_OVERSHOOT_BYTES: usize = 8 * 512;

/// Topics whose losses are told one by one; the last stands for all others.
const MAX_TOLD_TOPICS: usize = 64;

/// How many events went which way since the start. At every instant `emitted = acknowledged + dropped + queued_events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Log calls that were events.
    pub emitted: u64,
    /// Events that Kafka or Redis has acknowledged.
    pub acknowledged: u64,
    /// Events that were given up: by [`WhenFull::Drop`], because the broker refuses a record for good (too large), or because they
    /// came after the end of the transport.
    pub dropped: u64,
    /// Events that were sent again, once for each time.
    pub retried: u64,
    /// Events that wait or are on their way.
    pub queued_events: u64,
    /// Their memory.
    pub queued_bytes: u64,
}

/// Whether the publisher looks by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// It polls by its linger; waking it would cost the caller more than everything else.
    Polling,
    /// It sleeps until it is woken.
    Parked,
}

/// Events that were dropped since it was last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) topic: String,
    pub(crate) events: u64,
}

#[derive(Debug)]
struct State {
    chunks: VecDeque<Chunk>,
    spooling: Spooling,
    /// Behind the chunks: events that the spool has not taken yet, and nobody may take before.
    unspooled: VecDeque<Chunk>,
    /// Events that were taken without it at the end.
    bypassed: u64,
    spare: Vec<Chunk>,
    counters: Counters,
    reader: Reader,
    /// Whether the admission is to be closed; the admission itself follows, see [`Queue::settle`].
    held_back: bool,
    /// Whether the transport has ended.
    ended: bool,
    untold: Vec<Dropped>,
}

/// Whether events are written to a spool.
#[derive(Debug)]
enum Spooling {
    Off,
    /// As soon as it is [there](Queue::start_spool).
    Awaited,
    On(Segments),
}

/// The queue. Callers push, one publisher takes and settles.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    woken: Notify,
    admission: Admission,
    limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// Whether the admission is what keeps the queue from being full.
    holds_back: bool,
    /// Above it the admission closes.
    close_above_bytes: u64,
    /// Below it the admission opens again.
    open_below_bytes: u64,
    /// Above it events are dropped.
    drop_above_bytes: u64,
}

impl Limits {
    fn new(config: &QueueConfig) -> Self {
        let capacity = config.capacity_bytes as u64;
        match config.when_full {
            WhenFull::Drop => {
                let never = u64::MAX;
                Self {
                    holds_back: false,
                    close_above_bytes: never,
                    open_below_bytes: never,
                    drop_above_bytes: capacity,
                }
            }
            WhenFull::Block => {
                let mark = capacity / 2;
                let overshoot = (config.sessions as u64).saturating_mul(SESSION_OVERSHOOT_BYTES as u64);
                Self {
                    holds_back: true,
                    close_above_bytes: mark,
                    open_below_bytes: capacity / 4,
                    drop_above_bytes: mark.saturating_add(overshoot.max(capacity - mark)),
                }
            }
        }
    }
}

impl Queue {
    /// `spooled` events can be taken only once a [spool](Self::start_spool) has them.
    pub(crate) fn new(config: &QueueConfig, spooled: bool) -> Self {
        Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                spooling: if spooled { Spooling::Awaited } else { Spooling::Off },
                unspooled: VecDeque::new(),
                bypassed: 0,
                spare: Vec::new(),
                counters: Counters::default(),
                reader: Reader::Parked,
                held_back: false,
                ended: false,
                untold: Vec::new(),
            }),
            woken: Notify::new(),
            admission: Admission::new(),
            limits: Limits::new(config),
        }
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Takes an event, or counts it as dropped. Never waits for anything but the other callers' copying.
    pub(crate) fn push(&self, event: &Event<'_>) {
        let held = event.held_bytes() as u64;
        let mut state = self.lock();
        state.counters.emitted += 1;
        let full = state.counters.queued_bytes + held > self.limits.drop_above_bytes;
        if full || state.ended || event.held_bytes() > MAX_EVENT_BYTES {
            state.counters.dropped += 1;
            state.note_dropped(event.topic, 1);
        } else {
            state.counters.queued_events += 1;
            state.counters.queued_bytes += held;
            state.append(event);
            let is_full = state.counters.queued_bytes > self.limits.close_above_bytes;
            if (is_full || state.is_spool_scarce() && self.limits.holds_back) && !state.held_back {
                state.held_back = true;
                self.admission.close();
            }
        }
        let parked = std::mem::replace(&mut state.reader, Reader::Polling) == Reader::Parked;
        drop(state);
        if parked {
            self.woken.notify_one();
        }
    }

    /// All that lies in the queue, in order, into `taken`.
    pub(crate) fn take(&self, taken: &mut VecDeque<Chunk>) {
        debug_assert!(taken.is_empty(), "the last take was worked off");
        std::mem::swap(&mut self.lock().chunks, taken);
    }

    /// Gives a chunk that was worked off back.
    pub(crate) fn recycle(&self, mut chunk: Chunk) {
        chunk.clear();
        if !chunk.is_reusable() {
            return;
        }
        let mut state = self.lock();
        if state.spare.len() < SPARE_CHUNKS {
            state.spare.push(chunk);
        }
    }

    /// Sleeps until an event comes, if there is none.
    ///
    /// # Cancellation
    /// Safe: an event that comes meanwhile wakes the next call.
    pub(crate) async fn park(&self) {
        {
            let mut state = self.lock();
            if !state.chunks.is_empty() || !state.untold.is_empty() {
                return;
            }
            state.reader = Reader::Parked;
        }
        self.woken.notified().await;
    }

    /// Events that are done with, one way or the other.
    pub(crate) fn settle(&self, settled: Settled) {
        let mut state = self.lock();
        let counters = &mut state.counters;
        counters.acknowledged += settled.acknowledged;
        counters.dropped += settled.dropped;
        counters.retried += settled.retried;
        counters.queued_events -= settled.acknowledged + settled.dropped;
        counters.queued_bytes -= settled.bytes;
        self.open_if_there_is_room(state);
    }

    fn open_if_there_is_room(&self, mut state: MutexGuard<'_, State>) {
        let is_full = state.counters.queued_bytes >= self.limits.open_below_bytes;
        if !state.held_back || is_full || !state.has_spool_room() {
            return;
        }
        state.held_back = false;
        drop(state);
        // Opening wakes thousands of sessions, so callers are not kept waiting for it. A caller that closes meanwhile
        // is overruled by the opening, and put right here.
        self.admission.open();
        if self.lock().held_back {
            self.admission.close();
        }
    }

    /// From now on events go into the spool first, those that wait for it as well.
    pub(crate) fn start_spool(&self, segments: Segments) {
        self.lock().spooling = Spooling::On(segments);
    }

    /// Lets the spool take what it could not take before, as far as it can; else says why not.
    pub(crate) fn spool_backlog(&self) -> Result<(), Blocked> {
        loop {
            // A chunk at a time, so that callers do not wait long.
            let mut state = self.lock();
            match state.spool_chunk() {
                Ok(true) => {}
                Ok(false) => {
                    self.open_if_there_is_room(state);
                    return Ok(());
                }
                Err(blocked) => return Err(blocked),
            }
        }
    }

    /// The number of the segment that the spool wants to be made.
    pub(crate) fn wants_segment(&self) -> Option<u64> {
        match &self.lock().spooling {
            Spooling::On(segments) => segments.wants(),
            Spooling::Off | Spooling::Awaited => None,
        }
    }

    pub(crate) fn provide_segment(&self, file: File) {
        if let Spooling::On(segments) = &mut self.lock().spooling {
            segments.provide(file);
        }
    }

    /// So many bytes of the spool are gone from the disk.
    pub(crate) fn spool_freed(&self, bytes: u64) {
        let mut state = self.lock();
        if let Spooling::On(segments) = &mut state.spooling {
            segments.freed(bytes);
        }
        self.open_if_there_is_room(state);
    }

    /// Whether events wait for the spool.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.lock().unspooled.is_empty()
    }

    /// At the end, when nothing is to be gained by waiting: what the spool does not take is sent without it, and so is all that
    /// comes later, since what is numbered after such an event cannot be given its number again.
    pub(crate) fn bypass_spool(&self) {
        let mut state = self.lock();
        if state.unspooled.is_empty() {
            return;
        }
        let State { chunks, unspooled, bypassed, .. } = &mut *state;
        *bypassed += unspooled.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let segment = chunks.back().map_or(0, Chunk::segment);
        unspooled.iter_mut().for_each(|chunk| chunk.set_segment(segment));
        chunks.append(unspooled);
        state.spooling = Spooling::Off;
    }

    /// How many events were taken without the spool.
    pub(crate) fn bypassed(&self) -> u64 {
        self.lock().bypassed
    }

    /// What was dropped since the last time. `None` while there is nothing.
    pub(crate) fn take_untold(&self) -> Vec<Dropped> {
        std::mem::take(&mut self.lock().untold)
    }

    /// Gives back what could not be told yet.
    pub(crate) fn put_back_untold(&self, dropped: Vec<Dropped>) {
        let mut state = self.lock();
        for Dropped { topic, events } in dropped {
            state.note_dropped(&topic, events);
        }
    }

    /// Whether the queue is below half of what it takes at all.
    pub(crate) fn has_room_to_tell(&self) -> bool {
        self.lock().counters.queued_bytes < self.limits.drop_above_bytes / 2
    }

    /// From now on events are dropped, and nobody is held back for them.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.held_back = false;
        drop(state);
        self.admission.open();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way: a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the publisher has done with some events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) acknowledged: u64,
    pub(crate) dropped: u64,
    /// Sent again; these are not done with.
    pub(crate) retried: u64,
    /// The [held bytes](Event::held_bytes) of the acknowledged and the dropped.
    pub(crate) bytes: u64,
}

impl State {
    fn append(&mut self, event: &Event<'_>) {
        let Self { chunks, spooling, unspooled, spare, .. } = self;
        match spooling {
            Spooling::Off => append(chunks, spare, 0, event),
            Spooling::On(segments) if unspooled.is_empty() => match segments.append(event) {
                Ok(segment) => append(chunks, spare, segment, event),
                Err(_) => append(unspooled, spare, 0, event),
            },
            Spooling::On(_) | Spooling::Awaited => append(unspooled, spare, 0, event),
        }
    }

    /// Whether there is a spool that takes few events more, or none now.
    fn is_spool_scarce(&self) -> bool {
        matches!(&self.spooling, Spooling::On(segments) if segments.is_scarce() || !self.unspooled.is_empty())
    }

    /// Whether the spool, if there is one, takes many events more.
    fn has_spool_room(&self) -> bool {
        match &self.spooling {
            Spooling::On(segments) => segments.has_room() && self.unspooled.is_empty(),
            Spooling::Off | Spooling::Awaited => true,
        }
    }

    /// Lets the spool take the first chunk that waits for it; `false` if there is none.
    fn spool_chunk(&mut self) -> Result<bool, Blocked> {
        let Self { chunks, spooling, unspooled, spare, .. } = self;
        let Spooling::On(segments) = spooling else { return Ok(false) };
        let Some(chunk) = unspooled.pop_front() else { return Ok(false) };
        let mut events = chunk.events();
        while let Some(event) = events.next() {
            match segments.append(&event) {
                Ok(segment) => append(chunks, spare, segment, &event),
                Err(blocked) => {
                    let mut rest = Chunk::default();
                    [event].into_iter().chain(events).for_each(|event| rest.push(&event));
                    unspooled.push_front(rest);
                    return Err(blocked);
                }
            }
        }
        Ok(true)
    }

    fn note_dropped(&mut self, topic: &str, events: u64) {
        let known = self.untold.iter().position(|dropped| dropped.topic == topic);
        let place = known.or_else(|| (self.untold.len() >= MAX_TOLD_TOPICS).then_some(MAX_TOLD_TOPICS - 1));
        match place {
            Some(place) => self.untold[place].events += events,
            None => self.untold.push(Dropped { topic: topic.to_owned(), events }),
        }
    }
}

fn append(chunks: &mut VecDeque<Chunk>, spare: &mut Vec<Chunk>, segment: u64, event: &Event<'_>) {
    match chunks.back_mut() {
        Some(chunk) if chunk.has_room_for(event, segment) => chunk.push(event),
        _ => {
            let mut chunk = spare.pop().unwrap_or_else(Chunk::with_room);
            chunk.set_segment(segment);
            chunk.push(event);
            chunks.push_back(chunk);
        }
    }
}
