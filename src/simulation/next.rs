//! How to go on: a line each for what data engineers read files with.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// Ways to read a run's tables.
#[derive(Debug, Clone, Serialize)]
pub struct Next {
    /// SQL for DuckDB.
    pub duckdb: String,
    /// Python, with pandas and glob imported.
    pub pandas: String,
    /// Python, with polars imported.
    pub polars: String,
    /// Python, with a Spark session.
    pub spark: String,
    /// For a shell.
    pub jq: String,
}

impl Next {
    pub(crate) fn new(folder: &Path) -> Self {
        let podium = folder.join("superhero/GAME_PODIUM");
        let podium = podium.display();
        let files = format!("{podium}/*/*.jsonl.gz");
        Self {
            duckdb: format!(
                "SELECT rank, avg(rounds), sum(damage_delivered) FROM '{files}' GROUP BY rank ORDER BY rank"
            ),
            pandas: format!("pandas.concat(pandas.read_json(file, lines=True) for file in glob.glob('{files}'))"),
            polars: format!("polars.scan_ndjson('{files}').filter(polars.col('rank') == 1).collect()"),
            spark: format!("spark.read.json('{podium}').where('rank = 1').show()"),
            jq: format!("zcat {files} | jq -c 'select(.rank == 1)'"),
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<14}duckdb -c \"{}\"", "DuckDB", self.duckdb)?;
        writeln!(f, "{:<14}{}", "pandas", self.pandas)?;
        writeln!(f, "{:<14}{}", "polars", self.polars)?;
        writeln!(f, "{:<14}{}", "Spark", self.spark)?;
        write!(f, "{:<14}{}", "jq", self.jq)
    }
}
