//! Settings as words, `players=10`, which mean the same as flags, `--players 10`.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use crate::check;

/// Turns each word `name=value` into the flag `--name=value`, those that are the value of a flag before them excepted, and those behind
/// `--`. A setting that only the command above has is put before the subcommand. The first word is the program's own name.
pub(crate) fn words_to_flags(command: &Command, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    // Each command with the place of the word that chose it.
    let mut path = vec![(command, 0)];
    let mut flags: Vec<OsString> = Vec::new();
    let mut words = words.into_iter();
    flags.extend(words.next());
    let mut is_value = false;
    while let Some(word) = words.next() {
        let (command, _) = path[path.len() - 1];
        let text = word.to_str().unwrap_or_default();
        if is_value {
            is_value = false;
        } else if text == "--" {
            flags.push(word);
            flags.extend(words);
            break;
        } else if let Some(flag) = text.strip_prefix("--") {
            is_value = takes_value(command, flag);
        } else if let Some(name) = setting(text) {
            let owner = path.iter().rposition(|(command, _)| flag(command, name).is_some());
            let below = owner.map_or(path.len(), |owner| owner + 1);
            let place = path.get(below).map_or(flags.len(), |(_, place)| *place);
            flags.insert(place, format!("--{text}").into());
            path.iter_mut().skip(below).for_each(|(_, place)| *place += 1);
            continue;
        } else if let Some(subcommand) = command.find_subcommand(text) {
            path.push((subcommand, flags.len()));
        }
        flags.push(word);
    }
    flags
}

/// What there would be for a command line that is refused: the commands, where one is missing or unknown, and the settings of the command
/// that the words are for, in the order of its help.
pub(crate) fn hints(command: &Command, words: &[OsString], refused: ErrorKind) -> Vec<String> {
    let mut command = command;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let mut hints = Vec::new();
    if refused == ErrorKind::InvalidSubcommand || command.is_subcommand_required_set() {
        let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
        let commands: Vec<_> = commands.map(Command::get_name).collect();
        hints.push(format!("The commands are {}; each has a --help.", commands.join(", ")));
    }
    let settings =
        command.get_arguments().filter(|argument| !argument.is_hide_set() && argument.get_id() != check::FLAG);
    let settings: Vec<_> = settings.filter_map(Arg::get_long).filter(|name| *name != "help").collect();
    if !settings.is_empty() {
        hints.push(format!("The settings are {}, each as name=value or as --name=value.", settings.join(", ")));
    }
    hints
}

/// The name of the setting that a word is, if it is one.
fn setting(word: &str) -> Option<&str> {
    let (name, _) = word.split_once('=')?;
    let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    is_name.then_some(name)
}

fn flag<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| argument.get_long() == Some(name))
}

/// Whether the flag's value is the next word.
fn takes_value(command: &Command, flag: &str) -> bool {
    self::flag(command, flag).is_some_and(|argument| {
        let optional = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
        matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) && !optional
    })
}

#[cfg(test)]
mod tests {
    use clap::value_parser;

    use super::*;

    fn command() -> Command {
        let up = Command::new("up")
            .arg(Arg::new("players").long("players").value_parser(value_parser!(usize)))
            .arg(Arg::new("out").long("out"))
            .arg(Arg::new("keep").long("keep").action(ArgAction::SetTrue));
        let serve = Command::new("serve")
            .arg(Arg::new("port").long("port"))
            .subcommand(Command::new("healthcheck"))
            .subcommand(Command::new("completions"));
        Command::new("superhero").subcommand_required(true).subcommand(up).subcommand(serve)
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
    fn what_is_behind_two_hyphens_is_no_setting() {
        check("superhero up players=1 -- a=b up", "superhero up --players=1 -- a=b up");
    }

    #[test]
    fn a_setting_goes_to_the_command_that_has_it() {
        check("superhero serve healthcheck port=1 -v", "superhero serve --port=1 healthcheck -v");
        check("superhero serve port=1 healthcheck prt=2", "superhero serve --port=1 healthcheck --prt=2");
    }

    #[test]
    fn hints_are_those_of_the_command_that_the_words_are_for() {
        let hints = |words: &str, refused| {
            let words: Vec<_> = words.split(' ').map(OsString::from).collect();
            hints(&command(), &words, refused)
        };
        let settings = "The settings are players, out, keep, each as name=value or as --name=value.";
        assert_eq!(hints("superhero up players=1", ErrorKind::UnknownArgument), [settings]);
        let commands = "The commands are up, serve; each has a --help.";
        assert_eq!(hints("superhero upp", ErrorKind::InvalidSubcommand), [commands]);
        assert_eq!(hints("superhero --players=1", ErrorKind::UnknownArgument), [commands]);
        let commands = "The commands are healthcheck, completions; each has a --help.";
        let settings = "The settings are port, each as name=value or as --name=value.";
        assert_eq!(hints("superhero serve helthcheck", ErrorKind::InvalidSubcommand), [commands, settings]);
    }
}
