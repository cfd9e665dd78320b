//! JSON's escapes, for texts that are JSON themselves: every few bytes there is a quote.
//!
//! What stands between two escapes is only a few bytes long, so that calling `memcpy` for it would cost more than copying it, with
//! musl's several times more. Words of eight bytes are looked at and copied as one instead, and taken back from their first escape on.

const WORD_BYTES: usize = 8;

/// A word of this byte eight times.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; WORD_BYTES])
}

/// Appends what stands between the quotes of a JSON string, escaped as serde_json does it.
pub fn escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some((word, behind)) = rest.split_first_chunk::<WORD_BYTES>() {
        out.extend_from_slice(word);
        match plain_bytes(*word) {
            WORD_BYTES => rest = behind,
            plain => {
                out.truncate(out.len() - (WORD_BYTES - plain));
                push(out, word[plain]);
                rest = &rest[plain + 1..];
            }
        }
    }
    rest.iter().for_each(|byte| push(out, *byte));
}

/// How many bytes of a word stand as they are before the first that does not.
fn plain_bytes(word: [u8; WORD_BYTES]) -> usize {
    let word = u64::from_le_bytes(word);
    // The highest bit of each byte that is below `limit`. A borrow can put bits behind the first such byte, and none before it.
    let below = |word: u64, limit: u8| word.wrapping_sub(each(limit)) & !word & each(0x80);
    let found = below(word, 0x20) | below(word ^ each(b'"'), 1) | below(word ^ each(b'\\'), 1);
    // Of no byte at all, the number of zeros is that of all bits.
    (found.trailing_zeros() / u8::BITS) as usize
}

fn push(out: &mut Vec<u8>, byte: u8) {
    match ESCAPE[usize::from(byte)] {
        0 => out.push(byte),
        b'u' => push_code(out, byte),
        escape => out.extend_from_slice(&[b'\\', escape]),
    }
}

#[cold]
fn push_code(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u00");
    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// What follows the backslash for each byte, `u` for a code; 0 for what stands as it is.
static ESCAPE: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[0x08] = b'b';
    table[b'\t' as usize] = b't';
    table[b'\n' as usize] = b'n';
    table[0x0c] = b'f';
    table[b'\r' as usize] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) {
        let mut out = b"before\"".to_vec();
        escape(&mut out, text);
        out.push(b'"');
        assert_eq!(String::from_utf8(out).unwrap(), format!("before{}", serde_json::Value::from(text)));
    }

    #[test]
    fn every_byte_is_escaped_as_serde_json_does_it_wherever_it_stands() {
        for byte in 0..=0x7f {
            for place in 0..2 * WORD_BYTES {
                check(&format!("{}{}{}", "-".repeat(place), char::from(byte), "é".repeat(WORD_BYTES)));
            }
        }
    }

    #[test]
    fn bytes_behind_an_escape_are_not_taken_for_one() {
        // Neighbours of what is escaped: a borrow for the byte before could make them look so.
        for behind in [' ', '#', ']', '!'] {
            for first in ['\u{1f}', '"', '\\'] {
                check(&format!("{first}{behind}{behind}{first}{behind}abcdefgh{behind}"));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_escaped_as_serde_json_does_it(text in any::<String>(), json in "[{}\":,\\\\a-z0-9\n\u{1}]{0,64}") {
            check(&text);
            check(&json);
        }
    }
}
