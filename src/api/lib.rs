//! The WebSocket API, schema V1, shared by server and bot.
//!
//! A connection belongs to one [`Endpoint`]. Text frames carry one JSON object each: [`request`] is what a bot writes and a server
//! reads, [`answer`] what a server writes and a bot reads, and a [`Fault`] is the answer to a request that cannot be carried out.

pub mod answer;
mod endpoint;
mod fault;
pub mod request;

pub use endpoint::Endpoint;
pub use fault::Fault;
