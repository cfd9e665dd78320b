//! Settings as words, `players=10`, which mean the same as flags, `--players 10`.

use std::ffi::OsString;

use clap::{ArgAction, Command};

/// Turns each word `name=value` into the flag `--name=value`, those that are the value of a flag before them excepted. The first word is
/// the program's own name.
pub(crate) fn words_to_flags(command: &Command, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut command = command;
    let mut flags = Vec::new();
    let mut is_value = false;
    for (place, word) in words.into_iter().enumerate() {
        let text = word.to_str().unwrap_or_default();
        if place == 0 || is_value {
            is_value = false;
        } else if let Some(flag) = text.strip_prefix("--") {
            is_value = takes_value(command, flag);
        } else if is_setting(text) {
            flags.push(format!("--{text}").into());
            continue;
        } else if let Some(subcommand) = command.find_subcommand(text) {
            command = subcommand;
        }
        flags.push(word);
    }
    flags
}

/// The settings of the command that the words are for, by name and in the order of its help.
pub(crate) fn settings(command: &Command, words: &[OsString]) -> Vec<String> {
    let mut command = command;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let named = command.get_arguments().filter(|argument| !argument.is_hide_set() && argument.get_id() != "help");
    named.filter_map(|argument| argument.get_long()).map(str::to_owned).collect()
}

fn is_setting(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

/// Whether the flag's value is the next word.
fn takes_value(command: &Command, flag: &str) -> bool {
    let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
    argument.is_some_and(|argument| {
        let optional = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
        matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) && !optional
    })
}

#[cfg(test)]
mod tests {
    use clap::{Arg, value_parser};

    use super::*;

    fn command() -> Command {
        let up = Command::new("up")
            .arg(Arg::new("players").long("players").value_parser(value_parser!(usize)))
            .arg(Arg::new("out").long("out"))
            .arg(Arg::new("keep").long("keep").action(ArgAction::SetTrue));
        Command::new("superhero").subcommand(up).subcommand(Command::new("wait"))
    }

    #[track_caller]
    fn check(words: &str, expected: &str) {
        let flags = words_to_flags(&command(), words.split(' ').map(OsString::from));
        assert_eq!(flags, expected.split(' ').map(OsString::from).collect::<Vec<_>>());
    }

    #[test]
    fn settings_are_flags_in_any_order_and_spelling() {
        check("superhero up players=10 out=./a=b", "superhero up --players=10 --out=./a=b");
        check("superhero up --players 10 out=x", "superhero up --players 10 --out=x");
        check("superhero up --keep players=3", "superhero up --keep --players=3");
        check("superhero up playrs=3", "superhero up --playrs=3");
    }

    #[test]
    fn what_is_a_value_or_no_setting_stays() {
        check("superhero up --out a=b players=1", "superhero up --out a=b --players=1");
        check("a=b up ./x=y -x=y =z", "a=b up ./x=y -x=y =z");
    }

    #[test]
    fn settings_are_those_of_the_subcommand() {
        let words = ["superhero", "up", "players=1"].map(OsString::from);
        assert_eq!(settings(&command(), &words), ["players", "out", "keep"]);
        assert!(settings(&command(), &words[..1]).is_empty());
    }
}
