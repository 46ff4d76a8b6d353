//! Which host this is, and which boot of it: what decides whether a kernel lock proves anything.

use std::fs;

use tanist_model::id::HostIdentity;

/// Test builds give each simulated host of one kernel an identity of its own (`MACHINE/BOOT`); otherwise every one of them
/// would silently be the same boot of the same host.
#[cfg(feature = "mutations")]
const TEST_HOST: &str = "TANIST_TEST_HOST";

pub(crate) fn identity() -> std::io::Result<HostIdentity> {
    #[cfg(feature = "mutations")]
    if let Ok(text) = std::env::var(TEST_HOST) {
        let (machine_id, boot_id) = text.split_once('/').unwrap_or((&text, "boot"));
        tracing::warn!(
            machine_id,
            boot_id,
            "{TEST_HOST} is set: this agent pretends to be on another host; for tests only"
        );
        return Ok(HostIdentity { machine_id: machine_id.to_owned(), boot_id: boot_id.to_owned() });
    }
    let boot_id = read("/proc/sys/kernel/random/boot_id")?;
    let machine_id = read("/etc/machine-id").unwrap_or_default();
    Ok(HostIdentity { machine_id: machine_or_boot(machine_id, &boot_id), boot_id })
}

/// A host without a machine id of its own (a container, an image before its first boot) is known by its boot alone. Two such
/// hosts are then never taken for two boots of one, which would prove the living one quiet.
fn machine_or_boot(machine_id: String, boot_id: &str) -> String {
    if machine_id.len() < 32 { format!("boot-{boot_id}") } else { machine_id }
}

fn read(path: &str) -> std::io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_without_a_machine_id_are_different_machines() {
        for none in ["", "uninitialized"] {
            assert_ne!(machine_or_boot(none.to_owned(), "a"), machine_or_boot(none.to_owned(), "b"));
        }
        let id = "0123456789abcdef0123456789abcdef".to_owned();
        assert_eq!(machine_or_boot(id.clone(), "a"), id);
    }
}
