//! What data engineers open files with.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::client;
use crate::process::binary;
use crate::python;

/// Runs the very lines that `superhero up` says to go on with, and compares what they count.
pub async fn duckdb_and_pandas() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut up = binary("superhero");
    up.args(["up", "players=6", "games=2", "pace=0", "output=json"]).arg(format!("out={}", folder.path().display()));
    let report: Value = serde_json::from_str(&client(up, "").await?)?;
    let events = report["events"]["written"].as_u64().context("events.written of the report")?;
    let games = report["games"]["completed"].as_u64().context("games.completed of the report")?;

    let python = python::interpreter().await?;
    for (reader, setup, counted) in
        [("duckdb", "import duckdb", "duckdb.sql"), ("pandas", "import pandas, glob", "eval")]
    {
        let line = report["next"][reader].as_str().with_context(|| format!("next.{reader} of the report"))?;
        let mut command = Command::new(&python);
        command.args(["-c", &format!("{setup}\nprint({counted}({line:?}))")]);
        let printed = client(command, "").await?;
        ensure!(!printed.trim().is_empty(), "{reader} shows nothing for {line}");
    }

    let script = concat!(
        "import duckdb, glob, json, pandas, sys\n",
        "root = sys.argv[1] + '/superhero'\n",
        "count = lambda table: duckdb.sql(f\"SELECT count(*) FROM '{root}/{table}/**/*.jsonl.gz'\").fetchall()[0][0]\n",
        "winners = duckdb.sql(f\"SELECT count(*) FROM '{root}/GAME_PODIUM/**/*.jsonl.gz' WHERE rank = 1\").fetchall()[0][0]\n",
        "files = glob.glob(root + '/raw/**/*.jsonl.gz', recursive=True)\n",
        "rows = sum(len(pandas.read_json(file, lines=True)) for file in files)\n",
        "print(json.dumps({'raw': count('raw'), 'winners': winners, 'pandas': rows}))\n",
    );
    let mut command = Command::new(&python);
    command.args(["-c", script, report["folder"].as_str().context("folder of the report")?]);
    let counts: Value = serde_json::from_str(client(command, "").await?.trim())?;
    ensure!(
        counts["raw"] == events && counts["pandas"] == events,
        "{events} events were written, the readers count {counts}"
    );
    ensure!(counts["winners"] == games, "{games} games were completed, the readers count {counts}");
    Ok(())
}
