//! What a circuit gets of its links: its number on this host, which names its class in the queues and its meter.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Handle of the agent's root queue on an interface that it may shape (HTB), `6677:` in tc's words. `skb->priority` is
/// then the class: handle and number.
pub const HANDLE: u16 = 0x6677;
/// The class above all others: as fast as the interface.
pub const ROOT: u16 = 0xfffd;
/// Probes, before everything else: or a full queue would look like a bad link. Queues without classes take it for
/// interactive.
pub const CONTROL: u16 = 0xfff6;
/// Everything that has no class of its own.
pub const REST: u16 = 0xffff;
/// Those of numbers 1 to this one that are [best effort](is_best_effort) are given to circuit ends and hops with a bandwidth or a limit.
pub const NUMBERS: u16 = 0xfff0;

/// What `skb->priority` says for a class; HTB takes it without asking a filter.
#[inline(always)]
pub const fn priority(class: u16) -> u32 {
    (HANDLE as u32) << 16 | class as u32
}

/// Whether queues without classes take a packet of this class for best effort: pfifo_fast, prio and fq sort by the last
/// four bits of the priority (`prio2band`, tc-prio(8)). Where nobody may shape, a reservation changes nothing.
pub const fn is_best_effort(number: u16) -> bool {
    matches!(number & 15, 0 | 4 | 8..=15)
}

/// Entries of `METERS`, of which slot 0 is never used.
pub const METERS: u32 = NUMBERS as u32 + 1;

/// Value of `METERS`: a bucket that holds time. What a packet costs is added to `paid`; one that finds more than `burst`
/// still to come is dropped (the virtual scheduling algorithm of ITU-T I.371, annex A; the same as a token bucket).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Meter {
    /// Until when what was let through takes the line, nanoseconds of `bpf_ktime_get_ns`. Programs write it.
    pub paid: u64,
    /// Nanoseconds that a byte takes, times 2^[`Meter::SHIFT`]; 0: no limit.
    pub price: u64,
    /// Nanoseconds.
    pub burst: u64,
    /// Bits per second, of which `price` was made.
    pub rate: u64,
}

impl Meter {
    pub const SHIFT: u32 = 20;
    /// What may come at once, as time at the rate: enough for a TCP flow over any path of a continent.
    pub const BURST: u64 = 50_000_000;

    /// Full, for so many bits per second.
    pub const fn of(rate: u64) -> Self {
        let price = match (8_000_000_000_u64 << Self::SHIFT).checked_div(rate) {
            Some(price) => price,
            None => 0,
        };
        Self { paid: 0, price, burst: Self::BURST, rate }
    }

    /// Nanoseconds that so many bytes take.
    #[inline(always)]
    pub const fn cost(&self, bytes: u64) -> u64 {
        bytes.wrapping_mul(self.price) >> Self::SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_takes_its_time() {
        for (rate, bytes, nanos) in [(8_000_000, 1_000, 1_000_000), (1_000_000_000, 1_500, 12_000)] {
            assert!(Meter::of(rate).cost(bytes).abs_diff(nanos) <= 1, "{rate}");
        }
        // The largest superpacket at the slowest rate does not overflow.
        assert_eq!(Meter::of(24_000).cost(1 << 18) / 1_000_000_000, 87);
    }

    #[test]
    fn no_circuit_has_the_number_of_a_class_of_our_own() {
        assert!([ROOT, CONTROL, REST].iter().all(|class| *class > NUMBERS));
        assert_eq!(CONTROL & 15, 6, "interactive");
        assert!(is_best_effort(REST));
        assert_eq!(priority(1), 0x6677_0001);
    }
}
