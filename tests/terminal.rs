//! A pseudo-terminal, and a process that has it as all of its streams.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::{Child, Command};

/// What a process shows on a terminal.
pub struct Terminal {
    control: OwnedFd,
    written: Arc<Mutex<Vec<u8>>>,
    /// The process; killed when dropped.
    pub child: Child,
}

impl Terminal {
    /// Starts a process on a terminal of that many columns and rows.
    pub fn spawn(mut command: Command, columns: u16, rows: u16) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let control = openpt(flags)?;
        grantpt(&control)?;
        unlockpt(&control)?;
        resize(&control, columns, rows)?;
        let stream = ioctl_tiocgptpeer(&control, flags)?;
        command.stdin(stream.try_clone()?).stdout(stream.try_clone()?).stderr(stream).env("TERM", "xterm");
        let child = command.kill_on_drop(true).spawn().context("starting a process on a terminal")?;
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut shown, kept) = (File::from(control.try_clone()?), Arc::clone(&written));
        // It ends with the last stream of the process, which the command holds too.
        drop(command);
        tokio::task::spawn_blocking(move || {
            let mut some = [0; 4096];
            while let Ok(length @ 1..) = shown.read(&mut some) {
                kept.lock().expect("nobody panics with it").extend_from_slice(&some[..length]);
            }
        });
        Ok(Self { control, written, child })
    }

    /// Makes it narrower or wider.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        resize(&self.control, columns, rows)
    }

    /// Everything that was written to it, escape sequences included.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().expect("nobody panics with it")).into_owned()
    }
}

fn resize(control: &OwnedFd, columns: u16, rows: u16) -> Result<()> {
    Ok(tcsetwinsize(control, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// The pieces that were written from the beginning of a line on, without escape sequences.
pub fn pieces(written: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' | '\n' => pieces.push(String::new()),
            // Ours end with a letter.
            '\x1b' => {
                letters.by_ref().find(char::is_ascii_alphabetic);
            }
            letter => pieces.last_mut().expect("there is one from the start on").push(letter),
        }
    }
    pieces
}
