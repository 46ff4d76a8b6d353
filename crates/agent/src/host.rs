//! Which host this is, and which boot of it: what decides whether a kernel lock proves anything.

use std::fs;

use tanist_model::id::HostIdentity;

/// Tests on one kernel give each simulated host an identity of its own (`MACHINE/BOOT`); otherwise every one of them would
/// silently be the same boot of the same host.
const TEST_HOST: &str = "TANIST_TEST_HOST";

pub(crate) fn identity() -> std::io::Result<HostIdentity> {
    if let Ok(text) = std::env::var(TEST_HOST) {
        let (machine_id, boot_id) = text.split_once('/').unwrap_or((&text, "boot"));
        tracing::warn!(
            machine_id,
            boot_id,
            "{TEST_HOST} is set: this agent pretends to be on another host; for tests only"
        );
        return Ok(HostIdentity { machine_id: machine_id.to_owned(), boot_id: boot_id.to_owned() });
    }
    Ok(HostIdentity { machine_id: machine_id(), boot_id: read("/proc/sys/kernel/random/boot_id")? })
}

/// Containers and minimal images have no machine id; the boot id is unique by itself, so its absence weakens nothing but the
/// proof by a new boot.
fn machine_id() -> String {
    read("/etc/machine-id").unwrap_or_else(|_| "no-machine-id".to_owned())
}

fn read(path: &str) -> std::io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}
