//! Paths under a price cap on recorded prices and round-trip times of cloud regions: the path engine against known means.
use super::{Data, Foreweave, number};
use anyhow::Result;
use serde_json::Value;
use std::fmt::Write as _;

/// Title and known mean of each row, milliseconds: what a search over everything found.
const KNOWN: [(&str, f64); 5] = [
    ("direct", 148.80),
    ("≤ 1 × the direct price", 148.60),
    ("≤ 1.25 ×", 143.47),
    ("≤ 2 ×", 134.66),
    ("no cap", 131.69),
];

pub(super) fn report(foreweave: &Foreweave, data: &Data) -> Result<String> {
    let prices = data.file("skyplane_egress_cost.csv.gz")?.display().to_string();
    let options = ["--kind", "money", "--prices", &prices].map(ToString::to_string);
    eprintln!("  ...   skyplane");
    let (report, took) = foreweave.replay(&data.file("skyplane_latency_2022.csv.gz")?, &options)?;
    let mut text = format!(
        "Mean round-trip time of the best path of every ordered pair among {} regions of three clouds, direct or over one \
         relay; {:.1} s for all caps.\n\n| price cap | must, ms | measured, ms | over a relay | mean $/GB | reached |\n\
         | --- | --- | --- | --- | --- | --- |\n",
        report["regions"],
        took.as_secs_f64()
    );
    for (index, (title, known)) in KNOWN.into_iter().enumerate() {
        let row = &report["rows"][index];
        let [mean, price] = ["mean_rtt", "mean_price"].map(|field| number(row, field));
        let (relayed, pairs) = (&row["relayed"], &row["pairs"]);
        let reached = exact(row, known);
        writeln!(
            text,
            "| {title} | {known:.2} | {mean:.2} | {relayed} of {pairs} | {price:.4} | {reached} |"
        )?;
    }
    Ok(text)
}

/// To the printed digit.
fn exact(row: &Value, known: f64) -> &'static str {
    if (number(row, "mean_rtt") - known).abs() <= 0.005 { "exactly" } else { "**no**" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mean_is_exact_to_the_printed_digit() {
        let row = |mean: f64| json!({ "mean_rtt": mean });
        assert_eq!((exact(&row(148.6049), 148.60), exact(&row(148.606), 148.60)), ("exactly", "**no**"));
        assert_eq!(exact(&Value::Null, 148.60), "**no**");
    }
}
