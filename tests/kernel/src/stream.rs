//! A conversation whose every packet is timed: numbered UDP packets at a steady pace, both ways at once.
use crate::lab::namespace;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two packets of one direction.
const PACE: Duration = Duration::from_millis(1);
/// Bytes of each packet's payload; the first eight are its number.
const PAYLOAD: usize = 64;
/// How long the receivers wait for stragglers.
const QUIET: Duration = Duration::from_millis(300);

/// One side of the conversation.
#[derive(Clone, Debug)]
pub struct Side {
    pub namespace: String,
    pub address: SocketAddr,
}

/// What arrived of one direction.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub sent: u64,
    /// Number and time of each packet's first arrival, in the order of arrival.
    pub arrivals: Vec<(u64, Instant)>,
    pub duplicates: u64,
}

/// Packets on their way, until [`Stream::finish`].
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    /// Arrived so far, by direction.
    arrived: [Arc<AtomicU64>; 2],
    senders: [JoinHandle<Result<u64>>; 2],
    receivers: [JoinHandle<Result<Trace>>; 2],
}

impl Stream {
    /// Starts both directions between two sockets, the first one a little earlier: it opens the connection, as far as
    /// firewalls on the way know connections.
    ///
    /// # Errors
    /// No such namespace or address, or the port is taken.
    pub fn start(near: &Side, far: &Side) -> Result<Self> {
        let (near_socket, far_socket) = (socket(near, far)?, socket(far, near)?);
        let stop = Arc::new(AtomicBool::new(false));
        let arrived = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let receiver = |socket: &UdpSocket, arrived: &Arc<AtomicU64>| -> Result<JoinHandle<Result<Trace>>> {
            let (socket, stop, arrived) = (socket.try_clone()?, stop.clone(), arrived.clone());
            Ok(std::thread::spawn(move || receive(&socket, &stop, &arrived)))
        };
        let receivers = [receiver(&far_socket, &arrived[0])?, receiver(&near_socket, &arrived[1])?];
        let sender = |socket: UdpSocket| {
            let stop = stop.clone();
            std::thread::spawn(move || send(&socket, &stop))
        };
        let first = sender(near_socket);
        std::thread::sleep(Duration::from_millis(20));
        let senders = [first, sender(far_socket)];
        Ok(Self { stop, arrived, senders, receivers })
    }

    /// Packets that arrived so far, by direction.
    pub fn arrived(&self) -> [u64; 2] {
        [0, 1].map(|direction: usize| self.arrived[direction].load(Ordering::Relaxed))
    }

    /// Waits until so many more packets have arrived in both directions; false when they have not in time.
    pub fn flows(&self, more: u64, patience: Duration) -> bool {
        let (before, begun) = (self.arrived(), Instant::now());
        while begun.elapsed() < patience {
            let now = self.arrived();
            if now.iter().zip(&before).all(|(now, before)| *now >= before + more) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Stops, waits for stragglers, and tells both directions: from the first side to the second, and back.
    ///
    /// # Errors
    /// A socket failed.
    pub fn finish(self) -> Result<[Trace; 2]> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow::anyhow!("a thread of the stream panicked");
        let [there, back] = self.senders.map(|thread| thread.join().map_err(panicked).flatten());
        let [far, near] = self.receivers.map(|thread| thread.join().map_err(panicked).flatten());
        Ok([Trace { sent: there?, ..far? }, Trace { sent: back?, ..near? }])
    }
}

impl Trace {
    /// The longest time without an arrival that ended at or after `event`; none when nothing arrived then.
    pub fn longest_gap(&self, event: Instant) -> Option<Duration> {
        let pairs = self.arrivals.windows(2).filter(|pair| pair[1].1 >= event);
        pairs.map(|pair| pair[1].1 - pair[0].1).max()
    }

    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrivals.len() as u64)
    }
}

fn socket(own: &Side, other: &Side) -> Result<UdpSocket> {
    namespace::inside(&own.namespace, || {
        let socket = UdpSocket::bind(own.address).with_context(|| format!("listening on {}", own.address))?;
        socket.connect(other.address).with_context(|| format!("a way to {}", other.address))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(8 << 20))?;
        Ok(socket)
    })
}

/// What the kernel answers while a way is being lost; the packet counts as sent.
fn is_no_way(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionRefused
        || matches!(
            error.raw_os_error(),
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::ENOBUFS | libc::EINVAL)
        )
}

fn send(socket: &UdpSocket, stop: &AtomicBool) -> Result<u64> {
    let _ = nix::sys::prctl::set_timerslack(1);
    let (begun, mut number) = (Instant::now(), 0u64);
    let mut packet = [0u8; PAYLOAD];
    while !stop.load(Ordering::Relaxed) {
        let due = begun + PACE * u32::try_from(number).context("the stream lasts too long")?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        packet[..8].copy_from_slice(&number.to_be_bytes());
        match socket.send(&packet) {
            Ok(_) => {}
            Err(error) if is_no_way(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("packet {number}")),
        }
        number += 1;
    }
    Ok(number)
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, arrived: &AtomicU64) -> Result<Trace> {
    let (mut trace, mut seen) = (Trace::default(), Vec::<bool>::new());
    let mut packet = [0u8; PAYLOAD + 1];
    let mut heard = Instant::now();
    loop {
        match socket.recv(&mut packet) {
            Ok(PAYLOAD) => {
                heard = Instant::now();
                let number = u64::from_be_bytes(packet[..8].try_into().context("eight bytes")?);
                let place = usize::try_from(number)?;
                if place > 1 << 24 {
                    bail!("packet number {number} was never sent");
                }
                seen.resize(seen.len().max(place + 1), false);
                if std::mem::replace(&mut seen[place], true) {
                    trace.duplicates += 1;
                } else {
                    trace.arrivals.push((number, heard));
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if is_no_way(&error) => {}
            Err(error) => return Err(error).context("receiving"),
        }
        if stop.load(Ordering::Relaxed) && heard.elapsed() > QUIET {
            return Ok(trace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(millis: &[u64]) -> (Trace, Instant) {
        let zero = Instant::now();
        let arrival = |(number, at): (usize, &u64)| (number as u64, zero + Duration::from_millis(*at));
        let arrivals = millis.iter().enumerate().map(arrival).collect();
        (Trace { sent: 9, arrivals, duplicates: 0 }, zero)
    }

    #[test]
    fn a_gap_counts_when_it_ends_after_the_event() {
        let (trace, zero) = trace(&[0, 50, 51, 52, 90, 91]);
        assert_eq!(trace.longest_gap(zero + Duration::from_millis(60)), Some(Duration::from_millis(38)));
        assert_eq!(trace.longest_gap(zero), Some(Duration::from_millis(50)));
        assert_eq!(trace.longest_gap(zero + Duration::from_millis(92)), None);
        assert_eq!(trace.lost(), 3);
    }

    #[test]
    fn numbers_that_come_twice_are_counted_once() {
        let [one, other] = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").expect("socket"));
        one.connect(other.local_addr().expect("address")).expect("connect");
        other.connect(one.local_addr().expect("address")).expect("connect");
        other.set_read_timeout(Some(Duration::from_millis(20))).expect("timeout");
        for number in [0u64, 1, 1, 3] {
            let mut packet = [0; PAYLOAD];
            packet[..8].copy_from_slice(&number.to_be_bytes());
            one.send(&packet).expect("send");
        }
        let trace = receive(&other, &AtomicBool::new(true), &AtomicU64::new(0)).expect("trace");
        let numbers: Vec<u64> = trace.arrivals.iter().map(|(number, _)| *number).collect();
        assert_eq!((numbers, trace.duplicates), (vec![0, 1, 3], 1));
    }
}
