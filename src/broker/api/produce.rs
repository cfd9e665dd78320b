//! Produce (key 0), versions 3 to 8.
//!
//! Batches of format 2 are taken, a producer's sequence numbers are checked, and the timestamps stay the client's. Left out:
//! transactions; formats 0 and 1 and with them versions 0 to 2; versions from 9 on, which say nothing more to a single broker
//! without transactions, but only the same in compact form.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::fetch;
use crate::batch::{self, Batch};
use crate::producers::Verdict;
use crate::reply::Reply;
use crate::state::{Call, State};
use crate::topics;

pub(crate) const VERSIONS: RangeInclusive<i16> = 3..=8;

/// What may be around a batch that keeps its request, in bytes; or a sixteenth of the batch, where that is more. The log counts some
/// for it.
const MAX_AROUND_BYTES: usize = 128;

/// Where a batch begins that was not appended.
const NO_OFFSET: i64 = -1;

pub(crate) fn handle(state: &mut State, call: &Call, request: ProduceRequest, reply: Reply<ProduceResponse>) {
    let refusal = match request.acks {
        _ if request.transactional_id.is_some() => {
            Some(Refusal::new(ResponseError::TransactionalIdAuthorizationFailed, "this broker has no transactions"))
        }
        -1..=1 => None,
        acks => Some(Refusal::new(
            ResponseError::InvalidRequiredAcks,
            format!("{acks} acknowledgements; give 0, 1 or -1 (all)"),
        )),
    };
    let mut refused = false;
    let mut arrived = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let index = data.index;
            let done = match &refusal {
                Some(refusal) => Err(refusal.clone()),
                None => append(state, call, &topic.name, data),
            };
            let response = PartitionProduceResponse::default().with_index(index);
            partitions.push(match done {
                Ok(Appended { base_offset, bytes, start }) => {
                    arrived.push((topic.name.clone(), index, bytes));
                    response.with_base_offset(base_offset).with_log_start_offset(start)
                }
                Err(Refusal { code, message }) => {
                    refused = true;
                    let (client, topic) = (call.client_host, topic.name.as_str());
                    tracing::debug!(%client, topic, partition = index, %code, message, "refused records");
                    let message = Some(StrBytes::from_string(message));
                    response.with_base_offset(NO_OFFSET).with_error_code(code.code()).with_error_message(message)
                }
            });
        }
        responses.push(TopicProduceResponse::default().with_name(topic.name).with_partition_responses(partitions));
    }
    match request.acks {
        // Nobody awaits an answer; that something went wrong can only be told by closing the connection, as Kafka does.
        0 if refused => drop(reply),
        0 => reply.send_nothing(),
        _ => reply.send(ProduceResponse::default().with_responses(responses)),
    }
    for (topic, partition, bytes) in arrived {
        for waiting in state.long_polls.arrived(&topic, partition, bytes, &mut state.topics) {
            fetch::answer(state, waiting.request, waiting.reply);
        }
    }
}

struct Appended {
    base_offset: i64,
    bytes: usize,
    start: i64,
}

#[derive(Clone)]
struct Refusal {
    code: ResponseError,
    message: String,
}

impl Refusal {
    fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

fn append(state: &mut State, call: &Call, topic: &str, data: PartitionProduceData) -> Result<Appended, Refusal> {
    let unknown = || {
        let message = format!("there is no partition {} of topic {topic}", data.index);
        Refusal::new(ResponseError::UnknownTopicOrPartition, message)
    };
    if topics::is_internal(topic) {
        let message = format!("{topic} is the brokers' own; produce to another topic");
        return Err(Refusal::new(ResponseError::InvalidTopicException, message));
    }
    let limits = state.topics.get(topic).ok_or_else(unknown)?.config.limits(&state.config);
    let partition = state.topics.partition_mut(topic, data.index).ok_or_else(unknown)?;
    let batches = batch::split(data.records.unwrap_or_default(), limits.max_batch_bytes, call.version)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    let sequence = batches.iter().find_map(|batch| batch.producer);
    if let Some(sequence) = &sequence {
        let verdict = partition.producers.check(sequence);
        let verdict = verdict.map_err(|error| Refusal::new(error.code(), error.to_string()))?;
        if let Verdict::Repeated { base_offset } = verdict {
            return Ok(Appended { base_offset, bytes: 0, start: partition.log.start() });
        }
    }
    let base_offset = partition.log.end();
    if let Some(sequence) = &sequence {
        state.topics.remember(topic, data.index, sequence, base_offset);
    }
    let bytes = batches.iter().map(Batch::wire_bytes).sum();
    for batch in batches {
        // A batch keeps the whole request alive that it came in. Unless it is nearly all of it, a copy is smaller.
        let around = call.frame_bytes.saturating_sub(batch.wire_bytes());
        let batch = if around > MAX_AROUND_BYTES.max(batch.wire_bytes() / 16) { batch.detached() } else { batch };
        state.topics.append(topic, data.index, batch, &state.config);
    }
    let start = state.topics.partition(topic, data.index).map_or(0, |partition| partition.log.start());
    Ok(Appended { base_offset, bytes, start })
}
