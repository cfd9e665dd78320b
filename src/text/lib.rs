//! JSON's text into buffers, a few bytes at a time, the system's errors in words, and what others have named as it is shown.
//!
//! What every event passes through puts lines together from pieces of some ten to some hundred bytes. `Vec::extend_from_slice` calls
//! `memcpy` for each, and musl's, made for large pieces, takes 5 to 20 ns for a small one where glibc's takes 2. The functions here copy
//! blocks whose size is known when they are compiled, which become loads and stores.

mod escape;
mod io_error;
pub mod shown;

pub use escape::escape;
pub use io_error::io_error_in_words;

/// From here on, `memcpy` is the faster, whoever's it is.
const LARGE_BYTES: usize = 1024;

/// Appends a piece, as `Vec::extend_from_slice` does.
pub fn append(out: &mut Vec<u8>, piece: &[u8]) {
    if piece.len() >= LARGE_BYTES {
        return out.extend_from_slice(piece);
    }
    let (blocks, rest) = piece.as_chunks::<64>();
    for block in blocks {
        out.extend_from_slice(block);
    }
    let is_done = append_two::<32>(out, rest)
        || append_two::<16>(out, rest)
        || append_two::<8>(out, rest)
        || append_two::<4>(out, rest);
    if !is_done {
        rest.iter().for_each(|byte| out.push(*byte));
    }
}

/// Appends a piece of `N` to `2 * N` bytes as its first and its last `N`, which may overlap; `false` if it has fewer.
#[inline]
fn append_two<const N: usize>(out: &mut Vec<u8>, piece: &[u8]) -> bool {
    let (Some(first), Some(last)) = (piece.first_chunk::<N>(), piece.last_chunk::<N>()) else { return false };
    out.extend_from_slice(first);
    out.truncate(out.len() + piece.len() - 2 * N);
    out.extend_from_slice(last);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_every_length_are_appended() {
        let piece: Vec<u8> = (0..=u8::MAX).cycle().take(LARGE_BYTES + 64).collect();
        let mut out = Vec::new();
        for len in 0..piece.len() {
            out.truncate(len % 7);
            let mut expected = out.clone();
            expected.extend_from_slice(&piece[..len]);
            append(&mut out, &piece[..len]);
            assert_eq!(out, expected, "a piece of {len} bytes");
        }
    }
}
