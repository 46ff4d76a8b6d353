//! No crate imports beyond its row of the table in ARCHITECTURE.md.
//!
//! The rows keep the rooms apart: decisions cannot reach a disk, the server cannot move blocks, the store knows only nouns.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::Finding;
use crate::manifest::Manifest;
use crate::table::{ImportTable, Row};
use crate::workspace::Workspace;

const PAGE: &str = "ARCHITECTURE.md";

/// Compares the manifests of a checkout with its table.
pub fn check(workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let table = ImportTable::parse(&workspace.page(PAGE)?)?;
    Ok(compare(&table, &workspace.manifests()?))
}

fn compare(table: &ImportTable, manifests: &[Manifest]) -> Vec<Finding> {
    let rooms: BTreeMap<&str, &str> = manifests.iter().map(|m| (m.package.as_str(), m.room.as_str())).collect();
    let mut findings: Vec<Finding> = manifests.iter().flat_map(|m| of_crate(table, &rooms, m)).collect();
    findings.extend(rows_of_nothing(table, &rooms.values().copied().collect()));
    findings
}

fn of_crate(table: &ImportTable, rooms: &BTreeMap<&str, &str>, manifest: &Manifest) -> Vec<Finding> {
    let Some(row) = table.rows.get(&manifest.room) else {
        return vec![Finding::new(&manifest.path, format!("the crate has no row in {PAGE}"))];
    };
    let beyond = |imports: &[String], tests: bool| -> Vec<Finding> {
        let ours = imports.iter().filter_map(|package| rooms.get(package.as_str()));
        ours.filter(|room| !allows(row, room, tests)).map(|room| not_allowed(manifest, room, tests)).collect()
    };
    [beyond(&manifest.imports, false), beyond(&manifest.test_imports, true)].concat()
}

fn allows(row: &Row, room: &str, tests: bool) -> bool {
    row.imports.contains(room) || (tests && row.test_imports.contains(room))
}

fn not_allowed(manifest: &Manifest, room: &str, tests: bool) -> Finding {
    let whose = if tests { "the tests of " } else { "" };
    Finding::new(&manifest.path, format!("{whose}`{}` may not import `{room}` ({PAGE})", manifest.room))
}

/// A table that speaks of crates that do not exist is not the truth any more.
fn rows_of_nothing(table: &ImportTable, rooms: &BTreeSet<&str>) -> Vec<Finding> {
    let named =
        table.rows.iter().flat_map(|(room, row)| [room].into_iter().chain(&row.imports).chain(&row.test_imports));
    let unknown: BTreeSet<&String> = named.filter(|name| !rooms.contains(name.as_str())).collect();
    unknown.into_iter().map(|name| Finding::new(PAGE, format!("there is no crate `{name}`"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::assert_none;

    const TABLE: &str = "| crate | may import | and in its tests |\n|---|---|---|\n\
        | `model` | none | none |\n| `store` | `model` | none |\n| `server` | `model`, `store` | `wire` |\n\
        | `wire` | `model` | none |\n";

    fn manifest(room: &str, imports: &[&str], test_imports: &[&str]) -> Manifest {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Manifest {
            room: room.to_owned(),
            path: format!("crates/{room}/Cargo.toml"),
            package: format!("tanist-{room}"),
            imports: owned(imports),
            test_imports: owned(test_imports),
            keeps_lints: true,
        }
    }

    fn house(changed: Manifest) -> Vec<Finding> {
        let mut manifests = vec![
            manifest("model", &["serde"], &[]),
            manifest("store", &["tanist-model"], &["tempfile"]),
            manifest("server", &["tanist-model", "tanist-store"], &["tanist-wire"]),
            manifest("wire", &["tanist-model"], &[]),
        ];
        manifests.retain(|m| m.room != changed.room);
        manifests.push(changed);
        compare(&ImportTable::parse(TABLE).unwrap(), &manifests)
    }

    #[test]
    fn this_checkout_keeps_its_table() {
        assert_none(&check(&Workspace::of_this_checkout()).unwrap());
    }

    #[test]
    fn what_the_table_allows_is_allowed() {
        assert_none(&house(manifest("store", &["tanist-model"], &[])));
    }

    #[test]
    fn an_import_beyond_the_row_is_found() {
        let findings = house(manifest("store", &["tanist-model", "tanist-wire"], &[]));
        let complaint = "`store` may not import `wire` (ARCHITECTURE.md)";
        assert_eq!(findings, [Finding::new("crates/store/Cargo.toml", complaint)]);
    }

    #[test]
    fn an_import_of_the_tests_is_found_and_does_not_excuse_the_crate() {
        assert_eq!(house(manifest("store", &[], &["tanist-wire"])).len(), 1);
        assert_eq!(house(manifest("server", &["tanist-wire"], &[])).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
        assert_eq!(
            house(manifest("attic", &[], &[])),
            [Finding::new("crates/attic/Cargo.toml", "the crate has no row in ARCHITECTURE.md")]
        );
        let manifests = [manifest("model", &[], &[])];
        assert_eq!(compare(&ImportTable::parse(TABLE).unwrap(), &manifests).len(), 3);
    }
}
