//! One connection to one broker, for the requests that rskafka does not know.
//!
//! A frame is a length (int32) and as many bytes; both directions are bounded before anything is allocated. One request
//! is on its way at a time, so an answer with another correlation id means that the two sides have lost step.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader, SaslHandshakeRequest};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

pub use self::peer::Protocol;
use crate::KafkaConfig;
use crate::fetch::{Budget, Permit, Share};

mod peer;

/// The largest frame of either direction. Metadata of a thousand topics with a hundred partitions each takes some 5 MiB;
/// the first bytes of an HTTP answer, read as a length, are far above.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// The oldest that tells the mechanisms to whoever does not know them.
const SASL_HANDSHAKE: i16 = 1;
/// Brokers answer at once, since nothing is to be looked up.
const SASL_HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);

/// What is done seldom, compiled once and here. An async function is compiled into each crate that awaits it, with all that it awaits.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
    /// What answers take their memory from, and what the last one took.
    budget: Option<Budget>,
    memory: Option<Permit>,
    /// Set while an answer is awaited, so that a cancelled call is noticed by the next one.
    awaiting: bool,
    /// The request that was answered last.
    answered: Option<ApiKey>,
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
    /// Whoever listens there is no Kafka listener that we can talk to.
    #[error("{broker} speaks {protocol}; {}", .protocol.advice())]
    Speaks {
        /// The `host:port`.
        broker: String,
        /// What it speaks.
        protocol: Protocol,
    },
    /// The listener wants to know first who we are.
    #[error(
        "Kafka broker {broker} asks for SASL (it takes {}), and superhero does not authenticate: name a PLAINTEXT listener",
        .mechanisms.join(", ")
    )]
    Sasl {
        /// The broker's `host:port`.
        broker: String,
        /// What it would take.
        mechanisms: Vec<String>,
    },
    /// The broker answered ApiVersions and nothing else.
    #[error(
        "Kafka broker {broker} closed the connection at {api}, right after ApiVersions, as a listener that asks for SASL does: \
         name a PLAINTEXT listener, if the broker was not just stopping"
    )]
    ClosedAfterVersions {
        /// The broker's `host:port`.
        broker: String,
        /// The request's name.
        api: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl WireError {
    /// Whether no other attempt at this address will fare better.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Speaks { .. } | Self::Sasl { .. })
    }

    /// False only where nothing of the request has left this process.
    pub fn may_have_been_sent(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Encode { .. } | Self::Unsupported { .. } | Self::OutOfStep { .. } => false,
            Self::Lost { .. }
            | Self::Timeout { .. }
            | Self::Answer { .. }
            | Self::Speaks { .. }
            | Self::Sasl { .. }
            | Self::ClosedAfterVersions { .. } => true,
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
                budget: None,
                memory: None,
                awaiting: false,
                answered: None,
            }),
            Err(source) => Err(WireError::Connect { broker: broker.to_owned(), source }),
        }
    }

    /// Takes the memory for its answers out of the budget, and answers as large as that lets them be, in place of [`MAX_FRAME_BYTES`].
    ///
    /// An answer that waits for its memory does so for as long as it takes, which no request's time counts.
    pub(crate) fn sharing(self, budget: Budget) -> Self {
        Self { max_answer_bytes: budget.max_answer_bytes(), budget: Some(budget), ..self }
    }

    /// What the last answer has taken of the budget.
    pub(crate) fn take_memory(&mut self) -> Option<Permit> {
        self.memory.take()
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
        let deadline = Instant::now() + limit;
        let answer = match self.ask(api, &frame, limit).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.explain(error, deadline).await),
        };
        let response = decode::<R>(version, self.correlation_id, answer).map_err(|reason| WireError::Answer {
            broker: self.broker.clone(),
            api,
            reason,
        })?;
        self.awaiting = false;
        self.answered = ApiKey::try_from(R::KEY).ok();
        Ok(response)
    }

    /// The same for a request of whatever kind, as a frame.
    async fn ask(&mut self, api: &'static str, frame: &[u8], limit: Duration) -> Result<Bytes, WireError> {
        let begun = timeout_at(Instant::now() + limit, begin(&mut self.stream, frame, self.max_answer_bytes)).await;
        let length = self.outcome(api, limit, begun)?;
        // That of the answer before goes first, since it may be what is waited for.
        self.memory = None;
        if let Some(budget) = &self.budget {
            self.memory = Some(budget.take(Share::Answers, length).await);
        }
        let read = timeout_at(Instant::now() + limit, finish(&mut self.stream, length)).await;
        self.outcome(api, limit, read)
    }

    fn outcome<T>(
        &self,
        api: &'static str,
        limit: Duration,
        outcome: Result<Result<T, Broken>, Elapsed>,
    ) -> Result<T, WireError> {
        let broker = || self.broker.clone();
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Broken::Io(source))) => Err(WireError::Lost { broker: broker(), api, source }),
            Ok(Err(Broken::Length { bytes, limit })) => Err(match Protocol::of(bytes) {
                Some(protocol) => WireError::Speaks { broker: broker(), protocol },
                None => {
                    let length = i32::from_be_bytes(bytes);
                    let advice = if self.budget.is_some() { "; give more memory to fetches" } else { "" };
                    let reason = format!("a frame of {length} bytes, and {limit} are the limit{advice}");
                    WireError::Answer { broker: broker(), api, reason }
                }
            }),
            Err(_) => Err(WireError::Timeout { broker: broker(), api, limit_ms: limit.as_millis() }),
        }
    }

    /// The error, or what it comes from where that can be found out: who hangs up, or is silent, before it has shown that it is a
    /// broker, or before it was asked for anything but its versions. Only of the first does that take longer than the request might.
    fn explain(&self, error: WireError, deadline: Instant) -> BoxFuture<'_, WireError> {
        Box::pin(async move {
            match (self.answered, error) {
                (None, error @ (WireError::Lost { .. } | WireError::Timeout { .. })) => {
                    match Protocol::spoken_at(&self.broker).await {
                        Some(protocol) => WireError::Speaks { broker: self.broker.clone(), protocol },
                        None => error,
                    }
                }
                (Some(ApiKey::ApiVersions), WireError::Lost { broker, api, source }) => {
                    let deadline = deadline.min(Instant::now() + SASL_HANDSHAKE_LIMIT);
                    match timeout_at(deadline, self.sasl_mechanisms()).await {
                        Ok(Ok(Some(mechanisms))) => WireError::Sasl { broker, mechanisms },
                        Ok(Ok(None)) => WireError::Lost { broker, api, source },
                        Ok(Err(_)) | Err(_) => WireError::ClosedAfterVersions { broker, api, source },
                    }
                }
                (_, error) => error,
            }
        })
    }

    /// What the broker takes to know who we are; none if it does not want to, or is gone. Asked over another connection.
    async fn sasl_mechanisms(&self) -> Result<Option<Vec<String>>, String> {
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
        let frame = self.encode(SASL_HANDSHAKE, &request)?;
        let Ok(mut stream) = TcpStream::connect(&self.broker).await else { return Ok(None) };
        let answer = exchange(&mut stream, &frame, MAX_FRAME_BYTES).await.map_err(|_| "no answer")?;
        let answer = decode::<SaslHandshakeRequest>(SASL_HANDSHAKE, self.correlation_id, answer)?;
        match ResponseError::try_from_code(answer.error_code) {
            None | Some(ResponseError::UnsupportedSaslMechanism) => {
                Ok(Some(answer.mechanisms.iter().map(ToString::to_string).collect()))
            }
            Some(_) => Ok(None),
        }
    }

    /// Checks that the broker serves each `(request, version)` of `needed`.
    ///
    /// # Errors
    ///
    /// [`WireError::Unsupported`] names the first that it does not serve; others as for [`call`](Self::call).
    pub fn require<'a>(
        &'a mut self,
        needed: &'a [(ApiKey, i16)],
        limit: Duration,
    ) -> BoxFuture<'a, Result<(), WireError>> {
        Box::pin(async move {
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
        })
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
}

/// Why no frame comes back.
enum Broken {
    Io(io::Error),
    /// The first bytes are no length that is allowed.
    Length {
        bytes: [u8; 4],
        limit: usize,
    },
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Io(io::Error::new(error.kind(), "the other side closed it")),
            _ => Self::Io(error),
        }
    }
}

/// Sends a frame and reads one of at most `limit` bytes.
async fn exchange(stream: &mut TcpStream, frame: &[u8], limit: usize) -> Result<Bytes, Broken> {
    let length = begin(stream, frame, limit).await?;
    finish(stream, length).await
}

/// Sends a frame and reads the length of one of at most `limit` bytes.
async fn begin(stream: &mut TcpStream, frame: &[u8], limit: usize) -> Result<usize, Broken> {
    stream.write_all(frame).await?;
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await?;
    let length = usize::try_from(i32::from_be_bytes(bytes)).ok().filter(|length| *length <= limit);
    length.ok_or(Broken::Length { bytes, limit })
}

/// Reads what follows the length.
async fn finish(stream: &mut TcpStream, length: usize) -> Result<Bytes, Broken> {
    let mut answer = BytesMut::with_capacity(length);
    let mut rest = stream.take(length as u64);
    while answer.len() < length {
        if rest.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(answer.freeze())
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
        Ok(ApiKey::SaslHandshake) => "SaslHandshake",
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
            (&b"SSH-2.0-OpenSSH"[..], "a frame of 1397966893 bytes, and 16777216 are the limit"),
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
    async fn who_speaks_another_protocol_is_told_to() {
        for (answer, expected) in [
            (
                &b"\x15\x03\x03\0\x02\x02\x46"[..],
                "speaks TLS; superhero speaks plaintext only: name a PLAINTEXT listener",
            ),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP; name the host and port of a Kafka broker"),
        ] {
            let error = heartbeat(answer).await.unwrap_err();
            assert!(error.is_for_good() && error.to_string().contains(expected), "{error} lacks {expected:?}");
        }
    }

    /// A listener that deals with each connection as `serve` says, by its number and its first bytes; and its address.
    async fn listener(serve: fn(usize, Vec<u8>) -> Vec<u8>) -> (String, tokio::task::JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = vec![0; 1024];
                let length = stream.read(&mut asked).await.unwrap();
                asked.truncate(length);
                stream.write_all(&serve(number, asked)).await.unwrap();
            }
        });
        (address, server)
    }

    async fn connected(address: &str) -> Connection {
        Connection::open(address, &KafkaConfig::new(address, "test").unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn who_hangs_up_is_asked_what_he_speaks() {
        type Serve = fn(usize, Vec<u8>) -> Vec<u8>;
        let cases: [(Serve, Option<Protocol>); 3] = [
            (
                |_, asked| if asked[0] == 0x16 { b"\x15\x03\x03\0\x02\x02\x32".to_vec() } else { Vec::new() },
                Some(Protocol::Tls),
            ),
            (
                |_, asked| {
                    if asked.starts_with(b"PING\r\n") {
                        b"-NOAUTH Authentication required.".to_vec()
                    } else {
                        Vec::new()
                    }
                },
                Some(Protocol::Redis),
            ),
            (|_, _| Vec::new(), None),
        ];
        for (serve, expected) in cases {
            let (address, _server) = listener(serve).await;
            let error = connected(&address).await.require(&[], LIMIT).await.unwrap_err();
            match expected {
                Some(protocol) => {
                    assert!(matches!(error, WireError::Speaks { protocol: p, .. } if p == protocol), "{error}")
                }
                None => assert!(matches!(error, WireError::Lost { .. }), "{error}"),
            }
        }
    }

    /// No error, and no api at all.
    const VERSIONS: &[u8] = b"\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0";

    #[tokio::test]
    async fn a_listener_that_asks_for_sasl_is_told_to() {
        type Serve = fn(usize, Vec<u8>) -> Vec<u8>;
        let cases: [(Serve, &str); 3] = [
            (
                |_, _| VERSIONS.to_vec(),
                "closed the connection at Heartbeat, right after ApiVersions, as a listener that asks for SASL",
            ),
            (
                |number, _| match number {
                    0 => VERSIONS.to_vec(),
                    // The mechanism is one of these.
                    _ => b"\0\0\0\x12\0\0\0\x02\0\0\0\0\0\x02\0\x01A\0\x03OUR".to_vec(),
                },
                "asks for SASL (it takes A, OUR), and superhero does not authenticate: name a PLAINTEXT listener",
            ),
            (
                |number, _| match number {
                    0 => VERSIONS.to_vec(),
                    // It is not in a state for that: the listener does not ask for SASL.
                    _ => b"\0\0\0\x0a\0\0\0\x02\0\x22\0\0\0\0".to_vec(),
                },
                "lost the connection",
            ),
        ];
        for (serve, expected) in cases {
            let (address, _server) = listener(serve).await;
            let mut connection = connected(&address).await;
            connection.require(&[], LIMIT).await.unwrap();
            let error = connection.call(3, &HeartbeatRequest::default(), LIMIT).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error} lacks {expected:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_an_answer_is_lost() {
        let error = heartbeat(b"\0\0\0\x0a\0\0").await.unwrap_err();
        assert!(matches!(error, WireError::Lost { .. }) && error.may_have_been_sent(), "{error}");
    }

    #[tokio::test]
    async fn an_answer_does_not_wait_for_the_memory_of_the_one_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connection = connected(&listener.local_addr().unwrap().to_string()).await;
        connection = connection.sharing(Budget::new(Budget::MIN_BYTES));
        let largest = i32::try_from(connection.max_answer_bytes).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        // The second answer is as large as one may be, and ends after its length.
        stream.write_all(&[VERSIONS, &largest.to_be_bytes()].concat()).await.unwrap();
        connection.require(&[], LIMIT).await.unwrap();
        let request = HeartbeatRequest::default();
        let asking = connection.call(3, &request, Duration::from_millis(200));
        let error = tokio::time::timeout(LIMIT, asking).await.unwrap().unwrap_err();
        assert!(matches!(error, WireError::Timeout { .. }), "{error}");
        assert_eq!(connection.take_memory().map(|memory| memory.bytes()), Some(connection.max_answer_bytes));
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
