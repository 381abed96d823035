//! What forecasts of ten thousand links cost, each measured once a second.
use crate::Options;
use crate::network::{name, node};
use crate::report::Row;
use controller_core::forecast::{AHEAD, Forecasts, NEAR, Quantity};
use controller_core::telemetry::{RoundTrip, Sample, Store};
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Latency, Loss, Timestamp};
use std::time::{Duration, Instant};
use tests_sim::chance::Chance;

/// Within it every resolution but hours has ended several buckets, and the loads of all links were forecast twice.
const SECONDS: u64 = 660;

pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let links = if options.quick { 1_000 } else { 10_000 };
    let mut chance = Chance::new(3);
    let ids: Vec<LinkId> =
        (0..links).filter_map(|at| LinkId::new(node(at), node(at + 1), name("internet"))).collect();
    let mut forecasts = Forecasts::default();
    let begun = Timestamp(1_800_000_000_000_000_000);
    let (mut times, mut asked) = (Vec::new(), Vec::new());
    for second in 0..SECONDS {
        let samples: Vec<Sample> = ids.iter().map(|_| sample(&mut chance)).collect();
        let now = begun.plus(Duration::from_secs(second));
        let start = Instant::now();
        for (id, sample) in ids.iter().zip(&samples) {
            forecasts.see(now, id, sample);
        }
        forecasts.advance(now);
        times.push(start.elapsed().as_secs_f64() * 1e3);
        asked.push(ask(&forecasts, &ids, second));
    }
    let all: f64 = times.iter().sum();
    let each = all * 1e3 / (SECONDS as f64 * links as f64);
    let share = all / 1e3 / SECONDS as f64;
    let note =
        format!("{each:.2} µs per link and sample (must be ≤ 10); {share:.3} of a core (must be ≤ 0.3)");
    let what = format!("forecasts of {links} links at 1 Hz, ms of each second");
    let whole = times.iter().chain(&asked).sum::<f64>() / 1e3 / SECONDS as f64;
    let outlooks = format!(
        "with the forecasts themselves {whole:.3} of a core (must be ≤ 0.3), on average of all seconds"
    );
    let bytes = forecasts.bytes_per_link() as f64;
    let history = format!("its history has {} more", Store::<LinkId>::most_bytes());
    vec![
        Row::of(what, times, note),
        Row::of(format!("what bounds of {links} links are held against, ms of each second"), asked, outlooks),
        Row::of("memory of the forecasters of a link, bytes (must be ≤ 8,000)", vec![bytes], history),
    ]
}

/// As the fabric does, after each bucket of two seconds: what costs go by, and the distributions that bounds are held against;
/// what is far of each link once a minute.
fn ask(forecasts: &Forecasts, ids: &[LinkId], second: u64) -> f64 {
    let start = Instant::now();
    for (at, id) in ids.iter().enumerate().filter(|_| second.is_multiple_of(2)) {
        for quantity in [Quantity::Rtt, Quantity::Loss] {
            std::hint::black_box(forecasts.tested(id, quantity, Duration::from_secs(60)));
        }
        let far = (at as u64 + second / 2).is_multiple_of(30);
        std::hint::black_box(forecasts.spreads(id, if far { 0..AHEAD.len() } else { 0..NEAR }));
    }
    start.elapsed().as_secs_f64() * 1e3
}

fn sample(chance: &mut Chance) -> Sample {
    let rtt = |chance: &mut Chance| Latency::from_micros(20_000 + chance.below(3_000));
    let mean = rtt(chance);
    let trip =
        RoundTrip { min: mean, mean, max: mean.saturating_add(Latency::from_micros(chance.below(900))) };
    let loss = Some(Loss::from_ppm(chance.below(2_000) as u32));
    let load = Some(Bandwidth::mbit(100 + chance.below(50)));
    Sample { rtt: Some(trip), loss: [loss; 2], load: [load; 2] }
}
