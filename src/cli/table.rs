//! Tables without borders: aligned columns, wrapped to the terminal, nothing cut off.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use vgpud_config::Memory;

/// Shown where there is no value.
pub const NONE: &str = "-";

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows below a header. A column in which every row is empty is left out.
#[derive(Debug)]
pub struct Grid {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Field>>,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    text: String,
    tone: Tone,
}

/// Whether a cell asks for attention; a colour on a terminal, nothing elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Calm,
    Warning,
    Alarm,
}

impl Field {
    #[must_use]
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: ToString> From<T> for Field {
    fn from(value: T) -> Self {
        Self { text: value.to_string(), tone: Tone::Calm }
    }
}

/// A value, or a dash.
pub fn or_none<T: ToString>(value: Option<T>) -> Field {
    value.map_or_else(|| NONE.into(), Field::from)
}

/// An amount of memory as people write it.
#[must_use]
pub fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| NONE.to_owned(), |bytes| Memory::from_bytes(bytes).to_string())
}

/// A share of compute as people write it.
#[must_use]
pub fn compute(hundredths: Option<u32>) -> String {
    let Some(hundredths) = hundredths else { return NONE.to_owned() };
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    match text.parse::<f64>() {
        Ok(percent) => format!("{percent}%"),
        Err(_) => format!("{text}%"),
    }
}

impl Grid {
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it has a field for each column.
    pub fn row(&mut self, fields: impl IntoIterator<Item = Field>) {
        self.rows.push(fields.into_iter().collect());
    }

    /// The table for this terminal, or as wide as it needs where stdout is none.
    #[must_use]
    pub fn render(&self) -> String {
        let shown: Vec<usize> =
            (0..self.columns.len()).filter(|&at| self.rows.iter().any(|row| is_filled(row, at))).collect();
        if shown.is_empty() {
            return String::new();
        }
        let mut table = plain_table();
        table.set_header(shown.iter().map(|&at| self.columns[at].0));
        for row in &self.rows {
            table.add_row(shown.iter().map(|&at| row.get(at).cloned().unwrap_or_default().into_cell()));
        }
        for (column, &at) in table.column_iter_mut().zip(&shown) {
            column.set_padding((0, 2));
            if self.columns[at].1 == Align::Right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        lines(&table)
    }
}

fn is_filled(row: &[Field], at: usize) -> bool {
    row.get(at).is_some_and(|field| !field.text.is_empty())
}

impl Field {
    fn into_cell(self) -> Cell {
        let cell = Cell::new(self.text);
        match self.tone {
            Tone::Calm => cell,
            Tone::Warning => cell.fg(Color::Yellow),
            Tone::Alarm => cell.fg(Color::Red),
        }
    }
}

/// `key  value` lines for one thing; pairs without a value are left out.
#[must_use]
pub fn facts(pairs: &[(&str, Option<String>)]) -> String {
    let mut table = plain_table();
    for (key, value) in pairs {
        if let Some(value) = value {
            table.add_row([key.to_string(), value.clone()]);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    lines(&table)
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn lines(table: &Table) -> String {
    table.trim_fmt()
}
