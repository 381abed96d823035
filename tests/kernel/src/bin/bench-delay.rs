//! Measures what the hosts of a path add to a packet's delay: a circuit, kernel VXLAN and plain kernel routing in turn.
use anyhow::{Context, Result, bail};
use clap::Parser;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests_kernel::bench::line;
use tests_kernel::bench::rivals::{PLAIN, VXLAN, route};
use tests_kernel::lab::{Lab, Options, namespace};
use tests_kernel::measure::{Row, Spread, percentile, print};

#[derive(Parser)]
struct Arguments {
    /// Rounds; each measures every way.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Packets there and back per way and round.
    #[arg(long, default_value_t = 3000)]
    exchanges: u32,
    /// Two short rounds, to see that it works.
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    json: bool,
}

const PORT: u16 = 9000;
/// Between two packets: the machine is idle when one comes.
const PAUSE: Duration = Duration::from_micros(300);
/// Packets before the first round, which find neighbours and fill caches.
const WARMING: u32 = 200;
/// Hosts on the way, each of which is crossed there and back.
const HOSTS: f64 = 3.0;

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rounds, arguments.exchanges) = (2, 200);
    }
    let service = format!("udp/{PORT}");
    // Two labs, so that the kernel's ways meet none of our programs.
    let bare = Options { bare: true, ..Options::default() };
    let kernel = line::up("kernel", Some(&service), bare)?;
    route(&kernel)?;
    let register = Options { register: true, ..Options::default() };
    let circuit = line::up("circuit", Some(&service), register)?;
    let ways = [
        Exchange::open(&circuit, weave(&circuit)?)?,
        Exchange::open(&kernel, VXLAN.parse()?)?,
        Exchange::open(&kernel, PLAIN.parse()?)?,
    ];
    let rounds = measure(&ways, &arguments)?;
    drop(ways);
    kernel.down()?;
    circuit.down()?;
    let how = format!(
        "{} rounds; in each {} UDP packets of 64 bytes there and back per way, one at a time and the ways packet by packet \
         in turn; workload – endpoint – transit – endpoint – workload. What a host adds in one direction is a sixth of the \
         round trips' difference",
        arguments.rounds, arguments.exchanges
    );
    print("Delay", &how, &rows(&rounds), arguments.json);
    Ok(())
}

/// Round trips in microseconds: by round, then by way.
type Rounds = Vec<[Vec<f64>; 3]>;

fn measure(ways: &[Exchange; 3], arguments: &Arguments) -> Result<Rounds> {
    for way in ways {
        way.warm()?;
    }
    let mut rounds = Vec::new();
    for round in 0..arguments.rounds {
        let mut times: [Vec<f64>; 3] = Default::default();
        for n in 0..arguments.exchanges {
            // No way always follows the same other one.
            for index in 0..3 {
                let way = (index + n as usize) % 3;
                times[way].push(ways[way].once()?.context("a packet was lost")?);
            }
        }
        let p99 = times.each_ref().map(|times| percentile(times, 0.99));
        eprintln!(
            "  round {}: p99 circuit {:.1}, VXLAN {:.1}, routing {:.1} µs",
            round + 1,
            p99[0],
            p99[1],
            p99[2]
        );
        rounds.push(times);
    }
    Ok(rounds)
}

fn rows(rounds: &Rounds) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let of =
            |way: usize| -> Vec<f64> { rounds.iter().map(|times| percentile(&times[way], share)).collect() };
        let [circuit, vxlan, plain] = [0, 1, 2].map(of);
        let what = format!("there and back through a circuit, {name}, µs");
        let spread = Spread::of(&circuit);
        rows.push(Row::compared(&what, spread, "plain kernel routing", Spread::of(&plain)));
        rows.push(Row::compared(&what, spread, "kernel routing + kernel VXLAN", Spread::of(&vxlan)));
        let added: Vec<f64> =
            circuit.iter().zip(&plain).map(|(ours, theirs)| (ours - theirs) / (2.0 * HOSTS)).collect();
        let what = format!("added by a host in one direction over plain kernel routing, {name}, µs");
        let note = if name == "p99" { "must be ≤ 10" } else { "" };
        rows.push(Row::alone(&what, Spread::of(&added), note));
    }
    rows
}

/// A circuit from web to db; returns db's address in the fabric.
fn weave(lab: &Lab) -> Result<IpAddr> {
    let allow = format!("udp/{PORT}");
    let output = lab.foreweave()?.args(["circuit", "create", "web", "db", "--allow", &allow]).output()?;
    if !output.status.success() {
        bail!("no circuit: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let answer = lab.foreweave()?.args(["--json", "resource", "show", "db"]).output()?;
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.stdout).context("foreweave resource show")?;
    Ok(answer["address"]["v4"].as_str().context("db has no address")?.parse()?)
}

/// A socket of web, and one of db that sends back what comes, until it is dropped.
struct Exchange {
    near: UdpSocket,
    end: Arc<AtomicBool>,
    echo: Option<std::thread::JoinHandle<()>>,
}

impl Exchange {
    fn open(lab: &Lab, to: IpAddr) -> Result<Self> {
        let to = SocketAddr::new(to, PORT);
        let inside = |workload: &str| format!("fwl-{}-{workload}", lab.plan().name);
        let far = namespace::inside(&inside("db"), || {
            let socket = UdpSocket::bind(to).with_context(|| format!("listening on {to}"))?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            Ok(socket)
        })?;
        let near = namespace::inside(&inside("web"), || {
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            socket.connect(to).with_context(|| format!("a way to {to}"))?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            Ok(socket)
        })?;
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let echo = std::thread::spawn(move || {
            let mut bytes = [0; 128];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((length, from)) = far.recv_from(&mut bytes) {
                    let _ = far.send_to(&bytes[..length], from);
                }
            }
        });
        Ok(Self { near, end, echo: Some(echo) })
    }

    fn warm(&self) -> Result<()> {
        let begun = Instant::now();
        let mut answered = 0;
        while answered < WARMING {
            answered += u32::from(self.once()?.is_some());
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("{answered} of {WARMING} packets came back from {}", self.near.peer_addr()?);
            }
        }
        Ok(())
    }

    /// Microseconds there and back; none: it did not come back.
    fn once(&self) -> Result<Option<f64>> {
        std::thread::sleep(PAUSE);
        let mut bytes = [0; 128];
        let begun = Instant::now();
        match self.near.send(&[7; 64]).and_then(|_| self.near.recv(&mut bytes)) {
            Ok(_) => Ok(Some(begun.elapsed().as_secs_f64() * 1e6)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error).context("no exchange"),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(echo) = self.echo.take() {
            let _ = echo.join();
        }
    }
}
