//! What to send, when, and what an answer means: the publisher's decisions, without its I/O.
//!
//! Every topic-partition is a lane: batches in order, of which only the first may be on its way. A lane is *idle*, *in flight*,
//! or *resting* after a failure. A request takes the first batch of every lane that is not busy and has the same leader.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Compression, Headers, Producer, Sealed};
use crate::chunk::{Chunk, Event};
use crate::queue::Settled;

/// The pause after a first failure; it doubles with each further one.
const FIRST_REST: Duration = Duration::from_millis(50);
/// The longest pause: a broker that comes back is met within a second.
const MAX_REST: Duration = Duration::from_secs(1);
/// The batches of one request together; brokers take 100 MiB, and a smaller answer time is worth more than fewer requests.
const REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchConfig {
    pub(crate) batch_bytes: usize,
    pub(crate) compression: Compression,
}

/// Names a lane: its topic's and its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneId {
    topic: usize,
    partition: usize,
}

/// The batches for one leader.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) leader: i32,
    pub(crate) parts: Vec<Part>,
    /// Events that are sent again.
    pub(crate) retried: u64,
}

/// One lane's batch in a request.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) lane: LaneId,
    pub(crate) batch: Bytes,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is there.
    Acknowledged,
    /// It will never be taken as it is: too large, or a record in it is refused.
    Refused,
    /// Its time is too far from the broker's, while the clock here says `now_ms`. It is sent with that instead, which helps once
    /// the clock is right; what happened when is told by the envelopes.
    Mistimed { now_ms: i64 },
    /// It may or may not be there. The leader is to be looked up again.
    Failed,
}

/// What an answer means for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) settled: Settled,
    /// Whether a batch of one event was refused, and so dropped.
    pub(crate) gave_up: bool,
}

/// Events that are not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) topic: String,
    /// `None` while the topic is not known.
    pub(crate) partition: Option<i32>,
    pub(crate) events: u64,
}

/// How the events of a topic are numbered from an event on: enough to give those behind it their ids again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counting {
    /// Whose turn it is among the partitions when an event has no key.
    pub(crate) round_robin: u32,
    /// The next sequence of each partition.
    pub(crate) next: Vec<u64>,
}

/// A topic whose partitions were not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    pub(crate) partitions: usize,
    /// How it was counted at the [marks](Lanes::mark) that were set while its events waited.
    pub(crate) counted: Vec<(u64, Counting)>,
}

/// All lanes of a producer.
#[derive(Debug)]
pub(crate) struct Lanes {
    producer: Producer,
    config: BatchConfig,
    topics: Vec<Topic>,
    by_name: HashMap<String, usize>,
    /// The topic of the event before; most events follow one of their own topic.
    last_topic: usize,
    /// Where the next request begins to look, so that full lanes cannot starve those behind them.
    first_topic: usize,
}

#[derive(Debug)]
struct Topic {
    name: String,
    state: TopicState,
    /// Whose turn it is among the partitions when an event has no key.
    round_robin: u32,
}

#[derive(Debug)]
enum TopicState {
    /// Nobody has told its partitions yet, or it does not exist. The marks say how many events waited when they were set.
    Unknown {
        waiting: Chunk,
        marks: Vec<(u64, usize)>,
    },
    Known(Vec<Lane>),
}

#[derive(Debug)]
struct Lane {
    headers: Headers,
    leader: Option<i32>,
    next_sequence: u64,
    /// Events with lower sequences were settled before this process began.
    settled_before: u64,
    /// Batches that do not change any more; the first is the one in flight, if there is one.
    sealed: VecDeque<Sealed>,
    /// The batch that still takes events.
    open: Option<Batch>,
    state: LaneState,
    /// Failures of the first batch in a row.
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    Idle,
    InFlight,
    Resting { until: Instant },
}

impl Lanes {
    pub(crate) fn new(producer: Producer, config: BatchConfig) -> Self {
        Self { producer, config, topics: Vec::new(), by_name: HashMap::new(), last_topic: 0, first_topic: 0 }
    }

    /// Those that another process had, at an event from which on its events are accepted again: `partitions` are those of the
    /// topics that it knew, `counted` how they were counted there. What is below `settled` only counts, and is not sent.
    pub(crate) fn resume(
        producer: Producer,
        config: BatchConfig,
        partitions: &BTreeMap<String, usize>,
        counted: &BTreeMap<String, Counting>,
        settled: &BTreeMap<(String, i32), u64>,
    ) -> Self {
        let mut all = Self::new(producer, config);
        for (name, partitions) in partitions {
            let index = all.topic(name);
            let counting = counted.get(name);
            let lanes = (0..*partitions).zip(0..).map(|(number, partition)| Lane {
                next_sequence: counting.and_then(|counting| counting.next.get(number)).copied().unwrap_or(0),
                settled_before: settled.get(&(name.clone(), partition)).copied().unwrap_or(0),
                ..Lane::new(producer.headers(name, partition))
            });
            all.topics[index].state = TopicState::Known(lanes.collect());
            all.topics[index].round_robin = counting.map_or(0, |counting| counting.round_robin);
        }
        all
    }

    /// How topics are counted from here on. Those with events that wait for their partitions are not among them: their number is
    /// returned too, and what they are counted like here is told when they are [learned](Self::learn), by the name of `mark`.
    pub(crate) fn mark(&mut self, mark: u64) -> (BTreeMap<String, Counting>, usize) {
        let mut counted = BTreeMap::new();
        let mut uncounted = 0;
        for Topic { name, state, round_robin } in &mut self.topics {
            match state {
                TopicState::Known(lanes) => drop(counted.insert(name.clone(), counting(lanes, *round_robin))),
                TopicState::Unknown { waiting, .. } if waiting.len() == 0 => {}
                TopicState::Unknown { waiting, marks } => {
                    marks.push((mark, waiting.len()));
                    uncounted += 1;
                }
            }
        }
        (counted, uncounted)
    }

    /// Puts an event behind the others of its lane.
    pub(crate) fn accept(&mut self, event: &Event<'_>) {
        let index = match self.topics.get(self.last_topic) {
            Some(topic) if topic.name == event.topic => self.last_topic,
            _ => self.topic(event.topic),
        };
        self.last_topic = index;
        let Topic { state, round_robin, .. } = &mut self.topics[index];
        match state {
            TopicState::Unknown { waiting, .. } => waiting.push(event),
            TopicState::Known(lanes) => route(lanes, round_robin, self.config, event),
        }
    }

    /// Tells the leaders of a topic's partitions. Their number is taken from the first time: with another one later, keys
    /// would move to other partitions and lose their order; that first time is told.
    pub(crate) fn learn(&mut self, topic: &str, leaders: &BTreeMap<i32, Option<i32>>) -> Option<Learned> {
        let index = self.topic(topic);
        let Topic { state, round_robin, .. } = &mut self.topics[index];
        let mut learned = None;
        if let TopicState::Unknown { waiting, marks } = state {
            let places = leaders.iter().zip(0..);
            let mut lanes: Vec<Lane> =
                places.map(|(_, partition)| Lane::new(self.producer.headers(topic, partition))).collect();
            if lanes.is_empty() {
                return None;
            }
            let mut marks = marks.iter().peekable();
            let mut counted = Vec::new();
            for (event, before) in waiting.events().zip(0..) {
                while let Some((mark, _)) = marks.next_if(|(_, waited)| *waited == before) {
                    counted.push((*mark, counting(&lanes, *round_robin)));
                }
                route(&mut lanes, round_robin, self.config, &event);
            }
            counted.extend(marks.map(|(mark, _)| (*mark, counting(&lanes, *round_robin))));
            learned = Some(Learned { partitions: lanes.len(), counted });
            *state = TopicState::Known(lanes);
        }
        if let TopicState::Known(lanes) = state {
            for (lane, partition) in lanes.iter_mut().zip(0..) {
                lane.leader = leaders.get(&partition).copied().flatten();
            }
        }
        learned
    }

    /// Whether there are events whose leader, or whose partition even, is not known.
    pub(crate) fn wants_leaders(&self) -> bool {
        self.topics.iter().any(|topic| match &topic.state {
            TopicState::Unknown { waiting, .. } => waiting.len() > 0,
            TopicState::Known(lanes) => lanes.iter().any(|lane| lane.leader.is_none() && lane.events() > 0),
        })
    }

    /// The names of all topics that events have named.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| topic.name.as_str())
    }

    /// A request for a leader that is not `busy`, if there is anything to send now.
    pub(crate) fn next_request(&mut self, now: Instant, busy: impl Fn(i32) -> bool) -> Option<Request> {
        let mut request: Option<Request> = None;
        let mut bytes = 0;
        let count = self.topics.len();
        for index in (0..count).map(|offset| (self.first_topic + offset) % count) {
            let TopicState::Known(lanes) = &mut self.topics[index].state else { continue };
            for (partition, lane) in lanes.iter_mut().enumerate() {
                let Some(leader) = lane.leader.filter(|leader| !busy(*leader)) else { continue };
                let fits = request.as_ref().is_none_or(|request| request.leader == leader && bytes < REQUEST_BYTES);
                if !fits || !lane.may_send(now) {
                    continue;
                }
                let Some((batch, retried)) = lane.send(self.config.compression) else { continue };
                bytes += batch.len();
                let request = request.get_or_insert_with(|| Request { leader, parts: Vec::new(), retried: 0 });
                request.retried += retried;
                request.parts.push(Part { lane: LaneId { topic: index, partition }, batch });
            }
        }
        if request.is_some() {
            self.first_topic = (self.first_topic + 1) % count;
        }
        request
    }

    /// Takes the answer to a part of a request.
    pub(crate) fn answered(&mut self, id: LaneId, outcome: Outcome, now: Instant) -> Settlement {
        let Topic { name, state, .. } = &mut self.topics[id.topic];
        let TopicState::Known(lanes) = state else { unreachable!("only known topics are sent to") };
        lanes[id.partition].answered(outcome, now, name, self.config.compression)
    }

    /// The partitions of a topic, as they were when they were learned; 0 before that.
    pub(crate) fn partitions(&self, topic: &str) -> usize {
        self.by_name.get(topic).map_or(0, |index| self.topics[*index].lanes().len())
    }

    /// The sequence below which all events of a lane are settled.
    pub(crate) fn settled(&self, id: LaneId) -> u64 {
        let lane = &self.topics[id.topic].lanes()[id.partition];
        lane.next_sequence - lane.events()
    }

    /// How many events of a known topic have been numbered by this producer, in all processes.
    pub(crate) fn numbered(&self) -> u64 {
        self.topics.iter().flat_map(Topic::lanes).map(|lane| lane.next_sequence).sum()
    }

    /// The topic and the partition of a lane.
    pub(crate) fn place(&self, id: LaneId) -> (&str, i32) {
        (&self.topics[id.topic].name, id.partition as i32)
    }

    /// Whether every event has been acknowledged or dropped.
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.iter().all(|topic| topic.unknown() == 0 && topic.lanes().iter().all(|lane| lane.events() == 0))
    }

    /// What is not acknowledged, by topic and partition.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let mut all = Vec::new();
        for topic in &self.topics {
            let mut note = |partition, events| {
                if events > 0 {
                    all.push(Waiting { topic: topic.name.clone(), partition, events });
                }
            };
            note(None, topic.unknown());
            for (lane, partition) in topic.lanes().iter().zip(0..) {
                note(Some(partition), lane.events());
            }
        }
        all
    }

    fn topic(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let state = TopicState::Unknown { waiting: Chunk::default(), marks: Vec::new() };
        self.topics.push(Topic { name: name.to_owned(), state, round_robin: 0 });
        let index = self.topics.len() - 1;
        self.by_name.insert(name.to_owned(), index);
        index
    }
}

fn route(lanes: &mut [Lane], round_robin: &mut u32, config: BatchConfig, event: &Event<'_>) {
    // A topic has far fewer partitions than an `i32` can count.
    let partition = superhero_kafka::partition_for_key(event.key, lanes.len() as i32, round_robin);
    lanes[partition as usize].accept(config, event);
}

fn counting(lanes: &[Lane], round_robin: u32) -> Counting {
    Counting { round_robin, next: lanes.iter().map(|lane| lane.next_sequence).collect() }
}

impl Topic {
    fn lanes(&self) -> &[Lane] {
        match &self.state {
            TopicState::Known(lanes) => lanes,
            TopicState::Unknown { .. } => &[],
        }
    }

    fn unknown(&self) -> u64 {
        match &self.state {
            TopicState::Known(_) => 0,
            TopicState::Unknown { waiting, .. } => waiting.len() as u64,
        }
    }
}

impl Lane {
    fn new(headers: Headers) -> Self {
        Self {
            headers,
            leader: None,
            next_sequence: 0,
            settled_before: 0,
            sealed: VecDeque::new(),
            open: None,
            state: LaneState::Idle,
            failures: 0,
        }
    }

    fn accept(&mut self, config: BatchConfig, event: &Event<'_>) {
        if self.next_sequence < self.settled_before {
            self.next_sequence += 1;
            return;
        }
        let full = self.open.take_if(|open| !open.has_room_for(event, config.batch_bytes));
        self.sealed.extend(full.map(|full| full.seal(config.compression)));
        self.open.get_or_insert_with(Batch::new).push(&self.headers, self.next_sequence, event);
        self.next_sequence += 1;
    }

    fn events(&self) -> u64 {
        self.sealed.iter().map(Sealed::events).sum::<u64>() + self.open.as_ref().map_or(0, Batch::events)
    }

    fn may_send(&self, now: Instant) -> bool {
        match self.state {
            LaneState::Idle => true,
            LaneState::InFlight => false,
            LaneState::Resting { until } => until <= now,
        }
    }

    /// The first batch, which is in flight from now on, and how many of its events were sent before.
    fn send(&mut self, compression: Compression) -> Option<(Bytes, u64)> {
        if self.sealed.is_empty() {
            self.sealed.extend(self.open.take().map(|open| open.seal(compression)));
        }
        let first = self.sealed.front()?;
        self.state = LaneState::InFlight;
        let retried = if self.failures > 0 { first.events() } else { 0 };
        Some((first.wire().clone(), retried))
    }

    fn answered(&mut self, outcome: Outcome, now: Instant, topic: &str, compression: Compression) -> Settlement {
        debug_assert_eq!(self.state, LaneState::InFlight, "an answer to what was sent");
        let Some(first) = self.sealed.front() else { unreachable!("what is in flight stays in its lane") };
        let (events, bytes) = (first.events(), first.held_bytes());
        match outcome {
            Outcome::Failed | Outcome::Mistimed { .. } => {
                if let Outcome::Mistimed { now_ms } = outcome {
                    let retimed = first.retimed(now_ms, compression);
                    self.sealed[0] = retimed;
                }
                let rest = FIRST_REST.saturating_mul(1 << self.failures.min(10)).min(MAX_REST);
                self.failures += 1;
                self.leader = None;
                self.state = LaneState::Resting { until: now + rest };
                return Settlement::default();
            }
            Outcome::Refused if events > 1 => {
                let (first, second) = first.split(topic, compression);
                self.sealed.pop_front();
                self.sealed.push_front(second);
                self.sealed.push_front(first);
            }
            Outcome::Acknowledged | Outcome::Refused => {
                self.sealed.pop_front();
            }
        }
        self.failures = 0;
        self.state = LaneState::Idle;
        match outcome {
            Outcome::Acknowledged => {
                let settled = Settled { acknowledged: events, bytes, ..Settled::default() };
                Settlement { settled, gave_up: false }
            }
            Outcome::Refused if events == 1 => {
                Settlement { settled: Settled { dropped: 1, bytes, ..Settled::default() }, gave_up: true }
            }
            Outcome::Refused | Outcome::Failed | Outcome::Mistimed { .. } => Settlement::default(),
        }
    }
}
