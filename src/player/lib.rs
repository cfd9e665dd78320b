//! The bot: a connection and a pure choice of the next action, and any number of bots in one process.
//!
//! A bot logs in once, and for each of its games finds a seat and listens to the lobby. On its turn, which it knows from a late
//! notice of one by the heroes, it attacks a living opponent's. What it chooses is drawn from the seed alone, see [`Choices`], and
//! with whom it plays, too, where all players are here ([`Seating::Matched`]). Whatever it waits for has a deadline, and what fails is
//! tried again with a growing pause, on the next server if there are several.

mod bot;
mod choice;
mod config;
mod connection;
mod crew;
mod matchmaker;
mod retry;
#[cfg(test)]
mod tests;
mod turn;

pub use choice::Choices;
pub use config::{PlayersConfig, Seating, ServerAddress, ServerAddressError};
pub use crew::{PlayersError, Summary, run};
