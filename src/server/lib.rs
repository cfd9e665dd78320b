//! The game server: a listener, its routes, and a session per socket.
//!
//! [`run`] serves the five endpoints of the WebSocket API and the health paths `/livez` and `/readyz` on one listener.
//! Requests are answered by a session per socket; the push stream of a lobby follows its game's state in the hub, which hears of
//! it through the store's subscription, so any number of servers can share one store.
//!
//! ```text
//! listener ─▶ handshake (hyper) ─▶ session ──────────────▶ store
//!                                └▶ lobby ◀─ stage ─ game ◀┘ events
//! ```

mod config;
mod crew;
mod events;
mod game;
mod hub;
mod lobby;
mod origin;
mod retry;
mod routes;
mod server;
mod session;
mod socket;
mod visitors;

pub use config::{Fate, ServerConfig, Undelivered};
pub use origin::AllowedOrigin;
pub use server::{ServerError, Summary, run};
pub use superhero_monitor::Health;
pub use visitors::Network;
