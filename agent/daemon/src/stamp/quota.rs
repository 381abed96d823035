//! How much is answered, and under which number: bounded per asking address and in all.
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Requests looked at in a second, of all addresses: their HMACs cost a few per cent of one CPU.
pub(crate) const IN_ALL: u32 = 10_000;
/// … and of one address, as in the data plane.
pub(crate) const OF_ONE: u32 = ebpf_abi::probe::PER_SECOND as u32;
/// Sessions whose answers are counted; the one that began first is forgotten, and counts from zero when it goes on.
const SESSIONS: usize = 4_096;
const SECOND: Duration = Duration::from_secs(1);

/// The running second.
#[derive(Debug)]
pub(crate) struct Quota {
    began: Instant,
    spent: u32,
    by_address: BTreeMap<IpAddr, u32>,
}

impl Quota {
    pub(crate) fn new(now: Instant) -> Self {
        Self { began: now, spent: 0, by_address: BTreeMap::new() }
    }

    /// Whether one more request of `from` is looked at.
    pub(crate) fn take(&mut self, from: IpAddr, now: Instant) -> bool {
        if now.duration_since(self.began) >= SECOND {
            *self = Self::new(now);
        }
        if self.spent >= IN_ALL {
            return false;
        }
        let of_one = self.by_address.entry(from).or_default();
        if *of_one >= OF_ONE {
            return false;
        }
        *of_one += 1;
        self.spent += 1;
        true
    }
}

/// Numbers of answers: the reflector is stateful (RFC 8762 §4), so that a sender can tell losses of the two directions
/// apart.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    next: BTreeMap<(SocketAddr, [u8; 2]), u32>,
    age: VecDeque<(SocketAddr, [u8; 2])>,
}

impl Numbers {
    pub(crate) fn next(&mut self, from: SocketAddr, session: [u8; 2]) -> u32 {
        let key = (from, session);
        if let Some(next) = self.next.get_mut(&key) {
            *next = next.wrapping_add(1);
            return *next;
        }
        if self.next.len() >= SESSIONS
            && let Some(oldest) = self.age.pop_front()
        {
            self.next.remove(&oldest);
        }
        self.next.insert(key, 0);
        self.age.push_back(key);
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn one_that_asks_too_often_leaves_room_for_others_and_the_next_second_is_new() {
        let now = Instant::now();
        let mut quota = Quota::new(now);
        assert_eq!((0..2 * OF_ONE).filter(|_| quota.take(address(1), now)).count(), OF_ONE as usize);
        assert!(quota.take(address(2), now));
        assert!(!quota.take(address(1), now + SECOND / 2));
        assert!(quota.take(address(1), now + SECOND));
    }

    #[test]
    fn all_together_have_a_bound() {
        let now = Instant::now();
        let mut quota = Quota::new(now);
        let answered = (0..2 * IN_ALL).filter(|n| quota.take(address(*n), now)).count();
        assert_eq!(answered, IN_ALL as usize);
        assert!(quota.by_address.len() <= IN_ALL as usize);
    }

    #[test]
    fn sessions_count_for_themselves_and_the_oldest_is_forgotten() {
        let mut numbers = Numbers::default();
        let at = |port| SocketAddr::new(address(1), port);
        assert_eq!([numbers.next(at(1), [0, 1]), numbers.next(at(1), [0, 1])], [0, 1]);
        assert_eq!([numbers.next(at(1), [0, 2]), numbers.next(at(2), [0, 1])], [0, 0]);
        for port in 0..=SESSIONS as u16 {
            numbers.next(at(port), [9, 9]);
        }
        assert_eq!(numbers.next(at(1), [0, 1]), 0);
        assert_eq!((numbers.next.len(), numbers.age.len()), (SESSIONS, SESSIONS));
    }
}
