//! Builds the Debian package of a program that is compiled already. Nothing is listed by hand: files are those below
//! `packaging/root` and `config/valid`, conffiles those of them below `/etc`, units and directories are read from the same files
//! that the host reads, pages and completions come from the program, dependencies from `dpkg-shlibdeps`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::stage::Stage;
use crate::workspace::Workspace;

/// What is built from what.
#[derive(Clone, Debug)]
pub struct Order {
    /// The compiled `tanist`.
    pub program: PathBuf,
    /// Where the package is put.
    pub output: PathBuf,
    /// Compress little: for a package that is tried and thrown away.
    pub quick: bool,
}

/// Builds the package and returns its path.
pub fn build(workspace: &Workspace, order: &Order) -> anyhow::Result<PathBuf> {
    let version = version(workspace)?;
    let architecture = said_by(Command::new("dpkg").arg("--print-architecture"))?;
    let stage = Stage::new(&order.output.join("stage"))?;
    fill(workspace, &stage, order, &version)?;
    control(workspace, &stage, &version, &architecture)?;
    let package = order.output.join(format!("tanist_{version}_{architecture}.deb"));
    let compression: &[&str] = if order.quick { &["-Zgzip", "-z1"] } else { &["-Zxz"] };
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group"]).args(compression).arg("--build").arg(stage.root()).arg(&package);
    said_by(&mut command)?;
    Ok(package)
}

fn fill(workspace: &Workspace, stage: &Stage, order: &Order, version: &str) -> anyhow::Result<()> {
    let program = stage.root().join("usr/bin/tanist");
    stage.program("usr/bin/tanist", &order.program)?;
    said_by(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(&program))?;
    stage.tree(&workspace.directory("packaging/root"), "")?;
    stage.tree(&workspace.directory("config/valid"), "etc/tanist/samples")?;
    stage.tree(&workspace.directory("config/snapshots"), "usr/share/doc/tanist/snapshots")?;
    stage.tree(&workspace.directory("docs/operations"), "usr/share/doc/tanist/operations")?;
    stage.text("usr/share/doc/tanist/README.md", &workspace.page("README.md")?)?;
    stage.text("usr/share/doc/tanist/copyright", &workspace.page("packaging/debian/copyright")?)?;
    stage.compressed("usr/share/doc/tanist/changelog.gz", &changelog(workspace, version)?)?;
    manual(stage, &program)?;
    completions(stage, &program)
}

/// A page for every command, from the program itself.
fn manual(stage: &Stage, program: &Path) -> anyhow::Result<()> {
    let pages = stage.root().join("usr/share/man/man1");
    said_by(Command::new(program).args(["man", "--dir"]).arg(&pages))?;
    stage.compress_all("usr/share/man/man1")
}

fn completions(stage: &Stage, program: &Path) -> anyhow::Result<()> {
    let places = [
        ("bash", "usr/share/bash-completion/completions/tanist"),
        ("zsh", "usr/share/zsh/vendor-completions/_tanist"),
        ("fish", "usr/share/fish/vendor_completions.d/tanist.fish"),
    ];
    places.into_iter().try_for_each(|(shell, place)| {
        let script = said_by(Command::new(program).args(["completions", shell]))?;
        stage.text(place, &format!("{script}\n"))
    })
}

/// What dpkg reads: `DEBIAN/control`, the maintainer's scripts, the conffiles and the sums.
fn control(workspace: &Workspace, stage: &Stage, version: &str, architecture: &str) -> anyhow::Result<()> {
    let size = stage.size_kib()?.to_string();
    let fields = [
        ("VERSION", version),
        ("ARCHITECTURE", architecture),
        ("INSTALLED_SIZE", size.as_str()),
        ("DEPENDS", &dependencies(&stage.root().join("usr/bin/tanist"))?),
        ("UNITS", &units(&stage.files()?).join(" ")),
        ("DIRECTORIES", &directories(&workspace.page("packaging/root/usr/lib/tmpfiles.d/tanist.conf")?).join(" ")),
    ];
    let template = |name: &str| fill_in(&workspace.page(&format!("packaging/debian/{name}"))?, &fields);
    stage.sums()?;
    stage.text("DEBIAN/conffiles", &conffiles(&stage.files()?))?;
    stage.text("DEBIAN/control", &template("control")?)?;
    ["postinst", "prerm", "postrm"]
        .iter()
        .try_for_each(|script| stage.script(&format!("DEBIAN/{script}"), &template(script)?))
}

/// Puts values in the place of their `@NAMES@`. A name without a value is an error: it would end up in a script.
fn fill_in(template: &str, fields: &[(&str, &str)]) -> anyhow::Result<String> {
    let filled =
        fields.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value));
    match filled.split('@').nth(1).filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase())) {
        Some(name) => bail!("a template of packaging/debian names @{name}@, which has no value"),
        None => Ok(filled),
    }
}

/// Every file below `/etc` is the administrator's once it is installed.
fn conffiles(files: &[String]) -> String {
    files.iter().filter(|path| path.starts_with("etc/")).map(|path| format!("/{path}\n")).collect()
}

/// The agent before the server: see postinst.
fn units(files: &[String]) -> Vec<String> {
    let unit = |path: &String| path.strip_prefix("usr/lib/systemd/system/").map(str::to_owned);
    files.iter().filter_map(unit).filter(|name| name.ends_with(".service")).collect()
}

/// The directories of a tmpfiles.d(5) file, the deeper before what they are in.
fn directories(tmpfiles: &str) -> Vec<&str> {
    let mut found: Vec<&str> = tmpfiles.lines().filter_map(|line| line.strip_prefix("d ")?.split(' ').next()).collect();
    found.reverse();
    found
}

fn version(workspace: &Workspace) -> anyhow::Result<String> {
    let manifest: toml::Table = workspace.page("Cargo.toml")?.parse()?;
    let version = manifest.get("workspace").and_then(|w| w.get("package")?.get("version")?.as_str());
    Ok(version.context("Cargo.toml has no workspace.package.version")?.to_owned())
}

/// One entry: what changed stands in the history of the repository. Dated by the commit, so that the same commit gives the same text.
fn changelog(workspace: &Workspace, version: &str) -> anyhow::Result<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(workspace.directory("")).args(["log", "-1", "--format=%cD"]);
    let date = said_by(&mut git).or_else(|_| said_by(Command::new("date").arg("-R")))?;
    let control = workspace.page("packaging/debian/control")?;
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("packaging/debian/control names no Maintainer")?;
    Ok(format!(
        "tanist ({version}) unstable; urgency=medium\n\n  * Built from the repository, whose history says what changed.\n\n \
         -- {maintainer}  {date}\n"
    ))
}

/// The packages that the program's libraries come from, in the versions that it needs.
fn dependencies(program: &Path) -> anyhow::Result<String> {
    // dpkg-shlibdeps wants to see a source package around it.
    let place = program.with_file_name("shlibdeps");
    std::fs::create_dir_all(place.join("debian"))?;
    std::fs::write(place.join("debian/control"), "Source: tanist\n\nPackage: tanist\nArchitecture: any\n")?;
    let said = said_by(Command::new("dpkg-shlibdeps").current_dir(&place).arg("-O").arg("-e").arg("../tanist"));
    std::fs::remove_dir_all(&place)?;
    let said = said.context("find the package's dependencies (dpkg-shlibdeps is in Debian's package dpkg-dev)")?;
    let line = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(line.context("dpkg-shlibdeps found no dependencies")?.to_owned())
}

/// Runs a command and returns what it said, without the last newline.
pub fn said_by(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout).with_context(|| format!("what {name} said is no text"))?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_from_the_files_themselves() {
        let files = ["etc/tanist/environment", "usr/bin/tanist", "usr/lib/systemd/system/a.service"].map(str::to_owned);
        assert_eq!(conffiles(&files), "/etc/tanist/environment\n");
        assert_eq!(units(&files), ["a.service"]);
        assert_eq!(directories("# x\nd /var/a 0755 root root -\nd /var/a/b 0700 t t -\n"), ["/var/a/b", "/var/a"]);
    }

    #[test]
    fn a_template_is_filled_whole_or_refused() {
        let fields = [("UNITS", "a b")];
        assert_eq!(
            fill_in("for u in @UNITS@; do mail x@example\n", &fields).unwrap(),
            "for u in a b; do mail x@example\n"
        );
        let error = fill_in("rm -r @PLACES@", &fields).unwrap_err();
        assert!(error.to_string().contains("@PLACES@"), "{error}");
    }

    #[test]
    fn every_template_of_the_package_can_be_filled() {
        let fields =
            ["VERSION", "ARCHITECTURE", "INSTALLED_SIZE", "DEPENDS", "UNITS", "DIRECTORIES"].map(|name| (name, "1"));
        for name in ["control", "postinst", "prerm", "postrm"] {
            let text = Workspace::of_this_checkout().page(&format!("packaging/debian/{name}")).unwrap();
            fill_in(&text, &fields).unwrap();
        }
        assert!(!version(&Workspace::of_this_checkout()).unwrap().is_empty());
    }
}
