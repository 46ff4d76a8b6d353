//! What goes over the network: everything is measured in a network namespace of its own, whose loopback interface counts nobody else's bytes.
//! Headers and acknowledgements count too, as they would on a wire.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::kernel;

/// Set where the namespace is one of our own.
const ISOLATED: &str = "TANIST_BENCH_ISOLATED";

/// Goes on in a network namespace of its own, as root and with util-linux and iproute2; else in that of everybody, with nothing counted.
pub fn isolate() {
    if is_isolated() || !rustix::process::geteuid().is_root() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    if !can_isolate() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]).arg(program);
    command.args(std::env::args_os().skip(1)).env(ISOLATED, "1");
    // Comes back only if it could not be done.
    let error = command.exec();
    eprintln!("no network namespace of its own: {error}");
}

fn can_isolate() -> bool {
    let tried = Command::new("unshare").args(["--net", "sh", "-c", "ip link set lo up"]).output();
    tried.is_ok_and(|output| output.status.success())
}

#[must_use]
pub fn is_isolated() -> bool {
    std::env::var_os(ISOLATED).is_some()
}

/// What was sent so far, where only ours is counted.
#[must_use]
pub fn sent_bytes() -> Option<u64> {
    kernel::loopback_sent_bytes().filter(|_| is_isolated())
}
