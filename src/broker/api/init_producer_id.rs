//! InitProducerId (key 22), versions 0 to 4.
//!
//! Every request is given an id of its own, in epoch 0: without a transaction there is nothing to fence. Left out: transactional
//! ids, which are refused.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=4;

pub(crate) fn handle(
    state: &mut State,
    call: &Call,
    request: InitProducerIdRequest,
    reply: Reply<InitProducerIdResponse>,
) {
    if let Some(id) = request.transactional_id {
        tracing::warn!(
            client = %call.client_host,
            transactional_id = %id.as_str(),
            "refused a transactional producer: this broker has no transactions; leave transactional.id out, or use Apache Kafka"
        );
        let code = ResponseError::TransactionalIdAuthorizationFailed.code();
        let nobody = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
        return reply.send(nobody.with_error_code(code));
    }
    let id = ProducerId(state.new_producer_id());
    reply.send(InitProducerIdResponse::default().with_producer_id(id));
}
