//! The command behind `make figures`: a line a takeover, of every kind, with moments that follow each other.

use std::process::Command;

use tanist_sim::figures::Kind;

#[test]
fn the_command_prints_so_many_takeovers_of_each_kind() {
    let program = env!("CARGO_BIN_EXE_tanist-sim");
    let output = Command::new(program).args(["--figures", "2", "--rough-seconds", "60"]).output().expect("it runs");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.starts_with("# false takeovers: 0\n# rough seconds: 60\nfault\tdetected_ms\t"), "{printed}");
    for kind in Kind::ALL {
        let begins = format!("{}\t", kind.name());
        assert_eq!(printed.lines().filter(|line| line.starts_with(&begins)).count(), 2, "{printed}");
    }
}
