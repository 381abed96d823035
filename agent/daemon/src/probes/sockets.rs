//! Sends probes: one socket per kind and local address, made when it is first needed.
use super::packet;
use agent_core::protect::Session;
use ebpf_abi::probe::PORT;
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use proto_model::PathId;
use proto_model::desired::Peer;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, UdpSocket};

/// Sockets of each kind; a host has at most as many underlay addresses. At the bound all are made anew.
const SOCKETS: usize = ebpf_abi::maps::LOCALS as usize;
/// Bytes of a socket's receive buffer, the kernel's least: answers come by the ring buffer, nobody reads here.
const RECEIVE: usize = 0;
/// Of link probes: one that arrives with less was routed (RFC 8762 §4.2.1 wants 255).
const HOPS: u8 = 255;

/// Probes carry no mark of a traffic class: they shall see what the circuits' packets see.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// UDP port of the tunnels.
    port: u16,
    paths: BTreeMap<IpAddr, UdpSocket>,
    links: BTreeMap<IpAddr, UdpSocket>,
}

impl Sockets {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, paths: BTreeMap::new(), links: BTreeMap::new() }
    }

    /// # Errors
    /// Why it could not be sent.
    pub(crate) fn path(&mut self, path: PathId, session: &Session, sequence: u32) -> io::Result<()> {
        let port = self.port;
        // For whoever reads a capture; the label is what counts.
        let id = path.0 as u16;
        through(&mut self.paths, session.local, bound, |socket| {
            let bytes = packet::path(session.label, id, sequence, tai()?);
            socket.send_to(&bytes, (session.remote, port))
        })
    }

    /// # Errors
    /// Why it could not be sent.
    pub(crate) fn link(&mut self, peer: &Peer, sequence: u32) -> io::Result<()> {
        through(&mut self.links, peer.local, bound_for_links, |socket| {
            let bytes = packet::link(peer.session, sequence, tai()?);
            socket.send_to(&bytes, (peer.remote, PORT))
        })
    }
}

/// After a failure the socket is made anew: its address may have gone and come back.
fn through(
    sockets: &mut BTreeMap<IpAddr, UdpSocket>,
    local: IpAddr,
    make: impl Fn(IpAddr) -> io::Result<UdpSocket>,
    send: impl Fn(&UdpSocket) -> io::Result<usize>,
) -> io::Result<()> {
    if !sockets.contains_key(&local) && sockets.len() >= SOCKETS {
        sockets.clear();
    }
    let sent = match sockets.entry(local) {
        std::collections::btree_map::Entry::Occupied(there) => send(there.get()),
        std::collections::btree_map::Entry::Vacant(place) => send(place.insert(make(local)?)),
    };
    if sent.is_err() {
        sockets.remove(&local);
    }
    sent.map(|_| ())
}

fn bound(local: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((local, 0))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::RcvBuf, &RECEIVE)?;
    Ok(socket)
}

fn bound_for_links(local: IpAddr) -> io::Result<UdpSocket> {
    let socket = bound(local)?;
    match local {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4Ttl, &HOPS.into())?,
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6Ttl, &HOPS.into())?,
    }
    Ok(socket)
}

/// The clock of the programs' `bpf_ktime_get_tai_ns`, in nanoseconds.
pub(crate) fn tai() -> io::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_TAI)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(local: IpAddr) -> Session {
        Session { local, remote: local, label: 5, receive: 6 }
    }

    #[test]
    fn a_path_probe_arrives_from_its_address_at_the_port_of_the_tunnels() {
        for local in ["127.0.0.1", "::1"] {
            let far = UdpSocket::bind((local, 0)).expect("a far end");
            let port = far.local_addr().expect("bound").port();
            let mut sockets = Sockets::new(port);
            let before = tai().expect("TAI");
            let local = local.parse().expect("an address");
            sockets.path(PathId(0xabcd_0042), &session(local), 3).expect("sent");
            let mut bytes = [0; 200];
            let (length, from) = far.recv_from(&mut bytes).expect("received");
            assert_eq!((length, from.ip()), (packet::PATH, local));
            let stamp: [u8; 8] = bytes[54..62].try_into().expect("eight bytes");
            let stamp: ebpf_abi::probe::Stamp = zerocopy::transmute!(stamp);
            assert_eq!(bytes[..length], packet::path(5, 0x42, 3, stamp.nanos()));
            assert!((before..=tai().expect("TAI")).contains(&stamp.nanos()));
        }
    }

    #[test]
    fn an_address_that_is_not_here_cannot_send_until_it_is() {
        let mut sockets = Sockets::new(4789);
        let nowhere = session("192.0.2.77".parse().expect("an address"));
        assert!(sockets.path(PathId(1), &nowhere, 1).is_err());
        assert!(sockets.paths.is_empty());
        let here = session("127.0.0.1".parse().expect("an address"));
        sockets.path(PathId(1), &here, 1).expect("sent");
        sockets.path(PathId(1), &here, 2).expect("sent");
        assert_eq!(sockets.paths.len(), 1);
    }
}
