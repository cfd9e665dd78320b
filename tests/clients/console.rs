//! What comes with Apache Kafka, in Java.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::client;
use crate::services::Kafka;

async fn tool(broker: &Kafka, class: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka-tool"));
    command.arg(format!("org.apache.kafka.tools.{class}"));
    command.args(["--bootstrap-server", &broker.bootstrap]).args(arguments);
    client(command, input).await
}

pub async fn topics() -> Result<()> {
    let broker = Kafka::embedded()?;
    tool(&broker, "TopicCommand", &["--create", "--topic", "cities", "--partitions", "3"], "").await?;
    tool(&broker, "TopicCommand", &["--create", "--topic", "rivers", "--partitions", "1"], "").await?;
    let listed = tool(&broker, "TopicCommand", &["--list"], "").await?;
    ensure!(listed.lines().collect::<Vec<_>>() == ["cities", "rivers"], "the tool lists {listed:?}");

    let described = tool(&broker, "TopicCommand", &["--describe", "--topic", "cities"], "").await?;
    ensure!(described.contains("PartitionCount: 3") && described.contains("ReplicationFactor: 1"), "{described}");
    for partition in 0..3 {
        ensure!(described.contains(&format!("Partition: {partition}\tLeader: ")), "{described}");
    }

    tool(&broker, "TopicCommand", &["--alter", "--topic", "rivers", "--partitions", "2"], "").await?;
    let offsets = tool(&broker, "GetOffsetShell", &["--topic", "rivers"], "").await?;
    ensure!(offsets.lines().collect::<Vec<_>>() == ["rivers:0:0", "rivers:1:0"], "the offsets are {offsets:?}");

    tool(&broker, "TopicCommand", &["--delete", "--topic", "rivers"], "").await?;
    let listed = tool(&broker, "TopicCommand", &["--list"], "").await?;
    ensure!(listed.lines().collect::<Vec<_>>() == ["cities"], "the tool lists {listed:?}");
    Ok(())
}

pub async fn producer_consumer_and_group() -> Result<()> {
    const RECORDS: usize = 200;
    const GROUP: &str = "readers";
    let broker = Kafka::embedded()?;
    tool(&broker, "TopicCommand", &["--create", "--topic", "cities", "--partitions", "2"], "").await?;
    let sent: Vec<String> = (0..RECORDS).map(|number| format!("city {number:03}")).collect();
    tool(&broker, "ConsoleProducer", &["--topic", "cities"], &(sent.join("\n") + "\n")).await?;

    let messages = RECORDS.to_string();
    let consume = ["--topic", "cities", "--from-beginning", "--group", GROUP, "--max-messages", &messages];
    let consumed = tool(&broker, "consumer.ConsoleConsumer", &consume, "").await?;
    let mut consumed: Vec<&str> = consumed.lines().collect();
    consumed.sort_unstable();
    ensure!(consumed == sent, "{} of {RECORDS} records came back", consumed.len());

    let listed = tool(&broker, "consumer.group.ConsumerGroupCommand", &["--list"], "").await?;
    ensure!(listed.lines().any(|line| line == GROUP), "the tool lists the groups {listed:?}");
    let described = tool(&broker, "consumer.group.ConsumerGroupCommand", &["--describe", "--group", GROUP], "").await?;
    let mut taken = 0;
    for line in described.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [GROUP, "cities", _, current, end, lag, ..] = fields[..] else { continue };
        ensure!(current == end && lag == "0", "the group lags: {line}");
        taken += current.parse::<usize>().context("a committed offset")?;
    }
    ensure!(taken == RECORDS, "the group has taken {taken} records: {described}");

    let reset = ["--reset-offsets", "--to-earliest", "--execute", "--group", GROUP, "--topic", "cities"];
    tool(&broker, "consumer.group.ConsumerGroupCommand", &reset, "").await?;
    let described = tool(&broker, "consumer.group.ConsumerGroupCommand", &["--describe", "--group", GROUP], "").await?;
    ensure!(described.lines().filter(|line| line.starts_with(GROUP)).count() == 2, "{described}");
    tool(&broker, "consumer.group.ConsumerGroupCommand", &["--delete", "--group", GROUP], "").await?;
    Ok(())
}
