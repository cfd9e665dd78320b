//! Where a run's files go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use superhero_sink::layout::{ROOT, WORK_AREA};

/// More runs than begin within a second.
const MAX_RUNS_A_SECOND: u32 = 100;

/// Makes a folder of the run's own, named by when it begins; a number follows where there is one of that name.
pub(crate) fn make(out: &Path, now: DateTime<Utc>) -> io::Result<PathBuf> {
    fs::create_dir_all(out)?;
    let name = now.format("run-%Y%m%dT%H%M%SZ").to_string();
    for number in 1..MAX_RUNS_A_SECOND {
        let folder = match number {
            1 => out.join(&name),
            number => out.join(format!("{name}-{number}")),
        };
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{MAX_RUNS_A_SECOND} runs began in this second")))
}

/// Whether workers have committed rows in the folder that they have not published yet.
pub(crate) fn has_sealed(folder: &Path) -> bool {
    let sealed = folder.join(ROOT).join(WORK_AREA).join("sealed");
    // Where it cannot be read nothing is waited for: whoever reads the files back says why.
    fs::read_dir(sealed).is_ok_and(|mut segments| segments.next().is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_the_same_second_have_a_folder_each() {
        let out = tempfile::tempdir().unwrap();
        let now = DateTime::from_timestamp(1_795_371_321, 0).unwrap();
        let made: Vec<_> = (0..3).map(|_| make(&out.path().join("new"), now).unwrap()).collect();
        let names: Vec<_> = made.iter().map(|folder| folder.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["run-20261122T181521Z", "run-20261122T181521Z-2", "run-20261122T181521Z-3"]);
    }
}
