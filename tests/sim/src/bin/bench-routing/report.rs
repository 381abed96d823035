//! Measurements as rows, in Markdown or JSON.
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// With its unit.
    what: String,
    median: f64,
    p99: f64,
    most: f64,
    note: String,
}

impl Row {
    pub(crate) fn of(what: impl Into<String>, mut values: Vec<f64>, note: impl Into<String>) -> Self {
        values.sort_by(f64::total_cmp);
        // Nearest rank.
        let at = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { what: what.into(), median: at(0.5), p99: at(0.99), most: at(1.0), note: note.into() }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) how: &'static str,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::json!(self));
            return;
        }
        println!("### {}\n\n{}.\n", self.title, self.how);
        println!("| what | median | p99 | most | of which |\n| --- | ---: | ---: | ---: | --- |");
        for Row { what, median, p99, most, note } in &self.rows {
            println!("| {what} | {} | {} | {} | {note} |", short(*median), short(*p99), short(*most));
        }
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
