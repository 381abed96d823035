//! Tables without lines: columns in capitals, two spaces between them.
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// How a cell's text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Waiting,
    Bad,
    Faint,
}

pub fn cell(text: impl ToString, tone: Tone) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Waiting => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
    }
}

pub fn plain(text: impl ToString) -> Cell {
    cell(text, Tone::Plain)
}

/// A table with these columns; when it has no rows, `empty` says what to do about that.
pub fn of<R: Into<comfy_table::Row>>(
    columns: &[&str],
    rows: impl IntoIterator<Item = R>,
    empty: &str,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).enforce_styling();
    table.set_header(columns.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row(row);
    }
    if table.is_empty() {
        return empty.into();
    }
    let count = table.column_count();
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index + 1 == count { 0 } else { 2 }));
    }
    table.lines().map(|line| trimmed(&line) + "\n").collect()
}

/// Without the spaces at the end, which stand before or after the codes that end a colour.
fn trimmed(line: &str) -> String {
    const END: [&str; 3] = ["\u{1b}[0m", "\u{1b}[39m", "\u{1b}[22m"];
    let bare = line.trim_end();
    match END.iter().find_map(|end| bare.strip_suffix(end).map(|rest| (rest, end))) {
        Some((rest, end)) => trimmed(rest) + end,
        None => bare.to_owned(),
    }
}

/// `label   value` lines.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    pairs
        .iter()
        .map(|(label, value)| format!("{label:width$}  {value}").trim_end().to_owned() + "\n")
        .collect()
}

/// Every line moved right.
pub fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
