//! A lab with the words that these tests need.
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use proto_wire::v1;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use tests_kernel::lab::{Lab, Options, Snapshot, api, file};

/// Three hosts in a row; web and db use the same private address.
pub(crate) const ROW: &str = r#"
name = "row"
[[node]]
name = "a"
[[node]]
name = "t"
[[node]]
name = "b"
[[link]]
ends = ["a", "t"]
rate = "1gbit"
[[link]]
ends = ["t", "b"]
rate = "1gbit"
[[workload]]
name = "web"
node = "a"
private = "192.168.1.10/24"
[[workload]]
name = "db"
node = "b"
private = "192.168.1.10/24"
services = ["postgres tcp/5432"]
"#;

/// How long the fabric may take for what it does by itself; passing it is a failure, not a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The UDP port that flows use.
pub(crate) const FLOW: u16 = 9000;

pub(crate) struct Fabric {
    pub(crate) lab: Lab,
}

impl Fabric {
    /// Brings up a topology under a name of this test's own, with its workloads registered.
    pub(crate) fn up(test: &str, topology: &str) -> Result<Self> {
        let plan = file::parse(topology, Some(&Self::name(test)))?;
        let options = Options { register: true, ..Options::default() };
        Ok(Self { lab: Lab::up(plan, options, &ProgressBar::hidden())? })
    }

    /// Name of a test's lab; no other process has it.
    pub(crate) fn name(test: &str) -> String {
        format!("{test}-{}", std::process::id())
    }

    pub(crate) fn ask<T: Send>(
        &self,
        question: impl AsyncFnOnce(api::Client) -> Result<T> + Send,
    ) -> Result<T> {
        api::ask(self.lab.plan(), question)
    }

    /// The namespace of a workload or host.
    pub(crate) fn namespace(&self, node: &str) -> String {
        self.lab.plan().namespace(node).expect("a node of this test")
    }

    pub(crate) fn resource(&self, id: &str) -> Result<v1::Resource> {
        let list = self
            .ask(async |mut client| Ok(client.list_resources(v1::Empty {}).await?.into_inner().resources))?;
        list.into_iter()
            .find(|resource| resource.resource_id == id)
            .with_context(|| format!("no resource {id}"))
    }

    /// Fabric addresses of a resource, IPv4 first.
    pub(crate) fn addresses(&self, id: &str) -> Result<[IpAddr; 2]> {
        let address = self.resource(id)?.address.context("no address")?;
        Ok([address.v4.parse()?, address.v6.parse()?])
    }

    /// Creates a circuit and waits until it is active.
    pub(crate) fn circuit(&self, spec: v1::CircuitSpec) -> Result<v1::Circuit> {
        let circuit = self.create(spec)??;
        if circuit.state() != v1::circuit::State::Active {
            bail!(
                "the circuit is {:?}: {}, waiting for {:?}",
                circuit.state(),
                circuit.detail,
                circuit.waiting
            );
        }
        Ok(circuit)
    }

    /// The inner result is the controller's refusal.
    pub(crate) fn create(&self, spec: v1::CircuitSpec) -> Result<Result<v1::Circuit, tonic::Status>> {
        let request = v1::CreateCircuitRequest {
            circuit: Some(spec),
            idempotency_key: String::new(),
            wait: PATIENCE.as_nanos() as u64,
        };
        self.ask(async |mut client| Ok(client.create_circuit(request).await.map(tonic::Response::into_inner)))
    }

    pub(crate) fn delete(&self, circuit: &str) -> Result<()> {
        let request =
            v1::DeleteCircuitRequest { circuit: circuit.to_owned(), wait: PATIENCE.as_nanos() as u64 };
        self.ask(async |mut client| client.delete_circuit(request).await.map(drop).context("delete"))
    }

    pub(crate) fn remove(&self, resource: &str) -> Result<()> {
        let request = v1::RemoveResourceRequest { resource_id: resource.to_owned(), force: false };
        self.ask(async |mut client| client.remove_resource(request).await.map(drop).context("remove"))
    }

    pub(crate) fn state(&self, circuit: &str) -> Result<v1::circuit::State> {
        let request = v1::CircuitRequest { circuit: circuit.to_owned() };
        self.ask(async |mut client| Ok(client.get_circuit(request).await?.into_inner().state()))
    }

    pub(crate) fn replace_rules(&self, circuit: &str, rules: Vec<v1::Rule>) -> Result<v1::RuleSetView> {
        let request = v1::UpdateFirewallRuleRequest {
            circuit: circuit.to_owned(),
            expected_version: None,
            wait: 0,
            confirm_within: 0,
            edit: Some(v1::update_firewall_rule_request::Edit::Replace(
                v1::update_firewall_rule_request::Replace { rules },
            )),
        };
        self.ask(async |mut client| Ok(client.update_firewall_rule(request).await?.into_inner()))
    }

    /// Drops of a circuit for one reason, summed over nodes and rules, as the controller knows them.
    pub(crate) fn drops(&self, circuit: u64, reason: &str) -> Result<u64> {
        let drops = self.ask(async |mut client| {
            Ok(client.list_drops(v1::ListDropsRequest::default()).await?.into_inner().drops)
        })?;
        let ours = drops.iter().filter_map(|entry| entry.drop.as_ref());
        Ok(ours
            .filter(|drop| drop.circuit == Some(circuit) && drop.reason == reason)
            .map(|drop| drop.packets)
            .sum())
    }

    /// Waits until the controller has heard of some.
    pub(crate) fn drops_eventually(&self, circuit: u64, reason: &str) -> Result<bool> {
        eventually(reason, || Ok(self.drops(circuit, reason)? > 0)).map(|()| true)
    }

    pub(crate) fn node_state(&self, node: &str) -> Result<v1::node::State> {
        let nodes =
            self.ask(async |mut client| Ok(client.list_nodes(v1::Empty {}).await?.into_inner().nodes))?;
        Ok(nodes.iter().find(|entry| entry.name == node).with_context(|| format!("no node {node}"))?.state())
    }

    /// web reaches db by ping, both families.
    pub(crate) fn both_families_pass(&self) -> Result<bool> {
        let mut pass = true;
        for address in self.addresses("db")? {
            let pings = tests_kernel::traffic::ping(&self.namespace("web"), address, 5, 20)?;
            pass &= pings.received == pings.sent;
        }
        Ok(pass)
    }

    /// db's IPv4 address with the port of flows.
    pub(crate) fn flow_target(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.addresses("db")?[0], FLOW))
    }
}

/// web to db, with these rules.
pub(crate) fn web_to_db(rules: Vec<v1::Rule>) -> v1::CircuitSpec {
    v1::CircuitSpec {
        name: "web-db".into(),
        source: "web".into(),
        destination: "db".into(),
        bounds: None,
        priority: 0,
        path: Vec::new(),
        rules,
        expires: 0,
        lifetime: 0,
        starts: 0,
        delay: 0,
    }
}

pub(crate) fn allow(protocol: v1::rule::Protocol, port: Option<u16>) -> v1::Rule {
    v1::Rule {
        action: v1::rule::Action::Allow.into(),
        opener: v1::rule::Opener::Forward.into(),
        protocol: protocol.into(),
        ports: port.map(|port| v1::rule::Ports { from: port.into(), to: port.into() }),
        ..v1::Rule::default()
    }
}

pub(crate) fn allow_icmp() -> v1::Rule {
    allow(v1::rule::Protocol::Icmp, None)
}

pub(crate) fn allow_udp(port: u16) -> v1::Rule {
    allow(v1::rule::Protocol::Udp, Some(port))
}

pub(crate) fn allow_tcp(port: u16) -> v1::Rule {
    allow(v1::rule::Protocol::Tcp, Some(port))
}

/// Nobody is told that a packet was too big.
pub(crate) fn block_icmp(fabric: &Fabric, nodes: &[&str]) -> Result<()> {
    let rules = "table inet silent { \
                 chain incoming { type filter hook prerouting priority -300; \
                 icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; \
                 chain outgoing { type filter hook output priority -300; \
                 icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }";
    for node in nodes {
        let output = fabric.lab.output(node, "nft", &[rules])?;
        if !output.status.success() {
            bail!("nft in {node}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(())
}

/// Bytes that the first connection sends until it closes.
pub(crate) fn count(listener: &TcpListener) -> Result<usize> {
    let (mut stream, mut received, mut buffer) = (listener.accept()?.0, 0, vec![0; 1 << 16]);
    stream.set_read_timeout(Some(4 * PATIENCE))?;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(received),
            some => received += some,
        }
    }
}

/// Asks until it is so; fails when it is not so in time.
pub(crate) fn eventually(what: &str, so: impl FnMut() -> Result<bool>) -> Result<()> {
    within(PATIENCE, what, so)
}

/// As [`eventually`], for what takes longer by design.
pub(crate) fn within(patience: Duration, what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    loop {
        let last = so();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if begun.elapsed() > patience {
            return last.and_then(|_| bail!("it never came about: {what}")).context(what.to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What two snapshots differ in, once the kernel has freed what nothing refers to any more.
pub(crate) fn settled(before: &Snapshot, mut now: impl FnMut() -> Result<Snapshot>) -> Result<Vec<String>> {
    let begun = Instant::now();
    loop {
        let left = before.differences(&now()?);
        if left.is_empty() || begun.elapsed() > Duration::from_secs(5) {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
