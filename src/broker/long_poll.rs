//! The fetches that wait for records.
//!
//! Each waits at the partitions that it asks for, so that a produce finds those that it may wake without looking at others, and
//! counts down the bytes that it lacks, so that nothing is read before there is enough.

use std::collections::{BTreeSet, HashMap};

use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::time::Instant;

use crate::reply::Reply;
use crate::topics::Topics;

/// One fetch that waits.
pub(crate) type FetchId = u64;

/// How many fetches wait before those are looked for whose clients have gone; after that, as many again as are left.
const LOOK_FOR_GONE: usize = 64;

/// A fetch, as it waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) request: FetchRequest,
    pub(crate) reply: Reply<FetchResponse>,
    pub(crate) deadline: Instant,
    /// What has to arrive before the fetch is answered, if it is to be answered before its deadline.
    pub(crate) missing_bytes: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct LongPolls {
    by_id: HashMap<FetchId, Waiting>,
    deadlines: BTreeSet<(Instant, FetchId)>,
    next_id: FetchId,
    look_for_gone_at: usize,
}

impl LongPolls {
    /// Until when the loop may sleep; none while no fetch waits.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Lets a fetch wait at its partitions.
    pub(crate) fn wait(&mut self, waiting: Waiting, topics: &mut Topics) {
        self.forget_gone(topics);
        let id = self.next_id;
        self.next_id += 1;
        for (topic, partition) in places(&waiting.request) {
            topics.partition_mut(topic, partition).map(|partition| partition.waiting.insert(id));
        }
        self.deadlines.insert((waiting.deadline, id));
        self.by_id.insert(id, waiting);
    }

    /// Bytes have arrived at a partition; hands out the fetches that now have enough.
    pub(crate) fn arrived(&mut self, topic: &str, partition: i32, bytes: usize, topics: &mut Topics) -> Vec<Waiting> {
        let Some(at) = topics.partition(topic, partition) else {
            return Vec::new();
        };
        let mut ready = Vec::new();
        for id in &at.waiting {
            if let Some(waiting) = self.by_id.get_mut(id) {
                waiting.missing_bytes = waiting.missing_bytes.saturating_sub(bytes);
                if waiting.missing_bytes == 0 {
                    ready.push(*id);
                }
            }
        }
        ready.into_iter().filter_map(|id| self.end(id, topics)).collect()
    }

    /// Hands out the fetches that have waited until `now`.
    pub(crate) fn due(&mut self, now: Instant, topics: &mut Topics) -> Vec<Waiting> {
        let mut due = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            due.extend(self.end(id, topics));
        }
        due
    }

    /// Hands out these fetches, whatever they lack.
    pub(crate) fn end_all(&mut self, ids: impl IntoIterator<Item = FetchId>, topics: &mut Topics) -> Vec<Waiting> {
        ids.into_iter().filter_map(|id| self.end(id, topics)).collect()
    }

    fn end(&mut self, id: FetchId, topics: &mut Topics) -> Option<Waiting> {
        let waiting = self.by_id.remove(&id)?;
        self.deadlines.remove(&(waiting.deadline, id));
        for (topic, partition) in places(&waiting.request) {
            topics.partition_mut(topic, partition).map(|partition| partition.waiting.remove(&id));
        }
        Some(waiting)
    }

    /// A client that has gone is noticed by nobody until its fetch ends, and some wait for long.
    fn forget_gone(&mut self, topics: &mut Topics) {
        if self.by_id.len() < self.look_for_gone_at.max(LOOK_FOR_GONE) {
            return;
        }
        let gone: Vec<_> = self.by_id.iter().filter(|(_, w)| w.reply.is_closed()).map(|(id, _)| *id).collect();
        for id in gone {
            self.end(id, topics);
        }
        self.look_for_gone_at = 2 * self.by_id.len();
    }
}

fn places(request: &FetchRequest) -> impl Iterator<Item = (&str, i32)> {
    request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic.as_str(), p.partition)))
}
