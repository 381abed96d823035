//! What the engine is told: never waited for, never lost.
use agent_core::protect::Told;
use anyhow::{Result, bail};
use proto_model::topology::{LinkId, Measured};
use proto_model::{Latency, Loss};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Words on their way to the engine, and what had no room there. Of a group only the last word waits, of a link the sum
/// of its measurements: at most as many as there are groups and links.
#[derive(Debug)]
pub(crate) struct News {
    engine: mpsc::Sender<Told>,
    /// In the order of the groups' last words, and which of them is whose.
    turned: BTreeMap<u64, (u32, Told)>,
    last: BTreeMap<u32, u64>,
    words: u64,
    measured: BTreeMap<LinkId, Measured>,
}

impl News {
    pub(crate) fn new(engine: mpsc::Sender<Told>) -> Self {
        Self { engine, turned: BTreeMap::new(), last: BTreeMap::new(), words: 0, measured: BTreeMap::new() }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.turned.is_empty() || !self.measured.is_empty()
    }

    /// # Errors
    /// When the engine is gone.
    pub(crate) fn tell(&mut self, told: Told) -> Result<()> {
        match told {
            Told::Turned { group, .. } => {
                self.words += 1;
                if let Some(former) = self.last.insert(group, self.words) {
                    self.turned.remove(&former);
                }
                self.turned.insert(self.words, (group, told));
            }
            Told::Measured(links) => {
                for (link, seen) in links {
                    let before = self.measured.remove(&link);
                    self.measured.insert(link, before.map_or(seen, |before| sum(&before, &seen)));
                }
            }
        }
        self.flush()
    }

    /// As much as the engine takes now.
    ///
    /// # Errors
    /// When the engine is gone.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while self.is_waiting() {
            match self.engine.try_reserve() {
                Ok(place) => {
                    if let Some((_, (group, told))) = self.turned.pop_first() {
                        self.last.remove(&group);
                        place.send(told);
                    } else {
                        place.send(Told::Measured(std::mem::take(&mut self.measured).into_iter().collect()));
                    }
                }
                Err(TrySendError::Full(())) => return Ok(()),
                Err(TrySendError::Closed(())) => bail!("the engine is gone"),
            }
        }
        Ok(())
    }
}

/// Means are weighted by the probes, of which those of times came back.
fn sum(a: &Measured, b: &Measured) -> Measured {
    let weights = (u64::from(a.probes), u64::from(b.probes));
    let mean =
        |x: u64, y: u64| (x * weights.0 + y * weights.1).checked_div(weights.0 + weights.1).unwrap_or(0);
    let time = |x: Latency, y: Latency| match (x.nanos(), y.nanos()) {
        // Zero: nothing came back.
        (0, only) | (only, 0) => Latency::from_nanos(only),
        (x, y) => Latency::from_nanos(mean(x, y)),
    };
    let loss = |x: Loss, y: Loss| {
        Loss::from_ppm(u32::try_from(mean(x.ppm().into(), y.ppm().into())).unwrap_or(u32::MAX))
    };
    Measured {
        probes: a.probes.saturating_add(b.probes),
        rtt_min: if a.rtt_min == Latency::default() { b.rtt_min } else { least(a.rtt_min, b.rtt_min) },
        rtt_mean: time(a.rtt_mean, b.rtt_mean),
        rtt_max: a.rtt_max.max(b.rtt_max),
        variation_forward: time(a.variation_forward, b.variation_forward),
        variation_backward: time(a.variation_backward, b.variation_backward),
        loss_forward: loss(a.loss_forward, b.loss_forward),
        loss_backward: loss(a.loss_backward, b.loss_backward),
    }
}

fn least(a: Latency, b: Latency) -> Latency {
    if b == Latency::default() { a } else { a.min(b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::report::Way;
    use proto_model::{NodeName, Timestamp};

    fn turned(group: u32, to: Way, at: u64) -> Told {
        Told::Turned { group, to, why: "a reason".into(), at: Timestamp(at) }
    }

    fn seen(probes: u32, micros: u64, ppm: u32) -> Measured {
        let rtt = Latency::from_micros(micros);
        let loss_forward = Loss::from_ppm(ppm);
        Measured { probes, rtt_min: rtt, rtt_mean: rtt, rtt_max: rtt, loss_forward, ..Measured::default() }
    }

    fn link() -> LinkId {
        let name = |text: &str| text.parse::<NodeName>().expect("a name");
        LinkId::new(name("a"), name("b"), "n".parse().expect("a name")).expect("two ends")
    }

    #[test]
    fn an_engine_that_does_not_read_is_told_the_last_word_of_each_group_later() {
        let (engine, mut told) = mpsc::channel(1);
        let mut news = News::new(engine);
        news.tell(turned(1, Way::Backup, 1)).expect("told");
        news.tell(turned(2, Way::Backup, 2)).expect("waits");
        news.tell(turned(3, Way::Backup, 3)).expect("waits");
        news.tell(turned(2, Way::Primary, 4)).expect("takes the place of the former");
        news.tell(Told::Measured(vec![(link(), seen(10, 100, 0))])).expect("waits");
        news.tell(Told::Measured(vec![(link(), seen(30, 300, 400_000))])).expect("is added");
        let mut read = Vec::new();
        while let Ok(one) = told.try_recv() {
            read.push(one);
            news.flush().expect("told");
        }
        let together = Measured {
            rtt_min: Latency::from_micros(100),
            rtt_max: Latency::from_micros(300),
            ..seen(40, 250, 300_000)
        };
        assert_eq!(
            read,
            [
                turned(1, Way::Backup, 1),
                turned(3, Way::Backup, 3),
                turned(2, Way::Primary, 4),
                Told::Measured(vec![(link(), together)])
            ]
        );
        assert!(!news.is_waiting());
    }

    #[test]
    fn an_engine_that_is_gone_ends_it() {
        let (engine, told) = mpsc::channel(1);
        drop(told);
        assert!(News::new(engine).tell(turned(1, Way::Backup, 1)).is_err());
    }

    #[test]
    fn what_never_came_back_has_no_part_in_the_times() {
        let silent = Measured { probes: 10, loss_forward: Loss::from_ppm(1_000_000), ..Measured::default() };
        let both = sum(&silent, &seen(10, 500, 0));
        assert_eq!((both.rtt_min, both.rtt_mean), (Latency::from_micros(500), Latency::from_micros(500)));
        assert_eq!((both.probes, both.loss_forward), (20, Loss::from_ppm(500_000)));
    }
}
