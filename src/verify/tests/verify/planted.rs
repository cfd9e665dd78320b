//! What somebody else has put into the folder: nothing that is waited for, nothing that leads out of it, nothing that fills the memory, and
//! nothing that a terminal obeys.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use rustix::fs::{CWD, FileType, Mode};
use superhero_sink::MAX_ROW_BYTES;
use superhero_verify::{Fault, VerifyError};

use crate::world::{Worker, check, edit, faults, file, try_check};

/// Ten rows in two files, and the second one's path.
fn ten(folder: &Path) -> [PathBuf; 2] {
    let mut worker = Worker::new(folder, "t", 3);
    for _ in 0..2 {
        worker.events(7, 5);
        worker.publish();
    }
    [file(folder, &["+00000000000000000000."]), file(folder, &["+00000000000000000005."])]
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn what_is_no_regular_file_is_told_as_what_it_is_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let [_, last] = ten(dir.path());
    let theirs = dir.path().join("theirs");
    fs::rename(&last, &theirs).unwrap();
    let foreign = |reason: &str| {
        let found = faults(dir.path());
        let told = found
            .iter()
            .any(|fault| matches!(fault, Fault::ForeignFile { path, reason: said } if *path == last && said == reason));
        // That its rows are not there is told as well.
        assert!(
            told && found.len() == 2 && matches!(found[1], Fault::Gap { first_offset: 5, last_offset: 9, .. }),
            "{found:?}"
        );
        fs::remove_file(&last).unwrap();
    };
    fifo(&last);
    foreign("it is a FIFO");
    // The address of a socket is short, and the path need not be.
    let bound = dir.path().join("socket");
    let socket = UnixListener::bind(&bound).unwrap();
    fs::rename(&bound, &last).unwrap();
    foreign("it is a socket");
    drop(socket);
    for leads_to in [theirs.as_path(), &last, Path::new("/dev/zero")] {
        symlink(leads_to, &last).unwrap();
        foreign("it is a link, and none is followed here");
    }
    fs::rename(&theirs, &last).unwrap();
    assert!(check(dir.path()).is_clean());
}

#[test]
fn no_link_leads_out_of_the_folder_and_the_folder_may_be_one() {
    let (dir, chosen) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ten(dir.path());
    symlink(dir.path(), chosen.path().join("link")).unwrap();
    assert!(check(&chosen.path().join("link")).is_clean());
    for below in ["raw", "raw/topic=t", "raw/topic=t/partition=3", "raw/topic=t/partition=3/dt=2026-11-22"] {
        let (place, moved) = (dir.path().join("superhero").join(below), chosen.path().join("moved"));
        fs::rename(&place, &moved).unwrap();
        symlink(&moved, &place).unwrap();
        let found = check(dir.path());
        assert_eq!(found.rows.raw, 0, "{below}");
        let told = format!("{} does not belong there: it is a link", place.display());
        assert!(found.to_string().contains(&told), "{below}: {found}");
        fs::remove_file(&place).unwrap();
        fs::rename(&moved, &place).unwrap();
    }
    for below in ["superhero", "superhero/.superhero", "superhero/.superhero/sealed", "superhero/.superhero/cluster"] {
        let (place, moved) = (dir.path().join(below), chosen.path().join("moved"));
        fs::rename(&place, &moved).unwrap();
        symlink(&moved, &place).unwrap();
        let refused = try_check(&[dir.path()]).unwrap_err();
        let said = refused.to_string();
        assert!(
            matches!(refused, VerifyError::Unreadable { .. }) && said.contains(&format!("{below} is a link")),
            "{said}"
        );
        fs::remove_file(&place).unwrap();
        fs::rename(&moved, &place).unwrap();
    }
}

#[test]
fn an_id_that_is_no_file_or_without_end_is_named() {
    let dir = tempfile::tempdir().unwrap();
    ten(dir.path());
    for name in ["cluster", "topics/t"] {
        let path = dir.path().join("superhero/.superhero").join(name);
        let id = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fifo(&path);
        let said = || try_check(&[dir.path()]).unwrap_err().to_string();
        assert!(said().contains(&format!("{name}: it is a FIFO")), "{}", said());
        fs::remove_file(&path).unwrap();
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(said().contains(&format!("{name}: it holds more than")), "{}", said());
        fs::write(&path, id).unwrap();
    }
    assert!(check(dir.path()).is_clean());
}

#[test]
fn a_row_longer_than_any_that_a_worker_writes_is_told_and_the_next_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let [first, _] = ten(dir.path());
    let row = crate::world::rows(&first).swap_remove(0);
    let mut packed = GzEncoder::new(File::create(&first).unwrap(), flate2::Compression::fast());
    packed.write_all(format!("{row}\n").as_bytes()).unwrap();
    let part = vec![b'a'; 1 << 20];
    for _ in 0..MAX_ROW_BYTES / part.len() + 1 {
        packed.write_all(&part).unwrap();
    }
    packed.finish().unwrap();
    let found = check(dir.path());
    let told: Vec<_> = found.faults.first().iter().map(ToString::to_string).collect();
    assert!(
        told[0].contains(first.to_str().unwrap()) && told[0].contains("row 2 has more than 134217728 bytes"),
        "{told:?}"
    );
    assert!(told[1].contains("no row of offsets 1 to 4"), "{told:?}");
    assert_eq!((told.len(), found.rows.raw), (2, 6));
}

#[test]
fn what_a_row_holds_is_told_in_short() {
    let dir = tempfile::tempdir().unwrap();
    let [first, _] = ten(dir.path());
    edit(&first, |rows| rows[1] = format!("{{\"{}\":1}}", "\u{1b}]0;x".repeat(1 << 20)));
    let told = faults(dir.path())[0].to_string();
    assert!(told.contains("row 2 of") && told.len() < 4000, "{} bytes", told.len());
    assert!(!told.contains(char::is_control));
}

#[test]
fn names_are_shown_on_one_line_and_nothing_of_them_is_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    ten(dir.path());
    let raw = dir.path().join("superhero/raw");
    fs::write(raw.join("a\n0 faults\u{1b}[2J\u{9b}31m\u{202e}.jsonl"), "").unwrap();
    fs::write(raw.join(OsStr::from_bytes(b"b\xff.jsonl")), "").unwrap();
    let found = check(dir.path());
    let text = found.to_string();
    let told: Vec<_> = text.lines().filter(|line| line.contains("does not belong there")).collect();
    assert_eq!(told.len(), 2, "{text}");
    assert!(told[0].contains(r"/a\n0 faults\u001b[2J\u009b31m\u202e.jsonl does not"), "{text}");
    assert!(told[1].contains(r"/b\xff.jsonl does not"), "{text}");
    // What reads JSON finds the very name.
    let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
    let path = json["faults"]["first"][0]["path"].as_str().unwrap();
    assert!(Path::new(path).exists(), "{path:?}");
    assert!(json["faults"]["first"][1]["path"].as_str().unwrap().ends_with(r"/b\xff.jsonl"));
}
