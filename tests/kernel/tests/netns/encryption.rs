//! Encrypted circuits: nobody on the way reads them, and nothing that changes their keys costs a packet.
use crate::sealer::interfaces;
use crate::support::{Fabric, ROW, allow_icmp, allow_tcp, allow_udp, eventually, settled, web_to_db};
use anyhow::{Context, Result};
use proto_wire::v1;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::time::Duration;
use tests_kernel::lab::{Snapshot, namespace};
use tests_kernel::protection::scene::topology;
use tests_kernel::traffic::{self, Flow};

const MARKER: &[u8] = b"what only the two ends may read: 4711";

pub(crate) fn sealed(rules: Vec<v1::Rule>) -> v1::CircuitSpec {
    let bounds = v1::Bounds { encrypted: true, ..v1::Bounds::default() };
    v1::CircuitSpec { bounds: Some(bounds), ..web_to_db(rules) }
}

/// Everything that a host sees on its interfaces.
struct Capture {
    tcpdump: Child,
    file: tempfile::NamedTempFile,
}

impl Capture {
    fn start(inside: &str) -> Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        let mut command = namespace::command(inside, "tcpdump")?;
        command.args(["-i", "any", "-U", "-s", "0", "-w"]).arg(file.path()).stderr(Stdio::null());
        let capture = Self { tcpdump: command.spawn().context("tcpdump")?, file };
        // The file's header is written once the socket is open.
        eventually("the capture begins", || Ok(capture.file.as_file().metadata()?.len() > 0))?;
        Ok(capture)
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        Ok(std::fs::read(self.file.path())?)
    }

    fn has_marker(&self) -> Result<bool> {
        Ok(self.bytes()?.windows(MARKER.len()).any(|bytes| bytes == MARKER))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

/// Sends the marker from web to db until it has arrived there.
fn whisper(fabric: &Fabric, to: IpAddr) -> Result<()> {
    let target = SocketAddr::new(to, 9_100);
    let receiver = namespace::inside(&fabric.namespace("db"), || Ok(UdpSocket::bind(target)?))?;
    receiver.set_read_timeout(Some(Duration::from_millis(200)))?;
    let unspecified: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let sender = namespace::inside(&fabric.namespace("web"), || Ok(UdpSocket::bind((unspecified, 0))?))?;
    eventually("the marker arrives", || {
        sender.send_to(MARKER, target)?;
        let mut buffer = [0; 100];
        Ok(receiver.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == MARKER))
    })
}

#[test]
fn transit_sees_a_circuit_in_the_clear_but_nothing_of_an_encrypted_one() -> Result<()> {
    for topology in [ROW.to_owned(), ROW.replace("rate = \"1gbit\"", "family = \"ipv6\"")] {
        let fabric = Fabric::up("sealed", &topology)?;
        let rules = || vec![allow_icmp(), allow_udp(9_100)];
        for (spec, seen) in [(web_to_db(rules()), true), (sealed(rules()), false)] {
            fabric.circuit(spec)?;
            let capture = Capture::start(&fabric.namespace("t"))?;
            for address in fabric.addresses("db")? {
                whisper(&fabric, address)?;
            }
            assert!(fabric.both_families_pass()?);
            eventually("the packets are in the capture", || Ok(capture.bytes()?.len() > 2_000))?;
            assert_eq!(capture.has_marker()?, seen);
            fabric.delete("web-db")?;
        }
        fabric.lab.down()?;
    }
    Ok(())
}

#[test]
fn a_stream_through_an_encrypted_circuit_arrives_whole() -> Result<()> {
    const LENGTH: usize = 8 << 20;
    let fabric = Fabric::up("sealed-tcp", ROW)?;
    fabric.circuit(sealed(vec![allow_tcp(5_432)]))?;
    for address in fabric.addresses("db")? {
        let target = SocketAddr::new(address, 5_432);
        let listener = traffic::listen(&fabric.namespace("db"), target)?;
        let sent: Vec<u8> = (0..LENGTH).map(|i| ((i * 31) >> 3) as u8).collect();
        let received = std::thread::scope(|scope| -> Result<Vec<u8>> {
            let reader = scope.spawn(|| -> Result<Vec<u8>> {
                let mut received = Vec::new();
                std::io::Read::read_to_end(&mut listener.accept()?.0, &mut received)?;
                Ok(received)
            });
            let web = fabric.namespace("web");
            let mut stream = namespace::inside(&web, || Ok(std::net::TcpStream::connect(target)?))?;
            stream.write_all(&sent)?;
            drop(stream);
            reader.join().expect("the reader does not panic")
        })?;
        assert!(received == sent, "{} of {LENGTH} bytes came", received.len());
    }
    fabric.lab.down()
}

#[test]
fn nothing_of_an_encrypted_circuit_remains_on_its_hosts() -> Result<()> {
    let fabric = Fabric::up("sealed-gone", ROW)?;
    let links = |host: &str| -> Result<String> {
        Ok(String::from_utf8(fabric.lab.output(host, "ip", &["-o", "link"])?.stdout)?)
    };
    let hosts = ["a", "t", "b"];
    let look = |host: &str| Snapshot::of_namespace(&fabric.namespace(host));
    let before = hosts.map(look);
    fabric.circuit(sealed(vec![allow_icmp()]))?;
    assert!(fabric.both_families_pass()?);
    assert!(links("a")?.contains("fw-plain") && links("b")?.contains("fw-cipher"));
    assert!(!links("t")?.contains("fw-"), "transit needs nothing");
    fabric.delete("web-db")?;
    assert!(!links("a")?.contains("fw-plain") && !links("b")?.contains("fw-cipher"));
    for (host, before) in hosts.into_iter().zip(before) {
        assert_eq!(settled(&before?, || look(host))?, Vec::<String>::new(), "on {host}");
    }
    fabric.lab.down()
}

/// Has an agent change the keys of its sessions every so many seconds.
fn rekey_every(fabric: &Fabric, host: &str, seconds: u64) -> Result<()> {
    let path = fabric.lab.home(host).join("agent.toml");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, format!("{text}\n[encryption]\nrekey_after = {seconds}\n"))?;
    fabric.lab.kill_agent(host)?;
    fabric.lab.start_agent(host)?;
    fabric.lab.wait_connected(&[host])
}

#[test]
fn new_session_keys_cost_no_packet() -> Result<()> {
    let fabric = Fabric::up("sealed-rekey", ROW)?;
    rekey_every(&fabric, "a", 1)?;
    rekey_every(&fabric, "b", 1)?;
    let target = fabric.flow_target()?;
    fabric.circuit(sealed(vec![allow_icmp(), allow_udp(target.port())]))?;
    assert!(fabric.both_families_pass()?);
    let flow = Flow::start(&fabric.namespace("web"), &fabric.namespace("db"), target, 5_000)?;
    // Several lives of a session.
    std::thread::sleep(Duration::from_secs(5));
    let outcome = flow.finish()?;
    assert!(outcome.sent > 5_000, "{outcome:?}");
    assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{outcome:?}");
    fabric.lab.down()
}

#[test]
fn a_new_key_of_a_host_costs_no_packet() -> Result<()> {
    let fabric = Fabric::up("sealed-rotate", ROW)?;
    let target = fabric.flow_target()?;
    fabric.circuit(sealed(vec![allow_icmp(), allow_udp(target.port())]))?;
    assert!(fabric.both_families_pass()?);
    let keys = |node: &str| -> Result<Vec<Vec<u8>>> {
        let nodes =
            fabric.ask(async |mut client| Ok(client.list_nodes(v1::Empty {}).await?.into_inner().nodes))?;
        Ok(nodes.into_iter().find(|one| one.name == node).context("a node")?.seal_keys)
    };
    let former = keys("a")?;
    assert_eq!(former.len(), 1);
    let flow = Flow::start(&fabric.namespace("web"), &fabric.namespace("db"), target, 5_000)?;
    for rotation in 1..=3 {
        let config = fabric.lab.home("a").join("agent.toml");
        let before = keys("a")?;
        let output = std::process::Command::new(tests_kernel::lab::binary("foreweave-agent")?)
            .args(["rotate-key", "--config"])
            .arg(&config)
            .output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        eventually("the controller has heard of the new key", || {
            let now = keys("a")?;
            Ok(now.len() == 2 && now[1] == before[0])
        })?;
        assert!(rotation < 2 || !keys("a")?.contains(&former[0]), "the first one is forgotten");
        // The far end hears of it, and both agree on it.
        std::thread::sleep(Duration::from_millis(500));
    }
    let outcome = flow.finish()?;
    assert!(outcome.sent > 5_000, "{outcome:?}");
    assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{outcome:?}");
    assert!(fabric.both_families_pass()?);
    fabric.lab.down()
}

#[test]
fn a_restarted_agent_goes_on_encrypting_with_no_controller() -> Result<()> {
    let fabric = Fabric::up("sealed-restart", ROW)?;
    fabric.circuit(sealed(vec![allow_icmp()]))?;
    assert!(fabric.both_families_pass()?);
    let db = fabric.addresses("db")?;
    fabric.lab.controller().kill()?;
    for host in ["a", "b"] {
        fabric.lab.kill_agent(host)?;
        // As after a failure of the whole host's user space.
        fabric.lab.kill_sealers(host)?;
        fabric.lab.start_agent(host)?;
        for address in db {
            eventually("packets pass again", || {
                let pings = traffic::ping(&fabric.namespace("web"), address, 3, 20)?;
                Ok(pings.received == pings.sent)
            })?;
        }
    }
    fabric.lab.down()
}

#[test]
fn with_nobody_to_encrypt_nothing_of_an_encrypted_circuit_leaves_its_host() -> Result<()> {
    let fabric = Fabric::up("sealed-alone", ROW)?;
    fabric.circuit(sealed(vec![allow_icmp(), allow_udp(9_100)]))?;
    let [v4, _] = fabric.addresses("db")?;
    whisper(&fabric, v4)?;
    let capture = Capture::start(&fabric.namespace("t"))?;
    let taps = interfaces(&fabric, "a")?;
    fabric.lab.kill_agent("a")?;
    fabric.lab.kill_sealers("a")?;
    // Nobody else's interface can get the numbers by which the programs know them.
    assert_eq!((interfaces(&fabric, "a")?, taps.len()), (taps.clone(), 2));
    let target = SocketAddr::new(v4, 9_100);
    let sender = namespace::inside(&fabric.namespace("web"), || Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    for _ in 0..50 {
        // A refusal would be as good as a drop.
        let _ = sender.send_to(MARKER, target);
    }
    eventually("the link's probes are in the capture", || Ok(capture.bytes()?.len() > 2_000))?;
    assert!(!capture.has_marker()?);
    fabric.lab.start_agent("a")?;
    eventually("packets pass again", || {
        let pings = traffic::ping(&fabric.namespace("web"), v4, 3, 20)?;
        Ok(pings.received == pings.sent)
    })?;
    assert_eq!(interfaces(&fabric, "a")?, taps);
    fabric.lab.down()
}

#[test]
fn an_encrypted_circuit_leaves_a_dead_path_like_any_other() -> Result<()> {
    let fabric = Fabric::up("sealed-switch", &topology(""))?;
    let circuit = fabric.circuit(sealed(vec![allow_icmp()]))?;
    let path = circuit.path.context("no path")?;
    assert!(circuit.backup.is_some(), "{}", circuit.protection);
    let db = fabric.addresses("db")?;
    let passes = || -> Result<bool> {
        let mut pass = true;
        for address in db {
            let pings = traffic::ping(&fabric.namespace("web"), address, 5, 20)?;
            pass &= pings.received == pings.sent;
        }
        Ok(pass)
    };
    eventually("packets pass", passes)?;
    fabric.lab.change("a", &path.nodes[1], &tests_kernel::lab::link::Change::Blackhole)?;
    eventually("packets pass by the backup", passes)?;
    fabric.lab.down()
}
