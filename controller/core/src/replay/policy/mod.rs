//! The policies that can be compared, by the names under which they are asked for.
mod bandit;
mod experts;
mod fixed;
mod mix;
mod ours;
mod smooth;

use super::score::Policy;
use super::table::Table;
use crate::choice::mesh::{Costs, NONE, Relay};
use crate::choice::tuning::Tuning;
use std::fmt;
use std::str::FromStr;

/// A policy and its parameters. `Display` and `FromStr` are each other's inverse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Never over a relay.
    Direct,
    /// The best path by the medians of the burn-in, for ever.
    Static,
    /// The path that was best with the newest samples.
    Last,
    /// The best path by exponentially weighted means; moves when another is better by the share `hysteresis`.
    Ewma { gain: f32, hysteresis: f32 },
    /// Forecasters weighted by their past errors, one standard deviation of the error added; 2 % of hysteresis.
    Experts,
    /// Like VIA: confidence intervals leave the top k paths, an upper confidence bound picks among them.
    Bandit,
    /// Many simple policies; each pair follows the one with the lowest realised cost.
    Mix,
    /// What this controller does, once in a step of the series.
    Ours,
    /// Of each pair, the one path that is best over the scored steps; nobody can know it.
    Hindsight,
    /// The best path of each step; nobody can know it.
    Oracle,
}

impl Kind {
    /// As they are compared when nothing else is asked for.
    pub const USUAL: [Self; 11] = [
        Self::Direct,
        Self::Static,
        Self::Last,
        Self::Ewma { gain: 0.1, hysteresis: 0.0 },
        Self::Ewma { gain: 0.1, hysteresis: 0.02 },
        Self::Ewma { gain: 0.3, hysteresis: 0.02 },
        Self::Experts,
        Self::Bandit,
        Self::Mix,
        Self::Ours,
        Self::Hindsight,
    ];

    /// For tables.
    pub fn title(&self) -> String {
        match self {
            Self::Direct => "direct".into(),
            Self::Static => "static best of the burn-in".into(),
            Self::Last => "last value".into(),
            Self::Ewma { gain, hysteresis: 0.0 } => format!("EWMA {gain}"),
            Self::Ewma { gain, hysteresis } => format!("EWMA {gain}, {} % hysteresis", percent(*hysteresis)),
            Self::Experts => "error-weighted experts + 1 sd, 2 %".into(),
            Self::Bandit => "bandit (like VIA): top k + UCB".into(),
            Self::Mix => "policy mix by realised path cost".into(),
            Self::Ours => "ours".into(),
            Self::Hindsight => "best fixed path in hindsight".into(),
            Self::Oracle => "oracle".into(),
        }
    }

    /// Ready to be played on this table.
    pub fn policy(&self, table: &Table) -> Box<dyn Policy> {
        let (nodes, relay) = (table.nodes, table.relay_cost);
        match *self {
            Self::Direct => Box::new(fixed::Fixed::direct(nodes)),
            Self::Static => Box::new(fixed::Fixed::by_burn_in(table)),
            Self::Hindsight => Box::new(fixed::Fixed::by_hindsight(table)),
            Self::Oracle => Box::new(fixed::Oracle { nodes, relay }),
            Self::Last => Box::new(smooth::Smooth::new(nodes, relay, 1.0, 0.0)),
            Self::Ewma { gain, hysteresis } => Box::new(smooth::Smooth::new(nodes, relay, gain, hysteresis)),
            Self::Experts => Box::new(experts::Experts::new(nodes, relay)),
            Self::Bandit => Box::new(bandit::Bandit::new(nodes, relay)),
            Self::Mix => Box::new(mix::Mix::new(nodes, relay)),
            Self::Ours => Box::new(ours::Ours::new(nodes, relay, Tuning::every(table.step))),
        }
    }
}

/// Without the digits that a binary share brings along.
fn percent(share: f32) -> f32 {
    (share * 1e5).round() / 1e3
}

impl fmt::Display for Kind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => to.write_str("direct"),
            Self::Static => to.write_str("static"),
            Self::Last => to.write_str("last"),
            Self::Ewma { gain, hysteresis: 0.0 } => write!(to, "ewma:{gain}"),
            Self::Ewma { gain, hysteresis } => write!(to, "ewma:{gain}:{hysteresis}"),
            Self::Experts => to.write_str("experts"),
            Self::Bandit => to.write_str("bandit"),
            Self::Mix => to.write_str("mix"),
            Self::Ours => to.write_str("ours"),
            Self::Hindsight => to.write_str("hindsight"),
            Self::Oracle => to.write_str("oracle"),
        }
    }
}

const KNOWN: &str =
    "direct, static, last, ewma:GAIN[:HYSTERESIS], experts, bandit, mix, ours, hindsight, oracle";

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "direct" => Self::Direct,
            "static" => Self::Static,
            "last" => Self::Last,
            "experts" => Self::Experts,
            "bandit" => Self::Bandit,
            "mix" => Self::Mix,
            "ours" => Self::Ours,
            "hindsight" => Self::Hindsight,
            "oracle" => Self::Oracle,
            other => match other.strip_prefix("ewma:") {
                Some(parameters) => ewma(parameters)?,
                None => return Err(format!("\"{other}\" is no policy; known are {KNOWN}")),
            },
        })
    }
}

fn ewma(parameters: &str) -> Result<Kind, String> {
    let (gain, hysteresis) = parameters.split_once(':').unwrap_or((parameters, "0"));
    let number = |text: &str, least: f32, what: &str| match text.parse::<f32>() {
        Ok(number) if (least..=1.0).contains(&number) => Ok(number),
        _ => Err(format!("\"{text}\" is no {what}: a number from {least} to 1, as in ewma:0.1:0.02")),
    };
    Ok(Kind::Ewma { gain: number(gain, 0.001, "gain")?, hysteresis: number(hysteresis, 0.0, "hysteresis")? })
}

/// The path that is best by these costs, or the current one as long as no other is better by the share `hysteresis`.
fn moved(costs: &Costs, (from, to): (usize, usize), current: Relay, hysteresis: f32) -> Relay {
    let (best, relay) = costs.best(from, to);
    if best.is_infinite() {
        return to as Relay;
    }
    let present = if current == NONE { f32::INFINITY } else { costs.of(from, to, current) };
    if present.is_finite() && best * (1.0 + hysteresis) > present { current } else { relay }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_printed_as_it_is_typed() {
        for kind in Kind::USUAL.into_iter().chain([Kind::Oracle]) {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!(Kind::Ewma { gain: 0.1, hysteresis: 0.02 }.title(), "EWMA 0.1, 2 % hysteresis");
    }

    #[test]
    fn what_is_no_policy_is_told_what_is() {
        let refused = |text: &str| text.parse::<Kind>().expect_err(text);
        assert!(refused("best").contains("ewma:GAIN"));
        assert!(refused("ewma:2").contains("\"2\" is no gain"));
        assert!(refused("ewma:0.1:x").contains("\"x\" is no hysteresis"));
    }
}
