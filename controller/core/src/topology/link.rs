//! A link between two hosts: what its ends offer, what is configured, measured, forecast and booked of it.
use super::carried::Sent;
use super::foresee::Foreseen;
use super::measure::{Known, Samples, Source};
use super::{Family, OVERHEAD_V4, OVERHEAD_V6, Others, spot};
use crate::forecast::Spreads;
use crate::silence::Silence;
use proto_model::topology::{LinkId, LinkValues};
use proto_model::{Bandwidth, Latency, Loss, NodeName, Timestamp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What one end of a link offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
    pub(super) mtu: u16,
    pub(super) speed: Option<Bandwidth>,
    /// Its owner lets the agent queue what leaves there.
    pub(super) shape: bool,
}

#[derive(Clone, Debug)]
pub struct Link {
    pub id: LinkId,
    pub values: LinkValues,
    /// For the paths over it, in each direction.
    pub reserved: Bandwidth,
    /// How much more paths will have at the fullest instant to come.
    pub planned: Bandwidth,
    /// For the backups over it: what any one failure would bring here at most.
    pub shared: Bandwidth,
    /// What it is seen to carry in the fuller direction: by circuits, and as the interfaces at its ends are used.
    pub load: Bandwidth,
    /// From the first of its ends to the second, and back; none: nothing is known.
    pub loads: [Option<Bandwidth>; 2],
    /// When it was forecast.
    pub(super) load_then: Bandwidth,
    pub(super) carried: Sent,
    /// By how much it may carry more than when that was forecast.
    pub(super) rise: Option<Bandwidth>,
    /// What reservations leave to traffic that is none of theirs.
    pub others: Others,
    pub(super) samples: Samples,
    pub(super) foreseen: Foreseen,
    pub(super) spreads: Spreads,
    /// Since when none of its probes is answered, as of the last report, or when that became too old.
    pub silence: Option<Silence>,
    /// In the order of the link's ends.
    pub(super) ends: [End; 2],
    /// Kept in step with the ends' contact and the values: asked for each link of each search.
    pub(super) usable: bool,
}

impl Link {
    /// Something new may be placed on it.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Configured, else the slower driver's speed.
    pub fn capacity(&self) -> Option<Bandwidth> {
        let [a, b] = self.ends;
        self.values.capacity.or_else(|| Some(a.speed?.min(b.speed?)))
    }

    /// Of its capacity, what circuits can reserve.
    pub fn most(&self) -> Option<Bandwidth> {
        let queued = self.ends.iter().any(|end| end.shape);
        self.capacity().map(|capacity| if queued { spot::reservable(capacity) } else { capacity })
    }

    pub fn free(&self) -> Option<Bandwidth> {
        self.room().map(|room| room.free)
    }

    /// Of its capacity, what nobody uses in the fuller direction; none: that is not known.
    pub fn available(&self) -> Option<Bandwidth> {
        self.capacity().filter(|_| self.is_weighed()).map(|capacity| capacity.saturating_sub(self.load))
    }

    pub(super) fn is_weighed(&self) -> bool {
        self.loads.iter().any(Option::is_some)
    }

    /// As forecast, else as seen.
    pub fn used(&self) -> Known<Bandwidth> {
        match self.expected_load() {
            // What circuits take along when they move is not in the forecast.
            Some(expected) => Known {
                value: expected.mean.saturating_add(self.load).saturating_sub(self.load_then),
                source: Source::Forecast,
            },
            None if self.is_weighed() => Known { value: self.load, source: Source::Measured },
            None => Known { value: self.load, source: Source::Unknown },
        }
    }

    /// By how much more is promised than it has; none: by nothing.
    pub fn over_booked(&self) -> Option<Bandwidth> {
        let over = self.taken().saturating_sub(self.capacity()?);
        (!over.is_zero()).then_some(over)
    }

    /// By paths and backups.
    pub fn taken(&self) -> Bandwidth {
        self.reserved.saturating_add(self.shared)
    }

    /// As configured, else as forecast or measured lately.
    pub fn rtt(&self, now: Timestamp) -> Known<Option<Latency>> {
        match self.values.rtt {
            Some(rtt) => Known { value: Some(rtt), source: Source::Configured },
            None => Self::or_foreseen(self.samples.rtt(now), self.foreseen.rtt, Some),
        }
    }

    /// As configured, else as forecast or measured lately; all of it when a link that used to answer is silent.
    pub fn loss(&self, now: Timestamp) -> Known<Loss> {
        if self.is_silent(now) {
            return Known { value: Loss::ALL, source: Source::Measured };
        }
        match self.values.loss {
            Loss::NONE => Self::or_foreseen(self.samples.loss(now), self.foreseen.loss, |loss| loss),
            loss => Known { value: loss, source: Source::Configured },
        }
    }

    /// Round-trip time and loss: as configured, else as measured lately, whatever is forecast.
    pub fn lately(&self, now: Timestamp) -> (Option<Latency>, Loss) {
        let rtt = self.values.rtt.or_else(|| self.samples.rtt(now).value);
        let loss = match self.values.loss {
            Loss::NONE => self.samples.loss(now).value,
            loss => loss,
        };
        (rtt, if self.is_silent(now) { Loss::ALL } else { loss })
    }

    /// Round-trip time: as configured, else as of the last report.
    pub fn last_rtt(&self, now: Timestamp) -> Option<Latency> {
        self.values.rtt.or_else(|| self.samples.last_rtt(now))
    }

    /// It has answered probes before, and lately it answers none.
    pub fn is_silent(&self, now: Timestamp) -> bool {
        self.samples.is_silent(now)
    }

    /// Its ends probe it, and none of them is answered now; perhaps none ever was.
    pub fn is_unanswered(&self, now: Timestamp) -> bool {
        self.samples.is_unanswered(now)
    }

    /// The hosts of which the agent does not queue what it sends here.
    pub fn unshaped(&self) -> impl Iterator<Item = &NodeName> {
        let (a, b) = self.id.ends();
        [a, b].into_iter().zip(self.ends).filter(|(_, end)| !end.shape).map(|(node, _)| node)
    }

    pub fn has(&self, family: Family) -> bool {
        let [a, b] = self.ends;
        match family {
            Family::V4 => a.v4.is_some() && b.v4.is_some(),
            Family::V6 => a.v6.is_some() && b.v6.is_some(),
        }
    }

    /// Bytes of an inner IP packet that fit into an outer one of this family.
    pub fn mtu(&self, family: Family) -> u16 {
        let [a, b] = self.ends;
        let overhead = match family {
            Family::V4 => OVERHEAD_V4,
            Family::V6 => OVERHEAD_V6,
        };
        a.mtu.min(b.mtu).saturating_sub(overhead)
    }

    /// Outer addresses as seen from `node`: its own, and the other end's.
    pub fn addresses(&self, node: &NodeName, family: Family) -> Option<(IpAddr, IpAddr)> {
        let [a, b] = self.ends;
        let (here, there) = if self.id.ends().0 == node { (a, b) } else { (b, a) };
        match family {
            Family::V4 => Some((here.v4?.into(), there.v4?.into())),
            Family::V6 => Some((here.v6?.into(), there.v6?.into())),
        }
    }
}
