//! ApiVersions (key 18), versions 0 to 4.
//!
//! A version that is not known is answered in version 0, with UNSUPPORTED_VERSION and all that is served, so that the client can
//! ask again. Left out: features, which only brokers among themselves need.

use std::ops::RangeInclusive;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::reply::Reply;
use crate::state::{Call, State};

pub(crate) const VERSIONS: RangeInclusive<i16> = 0..=4;

pub(crate) fn handle(_state: &mut State, call: &Call, request: ApiVersionsRequest, reply: Reply<ApiVersionsResponse>) {
    tracing::debug!(
        client = %call.client_host,
        client_id = call.client_id,
        software = %request.client_software_name,
        version = %request.client_software_version,
        "a client asks what is served"
    );
    reply.send(ApiVersionsResponse::default().with_api_keys(super::served()));
}

/// Answers a request of a version that nobody here knows.
pub(crate) fn refuse_version(reply: Reply<ApiVersionsResponse>) {
    let response = ApiVersionsResponse::default().with_error_code(ResponseError::UnsupportedVersion.code());
    reply.send(response.with_api_keys(super::served()));
}
