//! How a lab is: which processes run, what the controller says of the hosts.
use super::{Lab, api};
use crate::lab::plan::CONTROLLER;
use anyhow::{Context, Result};
use proto_wire::v1;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Status {
    pub lab: String,
    pub folder: String,
    pub controller_pid: Option<u32>,
    pub hosts: Vec<HostStatus>,
    pub links: usize,
    /// Links that are not as the topology says, and how.
    pub changed_links: Vec<String>,
    pub workloads: Vec<WorkloadStatus>,
}

#[derive(Debug, Serialize)]
pub struct HostStatus {
    pub name: String,
    pub namespace: String,
    pub agent_pid: Option<u32>,
    /// As the controller says: expected, connected or lost; unknown when the controller does not answer.
    pub state: String,
    pub underlays: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct WorkloadStatus {
    pub name: String,
    pub host: String,
    pub namespace: String,
    pub private: Option<String>,
}

pub fn of(lab: &Lab) -> Result<Status> {
    let plan = lab.plan();
    let nodes = match lab.controller().pid() {
        Some(_) => nodes(lab).unwrap_or_default(),
        None => Vec::new(),
    };
    let state = |name: &str| match nodes.iter().find(|node| node.name == name).map(v1::Node::state) {
        Some(v1::node::State::Expected) => "expected",
        Some(v1::node::State::Connected) => "connected",
        Some(v1::node::State::Lost) => "lost",
        Some(v1::node::State::Unspecified) | None => "unknown",
    };
    let hosts = plan.hosts.iter().map(|host| HostStatus {
        name: host.name.clone(),
        namespace: host.namespace.clone(),
        agent_pid: lab.agent(&host.name).pid(),
        state: state(&host.name).to_owned(),
        underlays: host.underlays.iter().map(|u| format!("{} ({})", u.interface, u.network)).collect(),
    });
    let workloads = plan.workloads.iter().map(|workload| WorkloadStatus {
        name: workload.name.clone(),
        host: workload.host.clone(),
        namespace: workload.namespace.clone(),
        private: workload.private.map(|(address, length)| format!("{address}/{length}")),
    });
    Ok(Status {
        lab: plan.name.clone(),
        folder: plan.folder().display().to_string(),
        controller_pid: lab.controller().pid(),
        hosts: hosts.collect(),
        links: plan.links.len(),
        changed_links: lab.changed_links()?,
        workloads: workloads.collect(),
    })
}

fn nodes(lab: &Lab) -> Result<Vec<v1::Node>> {
    api::ask(lab.plan(), async |mut client| {
        Ok(client.list_nodes(v1::Empty {}).await.context("the list of nodes")?.into_inner().nodes)
    })
}

pub fn print(status: &Status) {
    let running = |pid: Option<u32>| pid.map_or("not running".to_owned(), |pid| format!("process {pid}"));
    println!("lab {} ({})", status.lab, status.folder);
    println!("  {CONTROLLER:<20} {}", running(status.controller_pid));
    for host in &status.hosts {
        println!(
            "  {:<20} {}, {}; {}",
            host.name,
            running(host.agent_pid),
            host.state,
            host.underlays.join(", ")
        );
    }
    for change in &status.changed_links {
        println!("  {:<20} {change}", "link");
    }
    for workload in &status.workloads {
        let private = workload.private.as_deref().unwrap_or("no private network");
        println!("  {:<20} workload on {}, {private}", workload.name, workload.host);
    }
}
