//! What an event is: where it goes, what it looks like, and the table rows made of it.
//!
//! A log call with the target [`TARGET`] and the field `queue` is an event. `key` is its Kafka key (the game token), `task`
//! is JSON text that the envelope carries as a string, `task_object` is a JSON object that it carries as it is:
//!
//! ```text
//! tracing::info!(target: superhero_event::TARGET, queue = topic::LOBBY, key = %game, task = frame, "Game Finished");
//! ```

mod admission;
mod envelope;
pub mod table;

pub use admission::Admission;
pub use envelope::{Cleaning, Envelope, EnvelopeError, Level, Task, encode};

/// The only `tracing` target whose calls become events; an allowlist of one, so that no library's log line ever can.
pub const TARGET: &str = "superhero::event";

/// The topics that the simulator writes.
pub mod topic {
    /// The server's own life.
    pub const CLIENT: &str = "client.__main__";
    /// Seats, turns, ends of games.
    pub const LOBBY: &str = "lib.server.lobby";
    /// Attacks.
    pub const GAME: &str = "lib.server.game";
    /// All of them.
    pub const ALL: [&str; 3] = [CLIENT, LOBBY, GAME];
}

/// The headers of an event's record, by which a reader sees loss as well as repetition.
pub mod header {
    /// Who sent it, in 32 hexadecimal digits: new at each start of a transport.
    pub const PRODUCER: &str = "superhero-producer";
    /// Its number among those that the producer sent to the partition, in decimal digits, from 0 without gaps.
    pub const SEQUENCE: &str = "superhero-sequence";
    /// Of which partition that is, as `<topic>/<partition>`. A record that stands in another one is a copy, whose number says nothing
    /// there. Records of earlier versions do not have it: their numbers are taken for those of the partition that they stand in.
    pub const PLACE: &str = "superhero-place";
}

/// The `log_message` of each event, see the specification's table.
pub mod message {
    /// A player got a seat and a hero.
    pub const HERO_SELECTED: &str = "Hero Selected";
    /// A game started, told to one player.
    pub const STARTING_MATCH: &str = "Starting Match";
    /// A game's seats were not filled in time.
    pub const GAME_TIMED_OUT: &str = "Game Timed Out";
    /// A player was told that it is on turn.
    pub const TURN: &str = "Pushing User's Turn Notification";
    /// A player was told that the game is over.
    pub const GAME_FINISHED: &str = "Game Finished";
    /// A game is over for a participant; the host's makes the tables.
    pub const CLEANING: &str = "Cleaning Game Records";
    /// An attack.
    pub const ATTACK_COMPLETED: &str = "Attack Completed";
    /// An attack that found nobody alive.
    pub const ATTACKED_DEAD_ENEMY: &str = "Attacked Dead Enemy";
    /// The server starts.
    pub const STARTING_SERVER: &str = "Starting Web Socket Server";
    /// Before that, if the server's run before did not deliver all of its events.
    pub const UNDELIVERED: &str = "Previous Run Left Events Undelivered";
}
