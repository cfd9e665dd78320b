//! kcat, which is librdkafka.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::client;
use crate::services::Kafka;

const TOPIC: &str = "from-kcat";
const RECORDS: usize = 500;

fn kcat(broker: &Kafka, arguments: &[&str]) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-q", "-b", &broker.bootstrap]).args(arguments);
    command
}

/// `key:value` a line, as kcat reads and prints them.
fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("key-{}:{{\"number\":{number}}}\n", number % 10)).collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

pub async fn round_trip() -> Result<()> {
    let broker = Kafka::embedded()?;
    let mut all = String::new();
    for (number, options) in [
        &["-z", "none"][..],
        &["-z", "gzip"],
        &["-z", "snappy"],
        &["-z", "lz4"],
        &["-z", "zstd"],
        &["-X", "enable.idempotence=true"],
        &["-X", "acks=0"],
    ]
    .into_iter()
    .enumerate()
    {
        let input = lines(number * RECORDS..(number + 1) * RECORDS);
        let produce = [&["-P", "-t", TOPIC, "-K", ":", "-H", "origin=kcat"], options].concat();
        client(kcat(&broker, &produce), &input).await?;
        all.push_str(&input);
    }

    let listed: Value = serde_json::from_str(&client(kcat(&broker, &["-L", "-J"]), "").await?)?;
    let topics = listed["topics"].as_array().context("no topics in what kcat -L says")?;
    let topic = topics.iter().find(|topic| topic["topic"] == TOPIC).context("the topic is not listed")?;
    ensure!(
        topic["partitions"].as_array().is_some_and(|partitions| partitions.len() == 4),
        "not 4 partitions: {topic}"
    );

    let consume = ["-C", "-t", TOPIC, "-o", "beginning", "-e", "-f", "%k:%s\n"];
    let consumed = client(kcat(&broker, &consume), "").await?;
    ensure!(sorted(&consumed) == sorted(&all), "{} of {} records came back", consumed.lines().count(), 7 * RECORDS);

    let headers = ["-C", "-t", TOPIC, "-p", "0", "-o", "beginning", "-c", "1", "-J"];
    let record: Value = serde_json::from_str(&client(kcat(&broker, &headers), "").await?)?;
    ensure!(record["headers"] == serde_json::json!(["origin", "kcat"]), "the headers of {record}");
    Ok(())
}

pub async fn group() -> Result<()> {
    let broker = Kafka::embedded()?;
    let consume = ["-G", "kcat-group", "-X", "auto.offset.reset=earliest", "-e", "-K", ":", TOPIC];
    for round in 0..2 {
        let input = lines(round * RECORDS..(round + 1) * RECORDS);
        client(kcat(&broker, &["-P", "-t", TOPIC, "-K", ":"]), &input).await?;
        let consumed = client(kcat(&broker, &consume), "").await?;
        ensure!(sorted(&consumed) == sorted(&input), "round {round}: {} records came", consumed.lines().count());
    }
    Ok(())
}
