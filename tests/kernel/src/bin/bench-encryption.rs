//! Measures TCP through an encrypted circuit against wireguard-go and Nebula, and what changes of keys cost.
use anyhow::{Context, Result, bail};
use clap::Parser;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
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
    route(&lab)?;
    let wireguard = Rival::wireguard(&lab)?;
    let nebula = Rival::nebula(&lab)?;
    // From where, to where, to which address.
    let ways: [(&str, &str, IpAddr); 3] =
        [("web", "db", target), ("a", "b", WIREGUARD[1].parse()?), ("a", "b", NEBULA[1].parse()?)];
    let mut measured: [Vec<f64>; 3] = Default::default();
    for round in 0..arguments.rounds {
        for way in (0..3).map(|index| (index + round as usize) % 3) {
            let (from, to, address) = ways[way];
            measured[way].push(line::stream(&lab, from, to, address, arguments.seconds)?);
            eprintln!("  round {}: way {way}: {:.2} Gbit/s", round + 1, measured[way].last().unwrap_or(&0.0));
        }
    }
    drop((wireguard, nebula));
    let [ours, wireguard, nebula] = measured.map(|values| Spread::of(&values));
    let what =
        "TCP through an encrypted circuit, workload – endpoint – transit – endpoint – workload, Gbit/s";
    let mut rows = vec![
        Row::compared(what, ours, "wireguard-go from host to host, without workloads", wireguard),
        Row::compared(what, ours, "Nebula from host to host, without workloads", nebula),
    ];
    rows.extend(changes(&lab, target)?);
    lab.down()?;
    let how = format!(
        "{} rounds of {} s per way, one stream, the ways in turn, all in one lab; then {RATE} UDP packets per second",
        arguments.rounds, arguments.seconds
    );
    print("Encryption", &how, &rows, arguments.json);
    Ok(())
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

/// What is lost while sessions and hosts get new keys; and, for comparison, while an agent is started anew.
fn changes(lab: &Lab, target: IpAddr) -> Result<Vec<Row>> {
    let target = SocketAddr::new(target, PORT);
    let flow = || Flow::start(&lab.plan().namespace("web")?, &lab.plan().namespace("db")?, target, RATE);
    for host in ["a", "b"] {
        let path = lab.home(host).join("agent.toml");
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, format!("{text}\n[encryption]\nrekey_after = 1\n"))?;
        restart(lab, host)?;
    }
    lab.wait_connected(&["a", "b"])?;
    std::thread::sleep(Duration::from_secs(2));
    let sessions = flow()?;
    std::thread::sleep(SPAN);
    let sessions = sessions.finish()?;
    let hosts = flow()?;
    for host in ["a", "b", "a", "b"] {
        let output = Command::new(binary("foreweave-agent")?)
            .args(["rotate-key", "--config"])
            .arg(lab.home(host).join("agent.toml"))
            .output()?;
        if !output.status.success() {
            bail!("rotate-key: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        std::thread::sleep(SPAN / 4);
    }
    let hosts = hosts.finish()?;
    let away = flow()?;
    std::thread::sleep(Duration::from_secs(1));
    restart(lab, "a")?;
    std::thread::sleep(Duration::from_secs(4));
    let away = away.finish()?;
    let row = |what: &str, lost: u64, note: String| Row::alone(what, Spread::one(lost as f64), &note);
    Ok(vec![
        row(
            "packets lost while the session's keys changed every second",
            sessions.lost(),
            format!("must be 0; of {} sent, {} duplicates", sessions.sent, sessions.duplicates),
        ),
        row(
            "packets lost while the hosts' own keys were rotated 4 times",
            hosts.lost(),
            format!("must be 0; of {} sent, {} duplicates", hosts.sent, hosts.duplicates),
        ),
        row(
            "packets lost while an agent was killed with -9 and started",
            away.lost(),
            format!(
                "{:.2} s of the stream; of {} sent, {} duplicates",
                away.lost() as f64 / f64::from(RATE),
                away.sent,
                away.duplicates
            ),
        ),
    ])
}

fn restart(lab: &Lab, host: &str) -> Result<()> {
    lab.kill_agent(host)?;
    lab.start_agent(host).map(drop)
}
