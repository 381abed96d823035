//! How surely and for how long an intent wants its bounds kept, and what the terms of the cost weigh for it.
use crate::units::NotAQuantity;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Probability with which a bound may be broken within the horizon: 1 to 25 %, of which forecasts know something. Per million.
/// Text: `1%`, `20000ppm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Risk(u32);

impl Risk {
    pub const LEAST: Self = Self(10_000);
    pub const MOST: Self = Self(250_000);

    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// From 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl TryFrom<u32> for Risk {
    type Error = String;
    fn try_from(ppm: u32) -> Result<Self, String> {
        let risk = Self(ppm);
        if (Self::LEAST..=Self::MOST).contains(&risk) {
            return Ok(risk);
        }
        Err(format!("{risk} is not between {} and {}", Self::LEAST, Self::MOST))
    }
}

impl From<Risk> for u32 {
    fn from(risk: Risk) -> Self {
        risk.0
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 1e4)
    }
}

impl FromStr for Risk {
    type Err = NotAQuantity;
    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let refusal =
            || NotAQuantity { text: text.into(), what: "a risk from 1 to 25 %", example: "1% or 5%" };
        let loss: crate::Loss = text.parse().map_err(|_| refusal())?;
        Self::try_from(loss.ppm()).map_err(|_| refusal())
    }
}

/// How far ahead bounds are to be kept: 1 s to 1 h. Seconds. Text: `30s`, `5m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Horizon(u32);

impl Horizon {
    pub const LEAST: Self = Self(1);
    pub const MOST: Self = Self(3_600);

    pub const fn span(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl TryFrom<u32> for Horizon {
    type Error = String;
    fn try_from(seconds: u32) -> Result<Self, String> {
        let horizon = Self(seconds);
        if (Self::LEAST..=Self::MOST).contains(&horizon) {
            return Ok(horizon);
        }
        Err(format!("{seconds} s is not between 1 s and 1 h"))
    }
}

impl From<Horizon> for u32 {
    fn from(horizon: Horizon) -> Self {
        horizon.0
    }
}

impl fmt::Display for Horizon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            hour if hour.is_multiple_of(3_600) => write!(f, "{} h", hour / 3_600),
            minutes if minutes.is_multiple_of(60) => write!(f, "{} min", minutes / 60),
            seconds => write!(f, "{seconds} s"),
        }
    }
}

impl FromStr for Horizon {
    type Err = NotAQuantity;
    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let refusal = || NotAQuantity {
            text: text.into(),
            what: "a horizon from 1 s to 1 h",
            example: "30s, 5m or 1h",
        };
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refusal)?;
        let (number, unit) = text.split_at(split);
        let factor = match unit.trim() {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3_600,
            _ => return Err(refusal()),
        };
        let number: u32 = number.parse().map_err(|_| refusal())?;
        Self::try_from(number.saturating_mul(factor)).map_err(|_| refusal())
    }
}

/// A term of the cost that has a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighed {
    Rtt,
    Hop,
    Load,
    Loss,
    Price,
    Unknown,
}

impl Weighed {
    pub const ALL: [Self; 6] = [Self::Rtt, Self::Hop, Self::Load, Self::Loss, Self::Price, Self::Unknown];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Rtt => "rtt",
            Self::Hop => "hop",
            Self::Load => "load",
            Self::Loss => "loss",
            Self::Price => "price",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Weighed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Weighed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|term| term.word() == text);
        known.ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.into_iter().map(Self::word).collect();
            format!("\"{text}\" is no term of the cost; there are {}", all.join(", "))
        })
    }
}

/// What one unit of a term adds to the cost, in millionths; up to a thousand million. Text: `2`, `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Weight(u64);

impl Weight {
    pub const MOST: f64 = 1e9;

    pub fn value(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl TryFrom<f64> for Weight {
    type Error = String;
    fn try_from(value: f64) -> Result<Self, String> {
        if (0.0..=Self::MOST).contains(&value) {
            return Ok(Self((value * 1e6).round() as u64));
        }
        Err(format!("{value} is not between 0 and 1e9"))
    }
}

impl From<Weight> for f64 {
    fn from(weight: Weight) -> Self {
        weight.value()
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value())
    }
}

impl FromStr for Weight {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let value: f64 =
            text.parse().map_err(|_| format!("\"{text}\" is not a weight; write it like 2 or 0.5"))?;
        Self::try_from(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_risk_and_a_horizon_outside_of_what_is_known_are_refused_with_both_ends() {
        assert_eq!("1%".parse::<Risk>().map(Risk::ppm), Ok(10_000));
        assert_eq!("25%".parse::<Risk>().map(|risk| risk.to_string()), Ok("25 %".into()));
        for text in ["0.9%", "26%", "0.05", "", "-1%"] {
            let refusal = text.parse::<Risk>().expect_err(text).to_string();
            assert!(refusal.contains("1 to 25 %"), "{refusal}");
        }
        for (text, shown) in
            [("1s", "1 s"), ("90s", "90 s"), ("5m", "5 min"), ("1h", "1 h"), ("60min", "1 h")]
        {
            assert_eq!(text.parse::<Horizon>().map(|horizon| horizon.to_string()), Ok(shown.into()));
        }
        for text in ["0s", "61m", "2h", "5", "m", "1d", "99999999999s"] {
            let refusal = text.parse::<Horizon>().expect_err(text).to_string();
            assert!(refusal.contains("1 s to 1 h"), "{refusal}");
        }
    }

    #[test]
    fn a_weight_is_kept_as_written() {
        for value in [0.0, 0.5, 2.0, 1e9, 0.1] {
            let weight = Weight::try_from(value).expect("within");
            assert_eq!(weight.value(), value);
            assert_eq!(weight.to_string().parse(), Ok(weight));
        }
        for text in ["-1", "NaN", "1e10", "inf", "two"] {
            assert!(text.parse::<Weight>().is_err(), "{text}");
        }
        let refusal = "speed".parse::<Weighed>().expect_err("no term");
        assert!(refusal.contains("rtt, hop, load, loss, price, unknown"), "{refusal}");
    }
}
