//! The compressions of record batches, read only.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use ruzstd::decoding::StreamingDecoder as ZstdDecoder;

/// What a batch may take when it is not compressed: some times the largest that brokers take by default, and a bound for those that are
/// made to be larger than any memory.
pub const MAX_PLAIN_BYTES: usize = 64 * 1024 * 1024;

/// The header of snappy-java's framing, without which a batch is one block: its magic; the versions follow in two int32.
const SNAPPY_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const SNAPPY_HEADER_BYTES: usize = 16;

/// The records of a batch as they were before they were compressed with `codec`, a batch's attribute.
///
/// # Errors
/// Why they cannot be had, for people.
pub(super) fn decompress(codec: u8, bytes: Bytes) -> Result<Bytes, String> {
    match codec {
        0 => Ok(bytes),
        1 => read("gzip", MultiGzDecoder::new(&*bytes)),
        2 => snappy(&bytes),
        3 => read("lz4", Lz4Decoder::new(&*bytes)),
        4 => {
            let decoder = ZstdDecoder::new_with_max_window_size(&*bytes, MAX_PLAIN_BYTES as u64);
            read("zstd", decoder.map_err(|error| not_readable("zstd", &error))?)
        }
        codec => Err(format!("it is compressed with codec {codec}, which is not known here")),
    }
}

fn read(codec: &str, mut decoder: impl Read) -> Result<Bytes, String> {
    let mut plain = Vec::new();
    let limit = MAX_PLAIN_BYTES as u64 + 1;
    let read: io::Result<usize> = decoder.by_ref().take(limit).read_to_end(&mut plain);
    read.map_err(|error| not_readable(codec, &error))?;
    if plain.len() > MAX_PLAIN_BYTES { Err(too_large(codec)) } else { Ok(plain.into()) }
}

fn snappy(bytes: &[u8]) -> Result<Bytes, String> {
    let mut decoder = snap::raw::Decoder::new();
    let mut block = |block: &[u8], before: usize| {
        let length = snap::raw::decompress_len(block).map_err(|error| not_readable("snappy", &error))?;
        if before + length > MAX_PLAIN_BYTES {
            return Err(too_large("snappy"));
        }
        decoder.decompress_vec(block).map_err(|error| not_readable("snappy", &error))
    };
    if !bytes.starts_with(&SNAPPY_MAGIC) {
        return block(bytes, 0).map(Bytes::from);
    }
    let mut rest = bytes.get(SNAPPY_HEADER_BYTES..).ok_or_else(|| not_readable("snappy", &"it ends in its header"))?;
    let mut plain = Vec::new();
    while !rest.is_empty() {
        let cut = || not_readable("snappy", &"it ends within a block");
        let (length, left) = rest.split_first_chunk().ok_or_else(cut)?;
        let (compressed, left) = left.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut)?;
        plain.extend_from_slice(&block(compressed, plain.len())?);
        rest = left;
    }
    Ok(plain.into())
}

fn too_large(codec: &str) -> String {
    format!("it is compressed with {codec} and would take more than {MAX_PLAIN_BYTES} bytes")
}

fn not_readable(codec: &str, error: &dyn std::fmt::Display) -> String {
    format!("it is said to be compressed with {codec}, and is not: {error}")
}
