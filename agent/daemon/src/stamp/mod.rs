//! Answers STAMP requests that the data plane leaves to user space: authenticated ones (RFC 8762 §4.4), and those of
//! senders that are no neighbours of this host but that the operator allows.
mod packet;
mod quota;

use crate::config::Stamp;
use anyhow::{Context, Result, bail};
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use nix::time::{ClockId, clock_gettime};
use packet::{Key, Moments};
use proto_model::rule::Prefix;
use quota::{Numbers, Quota};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as Socket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::{debug, info};

/// Bytes of the longest request that is answered.
const LONGEST: usize = 2_048;
/// Bytes of a key. The shortest is as long as the HMAC that it makes.
const KEY: std::ops::RangeInclusive<usize> = 16..=1_024;

/// A listening reflector.
#[derive(Debug)]
pub struct Reflector {
    socket: UdpSocket,
    allow: Vec<Prefix>,
    key: Option<Key>,
    quota: Quota,
    numbers: Numbers,
}

/// A request as it came.
struct Arrived {
    length: usize,
    from: SocketAddr,
    /// This host's address that it came to, so that the answer comes from there.
    to: Option<libc::in6_pktinfo>,
    ttl: u8,
    /// Nanoseconds since 1970, UTC; the kernel's.
    received: u64,
}

impl Reflector {
    /// Inside of a tokio runtime.
    ///
    /// # Errors
    /// When the key cannot be read or is none, or the port is somebody else's.
    pub fn open(config: &Stamp) -> Result<Self> {
        let key = config.key_file.as_deref().map(read_key).transpose()?;
        let socket = listen(config.port).with_context(|| {
            let port = config.port;
            format!("cannot answer STAMP on UDP port {port} ([stamp] port; below 1024 it needs CAP_NET_BIND_SERVICE)")
        })?;
        info!(address = %socket.local_addr()?, authenticated = key.is_some(), "answers STAMP");
        let socket = UdpSocket::from_std(socket)?;
        let (quota, numbers) = (Quota::new(Instant::now()), Numbers::default());
        Ok(Self { socket, allow: config.allow.clone(), key, quota, numbers })
    }

    /// # Errors
    /// Never while the socket exists.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Answers until it is dropped.
    ///
    /// # Errors
    /// When the socket failed.
    pub async fn run(mut self) -> Result<()> {
        let mut bytes = vec![0; LONGEST];
        loop {
            let arrived =
                self.socket.async_io(Interest::READABLE, || receive(&self.socket, &mut bytes)).await;
            match arrived {
                Ok(arrived) => self.respond(&bytes[..arrived.length], &arrived),
                // Such as an ICMP error that an earlier answer caused.
                Err(error) => debug!(%error, "nothing received"),
            }
        }
    }

    fn respond(&mut self, asked: &[u8], arrived: &Arrived) {
        if let Err(why) = self.try_to_respond(asked, arrived) {
            crate::metrics::stamp_refused(why);
            debug!(from = %arrived.from, why, "request not answered");
            return;
        }
        crate::metrics::stamp_answered();
    }

    fn try_to_respond(&mut self, asked: &[u8], arrived: &Arrived) -> Result<(), &'static str> {
        let from = arrived.from;
        let address = from.ip().to_canonical();
        if !self.allow.iter().any(|prefix| prefix.contains(address)) {
            return Err("not_allowed");
        }
        // Another reflector's answer: the two would answer each other for ever.
        if from.port() == ebpf_abi::probe::PORT || from.port() == self.port() {
            return Err("from_a_reflector");
        }
        if !self.quota.take(address, Instant::now()) {
            return Err("too_many");
        }
        let request = packet::read(asked, self.key.as_ref()).map_err(|refusal| match refusal {
            packet::Refusal::TooShort => "too_short",
            packet::Refusal::NoKey => "no_key",
            packet::Refusal::WrongKey => "wrong_key",
        })?;
        let number = self.numbers.next(from, request.session);
        let moments = moments(arrived.received).ok_or("no_clock")?;
        let answer = packet::answer(asked, &request, &moments, (number, arrived.ttl), self.key.as_ref());
        send(&self.socket, &answer, arrived).map_err(|error| {
            debug!(%from, %error, "answer not sent");
            "not_sent"
        })
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }
}

/// Of both families; of IPv4 alone where the kernel has no IPv6.
fn listen(port: u16) -> Result<Socket> {
    let socket = match Socket::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Ok(socket) => {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            socket
        }
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            Socket::bind((Ipv4Addr::UNSPECIFIED, port))?
        }
        Err(error) => return Err(error.into()),
    };
    setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn read_key(path: &Path) -> Result<Key> {
    let shown = path.display();
    let mode = std::fs::metadata(path).with_context(|| format!("key_file {shown}"))?.permissions().mode();
    if mode & 0o007 != 0 {
        bail!("key_file {shown} is open to everybody (mode {:o}); chmod 600 it", mode & 0o777);
    }
    let bytes = std::fs::read(path).with_context(|| format!("key_file {shown}"))?;
    // Editors end a file with a line break, which nobody counts as part of a key.
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if !KEY.contains(&bytes.len()) {
        bail!("key_file {shown} holds {} bytes; {} to {} are allowed", bytes.len(), KEY.start(), KEY.end());
    }
    Ok(Key::new(bytes))
}

fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> std::io::Result<Arrived> {
    let mut control = cmsg_space!(libc::in6_pktinfo, libc::timespec, libc::c_int);
    let mut parts = [IoSliceMut::new(bytes)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(std::io::Error::other(format!("a request of more than {LONGEST} bytes")));
    }
    let from = message.address.as_ref().and_then(address).ok_or(std::io::ErrorKind::InvalidData)?;
    let mut arrived = Arrived { length: message.bytes, from, to: None, ttl: 255, received: 0 };
    for one in message.cmsgs()? {
        match one {
            ControlMessageOwned::Ipv6PacketInfo(info) => arrived.to = Some(info),
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                arrived.ttl = u8::try_from(ttl).unwrap_or(u8::MAX);
            }
            ControlMessageOwned::ScmTimestampns(time) => {
                arrived.received = time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64;
            }
            _ => {}
        }
    }
    Ok(arrived)
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    v4.or_else(|| {
        let v6 = storage.as_sockaddr_in6()?;
        // With its scope: a link-local address is not one without.
        Some(std::net::SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into())
    })
}

fn send(socket: &UdpSocket, answer: &[u8], arrived: &Arrived) -> nix::Result<()> {
    // The routes choose the interface; the address is the one that was asked.
    let info = arrived.to.map(|info| libc::in6_pktinfo { ipi6_ifindex: 0, ..info });
    let control: Vec<ControlMessage<'_>> = info.iter().map(ControlMessage::Ipv6PacketInfo).collect();
    let to = SockaddrStorage::from(arrived.from);
    let flags = MsgFlags::MSG_DONTWAIT;
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(answer)], &control, flags, Some(&to)).map(|_| ())
}

/// None: the host has no clock that runs.
fn moments(received: u64) -> Option<Moments> {
    let now = |clock| {
        let time = clock_gettime(clock).ok()?;
        Some(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    };
    let (answered, tai) = (now(ClockId::CLOCK_REALTIME)?, now(ClockId::CLOCK_TAI)?);
    // Between the two readings some nanoseconds passed; leap seconds are whole.
    let tai_ahead = (tai.saturating_sub(answered) + 500_000_000) / 1_000_000_000 * 1_000_000_000;
    // The kernel stamps from the second packet on at the latest.
    let received = if received == 0 { answered } else { received };
    Some(Moments { received, answered, tai_ahead })
}
