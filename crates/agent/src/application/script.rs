//! Scripts of a host application: how they are called, and how their end is put into words.

use std::io;
use std::process::Command;
use std::time::Duration;

use tanist_script::{Event, Exit, Keep, Keeps, RunError, Script};

/// Nothing that they say is an answer.
const KEEPS: Keeps = Keeps { out: Keep::Last(8 << 10), err: Keep::Last(8 << 10) };

/// `ended` is called once, from another thread.
///
/// # Errors
/// If the program cannot be started.
pub(super) fn start(
    command: &[String],
    environment: &[(String, String)],
    ended: impl Fn(Exit) + Send + Sync + 'static,
) -> io::Result<Script> {
    let tell = move |event| match event {
        Event::Ended(exit) => ended(exit),
        // Only an answer can be too long.
        Event::Flooded => {}
    };
    Script::start(called(command, environment)?, Vec::new(), KEEPS, tell)
}

/// Runs one to its end, or to the limit.
///
/// # Errors
/// In words with the last of its output, if it did not end well.
pub(super) fn run(command: &[String], environment: &[(String, String)], limit: Duration) -> Result<(), String> {
    let called = called(command, environment).map_err(|error| cannot_start(command, &error))?;
    match tanist_script::run(called, Vec::new(), KEEPS, limit) {
        Ok((exit, _)) if exit.is_well() => Ok(()),
        Ok((exit, said)) => Err(format!("{}{}", exit.in_words(), said.quote())),
        Err(RunError::Start(error)) => Err(cannot_start(command, &error)),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn cannot_start(command: &[String], error: &io::Error) -> String {
    format!("could not be started: {}: {error}", command.first().map_or("", String::as_str))
}

fn called(command: &[String], environment: &[(String, String)]) -> io::Result<Command> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut called = Command::new(program);
    called.args(arguments).envs(environment.iter().cloned());
    Ok(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_script_that_ends_badly_is_quoted() {
        let environment = [("TANIST_PHASE".to_owned(), "before".to_owned())];
        let run = |text: &str| run(&["/bin/sh", "-c", text].map(ToOwned::to_owned), &environment, LONG);
        assert_eq!(run("true"), Ok(()));
        let failed = run("echo $TANIST_PHASE; echo no such table >&2; exit 3").unwrap_err();
        assert_eq!(failed, "ended with status 3: before / no such table");
        assert_eq!(run("kill -9 $$").unwrap_err(), "was ended by signal 9");
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let missing = run(&["/does/not/exist".to_owned()], &[], LONG).unwrap_err();
        assert!(missing.starts_with("could not be started: /does/not/exist: "), "{missing}");
    }
}
