//! The small form: every case works, every target equals its source, and what is not installed is said so. It measures nothing.

use std::path::Path;
use std::process::Command;

use tanist_bench::cases;
use tanist_bench::goals::ROWS;

#[test]
fn every_case_works_and_every_target_equals_its_source() {
    let bench = Path::new(env!("CARGO_BIN_EXE_tanist-bench"));
    let program = bench.with_file_name("tanist");
    assert!(program.is_file(), "{} is built with the workspace: make everything", program.display());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let output = Command::new(bench).args(["measure", "--function", "--folder"]).arg(folder.path()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).join("");
    println!("{said}");
    assert!(output.status.success());
    for row in ROWS {
        for case in cases::of(row.name) {
            let measured = format!("{:<13} {:<22}", row.name, case.name());
            let missing = format!("{}/{}: ", row.name, case.name());
            let told = |line: &str| line.starts_with(&measured) || line.starts_with(&missing);
            assert!(said.lines().any(told), "{}, {} is not told of", row.name, case.name());
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}
