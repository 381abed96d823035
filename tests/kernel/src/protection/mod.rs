//! Protection measured: paths that die, lose or slow down under traffic, and how long until they are left.
pub mod away;
pub mod outage;
pub mod quality;
pub mod routing;
pub mod scene;
pub mod ways;

use crate::measure::{Row, Spread, percentile};

/// Milliseconds of one kind of failure, repeated.
#[derive(Clone, Debug, Default)]
pub struct Times {
    values: Vec<f64>,
    /// Repeats after which traffic did not come back in time.
    pub never: usize,
}

impl Times {
    pub fn add(&mut self, milliseconds: Option<f64>) {
        match milliseconds {
            Some(value) => self.values.push(value),
            None => self.never += 1,
        }
    }

    pub fn len(&self) -> usize {
        self.values.len() + self.never
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What so many of a hundred did not exceed, between the least and the most.
    pub fn at(&self, percent: f64) -> Spread {
        let (least, most) = (percentile(&self.values, 0.0), percentile(&self.values, 1.0));
        Spread { median: percentile(&self.values, percent / 100.0), least, most }
    }

    /// The same when traffic that never came back counts as having been away for as long as it was waited for.
    pub fn with_never(&self, percent: f64, patience: f64) -> Spread {
        let mut values = self.values.clone();
        values.extend(std::iter::repeat_n(patience, self.never));
        Self { values, never: 0 }.at(percent)
    }

    /// A row for one percentile, with what it must reach.
    pub fn row(&self, what: &str, percent: f64, limit: Option<f64>, aim: &str) -> Row {
        let spread = self.at(percent);
        let mut note = format!("{} repeats", self.len());
        if let Some(limit) = limit {
            let reached = spread.median <= limit && self.never == 0;
            note += &format!("; must be ≤ {limit}: {}", if reached { "reached" } else { "MISSED" });
        }
        if !aim.is_empty() {
            note += &format!("; aim {aim}");
        }
        if self.never > 0 {
            note += &format!("; {} times never", self.never);
        }
        Row::alone(&format!("{what}, p{percent:.0}, ms"), spread, &note)
    }
}

/// A row for a number that must not exceed a limit.
pub fn count(what: &str, number: f64, limit: f64, note: &str) -> Row {
    let reached = if number <= limit { "reached" } else { "MISSED" };
    Row::alone(what, Spread::one(number), &format!("must be ≤ {limit}: {reached}{note}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_never_came_counts_as_the_patience_in_a_comparison() {
        let mut times = Times::default();
        times.add(Some(1.0));
        times.add(None);
        assert_eq!(times.at(99.0).median, 1.0);
        assert_eq!(times.with_never(99.0, 60_000.0), Spread { median: 60_000.0, least: 1.0, most: 60_000.0 });
    }

    #[test]
    fn a_time_that_never_came_is_not_reached() {
        let mut times = Times::default();
        (1..=9).for_each(|value| times.add(Some(f64::from(value))));
        assert!(format!("{:?}", times.row("x", 99.0, Some(9.0), "")).contains("must be ≤ 9: reached"));
        assert!(format!("{:?}", times.row("x", 99.0, Some(8.0), "")).contains("MISSED"));
        times.add(None);
        let row = format!("{:?}", times.row("x", 50.0, Some(9.0), "≤ 5"));
        assert!(
            row.contains("10 repeats") && row.contains("MISSED") && row.contains("1 times never"),
            "{row}"
        );
    }
}
