//! The compressions of record batches, read only, a few bytes at a time and in bounded memory.

use std::cmp::min;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use ruzstd::decoding::StreamingDecoder;

use super::snappy::Snappy;

type Compressed = Reader<Bytes>;

const NONE: u8 = 0;
const GZIP: u8 = 1;
const SNAPPY: u8 = 2;
const LZ4: u8 = 3;
const ZSTD: u8 = 4;

/// What a decoder of gzip takes, or of snappy, at most.
const SMALL_DECODER_BYTES: usize = 9 << 20;
/// Of zstd, besides the window: tables, one block and its sequences.
const ZSTD_DECODER_BYTES: usize = 4 << 20;
/// The largest block of a frame of lz4, some three of which are held.
const MAX_LZ4_BLOCK_BYTES: usize = 8 << 20;
const LZ4_WINDOW_BYTES: usize = 64 << 10;

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A frame of zstd may be there for nothing: 16 magics, and its length follows.
const ZSTD_SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

/// Records of a batch as they were before they were compressed.
pub(super) struct Decoder {
    codec: &'static str,
    kind: Kind,
}

enum Kind {
    Gzip(Box<MultiGzDecoder<Compressed>>),
    Snappy(Box<Snappy>),
    Lz4(Box<Lz4Decoder<Compressed>>),
    Zstd(Box<Zstd>),
}

/// What it takes to read a batch that is compressed with `codec`, a batch's attribute, in bytes; 0 if it is not.
pub(super) fn decoder_bytes(codec: u8, bytes: &[u8]) -> usize {
    match codec {
        NONE => 0,
        LZ4 => {
            // The two bits tell 64 KiB to 4 MiB; an old kind of frame has 8 MiB.
            let block = match bytes.get(5) {
                Some(sizes) if bytes.starts_with(&LZ4_MAGIC) => (64 << 10) << (2 * ((sizes >> 4) & 0b11)),
                _ => MAX_LZ4_BLOCK_BYTES,
            };
            3 * block + LZ4_WINDOW_BYTES
        }
        // The decoder's buffer is the next power of two.
        ZSTD => zstd_window(bytes).map_or(0, |window| window.saturating_mul(2)).saturating_add(ZSTD_DECODER_BYTES),
        _ => SMALL_DECODER_BYTES,
    }
}

impl Decoder {
    /// For what is compressed with `codec`, a batch's attribute; none if it is not compressed.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    pub(super) fn new(codec: u8, bytes: Bytes, max_window_bytes: usize) -> Result<Option<Self>, String> {
        let (codec, kind) = match codec {
            NONE => return Ok(None),
            GZIP => ("gzip", Kind::Gzip(Box::new(MultiGzDecoder::new(bytes.reader())))),
            SNAPPY => ("snappy", Kind::Snappy(Box::new(Snappy::new(bytes)))),
            LZ4 => ("lz4", Kind::Lz4(Box::new(Lz4Decoder::new(bytes.reader())))),
            ZSTD => {
                // The first frame's window is what there is memory for.
                let max_window_bytes = zstd_window(&bytes).unwrap_or(0).min(max_window_bytes);
                ("zstd", Kind::Zstd(Box::new(Zstd { rest: bytes, frame: None, max_window_bytes })))
            }
            codec => return Err(format!("it is compressed with codec {codec}, which is not known here")),
        };
        Ok(Some(Self { codec, kind }))
    }

    /// Appends up to `count` bytes; fewer are the end, or what came before the error.
    ///
    /// # Errors
    /// Why there is no more, for people.
    pub(super) fn read(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let codec = self.codec;
        let not_readable = |error: String| format!("it is said to be compressed with {codec}, and is not: {error}");
        let before = out.len();
        // Whatever stands in a batch must not end more than that batch.
        let read = catch_unwind(AssertUnwindSafe(|| self.kind.by_ref().take(count as u64).read_to_end(out)));
        match read {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(not_readable(error.to_string())),
            Err(_) => {
                out.truncate(before);
                Err(not_readable("its reader has panicked".to_owned()))
            }
        }
    }
}

impl Read for Kind {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(out),
            Self::Snappy(decoder) => decoder.read(out),
            Self::Lz4(decoder) => decoder.read(out),
            Self::Zstd(decoder) => decoder.read(out),
        }
    }
}

/// One frame after the other.
struct Zstd {
    rest: Bytes,
    frame: Option<StreamingDecoder<Compressed, ruzstd::decoding::FrameDecoder>>,
    max_window_bytes: usize,
}

impl Read for Zstd {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(out)?;
                if read > 0 || out.is_empty() {
                    return Ok(read);
                }
            }
            if let Some(frame) = self.frame.take() {
                self.rest = frame.into_inner().into_inner();
            }
            if self.rest.is_empty() {
                return Ok(0);
            }
            match skippable(&self.rest) {
                Some(length) => self.rest.advance(min(length, self.rest.len())),
                None => {
                    let (source, limit) = (std::mem::take(&mut self.rest).reader(), self.max_window_bytes as u64);
                    let frame = StreamingDecoder::new_with_max_window_size(source, limit);
                    self.frame = Some(frame.map_err(io::Error::other)?);
                }
            }
        }
    }
}

/// The bytes of a frame that is to be skipped.
fn skippable(bytes: &[u8]) -> Option<usize> {
    let magic = u32::from_le_bytes(*bytes.first_chunk()?);
    let length = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    ZSTD_SKIPPABLE.contains(&magic).then_some(8 + length as usize)
}

/// The window that the first frame asks for, by its header; none if that cannot be told.
fn zstd_window(mut bytes: &[u8]) -> Option<usize> {
    while let Some(length) = skippable(bytes) {
        bytes = bytes.get(length..)?;
    }
    let (descriptor, rest) = bytes.strip_prefix(&ZSTD_MAGIC)?.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return usize::try_from(base + base / 8 * u64::from(window & 0b111)).ok();
    }
    // The content's size is the window: behind the dictionary's id, of 1 to 8 bytes.
    let size = rest.get([0, 1, 2, 4][usize::from(descriptor & 0b11)]..)?;
    let length = 1_usize << (descriptor >> 6);
    let size = size.get(..length)?.iter().rev().fold(0, |size: u64, byte| size << 8 | u64::from(*byte));
    usize::try_from(size.saturating_add(if length == 2 { 256 } else { 0 })).ok()
}
