//! What a benchmark says: median and spread, compared with what.
use serde::Serialize;

/// Repeated measurements of one thing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Series {
    values: Vec<f64>,
}

impl Series {
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
        self.values.sort_by(f64::total_cmp);
    }

    /// The same in another unit.
    #[must_use]
    pub fn scaled(&self, by: f64) -> Self {
        Self { values: self.values.iter().map(|value| value * by).collect() }
    }

    /// 0 when nothing was measured.
    pub fn median(&self) -> f64 {
        self.values.get(self.values.len() / 2).copied().unwrap_or(0.0)
    }

    pub fn least(&self) -> f64 {
        self.values.first().copied().unwrap_or(0.0)
    }

    pub fn most(&self) -> f64 {
        self.values.last().copied().unwrap_or(0.0)
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub what: String,
    pub unit: &'static str,
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub compared_with: String,
    /// This over that; none where nothing is compared.
    pub ratio: Option<f64>,
}

impl Row {
    pub fn of(what: impl Into<String>, unit: &'static str, series: &Series) -> Self {
        Self {
            what: what.into(),
            unit,
            median: series.median(),
            least: series.least(),
            most: series.most(),
            compared_with: String::new(),
            ratio: None,
        }
    }

    #[must_use]
    pub fn against(mut self, what: impl Into<String>, ratio: f64) -> Self {
        self.compared_with = what.into();
        self.ratio = Some(ratio);
        self
    }

    /// A row of the Markdown table.
    pub fn markdown(&self) -> String {
        let ratio = self.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        format!(
            "| {} | {:.3} {} | {:.3}–{:.3} | {} | {ratio} |",
            self.what, self.median, self.unit, self.least, self.most, self.compared_with
        )
    }
}

/// The table's head.
pub const HEAD: &str = "| what | median | min–max | compared with | ratio |\n| --- | --- | --- | --- | --- |";
