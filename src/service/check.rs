//! `--check`: what the settings of a process come to.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use superhero_text::shown;

/// The flag's id, by which it is no setting.
pub(crate) const FLAG: &str = "check";
const SECRET: &str = "***";

/// For every command of a binary.
pub(crate) fn flag() -> Arg {
    let help = "Check the settings, print what they come to and where each is from, and exit";
    Arg::new(FLAG).long(FLAG).action(ArgAction::SetTrue).global(true).help(help)
}

/// Whether the flag is given.
pub(crate) fn is_asked_for(matches: &ArgMatches) -> bool {
    matches.get_flag(FLAG)
}

/// A line for each setting of the command that is chosen: flag or, for what needs none, its name, then variable, value, and where the
/// value is from. Secrets do not show.
pub(crate) fn effective(command: &Command, matches: &ArgMatches) -> String {
    let (mut command, mut matches) = (command, matches);
    while let Some((name, chosen)) = matches.subcommand()
        && let Some(subcommand) = command.find_subcommand(name)
    {
        (command, matches) = (subcommand, chosen);
    }
    let mut lines = vec![["setting", "variable", "value", "from"].map(str::to_owned)];
    for argument in command.get_arguments().filter(|argument| argument.get_id() != FLAG) {
        let Some(setting) = name(argument) else { continue };
        let variable = argument.get_env().map(|variable| variable.to_string_lossy().into_owned());
        let (value, source) = match (value(argument, matches), source(argument, matches)) {
            (Some(value), Some(source)) => (value, source),
            // Another name for a setting is told only where it is used.
            _ if argument.is_hide_set() => continue,
            _ => ("-".to_owned(), "-"),
        };
        lines.push([setting, variable.unwrap_or_else(|| "-".to_owned()), value, source.to_owned()]);
    }
    table(&lines)
}

/// As it is typed, or as the help names it.
fn name(argument: &Arg) -> Option<String> {
    if let Some(long) = argument.get_long() {
        return Some(format!("--{long}"));
    }
    let name = argument.get_value_names()?.first()?;
    Some(if matches!(argument.get_action(), ArgAction::Append) { format!("{name}…") } else { name.to_string() })
}

fn value(argument: &Arg, matches: &ArgMatches) -> Option<String> {
    let values = matches.try_get_raw(argument.get_id().as_str()).ok()??;
    if argument.is_hide_env_values_set() {
        return Some(SECRET.to_owned());
    }
    let shown = values.map(|value| shown::without_credentials(&shown::os_text(value)));
    Some(shown.collect::<Vec<_>>().join(","))
}

fn source(argument: &Arg, matches: &ArgMatches) -> Option<&'static str> {
    match matches.value_source(argument.get_id().as_str())? {
        ValueSource::EnvVariable => Some("environment"),
        ValueSource::CommandLine => Some("command line"),
        _ => Some("default"),
    }
}

/// Columns as wide as their widest cell.
fn table<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; COLUMNS]| {
        let cells: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let set = |name: &'static str| Arg::new(name).long(name);
        let serve = Command::new("serve")
            .arg(set("port").env("TEST_CHECK_PORT").default_value("80"))
            .arg(set("topics").value_delimiter(',').action(ArgAction::Append))
            .arg(set("password").hide_env_values(true))
            .arg(set("folder"))
            .arg(set("old-name").hide(true))
            .arg(Arg::new("files").value_name("FILE").action(ArgAction::Append));
        Command::new("superhero").arg(flag()).subcommand(serve)
    }

    #[track_caller]
    fn check(words: &str, expected: &str) {
        let matches = command().try_get_matches_from(words.split(' ')).expect("they are right");
        assert!(is_asked_for(&matches));
        assert_eq!(effective(&command(), &matches), expected);
    }

    #[test]
    fn settings_show_with_their_values_and_where_they_are_from_but_for_secrets() {
        check(
            "superhero serve --topics a,b --password hush --check",
            "setting     variable         value  from\n\
             --port      TEST_CHECK_PORT  80     default\n\
             --topics    -                a,b    command line\n\
             --password  -                ***    command line\n\
             --folder    -                -      -\n\
             FILE…       -                -      -\n",
        );
        check(
            "superhero serve --folder http://user:pass@host/api?token=x --check a\nb",
            "setting     variable         value                    from\n\
             --port      TEST_CHECK_PORT  80                       default\n\
             --topics    -                -                        -\n\
             --password  -                -                        -\n\
             --folder    -                http://***@host/api?***  command line\n\
             FILE…       -                a\\nb                     command line\n",
        );
        check(
            "superhero --check serve --old-name x a b",
            "setting     variable         value  from\n\
             --port      TEST_CHECK_PORT  80     default\n\
             --topics    -                -      -\n\
             --password  -                -      -\n\
             --folder    -                -      -\n\
             --old-name  -                x      command line\n\
             FILE…       -                a,b    command line\n",
        );
    }
}
