//! Tables without lines: a heading, columns, two spaces between them.

use comfy_table::{Cell, ContentArrangement, Table};

use super::{Style, Tone};

/// Longer lines are hard to read, on a wide terminal as well.
const FACTS_WIDTH: u16 = 112;

/// A table that grows by rows of text, painted already where wanted.
#[derive(Debug)]
pub struct Rows {
    table: Table,
}

impl Rows {
    /// A table with a heading.
    #[must_use]
    pub fn with_heading(heading: &[&str], style: Style) -> Self {
        let mut rows = Self::plain();
        rows.table.set_header(heading.iter().map(|text| Cell::new(style.paint(Tone::Dim, text))));
        rows
    }

    /// A table without one.
    #[must_use]
    pub fn plain() -> Self {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        Self { table }
    }

    /// A table of facts, whose long texts go on in the next line.
    #[must_use]
    pub fn facts() -> Self {
        let mut rows = Self::plain();
        rows.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(FACTS_WIDTH);
        rows
    }

    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().map(Cell::new));
    }

    /// The text, every line indented by so many spaces, no line ending in one.
    #[must_use]
    pub fn render(mut self, indent: usize) -> String {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let pad = " ".repeat(indent);
        self.table.lines().map(|line| format!("{pad}{}", line.trim_end()).trim_end().to_owned() + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use tanist_model::time::Timestamp;

    use super::*;

    #[test]
    fn columns_line_up_whatever_the_colour() {
        for colour in [false, true] {
            let style = Style { colour, now: Timestamp(0) };
            let mut rows = Rows::plain();
            rows.push([style.paint(Tone::Good, "ok"), "x".to_owned()]);
            rows.push([style.paint(Tone::Bad, "stopped"), "y".to_owned()]);
            let text = anstyle_free(&rows.render(0));
            assert_eq!(text, "ok       x\nstopped  y\n");
        }
    }

    fn anstyle_free(text: &str) -> String {
        let mut out = String::new();
        let mut inside = false;
        for c in text.chars() {
            match (inside, c) {
                (false, '\u{1b}') => inside = true,
                (true, 'm') => inside = false,
                (false, c) => out.push(c),
                _ => {}
            }
        }
        out
    }
}
