//! How fast an interface is taken to be, and what of that is left for what nobody reserved.
use proto_model::Bandwidth;

/// Of an interface's capacity, what is queued for it at most: so that the queue is the agent's own and not the link's.
const SHARE_OF_CAPACITY: u64 = 98;
/// What the rest has at least, and what probes have, in hundredths of that.
const LEAST_REST: u64 = 1;
const CONTROL: u64 = 1;
/// What is nobody's and lent, in hundredths: circuits first, so that one that sends as much as it reserved and had to wait
/// for a moment gets rid of what waits; what they leave is for the rest.
const LENT: u64 = 4;

#[derive(Debug, Default)]
pub(super) struct Interface {
    pub(super) speed: Option<Bandwidth>,
    pub(super) told: Told,
    /// Sum of the classes' rates, bits per second.
    pub(super) promised: u64,
    /// What its classes may use at most, as last wanted: the rate of all of its queues.
    pub(super) ceil: u64,
}

/// What a controller says of an interface's links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    fastest: Option<Bandwidth>,
    /// All of them together; none: there is none, or of one it is not known.
    together: Option<Bandwidth>,
}

impl Told {
    pub(super) fn of(links: &[Option<Bandwidth>]) -> Self {
        let sum = links.iter().try_fold(Bandwidth::ZERO, |sum, link| Some(sum.saturating_add((*link)?)));
        Self { fastest: links.iter().copied().max().flatten(), together: sum.filter(|sum| !sum.is_zero()) }
    }
}

impl Interface {
    /// It sends no more than it can, and to its links no more than they hold together. One whose own speed nobody says is
    /// taken for as fast as its fastest link: several links by one interface often share what lies behind it.
    fn capacity(&self) -> Option<Bandwidth> {
        match self.speed {
            Some(speed) => Some(self.told.together.map_or(speed, |together| together.min(speed))),
            None => self.told.fastest,
        }
    }

    /// Of all of its queues, bits per second.
    pub(super) fn rate(&self) -> Option<u64> {
        let now = self.capacity()?.bits_per_second();
        Some(whole_bytes(now / 100 * SHARE_OF_CAPACITY))
    }

    /// What is promised to all that has no class of its own, of such a rate.
    pub(super) fn rest(&self, rate: u64) -> u64 {
        let others = self.promised.saturating_add(rate / 100 * (CONTROL + LENT));
        whole_bytes(rate.saturating_sub(others).max(rate / 100 * LEAST_REST))
    }
}

/// The kernel counts bytes.
pub(super) const fn whole_bytes(bits: u64) -> u64 {
    bits / 8 * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(speed: Option<u64>, links: &[Option<u64>]) -> Option<u64> {
        let links: Vec<_> = links.iter().map(|mbit| mbit.map(Bandwidth::mbit)).collect();
        let interface =
            Interface { speed: speed.map(Bandwidth::mbit), told: Told::of(&links), promised: 0, ceil: 0 };
        interface.rate()
    }

    #[test]
    fn links_of_one_interface_are_not_held_to_the_fastest_of_them() {
        assert_eq!(rate(Some(100), &[]), Some(98_000_000));
        assert_eq!(rate(Some(100), &[Some(50)]), Some(49_000_000), "there is no other");
        assert_eq!(rate(Some(100), &[Some(50), Some(20)]), Some(68_600_000), "both together");
        assert_eq!(
            rate(Some(100), &[Some(50), Some(20), Some(50)]),
            Some(98_000_000),
            "it is no faster itself"
        );
        assert_eq!(rate(Some(100), &[Some(50), None]), Some(98_000_000), "nobody knows how fast one is");
    }

    #[test]
    fn an_interface_of_unknown_speed_is_as_fast_as_its_fastest_link() {
        assert_eq!(rate(None, &[]), None);
        assert_eq!(rate(None, &[Some(10), Some(50), None]), Some(49_000_000));
    }
}
