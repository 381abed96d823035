//! One end of a circuit is a plain kernel VXLAN device in a namespace without agent.
use crate::support::{Fabric, PATIENCE, allow_icmp, allow_tcp, count, eventually};
use anyhow::{Context, Result, bail};
use proto_wire::v1;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use tests_kernel::lab::namespace;
use tests_kernel::traffic;

/// x, behind b, is to have no agent.
const TOPOLOGY: &str = r#"
name = "external"
[[node]]
name = "a"
[[node]]
name = "b"
[[node]]
name = "x"
[[link]]
ends = ["a", "b"]
[[link]]
ends = ["b", "x"]
mtu = 1400
[[workload]]
name = "web"
node = "a"
[[workload]]
name = "db"
node = "b"
"#;
const PORT: u16 = 5432;
const MEBIBYTE: usize = 1 << 20;

struct World {
    fabric: Fabric,
}

impl World {
    fn up(test: &str) -> Result<Self> {
        let fabric = Fabric::up(test, TOPOLOGY)?;
        fabric.lab.kill_agent("x")?;
        fabric.lab.uninstall("x")?;
        Ok(Self { fabric })
    }

    /// Underlay address of x on its link to b.
    fn underlay(&self, v6: bool) -> Result<IpAddr> {
        let links = &self.fabric.lab.plan().links;
        let ends = links.iter().flat_map(|link| &link.ends);
        let addresses = ends.filter(|end| end.host == "x").flat_map(|end| &end.addresses);
        addresses.map(|(address, _)| *address).find(|at| at.is_ipv6() == v6).context("an address of x")
    }

    fn register(&self, id: &str, at: IpAddr) -> Result<Result<v1::Resource, tonic::Status>> {
        let request = v1::RegisterResourceRequest {
            resource_id: id.to_owned(),
            metadata: Some(v1::ResourceMetadata {
                form: v1::resource_metadata::Form::Host.into(),
                node: "b".into(),
                attachment: Some(v1::Attachment {
                    r#where: Some(v1::attachment::Where::External(at.to_string())),
                }),
                ..v1::ResourceMetadata::default()
            }),
            intents: Vec::new(),
            lease: None,
        };
        self.fabric.ask(async |mut client| {
            Ok(client.register_resource(request).await.map(tonic::Response::into_inner))
        })
    }

    /// Runs what the controller says in the namespace of x.
    fn set_up(&self, circuit: &v1::Circuit) -> Result<()> {
        assert!(!circuit.external.is_empty(), "no commands");
        for command in &circuit.external {
            let output = self.fabric.lab.output("x", "sh", &["-c", command])?;
            if !output.status.success() {
                bail!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        Ok(())
    }

    fn pass(&self, from: &str, to: &[IpAddr]) -> Result<bool> {
        let mut pass = true;
        for address in to {
            let pings = traffic::ping(&self.fabric.namespace(from), *address, 3, 20)?;
            pass &= pings.received == pings.sent;
        }
        Ok(pass)
    }

    /// Bytes that arrive of a mebibyte by TCP, if it connects.
    fn transfer(&self, from: &str, into: &str, to: IpAddr) -> Result<usize> {
        let target = SocketAddr::new(to, PORT);
        let listener = traffic::listen(&self.fabric.namespace(into), target)?;
        let receiver = std::thread::spawn(move || count(&listener));
        let mut stream = namespace::inside(&self.fabric.namespace(from), || {
            Ok(TcpStream::connect_timeout(&target, PATIENCE)?)
        })?;
        stream.set_write_timeout(Some(4 * PATIENCE))?;
        stream.write_all(&vec![5; MEBIBYTE])?;
        drop(stream);
        receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?
    }

    fn refused(&self, from: &str, to: IpAddr) -> bool {
        let target = SocketAddr::new(to, PORT);
        let second = std::time::Duration::from_secs(1);
        let tried = namespace::inside(&self.fabric.namespace(from), || {
            Ok(TcpStream::connect_timeout(&target, second)?)
        });
        tried.is_err()
    }
}

fn spec(name: &str, source: &str, destination: &str, rules: Vec<v1::Rule>) -> v1::CircuitSpec {
    v1::CircuitSpec {
        name: name.into(),
        source: source.into(),
        destination: destination.into(),
        rules,
        ..v1::CircuitSpec::default()
    }
}

fn both_ways(rule: v1::Rule) -> v1::Rule {
    v1::Rule { opener: v1::rule::Opener::Both.into(), ..rule }
}

/// A circuit to a plain device does all that others do, over an underlay of this family. `near`: its end with an agent.
fn joins(test: &str, near: &str, v6: bool) -> Result<()> {
    let world = World::up(test)?;
    let fabric = &world.fabric;
    world.register("printer", world.underlay(v6)?)??;
    let rules = || vec![both_ways(allow_icmp()), allow_tcp(PORT)];
    let circuit = fabric.circuit(spec("print", near, "printer", rules()))?;
    assert!(circuit.backup.is_none() && circuit.protection.contains("plain VXLAN device"), "{circuit:?}");
    assert_eq!(circuit.mtu, if v6 { 1_330 } else { 1_350 });
    let (here, there) = (fabric.addresses(near)?, fabric.addresses("printer")?);
    assert!(!world.pass(near, &there[..1])?, "nobody is there yet");
    world.set_up(&circuit)?;
    eventually("packets pass", || world.pass(near, &there))?;
    assert!(world.pass("x", &here)?, "the device reaches back, as the rule allows");
    for (to, back) in there.into_iter().zip(here) {
        assert_eq!(world.transfer(near, "x", to)?, MEBIBYTE, "to {to}");
        assert!(world.refused("x", back), "nothing allows the device to open connections to {back}");
    }
    assert!(fabric.drops_eventually(circuit.id, "denied_by_rule")?, "default deny");
    explained(&world, near)?;
    let mut open = rules();
    open.push(both_ways(allow_tcp(PORT)));
    fabric.replace_rules("print", open)?;
    eventually("the device's connections are let in", || {
        Ok(here.iter().all(|back| world.transfer("x", near, *back).is_ok_and(|got| got == MEBIBYTE)))
    })?;
    restarts(&world, near, &there)?;
    fabric.delete("print")?;
    for (from, to) in [(near, there), ("x", here)] {
        for address in to {
            // Where the route is gone with the circuit, ping does not even start.
            let passed = world.pass(from, &[address]).unwrap_or(false);
            assert!(!passed, "it is deleted, and {from} reaches {address}");
        }
    }
    world.fabric.lab.down()
}

/// Packets to the device are followed to it, and packets of the device from the host next to it.
fn explained(world: &World, near: &str) -> Result<()> {
    use v1::trail::Verdict::{Dropped, Passes};
    let ways: [Vec<&str>; 2] =
        if near == "web" { [vec!["a", "b"], vec!["b", "a"]] } else { [vec!["b"], vec!["b"]] };
    for ipv6 in [false, true] {
        for (ends, protocol, port, verdict, hosts) in [
            ([near, "printer"], 1, 0, Passes, &ways[0]),
            (["printer", near], 1, 0, Passes, &ways[1]),
            (["printer", near], 6, PORT, Dropped, &ways[1]),
        ] {
            let [source, destination] = ends.map(String::from);
            let port = port.into();
            let request =
                v1::WhyRequest { source, destination, protocol, port, ipv6, ..v1::WhyRequest::default() };
            let trail = crate::explain::ask(&world.fabric, request)?;
            let nodes: Vec<&str> = trail.hops.iter().map(|hop| hop.node.as_str()).collect();
            assert_eq!((trail.verdict(), &nodes), (verdict, hosts), "{ends:?} {protocol}: {trail:?}");
            let device = trail.sentence.contains("the plain VXLAN device of printer");
            assert_eq!(device, ends[1] == "printer", "{}", trail.sentence);
            assert_eq!(
                trail.advice.contains("foreweave rule add print"),
                verdict == Dropped,
                "{}",
                trail.advice
            );
        }
    }
    Ok(())
}

/// Agents and controller come back to the circuit as it was.
fn restarts(world: &World, near: &str, there: &[IpAddr]) -> Result<()> {
    let lab = &world.fabric.lab;
    for host in ["a", "b"] {
        lab.kill_agent(host)?;
        assert!(world.pass(near, there)?, "without the agent of {host}");
        lab.start_agent(host)?;
    }
    lab.controller().kill()?;
    lab.start_controller()?;
    lab.wait_connected(&["a", "b"])?;
    eventually("it is active again", || Ok(world.fabric.state("print")? == v1::circuit::State::Active))?;
    assert!(world.pass(near, there)?);
    Ok(())
}

#[test]
fn plain_device_behind_a_transit_host_is_an_end_of_a_circuit() -> Result<()> {
    joins("plain-far", "web", false)
}

#[test]
fn plain_device_beside_the_end_host_is_an_end_of_a_circuit_over_ipv6() -> Result<()> {
    joins("plain-near", "db", true)
}

#[test]
fn what_a_plain_device_cannot_do_is_refused() -> Result<()> {
    let world = World::up("plain-not")?;
    let fabric = &world.fabric;
    let at = world.underlay(false)?;
    for id in ["printer", "scanner"] {
        world.register(id, at)??;
    }
    let own = fabric.lab.plan().links[0].ends.iter().find(|end| end.host == "b").context("b")?.addresses[0].0;
    for wrong in [own, "127.0.0.1".parse()?, "224.0.0.1".parse()?, "fe80::1".parse()?] {
        let refusal = world.register("other", wrong)?.expect_err("no neighbour");
        assert!(refusal.message().contains(&wrong.to_string()), "{refusal}");
    }
    let refusal = fabric.create(spec("both", "printer", "scanner", Vec::new()))?.expect_err("no agent");
    assert!(refusal.message().contains("both plain VXLAN devices"), "{refusal}");
    let mut sealed = spec("sealed", "web", "printer", Vec::new());
    sealed.bounds = Some(v1::Bounds { encrypted: true, ..v1::Bounds::default() });
    let refusal = fabric.create(sealed)?.expect_err("nobody encrypts");
    assert!(refusal.message().contains("could encrypt"), "{refusal}");
    world.fabric.lab.down()
}
