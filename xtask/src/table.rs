//! The table of imports, read from ARCHITECTURE.md: what people read and what the check holds are one text.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};

const HEADING: [&str; 3] = ["crate", "may import", "and in its tests"];

/// What a crate may import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    pub imports: BTreeSet<String>,
    /// Besides, in its tests only.
    pub test_imports: BTreeSet<String>,
}

/// The rows by crate.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImportTable {
    pub rows: BTreeMap<String, Row>,
}

impl ImportTable {
    /// Finds the table on a page. Names stand in backticks; a cell without a name says `none`, so that none is forgotten.
    pub fn parse(page: &str) -> anyhow::Result<Self> {
        let mut lines = page.lines().skip_while(|line| cells(line) != HEADING).skip(1);
        ensure!(lines.next().is_some_and(|line| line.starts_with("|--")), "no table headed {HEADING:?}");
        let mut table = Self::default();
        for line in lines.take_while(|line| line.starts_with('|')) {
            table.add(line).with_context(|| format!("in the row {line:?}"))?;
        }
        Ok(table)
    }

    fn add(&mut self, line: &str) -> anyhow::Result<()> {
        let cells = cells(line);
        let [crates, imports, test_imports] = cells.as_slice() else { bail!("it has not {} cells", HEADING.len()) };
        let row = Row { imports: names(imports)?, test_imports: names(test_imports)? };
        for name in names(crates)? {
            ensure!(self.rows.insert(name.clone(), row.clone()).is_none(), "{name} has a row already");
        }
        Ok(())
    }
}

fn cells(line: &str) -> Vec<&str> {
    let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map(|inner| inner.split('|').map(str::trim).collect()).unwrap_or_default()
}

/// The words in backticks; what stands between them is for people.
fn names(cell: &str) -> anyhow::Result<BTreeSet<String>> {
    let names: BTreeSet<String> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    ensure!(names.is_empty() == (cell == "none"), "the cell {cell:?} has neither a name in backticks nor says none");
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "| crate | may import | and in its tests |\n|---|---|---|\n";

    #[test]
    fn a_table_is_read_up_to_its_end() {
        let page =
            format!("# A page\n\n{HEAD}| `a`, `b` | none | none |\n| `c` | `a` (its nouns) | `b` |\n\n| `d` | x |\n");
        let table = ImportTable::parse(&page).unwrap();
        assert_eq!(table.rows.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(table.rows["a"].imports.is_empty());
        assert_eq!(table.rows["c"].imports, BTreeSet::from(["a".to_owned()]));
        assert_eq!(table.rows["c"].test_imports, BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        for rows in [
            "| `a` |  | none |",
            "| `a` | a | none |",
            "| `a` | none |",
            "| `a` | none | none |\n| `a` | none | none |",
        ] {
            assert!(ImportTable::parse(&format!("{HEAD}{rows}\n")).is_err(), "{rows}");
        }
        assert!(ImportTable::parse("# A page without it\n").is_err());
    }
}
