//! The stage of the measurements: two edge hosts, two disjoint ways between them, a circuit, and a stream through it.
use super::ways::Ways;
use crate::lab::{Lab, Options, api, file};
use crate::many::PATIENCE;
use crate::stream::Side;
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use proto_wire::v1;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub const HOSTS: [&str; 4] = ["a", "t1", "t2", "b"];
/// The hosts where circuits end.
pub const EDGES: [&str; 2] = ["a", "b"];
/// UDP port of the far side of a stream, and of the near side.
const PORTS: [u16; 2] = [9000, 9001];
/// TCP port of what loads the machine.
pub const LOAD: u16 = 9002;

/// Two disjoint ways; `link` is added to the text of every link.
pub fn topology(link: &str) -> String {
    let mut text = "name = \"protection\"\n".to_owned();
    HOSTS.iter().for_each(|host| text += &format!("[[node]]\nname = \"{host}\"\n"));
    for (one, other) in [("a", "t1"), ("t1", "b"), ("a", "t2"), ("t2", "b")] {
        text += &format!("[[link]]\nends = [\"{one}\", \"{other}\"]\n{link}\n");
    }
    text + "[[workload]]\nname = \"web\"\nnode = \"a\"\n[[workload]]\nname = \"db\"\nnode = \"b\"\n"
}

#[derive(Debug)]
pub struct Scene {
    pub lab: Lab,
}

impl Scene {
    /// # Errors
    /// The lab does not come up.
    pub fn up(kind: &str, link: &str, options: Options) -> Result<Self> {
        let plan = file::parse(&topology(link), Some(&format!("{kind}-{}", std::process::id())))?;
        Ok(Self { lab: Lab::up(plan, options, &ProgressBar::hidden())? })
    }

    /// web and db in the fabric.
    ///
    /// # Errors
    /// They are not registered.
    pub fn sides(&self) -> Result<[Side; 2]> {
        let resources = api::ask(self.lab.plan(), async |mut client| {
            Ok(client.list_resources(v1::Empty {}).await?.into_inner().resources)
        })?;
        let side = |name: &str, port| -> Result<Side> {
            let found = resources.iter().find(|one| one.resource_id == name).context("it is registered")?;
            let address: IpAddr = found.address.as_ref().context("it has an address")?.v4.parse()?;
            Ok(Side { namespace: self.lab.plan().namespace(name)?, address: SocketAddr::new(address, port) })
        };
        Ok([side("web", PORTS[1])?, side("db", PORTS[0])?])
    }

    /// A circuit from web to db, active and protected at both ends; returns the transit host of its first way.
    ///
    /// # Errors
    /// It does not become active, or has no second way.
    pub fn weave(&self) -> Result<String> {
        let request = v1::CreateCircuitRequest {
            circuit: Some(v1::CircuitSpec { source: "web".into(), destination: "db".into(), ..model() }),
            idempotency_key: String::new(),
            wait: PATIENCE,
        };
        let circuit = api::ask(self.lab.plan(), async |mut client| {
            Ok(client.create_circuit(request).await.context("create")?.into_inner())
        })?;
        if circuit.state() != v1::circuit::State::Active {
            bail!("the circuit is {:?}: {}", circuit.state(), circuit.detail);
        }
        if circuit.backup.is_none() {
            bail!("the circuit has no backup: {}", circuit.protection);
        }
        self.protected(1)?;
        circuit.path.and_then(|path| path.nodes.into_iter().nth(1)).context("a path over a transit host")
    }

    /// Waits until both edges have this many circuits in groups, each with both families.
    ///
    /// # Errors
    /// Not within 20 s.
    pub fn protected(&self, circuits: usize) -> Result<[Ways; 2]> {
        let begun = Instant::now();
        loop {
            let ways = [Ways::of(&self.lab, EDGES[0])?, Ways::of(&self.lab, EDGES[1])?];
            if ways.iter().all(|ways| ways.protected == 2 * circuits && ways.unprotected == 0) {
                return Ok(ways);
            }
            if begun.elapsed() > Duration::from_secs(20) {
                let found: Vec<String> = ways
                    .iter()
                    .map(|w| format!("{} with a group, {} without", w.protected, w.unprotected))
                    .collect();
                bail!(
                    "{circuits} circuits should be {} flows in groups on each edge: {}",
                    2 * circuits,
                    found.join("; ")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// # Errors
    /// What the controller says.
    pub fn unweave(&self) -> Result<()> {
        api::ask(self.lab.plan(), async |mut client| {
            let request = v1::DeleteCircuitRequest { circuit: "web-db".into(), wait: PATIENCE };
            client.delete_circuit(request).await.map(drop).context("delete")
        })
    }

    /// A controller again, with all agents in contact.
    ///
    /// # Errors
    /// They do not come.
    pub fn revive_controller(&self) -> Result<()> {
        self.lab.start_controller()?;
        self.lab.wait_connected(&HOSTS)
    }
}

/// What all circuits of these measurements allow.
pub fn model() -> v1::CircuitSpec {
    let allow = |protocol: v1::rule::Protocol, port: u16| v1::Rule {
        action: v1::rule::Action::Allow.into(),
        protocol: protocol.into(),
        ports: Some(v1::rule::Ports { from: port.into(), to: port.into() }),
        ..v1::Rule::default()
    };
    let rules = vec![allow(v1::rule::Protocol::Udp, PORTS[0]), allow(v1::rule::Protocol::Tcp, LOAD)];
    v1::CircuitSpec { rules, ..v1::CircuitSpec::default() }
}
