//! The samples of `config/applications/`, run as an agent runs them, with stand-ins for the programs that they call.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use tanist_script::Exit;

use super::script;

const LIMIT: Duration = Duration::from_secs(20);

/// Puts a program where the samples look first.
fn stand_in(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\ncd {}\n{text}\n", folder.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn command(sample: &str, phase: &str, argument: &Path) -> Vec<String> {
    let sample = format!("{}/../../config/applications/{sample}", env!("CARGO_MANIFEST_DIR"));
    ["/bin/sh", &sample, phase, &argument.display().to_string()].map(ToOwned::to_owned).to_vec()
}

fn environment(folder: &Path) -> Vec<(String, String)> {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    [
        ("PATH", path.as_str()),
        ("TMPDIR", &folder.display().to_string()),
        ("TANIST_APPLICATION", "db"),
        ("TANIST_LIMIT_SECONDS", "20"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

#[test]
fn a_file_system_is_frozen_and_thawed_also_when_it_is_not_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let freeze = "case $1 in\n--freeze) : > frozen ;;\n--unfreeze) test ! -e broken || { echo no such device >&2; exit 1; }\n\
                  rm frozen 2>/dev/null || { echo \"unfreeze failed: Invalid argument\" >&2; exit 1; } ;;\nesac";
    stand_in(folder.path(), "fsfreeze", freeze);
    let run = |phase| script::run(&command("filesystem", phase, folder.path()), &environment(folder.path()), LIMIT);
    assert_eq!((run("before"), folder.path().join("frozen").exists()), (Ok(()), true));
    assert_eq!((run("after"), folder.path().join("frozen").exists()), (Ok(()), false));
    assert_eq!(run("after"), Ok(()), "twice is harmless");
    fs::write(folder.path().join("broken"), "").unwrap();
    assert_eq!(run("after").unwrap_err(), "ended with status 1: no such device");
}

#[test]
fn a_database_holds_its_lock_in_a_session_until_after() {
    let folder = tempfile::tempdir().unwrap();
    stand_in(
        folder.path(),
        "mariadb",
        "read statement; echo \"$statement\" > asked; echo locked; : > session; cat; rm session",
    );
    let (end, ended) = channel();
    let before = command("mariadb", "before", folder.path());
    let script = script::start(&before, &environment(folder.path()), move |exit| _ = end.send(exit)).unwrap();
    assert_eq!(ended.recv_timeout(LIMIT), Ok(Exit::Status(0)), "{}", script.said().quote());
    let asked = fs::read_to_string(folder.path().join("asked")).unwrap();
    assert!(asked.contains("FLUSH TABLES WITH READ LOCK"), "{asked}");
    let session = fs::read_to_string(folder.path().join("tanist-db.pid")).unwrap();
    assert!(Path::new(&format!("/proc/{}", session.trim())).exists(), "the session stays");
    let after = || script::run(&command("mariadb", "after", folder.path()), &environment(folder.path()), LIMIT);
    assert_eq!((after(), after()), (Ok(()), Ok(())), "twice is harmless");
    assert!(!folder.path().join("tanist-db.pid").exists());

    stand_in(folder.path(), "mariadb", "echo Access denied; exit 1");
    let refused = script::run(&before, &environment(folder.path()), LIMIT).unwrap_err();
    assert_eq!(refused, "ended with status 1: Access denied");
}
