//! A WebSocket to one endpoint of one server.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use superhero_api::Endpoint;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::ServerAddress;

/// A frame of this protocol is a few hundred bytes, and a process holds some thousands of these buffers.
const READ_BUFFER_BYTES: usize = 8 * 1024;
/// More than all requests of one turn; beyond it a write fails.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
/// The longest message that is taken from a server.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// For the server's half of a closing handshake, after which the connection is dropped as it is.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: WebSocketStream<TcpStream>,
}

/// Why a connection cannot be opened or used any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("cannot reach {server}: {source}")]
    Unreachable { server: ServerAddress, source: std::io::Error },
    #[error("{server} does not shake hands as a game server does: {source}")]
    Handshake { server: ServerAddress, source: Box<tungstenite::Error> },
    #[error("{server} did not shake hands within {} s", after.as_secs_f32())]
    Slow { server: ServerAddress, after: Duration },
    #[error("{0}")]
    WebSocket(#[from] tungstenite::Error),
    #[error("no {what} within {} s", after.as_secs_f32())]
    Timeout { what: &'static str, after: Duration },
    #[error("closed by the server{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Closed { reason: String },
    #[error("the server sent a frame that is not text")]
    NotText,
}

impl Connection {
    /// Connects and shakes hands.
    pub(crate) async fn open(
        server: &ServerAddress,
        endpoint: Endpoint,
        connect_timeout: Duration,
    ) -> Result<Self, ConnectionError> {
        let open = async {
            let unreachable = |source| ConnectionError::Unreachable { server: server.clone(), source };
            let stream = TcpStream::connect(server.authority()).await.map_err(unreachable)?;
            // Requests are small and waited for.
            stream.set_nodelay(true).map_err(unreachable)?;
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER_BYTES)
                .write_buffer_size(READ_BUFFER_BYTES)
                .max_write_buffer_size(WRITE_BUFFER_BYTES)
                .max_message_size(Some(MAX_MESSAGE_BYTES))
                .max_frame_size(Some(MAX_MESSAGE_BYTES));
            let url = format!("{server}{}", endpoint.path());
            let shaken = client_async_with_config(url, stream, Some(config)).await;
            let refused = |source| ConnectionError::Handshake { server: server.clone(), source: Box::new(source) };
            let (socket, _) = shaken.map_err(refused)?;
            Ok(Self { socket })
        };
        // Boxed, so that a bot's future does not carry the room of a handshake for its whole life.
        timeout(connect_timeout, Box::pin(open))
            .await
            .unwrap_or_else(|_| Err(ConnectionError::Slow { server: server.clone(), after: connect_timeout }))
    }

    /// Sends all requests at once.
    pub(crate) async fn send(&mut self, requests: &[String]) -> Result<(), ConnectionError> {
        for request in requests {
            self.socket.feed(Message::text(request.as_str())).await?;
        }
        Ok(self.socket.flush().await?)
    }

    /// The next text from the server; pings on the way are answered.
    ///
    /// # Cancellation
    /// Safe: no text is lost.
    pub(crate) async fn receive(&mut self) -> Result<Utf8Bytes, ConnectionError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Binary(_))) => return Err(ConnectionError::NotText),
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                    return Err(ConnectionError::Closed { reason });
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Err(ConnectionError::Closed { reason: String::new() }),
            }
        }
    }

    /// Says goodbye, so that the server does not take this for a loss.
    pub(crate) async fn close(mut self) {
        let goodbye = async {
            self.socket.close(None).await?;
            loop {
                self.receive().await?;
            }
        };
        // Ends with an error in any case: the goodbye was answered, or there is nobody to say it to.
        let _: Result<Result<(), ConnectionError>, _> = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}
