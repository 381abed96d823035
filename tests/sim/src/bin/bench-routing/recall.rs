//! What a restart costs the forecasts of ten thousand links with a full week of history, and what it costs to keep that.
use crate::Options;
use crate::network::{name, node};
use crate::report::Row;
use controller_core::forecast::Forecasts;
use controller_core::telemetry::{self, RoundTrip, Sample, Store};
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Latency, Loss, Timestamp};
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};
use tests_sim::chance::Chance;

const TIMES: usize = 5;
const HOUR: u64 = 3_600;
/// How much is kept.
const WEEK: u64 = 167 * HOUR;

pub(crate) fn measure(options: &Options) -> Result<Vec<Row>, String> {
    let links = if options.quick { 1_000 } else { 10_000 };
    let (store, end) = week(links);
    let bytes = telemetry::to_bytes(&store, &Store::default());
    let copies = times(TIMES, || store.clone());
    let texts = times(TIMES, || telemetry::to_bytes(&store, &Store::default()));
    let files = (0..TIMES).map(|_| write(&bytes)).collect::<Result<Vec<_>, _>>()?;
    let reads = times(TIMES, || telemetry::from_bytes(&bytes));
    let size = format!("{:.1} MB", bytes.len() as f64 / 1e6);
    drop(bytes);
    let start = Instant::now();
    let mut forecasts = Forecasts::restore(store, end.plus(Duration::from_secs(1)));
    let first = millis(start);
    let mut portions = Vec::new();
    while forecasts.is_behind() {
        let start = Instant::now();
        forecasts.catch_up();
        portions.push(millis(start));
    }
    let whole = (first + portions.iter().sum::<f64>()) / 1e3;
    let note = format!("{} portions, {whole:.1} s of work in all", portions.len());
    let of = |what: &str| format!("{what} of {links} links with a full week, ms");
    let row = |what: &str, values, note: &str| Row::of(of(what), values, note);
    Ok(vec![
        row("a copy of the history", copies, "what the engine's loop waits for, every 5 minutes"),
        row("the history as bytes", texts, "by a thread of its own"),
        row("a file with the history", files, &format!("{size}, on the disk; by the same thread")),
        row("reading the history", reads, "before a controller that was restarted serves"),
        row("forecasts made for the history", vec![first], "with their first portion; before it serves"),
        row("a portion of what forecasts learn again", portions, &format!("while it serves; {note}")),
    ])
}

/// Each bucket that is kept has a report of each link; and when the last one came.
fn week(links: usize) -> (Store<LinkId>, Timestamp) {
    let mut chance = Chance::new(5);
    let ids: Vec<LinkId> =
        (0..links).filter_map(|at| LinkId::new(node(at), node(at + 1), name("internet"))).collect();
    let begun = Timestamp(1_800_000_000_000_000_000);
    let (mut store, mut now) = (Store::default(), begun);
    let hours = (0..164).map(|hour| hour * HOUR);
    let minutes = (0..176).map(|minute| 164 * HOUR + minute * 60);
    let seconds = (0..120).map(|two| WEEK - 240 + 2 * two);
    for second in hours.chain(minutes).chain(seconds) {
        now = begun.plus(Duration::from_secs(second));
        ids.iter().for_each(|id| store.see(now, id, &sample(&mut chance)));
    }
    (store, now)
}

fn sample(chance: &mut Chance) -> Sample {
    let mean = Latency::from_micros(20_000 + chance.below(3_000));
    let load = Some(Bandwidth::mbit(100 + chance.below(50)));
    let loss = Some(Loss::from_ppm(chance.below(2_000) as u32));
    Sample { rtt: Some(RoundTrip { min: mean, mean, max: mean }), loss: [loss; 2], load: [load; 2] }
}

/// Without what it takes to drop it.
fn times<T>(count: usize, mut make: impl FnMut() -> T) -> Vec<f64> {
    let mut once = || {
        let start = Instant::now();
        let made = make();
        let took = millis(start);
        drop(std::hint::black_box(made));
        took
    };
    (0..count).map(|_| once()).collect()
}

/// A new file beside this program, where a disk is, until it is on that.
fn write(bytes: &[u8]) -> Result<f64, String> {
    let path = std::env::current_exe().map_err(|error| error.to_string())?.with_extension("telemetry");
    let make = || {
        let start = Instant::now();
        let mut file = File::create(&path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let took = millis(start);
        std::fs::remove_file(&path)?;
        Ok(took)
    };
    make().map_err(|error: std::io::Error| format!("{}: {error}", path.display()))
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
