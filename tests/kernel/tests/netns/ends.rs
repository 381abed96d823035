//! What ends by the hosts' own clocks, and what nobody confirmed, with the controller dead; and what a revoked rule cuts.
use crate::support::{Fabric, PATIENCE, ROW, allow_icmp, allow_tcp, eventually, settled, web_to_db};
use anyhow::{Context, Result};
use proto_wire::v1;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use tests_kernel::lab::{Snapshot, namespace};
use tests_kernel::traffic;

const ENDS: [&str; 2] = ["a", "b"];
const OPEN: u16 = 9001;
const SHUT: u16 = 9002;
/// Longer than a loaded machine needs until it is looked at, shorter than anybody waits.
const CONFIRM: Duration = Duration::from_secs(12);

/// A connection from web to db that was opened once and is used again and again.
struct Talk {
    near: TcpStream,
    far: TcpStream,
    _listener: TcpListener,
}

impl Talk {
    fn open(fabric: &Fabric, to: SocketAddr) -> Result<Self> {
        let listener = traffic::listen(&fabric.namespace("db"), to)?;
        let near = namespace::inside(&fabric.namespace("web"), || {
            TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connecting to {to}"))
        })?;
        let far = listener.accept()?.0;
        Ok(Self { near, far, _listener: listener })
    }

    /// Whether one more byte gets through, each way.
    fn passes(&mut self) -> Result<bool> {
        Ok(heard(&mut self.near, &mut self.far)? && heard(&mut self.far, &mut self.near)?)
    }
}

fn heard(from: &mut TcpStream, to: &mut TcpStream) -> Result<bool> {
    from.write_all(b"x")?;
    to.set_read_timeout(Some(Duration::from_millis(500)))?;
    match to.read(&mut [0; 64]) {
        Ok(some) => Ok(some > 0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn targets(fabric: &Fabric, port: u16) -> Result<[SocketAddr; 2]> {
    Ok(fabric.addresses("db")?.map(|address| SocketAddr::new(address, port)))
}

/// One connection per family.
fn talks(fabric: &Fabric, port: u16) -> Result<Vec<Talk>> {
    targets(fabric, port)?.into_iter().map(|to| Talk::open(fabric, to)).collect()
}

fn deny(port: u16) -> v1::Rule {
    v1::Rule { action: v1::rule::Action::Deny.into(), ..allow_tcp(port) }
}

fn set_policy(fabric: &Fabric, rules: Vec<v1::Rule>, confirm: Duration) -> Result<v1::PolicyView> {
    let request = v1::SetPolicyRequest {
        node: "b".into(),
        expected_version: None,
        rules,
        wait: PATIENCE.as_nanos() as u64,
        confirm_within: confirm.as_nanos() as u64,
    };
    fabric.ask(async |mut client| Ok(client.set_policy(request).await?.into_inner()))
}

fn policy(fabric: &Fabric) -> Result<v1::PolicyView> {
    let request = v1::NodeRequest { node: "b".into() };
    fabric.ask(async |mut client| Ok(client.get_policy(request).await?.into_inner()))
}

/// Whether new connections come about, in both families. The controller is not asked.
fn can_connect(fabric: &Fabric, targets: [SocketAddr; 2]) -> Result<bool> {
    let mut can = true;
    for to in targets {
        let _open = traffic::listen(&fabric.namespace("db"), to)?;
        can &= traffic::connects(&fabric.namespace("web"), to, Duration::from_millis(500))?;
    }
    Ok(can)
}

#[test]
fn a_policy_cuts_a_live_connection_and_is_taken_back_with_controller_and_agent_killed() -> Result<()> {
    let fabric = Fabric::up("policy", ROW)?;
    let circuit = fabric.circuit(web_to_db(vec![allow_tcp(OPEN), allow_tcp(SHUT)]))?;
    let (mut open, shut) = (talks(&fabric, OPEN)?, talks(&fabric, SHUT)?);
    for mut talk in shut {
        assert!(talk.passes()?);
        // Set anew for each family, so that each is cut while it lives.
        let set = set_policy(&fabric, vec![deny(SHUT)], Duration::ZERO)?;
        assert!(!set.pending && set.rules.len() == 1, "{set:?}");
        assert!(!talk.passes()?, "cut as soon as the policy is in force");
        for other in &mut open {
            assert!(other.passes()?, "what the policy does not speak of goes on");
        }
        set_policy(&fabric, Vec::new(), Duration::ZERO)?;
    }
    let counted = |rule: u32| {
        let drops = fabric.ask(async |mut client| {
            Ok(client.list_drops(v1::ListDropsRequest::default()).await?.into_inner().drops)
        })?;
        let of_rule = |drop: &v1::NodeDropCount| {
            let of = |count: &v1::DropCount| count.circuit == Some(circuit.id) && count.rule == rule;
            drop.node == "b" && drop.drop.as_ref().is_some_and(of)
        };
        Ok(drops.iter().any(of_rule))
    };
    eventually("the drop names the policy's rule", || counted(proto_model::policy::marked(1)))?;
    let shut = targets(&fabric, SHUT)?;
    assert!(can_connect(&fabric, shut)?);
    let wait = set_policy(&fabric, vec![deny(SHUT)], CONFIRM)?;
    assert!(wait.confirm_by > 0 && !wait.pending, "{wait:?}");
    fabric.lab.controller().kill()?;
    fabric.lab.kill_agent("b")?;
    assert!(!can_connect(&fabric, shut)?, "in force until its time, agent or not");
    fabric.lab.start_agent("b")?;
    eventually("it is taken back", || can_connect(&fabric, shut))?;
    for other in &mut open {
        assert!(other.passes()?, "none of this cost the connection that it does not speak of");
    }
    fabric.lab.start_controller()?;
    fabric.lab.wait_connected(&ENDS)?;
    let after = policy(&fabric)?;
    assert_eq!((after.rules.len(), after.confirm_by), (0, 0), "{after:?}");
    fabric.lab.down()
}

#[test]
fn an_unconfirmed_rule_change_is_taken_back_with_the_controller_dead() -> Result<()> {
    let fabric = Fabric::up("unsure", ROW)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let replace = v1::update_firewall_rule_request::Replace { rules: Vec::new() };
    let request = v1::UpdateFirewallRuleRequest {
        circuit: "web-db".into(),
        expected_version: None,
        wait: PATIENCE.as_nanos() as u64,
        confirm_within: CONFIRM.as_nanos() as u64,
        edit: Some(v1::update_firewall_rule_request::Edit::Replace(replace)),
    };
    let set = fabric.ask(async |mut client| Ok(client.update_firewall_rule(request).await?.into_inner()))?;
    assert!(set.pending.is_empty() && set.confirm_by > 0, "{set:?}");
    let addresses = fabric.addresses("db")?;
    let passes = || -> Result<bool> {
        let ping = |to| traffic::ping(&fabric.namespace("web"), to, 3, 50);
        Ok(ping(addresses[0])?.received == 3 && ping(addresses[1])?.received == 3)
    };
    fabric.lab.controller().kill()?;
    assert!(!passes()?, "nothing passes until then");
    eventually("the change is taken back", passes)?;
    fabric.lab.start_controller()?;
    fabric.lab.wait_connected(&ENDS)?;
    fabric.lab.down()
}

#[test]
fn a_revoked_rule_cuts_a_live_connection_at_once_and_an_allowed_one_goes_on() -> Result<()> {
    let fabric = Fabric::up("revoke", ROW)?;
    fabric.circuit(web_to_db(vec![allow_tcp(OPEN), allow_tcp(SHUT)]))?;
    let (mut open, mut shut) = (talks(&fabric, OPEN)?, talks(&fabric, SHUT)?);
    for talk in open.iter_mut().chain(&mut shut) {
        assert!(talk.passes()?);
    }
    let replace = v1::update_firewall_rule_request::Replace { rules: vec![allow_tcp(OPEN)] };
    let request = v1::UpdateFirewallRuleRequest {
        circuit: "web-db".into(),
        expected_version: None,
        wait: PATIENCE.as_nanos() as u64,
        confirm_within: 0,
        edit: Some(v1::update_firewall_rule_request::Edit::Replace(replace)),
    };
    let set = fabric.ask(async |mut client| Ok(client.update_firewall_rule(request).await?.into_inner()))?;
    assert!(set.pending.is_empty(), "{set:?}");
    for talk in &mut shut {
        assert!(!talk.passes()?, "cut as soon as the rules are in force");
    }
    for talk in &mut open {
        assert!(talk.passes()?);
    }
    fabric.lab.down()
}

#[test]
fn a_circuit_that_expires_with_the_controller_dead_carries_nothing_and_leaves_nothing() -> Result<()> {
    let fabric = Fabric::up("expire", ROW)?;
    let nodes = ["a", "t", "b", "web", "db"];
    let inside = |node: &str| Snapshot::of_namespace(&fabric.namespace(node));
    std::thread::sleep(Duration::from_millis(500));
    let before: Vec<Snapshot> = nodes.iter().map(|node| inside(node)).collect::<Result<_>>()?;
    let spec = v1::CircuitSpec { lifetime: CONFIRM.as_nanos() as u64, ..web_to_db(vec![allow_icmp()]) };
    fabric.circuit(spec)?;
    let addresses = fabric.addresses("db")?;
    let received = |to| Ok::<_, anyhow::Error>(traffic::ping(&fabric.namespace("web"), to, 2, 50)?.received);
    let routes = |node: &str| -> Result<usize> {
        let mut lines = 0;
        for family in ["-4", "-6"] {
            let output = fabric.lab.output(node, "ip", &[family, "route", "show", "proto", "187"])?;
            lines += String::from_utf8_lossy(&output.stdout).lines().count();
        }
        Ok(lines)
    };
    assert_eq!((routes("web")?, routes("db")?), (2, 2));
    assert_eq!((received(addresses[0])?, received(addresses[1])?), (2, 2));
    fabric.lab.controller().kill()?;
    eventually("both ends are closed", || Ok((routes("web")?, routes("db")?) == (0, 0)))?;
    for address in addresses {
        assert_eq!(received(address).unwrap_or(0), 0, "{address}");
    }
    fabric.lab.start_controller()?;
    fabric.lab.wait_connected(&["a", "t", "b"])?;
    let gone = || {
        let list = fabric
            .ask(async |mut client| Ok(client.list_circuits(v1::Empty {}).await?.into_inner().circuits))?;
        Ok(list.is_empty())
    };
    eventually("the controller has let go of it too", gone)?;
    for (node, before) in nodes.iter().zip(&before) {
        assert_eq!(settled(before, || inside(node))?, Vec::<String>::new(), "on {node}");
    }
    fabric.lab.down()
}
