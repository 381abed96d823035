//! Values of repeated measurements, in order.
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
