//! The broker's life: who connects, and the loop that owns its state.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::connection::{self, ConnectionError, Request};
use crate::seldom::Seldom;
use crate::state::{Node, State};
use crate::{BrokerConfig, BrokerError};

/// The one broker of its cluster. Not 0, which some clients take for none.
const NODE_ID: i32 = 1;

/// Requests that have been read and wait for the loop; each connection may hold one more in its hand. The loop is never busy
/// with one for long, so that these are only there to let it go on without a wake-up for each.
const MAX_QUEUED_REQUESTS: usize = 32;

/// How long no connection is accepted after the system could not give one: it is short of files, and asking at once again would
/// only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs a broker on `listener` until `shutdown`.
///
/// Clients are told to connect to the listener's own address (to the loopback address if it listens on all) unless
/// [`BrokerConfig::advertised`] says otherwise. The broker is ready as soon as this is polled, and what connects to the listener
/// before that waits in its queue. Everything is held in memory, within the bounds of `config`, and is gone when this returns; the
/// cluster id is another one at each start.
///
/// # Errors
///
/// [`BrokerError`], before anything is served. What goes wrong with a client is logged, with its address, and ends its connection
/// alone.
///
/// # Cancellation
///
/// `shutdown` ends all connections, whatever waits for an answer there, and returns when they have ended. Dropping the future
/// ends them too.
pub async fn run(listener: TcpListener, config: BrokerConfig, shutdown: CancellationToken) -> Result<(), BrokerError> {
    config.check()?;
    let address = listener.local_addr().map_err(|source| BrokerError::Listener { source })?;
    let (host, port) = config.advertised.clone().unwrap_or_else(|| reachable(address));
    let (calls, requests) = mpsc::channel(MAX_QUEUED_REQUESTS);
    let mut connections = JoinSet::new();
    let budget = Budget::new(config.max_transit_bytes);
    let accepting = accept(listener, config.clone(), calls, budget.clone(), &mut connections);
    let state = State::new(config, Node { id: NODE_ID, host, port });
    let Node { host, port, .. } = state.node();
    tracing::info!(%address, advertised = format!("{host}:{port}"), cluster_id = state.cluster_id, "the broker is ready");
    // The state outlives the connections, lest they take the answers that are dropped with it for refusals.
    let mut carrying_out = pin!(carry_out(state, requests, budget.clone()));
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = accepting => {}
        () = budget.watch() => {}
        () = &mut carrying_out => {}
    }
    connections.shutdown().await;
    tracing::info!(%address, "the broker has ended");
    Ok(())
}

/// An address that a client on this machine can connect to.
fn reachable(address: SocketAddr) -> (String, u16) {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "::1".to_owned(),
        ip => ip.to_string(),
    };
    (host, address.port())
}

/// The loop that owns the state. It sleeps until somebody calls, or until somebody has waited long enough; while nobody waits, it
/// has no timer.
async fn carry_out(mut state: State, mut requests: mpsc::Receiver<Request>, budget: Arc<Budget>) {
    loop {
        let deadline = state.next_deadline();
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => request.carry_out(&mut state),
                None => return,
            },
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                state.on_deadline(Instant::now());
            }
        }
        if budget.is_overdrawn() {
            budget.settled().await;
        }
    }
}

async fn accept(
    listener: TcpListener,
    config: BrokerConfig,
    calls: mpsc::Sender<Request>,
    budget: Arc<Budget>,
    connections: &mut JoinSet<()>,
) {
    let (refused, closed) = (Seldom::default(), Arc::new(Seldom::default()));
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a connection's task panicked; this is a mistake in the broker");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < config.max_connections => {
                    let (calls, account, closed) = (calls.clone(), budget.open(), closed.clone());
                    let max_frame_bytes = config.max_frame_bytes;
                    connections.spawn(async move {
                        tracing::debug!(%peer, "a client has connected");
                        match connection::serve(stream, peer, calls, account, max_frame_bytes).await {
                            Ok(()) => tracing::debug!(%peer, "a client has gone"),
                            // Of those that have to make room, the budget tells.
                            Err(error @ (ConnectionError::Broken(_) | ConnectionError::Ending | ConnectionError::Idle)) => {
                                tracing::debug!(%peer, %error, "a client was lost");
                            }
                            Err(error) => match closed.next(1) {
                                Some(untold) => tracing::warn!(%peer, %error, untold, "closed a connection"),
                                None => tracing::debug!(%peer, %error, "closed a connection"),
                            },
                        }
                    });
                }
                Ok((_, peer)) => {
                    let limit = config.max_connections;
                    if let Some(untold) = refused.next(1) {
                        tracing::warn!(%peer, limit, untold, "closed a connection: there are as many as are allowed");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_an_address_that_they_can_connect_to() {
        for (listener, expected) in [
            ("127.0.0.1:9092", "127.0.0.1"),
            ("0.0.0.0:9092", "127.0.0.1"),
            ("[::]:9092", "::1"),
            ("[::1]:9092", "::1"),
            ("192.0.2.7:9092", "192.0.2.7"),
        ] {
            let address = listener.parse().expect("an address");
            assert_eq!(reachable(address), (expected.to_owned(), 9092), "{listener}");
        }
    }
}
