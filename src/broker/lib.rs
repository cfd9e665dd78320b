//! A broker that speaks Kafka's wire protocol, in this process and in memory: for trying out, for tests, for CI.
//!
//! One process, one node, no disk, no security, no transactions: when it ends, what it holds is gone. Anything more is Apache Kafka's.
//!
//! ```text
//! connection (frames, decode) ─call─▶ broker (one loop owns the state) ─▶ api/<one file per API>
//!      ▲                                                                    │
//!      └───────────────────────────── reply ◀───────────────────────────────┘
//! ```
//!
//! # How it is built
//!
//! `server` accepts connections and runs the loop; nothing but the loop touches `state`, so that there are no locks. A
//! `connection` reads frames, `decode` makes requests of them without trusting any length, and `api` has the table of what is
//! served, and a file for each API that names its versions and what it leaves out. A handler answers at once, or keeps the `reply`
//! for later: fetches that wait are kept by `long_poll`, members of groups by `group`.
//!
//! `topics` hold partitions; a partition has a `log` of `batch`es, which stay as they came, and the `producers` whose repeated
//! batches it knows again.
//!
//! Everything is bounded: frames, what they unfold to, connections, partitions, and the bytes of each partition and of all together. What
//! is too much goes at the old end of a log, which ListOffsets then tells, and a fetch from before it is out of range. Requests and
//! answers that are on their way have a `budget`, for which the least active connection goes first, and lie in `pieces` that go back
//! to the system as a whole; lines of the log that clients could cause without end are `seldom`.

mod api;
mod batch;
mod budget;
mod config;
mod connection;
mod decode;
mod group;
#[cfg(test)]
mod hostile;
mod log;
mod long_poll;
mod pieces;
mod producers;
mod reply;
mod seldom;
mod server;
mod state;
mod topic_config;
mod topics;

pub use config::{BrokerConfig, BrokerError};
pub use group::GroupLimits;
pub use server::run;

/// The only leader that a partition ever has is its first.
const LEADER_EPOCH: i32 = 0;
