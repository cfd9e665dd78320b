//! `superhero verify`: published files, and the topics that they are from, checked row by row.

use std::path::{Path, PathBuf};

use clap::Args;
use superhero_kafka::fetch::Budget;
use superhero_kafka::{Isolation, KafkaConfig};
use superhero_service::{Failure, Kind, LogArguments, print, tell, whole};
use superhero_simulation::{runs, shell_path};
use superhero_verify::{VerifyConfig, VerifyError, verify};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::Identity;

use crate::output::Output;
use crate::settings;

/// How many runs are listed where one of them was to be named.
const MAX_RUNS_LISTED: usize = 10;

/// Read published files, compare them with their topics, and tell what is wrong; exit 4 if anything is
///
/// Gaps, duplicates, inversions, torn and foreign files, segments that are not published, games that the tables lack: each with
/// topic, partition and offset.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The folder of a run, or one that workers have written to; several are checked as one
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,

    /// The same as FOLDER
    #[arg(long, value_name = "FOLDER")]
    out: Vec<PathBuf>,

    /// The folder that is checked if none is named
    #[arg(long, env = "OUTPUT_DIR", value_name = "FOLDER", default_value = "data")]
    output_dir: PathBuf,

    /// Brokers of the cluster to compare the files with, as host:port,host:port,…; without it they are checked by themselves
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,…", alias = "kafka-bootstrap-servers",
        value_parser = settings::kafka)]
    kafka: Option<String>,

    /// Only these topics, separated by commas
    #[arg(long, value_name = "TOPIC,…", value_delimiter = ',')]
    topics: Option<Vec<String>>,

    /// What the workers were told to take of transactions: read_committed, or read_uncommitted
    #[arg(long, env = "KAFKA_ISOLATION_LEVEL", value_name = "LEVEL", default_value_t = Isolation::Committed)]
    isolation_level: Isolation,

    /// Bytes of memory for all that is fetched and what it unfolds to: as much as the workers had
    #[arg(long, env = "FETCH_MEMORY_BYTES", value_name = "BYTES", default_value_t = Budget::DEFAULT_BYTES, value_parser = whole(Budget::MIN_BYTES..=Budget::MAX_BYTES))]
    fetch_memory_bytes: usize,

    /// How the findings are shown
    #[arg(long, value_enum, ignore_case = true, default_value_t = Output::Text)]
    output: Output,

    #[command(flatten)]
    log: LogArguments,
}

impl Verify {
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        self.kafka().map(drop)
    }

    fn kafka(&self) -> Result<Option<KafkaConfig>, Failure> {
        let kafka = self.kafka.as_ref().map(|servers| KafkaConfig::new(servers, "superhero-verify")).transpose();
        kafka.map_err(|error| Failure::new(Kind::Usage, error))
    }

    /// Checks, prints what was found, and fails with [`Kind::NotVerified`] if anything is wrong.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Failure> {
        let _log = self.log.start("superhero", Identity::new())?;
        let kafka = self.kafka()?;
        let mut folders = [self.folders, self.out].concat();
        if folders.is_empty() {
            folders.push(self.output_dir);
        }
        let topics = self.topics.clone().unwrap_or_default();
        let beside = folders.iter().map(|folder| (folder.clone(), runs(folder).len()));
        let beside: Vec<_> = beside.filter(|(_, runs)| *runs > 0).collect();
        let (isolation, budget) = (self.isolation_level, Budget::new(self.fetch_memory_bytes));
        let config = VerifyConfig { folders, kafka, isolation, budget, topics: self.topics, figures_of: None };
        let found = verify(config, stop).await.map_err(refused)?;
        // Of a name that was mistyped, too, there is nothing that could be wrong.
        let is_there = |topic: &String| found.partitions.iter().any(|partition| partition.topic == *topic);
        if let Some(topic) = topics.iter().find(|topic| !is_there(topic)) {
            let error =
                format!("--topics {topic}: there is nothing of this topic to check; correct the name, or leave it out");
            return Err(Failure::new(Kind::Usage, error));
        }
        let text = match self.output {
            Output::Text => found.to_string(),
            Output::Json => serde_json::to_string(&found)?,
        };
        print(text)?;
        for (folder, runs) in beside {
            let folder = shell_path(&folder);
            tell(format_args!("not checked: {runs} runs with folders of their own in {folder}; ls -d {folder}/run-*"));
        }
        match found.faults.total() {
            0 => Ok(()),
            1 => Err(Failure::new(Kind::NotVerified, "the files are not right: 1 fault")),
            faults => Err(Failure::new(Kind::NotVerified, format!("the files are not right: {faults} faults"))),
        }
    }
}

fn refused(error: VerifyError) -> Failure {
    let kind = kind(&error);
    match &error {
        VerifyError::NoRows { path } => match &runs(path)[..] {
            [] => Failure::new(kind, error),
            runs => which_run(kind, path, runs),
        },
        _ => Failure::new(kind, error),
    }
}

/// What to type for each of the runs in a folder that is none itself.
fn which_run(kind: Kind, out: &Path, runs: &[PathBuf]) -> Failure {
    let said =
        format!("{} holds no rows of its own, but runs do in it; name one, the newest being the first:", out.display());
    let listed = runs.iter().take(MAX_RUNS_LISTED);
    let mut lines: Vec<_> = listed.map(|run| format!("  superhero verify {}", shell_path(run))).collect();
    if let older @ 1.. = runs.len().saturating_sub(MAX_RUNS_LISTED) {
        lines.push(format!("  … and {older} older"));
    }
    Failure::new(kind, said).with_lines(lines)
}

fn kind(error: &VerifyError) -> Kind {
    match error {
        VerifyError::NoFolders | VerifyError::SameFolder { .. } | VerifyError::Topic(_) => Kind::Usage,
        VerifyError::Kafka(_) => Kind::NotReady,
        _ => Kind::Failed,
    }
}
