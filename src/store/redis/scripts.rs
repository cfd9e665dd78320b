//! The Lua scripts, one per operation that changes more than one key.

use fred::types::scripts::Script;

/// A script is the reading of keys, what its operation needs beside it, and the answer of its `main`.
macro_rules! script {
    ($($file:literal),+) => {
        Script::from_lua(concat!(include_str!("keys.lua"), $(include_str!($file),)+ include_str!("answer.lua")))
    };
}

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) login: Script,
    pub(super) find: Script,
    pub(super) attend: Script,
    pub(super) leave: Script,
    pub(super) sweep: Script,
    pub(super) attack: Script,
    pub(super) forfeit: Script,
    pub(super) time_out: Script,
    pub(super) snapshot: Script,
    pub(super) clean: Script,
    pub(super) load_heroes: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            login: script!("login.lua"),
            find: script!("seats.lua", "waiting.lua", "find.lua"),
            attend: script!("seats.lua", "waiting.lua", "attend.lua"),
            leave: script!("seats.lua", "leave.lua"),
            sweep: script!("seats.lua", "waiting.lua", "sweep.lua"),
            attack: script!("seats.lua", "moves.lua", "attack.lua"),
            forfeit: script!("moves.lua", "forfeit.lua"),
            time_out: script!("seats.lua", "waiting.lua", "time_out.lua"),
            snapshot: script!("snapshot.lua"),
            clean: script!("clean.lua"),
            load_heroes: script!("load_heroes.lua"),
        }
    }
}
