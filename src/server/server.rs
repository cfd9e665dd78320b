//! One server: what its tasks share, its accepting loop, and the order in which it stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use superhero_api::Endpoint;
use superhero_event::Admission;
use superhero_store::GameStore;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::crew::Crew;
use crate::hub::Hub;
use crate::routes::{Entry, Routes};
use crate::socket::{End, Socket};
use crate::visitors::{Visit, Visitors};
use crate::{Health, ServerConfig, events, lobby, session};

/// Connections beyond the limit that are told so at the same time; yet more are closed without a word.
const REFUSALS_AT_A_TIME: usize = 256;

/// hyper's least; requests have some 300 bytes, and the buffer is gone with the upgrade.
const HTTP_BUFFER_BYTES: usize = 8 * 1024;

/// Pause after a failed accept, most often for want of file descriptors, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For how long sessions may take to say farewell, which itself takes a second at most, before they are dropped.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two looks at what has had its time: as often as games time out, and not more often than is of use to anybody.
const SWEEP_PAUSE_MIN: Duration = Duration::from_secs(1);
const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Some hundreds of games each; the rest waits for the next look.
const SWEEPS_AT_A_TIME: u32 = 64;

/// For how long the last words to a connection that never became a session may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// What one run of a server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Connections that became sessions.
    pub sessions: u64,
    /// Connections that were refused because all places were taken, be it in all or of their address.
    pub refused: u64,
    /// Tasks that panicked; each took only its own socket or game with it.
    pub panics: u64,
    /// Lobbies that were still waiting for the end of their games when the drain deadline came.
    pub cut_off: usize,
}

/// Why a server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The listener does not tell its address.
    #[error("the listener has no address: {0}")]
    Address(#[source] io::Error),
}

/// What all tasks of one server share.
#[derive(Debug)]
pub(crate) struct Server<S> {
    pub(crate) config: ServerConfig,
    pub(crate) store: S,
    pub(crate) admission: Admission,
    pub(crate) health: Health,
    pub(crate) hub: Arc<Hub>,
    pub(crate) crew: Crew,
    /// No new games and no new sessions.
    pub(crate) draining: CancellationToken,
    /// Every session says farewell now.
    pub(crate) closing: CancellationToken,
    pub(crate) visitors: Arc<Visitors>,
    sessions: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// Serves until `shutdown`, then lets the games that have lobbies here go on for at most the drain deadline, and returns when
/// all tasks have ended.
///
/// To be ready, the checks of `health` must go well, and one of the store besides. While it drains, `/readyz` answers 503 and nobody new is let in. `admission` is the transport's: while it is closed, neither
/// `find` nor `action` takes effect.
///
/// # Errors
/// [`ServerError::Address`]; what happens afterwards to single connections is logged, and the server goes on.
///
/// # Cancellation
/// Dropping the future stops the accepting, and nothing else: cancel `shutdown` instead and await the end.
pub async fn run<S: GameStore>(
    listener: TcpListener,
    config: ServerConfig,
    store: S,
    admission: Admission,
    health: Health,
    shutdown: CancellationToken,
) -> Result<Summary, ServerError> {
    let address = listener.local_addr().map_err(ServerError::Address)?;
    let health = health.with("store", {
        let store = store.clone();
        move || {
            let store = store.clone();
            async move { store.ping().await.map_err(|error| error.to_string()) }
        }
    });
    let ServerConfig { max_connections_per_address, max_finds_per_address, ref trusted_proxies, .. } = config;
    let visitors = Visitors::new(max_connections_per_address, max_finds_per_address, trusted_proxies.clone());
    let server = Arc::new(Server {
        visitors,
        config,
        store,
        admission,
        health,
        hub: Arc::new(Hub::new()),
        crew: Crew::default(),
        draining: shutdown,
        closing: CancellationToken::new(),
        sessions: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    server.config.undelivered.iter().for_each(events::undelivered);
    events::starting_server();
    events::listening_on(address);
    tracing::info!(%address, "listening");
    server.crew.spawn("sweeper", sweep(Arc::clone(&server)));

    let cut_off = tokio::select! {
        cut_off = drain(&server) => cut_off,
        never = accept(&server, &listener) => match never {},
    };
    drop(listener);
    server.closing.cancel();
    if timeout(FAREWELL_TIMEOUT, server.crew.wait()).await.is_err() {
        tracing::warn!(tasks = server.crew.len(), "tasks did not end in time and are dropped");
        server.crew.dismiss();
        server.crew.wait().await;
    }
    let summary = Summary {
        sessions: server.sessions.load(Ordering::Relaxed),
        refused: server.refused.load(Ordering::Relaxed),
        panics: server.crew.panics(),
        cut_off,
    };
    let Summary { sessions, refused, panics, cut_off } = summary;
    tracing::info!(%address, sessions, refused, panics, cut_off, "stopped");
    Ok(summary)
}

/// Waits for the stop signal and then for the games; gives the number of lobbies that the deadline left.
async fn drain<S: GameStore>(server: &Server<S>) -> usize {
    server.draining.cancelled().await;
    let lobbies = server.hub.attended();
    tracing::info!(lobbies, deadline_ms = server.config.drain_deadline.as_millis(), "stopping, games may end first");
    let _ = timeout(server.config.drain_deadline, server.hub.deserted()).await;
    server.hub.attended()
}

/// Has the store look after games and users whose time has come, also while nobody plays. Every server does.
async fn sweep<S: GameStore>(server: Arc<Server<S>>) {
    let pause = server.config.lobby_timeout.clamp(SWEEP_PAUSE_MIN, SWEEP_PAUSE_MAX);
    let sweeping = async {
        loop {
            tokio::time::sleep(pause).await;
            for _ in 0..SWEEPS_AT_A_TIME {
                match server.store.sweep().await {
                    Ok(false) => {}
                    Ok(true) => break,
                    Err(error) => {
                        tracing::debug!(%error, "games whose time is over are not looked after for now");
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = server.closing.cancelled() => {}
        () = sweeping => {}
    }
}

async fn accept<S: GameStore>(server: &Arc<Server<S>>, listener: &TcpListener) -> std::convert::Infallible {
    let places = Arc::new(Semaphore::new(server.config.max_connections.min(Semaphore::MAX_PERMITS)));
    let refusals = Arc::new(Semaphore::new(REFUSALS_AT_A_TIME));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Whom a proxy speaks for is counted when its request has come.
        let address = Some(peer.ip()).filter(|peer| !server.visitors.is_proxy(*peer));
        let entry = match (server.visitors.enter(address), Arc::clone(&places).try_acquire_owned()) {
            (Ok(visit), Ok(place)) => Some((Entry::Free, place, Some(visit))),
            (visit, _) => {
                let entry = if visit.is_err() { Entry::Crowded } else { Entry::Full };
                Arc::clone(&refusals).try_acquire_owned().ok().map(|place| (entry, place, None))
            }
        };
        let Some((entry, place, visit)) = entry else {
            server.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        server.crew.spawn("connection", serve(Arc::clone(server), stream, peer, entry, place, visit));
    }
}

/// The life of one connection: its handshake, then its session.
async fn serve<S: GameStore>(
    server: Arc<Server<S>>,
    stream: TcpStream,
    peer: SocketAddr,
    entry: Entry,
    place: OwnedSemaphorePermit,
    visit: Option<Visit>,
) {
    // Frames are small and each is awaited by somebody.
    let _ = stream.set_nodelay(true);
    // Boxed, so that a session that idles for hours does not carry the room that its handshake took.
    let Some((endpoint, io, early, visit)) = Box::pin(handshake(&server, stream, peer, entry, visit)).await else {
        return;
    };
    server.sessions.fetch_add(1, Ordering::Relaxed);
    let mut socket = Socket::new(io, early, &server.config).await;
    let end = match endpoint {
        Endpoint::Lobby => lobby::run(&server, &mut socket).await,
        endpoint => session::run(&server, &mut socket, endpoint, &visit).await,
    };
    log_end(peer, &end);
    Box::pin(socket.close(end)).await;
    drop((place, visit));
}

fn log_end(peer: SocketAddr, end: &End) {
    match end {
        End::Left => tracing::trace!(%peer, "a session was left"),
        End::Closed(code, reason) | End::Broken(code, reason) => {
            tracing::debug!(%peer, code = u16::from(*code), %reason, "a session was closed");
        }
    }
}

/// Speaks HTTP until the connection is upgraded; `None` when it ended otherwise.
async fn handshake<S: GameStore>(
    server: &Arc<Server<S>>,
    stream: TcpStream,
    peer: SocketAddr,
    entry: Entry,
    visit: Option<Visit>,
) -> Option<(Endpoint, TcpStream, Bytes, Visit)> {
    let until = Instant::now() + server.config.handshake_timeout;
    let mut connection = http1::Builder::new()
        // The timeout below is stricter: it counts from the accept and covers the answer, too.
        .header_read_timeout(None)
        .max_buf_size(HTTP_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), Routes::new(Arc::clone(server), peer.ip(), entry, visit));
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = timeout_at(until, &mut connection) => break ended,
            // hyper-util's GracefulShutdown does not take connections that can be upgraded.
            () = server.closing.cancelled(), if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    match ended {
        Ok(Ok(())) => {
            let (endpoint, visit) = parts.service.into_upgraded()?;
            Some((endpoint, parts.io.into_inner(), parts.read_buf, visit))
        }
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "a handshake took too long");
            if !parts.service.asked() {
                let answer = too_slow(server.config.handshake_timeout);
                let mut io = parts.io.into_inner();
                let _ = timeout(REFUSAL_TIMEOUT, io.write_all(answer.as_bytes())).await;
            }
            None
        }
    }
}

/// hyper answers requests only, and here none has come.
fn too_slow(limit: Duration) -> String {
    let reason = format!("no request within {} ms\n", limit.as_millis());
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{reason}",
        reason.len()
    )
}

/// The only clock: what stands in records and frames.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}
