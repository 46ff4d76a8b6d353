//! The rules that each source file keeps by itself, one function each.
//!
//! They look at lines, not at syntax trees: a rule that needs more than a line to be seen is too clever for its purpose. Words
//! that are banned are put together from parts here, so that this file keeps its own rules.

use crate::finding::Finding;
use crate::workspace::Source;

/// From here on a file is asking to be two.
pub const MOST_LINES: usize = 600;

/// A permission for one file, and why it has it.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    pub path: &'static str,
    /// Read by people, in the list itself.
    #[allow(dead_code)]
    pub reason: &'static str,
}

const BANNED: [(&str, &str); 4] = [
    (concat!("to", "do!"), "a stub: build it or leave it out"),
    (concat!("unimple", "mented!"), "a stub: build it or leave it out"),
    (concat!("#[ig", "nore"), "a test that does not run: repair it or remove it"),
    (concat!("db", "g!("), "left over from looking for a fault: remove it"),
];

const UNSAFE: [&str; 7] = [
    concat!("unsa", "fe {"),
    concat!("unsa", "fe fn"),
    concat!("unsa", "fe impl"),
    concat!("unsa", "fe trait"),
    concat!("unsa", "fe extern"),
    concat!("#[unsa", "fe("),
    concat!("allow(unsa", "fe_code)"),
];

pub fn says_why_it_exists(source: &Source) -> Vec<Finding> {
    let opens = source.text.starts_with("//! ");
    once(!opens, &source.path, "the file does not open with `//!` and why it exists")
}

pub fn is_short(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    once(
        lines > MOST_LINES,
        &source.path,
        &format!("{lines} lines, more than {MOST_LINES}: give each subject its own file"),
    )
}

pub fn has_nothing_banned(source: &Source) -> Vec<Finding> {
    BANNED.iter().flat_map(|(word, complaint)| lines_with(source, word, complaint)).collect()
}

/// A test waits for a condition, in one place that has a deadline; it does not sleep and hope.
pub fn does_not_sleep(source: &Source, sleepers: &[Exception]) -> Vec<Finding> {
    let is_test = source.path.split('/').any(|part| part == "tests");
    if !is_test || excepted(&source.path, sleepers) {
        return Vec::new();
    }
    sleeps(source)
}

pub fn sleeps(source: &Source) -> Vec<Finding> {
    let complaint =
        "a test sleeps: wait for the condition, or give the file its place and reason in the list of exceptions";
    [concat!("thread::sl", "eep"), concat!("time::sl", "eep")]
        .iter()
        .flat_map(|word| lines_with(source, word, complaint))
        .collect()
}

/// Unsafe code stands in the listed modules only, which say so in their own first lines.
pub fn is_safe(source: &Source, unsafe_modules: &[Exception]) -> Vec<Finding> {
    if excepted(&source.path, unsafe_modules) {
        return Vec::new();
    }
    let complaint = "the module is not in the list of those with unsafe code";
    UNSAFE.iter().flat_map(|word| lines_with(source, word, complaint)).collect()
}

/// A crate root forbids unsafe code, or denies it where a module of the crate is listed.
pub fn root_forbids_unsafe(source: &Source, unsafe_modules: &[Exception]) -> Vec<Finding> {
    let Some(directory) = crate_of_root(&source.path) else { return Vec::new() };
    let has_unsafe_module = unsafe_modules.iter().any(|module| module.path.starts_with(directory));
    let wanted = if has_unsafe_module { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
    let says = source.text.lines().any(|line| line.trim() == wanted);
    once(!says, &source.path, &format!("the crate root does not say {wanted}"))
}

/// The directory of the sources that a crate root stands for.
fn crate_of_root(path: &str) -> Option<&str> {
    let (directory, file) = path.rsplit_once('/')?;
    let (_, last) = directory.rsplit_once('/')?;
    match (last, file) {
        ("src", "lib.rs" | "main.rs") => Some(directory),
        ("bin", _) => directory.strip_suffix("/bin"),
        _ => None,
    }
}

/// A room that holds what found no room elsewhere teaches nothing by its name.
pub fn name_means_something(path: &str) -> Vec<Finding> {
    let stem = |part: &str| part.split('.').next().unwrap_or_default().to_owned();
    let meaningless = path.split('/').map(stem).find(|part| is_meaningless(part));
    meaningless
        .map(|name| Finding::new(path, format!("`{name}` names nothing: say what it holds")))
        .into_iter()
        .collect()
}

pub fn is_meaningless(name: &str) -> bool {
    matches!(
        name.trim_start_matches("tanist-"),
        "common" | "commons" | "util" | "utils" | "helper" | "helpers" | "misc"
    )
}

fn excepted(path: &str, exceptions: &[Exception]) -> bool {
    exceptions.iter().any(|exception| exception.path == path)
}

/// The lines of code, comments apart, that hold a word.
fn lines_with(source: &Source, word: &str, complaint: &str) -> Vec<Finding> {
    let code = source.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    let holding = code.filter(|(_, line)| line.contains(word));
    holding.map(|(number, _)| Finding::new(format!("{}:{}", source.path, number + 1), complaint)).collect()
}

fn once(broken: bool, path: &str, complaint: &str) -> Vec<Finding> {
    broken.then(|| Finding::new(path, complaint)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: [Exception; 1] = [Exception { path: "crates/storage/src/ioctl.rs", reason: "a test of the list" }];

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_file_without_a_reason_is_found() {
        assert!(says_why_it_exists(&source("a.rs", "//! It reads.\n")).is_empty());
        for text in ["", "use std::fs;\n//! Late.\n", "// Not a page.\n", "//!\n"] {
            assert_eq!(says_why_it_exists(&source("a.rs", text)).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(is_short(&source("a.rs", &"//\n".repeat(MOST_LINES))).is_empty());
        assert_eq!(is_short(&source("a.rs", &"//\n".repeat(MOST_LINES + 1))).len(), 1);
    }

    #[test]
    fn every_banned_word_is_found_at_its_line_but_not_in_a_comment() {
        for (word, _) in BANNED {
            let findings = has_nothing_banned(&source("a.rs", &format!("fn a() {{\n    {word}\n}}\n")));
            assert_eq!(findings.len(), 1, "{word}");
            assert_eq!(findings[0].place, "a.rs:2");
            assert!(has_nothing_banned(&source("a.rs", &format!("    // never {word}\n"))).is_empty());
        }
    }

    #[test]
    fn a_sleeping_test_is_found_unless_it_is_listed() {
        let text = concat!("std::thread::sl", "eep(pause);\ntokio::time::sl", "eep(pause).await;\n");
        assert_eq!(does_not_sleep(&source("crates/store/tests/kill.rs", text), &[]).len(), 2);
        assert_eq!(does_not_sleep(&source("tests/src/lib.rs", text), &[]).len(), 2);
        assert!(does_not_sleep(&source("crates/store/src/memory.rs", text), &[]).is_empty());
        let listed = [Exception { path: "tests/src/lib.rs", reason: "a test of the list" }];
        assert!(does_not_sleep(&source("tests/src/lib.rs", text), &listed).is_empty());
    }

    #[test]
    fn unsafe_code_is_found_unless_its_module_is_listed() {
        for word in UNSAFE {
            assert_eq!(is_safe(&source("crates/storage/src/image.rs", word), &ALLOWED).len(), 1, "{word}");
            assert!(is_safe(&source(ALLOWED[0].path, word), &ALLOWED).is_empty(), "{word}");
        }
    }

    #[test]
    fn a_root_forbids_what_its_crate_does_not_need() {
        let forbids = "//! A crate.\n#![forbid(unsafe_code)]\n";
        let denies = "//! A crate.\n#![deny(unsafe_code)]\n";
        let judge = |path, text| root_forbids_unsafe(&source(path, text), &ALLOWED).len();
        assert_eq!(judge("crates/wire/src/lib.rs", forbids), 0);
        assert_eq!(judge("crates/wire/src/lib.rs", denies), 1, "no module of it is listed");
        assert_eq!(judge("crates/wire/src/main.rs", "//! A program.\n"), 1);
        assert_eq!(judge("crates/wire/src/bin/probe.rs", "//! A program.\n"), 1);
        assert_eq!(judge("crates/wire/src/tls.rs", "//! Not a root.\n"), 0);
        assert_eq!(judge("crates/storage/src/lib.rs", denies), 0);
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        for path in ["crates/wire/src/utils.rs", "crates/common/src/lib.rs", "crates/wire/tests/helpers/mod.rs"] {
            assert_eq!(name_means_something(path).len(), 1, "{path}");
        }
        assert!(name_means_something("crates/wire/src/commonwealth.rs").is_empty());
        assert!(is_meaningless("tanist-utils"));
    }
}
