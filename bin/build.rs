//! Tells the binaries which commit they are built from: `--version` says `0.1.0 (5d8eb1a0c2f3)`.
//!
//! Where there is no repository, as in an archive of the source or in an image, `SUPERHERO_COMMIT` tells it.

use std::path::Path;
use std::process::Command;

/// What a build is made of; with any of it changed, a commit is told as one with changes.
const SOURCES: [&str; 5] = ["Cargo.toml", "Cargo.lock", ".cargo", "bin", "src"];

fn main() {
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo:rerun-if-env-changed=SUPERHERO_COMMIT");
    let told = std::env::var("SUPERHERO_COMMIT").ok().filter(|commit| !commit.is_empty());
    let version = match told.or_else(commit) {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo:rustc-env=SUPERHERO_VERSION={version}");
}

fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // HEAD names a branch, and the branch the commit; in a packed repository the latter is in one file with all others. The index is
    // not looked at: `git status` writes it, and would have every binary linked again.
    let branch = git(&["rev-parse", "--symbolic-full-name", "HEAD"])?;
    let files = ["HEAD", branch.as_str(), "packed-refs"].map(|name| git(&["rev-parse", "--git-path", name]));
    let files = files.into_iter().flatten().filter(|file| Path::new(file).exists());
    for file in files.chain(SOURCES.map(str::to_owned)) {
        println!("cargo:rerun-if-changed={file}");
    }
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit} with changes") })
}

/// What git says, if it is there and this is a repository.
fn git(arguments: &[&str]) -> Option<String> {
    // Without taking the lock, which somebody may want who works here.
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
