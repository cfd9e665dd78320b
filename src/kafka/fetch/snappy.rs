//! Snappy as a stream: a block may say that it unfolds to gigabytes, and what comes of it is wanted a few bytes at a time.
//!
//! Format: <https://github.com/google/snappy/blob/main/format_description.txt>. Compressors look back no further than 64 KiB, since they
//! work on pieces of that size; whatever goes back further than [`WINDOW_BYTES`] is refused.

use std::cmp::min;
use std::io::{self, Read};

use bytes::{Buf, Bytes};

/// The header of snappy-java's framing, without which a batch is one block: its magic; the versions follow in two int32.
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;

/// A block of up to this size is unfolded at once, which is faster.
const WHOLE_BLOCK_BYTES: usize = if cfg!(test) { 2000 } else { 4 << 20 };
/// How far a copy may go back in a larger one.
const WINDOW_BYTES: usize = if cfg!(test) { 64 << 10 } else { 2 << 20 };
/// Unfolded of a larger one at a time.
const STEP_BYTES: usize = if cfg!(test) { 5000 } else { 256 << 10 };

/// A batch's bytes, one block after the other.
pub(super) struct Snappy {
    blocks: Bytes,
    is_framed: bool,
    /// Of the present block, what is not unfolded.
    block: Bytes,
    /// How many bytes of the block are still to come.
    left: usize,
    /// Of a literal, what is not copied.
    literal: usize,
    /// What was unfolded, with the window of the present block in front.
    out: Vec<u8>,
    /// How much of it was read.
    read: usize,
}

impl Snappy {
    pub(super) fn new(mut bytes: Bytes) -> Self {
        let is_framed = bytes.starts_with(&MAGIC);
        if is_framed {
            bytes.advance(min(HEADER_BYTES, bytes.len()));
        }
        Self { blocks: bytes, is_framed, block: Bytes::new(), left: 0, literal: 0, out: Vec::new(), read: 0 }
    }

    fn begin(&mut self) -> Result<(), &'static str> {
        self.block = if self.is_framed {
            if self.blocks.len() < 4 {
                return Err("it ends within a block");
            }
            let length = self.blocks.get_u32() as usize;
            if length > self.blocks.len() {
                return Err("it ends within a block");
            }
            self.blocks.split_to(length)
        } else {
            std::mem::take(&mut self.blocks)
        };
        self.out.clear();
        self.read = 0;
        let length = snap::raw::decompress_len(&self.block).map_err(|_| "a block does not begin with its length")?;
        if length <= WHOLE_BLOCK_BYTES {
            self.out.resize(length, 0);
            let block = std::mem::take(&mut self.block);
            let unfolded = snap::raw::Decoder::new().decompress(&block, &mut self.out);
            unfolded.map_err(|_| "a block is broken")?;
            return Ok(());
        }
        self.left = length;
        // The length stands in as many bytes as have their first bit set, and one.
        let digits = self.block.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        self.block.advance(digits);
        Ok(())
    }

    /// Goes on in a large block.
    fn step(&mut self) -> Result<(), &'static str> {
        if self.out.len() >= 2 * WINDOW_BYTES {
            self.out.drain(..self.out.len() - WINDOW_BYTES);
        }
        self.read = self.out.len();
        let end = self.out.len() + min(self.left, STEP_BYTES);
        while self.out.len() < end {
            if self.literal > 0 {
                let length = min(self.literal, end - self.out.len());
                let literal = self.block.get(..length).ok_or("it ends within a literal")?;
                self.out.extend_from_slice(literal);
                self.block.advance(length);
                self.literal -= length;
                continue;
            }
            self.element()?;
        }
        // The last element may be a copy of some bytes more.
        self.left = self.left.checked_sub(self.out.len() - self.read).ok_or("a block is longer than it says")?;
        if self.left == 0 && self.literal > 0 {
            return Err("a block is longer than it says");
        }
        Ok(())
    }

    fn element(&mut self) -> Result<(), &'static str> {
        let mut take = |count: usize| {
            let bytes = self.block.get(..count).ok_or("it ends within a block")?;
            let number = bytes.iter().rev().fold(0, |number: usize, byte| number << 8 | usize::from(*byte));
            self.block.advance(count);
            Ok::<_, &'static str>(number)
        };
        let tag = take(1)?;
        let (length, offset) = match tag & 0b11 {
            0 => {
                let length = tag >> 2;
                self.literal = 1 + if length < 60 { length } else { take(length - 59)? };
                return Ok(());
            }
            1 => (4 + ((tag >> 2) & 0b111), (tag >> 5) << 8 | take(1)?),
            2 => (1 + (tag >> 2), take(2)?),
            _ => (1 + (tag >> 2), take(4)?),
        };
        if offset == 0 || offset > self.out.len() {
            return Err("a copy goes back further than there is, or than is kept of a large block");
        }
        let start = self.out.len() - offset;
        if offset >= length {
            self.out.extend_from_within(start..start + length);
        } else {
            for at in start..start + length {
                self.out.push(self.out[at]);
            }
        }
        Ok(())
    }
}

impl Read for Snappy {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let broken = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason);
        while self.read == self.out.len() && !out.is_empty() {
            if self.left > 0 {
                self.step().map_err(broken)?;
            } else if self.blocks.is_empty() && self.block.is_empty() {
                return Ok(0);
            } else if !self.block.is_empty() {
                return Err(broken("a block is longer than it says"));
            } else {
                self.begin().map_err(broken)?;
            }
        }
        let length = min(out.len(), self.out.len() - self.read);
        out[..length].copy_from_slice(&self.out[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}
