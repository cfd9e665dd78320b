//! A broker on a port of its own, asked over real sockets.

#![allow(clippy::unwrap_used)]

mod client;
mod fetching;
mod hostile;
mod producing;
mod topics;
mod transport;
mod versions;
