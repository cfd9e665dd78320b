//! What data engineers open files with.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::client;
use crate::process::binary;
use crate::python;
use crate::services::Kafka;
use crate::worker::batches::produce_at;
use crate::worker::columns::{TIMES, odd_records, odd_values};
use crate::worker::setting::{Setting, foreign};

const README: &str = include_str!("../../README.md");

/// Runs the very lines that `superhero up` says to go on with, and compares what they count.
pub async fn runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut up = binary("superhero");
    up.args(["up", "players=6", "games=2", "pace=0", "output=json"]).arg(format!("out={}", folder.path().display()));
    let report: Value = serde_json::from_str(&client(up, "").await?)?;
    let events = report["events"]["written"].as_u64().context("events.written of the report")?;
    let games = report["games"]["completed"].as_u64().context("games.completed of the report")?;

    let python = python::interpreter().await?;
    for (reader, setup, counted) in [
        ("duckdb", "import duckdb", "duckdb.sql"),
        ("pandas", "import pandas, glob", "eval"),
        ("polars", "import polars", "eval"),
    ] {
        let line = report["next"][reader].as_str().with_context(|| format!("next.{reader} of the report"))?;
        let mut command = Command::new(&python);
        command.args(["-c", &format!("{setup}\nprint({counted}({line:?}))")]);
        let printed = client(command, "").await?;
        ensure!(!printed.trim().is_empty(), "{reader} shows nothing for {line}");
    }

    let script = concat!(
        "import duckdb, glob, json, pandas, polars, sys\n",
        "root = sys.argv[1] + '/superhero'\n",
        "count = lambda table: duckdb.sql(f\"SELECT count(*) FROM '{root}/{table}/**/*.jsonl.gz'\").fetchall()[0][0]\n",
        "winners = duckdb.sql(f\"SELECT count(*) FROM '{root}/GAME_PODIUM/**/*.jsonl.gz' WHERE rank = 1\").fetchall()[0][0]\n",
        "raw, meta = f\"'{root}/raw/**/*.jsonl.gz'\", f\"'{root}/GAME_META/**/*.jsonl.gz'\"\n",
        "joined = f'SELECT count(DISTINCT game_token) FROM {raw} JOIN {meta} ON TRY_CAST(key AS UUID) = game_token'\n",
        "joined = duckdb.sql(joined).fetchall()[0][0]\n",
        "files = glob.glob(root + '/raw/**/*.jsonl.gz', recursive=True)\n",
        "rows = sum(len(pandas.read_json(file, lines=True)) for file in files)\n",
        "polars = len(polars.scan_ndjson(root + '/raw/**/*.jsonl.gz').collect())\n",
        "print(json.dumps({'raw': count('raw'), 'winners': winners, 'joined': joined, 'pandas': rows, 'polars': polars}))\n",
    );
    let mut command = Command::new(&python);
    let folder = report["folder"].as_str().context("folder of the report")?;
    command.args(["-c", script, folder]);
    let counts: Value = serde_json::from_str(client(command, "").await?.trim())?;
    ensure!(
        ["raw", "pandas", "polars"].iter().all(|reader| counts[reader] == events),
        "{events} events were written, the readers count {counts}"
    );
    ensure!(
        counts["winners"] == games && counts["joined"] == games,
        "{games} games were completed, the readers count {counts}"
    );
    read_as_the_readme_says(&python, folder, events).await
}

/// Records of whoever can write to the topics, each in a file of its own.
pub async fn odd_files() -> Result<()> {
    let (kafka, folder) = (Kafka::embedded()?, tempfile::tempdir()?);
    let (setting, ..) = odd_records(&kafka, folder.path(), &TIMES).await?;
    let python = python::interpreter().await?;
    let script = concat!(
        "import duckdb, glob, polars, sys\n",
        "for table in ['raw', 'dead', 'GAME_META', 'GAME_PODIUM']:\n",
        "    files = glob.glob(f'{sys.argv[1]}/superhero/{table}/**/*.jsonl.gz', recursive=True)\n",
        // What a record says is of whatever type its producer chose, and where it tells no time, it has none.
        "    files = [file for file in files if '__HIVE_DEFAULT_PARTITION__' not in file]\n",
        "    described = lambda file: duckdb.sql(f\"DESCRIBE FROM '{file}'\").fetchall()\n",
        "    for types in [\n",
        "        {str(dict(polars.scan_ndjson(file).drop('value', strict=False).collect_schema())) for file in files},\n",
        "        {str([column for column in described(file) if column[0] != 'value']) for file in files},\n",
        "    ]:\n",
        "        assert len(types) == 1, '\\n'.join([table, *types])\n",
    );
    let output = folder.path().to_str().context("a path that is text")?;
    let mut command = Command::new(&python);
    command.args(["-c", script, output]);
    client(command, "").await?;
    read_as_the_readme_says(&python, output, setting.raw(0)?.len() as u64).await
}

/// Other people's readers, on the whole folder and with everything that may be hidden in it, while a worker writes what anybody may have sent.
pub async fn odd_files_while_they_are_written() -> Result<()> {
    const ROTATE_RECORDS: u64 = 40;
    const READINGS: &str = "2";
    const MAX_RECORDS: i64 = 800;
    let (kafka, folder) = (Kafka::embedded()?, tempfile::tempdir()?);
    let setting = Setting::new(&kafka, folder.path(), 1).await?;
    let mut config = setting.config();
    config.sink.rotation.max_records = ROTATE_RECORDS;
    config.sink.rotation.max_age = Duration::from_secs(600);
    config.sink.compression = superhero_sink::Compression::Gzip;
    let worker = setting.start(config);
    let values = odd_values();
    // So much that packed rows do not wait in memory.
    let large: String = (0..40_000_u64).map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let large = format!("\"{large}\"");
    let produce = async |offset: i64| {
        let times = TIMES.iter().enumerate().map(|(at, time)| (offset + at as i64, *time));
        for (offset, time) in times {
            produce_at(&setting, time, b"{}", offset).await?;
        }
        let odd: Vec<_> =
            values.iter().map(|(value, ..)| foreign(*value)).chain([foreign(Some(large.as_bytes()))]).collect();
        let next = offset + (TIMES.len() + odd.len()) as i64;
        setting.produce(0, odd).await?;
        anyhow::Ok(next)
    };
    let mut next = 0;
    for _ in 0..5 {
        next = produce(next).await?;
    }
    let published = next as usize / ROTATE_RECORDS as usize * ROTATE_RECORDS as usize;
    setting.published(published).await?;
    let python = python::interpreter().await?;
    let mut command = Command::new(&python);
    command.args(["-c", READ_ALL, folder.path().to_str().context("a path that is text")?, READINGS]);
    let reading = client(command, "");
    tokio::pin!(reading);
    let counts = loop {
        tokio::select! {
            read = &mut reading => break read?,
            produced = produce(next), if next < MAX_RECORDS => next = produced?,
        }
    };
    println!("{}", counts.trim());
    worker.stopped().await?;
    setting.take_all().await?;
    let found = setting.verify(&[folder.path()]).await?;
    ensure!(found.is_clean() && found.rows.raw == next as u64, "{found}");
    Ok(())
}

/// Reads all files below a folder with each reader, so often, and prints how many raw rows each has found. What was published before must be
/// there, nothing may be there twice, and nothing that was not published when the reading ended.
const READ_ALL: &str = r#"
import duckdb, glob, gzip, json, pandas, polars, subprocess, sys
root, times = sys.argv[1] + "/superhero", int(sys.argv[2])
every = root + "/**/*.jsonl.gz"
text = ["topic", "timestamp", "key", "key_format", "id", "value_format", "value_base64", "value"]
numbers = ["partition", "offset", "timestamp_raw"]
schema = {name: polars.String for name in text} | {name: polars.Int64 for name in numbers}
columns = {name: "VARCHAR" for name in text} | {name: "BIGINT" for name in numbers} | {"timestamp": "TIMESTAMP", "value": "JSON"}
files = lambda: [file for file in glob.glob(every, recursive=True, include_hidden=True) if "/dead/" not in file]
in_duckdb = lambda columns: duckdb.sql(
    f"SELECT \"offset\" FROM read_json('{every}', {columns}filename=true) WHERE filename NOT LIKE '%/dead/%'"
)
def in_polars(glob, attempts=100):
    found = polars.scan_ndjson(glob, schema=schema, include_file_paths="file").filter(~polars.col("file").str.contains("/dead/"))
    try:
        return found.collect()["offset"].to_list()
    except polars.exceptions.ComputeError as error:
        # It gives up when a folder goes while it looks into it, as those of work in progress do; the README tells where to begin.
        if attempts == 0 or "/.superhero/" not in str(error) or "No such file" not in str(error):
            raise
        return in_polars(glob, attempts - 1)
in_jq = f"find '{root}' -name '*.jsonl.gz' | grep -v /dead/ | xargs zcat | jq .offset"
readers = {
    "DuckDB": lambda: [offset for offset, in in_duckdb(f"columns={columns}, ").fetchall()],
    "DuckDB without types": lambda: [offset for offset, in in_duckdb("").fetchall()],
    "polars": lambda: in_polars(root + "/raw/**/*.jsonl.gz"),
    "polars in hidden folders": lambda: in_polars(every),
    "pandas": lambda: list(pandas.concat(pandas.read_json(file, lines=True, dtype=False) for file in files())["offset"]),
    "Python": lambda: [json.loads(line)["offset"] for file in files() for line in gzip.open(file, "rt", encoding="utf-8")],
    "jq": lambda: [int(line) for line in subprocess.run(
        ["bash", "-o", "pipefail", "-c", in_jq], check=True, capture_output=True, text=True).stdout.split()],
}
published = lambda: set(readers["Python"]())
for time in range(times):
    for name, read in readers.items():
        before, offsets, after = published(), read(), published()
        found = set(offsets)
        assert len(found) == len(offsets), f"{name} finds {len(offsets)} rows of {len(found)} offsets"
        assert before <= found <= after, f"{name} finds {len(found)} rows of {len(before)} to {len(after)}: {before - found}, {found - after}"
        print(f"{name}: {len(found)}", end="\n" if name == "jq" else "; ")
"#;

/// Runs the README's Python on a folder, and compares how many rows of the raw table each reader finds.
async fn read_as_the_readme_says(python: &str, folder: &str, records: u64) -> Result<()> {
    let shown = README.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = shown.context("the README shows no Python")?.replace("data/superhero", &format!("{folder}/superhero"));
    let mut command = Command::new(python);
    command.args(["-c", &format!("{shown}\nprint(len(in_polars), len(in_duckdb), len(in_pandas))")]);
    let counts = client(command, "").await?;
    ensure!(counts.trim() == [records.to_string().as_str(); 3].join(" "), "{records} rows, the readers count {counts}");
    Ok(())
}
