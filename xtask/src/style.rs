//! The rules of style over the whole checkout, and the exceptions from them.

use crate::finding::Finding;
use crate::manifest::Manifest;
use crate::rule::{self, Exception};
use crate::workspace::{Source, Workspace};

/// Modules with unsafe code. Their crate's root denies it, and they allow it in their own first lines.
const UNSAFE_MODULES: [Exception; 1] = [Exception {
    path: "crates/datapath/src/io/uring/ring.rs",
    reason: "a request to io_uring outlives the call that begins it, and the kernel holds its buffer meanwhile",
}];

/// Tests that may sleep.
const SLEEPERS: [Exception; 1] = [Exception {
    path: "tests/src/wait.rs",
    reason: "looks for a condition until a deadline, and passes a time that a test varies, so that no other file has to",
}];

/// Applies every rule to every source file and manifest of a checkout.
pub fn check(workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let sources = workspace.sources()?;
    let mut findings: Vec<Finding> = sources.iter().flat_map(of_source).collect();
    findings.extend(workspace.manifests()?.iter().flat_map(of_manifest));
    findings.extend(idle(&UNSAFE_MODULES, &sources, |source| !rule::is_safe(source, &[]).is_empty()));
    findings.extend(idle(&SLEEPERS, &sources, |source| !rule::sleeps(source).is_empty()));
    Ok(findings)
}

fn of_source(source: &Source) -> Vec<Finding> {
    [
        rule::says_why_it_exists(source),
        rule::is_short(source),
        rule::has_nothing_banned(source),
        rule::does_not_sleep(source, &SLEEPERS),
        rule::is_safe(source, &UNSAFE_MODULES),
        rule::root_forbids_unsafe(source, &UNSAFE_MODULES),
        rule::name_means_something(&source.path),
    ]
    .concat()
}

fn of_manifest(manifest: &Manifest) -> Vec<Finding> {
    let lints = "the lints of the workspace do not hold here: add `[lints]` with `workspace = true`";
    let name = format!("`{}` names nothing: say what the crate holds", manifest.package);
    let complaints = [(!manifest.keeps_lints, lints), (rule::is_meaningless(&manifest.package), &name)];
    complaints.iter().filter(|(broken, _)| *broken).map(|(_, text)| Finding::new(&manifest.path, *text)).collect()
}

/// Exceptions that nothing needs any more: a list that only grows is no list.
fn idle(exceptions: &[Exception], sources: &[Source], needs: impl Fn(&Source) -> bool) -> Vec<Finding> {
    let needed = |path: &str| sources.iter().any(|source| source.path == path && needs(source));
    let idle = exceptions.iter().filter(|exception| !needed(exception.path));
    idle.map(|exception| Finding::new(exception.path, "listed as an exception, and needs none: remove it there"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::finding::assert_none;

    #[test]
    fn this_checkout_keeps_its_style() {
        assert_none(&check(&Workspace::of_this_checkout()).unwrap());
    }

    /// A checkout with one crate, whose root is sound but for what is planted in it.
    fn planted(manifest: &str, files: &[(&str, &str)]) -> Vec<String> {
        let checkout = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = checkout.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace]\n");
        write("crates/wire/Cargo.toml", manifest);
        write("crates/wire/src/lib.rs", "//! A crate.\n\n#![forbid(unsafe_code)]\n");
        files.iter().for_each(|(path, text)| write(path, text));
        let findings = check(&Workspace::at(checkout.path())).unwrap();
        // What the exceptions are for is not in this checkout.
        let excepted = || SLEEPERS.iter().chain(&UNSAFE_MODULES);
        let planted = findings.iter().filter(|f| !excepted().any(|exception| exception.path == f.place));
        planted.map(|finding| finding.place.clone()).collect()
    }

    const SOUND: &str = "package.name = 'tanist-wire'\nlints.workspace = true\n";

    #[test]
    fn a_sound_crate_has_no_findings() {
        assert!(planted(SOUND, &[("crates/wire/src/tls.rs", "//! Who speaks.\n")]).is_empty());
    }

    #[test]
    fn offences_anywhere_below_a_crate_are_found() {
        let sleep = concat!("//! It waits.\nstd::thread::sl", "eep(a);\n");
        let files = [
            ("crates/wire/src/deep/down.rs", "fn nobody_knows_why() {}\n"),
            ("crates/wire/src/lib.rs", "//! A crate.\n"),
            ("crates/wire/tests/utils/mod.rs", "//! This and that.\n"),
            ("crates/wire/tests/late.rs", sleep),
            ("fuzz/targets/gate.rs", "fn nobody_knows_why() {}\n"),
        ];
        assert_eq!(
            planted(SOUND, &files),
            [
                "crates/wire/src/deep/down.rs",
                "crates/wire/src/lib.rs",
                "crates/wire/tests/late.rs:2",
                "crates/wire/tests/utils/mod.rs",
                "fuzz/targets/gate.rs",
            ]
        );
    }

    #[test]
    fn offences_of_a_manifest_are_found() {
        let findings = planted("package.name = 'tanist-common'\n", &[]);
        assert_eq!(findings, ["crates/wire/Cargo.toml", "crates/wire/Cargo.toml"]);
    }

    #[test]
    fn an_exception_that_nothing_needs_is_found() {
        let listed = [Exception { path: "tests/src/lib.rs", reason: "a test of the list" }];
        let source = Source { path: "tests/src/lib.rs".to_owned(), text: "//! Quiet now.\n".to_owned() };
        assert_eq!(idle(&listed, std::slice::from_ref(&source), |s| !rule::sleeps(s).is_empty()).len(), 1);
    }
}
