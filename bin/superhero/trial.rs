//! `superhero trial`: the evaluations that the pipeline is for.

use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

use clap::{Args, Subcommand};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use superhero_service::{Failure, Kind, print, tell, whole_of};
use superhero_simulation::{Report, SimulationConfig, WorkersStart};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::output::Output;
use crate::settings::RunArguments;
use crate::up;

/// Partitions can be shared by so many workers, each with work of its own.
const WORKERS: usize = 4;

/// For a run that is asked to end; longer than its own deadlines.
const CHILD_STOPS_WITHIN: Duration = Duration::from_secs(120);

/// Run one of the evaluations, which end in a table and the lag over time, or a row for each of several sizes
#[derive(Debug, Subcommand)]
pub(crate) enum Trial {
    /// Everything is produced while one worker writes it
    Production(One),
    /// Several workers share the partitions
    Workers(One),
    /// No worker during the games; they start after the last one, and catch up
    DeadWorkers(One),
    /// The same run for one number of players after the other, compared
    Scale(Scale),
}

/// A single run.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// Bots
    #[arg(long, env = "PLAYERS", value_name = "COUNT", default_value_t = SimulationConfig::default().players,
        value_parser = whole_of(SimulationConfig::PLAYERS))]
    players: usize,

    #[command(flatten)]
    run: RunArguments,
}

/// A run for each size.
#[derive(Args, Debug)]
pub(crate) struct Scale {
    /// Bots of each run, separated by commas
    #[arg(long, env = "PLAYERS", value_name = "COUNT,…", value_delimiter = ',', default_value = "10,100,1000",
        value_parser = whole_of(SimulationConfig::PLAYERS))]
    players: Vec<usize>,

    #[command(flatten)]
    run: RunArguments,
}

impl Trial {
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        match self {
            Self::Production(one) | Self::Workers(one) | Self::DeadWorkers(one) => {
                one.run.config(one.players, WorkersStart::AtOnce).map(drop)
            }
            Self::Scale(scale) => scale.validate(),
        }
    }

    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        match self {
            Self::Production(one) => one.run(1, WorkersStart::AtOnce, stop).await,
            Self::Workers(one) => one.run(WORKERS, WorkersStart::AtOnce, stop).await,
            Self::DeadWorkers(one) => one.run(WORKERS, WorkersStart::AfterGames, stop).await,
            Self::Scale(scale) => scale.run(stop).await,
        }
    }
}

impl One {
    async fn run(mut self, workers: usize, start: WorkersStart, stop: CancellationToken) -> Result<(), Failure> {
        self.run.workers.get_or_insert(workers);
        let config = self.run.config(self.players, start)?;
        up::play(config, &self.run, stop, |report, output| match output {
            Output::Text => with_chart(report),
            Output::Json => up::json(report),
        })
        .await
    }
}

fn with_chart(report: &Report) -> String {
    let (chart, verdict) = (report.lag.over_time.chart(), report.verdict());
    format!("{report}\n\nrecords that the workers had not committed\n\n{chart}\n\n{verdict}")
}

impl Scale {
    fn validate(&self) -> Result<(), Failure> {
        if self.run.keep {
            return Err(Failure::new(Kind::Usage, "keep=true: the runs of a comparison end, one after the other"));
        }
        self.players.iter().try_for_each(|players| self.run.config(*players, WorkersStart::AtOnce).map(drop))
    }

    /// Each run is a process of its own, so that none inherits the memory of another.
    async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let seed = self.run.seed();
        let mut reports = Vec::new();
        let mut unverified = Vec::new();
        let runs = self.players.len();
        for (number, players) in (1..).zip(&self.players) {
            if stop.is_cancelled() {
                tell(format_args!("stopped early: {} of {runs} runs", reports.len()));
                break;
            }
            tell(format_args!("players={players}, run {number} of {runs}"));
            let report = self.one(*players, seed, &stop).await?;
            if report["verified"] != true {
                unverified.push(format!("players={players}: {}", report["findings"]));
            }
            reports.push(report);
        }
        let shown = match self.run.output {
            Output::Text => table(&reports),
            Output::Json => Value::from(reports).to_string(),
        };
        print(shown)?;
        match unverified.is_empty() {
            true => Ok(()),
            false => Err(Failure::new(Kind::NotVerified, unverified.join("; "))),
        }
    }

    async fn one(&self, players: usize, seed: u64, stop: &CancellationToken) -> Result<Value, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("up").arg(format!("players={players}")).arg(format!("seed={seed}")).arg("output=json");
        command.args(self.run.words()).envs(self.run.secrets());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        // Of the signals that a terminal sends, it gets those that are passed on: each is asked to end once, whoever is asked.
        command.process_group(0);
        let child = command.spawn()?;
        let output = finish(child, stop).await?;
        serde_json::from_slice(&output).map_err(|error| {
            format!(
                "the run with players={players} ended without a report ({error}); its log is in {}",
                self.run.out().display()
            )
            .into()
        })
    }
}

/// What the process has printed by its end, which it is asked for at the stop.
async fn finish(child: Child, stop: &CancellationToken) -> Result<Vec<u8>, Failure> {
    let process = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let mut ended = std::pin::pin!(child.wait_with_output());
    let output = tokio::select! {
        output = &mut ended => output?,
        () = stop.cancelled() => {
            if let Some(process) = process {
                // It may have ended meanwhile.
                let _ = kill_process(process, Signal::TERM);
            }
            match timeout(CHILD_STOPS_WITHIN, ended).await {
                Ok(output) => output?,
                Err(_) => {
                    let error = "a run did not end when it was asked to, and was killed";
                    return Err(Failure::new(Kind::Interrupted, error));
                }
            }
        }
    };
    Ok(output.stdout)
}

/// A row for each run.
fn table(reports: &[Value]) -> String {
    const COLUMNS: [&str; 9] =
        ["players", "games/s", "events/s", "cpu/event", "max lag", "p50", "p99", "memory", "verified"];
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(reports.iter().map(row));
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            // Writing to memory does not fail.
            let _ = write!(text, "{}{cell:>width$}", if column == 0 { "" } else { "  " });
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn row(report: &Value) -> [String; 9] {
    let number = |value: &Value, digits: usize, unit: &str| match value.as_f64() {
        Some(number) => format!("{number:.digits$}{unit}"),
        None => "–".to_owned(),
    };
    let time = |value: &Value| match value.as_f64() {
        Some(ms) if ms >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        _ => number(value, 0, " ms"),
    };
    let mebibytes = report["used"]["peak_memory_bytes"].as_f64().map_or(json!(null), |bytes| json!(bytes / 1048576.0));
    [
        number(&report["settings"]["players"], 0, ""),
        number(&report["games"]["per_second"], 1, ""),
        number(&report["events"]["per_second"], 0, ""),
        number(&report["used"]["cpu_us_per_event"], 0, " µs"),
        number(&report["lag"]["peak"], 0, ""),
        time(&report["latency"]["p50_ms"]),
        time(&report["latency"]["p99_ms"]),
        number(&mebibytes, 0, " MiB"),
        if report["verified"] == true { "yes" } else { "NO" }.to_owned(),
    ]
}
