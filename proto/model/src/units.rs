//! Quantities with their units, as they are computed, written by people and shown to them.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Bits per second; decimal multiples (RFC 5102 style: 1 kbit/s = 1,000 bit/s). Text: `200mbit`, `1.5gbit`, `64kbit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bandwidth(u64);

impl Bandwidth {
    pub const ZERO: Self = Self(0);
    /// 10 Tbit/s: more than any link known; a larger wish is a typing error.
    pub const MAX: Self = Self(10_000_000_000_000);

    pub const fn bits_per_second(self) -> u64 {
        self.0
    }
    /// Values above [`Self::MAX`] are cut to it.
    pub const fn from_bits_per_second(bits: u64) -> Self {
        if bits > Self::MAX.0 { Self::MAX } else { Self(bits) }
    }
    pub const fn mbit(megabits: u64) -> Self {
        Self::from_bits_per_second(megabits.saturating_mul(1_000_000))
    }
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
    /// [`Self::is_zero`], as serde asks for it.
    pub const fn is_nothing(&self) -> bool {
        self.is_zero()
    }
}

/// Nanoseconds of delay or round trip; which one, the field says. Text: `20ms`, `1.5s`, `300us`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latency(u64);

impl Latency {
    pub const ZERO: Self = Self(0);
    /// One hour: nothing on a network takes longer and still matters.
    pub const MAX: Self = Self(3_600_000_000_000);

    pub const fn nanos(self) -> u64 {
        self.0
    }
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
    /// Values above [`Self::MAX`] are cut to it.
    pub const fn from_nanos(nanos: u64) -> Self {
        if nanos > Self::MAX.0 { Self::MAX } else { Self(nanos) }
    }
    pub const fn from_micros(micros: u64) -> Self {
        Self::from_nanos(micros.saturating_mul(1_000))
    }
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_nanos(millis.saturating_mul(1_000_000))
    }
    pub const fn saturating_add(self, other: Self) -> Self {
        Self::from_nanos(self.0.saturating_add(other.0))
    }
}

/// Lost packets per million. Text: `0.5%`, `1200ppm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Loss(u32);

impl Loss {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(1_000_000);

    pub const fn ppm(self) -> u32 {
        self.0
    }
    pub const fn from_ppm(ppm: u32) -> Self {
        if ppm > Self::ALL.0 { Self::ALL } else { Self(ppm) }
    }
    /// Loss of two links in a row, taken as independent: `1 − (1−a)(1−b)`.
    pub fn then(self, next: Self) -> Self {
        let million = u64::from(Self::ALL.0);
        let kept = (million - u64::from(self.0)) * (million - u64::from(next.0)) / million;
        Self((million - kept) as u32)
    }
}

/// Micro-dollars per gigabyte carried (egress fees add up along a path). Text: `0.02$/GB`, `0.02`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(u64);

impl Price {
    pub const FREE: Self = Self(0);
    /// 1,000 $/GB.
    pub const MAX: Self = Self(1_000_000_000);

    pub const fn micro_dollars_per_gb(self) -> u64 {
        self.0
    }
    pub const fn from_micro_dollars_per_gb(micros: u64) -> Self {
        if micros > Self::MAX.0 { Self::MAX } else { Self(micros) }
    }
    pub const fn saturating_add(self, other: Self) -> Self {
        Self::from_micro_dollars_per_gb(self.0.saturating_add(other.0))
    }
}

/// Nanoseconds since the Unix epoch, from the clock of whoever says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }
    /// Zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// As `2026-11-21 01:03:04 UTC`; days from the civil calendar after Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms".
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        // Years begin in March here, so that the leap day is the last one.
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Number of a node's desired state; each change makes it one larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(
            f,
            self.0,
            &[(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s"), (1_000, "kbit/s"), (1, "bit/s")],
        )
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, &[(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"), (1, "ns")])
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} $/GB", self.0 as f64 / 1e6)
    }
}

/// Writes `value` in the largest unit that it reaches, with at most three decimals.
fn scaled(f: &mut fmt::Formatter<'_>, value: u64, units: &[(u64, &str)]) -> fmt::Result {
    let fallback = units[units.len() - 1];
    let (size, unit) = *units.iter().find(|(size, _)| value >= *size).unwrap_or(&fallback);
    let text = format!("{:.3}", value as f64 / size as f64);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    write!(f, "{text} {unit}")
}

/// Text that is no quantity; says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not {what}; write it like {example}")]
pub struct NotAQuantity {
    pub text: String,
    pub what: &'static str,
    pub example: &'static str,
}

impl FromStr for Bandwidth {
    type Err = NotAQuantity;
    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        const UNITS: &[(&str, f64)] = &[
            ("tbit", 1e12),
            ("tbit/s", 1e12),
            ("tbps", 1e12),
            ("gbit", 1e9),
            ("gbit/s", 1e9),
            ("gbps", 1e9),
            ("mbit", 1e6),
            ("mbit/s", 1e6),
            ("mbps", 1e6),
            ("kbit", 1e3),
            ("kbit/s", 1e3),
            ("kbps", 1e3),
            ("bit", 1.0),
            ("bit/s", 1.0),
            ("bps", 1.0),
        ];
        quantity(text, UNITS, Self::MAX.0 as f64).map(|bits| Self(bits as u64)).ok_or(NotAQuantity {
            text: text.into(),
            what: "a bandwidth up to 10 Tbit/s",
            example: "200mbit or 1.5gbit",
        })
    }
}

impl FromStr for Latency {
    type Err = NotAQuantity;
    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        const UNITS: &[(&str, f64)] = &[("ms", 1e6), ("us", 1e3), ("µs", 1e3), ("ns", 1.0), ("s", 1e9)];
        quantity(text, UNITS, Self::MAX.0 as f64).map(|nanos| Self(nanos as u64)).ok_or(NotAQuantity {
            text: text.into(),
            what: "a latency up to one hour",
            example: "20ms or 300us",
        })
    }
}

impl FromStr for Loss {
    type Err = NotAQuantity;
    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        quantity(text, &[("%", 1e4), ("ppm", 1.0)], 1e6).map(|ppm| Self(ppm.round() as u32)).ok_or(
            NotAQuantity { text: text.into(), what: "a loss from 0 to 100 %", example: "0.5% or 1200ppm" },
        )
    }
}

impl FromStr for Price {
    type Err = NotAQuantity;
    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        quantity(text, &[("$/gb", 1e6), ("$", 1e6), ("", 1e6)], Self::MAX.0 as f64)
            .map(|micros| Self(micros.round() as u64))
            .ok_or(NotAQuantity { text: text.into(), what: "a price up to 1000 $/GB", example: "0.02$/GB" })
    }
}

/// A non-negative decimal number followed by one of `units`, in the smallest unit, if it does not exceed `max`.
fn quantity(text: &str, units: &[(&str, f64)], max: f64) -> Option<f64> {
    let text = text.trim().to_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    let value = number.parse::<f64>().ok()? * factor;
    (value.is_finite() && value <= max).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_agree() {
        assert_eq!("200mbit".parse(), Ok(Bandwidth::mbit(200)));
        assert_eq!("1.5 Gbit/s".parse(), Ok(Bandwidth::mbit(1500)));
        assert_eq!(Bandwidth::mbit(1500).to_string(), "1.5 Gbit/s");
        assert_eq!("20ms".parse(), Ok(Latency::from_millis(20)));
        assert_eq!(Latency::from_micros(1_250).to_string(), "1.25 ms");
        assert_eq!(Latency::ZERO.to_string(), "0 ns");
        assert_eq!(Timestamp(1_795_222_984_999_999_999).to_string(), "2026-11-21 01:03:04 UTC");
        assert_eq!(Timestamp(1_835_481_598_000_000_000).to_string(), "2028-02-29 23:59:58 UTC");
        assert_eq!(Timestamp(0).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!("0.5%".parse(), Ok(Loss::from_ppm(5_000)));
        assert_eq!("0.02$/GB".parse(), Ok(Price::from_micro_dollars_per_gb(20_000)));
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for bits in [0, 1, 999, 64_000, 340_000_000, 1_500_000_000, 10_000_000_000_000] {
            let bandwidth = Bandwidth::from_bits_per_second(bits);
            assert_eq!(bandwidth.to_string().parse(), Ok(bandwidth));
        }
    }

    #[test]
    fn absurd_text_is_refused_with_an_example() {
        for text in ["", "mbit", "-5mbit", "1e9mbit", "200", "11tbit", "nan mbit", "1..2mbit", "5 parsecs"] {
            let refusal = text.parse::<Bandwidth>().expect_err(text);
            assert!(refusal.to_string().contains("200mbit"), "{refusal}");
        }
    }

    #[test]
    fn losses_in_a_row_compose() {
        assert_eq!(Loss::from_ppm(500_000).then(Loss::from_ppm(500_000)), Loss::from_ppm(750_000));
        assert_eq!(Loss::NONE.then(Loss::from_ppm(7)), Loss::from_ppm(7));
    }
}
