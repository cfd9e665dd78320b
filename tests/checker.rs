//! What the files must hold: read from the topics and from Redis by means of their own, not by the worker's code.

mod games;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{OffsetAt, UnknownTopicHandling};
use serde_json::Value;

use self::games::Game;

/// What stands in a topic's partition: offset, value, and where it came from.
#[derive(Debug)]
struct Produced {
    offset: i64,
    value: Vec<u8>,
    id: Option<String>,
}

/// The totals of a folder that was found right.
#[derive(Debug, PartialEq, Eq)]
pub struct Totals {
    /// Records in the topics, each once in the raw files.
    pub records: usize,
    /// Records that the broker holds twice.
    pub duplicates: usize,
    /// Completed games, each once in the tables.
    pub games: usize,
}

/// Compares topics and games with the published files; the first difference is the error. The games are those of the Redis on that
/// port, or, where there is none, those of the topics' events.
pub async fn check(bootstrap: &str, redis_port: Option<u16>, output: &Path, topics: &[&str]) -> Result<Totals> {
    let (mut records, mut duplicates) = (0, 0);
    let mut values = Vec::new();
    for topic in topics {
        let partitions = read_topic(bootstrap, topic).await?;
        for (partition, mut produced) in partitions {
            let mut seen = HashSet::new();
            let all = produced.len();
            produced.retain(|record| record.id.as_ref().is_none_or(|id| seen.insert(id.clone())));
            duplicates += all - produced.len();
            records += produced.len();
            check_raw(output, topic, partition, &produced)
                .with_context(|| format!("{topic}/{partition} and its raw files differ"))?;
            values.extend(produced.into_iter().map(|record| record.value));
        }
    }
    ensure!(leftovers(output)?.is_empty(), "unpublished segments are left: {:?}", leftovers(output)?);
    let games = match redis_port {
        Some(port) => games::of_redis(port).await?,
        None => games::of_events(values.iter().map(Vec::as_slice))?,
    };
    let games = check_tables(&games, output)?;
    Ok(Totals { records, duplicates, games })
}

fn check_raw(output: &Path, topic: &str, partition: i32, produced: &[Produced]) -> Result<()> {
    let folder = output.join(format!("superhero/raw/topic={topic}/partition={partition}"));
    let mut rows = Vec::new();
    for (first, file) in by_first_offset(&folder)? {
        let lines = lines(&file)?;
        let found = lines.first().map(|line| row(line)).transpose()?.and_then(|row| row["offset"].as_i64());
        ensure!(found == Some(first), "{} begins with offset {found:?}", file.display());
        rows.extend(lines);
    }
    ensure!(rows.len() == produced.len(), "{} rows for {} records", rows.len(), produced.len());
    for (line, record) in rows.iter().zip(produced) {
        let row = row(line)?;
        ensure!(row["offset"] == record.offset, "offset {} stands where {} belongs", row["offset"], record.offset);
        ensure!(
            row["topic"] == topic && row["partition"] == partition,
            "a row of {}/{}",
            row["topic"],
            row["partition"]
        );
        ensure!(row["id"].as_str() == record.id.as_deref(), "offset {} has id {}", record.offset, row["id"]);
        let value = std::str::from_utf8(&record.value)?;
        ensure!(line.ends_with(&format!("\"value\":{value}}}")), "offset {}: the value is not verbatim", record.offset);
    }
    Ok(())
}

async fn read_topic(bootstrap: &str, topic: &str) -> Result<BTreeMap<i32, Vec<Produced>>> {
    const FETCH_BYTES: i32 = 8 << 20;
    const FETCH_WAIT_MS: i32 = 500;
    let client = ClientBuilder::new(vec![bootstrap.to_owned()]).build().await?;
    let known = client.list_topics().await?;
    let known = known.into_iter().find(|known| known.name == topic).with_context(|| format!("no topic {topic}"))?;
    let mut partitions = BTreeMap::new();
    for partition in known.partitions {
        let reader = client.partition_client(topic, partition, UnknownTopicHandling::Retry).await?;
        let mut next = reader.get_offset(OffsetAt::Earliest).await?;
        let end = reader.get_offset(OffsetAt::Latest).await?;
        let mut produced = Vec::new();
        while next < end {
            let (batch, _) = reader.fetch_records(next, 1..FETCH_BYTES, FETCH_WAIT_MS).await?;
            for record in batch {
                next = record.offset + 1;
                let header = |name: &str| {
                    record.record.headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
                };
                let id = header("superhero-producer")
                    .zip(header("superhero-sequence"))
                    .map(|(producer, sequence)| format!("{producer}-{sequence}"));
                produced.push(Produced {
                    offset: record.offset,
                    value: record.record.value.clone().unwrap_or_default(),
                    id,
                });
            }
        }
        partitions.insert(partition, produced);
    }
    Ok(partitions)
}

/// `GAME_META` and `GAME_PODIUM` against what was played; how many completed games there are.
fn check_tables(games: &BTreeMap<String, Game>, output: &Path) -> Result<usize> {
    let meta = table(output, "GAME_META")?;
    let podium = table(output, "GAME_PODIUM")?;
    for (token, game) in games {
        let rows = meta.get(token).with_context(|| format!("GAME_META lacks the completed game {token}"))?;
        let found: BTreeMap<String, u64> =
            rows.iter().map(|row| (text(row, "user_token"), number(row, "superhero_id"))).collect();
        ensure!(rows.len() == game.heroes.len(), "GAME_META has {} rows for {token}: {game:?}", rows.len());
        ensure!(found == game.heroes, "GAME_META has {found:?} for {token}: {game:?}");

        let expected = game.podium()?;
        let rows = podium.get(token).with_context(|| format!("GAME_PODIUM lacks the completed game {token}"))?;
        ensure!(rows.len() == expected.len(), "GAME_PODIUM has {} rows for {token}", rows.len());
        for row in rows {
            let found = ["rounds", "rank", "damage_delivered", "damage_received"].map(|name| number(row, name));
            let user = text(row, "user_token");
            let expected = expected.get(&user);
            ensure!(expected == Some(&found), "{user} of {token}: {found:?}, and {expected:?} was played");
        }
    }
    for (name, table) in [("GAME_META", &meta), ("GAME_PODIUM", &podium)] {
        let strangers: Vec<_> = table.keys().filter(|token| !games.contains_key(*token)).collect();
        ensure!(strangers.is_empty(), "{name} has games that were not completed: {strangers:?}");
    }
    Ok(games.len())
}

/// The rows of a table by game.
fn table(output: &Path, name: &str) -> Result<BTreeMap<String, Vec<Value>>> {
    let mut games: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (_, file) in by_first_offset(&output.join("superhero").join(name))? {
        for line in lines(&file)? {
            let row = row(&line)?;
            games.entry(text(&row, "game_token")).or_default().push(row);
        }
    }
    Ok(games)
}

/// The files below `folder` with the first offset that their names tell, by that offset.
pub fn by_first_offset(folder: &Path) -> Result<Vec<(i64, PathBuf)>> {
    let mut files = Vec::new();
    for file in files_below(folder)? {
        let name = file.file_name().and_then(|name| name.to_str()).context("a name that is not text")?;
        let stem = name.split_once(".jsonl").with_context(|| format!("a foreign file {name}"))?.0;
        let offset = stem.rsplit('+').next().filter(|offset| offset.len() == 20).context("no 20-digit offset")?;
        files.push((offset.parse()?, file));
    }
    files.sort();
    Ok(files)
}

/// Every file below `folder`, none if it is not there.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    Ok(files)
}

/// Segments that were begun or sealed and never published.
fn leftovers(output: &Path) -> Result<Vec<PathBuf>> {
    let hidden = output.join("superhero/.superhero");
    Ok([files_below(&hidden.join("writing"))?, files_below(&hidden.join("sealed"))?].concat())
}

/// The lines of a file of JSON lines, gzip or not.
pub fn lines(file: &Path) -> Result<Vec<String>> {
    let opened = File::open(file)?;
    let reader: Box<dyn Read> = match file.extension().is_some_and(|extension| extension == "gz") {
        true => Box::new(GzDecoder::new(opened)),
        false => Box::new(opened),
    };
    BufReader::new(reader).lines().collect::<Result<_, _>>().with_context(|| format!("reading {}", file.display()))
}

fn row(line: &str) -> Result<Value> {
    serde_json::from_str(line).with_context(|| format!("a row that is not JSON: {line}"))
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or(u64::MAX)
}
