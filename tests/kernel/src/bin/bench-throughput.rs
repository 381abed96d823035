//! Measures TCP from workload to workload over three hosts: circuit, kernel VXLAN and plain kernel routing in turn.
use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::ProgressBar;
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::time::Duration;
use tests_kernel::lab::{Lab, Options, file, namespace};
use tests_kernel::measure::{Row, Spread, print};

#[derive(Parser)]
struct Arguments {
    /// Rounds; each measures every way once.
    #[arg(long, default_value_t = 7)]
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

const TOPOLOGY: &str = r#"
name = "throughput"
[[node]]
name = "a"
[[node]]
name = "t"
[[node]]
name = "b"
[[link]]
ends = ["a", "t"]
[[link]]
ends = ["t", "b"]
[[workload]]
name = "web"
node = "a"
[[workload]]
name = "db"
node = "b"
services = ["iperf tcp/5201"]
"#;

/// Rules in force; the one that lets the stream in is tried last.
const RULES: usize = 64;

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rounds, arguments.seconds) = (2, 1);
    }
    let name = |kind: &str| format!("{kind}-{}", std::process::id());
    let bar = ProgressBar::hidden();
    // Two labs, so that the kernel's ways meet none of our programs.
    let bare = Options { bare: true, ..Options::default() };
    let kernel = Lab::up(file::parse(TOPOLOGY, Some(&name("kernel")))?, bare, &bar)?;
    route(&kernel)?;
    let register = Options { register: true, ..Options::default() };
    let circuit = Lab::up(file::parse(TOPOLOGY, Some(&name("circuit")))?, register, &bar)?;
    let target = weave(&circuit)?;
    let ways: [(&Lab, IpAddr); 3] =
        [(&circuit, target), (&kernel, VXLAN.parse()?), (&kernel, PLAIN.parse()?)];
    let mut measured: [Vec<f64>; 3] = Default::default();
    for round in 0..arguments.rounds {
        // Each round begins with another way, so that no way always runs on the warmest machine.
        for way in (0..3).map(|index| (index + round as usize) % 3) {
            let (lab, address) = ways[way];
            measured[way].push(stream(lab, address, arguments.seconds)?);
            eprintln!("  round {}: way {way}: {:.2} Gbit/s", round + 1, measured[way].last().unwrap_or(&0.0));
        }
    }
    let [circuit_spread, vxlan, plain] = measured.map(|values| Spread::of(&values));
    let what =
        format!("TCP, workload – endpoint – transit – endpoint – workload, {RULES} rules in force, Gbit/s");
    let rows = [
        Row::compared(&what, circuit_spread, "kernel routing + kernel VXLAN", vxlan),
        Row::compared(&what, circuit_spread, "plain kernel routing", plain),
    ];
    kernel.down()?;
    circuit.down()?;
    let how = format!(
        "{} rounds of {} s per way, one stream, the ways in turn",
        arguments.rounds, arguments.seconds
    );
    print("TCP throughput", &how, &rows, arguments.json);
    Ok(())
}

/// db's address when packets are routed plainly, and when they go through the kernel's VXLAN.
const PLAIN: &str = "10.2.0.2";
const VXLAN: &str = "10.4.0.2";

/// Two veth pairs per workload: one routed plainly over the three hosts, one through a VXLAN device on each edge.
fn route(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let [near, far] = ["web", "db"].map(|name| format!("fwl-{}-{name}", plan.name));
    let address = |link: usize, end: usize| plan.links[link].ends[end].addresses[0].0;
    let (a, via_a, via_b, b) = (address(0, 0), address(0, 1), address(1, 0), address(1, 1));
    let script = |ours: (u8, u8),
                  theirs: (u8, u8),
                  workload: &str,
                  local: IpAddr,
                  remote: IpAddr,
                  via: IpAddr| {
        format!(
            "set -e; echo 1 > /proc/sys/net/ipv4/ip_forward
             ip link add r0 type veth peer name r0 netns {workload}; ip address add 10.{p}.0.1/30 dev r0; ip link set r0 up
             ip link add v0 mtu 1450 type veth peer name v0 mtu 1450 netns {workload}; ip address add 10.{v}.0.1/30 dev v0; ip link set v0 up
             ip route add {remote}/32 via {via}; ip route add 10.{q}.0.0/30 via {via}
             ip link add vx0 mtu 1450 type vxlan id 7 local {local} remote {remote} dstport 4789 dev eth0
             ip address add 10.9.0.{p}/24 dev vx0; ip link set vx0 up; ip route add 10.{w}.0.0/30 via 10.9.0.{q}",
            p = ours.0, v = ours.1, q = theirs.0, w = theirs.1
        )
    };
    run(&plan.namespace("a")?, &script((1, 3), (2, 4), &near, a, b, via_a))?;
    run(&plan.namespace("b")?, &script((2, 4), (1, 3), &far, b, a, via_b))?;
    run(
        &plan.namespace("t")?,
        &format!(
            "set -e; echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add 10.1.0.0/30 via {a}; ip route add 10.2.0.0/30 via {b}"
        ),
    )?;
    let inner = |p: u8, v: u8, q: u8, w: u8| {
        format!(
            "set -e; ip address add 10.{p}.0.2/30 dev r0; ip link set r0 up; ip route add 10.{q}.0.0/30 via 10.{p}.0.1
             ip address add 10.{v}.0.2/30 dev v0; ip link set v0 up; ip route add 10.{w}.0.0/30 via 10.{v}.0.1"
        )
    };
    run(&near, &inner(1, 3, 2, 4))?;
    run(&far, &inner(2, 4, 1, 3))
}

fn run(inside: &str, script: &str) -> Result<()> {
    let output = namespace::command(inside, "sh")?.args(["-c", script]).output()?;
    if !output.status.success() {
        bail!("in {inside}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A circuit from web to db; returns db's address in the fabric.
fn weave(lab: &Lab) -> Result<IpAddr> {
    let mut command = lab.foreweave()?;
    command.args(["circuit", "create", "web", "db"]);
    for port in 0..RULES - 1 {
        command.args(["--deny", &format!("udp/{}", 20_000 + port)]);
    }
    let output = command.args(["--allow", "tcp/5201"]).output()?;
    if !output.status.success() {
        bail!("no circuit: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let answer = lab.foreweave()?.args(["--json", "resource", "show", "db"]).output()?;
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.stdout).context("foreweave resource show")?;
    Ok(answer["address"]["v4"].as_str().context("db has no address")?.parse()?)
}

/// Gbit/s that arrived.
fn stream(lab: &Lab, to: IpAddr, seconds: u32) -> Result<f64> {
    let to = to.to_string();
    let mut server = Server(
        lab.exec("db", "iperf3")?
            .args(["-s", "-1", "-B", &to])
            .stdout(Stdio::null())
            .spawn()
            .context("iperf3")?,
    );
    std::thread::sleep(Duration::from_millis(300));
    let output = lab.output("web", "iperf3", &["-c", &to, "-t", &seconds.to_string(), "-J"])?;
    server.0.wait()?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).context("iperf3 -J")?;
    match answer["end"]["sum_received"]["bits_per_second"].as_f64() {
        Some(bits) => Ok(bits / 1e9),
        None => bail!("iperf3 to {to}: {}", answer["error"]),
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
