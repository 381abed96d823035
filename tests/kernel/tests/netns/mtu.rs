//! Large transfers over narrow underlays, where nobody is told by ICMP that a packet was too big.
use crate::support::{
    FLOW, Fabric, PATIENCE, ROW, allow_tcp, allow_udp, block_icmp, count, eventually, web_to_db,
};
use anyhow::{Context, Result};
use proto_wire::v1;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use tests_kernel::lab::namespace;
use tests_kernel::traffic;

const MEBIBYTE: usize = 1 << 20;
const HOSTS: [&str; 3] = ["a", "t", "b"];
const PORT: u16 = 5432;

/// The row with links of this MTU, and of this family alone if one is named.
fn narrow(mtu: u16, family: &str) -> String {
    let family = if family.is_empty() { String::new() } else { format!("family = \"{family}\"\n") };
    ROW.replace("rate = \"1gbit\"\n", &format!("rate = \"1gbit\"\nmtu = {mtu}\n{family}"))
}

/// One TCP stream that is written piece by piece.
struct Stream {
    stream: TcpStream,
    receiver: std::thread::JoinHandle<Result<usize>>,
}

impl Stream {
    fn open(fabric: &Fabric, to: IpAddr) -> Result<Self> {
        let target = SocketAddr::new(to, PORT);
        let listener = traffic::listen(&fabric.namespace("db"), target)?;
        let receiver = std::thread::spawn(move || count(&listener));
        let stream = namespace::inside(&fabric.namespace("web"), || {
            Ok(TcpStream::connect_timeout(&target, PATIENCE)?)
        })?;
        stream.set_write_timeout(Some(4 * PATIENCE))?;
        Ok(Self { stream, receiver })
    }

    fn write(&mut self) -> Result<()> {
        Ok(self.stream.write_all(&vec![7; MEBIBYTE])?)
    }

    /// Bytes that arrived.
    fn close(self) -> Result<usize> {
        drop(self.stream);
        self.receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?
    }
}

/// Datagrams of these sizes from web to db: those that arrived.
fn datagrams(fabric: &Fabric, to: IpAddr, sizes: &[usize]) -> Result<Vec<usize>> {
    let target = SocketAddr::new(to, FLOW);
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let listening = namespace::inside(&fabric.namespace("db"), || Ok(UdpSocket::bind(target)?))?;
    listening.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
    let sending = namespace::inside(&fabric.namespace("web"), || Ok(UdpSocket::bind(any)?))?;
    let mut arrived = Vec::new();
    let mut buffer = vec![0; 65_536];
    for size in sizes {
        sending.send_to(&vec![3; *size], target).with_context(|| format!("{size} bytes to {target}"))?;
        if let Ok(got) = listening.recv(&mut buffer) {
            arrived.push(got);
        }
    }
    Ok(arrived)
}

/// 1 MiB by TCP, and datagrams up to the largest, arrive in both families.
fn everything_passes(mtu: u16, family: &str, inner: u32) -> Result<()> {
    let fabric = Fabric::up(&format!("narrow{mtu}{family}"), &narrow(mtu, family))?;
    block_icmp(&fabric, &["a", "t", "b", "web", "db"])?;
    let circuit = fabric.circuit(web_to_db(vec![allow_tcp(PORT), allow_udp(FLOW)]))?;
    assert_eq!(circuit.mtu, inner, "of {mtu} bytes");
    let fits = inner as usize;
    // Whole, of the least and the most that fit, and those that the workload's kernel has to cut.
    let sizes = [1, 1_000, fits - 48, fits - 28, fits - 20, 1_232, 1_280, 4_000, 20_000];
    for address in fabric.addresses("db")? {
        let mut stream = Stream::open(&fabric, address)?;
        stream.write()?;
        assert_eq!(stream.close()?, MEBIBYTE, "to {address} over {mtu} bytes");
        assert_eq!(datagrams(&fabric, address, &sizes)?, sizes, "to {address} over {mtu} bytes");
    }
    assert_eq!(fabric.drops(circuit.id, "too_big")?, 0);
    fabric.lab.down()
}

#[test]
fn tcp_and_udp_pass_an_underlay_of_1280_bytes_with_icmp_blocked() -> Result<()> {
    everything_passes(1_280, "", 1_230)
}

#[test]
fn tcp_and_udp_pass_an_ipv6_underlay_of_1280_bytes_with_icmp_blocked() -> Result<()> {
    everything_passes(1_280, "ipv6", 1_210)
}

#[test]
fn tcp_and_udp_pass_underlays_of_1400_bytes_with_icmp_blocked() -> Result<()> {
    everything_passes(1_400, "ipv4", 1_350)?;
    everything_passes(1_400, "ipv6", 1_330)
}

/// Narrows the link between a and t at both ends.
fn narrow_now(fabric: &Fabric, mtu: u32) -> Result<()> {
    for (host, index) in [("a", 0), ("t", 0)] {
        let interface = &fabric.lab.plan().host(host).context("a host")?.underlays[index].interface;
        let set =
            fabric.lab.output(host, "ip", &["link", "set", "dev", interface, "mtu", &mtu.to_string()])?;
        assert!(set.status.success(), "{set:?}");
    }
    Ok(())
}

#[test]
fn connections_go_on_when_their_path_becomes_narrower_with_the_controller_dead() -> Result<()> {
    let fabric = Fabric::up("narrower", ROW)?;
    block_icmp(&fabric, &HOSTS)?;
    let circuit = fabric.circuit(web_to_db(vec![allow_tcp(PORT), allow_udp(FLOW)]))?;
    assert_eq!(circuit.mtu, 1_450);
    let addresses = fabric.addresses("db")?;
    let mut streams = addresses.map(|address| Stream::open(&fabric, address));
    for stream in &mut streams {
        stream.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?.write()?;
    }
    fabric.lab.controller().kill()?;
    narrow_now(&fabric, 1_400)?;
    // Only the host itself knows; it tells the workload, whose segments are larger.
    for stream in streams {
        let mut stream = stream?;
        stream.write()?;
        assert_eq!(stream.close()?, 2 * MEBIBYTE);
    }
    // A new datagram: the kernel in web knows by now, or is told by this one and cuts the next.
    for address in addresses {
        let arrived = datagrams(&fabric, address, &[1_400, 1_400, 1_400])?;
        assert!(arrived.len() >= 2, "{arrived:?} to {address}");
    }
    fabric.lab.start_controller()?;
    fabric.lab.wait_connected(&HOSTS)?;
    eventually("the circuit and its interfaces follow", || {
        let request = v1::CircuitRequest { circuit: "web-db".into() };
        let circuit = fabric.ask(async |mut client| Ok(client.get_circuit(request).await?.into_inner()))?;
        let shown = fabric.lab.output("web", "ip", &["-o", "link"])?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        Ok(circuit.mtu == 1_350 && shown.contains("mtu 1350"))
    })?;
    eventually("the drops are known", || Ok(fabric.drops(circuit.id, "too_big")? > 0))?;
    for address in addresses {
        let mut stream = Stream::open(&fabric, address)?;
        stream.write()?;
        assert_eq!(stream.close()?, MEBIBYTE);
    }
    fabric.lab.down()
}

#[test]
fn routes_of_a_narrow_circuit_are_read_back_after_a_restart() -> Result<()> {
    let fabric = Fabric::up("narrow-again", &narrow(1_280, ""))?;
    fabric.circuit(web_to_db(vec![allow_tcp(PORT)]))?;
    let routes = || -> Result<String> {
        let v4 = fabric.lab.output("web", "ip", &["route", "show", "proto", "187"])?;
        let v6 = fabric.lab.output("web", "ip", &["-6", "route", "show", "proto", "187"])?;
        Ok(String::from_utf8([v4.stdout, v6.stdout].concat())?)
    };
    let before = routes()?;
    assert_eq!(before.matches("mtu 1230").count(), 2, "{before}");
    fabric.lab.kill_agent("a")?;
    fabric.lab.start_agent("a")?;
    fabric.lab.wait_connected(&HOSTS)?;
    assert_eq!(routes()?, before);
    let mut stream = Stream::open(&fabric, fabric.addresses("db")?[1])?;
    stream.write()?;
    assert_eq!(stream.close()?, MEBIBYTE);
    fabric.delete("web-db")?;
    eventually("the routes are gone", || Ok(routes()?.is_empty()))?;
    fabric.lab.down()
}
