//! What a decision leaves open, as people read it: what would change it, what is expected, what was decided before.
use super::scale::{amount, origin};
use super::table::{self, Tone, cell, indented, plain};
use super::{or_dash, span};
use proto_model::insight::{Happened, Insight, LinkOutlook, Past};
use proto_model::plan::Plan;
use proto_model::topology::{Forecast, LinkId, Quantity};
use std::collections::BTreeSet;

/// Candidates of which it is shown what is expected; the API has more.
const SHOWN: usize = 4;

pub fn insight(plan: &Plan) -> String {
    let Some(insight) = &plan.insight else { return String::new() };
    [flips(plan, insight), paths(plan, insight), links(plan, insight), past(&insight.past)].concat()
}

fn flips(plan: &Plan, insight: &Insight) -> String {
    let line = |flip: &proto_model::insight::Flip| {
        let candidate = plan.candidates.get(flip.candidate)?;
        Some(format!("{}  {}: {}", flip.candidate + 1, candidate.path, flip.sentence))
    };
    titled("what would change it", &insight.flips.iter().filter_map(line).collect::<Vec<_>>())
}

fn titled(title: &str, lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("\n{title}\n{}", indented(&lines.join("\n"))) }
}

/// Of loss it is only said where some is to be expected.
fn worth_saying(forecast: &Forecast) -> bool {
    forecast.quantity != Quantity::Loss || forecast.quantiles[5] > 0
}

/// Those that were tested; where none was, the nearest.
fn of_use(mut forecasts: Vec<&Forecast>) -> Vec<&Forecast> {
    match forecasts.iter().any(|forecast| forecast.counts) {
        true => forecasts.retain(|forecast| forecast.counts),
        false => forecasts.truncate(1),
    }
    forecasts
}

const COLUMNS: [&str; 7] = ["IN", "MEAN", "50 % BAND", "90 % BAND", "98 % BAND", "ERROR", "MODEL"];

fn cells(forecast: &Forecast) -> Vec<comfy_table::Cell> {
    let value = |value: u64| amount(forecast.quantity, value as f64);
    let band = |low: usize, high: usize| {
        format!("{} – {}", value(forecast.quantiles[low]), value(forecast.quantiles[high]))
    };
    let tested = if forecast.counts { "" } else { ", not tested yet" };
    let tone = if forecast.counts { Tone::Plain } else { Tone::Faint };
    let quantity = if forecast.quantity == Quantity::Loss { " (loss)" } else { "" };
    [
        format!("{}{quantity}", span(forecast.horizon)),
        value(forecast.mean),
        band(2, 4),
        band(1, 5),
        band(0, 6),
        value(forecast.error),
        format!("{}, {} errors{tested}", forecast.model, forecast.samples),
    ]
    .map(|text| cell(text, tone))
    .into()
}

fn paths(plan: &Plan, insight: &Insight) -> String {
    let shown = insight.paths.iter().take(SHOWN);
    let rows = shown.flat_map(|outlook| {
        let path = plan.candidates.get(outlook.candidate).map(|candidate| candidate.path.to_string());
        let forecasts = of_use(outlook.forecasts.iter().filter(|forecast| worth_saying(forecast)).collect());
        forecasts.into_iter().enumerate().map(move |(index, forecast)| {
            let first = |text: String| plain(if index == 0 { text } else { String::new() });
            let name = [first((outlook.candidate + 1).to_string()), first(path.clone().unwrap_or_default())];
            name.into_iter().chain(cells(forecast)).collect::<Vec<_>>()
        })
    });
    let columns: Vec<&str> = ["#", "EXPECTED OF THE PATH"].into_iter().chain(COLUMNS).collect();
    below(&table::of(&columns, rows, ""))
}

fn below(table: &str) -> String {
    if table.is_empty() { String::new() } else { format!("\n{table}") }
}

/// Of the candidates that are shown.
fn links(plan: &Plan, insight: &Insight) -> String {
    let of: BTreeSet<&LinkId> =
        plan.candidates.iter().take(SHOWN).flat_map(|candidate| &candidate.path.links).collect();
    let rows = insight.links.iter().filter(|outlook| of.contains(&outlook.link)).flat_map(link_rows);
    let columns: Vec<&str> = ["LINK", "RTT", "LOSS"].into_iter().chain(COLUMNS).collect();
    below(&table::of(&columns, rows, ""))
}

/// What is configured is taken as it is: no forecast counts.
fn link_rows(outlook: &LinkOutlook) -> Vec<Vec<comfy_table::Cell>> {
    use proto_model::insight::Origin::Configured;
    let (a, b) = outlook.link.ends();
    let loss = format!("{} ({})", outlook.loss, origin(outlook.loss_from));
    let rtt = format!("{} ({})", or_dash(outlook.rtt), origin(outlook.rtt_from));
    let name = vec![plain(format!("{a} – {b}")), plain(rtt), plain(loss)];
    let counts = |forecast: &&Forecast| match forecast.quantity {
        Quantity::Rtt => outlook.rtt_from != Configured,
        Quantity::Loss => outlook.loss_from != Configured && worth_saying(forecast),
        Quantity::Load => false,
    };
    let forecasts = of_use(outlook.forecasts.iter().filter(counts).collect());
    if forecasts.is_empty() {
        return vec![name];
    }
    let mut names = vec![name];
    names.resize(forecasts.len(), vec![plain(""), plain(""), plain("")]);
    names.into_iter().zip(forecasts).map(|(name, forecast)| [name, cells(forecast)].concat()).collect()
}

fn past(past: &[Past]) -> String {
    titled("what was decided, since the controller began", &past.iter().map(entry).collect::<Vec<_>>())
}

fn entry(past: &Past) -> String {
    let ways = match (&past.from, &past.to) {
        (Some(from), Some(to)) => format!("from {from} to {to}"),
        (None, Some(to)) => format!("on {to}"),
        (Some(from), None) => format!("off {from}"),
        (None, None) => String::new(),
    };
    let why = if past.why.is_empty() { String::new() } else { format!("\n  {}", past.why) };
    let expected = [(&past.from, &past.of_from), (&past.to, &past.of_to)].map(|(path, forecasts)| {
        let path = path.as_ref().map(ToString::to_string).unwrap_or_default();
        let said = forecasts.iter().filter(|forecast| worth_saying(forecast)).map(|one| then(&path, one));
        said.collect::<String>()
    });
    format!("{}  {} {ways}{why}{}", past.at, word(past.what), expected.concat())
}

/// `expected then of a → b in 60 s: 24 ms (90 %: 20 ms – 31 ms; trend, error 0.8 ms)`.
fn then(path: &str, forecast: &Forecast) -> String {
    let value = |value: u64| amount(forecast.quantity, value as f64);
    let quantity = if forecast.quantity == Quantity::Loss { "loss " } else { "" };
    format!(
        "\n  expected then of {path} in {}: {quantity}{} (90 %: {} – {}; {}, error {})",
        span(forecast.horizon),
        value(forecast.mean),
        value(forecast.quantiles[1]),
        value(forecast.quantiles[5]),
        forecast.model,
        value(forecast.error)
    )
}

fn word(what: Happened) -> &'static str {
    match what {
        Happened::Placed => "placed",
        Happened::Moved => "moved",
        Happened::GivenUp => "gave up a move",
        Happened::Promoted => "backup became the path:",
        Happened::Switched => "an end turned",
        Happened::Returned => "an end came back",
        Happened::Suspended => "suspended,",
    }
}
