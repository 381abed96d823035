//! What a replay showed, as tables.
use super::table::{self, Tone, cell, plain};
use controller_core::replay::regret::{Regret, Row};

/// Columns of the bars.
const BAR: usize = 20;

pub fn regret(regret: &Regret) -> String {
    let scored = regret.steps - 1 - regret.burn_in;
    let first = regret.rows.first().map_or(0, |row| row.score.scored);
    let intro = format!(
        "{} nodes, {} steps: {} to learn, {scored} scored ({first} choices). Mean of the best paths {:.2} ms, of the \
         direct ones {:.2} ms.\n\n",
        regret.nodes, regret.steps, regret.burn_in, regret.oracle, regret.direct,
    );
    let most = regret.rows.iter().map(|row| row.score.regret).fold(0.0, f64::max);
    let columns = ["POLICY", "MEAN ms", "REGRET ms", "GAP CLOSED", "WORSE", "SWITCHES", ""];
    let rows = regret.rows.iter().map(|row| cells(row, most));
    let legend = "\nRegret is the mean above the best path of each step; the gap is that from direct to the best; worse \
                  are pairs\nthat would have been better off direct; switches are per pair and step.\n";
    intro + &table::of(&columns, rows, "no policy was asked for\n") + legend
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
