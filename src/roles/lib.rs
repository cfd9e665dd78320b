//! The roles as processes: the settings of each, and what it does with them.
//!
//! A binary of its own and a command of `superhero` are the same: both are these, with [`Settings`](superhero_service::Settings) and `run`.

mod build_db;
mod healthcheck;
mod hero_api;
pub mod kafka;
mod listen;
mod player;
mod redis;
mod runs;
mod server;
mod worker;

pub use build_db::BuildDb;
pub use listen::{ListenError, listen};
pub use player::Player;
pub use server::Server;
pub use worker::Worker;
