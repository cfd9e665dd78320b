//! The whole pipeline in one process, over real sockets, and what came of it.
//!
//! ```text
//! bots ──ws──▶ servers ──▶ memory | Redis
//!                 │ events
//!                 ▼
//!              transport ──▶ embedded broker | Kafka ──▶ workers ──▶ files ──▶ verify ──▶ report
//! ```
//!
//! Every part is the one that its own binary runs; only the wiring is here.

mod broker;
mod config;
mod folder;
mod games;
mod history;
mod next;
mod origin;
mod pipeline;
mod progress;
mod quote;
mod report;
mod screen;
mod simulation;
mod usage;

pub use config::{ConfigError, SimulationConfig, WorkersStart};
pub use folder::{LOG, Sweep, runs};
pub use history::History;
pub use next::Next;
pub use pipeline::Pipeline;
pub use progress::{Progress, Stage};
pub use quote::shell_path;
pub use report::{Events, Files, Games, Lag, Latency, Report, Settings, Used, Winner};
pub use screen::draw;
pub use simulation::{Simulation, SimulationError};
