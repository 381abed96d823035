//! The choice of paths on recorded round-trip times: regret tables, what must be reached, and other parts of the series.
use super::{Data, Foreweave, number, verdict};
use anyhow::Result;
use serde_json::Value;
use std::fmt::Write as _;

struct Series {
    name: &'static str,
    file: &'static str,
    options: &'static [&'static str],
    /// Means that are known of this part of the series: the oracle's, and regret of direct, last and EWMA 0.1. To reproduce
    /// them proves the protocol.
    anchors: [f64; 4],
    musts: &'static [Must],
    /// Other parts and halves.
    splits: &'static [&'static [&'static str]],
}

/// A figure of ours: its field, what it is called, what it must be at most, what is aimed at.
struct Must(&'static str, &'static str, f64, f64);

const SERIES: [Series; 3] = [
    Series {
        name: "sciera",
        file: "rtt_sciera_hourly.csv.gz",
        options: &["--gaps", "3", "--step", "1h"],
        anchors: [146.04, 22.27, 2.49, 1.81],
        musts: &[
            Must("regret", "mean regret, ms", 1.88, 1.70),
            Must("switches", "switches per step", 0.021, 0.015),
            Must("worse", "pairs worse than direct, %", 0.0, 0.0),
        ],
        splits: &[&["--span", "0..0.6"], &["--span", "0.4..1"], &["--nodes", "even"], &["--nodes", "odd"]],
    },
    Series {
        name: "seattle, every 7th frame",
        file: "rtt_seattle_15s.csv.gz",
        options: &["--every", "7", "--step", "15700ms"],
        anchors: [140.79, 166.25, 214.37, 154.37],
        musts: &[
            Must("mean", "mean RTT, ms", 277.0, 268.0),
            Must("worse", "pairs worse than direct, %", 20.0, 10.0),
        ],
        splits: &[
            &["--offset", "1"],
            &["--offset", "2"],
            &["--offset", "3"],
            &["--offset", "4"],
            &["--offset", "5"],
            &["--offset", "6"],
            &["--nodes", "even"],
            &["--nodes", "odd"],
            &["--span", "0..0.65"],
            &["--span", "0.4..1"],
        ],
    },
    Series {
        name: "planetlab",
        file: "rtt_planetlab_15h.csv.gz",
        options: &["--step", "882m"],
        anchors: [134.60, 18.71, 4.39, 3.45],
        musts: &[
            Must("regret", "mean regret, ms", 3.2, 2.9),
            Must("switches", "switches per step", 0.035, 0.02),
        ],
        splits: &[&["--nodes", "even"], &["--nodes", "odd"], &["--span", "0..0.67"], &["--span", "0.34..1"]],
    },
];

/// Beside ours in the table of other parts.
const BESIDE: &str = "direct,ewma:0.1:0.02,mix,ours";

pub(super) fn report(foreweave: &Foreweave, data: &Data) -> Result<String> {
    let (mut musts, mut tables, mut splits) = (String::new(), String::new(), String::new());
    for series in &SERIES {
        let file = data.file(series.file)?;
        let options: Vec<String> = series.options.iter().map(ToString::to_string).collect();
        eprintln!("  ...   {}", series.name);
        let (all, _) = foreweave.replay(&file, &options)?;
        let ours = policy(&["--policy", "ours"], &options);
        let (_, took) = foreweave.replay(&file, &ours)?;
        required(&mut musts, series, &all)?;
        bands(&mut musts, series, &all)?;
        let seconds = took.as_secs_f64();
        writeln!(tables, "\n### {}\n\n{}", series.name, intro(series, &all, seconds))?;
        rows(&mut tables, &all)?;
        for split in series.splits {
            let options = policy(&[split, &["--policy", BESIDE][..]].concat(), &options);
            let (value, _) = foreweave.replay(&file, &options)?;
            splits_row(&mut splits, &format!("{}, `{}`", series.name, split.join(" ")), &value)?;
        }
    }
    Ok(format!(
        "| series | figure of ours | must | aim | measured | reached |\n| --- | --- | --- | --- | --- | --- |\n\
         {musts}{tables}\n### Other parts and halves\n\nRegret in ms, switches per step and share of pairs worse than \
         direct.\n\n| part | direct | EWMA 0.1, 2 % | policy mix | ours |\n| --- | --- | --- | --- | --- |\n{splits}"
    ))
}

fn policy(words: &[&str], options: &[String]) -> Vec<String> {
    options.iter().cloned().chain(words.iter().map(ToString::to_string)).collect()
}

fn row<'a>(report: &'a Value, policy: &str) -> &'a Value {
    let rows = report["rows"].as_array().map_or(&[][..], Vec::as_slice);
    rows.iter().find(|row| row["policy"] == policy).unwrap_or(&Value::Null)
}

fn required(to: &mut String, series: &Series, report: &Value) -> Result<()> {
    let ours = row(report, "ours");
    for Must(field, title, must, aim) in series.musts {
        let measured = number(ours, field);
        let reached = verdict(measured, *must, *aim);
        writeln!(to, "| {} | {title} | ≤ {must} | {aim} | {measured:.4} | {reached} |", series.name)?;
    }
    Ok(())
}

/// The links' own forecasts, one step ahead; at twelve it is only told.
fn bands(to: &mut String, series: &Series, report: &Value) -> Result<()> {
    for band in report["bands"].as_array().into_iter().flatten() {
        let covered = band["coverage"][1].as_f64().unwrap_or(f64::NAN);
        let (must, aim, reached) = match band["steps"].as_u64() {
            Some(1) => ("87–93", "89–91", verdict((covered - 90.0).abs(), 3.0, 1.0)),
            _ => ("–", "–", "–"),
        };
        let title = format!("in the 90 % band of RTT, {} ahead, %", band["steps"]);
        writeln!(to, "| {} | {title} | {must} | {aim} | {covered:.1} | {reached} |", series.name)?;
    }
    Ok(())
}

/// What was played, and how far the known means are off.
fn intro(series: &Series, report: &Value, seconds: f64) -> String {
    let measured = [
        number(report, "oracle"),
        number(row(report, "direct"), "regret"),
        number(row(report, "last"), "regret"),
        number(row(report, "ewma:0.1"), "regret"),
    ];
    let off = measured.iter().zip(series.anchors).map(|(one, known)| 100.0 * (one - known).abs() / known);
    format!(
        "{} nodes, {} steps of {}, {} of them to learn; mean of the best paths {:.2} ms, of the direct ones {:.2} ms. The known \
         means of oracle, direct, last value and EWMA 0.1 are reproduced within {:.2} %. A replay of ours alone, bands and reading included, took {seconds:.2} s.\n",
        report["nodes"],
        report["steps"],
        spoken(number(report, "step")),
        report["burn_in"],
        measured[0],
        number(report, "direct"),
        off.fold(0.0, f64::max),
    )
}

/// A length of time in seconds.
fn spoken(seconds: f64) -> String {
    if seconds >= 3_600.0 { format!("{} h", seconds / 3_600.0) } else { format!("{seconds} s") }
}

fn rows(to: &mut String, report: &Value) -> Result<()> {
    writeln!(to, "| policy | mean ms | regret ms | gap closed % | pairs worse % | switches/step |")?;
    writeln!(to, "| --- | --- | --- | --- | --- | --- |")?;
    for row in report["rows"].as_array().into_iter().flatten() {
        let title = row["title"].as_str().unwrap_or("?");
        let emphasis = if row["policy"] == "ours" { "**" } else { "" };
        let [mean, regret, gap, worse, switches] =
            ["mean", "regret", "gap_closed", "worse", "switches"].map(|field| number(row, field));
        writeln!(
            to,
            "| {emphasis}{title}{emphasis} | {mean:.2} | {regret:.3} | {gap:.1} | {worse:.1} | {switches:.4} |"
        )?;
    }
    Ok(())
}

fn splits_row(to: &mut String, part: &str, report: &Value) -> Result<()> {
    let cell = |policy: &str| {
        let row = row(report, policy);
        let [regret, switches, worse] = ["regret", "switches", "worse"].map(|field| number(row, field));
        format!("{regret:.2} · {switches:.4} · {worse:.1} %")
    };
    let direct = number(row(report, "direct"), "regret");
    let cells = ["ewma:0.1:0.02", "mix", "ours"].map(cell).join(" | ");
    writeln!(to, "| {part} | {direct:.2} | {cells} |")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_says_which_figures_hold() {
        let rows = [("direct", 22.27), ("last", 2.49), ("ewma:0.1", 1.81), ("ours", 1.8)].map(|(policy, regret)| {
            json!({ "policy": policy, "title": policy, "regret": regret, "switches": 0.03, "worse": 0.0 })
        });
        let report = json!({ "nodes": 14, "steps": 300, "step": 52_920.0, "burn_in": 60, "oracle": 146.04, "rows": rows });
        let mut musts = String::new();
        required(&mut musts, &SERIES[0], &report).expect("text");
        let reached: Vec<&str> = musts.lines().filter_map(|line| line.split(" | ").nth(5)).collect();
        assert_eq!(reached, ["must |", "**no** |", "aim |"]);
        let intro = intro(&SERIES[0], &report, 0.1);
        assert!(intro.contains("within 0.00 %") && intro.contains("300 steps of 14.7 h,"), "{intro}");
    }
}
