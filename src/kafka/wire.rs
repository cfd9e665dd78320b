//! One connection to one broker, for the requests that rskafka does not know.
//!
//! A frame is a length (int32) and as many bytes; both directions are bounded before anything is allocated. One request
//! is on its way at a time, so an answer with another correlation id means that the two sides have lost step.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::KafkaConfig;

/// The largest frame of either direction. Metadata of a thousand topics with a hundred partitions each takes some 5 MiB;
/// the first bytes of an HTTP answer, read as a length, are far above.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// A connection to one broker.
///
/// # Cancellation
///
/// A dropped [`call`](Self::call) leaves an answer on its way. The connection notices and refuses further calls with
/// [`WireError::OutOfStep`]; open another.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    broker: String,
    client_id: StrBytes,
    correlation_id: i32,
    max_answer_bytes: usize,
    /// Set while an answer is awaited, so that a cancelled call is noticed by the next one.
    awaiting: bool,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No connection; nothing was sent.
    #[error("cannot connect to Kafka broker {broker}: {source}; check the address and that the broker runs")]
    Connect {
        /// The broker's `host:port`.
        broker: String,
        /// What the system says.
        source: io::Error,
    },
    /// The request cannot be written in its version, or is too large; nothing was sent.
    #[error("cannot encode {api} version {version} for Kafka broker {broker}: {reason}")]
    Encode {
        /// The broker's `host:port`.
        broker: String,
        /// The request's name.
        api: &'static str,
        /// The request's version.
        version: i16,
        /// What the codec says.
        reason: String,
    },
    /// The broker does not serve what is asked; nothing was sent.
    #[error(
        "Kafka broker {broker} does not serve {api} version {version} (it serves {served}); use a broker of version 2.4 or newer"
    )]
    Unsupported {
        /// The broker's `host:port`.
        broker: String,
        /// The request's name.
        api: &'static str,
        /// The version that is needed.
        version: i16,
        /// The versions that the broker told.
        served: String,
    },
    /// An earlier call was cancelled or failed; nothing was sent.
    #[error("the connection to Kafka broker {broker} is out of step after an unfinished request; open another")]
    OutOfStep {
        /// The broker's `host:port`.
        broker: String,
    },
    /// The connection broke; the request may have been carried out.
    #[error("lost the connection to Kafka broker {broker} during {api}: {source}")]
    Lost {
        /// The broker's `host:port`.
        broker: String,
        /// The request's name.
        api: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// No answer in time; the request may have been carried out.
    #[error("Kafka broker {broker} did not answer {api} within {limit_ms} ms")]
    Timeout {
        /// The broker's `host:port`.
        broker: String,
        /// The request's name.
        api: &'static str,
        /// The bound of the call.
        limit_ms: u128,
    },
    /// What came is no answer to the request.
    #[error("Kafka broker {broker} answered {api} with something else: {reason}; is it a Kafka broker?")]
    Answer {
        /// The broker's `host:port`.
        broker: String,
        /// The request's name.
        api: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl WireError {
    /// False only where nothing of the request has left this process.
    pub fn may_have_been_sent(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Encode { .. } | Self::Unsupported { .. } | Self::OutOfStep { .. } => false,
            Self::Lost { .. } | Self::Timeout { .. } | Self::Answer { .. } => true,
        }
    }
}

impl Connection {
    /// Connects to `broker` (`host:port`) within the connect timeout of `config`.
    ///
    /// # Errors
    ///
    /// [`WireError::Connect`], with `TimedOut` when the time is over.
    pub async fn open(broker: &str, config: &KafkaConfig) -> Result<Self, WireError> {
        let connecting = async {
            let stream = TcpStream::connect(broker).await?;
            // Requests are small and each waits for its answer.
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let connected = tokio::time::timeout(config.connect_timeout, connecting).await.unwrap_or_else(|_| {
            let limit_ms = config.connect_timeout.as_millis();
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit_ms} ms")))
        });
        match connected {
            Ok(stream) => Ok(Self {
                stream,
                broker: broker.to_owned(),
                client_id: StrBytes::from_string(config.client_id.clone()),
                correlation_id: 0,
                max_answer_bytes: MAX_FRAME_BYTES,
                awaiting: false,
            }),
            Err(source) => Err(WireError::Connect { broker: broker.to_owned(), source }),
        }
    }

    /// Takes answers of up to so many bytes, in place of [`MAX_FRAME_BYTES`].
    pub fn accepting(self, max_answer_bytes: usize) -> Self {
        Self { max_answer_bytes, ..self }
    }

    /// The broker's `host:port`.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// False when the broker has closed its side or an earlier call has not ended. Asked before a request whose loss
    /// would be hard to tell from its success: brokers close connections that were idle for ten minutes.
    pub fn is_usable(&self) -> bool {
        let mut byte = [0];
        let silent = self.stream.try_read(&mut byte).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        silent && !self.awaiting
    }

    /// Sends `request` and awaits its answer, both within `limit`.
    ///
    /// # Errors
    ///
    /// [`WireError`]; ask it whether the request may have been carried out. After any error but
    /// [`WireError::Encode`] the connection is of no more use.
    pub async fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response, WireError> {
        let api = api_name(R::KEY);
        if self.awaiting {
            return Err(WireError::OutOfStep { broker: self.broker.clone() });
        }
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = self.encode(version, request).map_err(|reason| WireError::Encode {
            broker: self.broker.clone(),
            api,
            version,
            reason,
        })?;
        self.awaiting = true;
        let answer = self.ask(api, &frame, limit).await?;
        let response = decode::<R>(version, self.correlation_id, answer).map_err(|reason| WireError::Answer {
            broker: self.broker.clone(),
            api,
            reason,
        })?;
        self.awaiting = false;
        Ok(response)
    }

    /// The same for a request of whatever kind, as a frame.
    async fn ask(&mut self, api: &'static str, frame: &[u8], limit: Duration) -> Result<Bytes, WireError> {
        match timeout_at(Instant::now() + limit, self.exchange(frame)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) if source.kind() == io::ErrorKind::InvalidData => {
                Err(WireError::Answer { broker: self.broker.clone(), api, reason: source.to_string() })
            }
            Ok(Err(source)) => Err(WireError::Lost { broker: self.broker.clone(), api, source }),
            Err(_) => Err(WireError::Timeout { broker: self.broker.clone(), api, limit_ms: limit.as_millis() }),
        }
    }

    /// Checks that the broker serves each `(request, version)` of `needed`.
    ///
    /// # Errors
    ///
    /// [`WireError::Unsupported`] names the first that it does not serve; others as for [`call`](Self::call).
    pub async fn require(&mut self, needed: &[(ApiKey, i16)], limit: Duration) -> Result<(), WireError> {
        // Version 0 is the one that every broker answers, and all that is asked for is in it.
        let answer = self.call(0, &ApiVersionsRequest::default(), limit).await?;
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            let broker = self.broker.clone();
            return Err(WireError::Answer { broker, api: "ApiVersions", reason: error.to_string() });
        }
        for (key, version) in needed {
            let served = answer.api_keys.iter().find(|served| served.api_key == *key as i16);
            if served.is_none_or(|s| !(s.min_version..=s.max_version).contains(version)) {
                return Err(WireError::Unsupported {
                    broker: self.broker.clone(),
                    api: api_name(*key as i16),
                    version: *version,
                    served: served.map_or("none".into(), |s| format!("{} to {}", s.min_version, s.max_version)),
                });
            }
        }
        Ok(())
    }

    fn encode<R: Request>(&self, version: i16, request: &R) -> Result<Bytes, String> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, R::header_version(version)).map_err(|e| format!("{e:#}"))?;
        request.encode(&mut frame, version).map_err(|e| format!("{e:#}"))?;
        let length = frame.len() - size_of::<i32>();
        if length > MAX_FRAME_BYTES {
            return Err(format!("it takes {length} bytes, and {MAX_FRAME_BYTES} are the limit"));
        }
        frame[..size_of::<i32>()].copy_from_slice(&(length as i32).to_be_bytes());
        Ok(frame.freeze())
    }

    async fn exchange(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        let length = self.stream.read_i32().await?;
        let limit = self.max_answer_bytes;
        let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or_else(|| {
            let reason = format!("a frame of {length} bytes, and {limit} are the limit");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        let mut answer = BytesMut::with_capacity(length);
        let mut rest = (&mut self.stream).take(length as u64);
        while answer.len() < length {
            if rest.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(answer.freeze())
    }
}

fn decode<R: Request>(version: i16, correlation_id: i32, mut answer: Bytes) -> Result<R::Response, String> {
    let header: ResponseHeader = superhero_codec::decode(&mut answer, R::Response::header_version(version))?;
    if header.correlation_id != correlation_id {
        return Err(format!("correlation id {}, expected {correlation_id}", header.correlation_id));
    }
    let response = superhero_codec::decode(&mut answer, version)?;
    match answer.remaining() {
        0 => Ok(response),
        rest => Err(format!("{rest} bytes too many")),
    }
}

fn api_name(key: i16) -> &'static str {
    match ApiKey::try_from(key) {
        Ok(ApiKey::Produce) => "Produce",
        Ok(ApiKey::Fetch) => "Fetch",
        Ok(ApiKey::Metadata) => "Metadata",
        Ok(ApiKey::CreateTopics) => "CreateTopics",
        Ok(ApiKey::ApiVersions) => "ApiVersions",
        Ok(ApiKey::FindCoordinator) => "FindCoordinator",
        Ok(ApiKey::JoinGroup) => "JoinGroup",
        Ok(ApiKey::SyncGroup) => "SyncGroup",
        Ok(ApiKey::Heartbeat) => "Heartbeat",
        Ok(ApiKey::LeaveGroup) => "LeaveGroup",
        Ok(ApiKey::OffsetCommit) => "OffsetCommit",
        Ok(ApiKey::OffsetFetch) => "OffsetFetch",
        _ => "another request",
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kafka_protocol::messages::HeartbeatRequest;
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A listener that reads one request and answers with the bytes given, then closes; and a connection to it.
    async fn answering(answer: &'static [u8]) -> (Connection, tokio::task::JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_i32().await.unwrap();
            stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        let config = KafkaConfig::new(&address, "test").unwrap();
        (Connection::open(&address, &config).await.unwrap(), server)
    }

    async fn heartbeat(answer: &'static [u8]) -> Result<i16, WireError> {
        let (mut connection, _server) = answering(answer).await;
        let answered = connection.call(3, &HeartbeatRequest::default(), LIMIT).await;
        answered.map(|answer| answer.error_code)
    }

    #[tokio::test]
    async fn an_answer_is_read_with_its_error_code() {
        let answer = b"\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\x1b";
        assert_eq!(heartbeat(answer).await.unwrap(), ResponseError::RebalanceInProgress.code());
    }

    #[tokio::test]
    async fn what_is_no_answer_is_said_to_be_none() {
        for (answer, expected) in [
            (&b"HTTP/1.1 400 Bad Request"[..], "a frame of 1213486160 bytes, and 16777216 are the limit"),
            (b"\xff\xff\xff\xff", "a frame of -1 bytes"),
            (b"\0\0\0\x0a\0\0\0\x02\0\0\0\0\0\0", "correlation id 2, expected 1"),
            (b"\0\0\0\x02\0\0", "ot enough bytes"),
            (b"\0\0\0\x0b\0\0\0\x01\0\0\0\0\0\0\0", "1 bytes too many"),
        ] {
            let error = heartbeat(answer).await.unwrap_err();
            assert!(error.may_have_been_sent());
            assert!(matches!(error, WireError::Answer { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error} lacks {expected:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_an_answer_is_lost() {
        let error = heartbeat(b"\0\0\0\x0a\0\0").await.unwrap_err();
        assert!(matches!(error, WireError::Lost { .. }) && error.may_have_been_sent(), "{error}");
    }

    #[tokio::test]
    async fn a_silent_broker_is_given_up_and_the_connection_not_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = KafkaConfig::new(&address, "test").unwrap();
        let mut connection = Connection::open(&address, &config).await.unwrap();
        assert!(connection.is_usable());
        let request = HeartbeatRequest::default();
        let error = connection.call(3, &request, Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, WireError::Timeout { limit_ms: 20, .. }) && error.may_have_been_sent(), "{error}");
        assert!(!connection.is_usable());
        let error = connection.call(3, &request, LIMIT).await.unwrap_err();
        assert!(matches!(error, WireError::OutOfStep { .. }) && !error.may_have_been_sent(), "{error}");
    }

    #[tokio::test]
    async fn a_closed_connection_is_noticed_before_it_is_used() {
        let (connection, mut server) = answering(b"").await;
        server.abort_all();
        server.join_next().await;
        connection.stream.readable().await.unwrap();
        assert!(!connection.is_usable());
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_broker() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let config = KafkaConfig::new(&address, "test").unwrap();
        let error = Connection::open(&address, &config).await.unwrap_err();
        assert!(!error.may_have_been_sent());
        assert!(error.to_string().contains(&address), "{error}");
    }
}
