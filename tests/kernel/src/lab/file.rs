//! Turns a topology file into a plan: names, interfaces and addresses for everything in it.
use super::plan::{self, End, Host, Link, Plan, Shape, Underlay, Workload};
use anyhow::{Context, Result, bail};
use proto_model::{Bandwidth, Latency, Loss, Name, Price};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topology {
    name: Name,
    node: Vec<NodeEntry>,
    #[serde(default)]
    link: Vec<LinkEntry>,
    #[serde(default)]
    workload: Vec<WorkloadEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    name: Name,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Family {
    Ipv4,
    Ipv6,
    #[default]
    Both,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkEntry {
    ends: [Name; 2],
    network: Option<Name>,
    #[serde(default)]
    family: Family,
    mtu: Option<u32>,
    rate: Option<String>,
    delay: Option<String>,
    jitter: Option<String>,
    loss: Option<String>,
    price: Option<String>,
    series: Option<PathBuf>,
    #[serde(default)]
    encrypted: bool,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadEntry {
    name: Name,
    node: Name,
    private: Option<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Reads a file; `name` replaces the name of the lab that the file gives.
pub fn read(file: &Path, name: Option<&str>) -> Result<Plan> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut plan = parse(&text, name).with_context(|| file.display().to_string())?;
    // Recordings are named as seen from the file.
    for series in plan.links.iter_mut().filter_map(|link| link.shape.series.as_mut()) {
        *series = file.parent().unwrap_or(Path::new(".")).join(&*series).canonicalize()?;
    }
    Ok(plan)
}

/// Reads a text; `name` replaces the name of the lab that the text gives.
pub fn parse(text: &str, name: Option<&str>) -> Result<Plan> {
    let topology: Topology = toml::from_str(text)?;
    let name: Name = name.map(str::parse).transpose()?.unwrap_or(topology.name);
    let mut plan =
        Plan { name: name.to_string(), hosts: Vec::new(), links: Vec::new(), workloads: Vec::new() };
    for (index, node) in topology.node.iter().enumerate() {
        if plan.host(node.name.as_str()).is_some() {
            bail!("there are two nodes called {}", node.name);
        }
        plan.hosts.push(Host {
            name: node.name.to_string(),
            namespace: format!("fwl-{name}-{}", node.name),
            management: plan::management(index),
            underlays: Vec::new(),
        });
    }
    for entry in topology.link {
        let link = link(&mut plan, &entry)
            .with_context(|| format!("the link of {} and {}", entry.ends[0], entry.ends[1]))?;
        plan.links.push(link);
    }
    for entry in topology.workload {
        let workload = workload(&plan, &entry).with_context(|| format!("the workload {}", entry.name))?;
        plan.workloads.push(workload);
    }
    plan.check()
}

fn link(plan: &mut Plan, entry: &LinkEntry) -> Result<Link> {
    if entry.ends[0] == entry.ends[1] {
        bail!("both ends are one node");
    }
    let index = plan.links.len();
    let [a, b] = &entry.ends;
    let network = entry.network.as_ref().map_or_else(|| format!("{a}-{b}"), ToString::to_string);
    if plan.links.iter().any(|link| link.network == network) {
        bail!("there are two links in the network {network}; a lab's network has two ends");
    }
    let (v4, v6) = (plan::link_v4(index), plan::link_v6(index));
    let mut end = |which: usize| -> Result<End> {
        let host = entry.ends[which].as_str();
        let known = plan.hosts.iter_mut().find(|candidate| candidate.name == host);
        let host = known.with_context(|| format!("there is no node {host}"))?;
        let interface = format!("eth{}", host.underlays.len());
        host.underlays.push(Underlay { interface: interface.clone(), network: network.clone() });
        let addresses = match entry.family {
            Family::Ipv4 => vec![v4[which]],
            Family::Ipv6 => vec![v6[which]],
            Family::Both => vec![v4[which], v6[which]],
        };
        Ok(End { host: host.name.clone(), interface, addresses })
    };
    let ends = [end(0)?, end(1)?];
    let mtu = entry.mtu.unwrap_or(1500);
    let least = if entry.family == Family::Ipv4 { 576 } else { 1280 };
    if !(least..=65_535).contains(&mtu) {
        bail!("mtu {mtu} is not between {least} and 65535");
    }
    Ok(Link {
        network,
        ends,
        mtu,
        shape: shape(entry)?,
        price: quantity::<Price>(entry.price.as_deref())?.unwrap_or_default().micro_dollars_per_gb(),
        encrypted: entry.encrypted,
        tags: entry.tags.clone(),
    })
}

fn shape(entry: &LinkEntry) -> Result<Shape> {
    let rate = quantity::<Bandwidth>(entry.rate.as_deref())?.map(Bandwidth::bits_per_second);
    if rate.is_some_and(|rate| rate < 8_000) {
        bail!("rate {} is less than 8 kbit/s", entry.rate.as_deref().unwrap_or(""));
    }
    Ok(Shape {
        rate,
        delay: quantity::<Latency>(entry.delay.as_deref())?.unwrap_or_default().nanos(),
        jitter: quantity::<Latency>(entry.jitter.as_deref())?.unwrap_or_default().nanos(),
        loss: quantity::<Loss>(entry.loss.as_deref())?.unwrap_or_default().ppm(),
        series: entry.series.clone(),
    })
}

fn quantity<Q: std::str::FromStr>(text: Option<&str>) -> Result<Option<Q>>
where
    Q::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(text.map(str::parse).transpose()?)
}

fn workload(plan: &Plan, entry: &WorkloadEntry) -> Result<Workload> {
    if plan.workload(entry.name.as_str()).is_some() {
        bail!("there are two of them");
    }
    let host = plan.host(entry.node.as_str()).with_context(|| format!("there is no node {}", entry.node))?;
    Ok(Workload {
        name: entry.name.to_string(),
        namespace: format!("fwl-{}-{}", plan.name, entry.name),
        host: host.name.clone(),
        bridge: format!("pn{}", plan.workloads.len()),
        private: entry.private.as_deref().map(private).transpose()?,
        services: entry.services.clone(),
        labels: entry.labels.clone(),
    })
}

/// `192.168.1.10/24`.
fn private(text: &str) -> Result<(IpAddr, u8)> {
    let wrong = || format!("\"{text}\" is not an address with its length; write it like 192.168.1.10/24");
    let (address, length) = text.split_once('/').with_context(wrong)?;
    let address: IpAddr = address.parse().ok().with_context(wrong)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.parse().ok().filter(|length| *length <= most).with_context(wrong)?;
    Ok((address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIAMOND: &str = r#"
        name = "diamond"
        [[node]]
        name = "edge-a"
        [[node]]
        name = "transit-1"
        [[link]]
        ends = ["edge-a", "transit-1"]
        rate = "1gbit"
        delay = "2ms"
        loss = "0.1%"
        [[workload]]
        name = "web"
        node = "edge-a"
        private = "192.168.1.10/24"
        services = ["http tcp/80"]
    "#;

    #[test]
    fn a_plan_has_a_name_and_an_address_for_everything() {
        let plan = parse(DIAMOND, Some("t1")).expect("plan");
        assert_eq!(
            plan.namespaces(),
            ["fwl-t1-controller", "fwl-t1-edge-a", "fwl-t1-transit-1", "fwl-t1-web"]
        );
        let link = &plan.links[0];
        assert_eq!(link.network, "edge-a-transit-1");
        assert_eq!(
            (link.shape.rate, link.shape.delay, link.shape.loss),
            (Some(1_000_000_000), 2_000_000, 1_000)
        );
        assert_eq!(link.ends[0].addresses.len(), 2);
        assert_ne!(link.ends[0].addresses, link.ends[1].addresses);
        assert_eq!(plan.workloads[0].private, Some(("192.168.1.10".parse().expect("address"), 24)));
    }

    #[test]
    fn what_is_wrong_with_a_topology_is_named() {
        for (change, to, why) in [
            ("\"edge-a\", \"transit-1\"", "\"edge-a\", \"nowhere\"", "there is no node nowhere"),
            ("\"edge-a\", \"transit-1\"", "\"edge-a\", \"edge-a\"", "both ends are one node"),
            ("1gbit", "1 parsec", "200mbit or 1.5gbit"),
            ("192.168.1.10/24", "192.168.1.10/33", "192.168.1.10/24"),
            ("node = \"edge-a\"", "node = \"x\"", "there is no node x"),
            ("rate =", "speed =", "unknown field `speed`"),
            ("delay = \"2ms\"", "mtu = 500", "mtu 500"),
            ("name = \"web\"", "name = \"controller\"", "name of a host"),
        ] {
            let failure = parse(&DIAMOND.replacen(change, to, 1), None).expect_err(to);
            assert!(format!("{failure:#}").contains(why), "{failure:#}");
        }
    }
}
