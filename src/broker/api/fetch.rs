//! Fetch (key 1), versions 4 to 12.
//!
//! Waits for `min_bytes`, `max_wait_ms` at most. Left out: sessions (KIP-227), which the session id 0 tells clients, so that each
//! request names all that it wants; followers, and with them what their requests carry; aborted transactions, since there are
//! none; versions from 13 on, which name topics by id.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use crate::log::Placed;
use crate::long_poll::Waiting;
use crate::reply::Reply;
use crate::state::{Call, State};
use crate::topics::Topics;

pub(crate) const VERSIONS: RangeInclusive<i16> = 4..=12;

/// The longest that a fetch waits, whatever it asks for: no client's own timeout is longer.
const MAX_WAIT: Duration = Duration::from_secs(5 * 60);
/// No offset at all.
const NONE: i64 = -1;
const READ_COMMITTED: i8 = 1;

/// The longest that a large request waits, since it takes memory that others may need.
const MAX_LARGE_WAIT: Duration = Duration::from_secs(1);

/// What a partition takes in memory in an answer that is put together, beside its records.
const PARTITION_BYTES: usize = 256;

pub(crate) fn handle(state: &mut State, call: &Call, request: FetchRequest, reply: Reply<FetchResponse>) {
    if request.session_id != 0 {
        let code = ResponseError::FetchSessionIdNotFound.code();
        return reply.send(FetchResponse::default().with_error_code(code));
    }
    let (answer, found) = collect(state, &request, reply.room());
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let max_wait = if reply.is_to_large_request() { MAX_LARGE_WAIT } else { MAX_WAIT };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(max_wait);
    match found {
        Found::Bytes(bytes) if bytes < min_bytes && !wait.is_zero() && !request.topics.is_empty() => {
            let waiting = Waiting { request, reply, deadline: call.now + wait, missing_bytes: min_bytes - bytes };
            state.long_polls.wait(waiting, &mut state.topics);
        }
        _ => send(answer, request, reply),
    }
}

/// Answers a fetch that has waited with what there is now.
pub(crate) fn answer(state: &State, request: FetchRequest, reply: Reply<FetchResponse>) {
    let (answer, _) = collect(state, &request, reply.room());
    send(answer, request, reply);
}

/// Has the answer written, if there is room for it, and otherwise the request carried out again once there is. Then it has the room that
/// it asked for, however little others leave.
fn send(answer: Collected, request: FetchRequest, mut reply: Reply<FetchResponse>) {
    let bytes = answer.bytes();
    match reply.hold(bytes) {
        Ok(hold) => reply.send_with(hold, || answer.complete()),
        Err(()) => reply.needs_room(bytes, |state, reply| self::answer(state, request, reply)),
    }
}

enum Found {
    Bytes(usize),
    /// Something that is told at once.
    Error,
}

/// What the answer would be: no more records than there is `room` for, but one batch at least.
fn collect(state: &State, request: &FetchRequest, room: usize) -> (Collected, Found) {
    let mut room = usize::try_from(request.max_bytes).unwrap_or(0).min(state.config.max_fetch_bytes).min(room);
    let mut bytes = 0;
    let mut failed = false;
    let mut records = Vec::new();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let max_bytes = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(room);
            let at = Place { topic: &topic.topic, partition: asked.partition, epoch: asked.current_leader_epoch };
            let read = read(&state.topics, &at, asked.fetch_offset, max_bytes, bytes == 0);
            let aborted = (request.isolation_level == READ_COMMITTED).then(Vec::new);
            let data =
                PartitionData::default().with_partition_index(asked.partition).with_aborted_transactions(aborted);
            match read {
                Ok(Read { batches, start, end }) => {
                    let read_bytes: usize = batches.iter().map(|placed| placed.batch.wire_bytes()).sum();
                    bytes += read_bytes;
                    room = room.saturating_sub(read_bytes);
                    records.push(batches);
                    partitions
                        .push(data.with_high_watermark(end).with_last_stable_offset(end).with_log_start_offset(start));
                }
                Err(error) => {
                    failed = true;
                    records.push(Vec::new());
                    partitions.push(data.with_error_code(error.code()).with_high_watermark(NONE));
                }
            }
        }
        responses.push(FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_partitions(partitions));
    }
    let answer = Collected { response: FetchResponse::default().with_responses(responses), records };
    (answer, if failed { Found::Error } else { Found::Bytes(bytes) })
}

struct Place<'a> {
    topic: &'a str,
    partition: i32,
    epoch: i32,
}

struct Read {
    batches: Vec<Placed>,
    start: i64,
    end: i64,
}

fn read(
    topics: &Topics,
    at: &Place<'_>,
    offset: i64,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Read, ResponseError> {
    let partition = topics.partition(at.topic, at.partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_epoch(at.epoch)?;
    let log = &partition.log;
    let batches = log.read(offset, max_bytes, at_least_one).map_err(|_| ResponseError::OffsetOutOfRange)?;
    Ok(Read { batches, start: log.start(), end: log.end() })
}

/// Whether a client's idea of the leader epoch can be right; a negative one is none.
pub(crate) fn check_epoch(epoch: i32) -> Result<(), ResponseError> {
    if epoch > crate::LEADER_EPOCH { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}

/// The answer to a fetch, before its batches are put together.
#[derive(Debug)]
struct Collected {
    response: FetchResponse,
    /// One after the other, those of each partition of the response.
    records: Vec<Vec<Placed>>,
}

impl Collected {
    /// What it takes in memory: batches whose records may have left the log by the time they are written.
    fn bytes(&self) -> usize {
        let batches = self.records.iter().flatten().map(|placed| placed.batch.wire_bytes() + size_of::<Placed>());
        batches.sum::<usize>() + self.records.len() * PARTITION_BYTES
    }

    fn complete(mut self) -> FetchResponse {
        let partitions = self.response.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
        for (partition, batches) in partitions.zip(self.records) {
            let mut records = BytesMut::with_capacity(batches.iter().map(|placed| placed.batch.wire_bytes()).sum());
            for placed in batches {
                placed.batch.put(placed.base_offset, &mut records);
            }
            partition.records = Some(records.freeze());
        }
        self.response
    }
}
