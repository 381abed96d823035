//! Notices at once that the interface of a local address lost its carrier, or got it back.
use crate::kernel::links::{self, Link};
use crate::kernel::netlink::{self, Netlink};
use anyhow::{Context, Result};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` of rtnetlink(7).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Bytes of the receive buffer, as much of it as the host allows: thousands of the fabric's interfaces may come at once.
const RECEIVE: usize = 4 << 20;
/// How soon everything is looked at again when that failed.
const AGAIN: Duration = Duration::from_millis(100);
/// Bytes that one datagram of notifications has at most.
const BUFFER: usize = 32 * 1024;

/// A socket of its own, so that nothing else is read before a carrier that went.
#[derive(Debug)]
pub(crate) struct Carriers {
    notices: Socket,
    netlink: Netlink,
    buffer: Vec<u8>,
    known: Known,
    /// As last told.
    told: BTreeMap<IpAddr, bool>,
    /// Something was heard since.
    stirred: bool,
    /// Notifications were lost and the look at everything failed; when it is tried again.
    look_again: Option<Instant>,
}

/// The host's interfaces and addresses.
#[derive(Debug, Default)]
struct Known {
    /// Interfaces by index, the fabric's own left out: up, with a carrier.
    up: BTreeMap<u32, bool>,
    owners: BTreeMap<IpAddr, u32>,
}

impl Carriers {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel's notifications cannot be had.
    pub(crate) fn open() -> Result<Self> {
        let mut notices = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
        notices.bind(&SocketAddr::new(0, GROUPS)).context("cannot subscribe to changes of interfaces")?;
        notices.set_non_blocking(true)?;
        // Beyond what the host allows everybody where the agent may (CAP_NET_ADMIN), else as far as that goes.
        let forced = setsockopt(&notices, sockopt::RcvBufForce, &RECEIVE);
        if let Err(error) = forced.or_else(|_| setsockopt(&notices, sockopt::RcvBuf, &RECEIVE)) {
            debug!(%error, "receive buffer not raised");
        }
        let mut netlink = Netlink::open().context("cannot open a netlink socket")?;
        let known = Known::look(&mut netlink)?;
        let (buffer, told) = (Vec::with_capacity(BUFFER), BTreeMap::new());
        Ok(Self { notices, netlink, buffer, known, told, stirred: true, look_again: None })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.notices.as_fd()
    }

    /// Reads what the kernel told; addresses whose carrier changed since the last call, and which way. The first call
    /// tells of all.
    pub(crate) fn changes(&mut self) -> Vec<(IpAddr, bool)> {
        let mut lost = self.look_again.is_some_and(|at| at <= Instant::now());
        loop {
            self.buffer.clear();
            match self.notices.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    self.stirred = true;
                    for message in netlink::split(&self.buffer) {
                        self.known.heard(message);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What did not fit the socket is lost (ENOBUFS): only looking tells what it was.
                Err(error) => {
                    debug!(%error, "notifications of interfaces lost; looked up");
                    lost = true;
                }
            }
        }
        if lost {
            self.look(Instant::now());
        }
        match std::mem::take(&mut self.stirred) {
            true => self.news(),
            false => Vec::new(),
        }
    }

    /// The interfaces of these addresses that are up for all that is known.
    pub(crate) fn up_of<'a>(&self, locals: impl Iterator<Item = &'a IpAddr>) -> BTreeSet<u32> {
        let owners = locals.filter_map(|local| self.known.owners.get(local));
        owners.filter(|owner| self.known.up.get(owner) == Some(&true)).copied().collect()
    }

    /// What the kernel said when it was asked.
    pub(crate) fn saw(&mut self, link: &Link) {
        self.known.saw(link);
        self.stirred = true;
    }

    /// When [`Self::changes`] wants to be called although nothing comes.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.look_again
    }

    /// Until it succeeds, what was known before stands.
    fn look(&mut self, now: Instant) {
        match Known::look(&mut self.netlink) {
            Ok(known) => (self.known, self.stirred, self.look_again) = (known, true, None),
            Err(error) => {
                warn!(error = %format!("{error:#}"), "interfaces not looked at");
                self.look_again = Some(now + AGAIN);
            }
        }
    }

    fn news(&mut self) -> Vec<(IpAddr, bool)> {
        let up_now = |owner: &u32| self.known.up.get(owner).copied().unwrap_or(false);
        let owners = &self.known.owners;
        let mut now: BTreeMap<IpAddr, bool> = owners.iter().map(|(ip, owner)| (*ip, up_now(owner))).collect();
        // An address that went has no carrier; once told, it is forgotten.
        let gone: Vec<IpAddr> =
            self.told.iter().filter(|(ip, up)| **up && !now.contains_key(*ip)).map(|(ip, _)| *ip).collect();
        let changed = now.iter().filter(|(ip, up)| self.told.get(*ip) != Some(*up));
        let mut news: Vec<(IpAddr, bool)> = changed.map(|(ip, up)| (*ip, *up)).collect();
        news.extend(gone.into_iter().map(|ip| (ip, false)));
        std::mem::swap(&mut self.told, &mut now);
        news
    }
}

impl Known {
    fn look(netlink: &mut Netlink) -> Result<Self> {
        let mut known = Self::default();
        for link in links::all(netlink)? {
            known.saw(&link);
        }
        for message in netlink.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
            known.heard(message.into());
        }
        Ok(known)
    }

    fn heard(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        let NetlinkPayload::InnerMessage(message) = message.payload else { return };
        match message {
            RouteNetlinkMessage::NewLink(link) => self.saw(&Link::of(&link)),
            RouteNetlinkMessage::DelLink(link) => {
                self.up.remove(&link.header.index);
            }
            RouteNetlinkMessage::NewAddress(address) => {
                if let Some(ip) = local(&address) {
                    self.owners.insert(ip, address.header.index);
                }
            }
            RouteNetlinkMessage::DelAddress(address) => {
                if let Some(ip) = local(&address)
                    && self.owners.get(&ip) == Some(&address.header.index)
                {
                    self.owners.remove(&ip);
                }
            }
            _ => {}
        }
    }

    fn saw(&mut self, link: &Link) {
        if link.group != links::GROUP {
            self.up.insert(link.index, link.has_carrier());
        }
    }
}

/// Local differs from Address on point-to-point interfaces only; IPv6 often has Address alone.
fn local(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    find(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Knows of nothing but what the test says.
    fn carriers(up: &[(u32, bool)], owners: &[(&str, u32)]) -> Carriers {
        let mut carriers = Carriers::open().expect("netlink");
        carriers.known.up = up.iter().copied().collect();
        carriers.known.owners = owners.iter().map(|(address, owner)| (ip(address), *owner)).collect();
        carriers
    }

    #[test]
    fn each_change_is_told_once() {
        let mut carriers = carriers(&[(1, true), (2, false)], &[("192.0.2.1", 1), ("192.0.2.2", 2)]);
        assert_eq!(carriers.news(), [(ip("192.0.2.1"), true), (ip("192.0.2.2"), false)]);
        assert_eq!(carriers.news(), []);
        carriers.known.up.insert(1, false);
        assert_eq!(carriers.news(), [(ip("192.0.2.1"), false)]);
        carriers.known.up.insert(1, true);
        assert_eq!(carriers.news(), [(ip("192.0.2.1"), true)]);
    }

    #[test]
    fn an_address_that_goes_loses_its_carrier_and_may_come_back_elsewhere() {
        let mut carriers = carriers(&[(1, true), (2, true)], &[("2001:db8::1", 1)]);
        assert_eq!(carriers.news(), [(ip("2001:db8::1"), true)]);
        carriers.known.owners.clear();
        assert_eq!(carriers.news(), [(ip("2001:db8::1"), false)]);
        assert_eq!(carriers.news(), []);
        carriers.known.owners.insert(ip("2001:db8::1"), 2);
        assert_eq!(carriers.news(), [(ip("2001:db8::1"), true)]);
        // Its interface is removed; what is told of its addresses may come later.
        carriers.known.up.remove(&2);
        assert_eq!(carriers.news(), [(ip("2001:db8::1"), false)]);
    }

    #[test]
    fn a_look_that_fails_leaves_what_was_known_and_is_tried_again() {
        let mut carriers = Carriers::open().expect("netlink");
        assert!(!carriers.changes().is_empty());
        // Writes to it fail from now on.
        let there = std::mem::replace(&mut carriers.netlink, Netlink::deaf().expect("a socket"));
        let now = Instant::now();
        carriers.look(now);
        assert_eq!((carriers.changes(), carriers.next_look()), (Vec::new(), Some(now + AGAIN)));
        carriers.netlink = there;
        carriers.look(now);
        assert_eq!((carriers.changes(), carriers.next_look()), (Vec::new(), None));
    }

    #[test]
    fn what_is_there_is_known_from_the_start() {
        let mut carriers = Carriers::open().expect("netlink");
        let told: BTreeMap<IpAddr, bool> = carriers.changes().into_iter().collect();
        assert!(told.contains_key(&ip("127.0.0.1")), "{told:?}");
    }
}
