//! One client's connection: frames in, requests to the broker's loop, answers out in the order of the requests.
//!
//! A client may send the next request before the last is answered, and its answers still come in order, so that a fetch that waits
//! holds up what was asked after it, as in Kafka. Whoever sends something else than requests has its connection closed.

use std::io;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::Encodable;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::api::{self, Decoded};
use crate::decode::{DecodeError, MIN_REQUEST_BYTES};
use crate::reply::Answer;
use crate::state::{Call, State, Work};

/// Requests of one connection that are not answered yet; the next is not read before one of them is. Java's clients have five
/// on their way, others as many as fit.
const MAX_IN_FLIGHT: usize = 16;

/// A request other than Produce, in bytes: no records are in it. A thousand offsets with the longest metadata that Kafka allows
/// take as much.
const MAX_PLAIN_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// What is read at once of small requests, in bytes.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// The memory for answers that a connection keeps for the next one, in bytes.
const KEPT_WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// A request for the broker's loop.
pub(crate) struct Request {
    peer: SocketAddr,
    version: i16,
    client_id: String,
    work: Work,
}

impl Request {
    /// Called by the broker's loop only.
    pub(crate) fn carry_out(self, state: &mut State) {
        let Self { peer, version, client_id, work } = self;
        work(state, &Call { now: Instant::now(), version, client_id, client_host: peer.ip() });
    }
}

/// Why a connection ends other than by the client's wish.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error(
        "a frame of {length} bytes, and {limit} are the limit; does the client speak Kafka's protocol, and without TLS?"
    )]
    Frame { length: i32, limit: usize },
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the answer cannot be written: {reason}")]
    Encode { reason: String },
    #[error("the request was refused, and its client awaits no answer")]
    NoAnswer,
    #[error("the broker is ending")]
    Ending,
}

/// An answer that is due, after all that came before it.
struct Due {
    correlation_id: i32,
    header_version: i16,
    answer: oneshot::Receiver<Answer>,
}

/// Serves a client until it goes, or something is wrong with it.
pub(crate) async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    calls: mpsc::Sender<Request>,
    max_frame_bytes: usize,
) -> Result<(), ConnectionError> {
    // Clients wait for small answers.
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.split();
    let reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
    let (due, answers) = mpsc::channel(MAX_IN_FLIGHT);
    tokio::select! {
        read = read_requests(reader, peer, &calls, &due, max_frame_bytes) => read,
        written = write_answers(writer, answers) => written,
    }
}

async fn read_requests(
    mut reader: impl AsyncRead + Unpin,
    peer: SocketAddr,
    calls: &mpsc::Sender<Request>,
    due: &mpsc::Sender<Due>,
    max_frame_bytes: usize,
) -> Result<(), ConnectionError> {
    loop {
        let place = due.reserve().await.map_err(|_| ConnectionError::Ending)?;
        let Some(frame) = read_frame(&mut reader, max_frame_bytes).await? else {
            return Ok(());
        };
        let Decoded { version, correlation_id, client_id, work, answer, response_header_version } = api::decode(frame)?;
        place.send(Due { correlation_id, header_version: response_header_version, answer });
        let request = Request { peer, version, client_id, work };
        calls.send(request).await.map_err(|_| ConnectionError::Ending)?;
    }
}

/// The next request; none if the client has gone.
async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
    max_frame_bytes: usize,
) -> Result<Option<Bytes>, ConnectionError> {
    let length = match reader.read_i32().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    let bounded = |limit| usize::try_from(length).ok().filter(|bytes| *bytes <= limit);
    let bytes = bounded(max_frame_bytes).ok_or(ConnectionError::Frame { length, limit: max_frame_bytes })?;
    if bytes < MIN_REQUEST_BYTES {
        return Err(DecodeError::Short { bytes }.into());
    }
    let key = reader.read_i16().await?;
    let limit = if key == ApiKey::Produce as i16 { max_frame_bytes } else { MAX_PLAIN_FRAME_BYTES };
    if bytes > limit {
        return Err(ConnectionError::Frame { length, limit });
    }
    let mut frame = BytesMut::with_capacity(bytes);
    frame.put_i16(key);
    while frame.len() < bytes {
        let missing = bytes - frame.len();
        if reader.read_buf(&mut (&mut frame).limit(missing)).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(Some(frame.freeze()))
}

async fn write_answers(
    mut writer: impl AsyncWrite + Unpin,
    mut answers: mpsc::Receiver<Due>,
) -> Result<(), ConnectionError> {
    let mut out = BytesMut::new();
    while let Some(Due { correlation_id, header_version, answer }) = answers.recv().await {
        let answer = answer.await.map_err(|_| ConnectionError::NoAnswer)?;
        out.clear();
        out.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        header
            .encode(&mut out, header_version)
            .map_err(|error| ConnectionError::Encode { reason: error.to_string() })?;
        let header_end = out.len();
        answer(&mut out).map_err(|reason| ConnectionError::Encode { reason })?;
        if out.len() == header_end {
            continue;
        }
        let length = i32::try_from(out.len() - size_of::<i32>());
        let length =
            length.map_err(|_| ConnectionError::Encode { reason: format!("{} bytes are too many", out.len()) })?;
        out[..size_of::<i32>()].copy_from_slice(&length.to_be_bytes());
        writer.write_all(&out).await?;
        if out.capacity() > KEPT_WRITE_BUFFER_BYTES {
            out = BytesMut::new();
        }
    }
    Ok(())
}
