//! What charts have in common: from when to when, from which value to which, and the words beside them.
use proto_model::insight::{Line, Origin, Role, Series};
use proto_model::topology::{Forecast, Quantity};
use proto_model::{Latency, Loss, Timestamp};

/// The same for all panels, so that paths can be compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// Seconds from now: the first point, negative; and the farthest forecast.
    pub begins: f64,
    pub ends: f64,
    /// In the unit of the quantity.
    pub low: f64,
    pub high: f64,
}

impl Frame {
    /// None: there is nothing to draw.
    pub fn of(series: &Series) -> Option<Self> {
        let points = || series.lines.iter().flat_map(|line| &line.points);
        let forecasts = || series.lines.iter().flat_map(|line| &line.forecasts);
        let first = points().map(|point| Self::seconds(series, point.at)).fold(0.0, f64::min);
        let ends = forecasts().map(|forecast| forecast.horizon.as_secs_f64()).fold(0.0, f64::max);
        let seen = points().flat_map(|point| [point.least, point.most]);
        let ahead = forecasts().flat_map(|forecast| [forecast.quantiles[1], forecast.quantiles[5]]);
        let values: Vec<f64> = seen.chain(ahead).map(|value| value as f64).collect();
        let most = values.iter().copied().reduce(f64::max)?;
        let least = values.iter().copied().fold(most, f64::min);
        let (least, most) = with_bound(series.bound, least, most);
        let margin = ((most - least) * 0.05).max(most * 0.005).max(least_margin(series.quantity));
        Some(Self { begins: first.min(-1.0), ends, low: (least - margin).max(0.0), high: most + margin })
    }

    pub fn lasts(&self) -> f64 {
        self.ends - self.begins
    }

    pub fn height(&self) -> f64 {
        self.high - self.low
    }

    /// Of a time, from now.
    pub fn seconds(series: &Series, at: Timestamp) -> f64 {
        at.since(series.at).as_secs_f64() - series.at.since(at).as_secs_f64()
    }
}

/// Where all is nothing.
fn least_margin(quantity: Quantity) -> f64 {
    match quantity {
        Quantity::Rtt | Quantity::Loss => 1.0,
        Quantity::Load => 1_000.0,
    }
}

/// What the bound is, for the legend.
pub fn bound(series: &Series) -> Option<String> {
    let of_link = series.lines.iter().any(|line| line.role == Role::Link);
    let what = match (series.quantity, of_link) {
        (Quantity::Rtt | Quantity::Loss, _) => "bound",
        (Quantity::Load, true) => "capacity",
        (Quantity::Load, false) => "reserved",
    };
    Some(format!("{what}, {}", amount(series.quantity, series.bound? as f64)))
}

/// A bound that is far beyond everything would flatten what there is to see.
fn with_bound(bound: Option<u64>, least: f64, most: f64) -> (f64, f64) {
    const FAR: f64 = 3.0;
    match bound.map(|bound| bound as f64) {
        Some(bound) if bound <= FAR * most || most == 0.0 => (least.min(bound), most.max(bound)),
        Some(_) | None => (least, most),
    }
}

/// With its unit; three digits are enough beside a picture.
pub fn amount(quantity: Quantity, value: f64) -> String {
    let rounded = |value: f64| {
        let size = 10_f64.powf(value.max(1.0).log10().floor() - 2.0);
        ((value / size).round() * size).max(0.0)
    };
    match quantity {
        Quantity::Rtt => Latency::from_nanos(rounded(value) as u64).to_string(),
        Quantity::Loss => Loss::from_ppm(rounded(value) as u32).to_string(),
        Quantity::Load => proto_model::Bandwidth::from_bits_per_second(rounded(value) as u64).to_string(),
    }
}

pub fn role(role: Role) -> &'static str {
    match role {
        Role::Path => "(path)",
        Role::Backup => "(backup)",
        Role::Candidate => "(candidate)",
        Role::Link => "",
        Role::Circuit => "(the circuit, as it ran)",
        Role::Forth => "(what its source sends)",
        Role::Back => "(what its destination sends)",
        Role::Both => "(what both ends send)",
    }
}

pub fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Configured => "configured",
        Origin::Measured => "measured",
        Origin::Forecast => "forecast",
        Origin::Unknown => "not known",
    }
}

/// `now 12 ms; in 2 min 15 ms, 90 %: 12 ms – 20 ms (trend, error 1 ms)`.
pub fn now_words(series: &Series, line: &Line) -> String {
    let of = |value: u64| amount(series.quantity, value as f64);
    let now = match line.points.last() {
        Some(point) => format!("now {}", of(point.mean)),
        None => "not measured lately".to_owned(),
    };
    let from = if line.from == Origin::Configured { " (configured)" } else { "" };
    let far = line.forecasts.last().map(|far: &Forecast| {
        let (low, high) = (of(far.quantiles[1]), of(far.quantiles[5]));
        let tested = if far.counts { "" } else { ", not tested yet" };
        format!(
            "; in {} {}, 90 %: {low} – {high} ({}, error {}{tested})",
            super::span(far.horizon),
            of(far.quantiles[3]),
            far.model,
            of(far.error)
        )
    });
    let above = series.bound.zip(line.points.last()).is_some_and(|(bound, point)| point.mean > bound);
    let beyond = match (above, series.quantity, line.role) {
        (false, ..) => "",
        (true, Quantity::Rtt | Quantity::Loss, _) => ", above its bound",
        (true, Quantity::Load, Role::Link) => ", above its capacity",
        (true, Quantity::Load, _) => ", above what is reserved",
    };
    format!("{now}{from}{beyond}{}", far.unwrap_or_default())
}

/// `-4 min`, `+2 min`.
pub fn ago(seconds: f64) -> String {
    let sign = if seconds < 0.0 { '-' } else { '+' };
    format!("{sign}{}", super::span(std::time::Duration::from_secs_f64(seconds.abs())))
}
