//! A place to listen on, from the settings.

use std::io::{self, ErrorKind};

use superhero_service::address;
use tokio::net::TcpListener;

/// The place cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {}{settings} another place", if is_taken(source) { "another process does: " } else { "" })]
pub struct ListenError {
    address: String,
    source: io::Error,
    /// Which settings choose, as the beginning of a sentence.
    settings: &'static str,
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrInUse
}

/// Listens on `host`, an IPv6 address without brackets, at `port`. `settings` are told to choose another place by, such as "PORT chooses".
///
/// # Errors
/// [`ListenError`], with the place and the settings.
pub async fn listen(host: &str, port: u16, settings: &'static str) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind((host, port)).await;
    listener.map_err(|source| ListenError { address: address(host, port), source, settings })
}
