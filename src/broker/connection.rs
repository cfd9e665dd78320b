//! One client's connection: frames in, requests to the broker's loop, answers out in the order of the requests.
//!
//! A client may send the next request before the last is answered. It is read when that answer is written, as in Kafka, so that a fetch
//! that waits holds up what was asked after it, and a connection never has more than one request and one answer in memory. Whoever
//! sends something else than requests has its connection closed.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api::{self, Decoded};
use crate::budget::{Account, FREE_BYTES, Hold};
use crate::decode::{DecodeError, MAX_READS, MIN_REQUEST_BYTES, READ_BYTES};
use crate::pieces::PIECE_BYTES;
use crate::reply::Answer;
use crate::state::{Call, State, Work};

/// A request other than Produce, in bytes: no records are in it. A thousand offsets with the longest metadata that Kafka allows
/// take as much.
const MAX_PLAIN_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// What is read at once of small requests, in bytes.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// So much of a large request is made room for at once, in bytes: a batch of the usual size and what is around it, so that requests
/// of that size do not wait for each other half-way. Memory is taken as the bytes come.
const FIRST_STEP_BYTES: usize = 1024 * 1024 + 64 * 1024;

/// Numbers and texts of a request that is small.
const FREE_READS: usize = FREE_BYTES / READ_BYTES;

/// A request for the broker's loop.
pub(crate) struct Request {
    peer: SocketAddr,
    version: i16,
    client_id: String,
    frame_bytes: usize,
    work: Work,
}

impl Request {
    /// Called by the broker's loop only.
    pub(crate) fn carry_out(self, state: &mut State) {
        let Self { peer, version, client_id, frame_bytes, work } = self;
        work(state, &Call { now: Instant::now(), version, client_id, client_host: peer.ip(), frame_bytes });
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
    #[error("others need the memory that this connection held, and it was the least active")]
    Idle,
}

/// Serves a client until it goes, or something is wrong with it, or others need the memory that it holds and does not use.
pub(crate) async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    calls: mpsc::Sender<Request>,
    account: Arc<Account>,
    max_frame_bytes: usize,
) -> Result<(), ConnectionError> {
    // Clients wait for small answers.
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.split();
    let reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
    tokio::select! {
        biased;
        served = answer_requests(reader, writer, peer, &calls, &account, max_frame_bytes) => served,
        () = account.told_to_go() => Err(ConnectionError::Idle),
    }
}

async fn answer_requests(
    mut reader: impl AsyncBufRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    peer: SocketAddr,
    calls: &mpsc::Sender<Request>,
    account: &Arc<Account>,
    max_frame_bytes: usize,
) -> Result<(), ConnectionError> {
    while let Some((frame, held)) = read_frame(&mut reader, account, max_frame_bytes).await? {
        let Decoded { version, mut client_id, mut work, mut answer, frame_bytes } =
            decode(frame, held, account).await?;
        let (frame, _held) = loop {
            // Who asks once more has said who it is.
            let request = Request { peer, version, client_id: std::mem::take(&mut client_id), frame_bytes, work };
            calls.send(request).await.map_err(|_| ConnectionError::Ending)?;
            let answered = tokio::select! {
                biased;
                answered = answer => answered,
                () = end(&mut reader) => return Ok(()),
            };
            match answered.map_err(|_| ConnectionError::NoAnswer)? {
                Answer::Nothing => break (BytesMut::new(), None),
                Answer::Frame(frame, held) => break (frame, held),
                Answer::Unfinished(finish, mut held) => {
                    let frame = finish().map_err(|reason| ConnectionError::Encode { reason })?;
                    if let Some(held) = &mut held {
                        held.resize(frame.len());
                    }
                    break (frame, held);
                }
                Answer::NeedsRoom(bytes, again) => (work, answer) = again(account.reserve(bytes).await),
            }
        };
        if frame.len() <= FREE_BYTES {
            writer.write_all(&frame).await?;
        } else {
            write_large(&mut writer, frame, account).await?;
        }
    }
    Ok(())
}

/// Writes an answer of which a client may read nothing for long. What it does not take at once waits in pieces, for the same reason as
/// large requests come in them.
async fn write_large(
    writer: &mut (impl AsyncWrite + Unpin),
    frame: BytesMut,
    account: &Arc<Account>,
) -> Result<(), ConnectionError> {
    let mut written = 0;
    let at_once = poll_fn(|context| {
        while written < frame.len() {
            match Pin::new(&mut *writer).poll_write(context, &frame[written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero))),
                Poll::Ready(Ok(bytes)) => written += bytes,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    });
    at_once.await?;
    let mut rest = VecDeque::new();
    for part in frame[written..].chunks(PIECE_BYTES) {
        let mut piece = account.piece();
        piece.bytes.put_slice(part);
        rest.push_back(piece);
    }
    drop(frame);
    while let Some(piece) = rest.pop_front() {
        writer.write_all(&piece.bytes).await?;
        account.moved();
    }
    Ok(())
}

/// Waits until the client has gone. One that has sent its next request already is not looked at further.
async fn end(reader: &mut (impl AsyncBufRead + Unpin)) {
    if reader.fill_buf().await.is_ok_and(|next| !next.is_empty()) {
        std::future::pending().await
    }
}

/// Reads a request, which may take more memory than its bytes. What is small is read at once.
async fn decode(frame: Bytes, mut held: Option<Hold>, account: &Arc<Account>) -> Result<Decoded, ConnectionError> {
    let decode = |held: &mut Option<Hold>, max_reads| {
        // What a request claims to have is allocated, though not touched; so one large one at a time.
        let _alone = (frame.len() > FREE_BYTES).then(|| account.alone());
        api::decode(frame.clone(), account, held, max_reads)
    };
    match decode(&mut held, FREE_READS) {
        Err(DecodeError::Reads { .. }) => {}
        decoded => return Ok(decoded?),
    }
    hold(&mut held, frame.len().min(MAX_READS) * READ_BYTES, account).await;
    Ok(decode(&mut held, MAX_READS)?)
}

/// Holds so many bytes more.
async fn hold(held: &mut Option<Hold>, more: usize, account: &Arc<Account>) {
    let more = account.reserve(more).await;
    match held {
        Some(held) => held.add(more),
        None => *held = Some(more),
    }
}

/// The next request; none if the client has gone.
async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
    account: &Arc<Account>,
    max_frame_bytes: usize,
) -> Result<Option<(Bytes, Option<Hold>)>, ConnectionError> {
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
    if bytes <= FREE_BYTES {
        let mut frame = Vec::with_capacity(bytes);
        frame.put_i16(key);
        while frame.len() < bytes {
            let missing = bytes - frame.len();
            some(reader.read_buf(&mut (&mut frame).limit(missing)).await?)?;
        }
        return Ok(Some((frame.into(), None)));
    }
    let (mut held, mut pieces) = (None, vec![account.piece()]);
    let (mut so_far, mut held_bytes) = (size_of::<i16>(), 0);
    pieces[0].bytes.put_i16(key);
    while so_far < bytes {
        if so_far >= held_bytes {
            // Twice as much each time, and in the end what it takes.
            let larger = bytes.min(FIRST_STEP_BYTES.max(2 * so_far));
            hold(&mut held, larger - held_bytes, account).await;
            held_bytes = larger;
        }
        if pieces.last().is_none_or(|last| last.bytes.len() == PIECE_BYTES) {
            account.moved();
            pieces.push(account.piece());
        }
        let Some(last) = pieces.last_mut() else { continue };
        let missing = (held_bytes - so_far).min(PIECE_BYTES - last.bytes.len());
        so_far += some(reader.read_buf(&mut (&mut last.bytes).limit(missing)).await?)?;
    }
    // Twice in memory for a moment; so one at a time.
    let _alone = account.alone();
    let mut frame = Vec::with_capacity(bytes);
    pieces.drain(..).for_each(|piece| frame.extend_from_slice(&piece.bytes));
    Ok(Some((frame.into(), held)))
}

/// What was read, unless the client has gone within a request.
fn some(read: usize) -> io::Result<usize> {
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
}
