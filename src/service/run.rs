//! The frame of every `main`: parse, start the runtime, run until done or stopped, say why it ended.
//!
//! Every setting can be a word, `name=value`. Every command takes `--check`, which shows what its settings come to in place of running, and
//! every binary has `completions <shell>`.

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, Parser};
use superhero_text::shown;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::keys::{hints, words_to_flags};
use crate::output::{print, print_as_it_is, print_clap, tell};
use crate::{Failure, Kind, check, completions, files};

/// So long a process may take for its end in good order after the second signal: a terminal is cleared, the log is written. Then it is ended,
/// whatever its threads are at.
const ABORTED_AT_END: Duration = Duration::from_millis(500);

/// For saying so, where standard error takes no more.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What nobody waits for any more and a thread still does at the end, such as looking up a host's name, keeps the process for no longer.
const BLOCKED_AT_END: Duration = Duration::from_millis(500);

const INTERRUPTED: &str = "interrupted before everything was brought to its end";

/// The settings of a process.
pub trait Settings: Parser {
    /// Looks for what no flag's own values tell: settings that do not go together, addresses that are none. Starts nothing, asks nobody.
    ///
    /// # Errors
    /// [`Kind::Usage`], naming the setting.
    fn validate(&self) -> Result<(), Failure>;
}

/// What a command line asks for.
enum Asked<A> {
    Run(A, ArgMatches),
    Completions(clap_complete::Shell),
}

/// Runs a process: `body` gets the arguments and the token that SIGTERM or SIGINT cancels. A second signal ends it at once, with
/// exit code 130, even while its threads are blocked. `version` is what `--version` says.
///
/// On the command line `name=value` means `--name value`. A command or setting that is wrong is answered with the list of those that
/// there are.
pub fn run<A, B, F>(version: &'static str, body: B) -> ExitCode
where
    A: Settings,
    B: FnOnce(A, CancellationToken) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let command = without_empty_environment(A::command())
        .version(version)
        .arg(check::flag())
        .subcommand(completions::subcommand());
    let name = command.get_name().to_owned();
    let line = words_to_flags(&command, std::env::args_os());
    let parsed = without_credentials(command.clone()).try_get_matches_from(&line).and_then(|matches| {
        match completions::shell(&matches) {
            Some(shell) => Ok(Asked::Completions(shell)),
            None => A::from_arg_matches(&matches).map(|arguments| Asked::Run(arguments, matches)),
        }
    });
    told(
        &name,
        match parsed {
            Ok(Asked::Completions(shell)) => {
                print_as_it_is(&completions::script(shell, command)).map_err(Failure::from)
            }
            Ok(Asked::Run(arguments, matches)) if check::is_asked_for(&matches) => {
                arguments.validate().and_then(|()| Ok(print(check::effective(&command, &matches))?))
            }
            Ok(Asked::Run(arguments, _)) => {
                files::raise_limit();
                arguments.validate().and_then(|()| drive(body, arguments))
            }
            Err(error) if error.use_stderr() => return refuse(&error, &command, &line),
            Err(help) => print_clap(&help).map_err(Failure::from),
        },
    )
}

/// Says what is wrong with the command line, and what would not be.
fn refuse(error: &clap::Error, command: &Command, line: &[OsString]) -> ExitCode {
    let said = error.render().to_string();
    let shown = shown::without_credentials(&shown::lines(&said));
    if shown == said {
        // It goes to standard error, where nobody can be told that it did not.
        let _ = print_clap(error);
    } else {
        shown.lines().for_each(tell);
    }
    if let Some(variable) = variable_behind(error, command) {
        tell(format_args!("The value comes from the environment variable {variable}, or from that flag."));
    }
    if error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        hints(command, line, error.kind()).iter().for_each(tell);
    }
    Kind::Usage.into()
}

/// The exit code, and on standard error why.
fn told(name: &str, ended: Result<(), Failure>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(format_args!("{name}: {}", failure.chain()));
            failure.lines().iter().for_each(tell);
            failure.kind().into()
        }
    }
}

fn drive<A, B, F>(body: B, arguments: A) -> Result<(), Failure>
where
    B: FnOnce(A, CancellationToken) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    listen(stop.clone(), abort.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = body(arguments, stop) => ended,
            () = abort.cancelled() => Err(Failure::new(Kind::Interrupted, INTERRUPTED)),
        }
    });
    runtime.shutdown_timeout(if abort.is_cancelled() { Duration::ZERO } else { BLOCKED_AT_END });
    ended
}

/// Cancels `stop` at the first signal, and `abort` at the second, which is a wish not to wait for the first any longer. They are heard by a thread
/// of their own, since every other may be blocked: by a disk that does not answer, or a reader of the output that does not read.
fn listen(stop: CancellationToken, abort: CancellationToken) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let listening = move || {
        let mut heard = || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
        };
        heard();
        stop.cancel();
        tracing::info!("stopping; a second signal ends the process at once");
        heard();
        abort.cancel();
        std::thread::sleep(ABORTED_AT_END);
        // If it cannot be said, it is not waited for either.
        let _ = std::thread::Builder::new().spawn(|| tell(INTERRUPTED));
        std::thread::sleep(LAST_WORDS);
        std::process::exit(Kind::Interrupted.code().into());
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listening).map(drop)
}

/// The variable that is set for the flag that an error is about; clap itself only names the flag.
fn variable_behind(error: &clap::Error, command: &Command) -> Option<String> {
    let ContextValue::String(about) = error.get(ContextKind::InvalidArg)? else { return None };
    let flag = about.split(' ').next()?.strip_prefix("--")?;
    let argument = argument_of(command, flag)?;
    let variable = argument.get_env()?;
    std::env::var_os(variable).map(|_| variable.to_string_lossy().into_owned())
}

/// The first argument of that flag, of the command or of those below it.
fn argument_of<'a>(command: &'a Command, flag: &str) -> Option<&'a Arg> {
    let own = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
    own.or_else(|| command.get_subcommands().find_map(|subcommand| argument_of(subcommand, flag)))
}

/// Compose files and shells pass variables on that are set to nothing; such a one is not a value.
fn without_empty_environment(mut command: Command) -> Command {
    let empty: Vec<_> = command
        .get_arguments()
        .filter(|argument| argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty()))
        .map(|argument| argument.get_id().clone())
        .collect();
    for argument in empty {
        command = command.mut_arg(argument, |argument| argument.env(Resettable::Reset));
    }
    let subcommands: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in subcommands {
        command = command.mut_subcommand(name, without_empty_environment);
    }
    command
}

/// The help shows what the environment's variables are set to, but for those that hold a password or a token within another text.
fn without_credentials(mut command: Command) -> Command {
    let has_credentials = |argument: &&Arg| {
        let value = argument.get_env().and_then(std::env::var_os).map(|value| value.to_string_lossy().into_owned());
        value.is_some_and(|value| shown::without_credentials(&value) != value)
    };
    let secret: Vec<_> =
        command.get_arguments().filter(has_credentials).map(|argument| argument.get_id().clone()).collect();
    for argument in secret {
        command = command.mut_arg(argument, |argument| argument.hide_env_values(true));
    }
    let subcommands: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in subcommands {
        command = command.mut_subcommand(name, without_credentials);
    }
    command
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_blocks_does_not_keep_a_process_that_has_ended() {
        const BLOCKED: Duration = Duration::from_secs(60);
        let (release, released) = mpsc::channel::<()>();
        let begun = Instant::now();
        let body = async |(), _| {
            let (starts, started) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || starts.send(()).map(|()| released.recv_timeout(BLOCKED)));
            Ok(started.await?)
        };
        drive(body, ()).expect("it has started");
        assert!(begun.elapsed() < BLOCKED / 2, "it ended after {:?}", begun.elapsed());
        drop(release);
    }
}
