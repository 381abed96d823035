//! Measures TCP through an encrypted circuit against wireguard-go and Nebula, and what changes of keys, agents and
//! sealers cost.
use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::signal::Signal;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests_kernel::bench::line;
use tests_kernel::lab::{Lab, Options, binary, namespace};
use tests_kernel::measure::{Row, Spread, print};
use tests_kernel::traffic::Flow;

#[derive(Parser)]
struct Arguments {
    /// Rounds; each measures every way once.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// An agent of another build (`cargo xtask bench` makes one with other BPF programs).
    #[arg(long)]
    other: Option<PathBuf>,
    /// Only what changes of keys, agents and sealers cost.
    #[arg(long)]
    changes: bool,
    /// Two rounds of one second, to see that it works.
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    json: bool,
}

/// Packets per second while keys change, and how long.
const RATE: u32 = 20_000;
const SPAN: Duration = Duration::from_secs(8);
const PORT: u16 = 9_000;
const WIREGUARD: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const NEBULA: [&str; 2] = ["10.78.0.1", "10.78.0.2"];

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rounds, arguments.seconds) = (2, 1);
    }
    let lab = line::up("encryption", Some("tcp/5201"), Options { register: true, ..Options::default() })?;
    let target = weave(&lab)?;
    let mut rows = if arguments.changes { Vec::new() } else { speed(&lab, target, &arguments)? };
    rows.extend(changes(&lab, target, &arguments)?);
    lab.down()?;
    let how = format!(
        "{} rounds of {} s per way, one stream, the ways in turn, all in one lab; then {RATE} UDP packets per second",
        arguments.rounds, arguments.seconds
    );
    print("Encryption", &how, &rows, arguments.json);
    Ok(())
}

fn speed(lab: &Lab, target: IpAddr, arguments: &Arguments) -> Result<Vec<Row>> {
    route(lab)?;
    let wireguard = Rival::wireguard(lab)?;
    let nebula = Rival::nebula(lab)?;
    // From where, to where, to which address.
    let ways: [(&str, &str, IpAddr); 3] =
        [("web", "db", target), ("a", "b", WIREGUARD[1].parse()?), ("a", "b", NEBULA[1].parse()?)];
    let mut measured: [Vec<f64>; 3] = Default::default();
    for round in 0..arguments.rounds {
        for way in (0..3).map(|index| (index + round as usize) % 3) {
            let (from, to, address) = ways[way];
            measured[way].push(line::stream(lab, from, to, address, arguments.seconds)?);
            eprintln!("  round {}: way {way}: {:.2} Gbit/s", round + 1, measured[way].last().unwrap_or(&0.0));
        }
    }
    drop((wireguard, nebula));
    let [ours, wireguard, nebula] = measured.map(|values| Spread::of(&values));
    let what =
        "TCP through an encrypted circuit, workload – endpoint – transit – endpoint – workload, Gbit/s";
    Ok(vec![
        Row::compared(what, ours, "wireguard-go from host to host, without workloads", wireguard),
        Row::compared(what, ours, "Nebula from host to host, without workloads", nebula),
    ])
}

/// An encrypted circuit from web to db; returns db's address in the fabric.
fn weave(lab: &Lab) -> Result<IpAddr> {
    let create = ["circuit", "create", "web", "db", "--encrypted", "--allow", "tcp/5201", "--allow"];
    let output = lab.foreweave()?.args(create).arg(format!("udp/{PORT}")).output()?;
    if !output.status.success() {
        bail!("no circuit: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let answer = lab.foreweave()?.args(["--json", "resource", "show", "db"]).output()?;
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.stdout).context("foreweave resource show")?;
    Ok(answer["address"]["v4"].as_str().context("db has no address")?.parse()?)
}

/// Outer address of an end of a link.
fn outer(lab: &Lab, link: usize, end: usize) -> IpAddr {
    lab.plan().links[link].ends[end].addresses[0].0
}

/// The two edges reach each other over the transit host by kernel routing, for the others.
fn route(lab: &Lab) -> Result<()> {
    let (a, via_a, via_b, b) = (outer(lab, 0, 0), outer(lab, 0, 1), outer(lab, 1, 0), outer(lab, 1, 1));
    run(lab, "t", "echo 1 > /proc/sys/net/ipv4/ip_forward")?;
    run(lab, "a", &format!("ip route add {b}/32 via {via_a}"))?;
    run(lab, "b", &format!("ip route add {a}/32 via {via_b}"))
}

fn run(lab: &Lab, node: &str, script: &str) -> Result<()> {
    let output = namespace::command(&lab.plan().namespace(node)?, "sh")?.args(["-ec", script]).output()?;
    if !output.status.success() {
        bail!("on {node}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Another program that encrypts between the two edges, until it is dropped.
struct Rival {
    children: Vec<Child>,
    _files: tempfile::TempDir,
}

impl Rival {
    fn new() -> Result<Self> {
        Ok(Self { children: Vec::new(), _files: tempfile::tempdir()? })
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self._files.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn start(&mut self, lab: &Lab, node: &str, program: &str, arguments: &[&str]) -> Result<()> {
        let mut command = namespace::command(&lab.plan().namespace(node)?, program)?;
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(command.spawn().with_context(|| program.to_owned())?);
        Ok(())
    }

    fn wireguard(lab: &Lab) -> Result<Self> {
        let mut rival = Self::new()?;
        let keys = [keypair()?, keypair()?];
        let addresses = [outer(lab, 0, 0), outer(lab, 1, 1)];
        for (i, node) in ["a", "b"].into_iter().enumerate() {
            let device = format!("wg{node}{}", std::process::id() % 100_000);
            rival.start(lab, node, "wireguard-go", &["-f", &device])?;
            let secret = rival.file(&format!("secret-{node}"), &keys[i].0)?;
            let (far, public) = (1 - i, &keys[1 - i].1);
            run(
                lab,
                node,
                &format!(
                    "n=0; until ip link show {device} >/dev/null 2>&1 && wg show {device} >/dev/null 2>&1
                     do n=$((n+1)); test $n -lt 100; sleep 0.1; done
                     wg set {device} listen-port 51820 private-key {secret} peer {public} allowed-ips {there}/32 endpoint {endpoint}:51820
                     ip address add {here}/24 dev {device}; ip link set {device} mtu 1420 up",
                    secret = secret.display(),
                    there = WIREGUARD[far],
                    here = WIREGUARD[i],
                    endpoint = addresses[far],
                ),
            )?;
        }
        Ok(rival)
    }

    fn nebula(lab: &Lab) -> Result<Self> {
        let mut rival = Self::new()?;
        let folder = rival._files.path().to_owned();
        certify(&folder, &["ca", "-name", "bench"])?;
        let addresses = [outer(lab, 0, 0), outer(lab, 1, 1)];
        for (i, node) in ["a", "b"].into_iter().enumerate() {
            certify(&folder, &["sign", "-name", node, "-ip", &format!("{}/24", NEBULA[i])])?;
            let far = 1 - i;
            let path = folder.display();
            let text = format!(
                "pki: {{ca: {path}/ca.crt, cert: {path}/{node}.crt, key: {path}/{node}.key}}
static_host_map: {{\"{there}\": [\"{endpoint}:4242\"]}}
lighthouse: {{am_lighthouse: false}}
listen: {{host: 0.0.0.0, port: 4242}}
tun: {{dev: neb{node}, mtu: 1440}}
logging: {{level: error}}
firewall: {{outbound: [{{port: any, proto: any, host: any}}], inbound: [{{port: any, proto: any, host: any}}]}}
",
                there = NEBULA[far],
                endpoint = addresses[far],
            );
            let config = rival.file(&format!("{node}.yml"), &text)?;
            rival.start(lab, node, "nebula", &["-config", &config.display().to_string()])?;
        }
        run(
            lab,
            "a",
            &format!("n=0; until ping -c1 -W1 {} >/dev/null; do n=$((n+1)); test $n -lt 20; done", NEBULA[1]),
        )?;
        Ok(rival)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Secret and public key.
fn keypair() -> Result<(String, String)> {
    let secret = String::from_utf8(Command::new("wg").arg("genkey").output().context("wg")?.stdout)?;
    let mut child = Command::new("wg")
        .arg("pubkey")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("wg")?;
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, secret.as_bytes())?;
    let public = String::from_utf8(child.wait_with_output()?.stdout)?;
    Ok((secret, public.trim().to_owned()))
}

fn certify(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("nebula-cert").args(arguments).current_dir(folder).output().context("nebula-cert")?;
    if !output.status.success() {
        bail!("nebula-cert: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// How often agents and sealers are killed and replaced, in turn on both ends.
const TURNS: usize = 4;
/// The hosts that encrypt.
const ENDS: [&str; 2] = ["a", "b"];

/// What is lost while sessions and hosts get new keys, and while agents and sealers die or are replaced.
fn changes(lab: &Lab, target: IpAddr, arguments: &Arguments) -> Result<Vec<Row>> {
    let bench = Changes { lab, target: SocketAddr::new(target, PORT) };
    bench.hurry()?;
    let folder = tempfile::tempdir()?;
    let other = match &arguments.other {
        Some(path) => path.clone(),
        None => copy_of_the_agent(folder.path())?,
    };
    let free = "must be 0";
    Ok(vec![
        bench.row("the session's keys changed every second", free, || {
            std::thread::sleep(SPAN);
            Ok(())
        })?,
        bench.row("the hosts' own keys were rotated 4 times", free, || bench.rotate())?,
        bench
            .row(&format!("an agent was killed with -9 and started {TURNS} times"), free, || bench.kill())?,
        bench.row(
            &format!("an agent was replaced by another build {TURNS} times, and its sealer too"),
            free,
            || bench.replace(&other),
        )?,
        bench.row("a sealer was killed with -9", "its sessions are lost with it", || {
            lab.kill_sealers("a")?;
            std::thread::sleep(SPAN / 2);
            Ok(())
        })?,
    ])
}

/// Another file is another build to the sealer.
fn copy_of_the_agent(folder: &Path) -> Result<PathBuf> {
    let copy = folder.join("foreweave-agent");
    std::fs::copy(binary("foreweave-agent")?, &copy)?;
    Ok(copy)
}

struct Changes<'a> {
    lab: &'a Lab,
    target: SocketAddr,
}

impl Changes<'_> {
    /// Counts what a stream loses while something happens.
    fn row(&self, what: &str, bar: &str, happens: impl FnOnce() -> Result<()>) -> Result<Row> {
        let namespace = |node| self.lab.plan().namespace(node);
        let flow = Flow::start(&namespace("web")?, &namespace("db")?, self.target, RATE)?;
        std::thread::sleep(Duration::from_secs(1));
        happens()?;
        std::thread::sleep(Duration::from_secs(1));
        let outcome = flow.finish()?;
        let lost = outcome.lost();
        let note = format!(
            "{bar}; {:.2} s of the stream; of {} sent, {} duplicates",
            lost as f64 / f64::from(RATE),
            outcome.sent,
            outcome.duplicates
        );
        eprintln!("  {what}: {lost} lost");
        Ok(Row::alone(&format!("packets lost while {what}"), Spread::one(lost as f64), &note))
    }

    /// Sessions get new keys every second from now on.
    fn hurry(&self) -> Result<()> {
        for host in ENDS {
            let path = self.lab.home(host).join("agent.toml");
            let text = std::fs::read_to_string(&path)?;
            std::fs::write(&path, format!("{text}\n[encryption]\nrekey_after = 1\n"))?;
            self.lab.kill_agent(host)?;
            self.lab.start_agent(host)?;
        }
        self.lab.wait_connected(&ENDS)?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    }

    fn rotate(&self) -> Result<()> {
        for host in ["a", "b", "a", "b"] {
            let output = Command::new(binary("foreweave-agent")?)
                .args(["rotate-key", "--config"])
                .arg(self.lab.home(host).join("agent.toml"))
                .output()?;
            if !output.status.success() {
                bail!("rotate-key: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            std::thread::sleep(SPAN / 4);
        }
        Ok(())
    }

    fn kill(&self) -> Result<()> {
        for turn in 0..TURNS {
            let host = ENDS[turn % ENDS.len()];
            self.lab.kill_agent(host)?;
            self.lab.start_agent(host)?;
            self.lab.wait_connected(&[host])?;
        }
        Ok(())
    }

    fn replace(&self, other: &Path) -> Result<()> {
        let ours = binary("foreweave-agent")?;
        for turn in 0..TURNS {
            let host = ENDS[turn % ENDS.len()];
            let former = self.lab.sealers(host);
            let agent = self.lab.agent(host);
            agent.signal(Signal::SIGTERM)?;
            agent.wait_gone(Duration::from_secs(10))?;
            let build = if (turn / ENDS.len()).is_multiple_of(2) { other } else { &ours };
            self.lab.start_agent_of(host, build)?;
            self.lab.wait_connected(&[host])?;
            let begun = Instant::now();
            while self.lab.sealers(host).iter().any(|pid| former.contains(pid)) {
                if begun.elapsed() > Duration::from_secs(30) {
                    bail!("the sealer {former:?} of {host} was not relieved:\n{}", agent.last_words());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}
