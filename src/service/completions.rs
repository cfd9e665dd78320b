//! `completions <shell>`: what a shell needs to complete flags and subcommands.

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

const NAME: &str = "completions";
const SHELL: &str = "shell";

/// For a command of any binary.
pub(crate) fn subcommand() -> Command {
    let shell = Arg::new(SHELL).required(true).value_parser(value_parser!(Shell)).help("The shell");
    Command::new(NAME).about("Print a script that lets a shell complete the command line").arg(shell)
}

/// The shell, if completions are asked for.
pub(crate) fn shell(matches: &ArgMatches) -> Option<Shell> {
    let (_, asked) = matches.subcommand().filter(|(name, _)| *name == NAME)?;
    asked.get_one(SHELL).copied()
}

/// The script.
pub(crate) fn script(shell: Shell, mut command: Command) -> String {
    let name = command.get_name().to_owned();
    // Whatever it is written to has to take it, or it panics; memory does.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
