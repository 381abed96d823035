//! Measurements as rows: median, spread, and what they are compared with; as Markdown or JSON.
use serde::Serialize;

/// Of repeated measurements of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// All zero when nothing was measured.
    pub fn of(values: &[f64]) -> Self {
        let sorted = sorted(values);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => return Self::default(),
            n if n % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        Self { median, least: sorted[0], most: sorted[sorted.len() - 1] }
    }

    pub fn one(value: f64) -> Self {
        Self { median: value, least: value, most: value }
    }
}

/// The value that `share` (0 to 1) of the values do not exceed (nearest rank); 0 when nothing was measured.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// One line of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// With its unit.
    pub what: String,
    pub spread: Spread,
    pub compared_with: String,
    pub other: Option<Spread>,
    /// Medians: ours divided by the other's.
    pub ratio: Option<f64>,
}

impl Row {
    pub fn alone(what: &str, spread: Spread, note: &str) -> Self {
        Self { what: what.into(), spread, compared_with: note.into(), other: None, ratio: None }
    }

    pub fn compared(what: &str, spread: Spread, with: &str, other: Spread) -> Self {
        let ratio = (other.median > 0.0).then(|| spread.median / other.median);
        Self { what: what.into(), spread, compared_with: with.into(), other: Some(other), ratio }
    }

    fn markdown(&self) -> String {
        let other = self.other.map_or(String::new(), |other| {
            format!(": {} ({}–{})", short(other.median), short(other.least), short(other.most))
        });
        let ratio = self.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let Spread { median, least, most } = self.spread;
        format!(
            "| {} | {} | {}–{} | {}{other} | {ratio} |",
            self.what,
            short(median),
            short(least),
            short(most),
            self.compared_with
        )
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// On standard output.
pub fn print(title: &str, how: &str, rows: &[Row], json: bool) {
    if json {
        println!("{}", serde_json::json!({ "title": title, "how": how, "rows": rows }));
        return;
    }
    println!("### {title}\n\n{how}.\n");
    println!("| what | median | min–max | compared with | ratio |\n| --- | ---: | ---: | --- | ---: |");
    rows.iter().for_each(|row| println!("{}", row.markdown()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_the_ends() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(&[]), Spread::default());
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            (percentile(&values, 0.5), percentile(&values, 0.99), percentile(&values, 1.0)),
            (50.0, 99.0, 100.0)
        );
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn a_row_shows_both_sides_and_their_ratio() {
        let row = Row::compared("x", Spread::one(12.0), "y", Spread::one(10.0));
        assert_eq!(row.markdown(), "| x | 12.0 | 12.0–12.0 | y: 10.0 (10.0–10.0) | 1.20 |");
    }
}
