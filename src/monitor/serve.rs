//! A listener for health alone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{Health, LIVEZ, READYZ, is_asked, livez, only_get, page, readyz};

/// Whoever asks about health asks seldom.
const MAX_CONNECTIONS: usize = 64;
/// For a request and its answer; a check has two of these seconds at most.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Enough for the head of any probe.
const BUFFER_BYTES: usize = 8 << 10;
/// After an accept that failed, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers [`LIVEZ`] and [`READYZ`] until it is dropped, and its connections with it.
pub async fn serve(listener: TcpListener, health: Health) -> Infallible {
    let health = Arc::new(health);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(timeout(CONNECTION_TIMEOUT, converse(stream, health.clone())))),
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn converse(stream: TcpStream, health: Arc<Health>) {
    let answers = service_fn(|request| {
        let health = health.clone();
        async move { Ok::<_, Infallible>(answer(&request, &health).await) }
    });
    let connection = http1::Builder::new()
        // The connection's own bound is as strict, and counts from the accept.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), answers);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a question about health broke off");
    }
}

async fn answer(request: &Request<Incoming>, health: &Health) -> Response<Full<Bytes>> {
    match request.uri().path() {
        LIVEZ | READYZ if !is_asked(request.method()) => only_get(),
        LIVEZ => livez(),
        READYZ => readyz(health, false).await,
        _ => page(StatusCode::NOT_FOUND, "no such path"),
    }
}
