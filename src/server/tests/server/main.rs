//! The server over real sockets on port 0, with the store in memory.

#![allow(clippy::unwrap_used)]

mod captured;
mod client;
mod doorway;
mod faults;
mod games;
mod ghosts;
mod hostile;
mod moody;
mod requests;
mod running;
mod seats;
