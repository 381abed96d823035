//! What passes through a circuit, and what does not.
use crate::support::{Fabric, PATIENCE, ROW, allow_icmp, allow_tcp, allow_udp, eventually, web_to_db};
use anyhow::Result;
use std::net::SocketAddr;
use std::time::Duration;
use tests_kernel::traffic::{self, Flow};

#[test]
fn circuit_passes_both_families_and_tcp_between_overlapping_networks() -> Result<()> {
    let fabric = Fabric::up("pass", ROW)?;
    let private = |node: &str| -> Result<String> {
        let output = fabric.lab.output(node, "ip", &["-br", "-4", "address", "show", "eth0"])?;
        Ok(String::from_utf8(output.stdout)?.split_whitespace().nth(2).unwrap_or("").to_owned())
    };
    assert_eq!(private("web")?, "192.168.1.10/24");
    assert_eq!(private("db")?, "192.168.1.10/24");
    let [v4, v6] = fabric.addresses("db")?;
    assert_eq!(traffic::ping(&fabric.namespace("web"), v4, 1, 200).map(|p| p.received).unwrap_or(0), 0);
    let circuit = fabric.circuit(web_to_db(vec![allow_icmp(), allow_tcp(5432)]))?;
    assert_eq!(circuit.path.map(|path| path.nodes), Some(vec!["a".into(), "t".into(), "b".into()]));
    assert!(fabric.both_families_pass()?);
    for address in [v4, v6] {
        let target = SocketAddr::new(address, 5432);
        let _open = traffic::listen(&fabric.namespace("db"), target)?;
        assert!(traffic::connects(&fabric.namespace("web"), target, PATIENCE)?, "{target}");
    }
    assert_eq!(private("web")?, "192.168.1.10/24");
    fabric.lab.down()
}

#[test]
fn default_deny_refuses_and_the_drop_names_its_reason() -> Result<()> {
    let fabric = Fabric::up("deny", ROW)?;
    let circuit = fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let target = SocketAddr::new(fabric.addresses("db")?[0], 22);
    let _open = traffic::listen(&fabric.namespace("db"), target)?;
    assert!(!traffic::connects(&fabric.namespace("web"), target, Duration::from_millis(500))?);
    eventually("the drop is reported", || Ok(fabric.drops(circuit.id, "denied_by_rule")? > 0))?;
    // The other direction may not open connections either: rules are the source's unless they say reverse.
    let back = SocketAddr::new(fabric.addresses("web")?[0], 22);
    let _open = traffic::listen(&fabric.namespace("web"), back)?;
    assert!(!traffic::connects(&fabric.namespace("db"), back, Duration::from_millis(500))?);
    fabric.lab.down()
}

#[test]
fn rules_change_under_traffic_without_loss() -> Result<()> {
    let fabric = Fabric::up("rules", ROW)?;
    let target = fabric.flow_target()?;
    fabric.circuit(web_to_db(vec![allow_udp(target.port())]))?;
    let flow = Flow::start(&fabric.namespace("web"), &fabric.namespace("db"), target, 5_000)?;
    let mut version = 0;
    for round in 0..40u16 {
        // The rule that the flow needs moves through the set; it is in force in every version.
        let mut rules: Vec<_> = (0..round % 7).map(|index| allow_tcp(1_000 + round + index)).collect();
        rules.push(allow_udp(target.port()));
        version = fabric.replace_rules("web-db", rules)?.version;
    }
    assert!(version >= 40, "version {version}");
    eventually("the last rules are in force", || {
        Ok(fabric.state("web-db")? == proto_wire::v1::circuit::State::Active)
    })?;
    let outcome = flow.finish()?;
    assert!(outcome.sent > 1_000, "{outcome:?}");
    assert_eq!((outcome.lost(), outcome.duplicates), (0, 0), "{outcome:?}");
    fabric.lab.down()
}

#[test]
fn ipv6_only_underlay_carries_both_families() -> Result<()> {
    let topology = ROW.replace("rate = \"1gbit\"", "family = \"ipv6\"");
    let fabric = Fabric::up("six", &topology)?;
    let outer = || fabric.lab.plan().links.iter().flat_map(|link| &link.ends).flat_map(|end| &end.addresses);
    assert!(outer().count() > 0 && outer().all(|(address, _)| address.is_ipv6()), "IPv4 below");
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    assert!(fabric.both_families_pass()?);
    fabric.lab.down()
}

#[test]
fn dead_transit_is_refused_by_name_and_another_is_chosen() -> Result<()> {
    let diamond = format!(
        "{ROW}\n[[node]]\nname = \"u\"\n[[link]]\nends = [\"a\", \"u\"]\nrate = \"1gbit\"\n[[link]]\nends = [\"u\", \"b\"]\nrate = \"1gbit\"\n"
    );
    let fabric = Fabric::up("dead", &diamond)?;
    fabric.lab.kill_agent("t")?;
    eventually(
        "the controller notices",
        || Ok(fabric.node_state("t")? == proto_wire::v1::node::State::Lost),
    )?;
    let mut pinned = web_to_db(vec![allow_icmp()]);
    pinned.path = ["a", "t", "b"].map(String::from).to_vec();
    let refusal = fabric.create(pinned)?.expect_err("a path over a dead host");
    assert!(refusal.message().contains('t'), "{refusal}");
    let circuit = fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    assert_eq!(circuit.path.map(|path| path.nodes), Some(vec!["a".into(), "u".into(), "b".into()]));
    assert!(fabric.both_families_pass()?);
    fabric.lab.down()
}

#[test]
fn circuit_crosses_an_emulated_link() -> Result<()> {
    let topology =
        ROW.replacen("rate = \"1gbit\"", "rate = \"100mbit\"\ndelay = \"5ms\"\njitter = \"100us\"", 1);
    let fabric = Fabric::up("slow", &topology)?;
    fabric.circuit(web_to_db(vec![allow_icmp()]))?;
    let pings = traffic::ping(&fabric.namespace("web"), fabric.addresses("db")?[0], 10, 20)?;
    assert_eq!(pings.received, pings.sent);
    // A lower bound only: a busy machine may be slower, but nothing is faster than the link.
    assert!(pings.rtt >= 9.8, "{pings:?}");
    fabric.lab.down()
}
