//! CPU time and memory, as `/proc` counts them.

use anyhow::{Context, Result};

/// `/proc` counts in ticks of 10 ms.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where utime and stime stand behind the name in parentheses; those of the ended children follow.
const OWN: usize = 11;
const CHILDREN: usize = 13;

/// Of this process so far, in seconds.
pub fn own_seconds() -> Result<f64> {
    seconds("self", OWN)
}

/// Of this process's children that have ended, in seconds.
pub fn children_seconds() -> Result<f64> {
    seconds("self", CHILDREN)
}

/// Of another process so far, in seconds.
pub fn seconds_of(pid: u32) -> Result<f64> {
    seconds(&pid.to_string(), OWN)
}

/// This process's memory by its name in `/proc`, in MiB.
pub fn own_mib(name: &str) -> Result<f64> {
    mib("self", name)
}

/// The same of another process.
pub fn mib_of(pid: u32, name: &str) -> Result<f64> {
    mib(&pid.to_string(), name)
}

fn mib(process: &str, name: &str) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 = line.context("a process's memory")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn seconds(process: &str, first: usize) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("a process's stat")?.1.split_whitespace().collect();
    Ok((fields[first].parse::<f64>()? + fields[first + 1].parse::<f64>()?) / TICKS_PER_SECOND)
}
