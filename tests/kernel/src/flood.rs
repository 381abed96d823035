//! A sender that does not care: UDP packets at a steady rate, whatever becomes of them, and what arrives, and how late.
use crate::lab::namespace;
use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of each packet's payload.
pub const PAYLOAD: usize = 1_000;
/// Delays that are kept until somebody takes them: more than a minute's at 40 Mbit/s.
const DELAYS: usize = 1 << 19;

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
        let sink = namespace::inside(to, || UdpSocket::bind(target).context("listening"))?;
        sink.set_read_timeout(Some(Duration::from_millis(20)))?;
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let source = namespace::inside(from, || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(target).with_context(|| format!("a way to {target}"))?;
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let [sent, arrived] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let delays = Arc::new(Mutex::new(Vec::new()));
        let send = {
            let (stop, sent) = (stop.clone(), sent.clone());
            move || send(&source, rate, &stop, &sent)
        };
        let take = {
            let (stop, arrived, delays) = (stop.clone(), arrived.clone(), delays.clone());
            move || take(&sink, &stop, &arrived, &delays)
        };
        let threads = vec![std::thread::spawn(send), std::thread::spawn(take)];
        Ok(Self { stop, sent, arrived, delays, threads })
    }

    /// Bytes of payload that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of payload that arrived so far.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Milliseconds from end to end of the packets that arrived since it was asked last.
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

/// Nanoseconds by the clock that all namespaces share.
fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
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
    let mut bytes = [0; 2 * PAYLOAD];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut bytes) else { continue };
        arrived.fetch_add(length as u64, Ordering::Relaxed);
        let Some(sent) = bytes[..length].first_chunk::<8>() else { continue };
        let delay = now().saturating_sub(u64::from_ne_bytes(*sent)) as f64 / 1e6;
        let mut delays = delays.lock().unwrap_or_else(PoisonError::into_inner);
        if delays.len() < DELAYS {
            delays.push(delay);
        }
    }
}
