//! A sender that does not care: UDP packets at a steady rate, whatever becomes of them, and what arrives.
use crate::lab::namespace;
use anyhow::{Context, Result};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of each packet's payload.
pub const PAYLOAD: usize = 1_000;

/// Packets on their way, until it is dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
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
        let send = {
            let (stop, sent) = (stop.clone(), sent.clone());
            move || send(&source, rate, &stop, &sent)
        };
        let take = {
            let (stop, arrived) = (stop.clone(), arrived.clone());
            move || take(&sink, &stop, &arrived)
        };
        let threads = vec![std::thread::spawn(send), std::thread::spawn(take)];
        Ok(Self { stop, sent, arrived, threads })
    }

    /// Bytes of payload that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of payload that arrived so far.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
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

/// As many packets as are due, each millisecond.
fn send(socket: &UdpSocket, rate: u64, stop: &AtomicBool, sent: &AtomicU64) {
    let (begun, bytes) = (Instant::now(), [7; PAYLOAD]);
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_nanos() * u128::from(rate) / 8 / 1_000_000_000) as u64 / PAYLOAD as u64;
        while count < due {
            // What the kernel does not take is lost like any other.
            let _ = socket.send(&bytes);
            count += 1;
        }
        sent.store(count * PAYLOAD as u64, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn take(socket: &UdpSocket, stop: &AtomicBool, arrived: &AtomicU64) {
    let mut bytes = [0; 2 * PAYLOAD];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut bytes) {
            arrived.fetch_add(length as u64, Ordering::Relaxed);
        }
    }
}
