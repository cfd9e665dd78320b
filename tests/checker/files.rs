//! The files of output folders, by their names, and the lines in them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;

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
pub fn leftovers(output: &Path) -> Result<Vec<PathBuf>> {
    let hidden = output.join("superhero/.superhero");
    Ok([files_below(&hidden.join("writing"))?, files_below(&hidden.join("sealed"))?].concat())
}

/// The lines of a file of JSON lines, gzip or not.
pub fn lines(file: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for_each_line(file, |line| lines.push(line.to_owned()))?;
    Ok(lines)
}

/// Hands each line to `take`; the last must end with a line feed, too.
pub fn for_each_line(file: &Path, mut take: impl FnMut(&str)) -> Result<()> {
    let opened = File::open(file)?;
    let reader: Box<dyn Read> = match file.extension().is_some_and(|extension| extension == "gz") {
        true => Box::new(GzDecoder::new(opened)),
        false => Box::new(opened),
    };
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    while reader.read_line(&mut line).with_context(|| format!("reading {}", file.display()))? > 0 {
        let whole = line.strip_suffix('\n').with_context(|| format!("{} ends in a row", file.display()))?;
        take(whole);
        line.clear();
    }
    Ok(())
}
