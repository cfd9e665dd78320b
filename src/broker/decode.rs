//! Requests from the wire, without trust: [`superhero_codec`] reads them, and what a request is made of bounds what it takes in memory.
//! Produce, which may be large, has its lengths checked against the size of an entry beforehand.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::Decodable;
use superhero_codec::{Unread, decode_within};
use thiserror::Error;

/// The key, the version and the correlation id.
pub(crate) const MIN_REQUEST_BYTES: usize = 8;

/// Numbers and texts of one request. A fetch of ten thousand partitions has seventy thousand.
pub(crate) const MAX_READS: usize = 250_000;

/// What a request takes in memory beyond its bytes, for each number and text in it, at most: a topic of a Metadata is two of them.
pub(crate) const READ_BYTES: usize = 64;

/// Of a header: its fields, and tags that nobody knows.
const MAX_HEADER_READS: usize = 100;

/// Why a request is not understood. The connection has to be closed: what an answer would look like is not known.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum DecodeError {
    #[error("a request of {bytes} bytes, and its header alone has {MIN_REQUEST_BYTES} or more")]
    Short { bytes: usize },
    #[error("API key {key}, which this broker does not serve")]
    Key { key: i16 },
    #[error("{api:?} version {version}, and this broker serves {lowest} to {highest}")]
    Version { api: ApiKey, version: i16, lowest: i16, highest: i16 },
    #[error("the header of {api:?} version {version} cannot be read: {reason}")]
    Header { api: ApiKey, version: i16, reason: String },
    #[error("{api:?} version {version} cannot be read: {reason}")]
    Body { api: ApiKey, version: i16, reason: String },
    #[error("{api:?} version {version} is made of more than {limit} numbers and texts")]
    Reads { api: ApiKey, version: i16, limit: usize },
    #[error("{api:?} version {version} has {bytes} bytes more than it should")]
    Rest { api: ApiKey, version: i16, bytes: usize },
}

/// Reads the header of a request, and leaves its body in `frame`.
pub(crate) fn header(frame: &mut Bytes) -> Result<(ApiKey, RequestHeader), DecodeError> {
    if frame.len() < MIN_REQUEST_BYTES {
        return Err(DecodeError::Short { bytes: frame.len() });
    }
    let mut start = &frame[..];
    let (key, version) = (start.get_i16(), start.get_i16());
    let api = ApiKey::try_from(key).map_err(|()| DecodeError::Key { key })?;
    match decode_within(frame, api.request_header_version(version), MAX_HEADER_READS) {
        Ok((header, _)) => Ok((api, header)),
        Err(Unread::Bad(reason)) => Err(DecodeError::Header { api, version, reason }),
        Err(Unread::TooLong) => {
            Err(DecodeError::Header { api, version, reason: format!("it has more than {MAX_HEADER_READS} parts") })
        }
    }
}

/// Reads the body of a request, all of it; tells of how many numbers and texts it is made, `max_reads` at most.
pub(crate) fn body<R: Decodable>(
    api: ApiKey,
    version: i16,
    mut body: Bytes,
    max_reads: usize,
) -> Result<(R, usize), DecodeError> {
    if api == ApiKey::Produce && !produce_lengths_are_good(&body, version) {
        return Err(DecodeError::Body {
            api,
            version,
            reason: "an array claims more entries than there is room for".into(),
        });
    }
    let read = decode_within(&mut body, version, max_reads).map_err(|unread| match unread {
        Unread::Bad(reason) => DecodeError::Body { api, version, reason },
        Unread::TooLong => DecodeError::Reads { api, version, limit: max_reads },
    })?;
    match body.len() {
        0 => Ok(read),
        bytes => Err(DecodeError::Rest { api, version, bytes }),
    }
}

/// Whether the arrays of a Produce have room for their entries; the versions that are served have no compact form.
fn produce_lengths_are_good(mut body: &[u8], version: i16) -> bool {
    /// A name and an array, both empty.
    const TOPIC_BYTES: usize = 6;
    /// An index and the length of what is none.
    const PARTITION_BYTES: usize = 8;
    /// The acknowledgements and the timeout.
    const SETTINGS_BYTES: usize = 6;

    fn skip(body: &mut &[u8], length: i64) -> Option<()> {
        *body = body.get(usize::try_from(length.max(0)).ok()?..)?;
        Some(())
    }
    fn count(body: &mut &[u8], entry_bytes: usize) -> Option<i32> {
        let count = body.try_get_i32().ok()?;
        (count.max(0) as usize <= body.len() / entry_bytes).then_some(count)
    }
    let mut walk = || {
        if version >= 3 {
            let transactional_id = body.try_get_i16().ok()?;
            skip(&mut body, transactional_id.into())?;
        }
        skip(&mut body, SETTINGS_BYTES as i64)?;
        for _ in 0..count(&mut body, TOPIC_BYTES)? {
            let name = body.try_get_i16().ok()?;
            skip(&mut body, name.into())?;
            for _ in 0..count(&mut body, PARTITION_BYTES)? {
                body.try_get_i32().ok()?;
                let records = body.try_get_i32().ok()?;
                skip(&mut body, records.into())?;
            }
        }
        Some(())
    };
    walk().is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::create_topics_request::CreatableTopic;
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest, MetadataRequest, ProduceRequest, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;
    use crate::api;

    fn name(name: &'static str) -> TopicName {
        TopicName(StrBytes::from_static_str(name))
    }

    fn fetch() -> FetchRequest {
        // Numbers that are larger than the request, where lengths could be as well.
        let partition = FetchPartition::default().with_fetch_offset(7).with_partition_max_bytes(i32::MAX);
        let topic = FetchTopic::default().with_topic(name("topic")).with_partitions(vec![partition.clone(), partition]);
        FetchRequest::default().with_max_wait_ms(30_000).with_max_bytes(i32::MAX).with_topics(vec![topic])
    }

    fn produce() -> ProduceRequest {
        let partition = PartitionProduceData::default().with_records(Some(Bytes::from_static(&[7; 300])));
        let topic = TopicProduceData::default().with_name(name("topic")).with_partition_data(vec![partition]);
        ProduceRequest::default().with_timeout_ms(30_000).with_topic_data(vec![topic.clone(), topic])
    }

    fn create() -> CreateTopicsRequest {
        let topic = CreatableTopic::default().with_name(name("topic")).with_num_partitions(3);
        CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![topic])
    }

    fn encoded(request: &impl Encodable, version: i16) -> Bytes {
        let mut out = BytesMut::new();
        request.encode(&mut out, version).unwrap();
        out.freeze()
    }

    fn whole<R: Decodable>(api: ApiKey, version: i16, bytes: Bytes) -> Result<R, DecodeError> {
        body(api, version, bytes, MAX_READS).map(|(request, _)| request)
    }

    #[test]
    fn what_is_written_is_read() {
        for version in api::fetch::VERSIONS {
            assert_eq!(whole(ApiKey::Fetch, version, encoded(&fetch(), version)), Ok(fetch()));
        }
        for version in 3..=8 {
            assert_eq!(whole(ApiKey::Produce, version, encoded(&produce(), version)), Ok(produce()));
        }
        for version in 2..=7 {
            assert_eq!(whole(ApiKey::CreateTopics, version, encoded(&create(), version)), Ok(create()));
        }
        let all = MetadataRequest::default().with_topics(None);
        assert_eq!(whole(ApiKey::Metadata, 12, encoded(&all, 12)), Ok(all));
    }

    #[test]
    fn a_request_that_ends_early_or_late_is_refused() {
        let bytes = encoded(&fetch(), 12);
        for length in 0..bytes.len() {
            assert!(whole::<FetchRequest>(ApiKey::Fetch, 12, bytes.slice(..length)).is_err(), "{length} bytes");
        }
        let longer: Bytes = [&bytes[..], b"x"].concat().into();
        let rest = DecodeError::Rest { api: ApiKey::Fetch, version: 12, bytes: 1 };
        assert_eq!(whole::<FetchRequest>(ApiKey::Fetch, 12, longer), Err(rest));
    }
}
