//! How to go on: a line each for what data engineers read files with.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::quote::{glob, hadoop_glob, python, shell, sql, text};

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
        const FILES: &str = "/*/*.jsonl.gz";
        let podium = text(&folder.join("superhero/GAME_PODIUM"));
        let files = glob(&podium) + FILES;
        Self {
            duckdb: format!(
                "SELECT rank, avg(rounds), sum(damage_delivered) FROM {} GROUP BY rank ORDER BY rank",
                sql(&files)
            ),
            pandas: format!(
                "pandas.concat(pandas.read_json(file, lines=True) for file in glob.glob({}))",
                python(&files)
            ),
            polars: format!("polars.scan_ndjson({}).filter(polars.col('rank') == 1).collect()", python(&files)),
            spark: format!("spark.read.json({}).where('rank = 1').show()", python(&hadoop_glob(&podium))),
            jq: format!("zcat {}{FILES} | jq -c 'select(.rank == 1)'", shell(&podium)),
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<14}duckdb -c {}", "DuckDB", shell(&self.duckdb))?;
        writeln!(f, "{:<14}{}", "pandas", self.pandas)?;
        writeln!(f, "{:<14}{}", "polars", self.polars)?;
        writeln!(f, "{:<14}{}", "Spark", self.spark)?;
        write!(f, "{:<14}{}", "jq", self.jq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(folder: &str, expected: [&str; 5]) {
        let next = Next::new(Path::new(folder)).to_string();
        let lines: Vec<_> = next.lines().map(|line| &line[14..]).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_plain_folder_stands_as_it_is() {
        check(
            "data/run-1",
            [
                "duckdb -c \"SELECT rank, avg(rounds), sum(damage_delivered) FROM \
                 'data/run-1/superhero/GAME_PODIUM/*/*.jsonl.gz' GROUP BY rank ORDER BY rank\"",
                "pandas.concat(pandas.read_json(file, lines=True) for file in \
                 glob.glob('data/run-1/superhero/GAME_PODIUM/*/*.jsonl.gz'))",
                "polars.scan_ndjson('data/run-1/superhero/GAME_PODIUM/*/*.jsonl.gz').filter(polars.col('rank') == 1).collect()",
                "spark.read.json('data/run-1/superhero/GAME_PODIUM').where('rank = 1').show()",
                "zcat data/run-1/superhero/GAME_PODIUM/*/*.jsonl.gz | jq -c 'select(.rank == 1)'",
            ],
        );
    }

    #[test]
    fn a_folder_of_any_name_is_that_folder_in_each_language() {
        check(
            "it's $a [b]*",
            [
                r"duckdb -c 'SELECT rank, avg(rounds), sum(damage_delivered) FROM '\''it'\'''\''s $a [[]b][*]/superhero/GAME_PODIUM/*/*.jsonl.gz'\'' GROUP BY rank ORDER BY rank'",
                r"pandas.concat(pandas.read_json(file, lines=True) for file in glob.glob('it\'s $a [[]b][*]/superhero/GAME_PODIUM/*/*.jsonl.gz'))",
                r"polars.scan_ndjson('it\'s $a [[]b][*]/superhero/GAME_PODIUM/*/*.jsonl.gz').filter(polars.col('rank') == 1).collect()",
                r"spark.read.json('it\'s $a \\[b\\]\\*/superhero/GAME_PODIUM').where('rank = 1').show()",
                r"zcat 'it'\''s $a [b]*/superhero/GAME_PODIUM'/*/*.jsonl.gz | jq -c 'select(.rank == 1)'",
            ],
        );
    }
}
