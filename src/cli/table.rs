//! Tables without borders: aligned columns, sentences wrapped to the terminal, names and numbers
//! never, nothing cut off.

use crate::api;
use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use vgpud_config::{Memory, printable};

/// Shown where there is no value.
pub const NONE: &str = "-";

/// A narrower column of sentences is no longer readable.
const NARROWEST: u16 = 20;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stays whole, so that it can be copied.
    Name,
    /// Stays whole, to the right.
    Number,
    /// Wrapped where the terminal is narrow.
    Words,
}

/// Rows below a header, and notes below the rows.
#[derive(Debug)]
pub struct Grid {
    columns: Vec<(&'static str, Kind)>,
    rows: Vec<Vec<Field>>,
    notes: Vec<(String, String)>,
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

/// How far a bound of compute is kept, as programs read it; none where that is not known.
#[must_use]
pub fn hold_word(number: i32) -> Option<&'static str> {
    match api::Hold::try_from(number) {
        Ok(api::Hold::Enforced) => Some("enforced"),
        Ok(api::Hold::BestEffort) => Some("best-effort"),
        Ok(api::Hold::NotAvailable) => Some("not-available"),
        Ok(api::Hold::Unspecified) | Err(_) => None,
    }
}

/// The same for people.
#[must_use]
pub fn hold(number: i32) -> String {
    hold_word(number).map_or_else(|| NONE.to_owned(), |word| word.replace('-', " "))
}

impl Grid {
    #[must_use]
    pub fn new(columns: &[(&'static str, Kind)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row; it has a field for each column.
    pub fn row(&mut self, fields: impl IntoIterator<Item = Field>) {
        self.rows.push(fields.into_iter().collect());
    }

    /// Adds a sentence about a row, to stand below the table.
    pub fn note(&mut self, about: &str, sentence: Option<&String>) {
        if let Some(sentence) = sentence {
            self.notes.push((about.to_owned(), sentence.clone()));
        }
    }

    /// The table for this terminal, or as wide as it needs where stdout is none. Empty without rows.
    #[must_use]
    pub fn render(self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = plain_table();
        table.set_header(self.columns.iter().map(|(title, _)| *title));
        for row in self.rows {
            table.add_row(row.into_iter().map(Field::into_cell));
        }
        let kinds: Vec<Kind> = self.columns.into_iter().map(|(_, kind)| kind).collect();
        arrange(&mut table, &kinds);
        let mut text = table.trim_fmt();
        if !self.notes.is_empty() {
            let mut notes = plain_table();
            for (about, sentence) in self.notes {
                notes.add_row([format!("{}:", printable(&about)), printable(&sentence)]);
            }
            arrange(&mut notes, &[Kind::Name, Kind::Words]);
            text += &format!("\n\n{}", notes.trim_fmt());
        }
        text
    }
}

fn arrange(table: &mut Table, kinds: &[Kind]) {
    let widths = table.column_max_content_widths();
    for ((column, kind), width) in table.column_iter_mut().zip(kinds).zip(widths) {
        column.set_padding((0, 2));
        column.set_constraint(match kind {
            Kind::Name | Kind::Number => ColumnConstraint::ContentWidth,
            Kind::Words => ColumnConstraint::LowerBoundary(Width::Fixed(width.min(NARROWEST) + 2)),
        });
        if *kind == Kind::Number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

impl Field {
    fn into_cell(self) -> Cell {
        let cell = Cell::new(printable(&self.text));
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
            table.add_row([printable(key), printable(value)]);
        }
    }
    arrange(&mut table, &[Kind::Name, Kind::Words]);
    table.trim_fmt()
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_amounts_read_as_people_write_them() {
        assert_eq!(
            ["100%", "12.5%", "0.01%", "-"].map(ToOwned::to_owned),
            [compute(Some(10_000)), compute(Some(1_250)), compute(Some(1)), compute(None)]
        );
        assert_eq!((memory(Some(3 << 29)), memory(None)), ("1536MiB".to_owned(), "-".to_owned()));
    }

    #[test]
    fn sentences_wrap_and_names_stay_whole() {
        let mut table = plain_table();
        table.set_width(48).set_header(["GPU", "WHY"]);
        table.add_row(["0000:41:00.0", "vf-8 is the smallest that has 20GiB; 6 are free"]);
        arrange(&mut table, &[Kind::Name, Kind::Words]);
        let expected = "\
GPU           WHY
0000:41:00.0  vf-8 is the smallest that has
              20GiB; 6 are free";
        assert_eq!(table.trim_fmt(), expected);
        table.set_width(20);
        assert!(table.trim_fmt().contains("0000:41:00.0  vf-8 is the smallest"), "{table}");
    }
}
