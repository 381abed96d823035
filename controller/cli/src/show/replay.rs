//! What a replay showed, as tables.
use super::table::{self, Tone, cell, plain};
use crate::text::Span;
use controller_core::replay::load::{CAPACITY_OVER_PEAK, LoadReport};
use controller_core::replay::money;
use controller_core::replay::regret::{Band, Regret, Row};
use std::time::Duration;

/// Columns of the bars.
const BAR: usize = 20;

pub fn regret(regret: &Regret) -> String {
    let scored = regret.steps - 1 - regret.burn_in;
    let first = regret.rows.first().map_or(0, |row| row.score.scored);
    let intro = format!(
        "{} nodes, {} steps of {}: {} to learn, {scored} scored ({first} choices). Mean of the best paths {:.2} ms, of \
         the direct ones {:.2} ms.\n\n",
        regret.nodes,
        regret.steps,
        spoken(regret.step),
        regret.burn_in,
        regret.oracle,
        regret.direct,
    );
    let most = regret.rows.iter().map(|row| row.score.regret).fold(0.0, f64::max);
    let columns = ["POLICY", "MEAN ms", "REGRET ms", "GAP CLOSED", "WORSE", "SWITCHES", ""];
    let rows = regret.rows.iter().map(|row| cells(row, most));
    let legend = "\nRegret is the mean above the best path of each step; the gap is that from direct to the best; worse \
                  are pairs\nthat would have been better off direct; switches are per pair and step.\n";
    intro + &table::of(&columns, rows, "no policy was asked for\n") + legend + &bands(&regret.bands)
}

/// `15m`, `109.9s`.
pub(super) fn spoken(step: Duration) -> String {
    if step.subsec_nanos() == 0 { Span(step).to_string() } else { format!("{step:?}") }
}

/// How often the truth was within the bands of the links' forecasts.
fn bands(bands: &[Band]) -> String {
    if bands.is_empty() {
        return String::new();
    }
    let columns = ["STEPS AHEAD", "98 % BAND", "90 % BAND", "50 % BAND", "WIDTH OF 90 %"];
    let rows = bands.iter().map(|band| {
        let [most, many, half] = band.coverage.map(|share| plain(format!("{share:.1} %")));
        vec![plain(band.steps), most, many, half, plain(format!("{:.2} ms", band.width))]
    });
    format!("\nWithin the bands of the links' own forecasts:\n\n{}", table::of(&columns, rows, ""))
}

pub fn loads(report: &LoadReport) -> String {
    let intro = format!(
        "{} links, {} steps of {}, scored from step {}. MASE: the error over the mean step of the part that is not scored.\n\n",
        report.links,
        report.steps,
        spoken(report.step),
        report.scored_from
    );
    let columns = ["STEPS AHEAD", "LAST VALUE", "MIX OF SEVEN", "OURS", "IN 98 % BAND", "IN 90 %", "IN 50 %"];
    let rows = report.forecasts.iter().map(|ahead| {
        let [most, many, half] = ahead.coverage.map(|share| plain(format!("{share:.1} %")));
        let mase = |value: f64| format!("{value:.4}");
        let [last, seven] = [ahead.last, ahead.seven].map(|value| plain(mase(value)));
        vec![plain(ahead.steps), last, seven, cell(mase(ahead.ours), Tone::Good), most, many, half]
    });
    let forecasts = table::of(&columns, rows, "");
    let columns = ["BOUND OVER 12 STEPS", "VIOLATED", "HEADROOM USED", "MEAN OF LINKS"];
    let rows = report.bounds.iter().map(|bound| {
        let tone = if bound.violations > 1.0 { Tone::Bad } else { Tone::Good };
        let [used, mean] = [bound.used, bound.used_mean].map(|share| plain(format!("{share:.1} %")));
        vec![plain(bound.title), cell(format!("{:.2} %", bound.violations), tone), used, mean]
    });
    let bounds = table::of(&columns, rows, "");
    format!(
        "{intro}{forecasts}\n{bounds}\nHeadroom is what stays free of {CAPACITY_OVER_PEAK} × the link's highest load.\n"
    )
}

/// Of all ordered pairs of regions, direct or over one relay.
pub fn money(regions: usize, rows: &[money::Row]) -> String {
    let columns = ["PRICE CAP", "MEAN RTT ms", "OVER A RELAY", "MEAN $/GB"];
    let pairs = rows.first().map_or(0, |row| row.pairs);
    let rows = rows.iter().map(|row| {
        let relayed = format!("{} of {}", row.relayed, row.pairs);
        let [rtt, price] = [format!("{:.2}", row.mean_rtt), format!("{:.4}", row.mean_price)].map(plain);
        vec![plain(row.cap), rtt, plain(relayed), price]
    });
    let table = table::of(&columns, rows, "");
    format!(
        "{regions} regions, {pairs} ordered pairs; the path engine decides by round-trip time alone.\n\n{table}"
    )
}

fn cells(row: &Row, most: f64) -> Vec<comfy_table::Cell> {
    let score = &row.score;
    let tone = |bad: bool| if bad { Tone::Bad } else { Tone::Plain };
    let mine = if row.policy == "ours" { Tone::Good } else { Tone::Plain };
    vec![
        cell(&row.title, mine),
        plain(format!("{:.2}", score.mean)),
        cell(format!("{:.3}", score.regret), mine),
        cell(format!("{:.1} %", score.gap_closed), tone(score.gap_closed < 0.0)),
        cell(format!("{:.1} %", score.worse), tone(score.worse > 20.0)),
        plain(format!("{:.4}", score.switches)),
        cell(bar(score.regret, most), Tone::Faint),
    ]
}

/// In eighths of a column.
fn bar(value: f64, most: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = if most > 0.0 { (value / most * (8 * BAR) as f64).round() as usize } else { 0 };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_value() {
        assert_eq!(bar(10.0, 10.0).chars().count(), BAR);
        assert_eq!(bar(5.25, 10.0), "█".repeat(10) + "▌");
        assert_eq!((bar(0.0, 10.0), bar(0.0, 0.0)), (String::new(), String::new()));
    }
}
