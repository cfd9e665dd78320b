//! Names and reasons that others have chosen, as they are shown: nothing in them moves a cursor, ends a line, or turns what follows around.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A text on one line: what a terminal would obey stands as JSON escapes it, `\u001b`, so that JSON that is escaped once more is the same JSON.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_obeyed)
}

/// The same for a text of several lines, whose ends stay, and whose tabs do.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !matches!(c, '\n' | '\t') && is_obeyed(c))
}

/// A path on one line. Bytes that are no text stand as `\xff`.
pub fn path(path: &Path) -> String {
    os_text(path.as_os_str())
}

/// As [`path`], for any text of the system's.
pub fn os_text(text: &OsStr) -> String {
    let mut shown = String::with_capacity(text.len());
    for chunk in text.as_bytes().utf8_chunks() {
        shown.push_str(&one_line(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to memory does not fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// A text without the user and the password of a URL in it, or of an address, `user:password@host`, and without what stands behind a URL's question
/// mark: `***` stands there. Where an `@` leaves a doubt, too much is taken.
pub fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| c.is_whitespace() || "\"'`<>".contains(c)) {
        let (scheme, rest) = match piece.find("://") {
            Some(at) => piece.split_at(at + "://".len()),
            None => ("", piece),
        };
        let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        shown.push_str(scheme);
        let rest = match scheme.is_empty() && !user.contains(':') {
            true => rest,
            false if user.is_empty() => host,
            false => {
                shown.push_str("***@");
                host
            }
        };
        let query = if scheme.is_empty() { None } else { rest.find(['?', '#']) };
        match query {
            None => shown.push_str(rest),
            Some(at) => {
                shown.push_str(&rest[..=at]);
                shown.push_str("***");
                // The end of the piece belongs to the text around it.
                shown.extend(rest.chars().next_back().filter(|c| c.is_whitespace() || "\"'`<>".contains(*c)));
            }
        }
    }
    shown
}

/// Passes on to a formatter what it is given, on one line.
#[derive(Debug)]
pub struct OneLine<W>(pub W);

impl<W: Write> Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&one_line(text))
    }
}

/// Whether a terminal, or whoever reads line by line, does something else with it than to show it: control characters of both ranges, other ends of
/// lines, and marks that turn the direction of what follows.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_escaped: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Writing to memory does not fail.
        let _ = match c {
            c if !is_escaped(c) => shown.write_char(c),
            '\n' => shown.write_str("\\n"),
            '\r' => shown.write_str("\\r"),
            '\t' => shown.write_str("\\t"),
            c => write!(shown, "\\u{:04x}", u32::from(c)),
        };
    }
    Cow::Owned(shown)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_all_else_stays() {
        for (text, shown) in [
            ("topic-1, 例え é \\ \"", "topic-1, 例え é \\ \""),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J\u{7f}\u{9b}31m\u{0}", "\\u001b[2J\\u007f\\u009b31m\\u0000"),
            ("\u{202e}gpj.exe\u{2066}\u{2028}", "\\u202egpj.exe\\u2066\\u2028"),
        ] {
            assert_eq!(one_line(text), shown);
        }
        assert_eq!(lines("one\n\ttwo\u{1b}\n"), "one\n\ttwo\\u001b\n");
        assert!(matches!(one_line("as it is"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_path_that_is_no_text_shows_its_bytes() {
        assert_eq!(path(Path::new(OsStr::from_bytes(b"a\xff\xfeb/\xc3\xa9\n"))), "a\\xff\\xfeb/é\\n");
    }

    #[test]
    fn credentials_are_not_shown() {
        for (text, shown) in [
            ("http://host/api", "http://host/api"),
            ("http://user:pass@host:80/api", "http://***@host:80/api"),
            ("http://token@host", "http://***@host"),
            ("http://u:p@ss@host", "http://***@host"),
            ("http://u:p?s#s@host/a", "http://***@host/a"),
            ("http://host/api?token=x&y=z", "http://host/api?***"),
            ("http://host/#x y", "http://host/#*** y"),
            ("invalid value 'redis://u:p@h:1/2?a=b' for X", "invalid value 'redis://***@h:1/2?***' for X"),
            ("kafka-1:9092,u:p@kafka-2:9092", "***@kafka-2:9092"),
            ("player@home, at 12:30", "player@home, at 12:30"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }

    proptest! {
        #[test]
        fn json_that_is_escaped_once_more_is_the_same_json(text: String) {
            let json = serde_json::Value::from(text.as_str());
            let shown = lines(&json.to_string()).into_owned();
            prop_assert!(!shown.contains(char::is_control));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json);
        }
    }
}
