//! What circuits are measured against: the same three hosts with the kernel's own routing, plain and through its VXLAN.
use crate::lab::{Lab, namespace};
use anyhow::{Result, bail};
use std::net::IpAddr;

/// db's address when packets are routed plainly, and when they go through the kernel's VXLAN.
pub const PLAIN: &str = "10.2.0.2";
pub const VXLAN: &str = "10.4.0.2";

/// Two veth pairs per workload: one routed plainly over the three hosts, one through a VXLAN device on each edge.
///
/// # Errors
/// What `ip` says.
pub fn route(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let [near, far] = ["web", "db"].map(|name| format!("fwl-{}-{name}", plan.name));
    let address = |link: usize, end: usize| plan.links[link].ends[end].addresses[0].0;
    let (a, via_a, via_b, b) = (address(0, 0), address(0, 1), address(1, 0), address(1, 1));
    let script = |ours: (u8, u8),
                  theirs: (u8, u8),
                  workload: &str,
                  local: IpAddr,
                  remote: IpAddr,
                  via: IpAddr| {
        format!(
            "set -e; echo 1 > /proc/sys/net/ipv4/ip_forward
             ip link add r0 type veth peer name r0 netns {workload}; ip address add 10.{p}.0.1/30 dev r0; ip link set r0 up
             ip link add v0 mtu 1450 type veth peer name v0 mtu 1450 netns {workload}; ip address add 10.{v}.0.1/30 dev v0; ip link set v0 up
             ip route add {remote}/32 via {via}; ip route add 10.{q}.0.0/30 via {via}
             ip link add vx0 mtu 1450 type vxlan id 7 local {local} remote {remote} dstport 4789 dev eth0
             ip address add 10.9.0.{p}/24 dev vx0; ip link set vx0 up; ip route add 10.{w}.0.0/30 via 10.9.0.{q}",
            p = ours.0, v = ours.1, q = theirs.0, w = theirs.1
        )
    };
    run(&plan.namespace("a")?, &script((1, 3), (2, 4), &near, a, b, via_a))?;
    run(&plan.namespace("b")?, &script((2, 4), (1, 3), &far, b, a, via_b))?;
    run(
        &plan.namespace("t")?,
        &format!(
            "set -e; echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add 10.1.0.0/30 via {a}; ip route add 10.2.0.0/30 via {b}"
        ),
    )?;
    let inner = |p: u8, v: u8, q: u8, w: u8| {
        format!(
            "set -e; ip address add 10.{p}.0.2/30 dev r0; ip link set r0 up; ip route add 10.{q}.0.0/30 via 10.{p}.0.1
             ip address add 10.{v}.0.2/30 dev v0; ip link set v0 up; ip route add 10.{w}.0.0/30 via 10.{v}.0.1"
        )
    };
    run(&near, &inner(1, 3, 2, 4))?;
    run(&far, &inner(2, 4, 1, 3))
}

fn run(inside: &str, script: &str) -> Result<()> {
    let output = namespace::command(inside, "sh")?.args(["-c", script]).output()?;
    if !output.status.success() {
        bail!("in {inside}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
