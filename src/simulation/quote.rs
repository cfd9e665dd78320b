//! Paths in commands that are printed for copying, so that a name of any characters is that name and nothing else.

use std::fmt::Write;
use std::path::Path;

/// A path as the text of a command, which takes what begins with a hyphen for a flag, and `name=value` for a setting.
pub(crate) fn text(path: &Path) -> String {
    let text = path.display().to_string();
    let first = text.split('/').next().unwrap_or_default();
    if first.starts_with('-') || first.contains('=') { format!("./{text}") } else { text }
}

/// A path as a word for a POSIX shell.
pub fn shell_path(path: &Path) -> String {
    shell(&text(path))
}

/// A word for a POSIX shell.
pub(crate) fn shell(word: &str) -> String {
    const BARE: &str = "_-./:=,+@%";
    if !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || BARE.contains(c)) {
        word.to_owned()
    } else if word.contains(char::is_control) {
        let mut quoted = String::from("$'");
        for c in word.chars() {
            match c {
                '\'' | '\\' => quoted.extend(['\\', c]),
                c if c.is_control() => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                    // Writing to memory does not fail.
                    let _ = write!(quoted, "\\x{byte:02x}");
                }),
                c => quoted.push(c),
            }
        }
        quoted + "'"
    } else if !word.contains(['"', '$', '`', '\\', '!']) {
        format!("\"{word}\"")
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A string of SQL.
pub(crate) fn sql(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A string of Python.
pub(crate) fn python(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        // Writing to memory does not fail.
        let _ = match c {
            '\'' | '\\' => write!(quoted, "\\{c}"),
            c if c.is_control() => write!(quoted, "\\x{:02x}", u32::from(c)),
            c => write!(quoted, "{c}"),
        };
    }
    quoted + "'"
}

/// A path that stands for itself where Python's glob and DuckDB look for patterns.
pub(crate) fn glob(path: &str) -> String {
    escaped(path, "*?[", |c| format!("[{c}]"))
}

/// A path that stands for itself where Hadoop looks for patterns.
pub(crate) fn hadoop_glob(path: &str) -> String {
    escaped(path, "*?[]{}\\", |c| format!("\\{c}"))
}

fn escaped(path: &str, special: &str, escape: impl Fn(char) -> String) -> String {
    path.chars().map(|c| if special.contains(c) { escape(c) } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_as_little_as_it_needs() {
        for (word, quoted) in [
            ("data/run-1", "data/run-1"),
            ("", "\"\""),
            ("my data", "\"my data\""),
            ("it's", "\"it's\""),
            ("a*[b]", "\"a*[b]\""),
            ("$a", "'$a'"),
            ("it's $a", r"'it'\''s $a'"),
            ("a\"b", "'a\"b'"),
            ("it's\n\u{1b}[2J\u{9b}\\", r"$'it\'s\x0a\x1b[2J\xc2\x9b\\'"),
        ] {
            assert_eq!(shell(word), quoted);
        }
    }

    #[test]
    fn each_language_has_its_own_escapes() {
        assert_eq!(sql("it's \"x\""), "'it''s \"x\"'");
        assert_eq!(python("it's a\\b\n"), r"'it\'s a\\b\x0a'");
        assert_eq!(glob("a*[b]?{c}"), "a[*][[]b][?]{c}");
        assert_eq!(hadoop_glob("a*[b]?{c}"), r"a\*\[b\]\?\{c\}");
        for (path, shown) in [("-a/b", "./-a/b"), ("a=b/c", "./a=b/c"), ("a/b=c", "a/b=c"), ("/a=b", "/a=b")] {
            assert_eq!(text(Path::new(path)), shown);
        }
    }
}
