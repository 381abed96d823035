//! Makes the namespaces, interfaces and links of a plan, many at a time.
use super::network::within;
use super::plan::{Link, MANAGEMENT, MANAGEMENT_LENGTH, Plan};
use super::{door, namespace, shape};
use anyhow::{Context, Result};
use std::process::Command;

/// Threads that make things at the same time; most of them wait for the kernel's one routing lock.
const AT_ONCE: usize = 8;

/// The bridge of the management network, in the controller's namespace.
const BRIDGE: &str = "management";
/// A host's interface in the management network.
const UPLINK: &str = "mgmt";

pub(super) fn namespaces(plan: &Plan) -> Result<()> {
    each(&plan.namespaces(), |name| {
        namespace::create(name)?;
        namespace::inside(name, || {
            // Addresses that nobody else can have need no detection of duplicates.
            for which in ["all", "default"] {
                let folder = format!("/proc/sys/net/ipv6/conf/{which}");
                let _ = std::fs::write(format!("{folder}/accept_dad"), "0");
                let _ = std::fs::write(format!("{folder}/disable_ipv6"), "0");
                let _ = std::fs::write(format!("{folder}/router_solicitations"), "0");
            }
            Ok(())
        })?;
        within(name, async |network| network.up("lo").await)
    })
}

/// The management bridge with the controller's address, and an uplink to it in every host.
pub(super) fn management(plan: &Plan) -> Result<()> {
    within(&plan.controller_namespace(), async |network| {
        network.bridge(BRIDGE).await?;
        network.address(BRIDGE, MANAGEMENT.into(), MANAGEMENT_LENGTH).await?;
        for (index, host) in plan.hosts.iter().enumerate() {
            let port = format!("m{index}");
            network.veth(&port, UPLINK, &host.namespace, 1500).await?;
            network.enslave(&port, BRIDGE).await?;
        }
        Ok(())
    })?;
    each(&plan.hosts, |host| {
        within(&host.namespace, async |network| {
            network.address(UPLINK, host.management.into(), MANAGEMENT_LENGTH).await?;
            network.up(UPLINK).await
        })
    })
}

/// All underlay links; returns those that need the emulator.
pub(super) fn links(plan: &Plan) -> Result<Vec<usize>> {
    let wanted = plan.links.iter().any(|link| link.shape.needs_delay_or_loss());
    let netem = wanted && shape::has_netem(&plan.controller_namespace())?;
    let numbered: Vec<(usize, &Link)> = plan.links.iter().enumerate().collect();
    each(&numbered, |(_, link)| self::link(plan, link, netem))?;
    let emulated = |link: &Link| needs_emulator(link, netem);
    Ok(numbered.into_iter().filter(|(_, link)| emulated(link)).map(|(index, _)| index).collect())
}

/// netem cannot play a recording.
fn needs_emulator(link: &Link, netem: bool) -> bool {
    link.emulate || link.shape.series.is_some() || link.shape.needs_delay_or_loss() && !netem
}

fn link(plan: &Plan, link: &Link, netem: bool) -> Result<()> {
    let namespaces = [plan.namespace(&link.ends[0].host)?, plan.namespace(&link.ends[1].host)?];
    let emulated = needs_emulator(link, netem);
    if !emulated {
        within(&namespaces[0], async |network| {
            network.veth(&link.ends[0].interface, &link.ends[1].interface, &namespaces[1], link.mtu).await
        })?;
    }
    for (end, name) in link.ends.iter().zip(&namespaces) {
        if emulated {
            namespace::inside(name, || door::tap(&end.interface, true).map(drop))?;
        }
        within(name, async |network| {
            if emulated {
                network.set_mtu(&end.interface, link.mtu).await?;
            }
            network.up(&end.interface).await?;
            for (address, length) in &end.addresses {
                network.address(&end.interface, *address, *length).await?;
            }
            Ok(())
        })?;
        if !emulated {
            shape::apply(name, &end.interface, &link.shape, netem)?;
        }
    }
    Ok(())
}

/// A bridge per private network on the host, with the workload behind it.
pub(super) fn workloads(plan: &Plan) -> Result<()> {
    each(&plan.workloads, |workload| {
        let host = plan.namespace(&workload.host)?;
        let Some((address, length)) = workload.private else { return Ok(()) };
        within(&host, async |network| {
            network.bridge(&workload.bridge).await?;
            let port = workload.bridge.replacen("pn", "pv", 1);
            network.veth(&port, "eth0", &workload.namespace, 1500).await?;
            network.enslave(&port, &workload.bridge).await
        })?;
        within(&workload.namespace, async |network| {
            network.address("eth0", address, length).await?;
            network.up("eth0").await
        })
    })
}

/// One emulator process per link that needs it; returns when each carries.
pub(super) fn emulators(plan: &Plan, emulated: &[usize]) -> Result<()> {
    for index in emulated {
        let process = super::link::emulator(plan, *index);
        let mut command = Command::new(super::binary("lab")?);
        command.args(["emulate", &plan.name, &index.to_string()]);
        process.start(&plan.controller_namespace(), command)?;
    }
    each(emulated, |index| {
        for end in &plan.links[*index].ends {
            within(&plan.namespace(&end.host)?, async |network| network.carrier(&end.interface).await)?;
        }
        Ok(())
    })
}

/// Does the work for each item, some at a time; the first failure is told.
pub(super) fn each<I: Sync>(items: &[I], work: impl Fn(&I) -> Result<()> + Sync) -> Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let claim = || items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    std::thread::scope(|scope| {
        let worker = || -> Result<()> {
            while let Some(item) = claim() {
                work(item)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..AT_ONCE.min(items.len())).map(|_| scope.spawn(worker)).collect();
        let mut outcome = Ok(());
        for thread in threads {
            let done = thread.join().map_err(|_| anyhow::anyhow!("a thread of the lab panicked")).flatten();
            outcome = outcome.and(done);
        }
        outcome.context("making the lab")
    })
}
