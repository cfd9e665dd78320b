//! How a run goes on: looked at some times a second, drawn where a person looks on, and kept for the lag over time.

use std::fmt;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use superhero_kafka::LagMeter;
use superhero_transport::Monitor;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::games::Games;
use crate::history::History;

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A run at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Games that have begun and are not over.
    pub running: u64,
    /// Games that have been played to their end.
    pub completed: u64,
    /// Events that servers have logged.
    pub emitted: u64,
    /// Events that Kafka has acknowledged.
    pub acknowledged: u64,
    /// Records that workers have committed since the run began.
    pub taken: u64,
    /// Records that they have not.
    pub lag: u64,
    /// Events a second, since the last look.
    pub rate: f64,
}

/// What a run is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Topics are made, workers and servers started.
    #[default]
    Starting,
    /// Bots play.
    Playing,
    /// The games are over, and events are on their way to Kafka.
    Flushing,
    /// Workers take what they have not taken.
    CatchingUp,
    /// The files are read back.
    Verifying,
    /// All is done.
    Done,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Playing => "playing",
            Self::Flushing => "delivering",
            Self::CatchingUp => "catching up",
            Self::Verifying => "reading back",
            Self::Done => "done",
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<12} games {} running, {} done · events {} out, {} in · lag {} · {}/s",
            self.stage.name(),
            HumanCount(self.running),
            HumanCount(self.completed),
            HumanCount(self.acknowledged),
            HumanCount(self.taken),
            HumanCount(self.lag),
            HumanCount(self.rate.round() as u64),
        )
    }
}

/// Draws a run's progress on standard error until it is done; nothing where that is no terminal.
///
/// # Cancellation
/// Safe; the line is taken away.
pub async fn draw(mut progress: watch::Receiver<Progress>) {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} · {elapsed}").expect("a constant template"));
    let bar = ClearedAtEnd(bar);
    loop {
        let now = *progress.borrow_and_update();
        if now.stage == Stage::Done {
            return;
        }
        bar.0.set_message(now.to_string());
        bar.0.tick();
        if progress.changed().await.is_err() {
            return;
        }
    }
}

struct ClearedAtEnd(ProgressBar);

impl Drop for ClearedAtEnd {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Looks at a run until it is stopped, and gives back the lag over time.
pub(crate) struct Watcher {
    pub(crate) meter: LagMeter,
    pub(crate) games: Games,
    pub(crate) transport: Monitor,
    /// Offsets that were done before the run.
    pub(crate) done_before: u64,
    pub(crate) progress: watch::Sender<Progress>,
}

impl Watcher {
    pub(crate) async fn run(mut self, stop: CancellationToken) -> History {
        let begun = Instant::now();
        let mut history = History::default();
        let (mut last_emitted, mut last_look) = (0, begun);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = false;
        while !last {
            // What is told at the stop is the end of the curve.
            last = stop.run_until_cancelled(looks.tick()).await.is_none();
            let lag = match self.meter.look().await {
                Ok(lag) => lag,
                Err(error) => {
                    debug!(%error, "the lag is not known now");
                    continue;
                }
            };
            history.add(begun.elapsed(), lag.records());
            let counters = self.transport.counters();
            let now = Instant::now();
            let seconds = (now - last_look).as_secs_f64();
            let rate = if seconds > 0.0 { (counters.emitted - last_emitted) as f64 / seconds } else { 0.0 };
            (last_emitted, last_look) = (counters.emitted, now);
            self.progress.send_modify(|progress| {
                *progress = Progress {
                    stage: progress.stage,
                    running: self.games.running(),
                    completed: self.games.completed(),
                    emitted: counters.emitted,
                    acknowledged: counters.acknowledged,
                    taken: lag.done().saturating_sub(self.done_before),
                    lag: lag.records(),
                    rate,
                };
            });
        }
        history
    }
}
