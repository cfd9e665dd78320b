//! The WebSocket API, schema V1, shared by server and bot.
//!
//! Text frames of one JSON object each, on a connection that belongs to one [`Endpoint`]. A [`Request`] is answered by a
//! [`LoginAnswer`], a [`FindAnswer`], a stream of [`LobbyPush`]es, a [`HeroAnswer`] or an
//! [`AttackRecord`](superhero_game::AttackRecord), or by a [`Rejection`], which never closes the connection. `to_json` writes what
//! the specification says, and `parse` reads it; of the pushes and the records a player reads no more than it needs, as
//! [`LobbyNews`] and [`ActionAnswer`], so that it can play on a server that writes the rest in another way.

mod answer;
mod endpoint;
mod lobby;
mod rejection;
mod request;

pub use answer::{ActionAnswer, AnswerError, FindAnswer, HeroAnswer, LoginAnswer};
pub use endpoint::Endpoint;
pub use lobby::{LobbyNews, LobbyPush};
pub use rejection::{Field, Rejection};
pub use request::{MAX_NAME_BYTES, MIN_PARTICIPANTS, Request};
