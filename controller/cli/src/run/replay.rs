//! Replays a recorded series; needs no controller.
use crate::args::replay::{Recorded, Replay};
use crate::failure::Failure;
use crate::out::Out;
use crate::show;
use controller_core::replay::loads::{Loads, Network};
use controller_core::replay::money::{Cap, Market};
use controller_core::replay::series::Series;
use controller_core::replay::table::Table;
use controller_core::replay::{load, regret};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// What a file may hold when it is unpacked, in bytes.
const MOST: u64 = 4_000_000_000;

pub(super) fn replay(wish: &Replay, out: Out) -> Result<(), Failure> {
    match (wish.kind, &wish.network, &wish.prices) {
        (Recorded::Rtt, ..) => rtt(wish, out),
        (Recorded::Load, Some(network), _) => loads(wish, network, out),
        (Recorded::Money, _, Some(prices)) => money(wish, prices, out),
        (Recorded::Money, _, None) => {
            Err(Failure::usage("--kind money needs --prices FILE: what a gigabyte costs between regions"))
        }
        (Recorded::Load, None, _) => Err(Failure::usage(
            "--kind load needs --network FILE: the links that the traffic crosses; foreweave replay --help shows the format",
        )),
    }
}

fn loads(wish: &Replay, network: &Path, out: Out) -> Result<(), Failure> {
    let matrices = series(&wish.series, out)?;
    let known: Network =
        serde_json::from_str(&text(network, out)?).map_err(|why| Failure::usage(of(network, &why)))?;
    let spinner = spinner(out, "forecasting loads");
    let loads = Loads::new(&matrices, &known).map_err(|why| Failure::usage(of(network, &why)))?;
    let report = load::compare(&loads.from_first_measured(), wish.step(&matrices))
        .map_err(|why| Failure::usage(of(&wish.series, &why)))?;
    spinner.finish_and_clear();
    out.value(&report, || show::replay::loads(&report))
}

/// What caps on the price of a path cost in round-trip time.
fn money(wish: &Replay, prices: &Path, out: Out) -> Result<(), Failure> {
    let (latencies, dollars) = (text(&wish.series, out)?, text(prices, out)?);
    let spinner = spinner(out, "deciding for every pair under every cap");
    let market = Market::parse(&dollars, &latencies).map_err(|why| Failure::usage(why.to_string()))?;
    let rows = market.table(&Cap::ALL);
    spinner.finish_and_clear();
    let regions = market.regions().len();
    let answer = serde_json::json!({ "regions": regions, "rows": rows });
    out.value(&answer, || show::replay::money(regions, &rows))
}

fn rtt(wish: &Replay, out: Out) -> Result<(), Failure> {
    let series = series(&wish.series, out)?;
    let protocol = wish.protocol(&series);
    let table = Table::new(&series, &protocol).map_err(|why| Failure::usage(of(&wish.series, &why)))?;
    let policies = wish.policies();
    let bar = bar(out, policies.len() * (table.steps() - 1));
    let regret = regret::compare(&table, &protocol, policies, &mut |kind, _step| {
        bar.set_message(kind.title());
        bar.inc(1);
    });
    bar.finish_and_clear();
    if let Some(file) = &wish.svg {
        write(file, &show::chart::regret(&name(&wish.series), &regret), out)?;
    }
    out.value(&regret, || show::replay::regret(&regret))
}

/// With the name of the file in every refusal.
fn series(path: &Path, out: Out) -> Result<Series, Failure> {
    let text = text(path, out)?;
    Series::parse(&text).map_err(|why| Failure::Usage {
        what: of(path, &why),
        hint: "foreweave replay --help shows what a series looks like".into(),
    })
}

/// Unpacked where the name ends in `.gz`.
fn text(path: &Path, out: Out) -> Result<String, Failure> {
    let failed = |why: std::io::Error| Failure::usage(of(path, &why));
    let spinner = spinner(out, &format!("reading {}", name(path)));
    let file = BufReader::new(File::open(path).map_err(failed)?);
    let packed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let mut text = String::new();
    let read = match packed {
        true => flate2::read::MultiGzDecoder::new(file).take(MOST).read_to_string(&mut text),
        false => file.take(MOST).read_to_string(&mut text),
    };
    spinner.finish_and_clear();
    let read = read.map_err(failed)?;
    if read as u64 == MOST {
        return Err(Failure::usage(of(path, &format!("is larger than {MOST} bytes"))));
    }
    Ok(text)
}

fn of(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", path.display())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn write(path: &Path, text: &str, out: Out) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|why| Failure::usage(of(path, &why)))?;
    out.note(&format!("drawn in {}", path.display()));
    Ok(())
}

fn bar(out: Out, length: usize) -> ProgressBar {
    if out.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn spinner(out: Out, what: &str) -> ProgressBar {
    let bar = if out.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.enable_steady_tick(std::time::Duration::from_millis(80));
    bar.with_message(what.to_owned())
}
