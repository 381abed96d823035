//! What the regressions look at: levels, last moves, season, and what the whole mesh does.
use super::Config;
use super::FAR;
use super::link::{Link, Regression};
use super::norm::P;
use super::season::{Calendar, Domain, When};

/// Of one link, in its scales, relative to its last value. The last two are the mesh's means of two others: see [`share`].
pub(super) fn of(link: &Link, c: &Config, calendar: &Calendar, kind: Regression, at: When) -> [f32; P] {
    let domain = &link.domains[kind.domain];
    let y = domain.back(at.turn, 0);
    let mut x = [0.0; P];
    for (x, level) in x.iter_mut().zip(domain.ewma) {
        *x = level - y;
    }
    x[3] = domain.back(at.turn, 1) - y;
    x[4] = if kind.top { link.highest(kind.domain, at.turn, FAR) } else { domain.back(at.turn, 2) } - y;
    season(&mut x, domain, c, calendar, kind, at);
    let clip = c.clip[kind.horizon()];
    let scale = 1.0 / domain.scale.max(1e-9);
    x.map(|value| (value * scale).clamp(-clip, clip))
}

fn season(x: &mut [f32; P], domain: &Domain, c: &Config, calendar: &Calendar, kind: Regression, at: When) {
    let y = domain.back(at.turn, 0);
    let (here, there) = (calendar.bin(at.clock), calendar.bin(at.clock + kind.ahead));
    if let (Some(now), Some(then)) = (domain.day_at(here), domain.day_at(there)) {
        x[5] = then - now;
        x[6] = if kind.top {
            let on_the_way = (1..=FAR).filter_map(|step| domain.day_at(calendar.bin(at.clock + step)));
            on_the_way.fold(f32::MIN, f32::max) - now
        } else {
            smoothed(domain, c, calendar, here, there)
        };
        x[7] = then + domain.dev - y;
        x[8] = then - y;
    }
    if at.age >= calendar.week() {
        let then = domain.week_at(calendar, at.clock + kind.ahead);
        x[9] = then - domain.week_at(calendar, at.clock);
        x[10] = then + x[8];
    }
}

/// The season's move from one bin to another, over the bins around both.
fn smoothed(domain: &Domain, c: &Config, calendar: &Calendar, here: usize, there: usize) -> f32 {
    let bins = calendar.bins;
    let half = (bins / c.smooth).min(FAR - 1);
    let at = |bin: usize, j: usize| domain.day_at((bin + bins + j - half) % bins);
    let moves = (0..=2 * half).map(|j| match (at(there, j), at(here, j)) {
        (Some(then), Some(now)) => then - now,
        (Some(_) | None, _) => 0.0,
    });
    moves.sum::<f32>() / (2 * half + 1) as f32
}

/// Fills in what all links of the mesh do together.
pub(super) fn share(all: &mut [[f32; P]]) {
    for (source, target) in [(5, 11), (1, 12)] {
        let mean = all.iter().map(|x| x[source]).sum::<f32>() / all.len().max(1) as f32;
        all.iter_mut().for_each(|x| x[target] = mean);
    }
}
