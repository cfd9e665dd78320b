//! `superhero verify`: published files, and the topics that they are from, checked row by row.

use std::path::PathBuf;

use clap::Args;
use superhero_kafka::KafkaConfig;
use superhero_service::{Failure, Kind, LogArguments};
use superhero_verify::{VerifyConfig, VerifyError, verify};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::Identity;

use crate::output::{Output, print};

/// Read published files, compare them with their topics, and tell what is wrong; exit 4 if anything is
///
/// Gaps, duplicates, inversions, torn and foreign files, segments that are not published, games that the tables lack: each with
/// topic, partition and offset.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// A folder that workers have written to; several are checked as one
    #[arg(long, env = "OUTPUT_DIR", value_name = "FOLDER", alias = "output-dir", default_value = "data")]
    out: Vec<PathBuf>,

    /// Brokers of the cluster to compare the files with, as host:port,host:port,…; without it they are checked by themselves
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,…", alias = "kafka-bootstrap-servers")]
    kafka: Option<String>,

    /// Only these topics, separated by commas
    #[arg(long, value_name = "TOPIC,…", value_delimiter = ',')]
    topics: Option<Vec<String>>,

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
        let config = VerifyConfig { folders: self.out, kafka, topics: self.topics, figures_of: None };
        let found = verify(config, stop).await.map_err(|error| Failure::new(kind(&error), error))?;
        let text = match self.output {
            Output::Text => found.to_string(),
            Output::Json => serde_json::to_string(&found)?,
        };
        print(&text)?;
        match found.faults.total() {
            0 => Ok(()),
            1 => Err(Failure::new(Kind::NotVerified, "the files are not right: 1 fault")),
            faults => Err(Failure::new(Kind::NotVerified, format!("the files are not right: {faults} faults"))),
        }
    }
}

fn kind(error: &VerifyError) -> Kind {
    match error {
        VerifyError::NoFolders | VerifyError::SameFolder { .. } => Kind::Usage,
        VerifyError::Kafka(_) => Kind::NotReady,
        _ => Kind::Failed,
    }
}
