//! The WebSocket API, schema V1, shared by server and bot.
//!
//! Text frames of one JSON object each, on a connection that belongs to one [`Endpoint`]. A [`Request`] is answered by a
//! [`LoginAnswer`], a [`FindAnswer`], a stream of [`LobbyPush`]es, a [`HeroAnswer`] or an
//! [`AttackRecord`](superhero_game::AttackRecord), or by a [`Rejection`], which never closes the connection. Every one
//! of them is written by `to_json` and read by `parse`, so that both sides share one description.

mod answer;
mod endpoint;
mod lobby;
mod rejection;
mod request;

pub use answer::{AnswerError, FindAnswer, HeroAnswer, LoginAnswer, parse_action};
pub use endpoint::Endpoint;
pub use lobby::LobbyPush;
pub use rejection::{Field, Rejection};
pub use request::{MIN_PARTICIPANTS, Request};
