//! How long nothing passes after the way in use has died.
use super::Times;
use super::scene::Scene;
use crate::lab::Lab;
use crate::lab::link::Change;
use crate::measure::Row;
use crate::stream::{Side, Stream};
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How long traffic through a circuit may stay away.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How a link dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Everything is lost, nothing says so.
    Silent,
    /// The interface of `a` loses its carrier.
    Carrier,
}

/// Milliseconds without a packet, of each repeat.
#[derive(Clone, Debug, Default)]
pub struct Outages {
    /// From the end next to the link that died, and towards it.
    pub ways: [Times; 2],
    /// The longer of both.
    pub both: Times,
    pub duplicates: u64,
    pub packets: u64,
}

impl Death {
    fn change(self) -> Change {
        match self {
            Self::Silent => Change::Blackhole,
            Self::Carrier => Change::Cut,
        }
    }
}

impl Outages {
    /// Lets a link die under a stream; `patience` is how long traffic may take to come back. `before` is done when the
    /// stream flows, just before the link dies.
    ///
    /// # Errors
    /// No stream came about in the first place.
    pub fn once(
        &mut self,
        lab: &Lab,
        sides: &[Side; 2],
        link: (&str, &str),
        death: Death,
        patience: Duration,
        before: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let stream = Stream::start(&sides[0], &sides[1])?;
        if !stream.flows(500, Duration::from_secs(10)) {
            let arrived = stream.arrived();
            stream.finish()?;
            bail!("nothing flows before the link dies: {arrived:?} packets arrived");
        }
        before()?;
        std::thread::sleep(Duration::from_millis(200));
        let event = Instant::now();
        lab.change(link.0, link.1, &death.change())?;
        std::thread::sleep(Duration::from_millis(20));
        let back = stream.flows(100, patience);
        let traces = stream.finish()?;
        let gaps = [0, 1].map(|way: usize| {
            let gap = traces[way].longest_gap(event).filter(|_| back);
            // The pace of the stream is no outage.
            gap.map(|gap| (gap.as_secs_f64() * 1e3 - 1.0).max(0.0))
        });
        for (times, gap) in self.ways.iter_mut().zip(gaps) {
            times.add(gap);
        }
        self.both.add(gaps[0].zip(gaps[1]).map(|(there, back)| there.max(back)));
        self.duplicates += traces.iter().map(|trace| trace.duplicates).sum::<u64>();
        self.packets += traces.iter().map(|trace| trace.sent).sum::<u64>();
        eprintln!("    {death:?}: {gaps:.1?} ms");
        Ok(())
    }
}

/// The first way of a fresh circuit dies, with the controller killed; again and again.
///
/// # Errors
/// The lab or the circuit does not do what it should without any failure.
pub fn of_circuits(scene: &Scene, death: Death, repeats: usize) -> Result<Outages> {
    let (mut outages, sides) = (Outages::default(), scene.sides()?);
    for round in 0..repeats {
        let transit = scene.weave()?;
        // Silent: at the near end's link and at the far end's in turn. Carrier: where the near end can see it.
        let link = match (death, round % 2) {
            (Death::Silent, 1) => (transit.as_str(), "b"),
            (Death::Silent | Death::Carrier, _) => ("a", transit.as_str()),
        };
        let kill = || scene.lab.controller().kill();
        outages.once(&scene.lab, &sides, link, death, PATIENCE, kill)?;
        scene.lab.change(link.0, link.1, &Change::Reset)?;
        scene.revive_controller()?;
        scene.unweave()?;
    }
    Ok(outages)
}

/// Rows of one kind of death and one kind of fabric, both directions together.
pub fn rows(what: &str, outages: &Outages, limits: [Option<f64>; 2], aim: &str) -> [Row; 2] {
    [outages.both.row(what, 50.0, limits[0], ""), outages.both.row(what, 99.0, limits[1], aim)]
}
