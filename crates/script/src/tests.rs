//! Programs that end badly, hang, flood, or leave others behind.

use super::*;

const LONG: Duration = Duration::from_secs(20);
const KEEPS: Keeps = Keeps { out: Keep::Whole(1 << 16), err: Keep::Last(4096) };

fn shell(text: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", text]).env("NOTIFY_SOCKET", "/run/ours");
    command
}

fn run_text(text: &str, limit: Duration) -> Result<(Exit, Said), RunError> {
    run(shell(text), Vec::new(), KEEPS, limit)
}

#[test]
fn what_it_says_is_kept_apart_and_it_does_not_speak_for_us() {
    let (exit, said) = run_text("echo answer$NOTIFY_SOCKET; echo 'no space' >&2; echo left >&2; exit 7", LONG).unwrap();
    assert_eq!((exit, exit.in_words().as_str()), (Exit::Status(7), "ended with status 7"));
    assert_eq!((said.out.as_slice(), said.err.as_slice()), (&b"answer\n"[..], &b"no space\nleft\n"[..]));
    assert_eq!((said.quote().as_str(), said.quote_err().as_str()), (": answer / no space / left", ": no space / left"));
    assert_eq!(run_text("printf ' \\t\\n'", LONG).unwrap().1.quote(), "");
    assert_eq!(run_text("kill -9 $$", LONG).unwrap().0, Exit::Signal(9));
    let missing = run(Command::new("/does/not/exist"), Vec::new(), KEEPS, LONG);
    assert!(matches!(missing, Err(RunError::Start(_))), "{missing:?}");
}

#[test]
fn it_reads_its_input_or_does_not() {
    let input = vec![b'x'; 1 << 20];
    let (_, said) = run(shell("wc -c"), input.clone(), KEEPS, LONG).unwrap();
    assert_eq!(said.quote(), format!(": {}", 1 << 20));
    assert_eq!(run(shell("exit 0"), input, KEEPS, LONG).unwrap().0, Exit::Status(0));
}

#[test]
fn the_whole_group_dies_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let text = format!("sleep 300 & echo $! > {0}; echo $$ >> {0}; echo waiting >&2; wait", pids.display());
    let begun = Instant::now();
    let Err(RunError::Slow { said, .. }) = run_text(&text, Duration::from_secs(1)) else { panic!("it ended") };
    assert!(begun.elapsed() < LONG && said.err == b"waiting\n", "{said:?}");
    let pids = std::fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 2);
    pids.lines().for_each(wait_dead);
}

/// Also one that has closed its pipes.
#[test]
fn who_says_nothing_and_hangs_is_killed_too() {
    let slow = run_text("exec >&- 2>&-; sleep 300", Duration::from_secs(1));
    assert!(matches!(slow, Err(RunError::Slow { .. })), "{slow:?}");
}

#[test]
fn a_flooded_answer_ends_it_at_once_and_a_flood_of_complaints_does_not_matter() {
    let begun = Instant::now();
    assert!(matches!(run_text("yes", LONG), Err(RunError::Flooded)));
    assert!(matches!(run_text("head -c 70000 /dev/zero", LONG), Err(RunError::Flooded)), "though it ended by itself");
    assert!(begun.elapsed() < LONG);
    let (exit, said) = run_text("head -c 50000000 /dev/zero | tr '\\0' x >&2; echo the end >&2", LONG).unwrap();
    assert!(exit.is_well() && said.err.len() == 4096 && said.err.ends_with(b"xthe end\n"));
    let quoted = said.quote_err();
    assert!(quoted.starts_with(": ...xx") && quoted.ends_with("xthe end") && quoted.len() < 1000, "{quoted}");
}

#[test]
fn what_it_leaves_in_the_background_is_not_waited_for_and_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let (end, ended) = channel();
    let text = format!("sleep 300 & echo $! > {}", pid.display());
    let script = Script::start(shell(&text), Vec::new(), KEEPS, move |event| _ = end.send(event)).unwrap();
    assert_eq!(ended.recv_timeout(LONG), Ok(Event::Ended(Exit::Status(0))));
    assert!(script.has_ended());
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(!stat_of(pid.trim()).is_empty(), "a session that it holds open stays");
    drop(script);
    wait_dead(pid.trim());
}

fn stat_of(pid: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

/// A killed process takes a moment; as a zombie it is dead.
fn wait_dead(pid: &str) {
    let deadline = Instant::now() + LONG;
    while stat_of(pid).rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z')) {
        assert!(Instant::now() < deadline, "it goes on: {}", stat_of(pid));
        thread::yield_now();
    }
}
