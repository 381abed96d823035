//! Whether a packet keeps its circuit's limit: a bucket that holds time, shared by all CPUs without a lock.

/// How a packet is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The bucket was full: until then the line is taken.
    Until(u64),
    /// So much more.
    More(u64),
}

/// What is due for a packet that takes `cost` nanoseconds of the line; none: the line is taken for more than `burst`
/// already.
///
/// What was not used is gone: `paid` catches up with the clock. Of several CPUs that find a full bucket at once, the last
/// one pays: a packet each passes unpaid. Adding the time that was idle instead would add it as often as CPUs look, and
/// close the bucket for as long. A packet that is larger than the burst passes when the bucket is full, and is paid for
/// afterwards.
#[inline(always)]
pub fn due(paid: u64, now: u64, burst: u64, cost: u64) -> Option<Due> {
    if paid <= now {
        return Some(Due::Until(now + cost));
    }
    (paid - now <= burst).then_some(Due::More(cost))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebpf_abi::share::Meter;

    const SECOND: u64 = 1_000_000_000;

    /// Bytes that passed until `until`, of packets of these bytes that come at these times.
    fn passed(meter: &mut Meter, packets: impl Iterator<Item = (u64, u64)>) -> u64 {
        let mut passed = 0;
        for (now, bytes) in packets {
            match due(meter.paid, now, meter.burst, meter.cost(bytes)) {
                Some(Due::Until(paid)) => meter.paid = paid,
                Some(Due::More(cost)) => meter.paid += cost,
                None => continue,
            }
            passed += bytes;
        }
        passed
    }

    #[test]
    fn ten_times_too_much_is_cut_to_the_limit() {
        for rate in [100_000, 50_000_000, 10_000_000_000_u64] {
            let mut meter = Meter::of(rate);
            let bytes = 1_500;
            let gap = (8 * bytes * SECOND / (rate * 10)).max(1);
            let start = 7 * SECOND;
            let packets = (0..10 * SECOND / gap).map(|n| (start + n * gap, bytes));
            let all = passed(&mut meter, packets.take(3_000_000));
            let time = (10 * SECOND / gap).min(3_000_000) * gap;
            let allowed = (u128::from(rate) * u128::from(time + meter.burst) / 8 / u128::from(SECOND)) as u64;
            assert!(all.abs_diff(allowed) <= allowed / 100 + 2 * bytes, "{rate}: {all} of {allowed}");
        }
    }

    #[test]
    fn two_cpus_that_find_a_full_bucket_at_once_do_not_close_it() {
        let meter = Meter::of(8_000_000);
        let (now, cost) = (3_600 * SECOND, meter.cost(1_000));
        let both = [due(meter.paid, now, meter.burst, cost), due(meter.paid, now, meter.burst, cost)];
        assert_eq!(both, [Some(Due::Until(now + cost)); 2]);
        assert_eq!(due(now + cost, now + 1, meter.burst, cost), Some(Due::More(cost)));
    }

    #[test]
    fn what_keeps_the_limit_loses_nothing() {
        let mut meter = Meter::of(12_000_000);
        let packets = (0..100_000_u64).map(|n| (SECOND + n * 1_000_001, 1_500));
        assert_eq!(passed(&mut meter, packets), 150_000_000);
    }

    #[test]
    fn an_idle_bucket_fills_up_to_the_burst_and_no_further() {
        let mut meter = Meter::of(8_000_000);
        let at_once = |meter: &mut Meter, now| passed(meter, (0..1_000).map(|_| (now, 1_000)));
        let first = at_once(&mut meter, SECOND);
        assert_eq!(first, 51_000, "50 ms and the packet that ends them");
        assert_eq!(at_once(&mut meter, 100 * SECOND), first);
    }

    #[test]
    fn a_superpacket_longer_than_the_burst_is_paid_for_afterwards() {
        let mut meter = Meter::of(1_000_000);
        let long = 65_000;
        assert_eq!(passed(&mut meter, [(SECOND, long), (SECOND + SECOND / 4, 100)].into_iter()), long);
        assert_eq!(passed(&mut meter, [(2 * SECOND, 100)].into_iter()), 100);
    }

    #[test]
    fn never_more_than_the_limit_passes_whatever_comes_when() {
        let mut random = 1_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        for _ in 0..2_000 {
            let (rate, longest) = (24_000 + below(1_000_000_000), 40 + below(65_000));
            let (mut meter, mut now) = (Meter::of(rate), SECOND);
            let mut packets = Vec::new();
            for _ in 0..below(300) {
                now += below(5_000_000);
                packets.push((now, below(longest) + 1));
            }
            let time = u128::from(now - SECOND + meter.burst);
            let allowed = u128::from(rate) * time / 8 / u128::from(SECOND) + u128::from(longest);
            let all = u128::from(passed(&mut meter, packets.into_iter()));
            // The price of a byte is rounded down to a millionth of a nanosecond.
            assert!(all <= allowed + allowed / 500 + 2, "{all} of {allowed} at {rate}");
        }
    }
}
