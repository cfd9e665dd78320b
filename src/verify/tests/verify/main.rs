//! Real files, right ones and damaged ones.
#![allow(clippy::unwrap_used)]

mod clean;
mod damage;
mod games;
mod mutations;
mod planted;
mod world;
