//! A wall clock that jumps, by libfaketime: what a process is told of the time of day, not of the time that passes.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio::process::Command;

/// Where Debian's package faketime has it, on either architecture.
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];

#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// None where the library is not installed.
    pub fn find(work: &Path) -> Result<Option<Self>> {
        let Some(library) = LIBRARIES.iter().map(PathBuf::from).find(|library| library.exists()) else {
            return Ok(None);
        };
        let clock = Self { library, offset: work.join("clock") };
        clock.set(0)?;
        Ok(Some(clock))
    }

    /// So many seconds before or after the true time.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // In one step: a process must not read half of it.
        let written = self.offset.with_extension("new");
        std::fs::write(&written, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(written, &self.offset)?)
    }

    pub fn command(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
    }
}
