//! What data engineers open files with.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::client;
use crate::process::binary;
use crate::python;
use crate::services::Kafka;
use crate::worker::columns::odd_records;

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
    let (setting, ..) = odd_records(&kafka, folder.path()).await?;
    let python = python::interpreter().await?;
    let script = concat!(
        "import duckdb, glob, polars, sys\n",
        "for table in ['raw', 'dead', 'GAME_META', 'GAME_PODIUM']:\n",
        "    files = glob.glob(f'{sys.argv[1]}/superhero/{table}/**/*.jsonl.gz', recursive=True)\n",
        // What a record says is of whatever type its producer chose.
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
