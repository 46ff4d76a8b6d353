//! What fuzzing has found and where it began, given to every decoder again; and a few thousand mutations of it, from a seed.

mod mutation;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mutation::Mutations;
use tanist_decoders::{DECODERS, Decoder};

/// For the mutations; another one explores elsewhere.
const SEED_VARIABLE: &str = "TANIST_FUZZ_SEED";
/// A corpus is to be read by people and by every run of the tests.
const MOST_FILES: usize = 40;
const MOST_BYTES: u64 = 4096;
/// Mutations of each corpus; of those that start threads, write files or sign something.
const MUTATIONS: u32 = 1000;
const MUTATIONS_OF_THE_SLOW: u32 = 40;
const SLOW: [&str; 7] =
    ["backups", "certificate_requests", "grants", "page_sets", "receptions", "sendings", "signatures"];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The names in a directory without their extensions; none if there is no such directory.
fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// What lies in a directory for one decoder, in the order of the names.
fn inputs(kind: &str, decoder: &Decoder) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = fuzz().join(kind).join(decoder.name);
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    inputs.sort();
    inputs
}

/// Reads it, and says of a find what was read.
fn read(decoder: &Decoder, bytes: &[u8], whence: &str) -> tanist_decoders::Verdict {
    catch_unwind(AssertUnwindSafe(|| decoder.read(bytes)))
        .unwrap_or_else(|_| panic!("{} cannot read \"{}\" ({whence})", decoder.name, bytes.escape_ascii()))
}

#[test]
fn every_decoder_has_a_target_a_corpus_and_a_line_in_the_table() {
    let names: BTreeSet<String> = DECODERS.iter().map(|decoder| decoder.name.to_owned()).collect();
    assert_eq!(names.len(), DECODERS.len(), "a name is given twice");
    assert_eq!(names_in(&fuzz().join("targets")), names, "fuzz/targets");
    assert_eq!(names_in(&fuzz().join("corpus")), names, "fuzz/corpus");
    assert!(names_in(&fuzz().join("regressions")).is_subset(&names), "fuzz/regressions");
    let (page, manifest) = (fuzz().join("README.md"), fuzz().join("Cargo.toml"));
    let (page, manifest) = (fs::read_to_string(page).unwrap(), fs::read_to_string(manifest).unwrap());
    for name in names {
        assert!(page.lines().any(|line| line.starts_with(&format!("| `{name}` |"))), "fuzz/README.md lacks {name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
        let target = fs::read_to_string(fuzz().join("targets").join(format!("{name}.rs"))).unwrap();
        assert!(target.contains(&format!("target!(\"{name}\")")), "the target {name} is another's");
    }
}

/// A corpus in which nothing is understood leads nowhere.
#[test]
fn the_corpora_are_small_and_lead_into_their_decoders() {
    for decoder in DECODERS {
        let inputs = inputs("corpus", decoder);
        assert!((1..=MOST_FILES).contains(&inputs.len()), "{}: {} files", decoder.name, inputs.len());
        for (path, bytes) in &inputs {
            assert!(bytes.len() as u64 <= MOST_BYTES, "{} is large", path.display());
        }
        let understood =
            inputs.iter().filter(|(path, bytes)| read(decoder, bytes, &path.display().to_string()).is_ok());
        assert!(understood.count() > 0, "{}: nothing is understood", decoder.name);
    }
}

#[test]
fn what_was_found_once_is_not_found_again() {
    for decoder in DECODERS {
        for (path, bytes) in inputs("regressions", decoder) {
            let _ = read(decoder, &bytes, &path.display().to_string());
        }
    }
}

#[test]
fn mutations_of_the_corpora_are_read() {
    let seed = std::env::var(SEED_VARIABLE).map_or(4711, |seed| seed.parse().expect("a seed is a number"));
    for decoder in DECODERS {
        let corpus: Vec<Vec<u8>> = inputs("corpus", decoder).into_iter().map(|(_, bytes)| bytes).collect();
        let mut mutations = Mutations::of(&corpus, seed, decoder.name);
        let count = if SLOW.contains(&decoder.name) { MUTATIONS_OF_THE_SLOW } else { MUTATIONS };
        for number in 0..count {
            let whence = format!("mutation {number}, {SEED_VARIABLE}={seed}");
            let _ = read(decoder, &mutations.next(), &whence);
        }
    }
}
