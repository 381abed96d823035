//! Turns a topology into a plan: names, interfaces and addresses for everything in it.
use super::plan::{self, End, Host, Link, Plan, Shape, Underlay, Workload};
use anyhow::{Context, Result};
use proto_model::rule::Protocol;
use proto_model::{Bandwidth, Latency, Name};
use std::path::Path;
use tests_sim::topology::{self, Family, Topology};

/// Reads a file; `name` replaces the name of the lab that the file gives.
pub fn read(file: &Path, name: Option<&str>) -> Result<Plan> {
    let mut topology = Topology::load(file).with_context(|| file.display().to_string())?;
    // Recordings are named as seen from the file.
    for series in topology.links.iter_mut().filter_map(|link| link.series.as_mut()) {
        let path = file.parent().unwrap_or(Path::new(".")).join(&*series);
        *series = path.canonicalize().with_context(|| path.display().to_string())?;
    }
    of(&topology, name)
}

/// Reads a text; `name` replaces the name of the lab that the text gives.
pub fn parse(text: &str, name: Option<&str>) -> Result<Plan> {
    of(&Topology::parse(text)?, name)
}

/// The plan for a topology.
pub fn of(topology: &Topology, name: Option<&str>) -> Result<Plan> {
    let name: Name = name.map(str::parse).transpose()?.unwrap_or_else(|| topology.name.clone());
    let host = |(index, node): (usize, &proto_model::NodeName)| Host {
        name: node.to_string(),
        namespace: format!("fwl-{name}-{node}"),
        management: plan::management(index),
        underlays: Vec::new(),
    };
    let mut hosts: Vec<Host> = topology.nodes.iter().enumerate().map(host).collect();
    let links = topology.links.iter().enumerate().map(|(index, entry)| link(&mut hosts, index, entry));
    let links = links.collect::<Result<_>>()?;
    let workloads = topology.workloads.iter().enumerate();
    let workloads = workloads.map(|(index, entry)| workload(&name, index, entry)).collect();
    Plan { name: name.to_string(), hosts, links, workloads, controller: String::new() }.check()
}

fn link(hosts: &mut [Host], index: usize, entry: &topology::Link) -> Result<Link> {
    let (v4, v6) = (plan::link_v4(index), plan::link_v6(index));
    let mut end = |which: usize| -> Result<End> {
        let name = entry.ends[which].as_str();
        let known = hosts.iter_mut().find(|candidate| candidate.name == name);
        let host = known.with_context(|| format!("there is no node {name}"))?;
        let interface = format!("eth{}", host.underlays.len());
        let network = entry.network.to_string();
        host.underlays.push(Underlay { interface: interface.clone(), network, shape: entry.shape });
        let addresses = match entry.family {
            Family::Ipv4 => vec![v4[which]],
            Family::Ipv6 => vec![v6[which]],
            Family::Both => vec![v4[which], v6[which]],
        };
        Ok(End { host: host.name.clone(), interface, addresses })
    };
    Ok(Link {
        network: entry.network.to_string(),
        ends: [end(0)?, end(1)?],
        mtu: entry.mtu.into(),
        shape: shape(entry),
        price: entry.price.micro_dollars_per_gb(),
        encrypted: entry.encrypted,
        tags: entry.tags.iter().map(ToString::to_string).collect(),
        // The rate of a link must sit elsewhere than in the queues that the agents make.
        emulate: entry.emulate || entry.shape,
        measured: entry.is_measured(),
    })
}

fn shape(entry: &topology::Link) -> Shape {
    Shape {
        rate: entry.rate.map(Bandwidth::bits_per_second),
        delay: entry.delay.map_or(0, Latency::nanos),
        jitter: entry.jitter.nanos(),
        loss: entry.loss.ppm(),
        series: entry.series.clone(),
    }
}

fn workload(lab: &Name, index: usize, entry: &topology::Workload) -> Workload {
    let service = |service: &proto_model::resource::Service| {
        // The file's reader lets only these two pass.
        let protocol = if service.protocol == Protocol::Udp { "udp" } else { "tcp" };
        format!("{} {protocol}/{}", service.name, service.port)
    };
    Workload {
        name: entry.name.to_string(),
        namespace: format!("fwl-{lab}-{}", entry.name),
        host: entry.node.to_string(),
        bridge: format!("pn{index}"),
        private: entry.private,
        services: entry.services.iter().map(service).collect(),
        labels: entry.labels.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
    }
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
    fn names_that_cannot_be_told_apart_are_refused() {
        for (change, to) in
            [("name = \"web\"", "name = \"edge-a\""), ("name = \"web\"", "name = \"controller\"")]
        {
            let failure = parse(&DIAMOND.replacen(change, to, 1), None).expect_err(to);
            assert!(format!("{failure:#}").contains("name of a host"), "{failure:#}");
        }
        let controller = DIAMOND.replace("transit-1", "controller");
        assert!(parse(&controller, None).is_err());
        assert!(parse(DIAMOND, Some("../etc")).is_err());
    }
}
