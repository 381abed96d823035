//! Traffic that counts itself: numbered UDP packets at a steady rate, TCP attempts, pings, between namespaces.
use crate::lab::namespace;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What became of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub sent: u64,
    /// Different packets that arrived.
    pub received: u64,
    pub duplicates: u64,
    /// Arrived after one that was sent later.
    pub reordered: u64,
}

impl Outcome {
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// Numbered UDP packets on their way, until [`Flow::finish`].
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<Outcome>>,
}

/// Bytes of each packet's payload; the first eight are its number.
const PAYLOAD: usize = 64;
/// How long the receiver waits for stragglers.
const QUIET: Duration = Duration::from_millis(500);

impl Flow {
    /// Sends `rate` packets per second from one namespace to `to`, an address of the other.
    pub fn start(from: &str, to_namespace: &str, to: SocketAddr, rate: u32) -> Result<Self> {
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let listening = namespace::inside(to_namespace, || {
            let socket = UdpSocket::bind(to).with_context(|| format!("listening on {to}"))?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            enlarge(&socket)?;
            Ok(socket)
        })?;
        let sending = namespace::inside(from, || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(to).with_context(|| format!("a way to {to}"))?;
            enlarge(&socket)?;
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (done, ended) = (stop.clone(), stop.clone());
        let receiver = std::thread::spawn(move || receive(&listening, &ended));
        let sender = std::thread::spawn(move || send(&sending, rate, &done));
        Ok(Self { stop, sender, receiver })
    }

    /// Stops sending, waits for stragglers, and counts.
    pub fn finish(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow::anyhow!("a thread of the flow panicked");
        let sent = self.sender.join().map_err(panicked)??;
        let outcome = self.receiver.join().map_err(panicked)??;
        Ok(Outcome { sent, ..outcome })
    }
}

/// The test shall lose no packet in its own sockets.
fn enlarge(socket: &UdpSocket) -> Result<()> {
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::RcvBufForce, &(32 << 20))?;
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::SndBufForce, &(32 << 20))?;
    Ok(())
}

fn send(socket: &UdpSocket, rate: u32, stop: &AtomicBool) -> Result<u64> {
    let (begun, mut number) = (Instant::now(), 0u64);
    let mut packet = [0u8; PAYLOAD];
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while number < due {
            packet[..8].copy_from_slice(&number.to_be_bytes());
            match socket.send(&packet) {
                Ok(_) => number += 1,
                // An answer to an earlier packet (port closed, no way): this packet was sent nevertheless or will be.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error).context(format!("packet {number}")),
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(number)
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Result<Outcome> {
    let mut seen: Vec<u64> = Vec::new();
    let (mut outcome, mut last) = (Outcome::default(), None);
    let mut packet = [0u8; PAYLOAD + 1];
    let mut heard = Instant::now();
    loop {
        match socket.recv(&mut packet) {
            Ok(PAYLOAD) => {
                heard = Instant::now();
                let number = u64::from_be_bytes(packet[..8].try_into().context("eight bytes")?);
                let (word, bit) = ((number / 64) as usize, 1u64 << (number % 64));
                if word > 1 << 24 {
                    bail!("packet number {number} was never sent");
                }
                seen.resize(seen.len().max(word + 1), 0);
                if seen[word] & bit != 0 {
                    outcome.duplicates += 1;
                    continue;
                }
                seen[word] |= bit;
                outcome.received += 1;
                outcome.reordered += u64::from(last.is_some_and(|last| number < last));
                last = Some(number.max(last.unwrap_or(0)));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) && heard.elapsed() > QUIET {
                    return Ok(outcome);
                }
            }
            Err(error) => return Err(error).context("receiving"),
        }
    }
}

/// Whether a TCP connection from a namespace to an address comes about within the time.
pub fn connects(from: &str, to: SocketAddr, patience: Duration) -> Result<bool> {
    namespace::inside(from, || match TcpStream::connect_timeout(&to, patience) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES) => Ok(false),
            _ => Err(error).with_context(|| format!("connecting to {to}")),
        },
    })
}

/// A listening TCP socket inside a namespace, accepting by the kernel's backlog alone.
pub fn listen(inside: &str, at: SocketAddr) -> Result<TcpListener> {
    namespace::inside(inside, || TcpListener::bind(at).with_context(|| format!("listening on {at}")))
}

/// What `ping` measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pings {
    pub sent: u32,
    pub received: u32,
    /// Milliseconds, on average; 0 when nothing was received.
    pub rtt: f64,
}

/// Pings from a namespace: how many, and milliseconds between them.
pub fn ping(from: &str, to: IpAddr, count: u32, every: u32) -> Result<Pings> {
    let mut command = namespace::command(from, "ping")?;
    command.args([
        "-n",
        "-q",
        "-W",
        "1",
        "-c",
        &count.to_string(),
        "-i",
        &format!("{:.3}", f64::from(every) / 1e3),
    ]);
    let output = command.arg(to.to_string()).output().context("ping did not start")?;
    parse_ping(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("ping {to} in {from}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The summary that ping prints last.
pub fn parse_ping(text: &str) -> Option<Pings> {
    let counts = text.lines().find(|line| line.contains("packets transmitted"))?;
    let numbers: Vec<u32> =
        counts.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok()).collect();
    let average = text.lines().find(|line| line.starts_with("rtt")).and_then(|line| line.split('/').nth(4));
    let [sent, received, ..] = numbers[..] else { return None };
    Some(Pings { sent, received, rtt: average.and_then(|text| text.parse().ok()).unwrap_or(0.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_ping_is_read() {
        let text = "--- 1.1.1.1 ping statistics ---\n5 packets transmitted, 4 received, 20% packet loss, time 803ms\n\
                    rtt min/avg/max/mdev = 8.599/12.177/22.075/4.992 ms\n";
        assert_eq!(parse_ping(text), Some(Pings { sent: 5, received: 4, rtt: 12.177 }));
        assert_eq!(parse_ping("ping: connect: Network is unreachable"), None);
    }

    #[test]
    fn a_flow_counts_what_it_sends() {
        // Loopback only: the threads of this test stay in their own namespace.
        let listening = UdpSocket::bind("127.0.0.1:0").expect("socket");
        listening.set_read_timeout(Some(Duration::from_millis(20))).expect("timeout");
        let sending = UdpSocket::bind("127.0.0.1:0").expect("socket");
        sending.connect(listening.local_addr().expect("address")).expect("connect");
        for number in [0u64, 1, 1, 3, 2] {
            let mut packet = [0; PAYLOAD];
            packet[..8].copy_from_slice(&number.to_be_bytes());
            sending.send(&packet).expect("send");
        }
        let outcome = receive(&listening, &AtomicBool::new(true)).expect("outcome");
        assert_eq!(outcome, Outcome { sent: 0, received: 4, duplicates: 1, reordered: 1 });
    }
}
