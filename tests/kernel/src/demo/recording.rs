//! Makes up the recording of the demo: a round-trip time that wobbles, then climbs. The same every time, and no real link's.
use super::foresight::CLIMBS_AT;
use crate::chance::Chance;
use std::fmt::Write as _;

/// How much each second adds while it climbs, milliseconds.
const STEEPNESS: f64 = 1.5;
/// It is this at first, and this much more at the end.
const LEVEL: f64 = 10.0;
const MOST: f64 = 45.0;
/// The wobble: from when to when, and how much at its peak.
const WOBBLE: (f64, f64, f64) = (20.0, 36.0, 3.0);
const SEED: u64 = 20_261_121;

/// As a file for the lab: seconds, round-trip time in milliseconds, loss; every half second for three minutes.
pub(super) fn recording() -> String {
    let mut chance = Chance::new(SEED);
    let mut text =
        "# made up by tests/kernel/src/demo/recording.rs; no recording of a real link\nseconds,rtt_ms,loss\n"
            .to_owned();
    for half in 0..360 {
        let at = f64::from(half) / 2.0;
        let noise = chance.below(401) as f64 / 1e3 - 0.2;
        let climb = ((at - CLIMBS_AT).max(0.0) * STEEPNESS).min(MOST);
        let _ = writeln!(text, "{at:.1},{:.3},0", LEVEL + wobble(at) + climb + noise);
    }
    text
}

/// Up and down again in straight lines.
fn wobble(at: f64) -> f64 {
    let (from, to, peak) = WOBBLE;
    let half = (to - from) / 2.0;
    (peak * (1.0 - (at - from - half).abs() / half)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `FOREWEAVE_BLESS=1` writes it.
    #[test]
    fn the_recording_in_the_repository_is_what_is_made_up_here() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../series/foresight.csv");
        if std::env::var_os("FOREWEAVE_BLESS").is_some() {
            std::fs::write(file, recording()).expect("the repository can be written");
        }
        assert_eq!(std::fs::read_to_string(file).expect("tests/series/foresight.csv"), recording());
    }
}
