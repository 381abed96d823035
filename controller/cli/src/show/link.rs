//! Links as people read them: what was configured, beside what the agents measured.
use super::table::{self, Tone, cell, indented, plain};
use super::{or_dash, span, words};
use comfy_table::Cell;
use proto_model::request::LinkView;
use proto_model::shortage::{Line, Shortage};
use proto_model::topology::{Forecast, Measured, Quantity};
use proto_model::{Bandwidth, Latency, Loss, NodeName};

/// All links: a row each with what was configured, then a row per end that measured.
pub fn list(links: &[LinkView]) -> String {
    let configured = table::of(
        &["A", "B", "NETWORK", "RTT", "CAPACITY", "RESERVED", "LOSS", "PRICE", "ENCRYPTED", "TAGS", ""],
        links.iter().map(configured),
        "no links: two connected nodes with interfaces in one underlay network are linked\n",
    );
    let rows = links.iter().flat_map(|link| link.measured.iter().map(move |(by, seen)| (link, by, seen)));
    let columns = [
        "A",
        "B",
        "NETWORK",
        "MEASURED BY",
        "PROBES",
        "RTT LEAST",
        "MEAN",
        "MOST",
        "CONFIGURED",
        "VARIATION A→B",
        "B→A",
        "LOSS A→B",
        "B→A",
        "CONFIGURED",
    ];
    match table::of(&columns, rows.map(|(link, by, seen)| measured(link, by, seen)), "") {
        none if none.is_empty() => configured,
        measured => format!("{configured}\n{measured}"),
    }
}

/// A row each, those that are short first, first.
pub fn shortages(found: &[Shortage], line: &Line) -> String {
    let row = |short: &Shortage| {
        let (a, b) = short.link.ends();
        let load = |bits: u64| plain(Bandwidth::from_bits_per_second(bits));
        vec![
            plain(a),
            plain(b),
            plain(short.link.network()),
            plain(short.capacity),
            plain(short.reserved),
            plain(short.load),
            plain(format!("{} ahead", span(short.forecast.horizon))),
            load(short.forecast.mean),
            load(short.forecast.quantiles[5]),
            plain(short.chance),
            plain(&short.forecast.model),
        ]
    };
    let columns =
        ["A", "B", "NETWORK", "CAPACITY", "RESERVED", "LOAD", "SHORT", "EXPECTED", "95 %", "CHANCE", "MODEL"];
    let none = format!(
        "no link is expected to carry more than {} of its capacity within {}, with a chance of {} or more, by what was measured so far\n",
        line.share,
        span(line.within),
        line.chance
    );
    table::of(&columns, found.iter().map(row), &none)
}

fn configured(link: &LinkView) -> Vec<Cell> {
    let (a, b) = link.id.ends();
    let values = &link.values;
    vec![
        plain(a),
        plain(b),
        plain(link.id.network()),
        plain(or_dash(values.rtt)),
        plain(or_dash(link.capacity)),
        plain(link.reserved),
        plain(values.loss),
        plain(values.price),
        plain(if values.encrypted { "yes" } else { "no" }),
        plain(words(&values.tags)),
        usable(link),
    ]
}

fn usable(link: &LinkView) -> Cell {
    match (link.usable, over_booked(link)) {
        (false, _) => cell(&link.why, Tone::Bad),
        (true, Some(over)) => cell(over, Tone::Waiting),
        (true, None) => cell("usable", Tone::Good),
    }
}

/// Backups that are in use stay, also when a link has become too narrow for them.
fn over_booked(link: &LinkView) -> Option<String> {
    let capacity = link.capacity.filter(|capacity| link.reserved > *capacity)?;
    Some(format!("over-booked by {}", link.reserved.saturating_sub(capacity)))
}

fn measured(link: &LinkView, by: &NodeName, seen: &Measured) -> Vec<Cell> {
    let (a, b) = link.id.ends();
    let seen = Seen::of(link, by, seen);
    let [least, mean, most] = seen.rtt.map(plain);
    let [variation_out, variation_back] = seen.variation.map(plain);
    let [loss_out, loss_back] = seen.loss.map(plain);
    vec![
        plain(a),
        plain(b),
        plain(link.id.network()),
        plain(by),
        plain(seen.probes),
        least,
        mean,
        most,
        plain(or_dash(link.values.rtt)),
        variation_out,
        variation_back,
        loss_out,
        loss_back,
        plain(configured_loss(link)),
    ]
}

/// None configured is as measured.
fn configured_loss(link: &LinkView) -> String {
    or_dash(Some(link.values.loss).filter(|loss| *loss != Loss::NONE))
}

/// A measurement in the directions of the link, whichever end made it, as texts; a dash for what no probe could tell.
struct Seen {
    probes: u32,
    /// Least, mean, largest.
    rtt: [String; 3],
    /// From the first end to the second, and back.
    variation: [String; 2],
    loss: [String; 2],
}

impl Seen {
    fn of(link: &LinkView, by: &NodeName, seen: &Measured) -> Self {
        let answered = seen.rtt_max > Latency::ZERO;
        let time = |time: Latency| or_dash(answered.then_some(time));
        let share = |loss: Loss| or_dash((seen.probes > 0).then_some(loss));
        let mut variation = [seen.variation_forward, seen.variation_backward].map(time);
        let mut loss = [seen.loss_forward, seen.loss_backward].map(share);
        if link.id.ends().1 == by {
            variation.reverse();
            loss.reverse();
        }
        Self {
            probes: seen.probes,
            rtt: [seen.rtt_min, seen.rtt_mean, seen.rtt_max].map(time),
            variation,
            loss,
        }
    }
}

/// One after the other, each with all that is known.
pub fn all(links: &[LinkView]) -> String {
    links.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(link: &LinkView) -> String {
    let (a, b) = link.id.ends();
    let values = &link.values;
    let state = match (link.usable, over_booked(link)) {
        (false, _) => format!("not usable: {}", link.why),
        (true, over) => over.map_or_else(|| "usable".into(), |over| format!("usable, {over}")),
    };
    let pairs = table::pairs(&[
        ("link", format!("{a} – {b}")),
        ("network", link.id.network().to_string()),
        ("state", state),
        ("capacity", format!("{}, {} reserved", or_dash(link.capacity), link.reserved)),
        ("available", available(link)),
        ("others", others(link)),
        ("price", values.price.to_string()),
        ("encrypted", if values.encrypted { "yes" } else { "no" }.into()),
        ("tags", if values.tags.is_empty() { "–".into() } else { words(&values.tags) }),
    ]);
    let ahead = link.forecasts.first().map(|first| first.horizon.as_secs());
    let forecasts = ahead.map(|ahead| format!("expected in {ahead} s\n{}", indented(&forecasts(link))));
    format!("{pairs}behaviour\n{}{}", indented(&behaviour(link)), forecasts.unwrap_or_default())
}

/// What nobody uses now, and what is in use each way.
fn available(link: &LinkView) -> String {
    let (a, b) = link.id.ends();
    let [out, back] = link.load.map(or_dash);
    match link.load {
        [None, None] => "–".into(),
        _ => format!("{}, in use {out} {a} → {b}, {back} {b} → {a}", or_dash(link.available)),
    }
}

/// What reservations leave to traffic that is none of theirs.
fn others(link: &LinkView) -> String {
    match (link.others, link.others_expected) {
        (Bandwidth::ZERO, _) => "–".into(),
        (others, true) => format!("up to {others} within 1 h (99 %), which reservations leave to them"),
        (others, false) => format!("{others} now, which reservations leave to them"),
    }
}

/// Quantities down, configured and each end's measurement across.
fn behaviour(link: &LinkView) -> String {
    let (a, b) = link.id.ends();
    let seen: Vec<Seen> = link.measured.iter().map(|(by, seen)| Seen::of(link, by, seen)).collect();
    let row = |name: String, configured: String, of: &dyn Fn(&Seen) -> String| {
        let cells = [name, configured].into_iter().chain(seen.iter().map(of));
        cells.map(plain).collect::<Vec<_>>()
    };
    let none = || "–".to_owned();
    let rows = [
        row("probes".into(), none(), &|seen| seen.probes.to_string()),
        row("RTT, least".into(), none(), &|seen| seen.rtt[0].clone()),
        row("RTT, mean".into(), or_dash(link.values.rtt), &|seen| seen.rtt[1].clone()),
        row("RTT, most".into(), none(), &|seen| seen.rtt[2].clone()),
        row(format!("variation {a} → {b}"), none(), &|seen| seen.variation[0].clone()),
        row(format!("variation {b} → {a}"), none(), &|seen| seen.variation[1].clone()),
        row(format!("loss {a} → {b}"), configured_loss(link), &|seen| seen.loss[0].clone()),
        row(format!("loss {b} → {a}"), configured_loss(link), &|seen| seen.loss[1].clone()),
    ];
    let by = link.measured.iter().map(|(by, _)| format!("MEASURED BY {by}"));
    let columns: Vec<String> = ["", "CONFIGURED"].map(str::to_owned).into_iter().chain(by).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    table::of(&columns, rows, "")
}

/// A row per quantity, with its bands.
fn forecasts(link: &LinkView) -> String {
    let row = |forecast: &Forecast| {
        let value = |value: u64| amount(forecast.quantity, value);
        let band = |low: usize, high: usize| {
            format!("{} – {}", value(forecast.quantiles[low]), value(forecast.quantiles[high]))
        };
        let quantity = match forecast.quantity {
            Quantity::Rtt => "RTT",
            Quantity::Loss => "loss",
            Quantity::Load => "load",
        };
        let mut model = format!("{}, {} errors", forecast.model, forecast.samples);
        if forecast.counts {
            model += ", decides";
        }
        let cells = [quantity.into(), value(forecast.mean), band(2, 4), band(1, 5), band(0, 6)];
        cells.into_iter().chain([value(forecast.error), model]).map(plain).collect::<Vec<_>>()
    };
    let columns = ["", "MEAN", "50 % BAND", "90 % BAND", "98 % BAND", "ERROR", "MODEL"];
    let available = link.forecasts.iter().find_map(|forecast| left(forecast, link.capacity?));
    let rows = link.forecasts.iter().map(row).chain(available.map(|mut cells| {
        cells.resize(columns.len(), plain(""));
        cells
    }));
    table::of(&columns, rows, "")
}

/// Of the capacity, beside the load; its bands are those of the load, the other way round.
fn left(load: &Forecast, capacity: Bandwidth) -> Option<Vec<Cell>> {
    let left = |bits: u64| capacity.saturating_sub(Bandwidth::from_bits_per_second(bits));
    let band =
        |low: usize, high: usize| format!("{} – {}", left(load.quantiles[high]), left(load.quantiles[low]));
    let cells = ["available".into(), left(load.mean).to_string(), band(2, 4), band(1, 5), band(0, 6)];
    (load.quantity == Quantity::Load).then(|| cells.map(plain).to_vec())
}

fn amount(quantity: Quantity, value: u64) -> String {
    match quantity {
        Quantity::Rtt => Latency::from_nanos(value).to_string(),
        Quantity::Loss => Loss::from_ppm(u32::try_from(value).unwrap_or(u32::MAX)).to_string(),
        Quantity::Load => Bandwidth::from_bits_per_second(value).to_string(),
    }
}
