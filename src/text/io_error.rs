//! The system's errors, as libraries pass them on.

/// A message in words, in which a library shows a [`std::io::Error`] as a programmer sees it: `Os { code: 111, kind: ConnectionRefused,
/// message: "Connection refused" }` becomes `Connection refused (os error 111)`. Any other stays as it is.
pub fn io_error_in_words(message: &str) -> String {
    of_the_system(message)
        .or_else(|| of_a_library(message))
        .or_else(|| of_a_kind(message))
        .unwrap_or_else(|| message.to_owned())
}

fn of_the_system(message: &str) -> Option<String> {
    let (before, rest) = message.split_once("Os { code: ")?;
    let (code, rest) = rest.split_once(", kind: ")?;
    let (_, rest) = rest.split_once(", message: \"")?;
    let (reason, after) = rest.split_once("\" }")?;
    Some(format!("{before}{reason} (os error {code}){after}"))
}

fn of_a_library(message: &str) -> Option<String> {
    let (before, rest) = message.split_once("Custom { kind: ")?;
    let (_, rest) = rest.split_once(", error: ")?;
    let (reason, after) = rest.rsplit_once(" }")?;
    Some(format!("{before}{}{after}", reason.trim_matches('"')))
}

fn of_a_kind(message: &str) -> Option<String> {
    let (before, rest) = message.split_once("Kind(")?;
    let (kind, after) = rest.split_once(')')?;
    let mut words = String::new();
    for c in kind.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    Some(format!("{before}{words}{after}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn what_a_programmer_sees_becomes_words() {
        for (error, words) in [
            (Error::from_raw_os_error(111), "Connection refused (os error 111)"),
            (Error::new(ErrorKind::InvalidInput, "no such name"), "no such name"),
            (Error::from(ErrorKind::UnexpectedEof), "unexpected eof"),
        ] {
            let told = io_error_in_words(&format!("IO Error: {error:?}, twice"));
            assert_eq!(told, format!("IO Error: {words}, twice"));
        }
    }

    #[test]
    fn any_other_message_stays() {
        for message in ["", "WRONGPASS invalid password", "Os { code: 1", "Kind(", "Custom { kind: Other }"] {
            assert_eq!(io_error_in_words(message), message);
        }
    }
}
