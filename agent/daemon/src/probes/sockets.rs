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
/// Of linux/udp.h (RFC 6935 allows tunnels to do without).
const UDP_NO_CHECK6_TX: libc::c_int = 101;
/// The class of probes; elsewhere than in the agent's queues it means nothing.
const PRIORITY: i32 = ebpf_abi::share::priority(ebpf_abi::share::CONTROL).cast_signed();
/// Of link probes: one that arrives with less was routed (RFC 8762 §4.2.1 wants 255).
const HOPS: u8 = 255;

/// Probes carry no mark of a traffic class: they shall see what the circuits' packets see on their way. Only in the queues
/// that the agent itself makes they go first: a circuit that fills its class is not a bad path.
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
        through(&mut self.paths, session.local, bound_for_paths, |socket| {
            let bytes = packet::path(session.label, id, sequence, tai()?);
            socket.send_to(&bytes, (session.remote, port))
        })
    }

    /// Says that the path `dead` has no carrier here.
    ///
    /// # Errors
    /// Why it could not be sent.
    pub(crate) fn defect(&mut self, session: &Session, dead: PathId) -> io::Result<()> {
        let port = self.port;
        through(&mut self.paths, session.local, bound_for_paths, |socket| {
            let bytes = packet::defect(session.label, dead.0, tai()?);
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
    // Without CAP_NET_ADMIN probes wait like everything else.
    let _ = setsockopt(&socket, sockopt::Priority, &PRIORITY);
    Ok(socket)
}

/// Options by which datagrams leave without a checksum; nix has names for neither.
#[derive(Clone, Copy, Debug)]
struct NoSum;
#[derive(Clone, Copy, Debug)]
struct NoSum6;

nix::setsockopt_impl!(NoSum, libc::SOL_SOCKET, libc::SO_NO_CHECK, bool, sockopt::SetBool);
nix::setsockopt_impl!(NoSum6, libc::IPPROTO_UDP, UDP_NO_CHECK6_TX, bool, sockopt::SetBool);

/// Without a UDP checksum, as the circuits' packets: so transit hosts pass them on where they pass those on.
fn bound_for_paths(local: IpAddr) -> io::Result<UdpSocket> {
    let socket = bound(local)?;
    match local {
        IpAddr::V4(_) => setsockopt(&socket, NoSum, &true)?,
        IpAddr::V6(_) => setsockopt(&socket, NoSum6, &true)?,
    }
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

    const UDP_NO_CHECK6_RX: libc::c_int = 102;
    #[derive(Clone, Copy, Debug)]
    struct TakesNoSum6;
    nix::setsockopt_impl!(TakesNoSum6, libc::IPPROTO_UDP, UDP_NO_CHECK6_RX, bool, sockopt::SetBool);
    nix::getsockopt_impl!(NoSum, libc::SOL_SOCKET, libc::SO_NO_CHECK, bool, sockopt::GetBool);

    fn session(local: IpAddr) -> Session {
        Session { local, remote: local, label: 5, receive: 6 }
    }

    #[test]
    fn a_path_probe_arrives_from_its_address_at_the_port_of_the_tunnels() {
        for local in ["127.0.0.1", "::1"] {
            let far = UdpSocket::bind((local, 0)).expect("a far end");
            if local == "::1" {
                setsockopt(&far, TakesNoSum6, &true).expect("allowed");
            }
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
    fn a_defect_goes_as_the_probes_of_its_session() {
        let far = UdpSocket::bind(("127.0.0.1", 0)).expect("a far end");
        let mut sockets = Sockets::new(far.local_addr().expect("bound").port());
        let local = "127.0.0.1".parse().expect("an address");
        sockets.path(PathId(1), &session(local), 3).expect("sent");
        sockets.defect(&session(local), PathId(0xabcd)).expect("sent");
        let mut bytes = [0; 200];
        let (_, probes) = far.recv_from(&mut bytes).expect("received");
        let (length, from) = far.recv_from(&mut bytes).expect("received");
        assert_eq!((length, from), (packet::PATH, probes), "the same flow");
        let stamp: [u8; 8] = bytes[54..62].try_into().expect("eight bytes");
        let stamp: ebpf_abi::probe::Stamp = zerocopy::transmute!(stamp);
        assert_eq!(bytes[..length], packet::defect(5, 0xabcd, stamp.nanos()));
    }

    /// The kernel refuses IPv6 datagrams without a checksum where nobody asked for them (RFC 8200 §8.1), and shows the one
    /// that an IPv4 datagram has to whoever reads whole packets.
    #[test]
    fn a_path_probe_has_no_udp_checksum() {
        let v6 = "::1".parse().expect("an address");
        let [strict, lax] = [(); 2].map(|()| UdpSocket::bind((v6, 0)).expect("a far end"));
        setsockopt(&lax, TakesNoSum6, &true).expect("allowed");
        for far in [&strict, &lax] {
            far.set_nonblocking(true).expect("set");
            let mut sockets = Sockets::new(far.local_addr().expect("bound").port());
            sockets.path(PathId(1), &session(v6), 3).expect("sent");
        }
        let mut bytes = [0; 200];
        assert!(strict.recv(&mut bytes).is_err() && lax.recv(&mut bytes).is_ok());
        let v4: IpAddr = "127.0.0.1".parse().expect("an address");
        let socket = bound_for_paths(v4).expect("bound");
        assert!(nix::sys::socket::getsockopt(&socket, NoSum).expect("asked"));
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
