//! A run by `superhero up` or `superhero trial` on the embedded parts, kept up for the checks.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::{ConsumerProtocolAssignment, DescribeGroupsRequest, GroupId};
use kafka_protocol::protocol::{Decodable, StrBytes};
use superhero_kafka::wire::Connection;
use superhero_kafka::{Cluster, KafkaConfig, LagMeter};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{Members, PARTITIONS, Play, TOPICS};
use crate::checker::{self, Totals};
use crate::process::{Process, binary};

const GROUP: &str = "superhero_sim";
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A version that says who has what, and is not flexible.
const DESCRIBE_GROUPS: i16 = 4;

pub struct Run {
    kafka: KafkaConfig,
    process: Process,
    out: TempDir,
}

impl Run {
    /// Plays, and waits for the report, which is printed when everything is committed and read back.
    pub async fn play(play: Play) -> Result<Self> {
        let out = tempfile::tempdir()?;
        let mut command = binary("superhero");
        command.args(if play.afterwards { &["trial", "dead-workers"][..] } else { &["up"] });
        command.args([format!("players={}", play.players), format!("games={}", play.games)]);
        command.args([format!("servers={}", play.servers), format!("workers={}", play.workers)]);
        command.args([format!("partitions={PARTITIONS}"), format!("out={}", out.path().display())]);
        command.args(["pace=0.01", "seed=7", "keep=true"]);
        let mut process = Process::spawn("superhero", command)?;
        let bootstrap = process.says("still up: Kafka at ").await?;
        let bootstrap = bootstrap.trim_end_matches(',');
        Ok(Self { kafka: KafkaConfig::new(bootstrap, "superhero-test")?, process, out })
    }

    /// The folder of the run's own.
    fn folder(&self) -> Result<PathBuf> {
        let entries: Vec<_> = std::fs::read_dir(self.out.path())?.collect::<Result<_, _>>()?;
        ensure!(entries.len() == 1, "a run makes one folder, not {entries:?}");
        Ok(entries[0].path())
    }

    /// As the coordinator describes the group.
    pub async fn members(&self) -> Result<Members> {
        let cluster = Cluster::connect(&self.kafka, Instant::now() + CALL_TIMEOUT).await?;
        let lag = LagMeter::new(cluster, GROUP, TOPICS).look().await?.records();
        let mut connection = Connection::open(&self.kafka.servers(), &self.kafka).await?;
        let group = GroupId(StrBytes::from_static_str(GROUP));
        let request = DescribeGroupsRequest::default().with_groups(vec![group]);
        let answer = connection.call(DESCRIBE_GROUPS, &request, CALL_TIMEOUT).await?;
        let group = answer.groups.first().context("the group is not described")?;
        ensure!(group.error_code == 0 && &*group.group_state == "Stable", "the group is {group:?}");
        let mut members = Members { lag, ..Members::default() };
        for member in &group.members {
            let mut assignment = member.member_assignment.clone();
            let version = assignment.split_to(2);
            ensure!(version[..] == [0, 0], "an assignment of version {version:?}");
            for topic in ConsumerProtocolAssignment::decode(&mut assignment, 0)?.assigned_partitions {
                for partition in topic.partitions {
                    let place = (topic.topic.to_string(), partition);
                    let owner = members.owners.insert(place, member.member_id.to_string());
                    ensure!(owner.is_none(), "{}/{partition} has two owners", *topic.topic);
                }
            }
        }
        Ok(members)
    }

    pub async fn check(&self) -> Result<Totals> {
        checker::check(&self.kafka.servers(), None, &self.folder()?, &TOPICS).await
    }

    /// Stops it; it says by its exit code that what it had verified before holds.
    pub async fn end(self) -> Result<()> {
        self.process.stop().await.map(drop)
    }
}
