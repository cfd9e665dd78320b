//! A small file system of its own for an output folder, so that it can be full.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// What is written in a minute, with room to spare; a small disk is soon full.
const MIB_PER_MINUTE: u64 = 32;
/// And for a run of seconds.
const LEAST_MIB: u64 = 64;

/// A mounted tmpfs; when it is dropped, what is on it stays as a folder of the same name.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Of a size for a run of such a length. Needs the right to mount.
    pub fn mount(folder: &Path, length: Duration) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let size = format!("size={}m", LEAST_MIB + MIB_PER_MINUTE * length.as_secs() / 60);
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self { folder: folder.to_owned() })
    }

    /// Leaves no room for another byte.
    pub fn fill(&self) -> Result<()> {
        static BLOCK: [u8; 64 << 10] = [0; 64 << 10];
        let mut filler = File::create(self.filler())?;
        let mut room = BLOCK.len();
        while room > 0 {
            match filler.write(&BLOCK[..room]) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => room /= 2,
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let kept = self.folder.with_extension("kept");
        // It is there only in a run that was cut off.
        let _ = std::fs::remove_file(self.filler());
        let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        let copied = done(Command::new("cp").arg("-a").arg(&self.folder).arg(&kept));
        let unmounted = done(Command::new("umount").arg("-l").arg(&self.folder));
        let moved =
            unmounted && std::fs::remove_dir(&self.folder).and_then(|()| std::fs::rename(&kept, &self.folder)).is_ok();
        if !(copied && moved) {
            eprintln!("{} cannot be unmounted, or what is on it cannot be kept", self.folder.display());
        }
    }
}
