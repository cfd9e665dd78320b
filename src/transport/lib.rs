//! The logging transport: a tracing layer, its bounded queue, and the publishers.
//!
//! ```text
//! log call ─▶ layer ─▶ queue ─▶ lanes (one per topic-partition) ─▶ Kafka
//!            (encodes)  (bytes)  (batches, sequences, answers)
//!                       │     ▲
//!                       ▼     │ what an earlier start left
//!                        spool
//! ```
//!
//! The caller of an event pays for encoding it into a buffer of its thread and for copying it into the queue; one task
//! does the rest. That task polls the queue while there are events, so that a log call does not wake it, and sleeps
//! for good when there are none; then the next call wakes it.
//!
//! `emitted = acknowledged + dropped + queued` holds at every instant, see [`Counters`]. A batch is sent until it is
//! acknowledged, one at a time per topic-partition, so that the events of a key stay in order. What is sent twice (an
//! answer that was lost) carries the same `superhero-producer`, `superhero-place` and `superhero-sequence` headers, so that a reader can tell.

mod batch;
mod chunk;
mod config;
mod guard;
mod health;
mod kafka;
mod lanes;
mod layer;
mod pump;
mod queue;
mod redis;
mod spool;

pub use batch::Compression;
pub use config::{KafkaPublisher, Publisher, QueueConfig, RedisPublisher, TransportConfig, WhenFull};
pub use guard::{FlushError, Guard, Monitor, Report, StartError, Transport, Undelivered};
pub use health::Health;
pub use queue::Counters;
pub use spool::{Kept, LeftOver, SpoolConfig, SpoolError};
