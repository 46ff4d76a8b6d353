//! What a crate's manifest says that it imports, resolved to package names.
//!
//! The manifests are read as text, not asked of cargo: a crate that does not resolve at the moment must not hide an import.

use std::collections::BTreeMap;

use anyhow::Context as _;
use toml::{Table, Value};

use crate::workspace::Room;

/// The names under which the workspace declares packages, where they differ from the packages' own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WorkspaceDependencies {
    renamed: BTreeMap<String, String>,
}

impl WorkspaceDependencies {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let manifest: Table = text.parse().context("parse the workspace's Cargo.toml")?;
        let declared = manifest.get("workspace").and_then(|w| w.get("dependencies")).and_then(Value::as_table);
        let renamed = declared
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.get("package")?.as_str()?.to_owned())))
            .collect();
        Ok(Self { renamed })
    }
}

/// A crate and the packages that it imports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The crate's directory, as ARCHITECTURE.md names it.
    pub room: String,
    /// Relative to the checkout.
    pub path: String,
    pub package: String,
    /// What the crate is built of, build scripts included.
    pub imports: Vec<String>,
    /// What only its tests are built of.
    pub test_imports: Vec<String>,
    /// True if the lints of the workspace hold in it.
    pub keeps_lints: bool,
}

impl Manifest {
    pub fn parse(room: &Room, text: &str, shared: &WorkspaceDependencies) -> anyhow::Result<Self> {
        let path = format!("{}/Cargo.toml", room.path);
        let manifest: Table = text.parse().with_context(|| format!("parse {path}"))?;
        let package = manifest.get("package").and_then(|p| p.get("name")).and_then(Value::as_str);
        let lints = manifest.get("lints").and_then(|l| l.get("workspace")).and_then(Value::as_bool);
        Ok(Self {
            room: room.name.clone(),
            package: package.with_context(|| format!("{path} names no package"))?.to_owned(),
            imports: packages(&manifest, &["dependencies", "build-dependencies"], shared),
            test_imports: packages(&manifest, &["dev-dependencies"], shared),
            keeps_lints: lints == Some(true),
            path,
        })
    }
}

/// The packages of the given kinds, those for one platform only included.
fn packages(manifest: &Table, kinds: &[&str], shared: &WorkspaceDependencies) -> Vec<String> {
    let platforms = manifest.get("target").and_then(Value::as_table);
    let platforms = platforms.into_iter().flatten().filter_map(|(_, platform)| platform.as_table());
    std::iter::once(manifest)
        .chain(platforms)
        .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flatten()
        .map(|(name, value)| package(name, value, shared))
        .collect()
}

fn package(name: &str, value: &Value, shared: &WorkspaceDependencies) -> String {
    let own = value.get("package").and_then(Value::as_str);
    own.or_else(|| shared.renamed.get(name).map(String::as_str)).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, shared: &str) -> Manifest {
        let room = Room { name: "wire".into(), path: "crates/wire".into(), directory: "crates/wire".into() };
        Manifest::parse(&room, text, &WorkspaceDependencies::parse(shared).unwrap()).unwrap()
    }

    #[test]
    fn every_way_to_import_is_seen() {
        let manifest = parse(
            r#"
            package.name = "tanist-wire"
            [dependencies]
            plain.workspace = true
            hidden = { package = "tanist-store", path = "../store" }
            [build-dependencies]
            builder = "1"
            [dev-dependencies]
            tested = "1"
            [target.'cfg(unix)'.dependencies]
            platform = "1"
            [target.'cfg(unix)'.dev-dependencies]
            platform-tested = "1"
            "#,
            "",
        );
        assert_eq!(manifest.imports, ["tanist-store", "plain", "builder", "platform"]);
        assert_eq!(manifest.test_imports, ["tested", "platform-tested"]);
        assert!(!manifest.keeps_lints);
    }

    #[test]
    fn a_name_given_by_the_workspace_hides_nothing() {
        let manifest = parse(
            "package.name = 'tanist-wire'\nlints.workspace = true\ndependencies.shelf.workspace = true",
            "[workspace.dependencies]\nshelf = { package = 'tanist-store', path = 'crates/store' }",
        );
        assert_eq!(manifest.imports, ["tanist-store"]);
        assert!(manifest.keeps_lints);
    }
}
