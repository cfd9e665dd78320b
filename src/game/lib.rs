//! The rules of the duels: pure functions and states, seeded; no I/O, no async, no clock.
//!
//! [`Duel`] is one game from its first turn to its end; [`AttackRecord`] is what a move leaves behind, on the wire and in
//! the store alike; [`podium`] ranks the players of a game that ended.

mod duel;
mod hero;
mod podium;
mod record;
mod roster;
mod seed;
mod timestamp;
mod token;

pub use duel::{Duel, Fighter, Limits, Move, Refusal};
pub use hero::{Hero, HeroError, HeroId, HeroPlace, MAX_HEROES, MAX_POWERSTAT, parse_heroes};
pub use podium::{PodiumRow, podium};
pub use record::{Action, AttackRecord};
pub use roster::built_in_roster;
pub use seed::derive_seed;
pub use timestamp::{TimestampText, format_timestamp, parse_timestamp};
pub use token::{GameToken, SeatSecret, UserToken};
