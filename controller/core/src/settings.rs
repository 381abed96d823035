//! What an operator can configure of the decisions, with its defaults and bounds.
use proto_model::plan::Weights;
use proto_model::{FabricPrefix, Name};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Name of the region.
    pub region: Name,
    /// Where fabric addresses come from.
    pub prefix: FabricPrefix,
    pub weights: Weights,
    pub timing: Timing,
    pub limits: Limits,
    pub reroute: Reroute,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: "local".parse().expect("a constant that is a name"),
            prefix: FabricPrefix::default(),
            weights: Weights::default(),
            timing: Timing::default(),
            limits: Limits::default(),
            reroute: Reroute::default(),
        }
    }
}

/// What circuits are moved to better paths by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// By what is forecast of the links within the horizon, as far as that is known.
    #[default]
    Predictive,
    /// By what was measured lately.
    Reactive,
    /// Circuits stay on their paths until these break.
    Off,
}

/// When circuits leave a path that works for a better one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reroute {
    pub mode: Mode,
    /// How far it is looked ahead; 1 s to 1 h.
    #[serde(with = "duration")]
    pub horizon: Duration,
    /// A bound is at risk when it breaks within the horizon with a greater probability; 0.01 to 0.25.
    pub risk: f64,
    /// A circuit that was moved stays for so long; each time that it goes back where it came from, twice as long, up to 10 min.
    #[serde(with = "duration")]
    pub rest: Duration,
    /// What links cost is compared by means over so long, one after the other; 2 s to 4 min.
    #[serde(with = "duration")]
    pub step: Duration,
}

impl Default for Reroute {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            horizon: Duration::from_secs(60),
            risk: 0.05,
            rest: Duration::from_secs(30),
            step: Duration::from_secs(4),
        }
    }
}

/// How long the controller waits; text like `30s`, `500ms`, `24h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// A node without contact keeps its resources found, and its transit circuits where they are, for so long.
    #[serde(with = "duration")]
    pub node_grace: Duration,
    /// An active circuit whose end is on a node without contact keeps its path and bandwidth for so long; at least
    /// `node_grace`. One that was not active yet is released after `node_grace`.
    #[serde(with = "duration")]
    pub end_grace: Duration,
    /// A host may fail to build an object of a circuit, or stay silent about it, for so long before another path is
    /// tried.
    #[serde(with = "duration")]
    pub build_patience: Duration,
    /// A circuit suspended because a host failed or was silent is tried again after so long, even when nothing changed;
    /// any other one when something got better, and one bound by latency or loss after so long too, while links are measured.
    #[serde(with = "duration")]
    pub retry: Duration,
    /// An end that sends by its backup for so long is looked at: if the path is dead, the backup becomes the path.
    #[serde(with = "duration")]
    pub repair: Duration,
    /// A released label or address is not given again for so long.
    #[serde(with = "duration")]
    pub rest: Duration,
    /// Idempotency keys are remembered for so long.
    #[serde(with = "duration")]
    pub idempotency: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            node_grace: Duration::from_secs(30),
            end_grace: Duration::from_secs(600),
            build_patience: Duration::from_secs(10),
            retry: Duration::from_secs(30),
            repair: Duration::from_secs(60),
            rest: Duration::from_secs(60),
            idempotency: Duration::from_secs(24 * 3600),
        }
    }
}

/// Bounds of what grows. At each one the request that would exceed it is refused and names it, except where it says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub nodes: usize,
    pub resources: usize,
    pub circuits: usize,
    /// Pairs of hosts in one network. Further pairs are not used; the node's view says how many.
    pub links: usize,
    /// Links of one host that it measures; further ones are not measured.
    pub peers: usize,
    pub tokens: usize,
    /// The oldest key is forgotten for a new one.
    pub idempotency_keys: usize,
    /// Per node; further (circuit, reason, rule) triples are not shown.
    pub drop_counts: usize,
    /// Circuits of which it is kept how they ran, at most 12 kB each; of further ones it is not.
    pub histories: usize,
    /// Paths looked at for one decision.
    pub candidates: usize,
    /// Candidates kept with a circuit for `explain`; a dry run shows all.
    pub kept_candidates: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 10_000,
            resources: 100_000,
            circuits: 100_000,
            links: 250_000,
            peers: 512,
            tokens: 10_000,
            idempotency_keys: 100_000,
            drop_counts: 10_000,
            histories: 25_000,
            candidates: 64,
            kept_candidates: 16,
        }
    }
}

/// Of what is looked at again after each pause.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("setting {name}: {why}")]
pub struct BadSetting {
    pub name: &'static str,
    pub why: String,
}

impl Settings {
    /// What the types cannot rule out.
    pub fn check(&self) -> Result<(), BadSetting> {
        let bad = |name, why| Err(BadSetting { name, why });
        let Weights { rtt, hop, load, loss, price, unknown } = self.weights;
        for (name, weight) in [
            ("weights.rtt", rtt),
            ("weights.hop", hop),
            ("weights.load", load),
            ("weights.loss", loss),
            ("weights.price", price),
            ("weights.unknown", unknown),
        ] {
            if !(0.0..=1e9).contains(&weight) {
                return bad(name, format!("{weight} is not between 0 and 1e9"));
            }
        }
        if !(8..=30).contains(&self.prefix.v4_length) {
            return bad("prefix.v4_length", format!("{} is not between 8 and 30", self.prefix.v4_length));
        }
        let Timing { node_grace, end_grace, .. } = self.timing;
        if end_grace < node_grace {
            return bad("timing.end_grace", format!("{end_grace:?} is less than node_grace, {node_grace:?}"));
        }
        let Timing { build_patience, retry, repair, .. } = self.timing;
        for (name, time) in
            [("timing.build_patience", build_patience), ("timing.retry", retry), ("timing.repair", repair)]
        {
            if time < LEAST_PAUSE {
                return bad(
                    name,
                    format!("{time:?} is less than {LEAST_PAUSE:?}: it is what happens again and again"),
                );
            }
        }
        if !(1..=64).contains(&self.limits.candidates) {
            return bad("limits.candidates", format!("{} is not between 1 and 64", self.limits.candidates));
        }
        let Reroute { horizon, risk, rest, step, .. } = self.reroute;
        if !(LEAST_PAUSE..=Duration::from_secs(3_600)).contains(&horizon) {
            return bad("reroute.horizon", format!("{horizon:?} is not between 1 s and 1 h"));
        }
        if !(0.01..=0.25).contains(&risk) {
            return bad("reroute.risk", format!("{risk} is not between 0.01 and 0.25"));
        }
        if rest < LEAST_PAUSE {
            return bad("reroute.rest", format!("{rest:?} is less than {LEAST_PAUSE:?}"));
        }
        if !(Duration::from_secs(2)..=Duration::from_secs(240)).contains(&step) {
            return bad("reroute.step", format!("{step:?} is not between 2 s and 4 min"));
        }
        if self.limits.kept_candidates == 0 {
            return bad("limits.kept_candidates", "it must be at least 1: the chosen path is kept".into());
        }
        Ok(())
    }
}

/// Durations as people write them.
mod duration {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    const UNITS: [(&str, u64); 5] = [
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("min", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("ns", 1),
    ];

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ns", value.as_nanos()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "\"{text}\" is not a duration up to 30 days; write it like 30s, 500ms, 24h"
            ))
        })
    }

    pub(super) fn parse(text: &str) -> Option<Duration> {
        let split = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(split);
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
        let nanos = number.parse::<u64>().ok()?.checked_mul(*nanos)?;
        (nanos <= 30 * 24 * 3_600_000_000_000).then(|| Duration::from_nanos(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration::parse("30s"), Some(Duration::from_secs(30)));
        assert_eq!(duration::parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration::parse("24h"), Some(Duration::from_secs(86_400)));
        for bad in ["", "30", "s", "-1s", "1e3s", "9999999999h", "3 parsecs"] {
            assert_eq!(duration::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_weight_that_is_no_weight_is_named() {
        let mut settings = Settings::default();
        assert_eq!(settings.check(), Ok(()));
        settings.weights.load = f64::NAN;
        assert_eq!(settings.check().expect_err("NaN").name, "weights.load");
        settings.weights.load = -1.0;
        assert!(settings.check().is_err());
    }

    #[test]
    fn what_happens_again_and_again_has_a_pause() {
        for name in ["repair", "retry", "build_patience"] {
            let with = |pause: Duration| {
                let mut settings = Settings::default();
                match name {
                    "repair" => settings.timing.repair = pause,
                    "retry" => settings.timing.retry = pause,
                    _ => settings.timing.build_patience = pause,
                }
                settings.check()
            };
            let refused = with(Duration::from_millis(999)).expect_err("too short");
            assert_eq!(refused.name, format!("timing.{name}"));
            assert_eq!(with(Duration::from_secs(1)), Ok(()));
        }
    }

    #[test]
    fn a_step_is_neither_shorter_than_a_report_nor_longer_than_what_is_kept() {
        let with = |seconds: u64| {
            let mut settings = Settings::default();
            settings.reroute.step = Duration::from_secs(seconds);
            settings.check()
        };
        assert_eq!((with(2), with(240)), (Ok(()), Ok(())));
        for seconds in [1, 241] {
            let refused = with(seconds).expect_err("out of range");
            assert_eq!((refused.name, refused.why.contains("between 2 s and 4 min")), ("reroute.step", true));
        }
    }

    #[test]
    fn an_end_is_not_let_go_before_its_host_is_given_up() {
        let mut settings = Settings::default();
        settings.timing.end_grace = settings.timing.node_grace;
        assert_eq!(settings.check(), Ok(()));
        settings.timing.node_grace += Duration::from_secs(1);
        assert_eq!(settings.check().expect_err("too short").name, "timing.end_grace");
    }
}
