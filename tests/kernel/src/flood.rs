//! A sender that does not care: UDP packets at a steady rate, whatever becomes of them, and what arrives, and how late.
use crate::lab::namespace;
use crate::urgent::become_urgent;
use anyhow::{Context, Result};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of each packet's payload.
pub const PAYLOAD: usize = 1_000;
/// Delays that are kept until somebody takes them: more than a minute's at 40 Mbit/s.
const DELAYS: usize = 1 << 19;

/// How a flood's sender gets its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As every thread does: where others want the processors too, packets come in heaps.
    Ordinary,
    /// Before others (`SCHED_FIFO`): so that its delays are those of the way and not of the sender.
    First,
}

/// Packets on their way, until it is dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
    delays: Arc<Mutex<Vec<f64>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Sends `rate` bits per second of payload from one namespace to an address in another.
    ///
    /// # Errors
    /// No such namespace or address.
    pub fn start(from: &str, to: &str, target: SocketAddr, rate: u64) -> Result<Self> {
        Self::start_in_turn(from, to, target, rate, Turn::Ordinary)
    }

    /// The same, by a sender that gets its turn so.
    ///
    /// # Errors
    /// No such namespace or address, or the turn is not to be had.
    pub fn start_in_turn(from: &str, to: &str, target: SocketAddr, rate: u64, turn: Turn) -> Result<Self> {
        let sink = namespace::inside(to, || UdpSocket::bind(target).context("listening"))?;
        sink.set_read_timeout(Some(Duration::from_millis(20)))?;
        setsockopt(&sink, sockopt::ReceiveTimestampns, &true).context("SO_TIMESTAMPNS")?;
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let source = namespace::inside(from, || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(target).with_context(|| format!("a way to {target}"))?;
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let [sent, arrived] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let delays = Arc::new(Mutex::new(Vec::new()));
        let (ready, turned) = std::sync::mpsc::channel();
        let send = {
            let (stop, sent) = (stop.clone(), sent.clone());
            move || {
                let turned = match turn {
                    Turn::Ordinary => Ok(()),
                    Turn::First => become_urgent(),
                };
                let go = turned.is_ok();
                // Who asked waits for it.
                let _ = ready.send(turned);
                if go {
                    send(&source, rate, &stop, &sent);
                }
            }
        };
        let take = {
            let (stop, arrived, delays) = (stop.clone(), arrived.clone(), delays.clone());
            move || take(&sink, &stop, &arrived, &delays)
        };
        let threads = vec![std::thread::spawn(send), std::thread::spawn(take)];
        let flood = Self { stop, sent, arrived, delays, threads };
        turned.recv().context("the sender ended")??;
        Ok(flood)
    }

    /// Bytes of payload that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of payload that arrived so far.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Milliseconds of the packets that arrived since it was asked last, from the call that sends one until the kernel of the
    /// receiving host takes it from the wire: what a reader takes to wake up is not the way's.
    pub fn take_delays(&self) -> Vec<f64> {
        std::mem::take(&mut *self.delays.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Nanoseconds by the clock that all namespaces share, and by which the kernel stamps what arrives.
fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, nanos)
}

fn nanos(time: TimeSpec) -> u64 {
    Duration::from(time).as_nanos() as u64
}

/// As many packets as are due, each millisecond.
fn send(socket: &UdpSocket, rate: u64, stop: &AtomicBool, sent: &AtomicU64) {
    let (begun, mut bytes) = (Instant::now(), [7; PAYLOAD]);
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_nanos() * u128::from(rate) / 8 / 1_000_000_000) as u64 / PAYLOAD as u64;
        while count < due {
            bytes[..8].copy_from_slice(&now().to_ne_bytes());
            // What the kernel does not take is lost like any other.
            let _ = socket.send(&bytes);
            count += 1;
        }
        sent.store(count * PAYLOAD as u64, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn take(socket: &UdpSocket, stop: &AtomicBool, arrived: &AtomicU64, delays: &Mutex<Vec<f64>>) {
    let (mut bytes, mut room) = ([0; 2 * PAYLOAD], nix::cmsg_space!(TimeSpec));
    while !stop.load(Ordering::Relaxed) {
        let Some((length, at)) = receive(socket, &mut bytes, &mut room) else { continue };
        arrived.fetch_add(length as u64, Ordering::Relaxed);
        let Some(sent) = bytes[..length].first_chunk::<8>() else { continue };
        let delay = at.saturating_sub(u64::from_ne_bytes(*sent)) as f64 / 1e6;
        let mut delays = delays.lock().unwrap_or_else(PoisonError::into_inner);
        if delays.len() < DELAYS {
            delays.push(delay);
        }
    }
}

/// A packet's length, and when the kernel had it; none: nothing came for a while.
fn receive(socket: &UdpSocket, bytes: &mut [u8], room: &mut [u8]) -> Option<(usize, u64)> {
    let mut into = [IoSliceMut::new(bytes)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(room), MsgFlags::empty()).ok()?;
    let stamp = message.cmsgs().ok()?.find_map(|told| match told {
        ControlMessageOwned::ScmTimestampns(at) => Some(nanos(at)),
        _ => None,
    });
    Some((message.bytes, stamp?))
}
