//! A WebSocket after its upgrade: whole text messages in, frames out, signs of life, and an end with a reason.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message as Frame, Utf8Bytes, error::CapacityError};

use crate::ServerConfig;

/// Requests have some 200 bytes; the buffer is held for as long as the socket is open, and it is the largest part of what an
/// idle player costs.
const READ_BUFFER_BYTES: usize = 2 * 1024;

/// Twice the largest answer (the start frame of a game with as many seats as there can be heroes in a roster of hundreds).
const MAX_WRITE_BUFFER_BYTES: usize = 128 * 1024;

/// For how long the peer may take to end the connection once it has been told why.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a client sends.
#[derive(Debug)]
pub(crate) enum Message {
    /// A request.
    Text(Utf8Bytes),
    /// Nothing that this API knows.
    Binary,
}

/// Why a session is over.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer said so, or its connection is gone.
    Left,
    /// We say so; the peer is told the reason if it still listens.
    Closed(CloseCode, Cow<'static, str>),
    /// As above, and what comes from the peer cannot be read as frames any more.
    Broken(CloseCode, Cow<'static, str>),
}

impl End {
    /// The server stops.
    pub(crate) fn shutting_down() -> Self {
        Self::Closed(CloseCode::Away, "the server is shutting down".into())
    }
}

/// One client's connection to one endpoint.
pub(crate) struct Socket {
    frames: WebSocketStream<TcpStream>,
    /// When the peer last sent anything at all.
    heard: Instant,
    /// When it was asked for a sign of life that it has not given yet.
    asked: Option<Instant>,
    ping_interval: Duration,
    pong_timeout: Duration,
    send_timeout: Duration,
    max_frame_bytes: usize,
}

impl Socket {
    /// Takes over a connection whose upgrade has been answered; `early` is what the peer sent behind its request.
    pub(crate) async fn new(io: TcpStream, early: Bytes, config: &ServerConfig) -> Self {
        let limits = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
            .max_message_size(Some(config.max_frame_bytes))
            .max_frame_size(Some(config.max_frame_bytes));
        let frames = if early.is_empty() {
            WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await
        } else {
            WebSocketStream::from_partially_read(io, early.into(), Role::Server, Some(limits)).await
        };
        Self {
            frames,
            heard: Instant::now(),
            asked: None,
            ping_interval: config.ping_interval,
            pong_timeout: config.pong_timeout,
            send_timeout: config.send_timeout,
            max_frame_bytes: config.max_frame_bytes,
        }
    }

    /// The next message. Asks a silent peer for a sign of life meanwhile.
    ///
    /// # Cancellation
    /// Safe: no message is lost.
    pub(crate) async fn next(&mut self) -> Result<Message, End> {
        loop {
            let due = match self.asked {
                Some(asked) => asked + self.pong_timeout,
                None => self.heard + self.ping_interval,
            };
            tokio::select! {
                // What lies in the socket already counts, however late the session comes to read it.
                biased;
                frame = self.frames.next() => {
                    self.heard = Instant::now();
                    self.asked = None;
                    match frame {
                        Some(Ok(Frame::Text(text))) => return Ok(Message::Text(text)),
                        Some(Ok(Frame::Binary(_))) => return Ok(Message::Binary),
                        Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                        Some(Ok(Frame::Close(_) | Frame::Frame(_))) | None => return Err(End::Left),
                        Some(Err(error)) => return Err(self.broken(error)),
                    }
                }
                () = sleep_until(due) => {
                    if self.asked.is_some() {
                        let reason = format!("no answer to a ping within {} ms", self.pong_timeout.as_millis());
                        return Err(End::Closed(CloseCode::Protocol, reason.into()));
                    }
                    self.asked = Some(Instant::now());
                    self.write(Frame::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    /// Sends a frame; a peer that does not read it in time is at its end.
    pub(crate) fn send(&mut self, text: Utf8Bytes) -> impl Future<Output = Result<(), End>> {
        self.write(Frame::Text(text))
    }

    async fn write(&mut self, frame: Frame) -> Result<(), End> {
        match timeout(self.send_timeout, self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left),
            Err(_) => {
                let reason = format!("nothing was read for {} ms", self.send_timeout.as_millis());
                Err(End::Closed(CloseCode::Policy, reason.into()))
            }
        }
    }

    fn broken(&self, error: tungstenite::Error) -> End {
        match error {
            tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                End::Broken(CloseCode::Size, format!("a message has at most {} bytes", self.max_frame_bytes).into())
            }
            tungstenite::Error::Utf8(_) => End::Broken(CloseCode::Invalid, "a text frame has to be UTF-8".into()),
            tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)
            | tungstenite::Error::Io(_) => End::Left,
            error => {
                let mut reason = error.to_string();
                reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
                End::Broken(CloseCode::Protocol, reason.into())
            }
        }
    }

    /// Ends the connection, with the reason if there is one; bounded by [`CLOSE_TIMEOUT`].
    pub(crate) async fn close(mut self, end: End) {
        let farewell = async {
            match end {
                End::Left => self.await_the_end().await,
                End::Closed(code, reason) => {
                    if self.tell(code, reason).await {
                        self.await_the_end().await;
                    }
                }
                End::Broken(code, reason) => {
                    if self.tell(code, reason).await && self.frames.get_mut().shutdown().await.is_ok() {
                        // Unread bytes at the close would reset the connection and take the reason away from the peer.
                        let mut waste = vec![0; READ_BUFFER_BYTES];
                        while matches!(self.frames.get_mut().read(&mut waste).await, Ok(1..)) {}
                    }
                }
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, farewell).await;
    }

    async fn tell(&mut self, code: CloseCode, reason: Cow<'static, str>) -> bool {
        self.frames.close(Some(CloseFrame { code, reason: Utf8Bytes::from(reason.into_owned()) })).await.is_ok()
    }

    /// Reads on until both close frames have passed, which also sends ours if the peer's came first.
    async fn await_the_end(&mut self) {
        while matches!(self.frames.next().await, Some(Ok(_))) {}
    }
}

/// A close frame is a control frame: 125 bytes, two of them for the code.
const MAX_REASON_BYTES: usize = 123;
