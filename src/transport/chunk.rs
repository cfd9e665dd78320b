//! Events one behind the other, in memory that goes round between the queue and the publisher.

use superhero_text::append;

/// The memory of a chunk; a larger event gets one of its own.
const CHUNK_BYTES: usize = 256 * 1024;

/// What an event takes besides its own bytes: its frame here, and in a batch the two headers.
const EVENT_OVERHEAD_BYTES: usize = 112;

/// The largest event; Apache Kafka refuses larger batches unless it is told otherwise (`message.max.bytes`).
pub(crate) const MAX_EVENT_BYTES: usize = 1024 * 1024 - 1024;

/// The parts of an event, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) topic: &'a str,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: &'a [u8],
    /// Milliseconds since 1970, for the record.
    pub(crate) timestamp_ms: i64,
}

impl Event<'_> {
    /// What the event is accounted for with until it is settled.
    pub(crate) fn held_bytes(&self) -> usize {
        self.topic.len() + self.key.map_or(0, <[u8]>::len) + self.value.len() + EVENT_OVERHEAD_BYTES
    }
}

/// Events one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// The segment of the spool that all its events are in.
    segment: u64,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    topic_bytes: u32,
    /// [`NO_KEY`] where there is none.
    key_bytes: u32,
    value_bytes: u32,
    timestamp_ms: i64,
}

const NO_KEY: u32 = u32::MAX;

impl Chunk {
    /// An empty one, with memory for as much as it may hold.
    pub(crate) fn with_room() -> Self {
        Self { bytes: Vec::with_capacity(CHUNK_BYTES), frames: Vec::with_capacity(CHUNK_BYTES / 256), segment: 0 }
    }

    /// Whether an event that is in this segment of the spool fits.
    pub(crate) fn has_room_for(&self, event: &Event<'_>, segment: u64) -> bool {
        self.segment == segment && (self.bytes.is_empty() || self.bytes.len() + event.held_bytes() <= CHUNK_BYTES)
    }

    pub(crate) fn push(&mut self, event: &Event<'_>) {
        // No event is larger than `MAX_EVENT_BYTES`, so lengths fit.
        self.frames.push(Frame {
            topic_bytes: event.topic.len() as u32,
            key_bytes: event.key.map_or(NO_KEY, |key| key.len() as u32),
            value_bytes: event.value.len() as u32,
            timestamp_ms: event.timestamp_ms,
        });
        append(&mut self.bytes, event.topic.as_bytes());
        append(&mut self.bytes, event.key.unwrap_or_default());
        append(&mut self.bytes, event.value);
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The segment of the spool that its events are in; 0 where there is no spool.
    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = Event<'_>> {
        let mut rest = self.bytes.as_slice();
        self.frames.iter().map(move |frame| {
            let mut take = |bytes: u32| {
                let (taken, left) = rest.split_at(bytes as usize);
                rest = left;
                taken
            };
            let topic = std::str::from_utf8(take(frame.topic_bytes)).unwrap_or_default();
            let key = (frame.key_bytes != NO_KEY).then(|| take(frame.key_bytes));
            Event { topic, key, value: take(frame.value_bytes), timestamp_ms: frame.timestamp_ms }
        })
    }

    /// Says in which segment of the spool its events are.
    pub(crate) fn set_segment(&mut self, segment: u64) {
        self.segment = segment;
    }

    /// Whether its memory is worth keeping: a huge event's is not.
    pub(crate) fn is_reusable(&self) -> bool {
        self.bytes.capacity() <= 2 * CHUNK_BYTES
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }
}
