//! Other people's Kafka clients against the embedded broker: kcat, Kafka's own tools, aiokafka and confluent-kafka; and
//! DuckDB, pandas and polars on the files of a run.

mod console;
mod group;
mod kcat;
mod readers;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::real;

/// Longer than any client takes for what is asked of it here.
const CLIENT_DEADLINE: Duration = Duration::from_secs(60);

/// Each needs a client that is installed.
pub fn tests() -> Vec<Trial> {
    vec![
        real("embedded broker: kcat lists, produces in every codec, and consumes the same", kcat::round_trip),
        real("embedded broker: kcat consumes as a group and goes on where it had committed", kcat::group),
        real("embedded broker: Kafka's own tools make, list, describe and delete topics", console::topics),
        real("embedded broker: Kafka's own console clients and group tool", console::producer_consumer_and_group),
        real("embedded broker: aiokafka produces and shares a group with our worker", group::aiokafka),
        real("embedded broker: confluent-kafka produces and shares a group with our worker", group::confluent),
        real("the files of a run open in DuckDB, pandas and polars, as the run and the README say", readers::runs),
        real("files of any records open in DuckDB, pandas and polars, each column with one type", readers::odd_files),
        real(
            "files of any records open in DuckDB, polars, pandas, Python and jq while they are written",
            readers::odd_files_while_they_are_written,
        ),
    ]
}

/// Runs a client to its end with `input`, and returns what it printed on standard output.
async fn client(mut command: Command, input: &str) -> Result<String> {
    let said = format!("{:?}", command.as_std());
    let running = async {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{said} does not start; CONTRIBUTING.md tells what to install"))?;
        let mut stdin = child.stdin.take().context("a piped standard input")?;
        // A client that ends without reading its input says why by its exit code.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        Ok::<_, anyhow::Error>(child.wait_with_output().await?)
    };
    let ended = tokio::time::timeout(CLIENT_DEADLINE, running)
        .await
        .with_context(|| format!("{said} did not end within {CLIENT_DEADLINE:?}"))??;
    let errors = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{said} ended with {}: {errors}", ended.status);
    Ok(String::from_utf8(ended.stdout)?)
}
