//! Memory and file descriptors of a server and a worker that nobody kills.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio_util::task::AbortOnDropHandle;

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// Of this length a third must be, to tell a trend from the faults of the moment.
const LEAST_THIRD: Duration = Duration::from_secs(180);
/// Until then caches, buffers and connections of a process grow to their size, and glibc keeps more and more of what is freed: of a worker
/// under all faults it held 22 MiB after two minutes and 35 MiB after six, of which 7 to 9 MiB were in use all the time.
const WARM_UP: Duration = Duration::from_secs(600);

/// One look.
#[derive(Clone, Copy, Debug)]
struct Look {
    after: Duration,
    rss_kib: u64,
    descriptors: u64,
}

/// Looks at a process until it is dropped, or the process ends.
#[derive(Debug)]
pub struct Witness {
    name: String,
    looks: Arc<Mutex<Vec<Look>>>,
    _looking: AbortOnDropHandle<()>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Testimony {
    pub name: String,
    /// Medians of the first and the last third after the warm-up; none in a run that is too short to tell.
    pub rss_kib: Option<(u64, u64)>,
    pub descriptors: Option<(u64, u64)>,
    pub peak_kib: u64,
    pub peak_descriptors: u64,
    /// Medians of the memory in each tenth of the run.
    pub tenths_kib: Vec<u64>,
}

impl Witness {
    pub fn of(name: &str, pid: u32) -> Self {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let seen = looks.clone();
        let began = Instant::now();
        let looking = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                // It has ended.
                let Ok(look) = look(pid, began.elapsed()) else { return };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(look);
            }
        });
        Self { name: name.to_owned(), looks, _looking: AbortOnDropHandle::new(looking) }
    }

    pub fn testify(&self) -> Testimony {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all: Vec<_> = looks.iter().collect();
        let warm: Vec<_> = looks.iter().filter(|look| look.after >= WARM_UP).collect();
        let thirds = |of: fn(&Look) -> u64| {
            let third = warm.len() / 3;
            (EVERY * third as u32 >= LEAST_THIRD)
                .then(|| (median(&warm[..third], of), median(&warm[warm.len() - third..], of)))
        };
        Testimony {
            name: self.name.clone(),
            rss_kib: thirds(|look| look.rss_kib),
            descriptors: thirds(|look| look.descriptors),
            peak_kib: looks.iter().map(|look| look.rss_kib).max().unwrap_or_default(),
            peak_descriptors: looks.iter().map(|look| look.descriptors).max().unwrap_or_default(),
            tenths_kib: all
                .chunks(all.len().div_ceil(10).max(1))
                .map(|tenth| median(tenth, |look| look.rss_kib))
                .collect(),
        }
    }
}

fn median(looks: &[&Look], of: fn(&Look) -> u64) -> u64 {
    let mut values: Vec<_> = looks.iter().map(|look| of(look)).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn look(pid: u32, after: Duration) -> Result<Look> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process with memory")?;
    let rss_kib = rss.split_whitespace().next().context("a number")?.parse()?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    Ok(Look { after, rss_kib, descriptors })
}
