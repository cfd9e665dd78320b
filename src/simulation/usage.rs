//! What this process has used, as Linux counts it.

use std::fs;
use std::time::Duration;

/// `/proc` counts processor time in ticks of 10 ms.
const TICK: Duration = Duration::from_millis(10);
/// Where utime and stime stand in `/proc/self/stat` behind the name in parentheses.
const UTIME: usize = 11;

/// Processor time of all threads so far; none where there is no `/proc`.
pub(crate) fn cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields = stat.rsplit_once(')')?.1;
    let ticks: u32 = fields.split_whitespace().skip(UTIME).take(2).map(|ticks| ticks.parse().unwrap_or(0)).sum();
    Some(TICK * ticks)
}

/// The most memory that was resident at one time, in bytes; none where there is no `/proc`.
pub(crate) fn peak_memory() -> Option<u64> {
    const KIB: u64 = 1024;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * KIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_uses_memory_and_little_time() {
        assert!(peak_memory().is_some_and(|bytes| (1 << 20..1 << 34).contains(&bytes)));
        assert!(cpu_time().is_some_and(|time| time < Duration::from_secs(600)));
    }
}
