//! `superhero up`: the whole pipeline in one process.

use std::convert::Infallible;

use clap::Args;
use superhero_service::{Failure, Kind, print, tell, whole_of};
use superhero_simulation::{Report, Simulation, SimulationConfig, WorkersStart, draw};
use tokio_util::sync::CancellationToken;

use crate::output::Output;
use crate::settings::{RunArguments, kind};

/// Play with bots, servers, broker and workers in one process, over real sockets, and check what came out
///
/// Ends when all bots have played and every event is in a published file; exit 4 if one is missing or stands twice. Ctrl-C once ends
/// the playing, brings what has happened to its end and sums up; twice aborts. Settings can be words, in any order: superhero up
/// players=10 workers=4.
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Bots
    #[arg(long, env = "PLAYERS", value_name = "COUNT", default_value_t = SimulationConfig::default().players,
        value_parser = whole_of(SimulationConfig::PLAYERS))]
    players: usize,

    #[arg(long = "on", hide = true, value_parser = of_just)]
    _on: Option<Infallible>,

    #[command(flatten)]
    run: RunArguments,
}

/// Where a run is to be, which `just up` has for a setting.
fn of_just(_: &str) -> Result<Infallible, &'static str> {
    Err("where to run is a setting of just, in this repository: `just up … on=compose` starts it in containers")
}

impl Up {
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        self.config().map(drop)
    }

    fn config(&self) -> Result<SimulationConfig, Failure> {
        self.run.config(self.players, WorkersStart::AtOnce)
    }

    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        play(self.config()?, &self.run, stop, |report, output| match output {
            Output::Text => format!("{report}\n\n{}", report.verdict()),
            Output::Json => json(report),
        })
        .await
    }
}

/// One run, with its progress on standard error and what `show` makes of its report on standard output.
pub(crate) async fn play(
    config: SimulationConfig,
    run: &RunArguments,
    stop: CancellationToken,
    show: impl Fn(&Report, Output) -> String,
) -> Result<(), Failure> {
    let failure = |error| Failure::new(kind(&error), error);
    let keep = config.keep;
    let simulation = Simulation::prepare(config).await.map_err(failure)?;
    let _sweep = simulation.sweep();
    let _log = run.log(&simulation)?;
    tell(format_args!("the run's files go to {}", simulation.folder().display()));
    let progress = simulation.progress();
    let played = draw(progress, stop.clone(), Box::pin(simulation.run(stop.clone()))).await;
    let (report, mut pipeline) = played.map_err(failure)?;
    let printed = print(show(&report, run.output));
    if keep && !stop.is_cancelled() {
        let servers: Vec<_> = pipeline.servers().iter().map(ToString::to_string).collect();
        tell(format_args!(
            "still up: Kafka at {}, servers at {}; Ctrl-C ends it",
            pipeline.kafka(),
            servers.join(" and ")
        ));
        stop.cancelled().await;
        tell("stopping: what was logged meanwhile is still written; Ctrl-C again aborts");
    }
    let progress = pipeline.progress();
    let closing = pipeline.close();
    let faults = match keep {
        // That it stops has been told.
        true => draw(progress, CancellationToken::new(), closing).await,
        false => closing.await,
    };
    for fault in faults {
        tell(format_args!("while stopping: {fault}"));
    }
    printed?;
    match report.verified {
        true => Ok(()),
        false => {
            let findings = match report.findings.len() {
                1 => "1 finding".to_owned(),
                findings => format!("{findings} findings"),
            };
            Err(Failure::new(Kind::NotVerified, format!("the run is not right: {findings}")))
        }
    }
}

pub(crate) fn json(report: &Report) -> String {
    serde_json::to_string(report).expect("numbers and texts")
}
