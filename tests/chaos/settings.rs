//! What a run is told: `name=value` words, in any order.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::plan::Fault;

const HELP: &str = "\
just chaos [seed=NUMBER] [minutes=NUMBER] [faults=NAME,…] [lasting=SECONDS] [folders=shared|each] [players=COUNT] [work=FOLDER]

  seed      what all choices are drawn from               drawn at random, and told
  minutes   of load                                       3
  faults    that happen                                   all
  lasting   seconds that each fault lasts                 each its own
  folders   of the workers: one, or one each              by the seed, half of the runs each
  players   bots                                          80
  work      a folder for data and logs                    a new one, removed when nothing is wrong
";

/// The workers' output folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folders {
    Shared,
    Each,
}

#[derive(Debug)]
pub struct Settings {
    pub seed: u64,
    pub length: Duration,
    pub faults: Vec<Fault>,
    pub lasting: Option<Duration>,
    pub folders: Folders,
    pub players: usize,
    pub work: PathBuf,
    /// Whether the folder goes when nothing is wrong.
    pub temporary: bool,
}

impl Settings {
    /// None if only the help was wanted, which is printed.
    pub fn from_words(words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let (mut seed, mut minutes, mut faults, mut lasting) = (None, 3.0, Fault::ALL.to_vec(), None);
        let (mut folders, mut players, mut work) = (None, 80, None);
        for word in words {
            if word == "help" || word == "--help" {
                print!("{HELP}");
                return Ok(None);
            }
            let (name, value) = word.split_once('=').with_context(|| format!("{word:?} is no setting\n\n{HELP}"))?;
            let wrong = || format!("{word} cannot be used\n\n{HELP}");
            match name {
                "seed" => seed = Some(value.parse().with_context(wrong)?),
                "minutes" => minutes = value.parse().with_context(wrong)?,
                "lasting" => {
                    lasting = Some(Duration::try_from_secs_f64(value.parse().with_context(wrong)?).with_context(wrong)?)
                }
                "players" => players = value.parse().with_context(wrong)?,
                "work" => work = Some(PathBuf::from(value)),
                "folders" => match value {
                    "shared" => folders = Some(Folders::Shared),
                    "each" => folders = Some(Folders::Each),
                    _ => bail!("{}", wrong()),
                },
                "faults" => faults = value.split(',').map(str::parse).collect::<Result<_>>()?,
                _ => bail!("{name:?} is no setting\n\n{HELP}"),
            }
        }
        let seed = seed.unwrap_or_else(rand::random);
        let temporary = work.is_none();
        let work = work.unwrap_or_else(|| std::env::temp_dir().join(format!("superhero-chaos-{seed}")));
        std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
        let taken = std::fs::read_dir(&work)?.next().is_some();
        ensure!(!taken, "{} holds what an earlier run has left: remove it, or name another with work=", work.display());
        Ok(Some(Self {
            seed,
            length: Duration::try_from_secs_f64(minutes * 60.0).context("minutes")?,
            faults,
            lasting,
            folders: folders.unwrap_or(if seed % 2 == 0 { Folders::Shared } else { Folders::Each }),
            players,
            work,
            temporary,
        }))
    }
}
