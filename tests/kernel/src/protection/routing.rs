//! The same deaths under the routing that people run today: kernel forwarding with babeld, and with FRR (OSPF and BFD).
use super::outage::{Death, Outages};
use super::scene::{EDGES, HOSTS, topology};
use crate::lab::link::Change;
use crate::lab::process::Process;
use crate::lab::{Lab, Options, file, namespace};
use crate::stream::Side;
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Debian's babeld as it comes: hellos every 4 s.
    Babel,
    /// zebra, ospfd and bfdd; BFD every 50 ms, three missed, OSPF hellos every second.
    Frr,
}

/// web's and db's addresses, each in a network of its own behind its edge.
const ADDRESSES: [&str; 2] = ["10.1.0.2", "10.2.0.2"];
const FRR: &str = "/usr/lib/frr";

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Babel => "kernel routing with babeld, its defaults",
            Self::Frr => "kernel routing with FRR (OSPF, BFD 50 ms × 3)",
        }
    }

    /// Why it cannot be measured here, and what would help.
    pub fn missing(self) -> Option<&'static str> {
        let there = |program: &str| Path::new(program).is_file();
        match self {
            Self::Babel if !there("/usr/sbin/babeld") => {
                Some("babeld is not installed; run: apt-get install --no-install-recommends babeld")
            }
            Self::Frr if !there("/usr/lib/frr/bfdd") => {
                Some("FRR is not installed; run: apt-get install --no-install-recommends frr")
            }
            Self::Babel | Self::Frr => None,
        }
    }

    /// Between two failures: OSPF tells of a change at once only when it told of none in the last 5 s (RFC 2328,
    /// MinLSInterval), and no failure shall be measured that hits the trail of the one before.
    fn rest(self) -> Duration {
        match self {
            Self::Babel => Duration::from_secs(2),
            Self::Frr => Duration::from_secs(7),
        }
    }

    /// How long traffic may stay away.
    pub fn patience(self) -> Duration {
        match self {
            Self::Babel => Duration::from_secs(60),
            Self::Frr => Duration::from_secs(20),
        }
    }
}

/// The same topology, the same stream, the same deaths.
///
/// # Errors
/// The routing does not come about in the first place.
pub fn outages(protocol: Protocol, death: Death, repeats: usize) -> Result<Outages> {
    let name = match protocol {
        Protocol::Babel => "babel",
        Protocol::Frr => "frr",
    };
    let plan = file::parse(&topology(""), Some(&format!("{name}-{}", std::process::id())))?;
    let lab = Lab::up(plan, Options { bare: true, ..Options::default() }, &ProgressBar::hidden())?;
    let sides = connect(&lab)?;
    for host in HOSTS {
        match protocol {
            Protocol::Babel => babeld(&lab, host)?,
            Protocol::Frr => frr(&lab, host)?,
        }
    }
    let mut outages = Outages::default();
    for round in 0..repeats {
        converged(&lab, protocol)?;
        let link = match (death, round % 2) {
            (Death::Silent, 1) => ("t1", "b"),
            (Death::Silent | Death::Carrier, _) => ("a", "t1"),
        };
        outages.once(&lab, &sides, link, death, protocol.patience(), || Ok(()))?;
        lab.change(link.0, link.1, &Change::Reset)?;
    }
    lab.down()?;
    Ok(outages)
}

/// web and db get an interface in a network of their own edge; every host forwards.
fn connect(lab: &Lab) -> Result<[Side; 2]> {
    let plan = lab.plan();
    for host in HOSTS {
        let forward = "for f in all default eth0 eth1; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done
                       echo 1 > /proc/sys/net/ipv4/ip_forward";
        run(&plan.namespace(host)?, forward)?;
    }
    for (index, (edge, workload)) in EDGES.iter().zip(["web", "db"]).enumerate() {
        let (inside, net) = (plan.namespace(workload)?, index + 1);
        let script = format!(
            "ip link add r0 type veth peer name r0 netns {inside}; ip address add 10.{net}.0.1/30 dev r0; ip link set r0 up
             echo 0 > /proc/sys/net/ipv4/conf/r0/rp_filter"
        );
        run(&plan.namespace(edge)?, &script)?;
        let script = format!(
            "ip address add 10.{net}.0.2/30 dev r0; ip link set r0 up; ip route add default via 10.{net}.0.1"
        );
        run(&inside, &script)?;
    }
    let side = |workload: &str, address: &str, port| -> Result<Side> {
        Ok(Side { namespace: plan.namespace(workload)?, address: SocketAddr::new(address.parse()?, port) })
    };
    Ok([side("web", ADDRESSES[0], 9001)?, side("db", ADDRESSES[1], 9000)?])
}

fn run(inside: &str, script: &str) -> Result<()> {
    let output = namespace::command(inside, "sh")?.args(["-e", "-c", script]).output()?;
    if !output.status.success() {
        bail!("in {inside}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Waits until both edges send by t1, both ways pass, and the protocol holds both ways to be good.
fn converged(lab: &Lab, protocol: Protocol) -> Result<()> {
    let begun = Instant::now();
    loop {
        let routed = by_first_way(lab, "a", ADDRESSES[1])? && by_first_way(lab, "b", ADDRESSES[0])?;
        if routed && second_way_is_good(lab, protocol)? {
            std::thread::sleep(protocol.rest());
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(120) {
            let route = lab.output("a", "ip", &["route"])?;
            bail!(
                "{} did not come about within 120 s; routes of a:\n{}",
                protocol.name(),
                String::from_utf8_lossy(&route.stdout)
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn by_first_way(lab: &Lab, edge: &str, to: &str) -> Result<bool> {
    let shown = lab.output(edge, "ip", &["route", "get", to])?;
    // eth0 of both edges leads to t1.
    Ok(String::from_utf8_lossy(&shown.stdout).contains("dev eth0"))
}

fn second_way_is_good(lab: &Lab, protocol: Protocol) -> Result<bool> {
    match protocol {
        // babeld's routes over the second way are not in the kernel; it announces them within an update interval.
        Protocol::Babel => Ok(true),
        Protocol::Frr => {
            for host in HOSTS {
                let shown = Command::new("vtysh")
                    .arg("--vty_socket")
                    .arg(frr_folder(lab, host))
                    .args(["-d", "bfdd", "-c", "show bfd peers brief"])
                    .output()
                    .context("vtysh")?;
                let text = String::from_utf8_lossy(&shown.stdout).into_owned();
                if text.lines().filter(|line| line.trim_end().ends_with(" up")).count() < 2 {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// The second way is the dearer one, so that all repeats begin alike.
fn is_second(host: &str, interface: &str) -> bool {
    host == "t2" || EDGES.contains(&host) && interface == "eth1"
}

fn babeld(lab: &Lab, host: &str) -> Result<()> {
    let folder = lab.plan().folder();
    let process = Process::new(&folder, &format!("babeld-{host}"));
    let mut command = Command::new("/usr/sbin/babeld");
    command.arg("-I").arg(folder.join(format!("babeld-{host}.own-pid")));
    command.arg("-S").arg(folder.join(format!("babeld-{host}.state")));
    for interface in ["eth0", "eth1"] {
        let cost = if is_second(host, interface) { 200 } else { 96 };
        command.args(["-C", &format!("interface {interface} type wired rxcost {cost}")]);
    }
    command.args(["-C", "redistribute ip 10.1.0.0/30 allow", "-C", "redistribute ip 10.2.0.0/30 allow"]);
    command.args(["-C", "redistribute local deny", "eth0", "eth1"]);
    process.start(&lab.plan().namespace(host)?, command).map(drop)
}

/// Where the daemons of a host keep their sockets.
fn frr_folder(lab: &Lab, host: &str) -> PathBuf {
    lab.plan().folder().join(format!("frr-{host}"))
}

fn frr(lab: &Lab, host: &str) -> Result<()> {
    let folder = frr_folder(lab, host);
    std::fs::create_dir_all(&folder)?;
    let mut ospf = String::new();
    for interface in ["eth0", "eth1"] {
        let cost = if is_second(host, interface) { 20 } else { 10 };
        ospf += &format!(
            "interface {interface}\n ip ospf area 0\n ip ospf network point-to-point\n ip ospf cost {cost}\n \
             ip ospf hello-interval 1\n ip ospf dead-interval 4\n ip ospf bfd\n ip ospf bfd profile fast\n!\n"
        );
    }
    if EDGES.contains(&host) {
        ospf += "interface r0\n ip ospf area 0\n ip ospf passive\n!\n";
    }
    let number = HOSTS.iter().position(|name| *name == host).unwrap_or(0) + 1;
    ospf += &format!("router ospf\n ospf router-id 192.0.2.{number}\n!\n");
    let bfd =
        "bfd\n profile fast\n  detect-multiplier 3\n  receive-interval 50\n  transmit-interval 50\n !\n!\n";
    let daemons = [("zebra", "ip forwarding\n"), ("bfdd", bfd), ("ospfd", ospf.as_str())];
    for (daemon, configuration) in daemons {
        std::fs::write(folder.join(format!("{daemon}.conf")), configuration)?;
    }
    // The daemons give up root and must be able to write here.
    let output = Command::new("chown").args(["-R", "frr:frr"]).arg(&folder).output().context("chown")?;
    if !output.status.success() {
        bail!("chown: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    for (daemon, _) in daemons {
        let process = Process::new(&lab.plan().folder(), &format!("{daemon}-{host}"));
        let mut command = Command::new(Path::new(FRR).join(daemon));
        command.arg("-f").arg(folder.join(format!("{daemon}.conf")));
        command.arg("-i").arg(folder.join(format!("{daemon}.own-pid")));
        command.arg("-z").arg(folder.join("zserv.api")).arg("--vty_socket").arg(&folder);
        command.args(["-P", "0", "-A", "127.0.0.1"]);
        if daemon == "bfdd" {
            command.arg("--bfdctl").arg(folder.join("bfdd.sock"));
        }
        process.start(&lab.plan().namespace(host)?, command)?;
        if daemon == "zebra" {
            wait_for(&folder.join("zserv.api"), &process)?;
        }
    }
    Ok(())
}

fn wait_for(socket: &Path, process: &Process) -> Result<()> {
    for _ in 0..200 {
        if socket.exists() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    bail!("{} made no {} within 5 s:\n{}", process.name(), socket.display(), process.last_words())
}
