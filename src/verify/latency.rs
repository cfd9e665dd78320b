//! How long events took from the log call to the published file.

use std::collections::HashMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Three digits of a latency are right.
const DIGITS: u8 = 3;
/// Of a single producer's two are, which takes some 20 KiB for each.
const PRODUCER_DIGITS: u8 = 2;
/// Producers that have a histogram of their own, the first that were met: 20 MiB at most.
const MAX_PRODUCERS: usize = 1024;

/// The latencies of our own events: from the `timestamp` in the event's envelope to the `ctime` of the file that its row stands in,
/// in microseconds.
///
/// A file's `ctime` is when it got or lost a name. Publishing links it to its final name and, as soon as all files of its
/// segment have theirs and the names are durable, takes the hidden name away; so this is the end of its publishing, and rows
/// were visible a little before. It is not that where files were copied or changed afterwards (then it is the time of that), and a
/// file whose worker crashed between the two steps keeps its hidden name until the partition's next segment is published.
/// Clocks of different hosts differ; what would be negative counts as nothing.
#[derive(Debug, Clone)]
pub struct Latency {
    all: Histogram<u64>,
    by_producer: HashMap<u128, Histogram<u64>>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { all: histogram(DIGITS), by_producer: HashMap::new() }
    }
}

impl Latency {
    /// Of all events.
    pub fn all(&self) -> &Histogram<u64> {
        &self.all
    }

    /// Of the events of some producers only: for a folder that has rows of others as well.
    ///
    /// To two digits, and of the first 1024 producers that were met: the others' are only among [`all`](Self::all).
    pub fn of(&self, producers: impl IntoIterator<Item = u128>) -> Histogram<u64> {
        let mut sum = histogram(PRODUCER_DIGITS);
        for histogram in producers.into_iter().filter_map(|producer| self.by_producer.get(&producer)) {
            sum.add(histogram).expect("a histogram that grows takes every value");
        }
        sum
    }

    pub(crate) fn record(&mut self, producer: u128, from_micros: i64, to_micros: i64) {
        let micros = to_micros.saturating_sub(from_micros).max(0).unsigned_abs();
        self.all.record(micros).expect("a histogram that grows takes every value");
        let room = self.by_producer.len() < MAX_PRODUCERS;
        let known = match self.by_producer.get_mut(&producer) {
            None if room => Some(self.by_producer.entry(producer).or_insert_with(|| histogram(PRODUCER_DIGITS))),
            known => known,
        };
        if let Some(known) = known {
            known.record(micros).expect("a histogram that grows takes every value");
        }
    }
}

impl Latency {
    /// Takes in what another part of the check has measured.
    pub(crate) fn append(&mut self, other: &Self) {
        const GROWS: &str = "a histogram that grows takes every value";
        self.all.add(&other.all).expect(GROWS);
        for (producer, histogram) in &other.by_producer {
            let room = self.by_producer.len() < MAX_PRODUCERS;
            match self.by_producer.get_mut(producer) {
                Some(known) => known.add(histogram).expect(GROWS),
                None if room => {
                    self.by_producer.insert(*producer, histogram.clone());
                }
                None => {}
            }
        }
    }
}

impl Serialize for Latency {
    /// `{"events", "p50_us", "p95_us", "p99_us", "max_us"}` of all events.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Latency", 5)?;
        object.serialize_field("events", &self.all.len())?;
        for (name, quantile) in [("p50_us", 0.5), ("p95_us", 0.95), ("p99_us", 0.99)] {
            object.serialize_field(name, &self.all.value_at_quantile(quantile))?;
        }
        object.serialize_field("max_us", &self.all.max())?;
        object.end()
    }
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new(digits).expect("so many digits are allowed")
}

/// For people, in the unit that suits.
pub(crate) fn shown(micros: u64) -> String {
    let latency = Duration::from_micros(micros);
    match micros {
        0..10_000 => format!("{:.1} ms", latency.as_secs_f64() * 1000.0),
        10_000..1_000_000 => format!("{} ms", latency.as_millis()),
        _ => format!("{:.1} s", latency.as_secs_f64()),
    }
}
