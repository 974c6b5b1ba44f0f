//! Aligned tables without lines: `awk` reads them as well as people do.

use std::fmt::Write as _;

use super::color::Paint;

/// Space between columns.
const GAP: usize = 2;

/// A table that is being filled.
#[derive(Debug)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: Vec<Cell>,
    notes: Vec<String>,
}

/// A cell: what it says, and how that looks when painted.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    width: usize,
    shown: String,
}

// === impl Cell ===

impl Cell {
    /// A text that is already painted; `plain` is what its width is measured by.
    pub(crate) fn painted(plain: &str, shown: String) -> Self {
        Self { width: plain.chars().count(), shown }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        let text = text.into();
        let text = super::harmless(&text).into_owned();
        // An empty cell would shift the columns for whoever splits at spaces.
        let shown = if text.is_empty() { "-".to_owned() } else { text };
        Self { width: shown.chars().count(), shown }
    }
}

// === impl Table ===

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headers: &[&'static str]) -> Self {
        Self { headers: headers.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(Row { cells, notes: Vec::new() });
    }

    /// Adds a line under the last row.
    pub(crate) fn note(&mut self, text: String) {
        if let Some(row) = self.rows.last_mut() {
            row.notes.push(text);
        }
    }

    /// The table as text; empty without rows.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        if self.rows.is_empty() {
            return text;
        }
        let widths = self.widths();
        let headers: Vec<Cell> = self.headers.iter().map(|header| Cell::painted(header, paint.dim(header))).collect();
        push_row(&mut text, &headers, &widths);
        for row in &self.rows {
            push_row(&mut text, &row.cells, &widths);
            for note in &row.notes {
                let _ = writeln!(text, "{:indent$}{note}", "", indent = GAP);
            }
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let column = |at: usize| self.rows.iter().filter_map(move |row| row.cells.get(at)).map(|cell| cell.width).max();
        self.headers.iter().enumerate().map(|(at, header)| column(at).unwrap_or(0).max(header.len())).collect()
    }
}

fn push_row(text: &mut String, cells: &[Cell], widths: &[usize]) {
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        text.push_str(&cell.shown);
        let last = at + 1 == cells.len();
        let pad = if last { 0 } else { width - cell.width + GAP };
        text.extend(std::iter::repeat_n(' ', pad));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_with_and_without_colours() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(vec!["postgres".into(), "ready".into()]);
        table.row(vec!["api".into(), "".into()]);
        table.note("exited with code 1".to_owned());
        assert_eq!(
            table.render(Paint::new(false)),
            "NAME      STATE\npostgres  ready\napi       -\n  exited with code 1\n"
        );
        assert!(table.render(Paint::new(true)).contains("postgres  ready\n"));
        assert_eq!(Table::new(&["NAME"]).render(Paint::new(false)), "");
    }
}
