//! Folders as a crash of the machine, a failing disk or a careless hand may leave them: any file cut off anywhere, or changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::event;
use super::world::Run;
use crate::fault;
use crate::layout::WORK_AREA;

/// What is done to a file.
#[derive(Clone, Debug)]
enum Damage {
    CutOff(prop::sample::Index),
    Changed(prop::sample::Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        2 => any::<prop::sample::Index>().prop_map(Damage::CutOff),
        1 => (any::<prop::sample::Index>(), 1_u8..).prop_map(|(place, change)| Damage::Changed(place, change)),
    ]
}

impl Damage {
    fn of(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match self {
            Self::CutOff(place) => bytes.truncate(place.index(bytes.len().max(1))),
            Self::Changed(place, change) if !bytes.is_empty() => {
                let place = place.index(bytes.len());
                bytes[place] ^= change;
            }
            Self::Changed(..) => {}
        }
        bytes
    }
}

fn is_published(path: &Path) -> bool {
    path.components().all(|part| part.as_os_str() != WORK_AREA)
}

fn contents(files: impl IntoIterator<Item = PathBuf>) -> BTreeMap<PathBuf, Vec<u8>> {
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

proptest! {
    #[test]
    fn any_file_may_be_cut_off_or_changed(
        shared: bool,
        events in prop::collection::vec(event(), 20..80),
        pick: prop::sample::Index,
        damage in damage(),
    ) {
        fault::arm([]);
        let mut run = Run::new(shared);
        events.into_iter().for_each(|event| run.on(event));
        let files = run.files();
        prop_assume!(!files.is_empty());
        let path = pick.get(&files).clone();
        fs::write(&path, damage.of(&fs::read(&path).unwrap())).unwrap();
        let published = contents(files.into_iter().filter(|file| is_published(file)));

        let recovered = run.recover();
        let text = path.to_string_lossy().into_owned();
        // What was being written is nobody's yet.
        if text.contains("/writing/") {
            prop_assert_eq!(&recovered, &Ok(()), "after {} was damaged", text);
        }
        if let Err(error) = &recovered {
            prop_assert!(error.contains("superhero"), "{} does not say where, after {} was damaged", error, text);
        }
        // Nothing that is published is touched, the damaged file included: it is evidence.
        for (path, bytes) in published {
            prop_assert_eq!(fs::read(&path).ok(), Some(bytes), "{} has changed", path.display());
        }
        // Whoever tries again gets the same answer.
        prop_assert_eq!(run.recover().is_ok(), recovered.is_ok());
    }
}
