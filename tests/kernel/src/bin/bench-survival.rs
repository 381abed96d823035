//! Counts what is lost and what is left: agents killed and replaced under traffic, rules swapped, everything removed.
use anyhow::{Context, Result, bail};
use clap::Parser;
use ebpf_abi::maps::{VERSIONS, pin, pin_of};
use indicatif::ProgressBar;
use nix::sys::signal::Signal;
use proto_wire::v1;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tests_kernel::bench::line;
use tests_kernel::lab::{Lab, Options, Snapshot, api, binary, namespace};
use tests_kernel::measure::{Row, Spread, print};
use tests_kernel::traffic::{Flow, Outcome};

#[derive(Parser)]
struct Arguments {
    /// How often an agent is killed, and how often one is replaced.
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// How often the rule set is replaced.
    #[arg(long, default_value_t = 1_000)]
    swaps: usize,
    /// Packets per second meanwhile.
    #[arg(long, default_value_t = 20_000)]
    rate: u32,
    /// An agent of another build (`cargo xtask bench` makes one with other BPF programs); default: the debug build.
    #[arg(long)]
    other: Option<PathBuf>,
    /// An agent from before maps had layouts in their pins' names: its hosts are upgraded under traffic too.
    #[arg(long)]
    former: Option<PathBuf>,
    /// 6 kills and 30 swaps, to see that it works.
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    json: bool,
}

const HOSTS: [&str; 3] = ["a", "t", "b"];
const PORT: u16 = 7000;
const PATIENCE: u64 = 20_000_000_000;
/// Sockets that take turns: as many connections are judged by the rules of each set.
const SOCKETS: usize = 200;
/// Rows that do not match, before or after the one that does.
const IDLE_ROWS: u16 = 200;

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.kills, arguments.swaps) = (6, 30);
    }
    let before = Snapshot::of_machine()?;
    let lab = line::up("survival", None, Options { register: true, ..Options::default() })?;
    let bench = Bench { target: SocketAddr::new(address(&lab, "db")?, PORT), lab };
    let mut rows = bench.deaths(&arguments)?;
    if let Some(former) = &arguments.former {
        rows.push(bench.upgrade(former, arguments.rate)?);
    }
    rows.push(bench.swaps(arguments.swaps)?);
    rows.push(bench.deletion()?);
    rows.extend(bench.departure(&before)?);
    let how = format!(
        "A lab of three hosts, {} UDP packets per second through a circuit while agents die, each packet numbered; \
         and what is left when a circuit, an agent and the lab have gone",
        arguments.rate
    );
    print("Survival", &how, &rows, arguments.json);
    Ok(())
}

struct Bench {
    lab: Lab,
    target: SocketAddr,
}

fn address(lab: &Lab, resource: &str) -> Result<IpAddr> {
    let resources = api::ask(lab.plan(), async |mut client| {
        Ok(client.list_resources(v1::Empty {}).await?.into_inner().resources)
    })?;
    let found = resources.iter().find(|one| one.resource_id == resource).context("it is registered")?;
    Ok(found.address.as_ref().context("it has an address")?.v4.parse()?)
}

fn count(what: &str, number: u64, note: &str) -> Row {
    Row::alone(what, Spread::one(number as f64), note)
}

fn udp(port: u16) -> v1::Rule {
    v1::Rule {
        action: v1::rule::Action::Allow.into(),
        protocol: v1::rule::Protocol::Udp.into(),
        ports: Some(v1::rule::Ports { from: port.into(), to: port.into() }),
        ..v1::Rule::default()
    }
}

impl Bench {
    // ---- agents die

    fn deaths(&self, arguments: &Arguments) -> Result<Vec<Row>> {
        self.create(vec![udp(PORT)])?;
        let ours = binary("foreweave-agent")?;
        let other = match &arguments.other {
            Some(path) => path.clone(),
            None => debug_build(&ours)?,
        };
        if std::fs::read(&ours)? == std::fs::read(&other)? {
            bail!("{} and {} are the same build", ours.display(), other.display());
        }
        let killed = self.restarts(arguments, Signal::SIGKILL, |_| &ours)?;
        let builds = [&other, &ours];
        let replaced =
            self.restarts(arguments, Signal::SIGTERM, |round| builds[(round / HOSTS.len()) % 2])?;
        let row = |what: &str, outcome: Outcome| {
            let note = format!("must be 0; of {} sent, {} duplicates", outcome.sent, outcome.duplicates);
            let what = format!("packets lost while {what} {} times", arguments.kills);
            count(&what, outcome.lost(), &note)
        };
        Ok(vec![
            row("an agent was killed with -9 and started", killed),
            row("an agent was replaced by another build", replaced),
        ])
    }

    /// Ends and starts an agent again and again, in turn on every host, while packets flow.
    fn restarts<'a>(
        &self,
        arguments: &Arguments,
        by: Signal,
        build: impl Fn(usize) -> &'a PathBuf,
    ) -> Result<Outcome> {
        let bar = ProgressBar::new(arguments.kills as u64);
        let names = [self.lab.plan().namespace("web")?, self.lab.plan().namespace("db")?];
        let flow = Flow::start(&names[0], &names[1], self.target, arguments.rate)?;
        for round in 0..arguments.kills {
            self.restart(HOSTS[round % HOSTS.len()], by, build(round))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        flow.finish()
    }

    /// Every host goes from a former build to this one while packets flow. Before that, each loses its tables, because
    /// the former build would not start beside them.
    fn upgrade(&self, former: &Path, rate: u32) -> Result<Row> {
        for host in HOSTS {
            let process = self.lab.agent(host);
            process.signal(Signal::SIGTERM)?;
            process.wait_gone(Duration::from_secs(10))?;
            for (map, _) in VERSIONS {
                for pin in [pin_of(map, 1), pin(map)] {
                    std::fs::remove_file(self.lab.plan().pins(host).join(&pin)).context(pin)?;
                }
            }
            self.start(host, former)?;
        }
        let names = [self.lab.plan().namespace("web")?, self.lab.plan().namespace("db")?];
        let flow = Flow::start(&names[0], &names[1], self.target, rate)?;
        let ours = binary("foreweave-agent")?;
        for host in HOSTS {
            std::thread::sleep(Duration::from_millis(500));
            self.restart(host, Signal::SIGTERM, &ours)?;
        }
        let outcome = flow.finish()?;
        let moved = HOSTS.iter().all(|host| self.lab.plan().pins(host).join(pin("FLOWS")).exists());
        if !moved {
            bail!("the hosts were not upgraded: there is no {}", pin("FLOWS"));
        }
        let note = format!("must be 0; of {} sent, {} duplicates", outcome.sent, outcome.duplicates);
        let what =
            format!("packets lost while {} hosts were upgraded to another layout of FLOWS", HOSTS.len());
        Ok(count(&what, outcome.lost(), &note))
    }

    fn restart(&self, host: &str, by: Signal, build: &Path) -> Result<()> {
        let process = self.lab.agent(host);
        if !process.signal(by)? {
            bail!("the agent of {host} does not run:\n{}", process.last_words());
        }
        process.wait_gone(Duration::from_secs(10))?;
        self.start(host, build)
    }

    fn start(&self, host: &str, build: &Path) -> Result<()> {
        let process = self.lab.agent(host);
        let mut command = Command::new(build);
        command.args(["run", "--config"]).arg(self.lab.home(host).join("agent.toml"));
        let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64;
        process.start(&self.lab.plan().namespace(host)?, command)?;
        self.heard_since(host, begun)
    }

    /// Waits until the controller has heard the new agent report, which is after it took over the programs.
    fn heard_since(&self, host: &str, begun: u64) -> Result<()> {
        let patience = Instant::now();
        api::ask(self.lab.plan(), async |mut client| {
            loop {
                let nodes = client.list_nodes(v1::Empty {}).await?.into_inner().nodes;
                let node = nodes.iter().find(|node| node.name == host).context("the host is known")?;
                let current = node.reported_generation >= node.desired_generation;
                if node.state() == v1::node::State::Connected && node.seen > Some(begun) && current {
                    return Ok(());
                }
                if patience.elapsed() > Duration::from_secs(20) {
                    bail!("the new agent of {host} was not heard:\n{}", self.lab.agent(host).last_words());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }

    // ---- rules change

    /// Both sets allow the packets, the first by its last row and the second by its first row. The first rows of the
    /// one with the last rows of the other allow nothing: a packet judged by a mix would be lost.
    fn swaps(&self, swaps: usize) -> Result<Row> {
        let idle = (0..IDLE_ROWS).map(|port| udp(20_000 + port));
        let last: Vec<_> = idle.clone().chain([udp(PORT)]).collect();
        let first: Vec<_> = [udp(PORT)].into_iter().chain(idle).collect();
        self.replace(&first)?;
        let judged = Judged::default();
        let bar = ProgressBar::new(swaps as u64);
        let receiving =
            namespace::inside(&self.lab.plan().namespace("db")?, || Ok(UdpSocket::bind(self.target)?))?;
        nix::sys::socket::setsockopt(&receiving, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20))?;
        receiving.set_read_timeout(Some(Duration::from_millis(300)))?;
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| judged.send(&self.lab, self.target));
            let receiver = scope.spawn(|| judged.receive(&receiving));
            let done = (0..swaps).try_for_each(|round| {
                bar.inc(1);
                self.replace(if round % 2 == 0 { &last } else { &first })
            });
            judged.stop.store(true, Ordering::Relaxed);
            for thread in [sender, receiver] {
                thread.join().map_err(|_| anyhow::anyhow!("a thread of the traffic panicked"))??;
            }
            done
        })?;
        bar.finish_and_clear();
        let (sent, received) = (judged.sent.into_inner(), judged.received.into_inner());
        let note =
            format!("must be 0; of {sent} sent on {SOCKETS} connections, sets of {} rules", IDLE_ROWS + 1);
        Ok(count(
            &format!("packets judged by a mix of two rule sets in {swaps} replacements"),
            sent.saturating_sub(received),
            &note,
        ))
    }

    /// Replaces the rules and waits until both ends have them.
    fn replace(&self, rules: &[v1::Rule]) -> Result<()> {
        use v1::update_firewall_rule_request::{Edit, Replace};
        let edit = Some(Edit::Replace(Replace { rules: rules.to_vec() }));
        api::ask(self.lab.plan(), async |mut client| {
            let circuit = "web-db".to_owned();
            let request = v1::UpdateFirewallRuleRequest {
                circuit,
                expected_version: None,
                wait: 0,
                edit,
                confirm_within: 0,
            };
            client.update_firewall_rule(request).await.context("replace")?;
            loop {
                let nodes = client.list_nodes(v1::Empty {}).await?.into_inner().nodes;
                if nodes.iter().all(|node| node.reported_generation >= node.desired_generation) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    }

    // ---- everything goes

    fn create(&self, rules: Vec<v1::Rule>) -> Result<()> {
        let spec = v1::CircuitSpec {
            source: "web".into(),
            destination: "db".into(),
            rules,
            ..v1::CircuitSpec::default()
        };
        let request =
            v1::CreateCircuitRequest { circuit: Some(spec), idempotency_key: String::new(), wait: PATIENCE };
        api::ask(self.lab.plan(), async |mut client| {
            let circuit = client.create_circuit(request).await.context("create")?.into_inner();
            match circuit.state() {
                v1::circuit::State::Active => Ok(()),
                other => bail!("the circuit is {other:?}: {}", circuit.detail),
            }
        })
    }

    /// Every namespace of the lab after a circuit has come and gone, against before.
    fn deletion(&self) -> Result<Row> {
        let delete = async |mut client: api::Client| {
            let request = v1::DeleteCircuitRequest { circuit: "web-db".into(), wait: PATIENCE };
            client.delete_circuit(request).await.map(drop).context("delete")
        };
        api::ask(self.lab.plan(), delete)?;
        let before = self.networks()?;
        self.create(vec![udp(PORT)])?;
        let between: usize = before.iter().zip(self.networks()?).map(|(b, n)| b.differences(&n).len()).sum();
        api::ask(self.lab.plan(), delete)?;
        let left = before.iter().zip(self.networks()?).map(|(b, n)| b.differences(&n).len()).sum::<usize>();
        let note = format!("must be 0; while it was there: {between} differences");
        Ok(count("links, addresses, routes and rules left by a deleted circuit", left as u64, &note))
    }

    fn networks(&self) -> Result<Vec<Snapshot>> {
        self.lab.plan().namespaces().iter().map(|name| Snapshot::of_namespace(name)).collect()
    }

    fn departure(self, before: &Snapshot) -> Result<Vec<Row>> {
        self.create(vec![udp(PORT)])?;
        let process = self.lab.agent("t");
        process.signal(Signal::SIGTERM)?;
        process.wait_gone(Duration::from_secs(10))?;
        self.lab.uninstall("t")?;
        let pins = self.lab.plan().pins("t");
        let state = self.lab.home("t").join("state");
        let files = |folder: &Path| std::fs::read_dir(folder).map_or(0, Iterator::count) as u64;
        let uninstalled = files(&pins) + files(&state) + u64::from(pins.exists());
        self.lab.down()?;
        let begun = Instant::now();
        let mut left = before.differences(&Snapshot::of_machine()?);
        // The kernel frees maps and programs after a grace period.
        while !left.is_empty() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(50));
            left = before.differences(&Snapshot::of_machine()?);
        }
        left.iter().for_each(|line| eprintln!("  left: {line}"));
        Ok(vec![
            count("pins and files left by an uninstalled agent", uninstalled, "must be 0"),
            count(
                "links, routes, rules, BPF objects, pins, processes and files left by a lab",
                left.len() as u64,
                "must be 0",
            ),
        ])
    }
}

/// `target/debug` beside the `target/release` that this runs from.
fn debug_build(ours: &Path) -> Result<PathBuf> {
    let other = ours.parent().and_then(Path::parent).map(|target| target.join("debug/foreweave-agent"));
    match other.filter(|path| path.is_file() && path != ours) {
        Some(path) => Ok(path),
        None => bail!("there is no second build; run: cargo build -p agent-daemon, or say --other PATH"),
    }
}

/// Packets on many connections, of which each is judged anew when the rule set changes.
#[derive(Default)]
struct Judged {
    stop: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Judged {
    fn send(&self, lab: &Lab, to: SocketAddr) -> Result<()> {
        let sockets = namespace::inside(&lab.plan().namespace("web")?, || {
            (0..SOCKETS).map(|_| Ok(UdpSocket::bind("0.0.0.0:0")?)).collect::<Result<Vec<_>>>()
        })?;
        while !self.stop.load(Ordering::Relaxed) {
            for socket in &sockets {
                socket.send_to(&[0; 64], to)?;
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn receive(&self, socket: &UdpSocket) -> Result<()> {
        let mut packet = [0; 65];
        loop {
            match socket.recv(&mut packet) {
                Ok(_) => drop(self.received.fetch_add(1, Ordering::Relaxed)),
                Err(_) if self.stop.load(Ordering::Relaxed) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
    }
}
