//! Servers of NBD for one test: qemu-nbd, qemu-storage-daemon, nbdkit, each on a socket of its own.
//!
//! The tests of `crates/storage` take this file as a module too.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait;

/// A server says within this time that it is ready.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Whether a program is there. Where it has to be (`CI`), that it is not fails the test; elsewhere it is said that the test was skipped.
///
/// # Panics
/// Where nothing may be skipped.
#[must_use]
pub fn is_there(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok_and(|said| said.status.success());
    if !found {
        println!("skipped: NBD with {program}: it is not installed");
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{program} has to be installed here");
    }
    found
}

/// A running server. It is killed when this is dropped, after a panic as well.
#[derive(Debug)]
pub struct NbdServer {
    child: Child,
    pub socket: PathBuf,
    program: String,
    arguments: Vec<String>,
}

impl NbdServer {
    /// Starts a server whose arguments name the socket, and the file in which it writes its number when it is ready as `PID`.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn start(program: &str, socket: &Path, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = launch(program, socket, &arguments);
        Self { child, socket: socket.to_owned(), program: program.to_owned(), arguments }
    }

    /// qemu-nbd over an image file, on a socket: any number of clients, for as long as the test takes.
    #[must_use]
    pub fn qemu_nbd(socket: &Path, image: &Path, more: &[&str]) -> Self {
        let (at, image) = (socket.display().to_string(), image.display().to_string());
        let base = ["--socket", &at, "--shared=0", "--persistent", "--pid-file", "PID"];
        Self::start("qemu-nbd", socket, &[&base[..], more, &[&image]].concat())
    }

    /// nbdkit with a plugin and filters, on a socket.
    #[must_use]
    pub fn nbdkit(socket: &Path, plugin: &[&str]) -> Self {
        let at = socket.display().to_string();
        Self::start("nbdkit", socket, &[&["--foreground", "--unix", &at, "--pidfile", "PID"][..], plugin].concat())
    }

    /// SIGKILL; the process is gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, as an administrator ends it; the process is gone when this returns.
    ///
    /// # Panics
    /// If it does not end.
    pub fn terminate(&mut self) {
        let number =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(number, rustix::process::Signal::TERM).expect("end a server");
        wait::until("a server ends", START_LIMIT, || self.child.try_wait().ok().flatten());
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Another process with the same arguments.
    pub fn start_again(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(&self.socket);
        self.child = launch(&self.program, &self.socket, &self.arguments);
    }
}

fn launch(program: &str, socket: &Path, arguments: &[String]) -> Child {
    let ready = socket.with_extension("pid");
    let _ = std::fs::remove_file(&ready);
    let log = std::fs::File::create(socket.with_extension("log")).expect("make a log");
    let number = ready.display().to_string();
    let arguments = arguments.iter().map(|argument| if argument == "PID" { number.clone() } else { argument.clone() });
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start {program}: {error}"));
    wait::until(&format!("{program} is ready"), START_LIMIT, || {
        let ended = child.try_wait().ok().flatten();
        let said = || std::fs::read_to_string(socket.with_extension("log")).unwrap_or_default();
        assert!(ended.is_none(), "{program} ended: {ended:?}: {}", said());
        std::fs::read_to_string(&ready).is_ok_and(|number| number.ends_with('\n')).then_some(())
    });
    child
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        self.kill();
    }
}
