//! Connections whose peer has not shown a good certificate: few from one address, and none for long.
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections of strangers at one time from one IPv4 address or one /64 of IPv6.
pub(super) const FROM_ONE_ADDRESS: usize = 256;

/// Counts them; clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers {
    counts: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// Who is at the other end of a connection; its socket and its requests share it.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Arc<Standing>);

#[derive(Debug)]
struct Standing {
    known: AtomicBool,
    place: Mutex<Option<Place>>,
}

/// One of the few; free again when dropped.
#[derive(Debug)]
struct Place {
    strangers: Strangers,
    from: IpAddr,
}

impl Strangers {
    /// None: too many from there.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Peer> {
        let from = block(address);
        let mut counts = locked(&self.counts);
        let count = counts.entry(from).or_default();
        if *count >= FROM_ONE_ADDRESS {
            return None;
        }
        *count += 1;
        let place = Mutex::new(Some(Place { strangers: self.clone(), from }));
        Some(Peer(Arc::new(Standing { known: AtomicBool::new(false), place })))
    }
}

impl Peer {
    /// It has shown a certificate of the fabric: no stranger any more.
    pub(crate) fn vouch(&self) {
        if !self.0.known.swap(true, Ordering::AcqRel) {
            drop(locked(&self.0.place).take());
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.0.known.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = locked(&self.strangers.counts);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

/// A host has a whole /64 of IPv6 to itself.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let strangers = Strangers::default();
        for (from, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ] {
            let admitted: Vec<_> =
                (0..FROM_ONE_ADDRESS).map(|_| strangers.admit(address(from)).expect("room")).collect();
            assert!(strangers.admit(address(same)).is_none(), "{same}");
            assert!(strangers.admit(address(other)).is_some(), "{other}");
            admitted[0].vouch();
            admitted[0].vouch();
            let next = strangers.admit(address(same)).expect("the place of the one that is known now");
            assert!(strangers.admit(address(same)).is_none(), "one place was free, not two");
            drop((next, admitted));
            assert!(locked(&strangers.counts).is_empty());
        }
    }
}
