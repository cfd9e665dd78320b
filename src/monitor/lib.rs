//! Whether a process works: [`Health`] is its named checks, `/livez` and `/readyz` tell, and [`ask`] asks.
//!
//! A process that listens anyway answers these two paths among its others, with [`livez`] and [`readyz`]; another one has [`serve`].

mod ask;
mod health;
mod pages;
mod serve;

pub use ask::{NotReady, ask};
pub use health::Health;
pub use pages::{LIVEZ, READYZ, is_asked, livez, only_get, page, readyz};
pub use serve::serve;
