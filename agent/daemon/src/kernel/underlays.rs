//! The interfaces that carry tunnels: which they are, what they offer, and where transit is handled on each.
use super::addresses;
use super::filters;
use super::links::{self, Link};
use super::maps::Table;
use super::netlink::Netlink;
use super::programs::{self, Hook, Programs};
use super::routes;
use crate::config::{Transit, UNDERLAYS, Underlay as Wanted, Underlays};
use agent_core::abi;
use anyhow::{Context, Result, anyhow, bail};
use ebpf_abi::Address;
use netlink_packet_route::link::LinkFlags;
use proto_model::topology::Underlay;
use proto_model::{Bandwidth, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tracing::{info, warn};

/// The underlay interfaces as they are now.
#[derive(Debug)]
pub struct Datapath {
    locals: Table<Address, u32>,
    wanted: Underlays,
    summary: Summary,
}

/// What the controller is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub underlays: Vec<Underlay>,
    /// A sentence per interface: where transit is handled, and why there.
    pub sentences: Vec<String>,
    /// Interface indexes, to notice that an interface was made anew.
    indexes: BTreeMap<String, u32>,
}

/// What to do about an interface that was configured and is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Refuse,
    Tell,
}

impl Datapath {
    /// Attaches to every underlay interface. Packets of others pass as before.
    pub(crate) fn attach(
        netlink: &mut Netlink,
        programs: &mut Programs,
        locals: Table<Address, u32>,
        wanted: &Underlays,
    ) -> Result<Self> {
        let mut datapath = Self { locals, wanted: wanted.clone(), summary: Summary::default() };
        datapath.summary = datapath.look(netlink, programs, Missing::Refuse)?;
        for sentence in &datapath.summary.sentences {
            info!(%sentence, "datapath");
        }
        Ok(datapath)
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Looks again, after something changed. True: the controller must be told.
    pub(crate) fn refresh(&mut self, netlink: &mut Netlink, programs: &mut Programs) -> Result<bool> {
        let now = self.look(netlink, programs, Missing::Tell)?;
        let changed = now != self.summary;
        self.summary = now;
        Ok(changed)
    }

    fn look(&mut self, netlink: &mut Netlink, programs: &mut Programs, missing: Missing) -> Result<Summary> {
        let mut summary = Summary::default();
        let mut addresses = BTreeSet::new();
        for wanted in self.interfaces(netlink)? {
            let Some(link) = links::find(netlink, &wanted.interface)? else {
                if missing == Missing::Refuse {
                    bail!("the underlay interface {} does not exist", wanted.interface);
                }
                summary.sentences.push(format!("{}: absent", wanted.interface));
                continue;
            };
            let sentence = self.attach_to(programs, &link, wanted.transit)?;
            summary.sentences.push(format!("{}: {sentence}", link.name));
            let underlay = describe(netlink, &link, &wanted)?;
            for ip in wanted.addresses.iter().filter(|ip| !underlay.addresses.contains(*ip)) {
                summary.sentences.push(format!("{}: has no {ip}", link.name));
            }
            addresses.extend(underlay.addresses.iter().copied());
            summary.underlays.push(underlay);
            summary.indexes.insert(link.name.clone(), link.index);
        }
        self.write_locals(&addresses)?;
        leave_others(netlink, programs, &summary)?;
        Ok(summary)
    }

    fn interfaces(&self, netlink: &mut Netlink) -> Result<Vec<Wanted>> {
        let Underlays::These(wanted) = &self.wanted else {
            let mut found = by_default_route(netlink)?;
            // One that lost its default route goes on: a renewed lease must not interrupt what forwards.
            for before in &self.summary.underlays {
                let known = found.iter().any(|wanted| wanted.interface == before.interface);
                if !known && links::find(netlink, &before.interface)?.is_some() {
                    found.push(Wanted {
                        interface: before.interface.clone(),
                        network: before.network.clone(),
                        transit: Transit::Auto,
                        addresses: Vec::new(),
                        shape: false,
                        capacity: None,
                    });
                }
            }
            return Ok(found);
        };
        Ok(wanted.clone())
    }

    fn attach_to(&self, programs: &mut Programs, link: &Link, transit: Transit) -> Result<String> {
        // An interface that was made anew has lost its programs; on one that stayed they are the right ones.
        let same = self.summary.indexes.get(&link.name) == Some(&link.index);
        if !same || !programs.is_attached(&link.name, Hook::Tcx) {
            programs.attach(&link.name, Hook::Tcx)?;
        }
        if same && programs.is_attached(&link.name, Hook::Xdp) {
            return Ok(NATIVE.to_owned());
        }
        match choose(transit, link) {
            Choice::Xdp => match programs.attach(&link.name, Hook::Xdp) {
                Ok(()) => Ok(NATIVE.to_owned()),
                Err(error) if transit == Transit::Xdp => Err(error),
                Err(error) => Ok(format!("tcx (native XDP was refused: {error:#})")),
            },
            Choice::Tcx(why) => {
                programs.detach(&link.name, Hook::Xdp)?;
                Ok(format!("tcx ({why})"))
            }
        }
    }

    fn write_locals(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        let wanted: BTreeSet<Address> = addresses.iter().map(|ip| abi::address(*ip)).collect();
        for address in &wanted {
            self.locals.put(address, &1).with_context(|| {
                format!("LOCALS takes {} addresses, {} are there", ebpf_abi::maps::LOCALS, wanted.len())
            })?;
        }
        let there = self.locals.keys().collect::<Result<Vec<_>, _>>()?;
        for gone in there.iter().filter(|address| !wanted.contains(*address)) {
            self.locals.remove(gone)?;
        }
        Ok(())
    }
}

const NATIVE: &str = "xdp (native)";

enum Choice {
    Xdp,
    Tcx(String),
}

fn choose(transit: Transit, link: &Link) -> Choice {
    match (transit, link.kind.as_deref()) {
        (Transit::Xdp, _) => Choice::Xdp,
        (Transit::Tcx, _) => Choice::Tcx("as configured".into()),
        (Transit::Auto, _) if link.flags.contains(LinkFlags::Loopback) => Choice::Tcx("loopback".into()),
        (Transit::Auto, Some("veth")) => {
            Choice::Tcx("veth: native XDP would cost the other side its segmentation offload".into())
        }
        (Transit::Auto, Some(kind)) => {
            Choice::Tcx(format!("{kind}: a virtual interface gains nothing by XDP"))
        }
        (Transit::Auto, None) => Choice::Xdp,
    }
}

/// Programs on interfaces that are no underlay any more.
fn leave_others(netlink: &mut Netlink, programs: &Programs, summary: &Summary) -> Result<()> {
    for pin in programs.links()? {
        if let Some((interface, hook @ (Hook::Tcx | Hook::Xdp))) = pin.link()
            && !summary.indexes.contains_key(interface)
        {
            programs.detach(interface, hook)?;
        }
    }
    if programs.has_filters_on_underlays() {
        filters::leave(netlink, |link| !link.is_ours() && !summary.indexes.contains_key(&link.name))?;
    }
    Ok(())
}

fn by_default_route(netlink: &mut Netlink) -> Result<Vec<Wanted>> {
    let network: Name = "default".parse().map_err(|error| anyhow!("{error}"))?;
    let mut found = Vec::new();
    for index in routes::default_outputs(netlink)? {
        // A default route through the fabric itself is no underlay.
        let Some(link) = links::find_index(netlink, index)?.filter(|link| !link.is_ours()) else { continue };
        found.push(Wanted {
            interface: link.name,
            network: network.clone(),
            transit: Transit::Auto,
            addresses: Vec::new(),
            shape: false,
            capacity: None,
        });
    }
    if found.is_empty() {
        warn!("no interface carries a default route: circuits to other hosts are not possible");
    }
    found.truncate(UNDERLAYS);
    Ok(found)
}

fn describe(netlink: &mut Netlink, link: &Link, wanted: &Wanted) -> Result<Underlay> {
    Ok(Underlay {
        interface: link.name.clone(),
        network: wanted.network.clone(),
        addresses: addresses::usable(netlink, link.index, &wanted.addresses)?,
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
        speed: wanted.capacity.or_else(|| speed(link)),
        shape: wanted.shape,
    })
}

/// What the driver says, in Mbit/s under `/sys`. Virtual drivers make a number up, so theirs does not count; and `/sys`
/// may show another namespace, which the index tells.
fn speed(link: &Link) -> Option<Bandwidth> {
    if link.kind.is_some() {
        return None;
    }
    let read = |file: &str| std::fs::read_to_string(format!("/sys/class/net/{}/{file}", link.name)).ok();
    let same = read("ifindex")?.trim().parse() == Ok(link.index);
    let megabits: u64 = read("speed")?.trim().parse().ok()?;
    (same && megabits > 0).then(|| Bandwidth::mbit(megabits))
}

impl Programs {
    fn links(&self) -> Result<Vec<programs::Pin>> {
        programs::pinned(self.directory())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::LinkMessage;

    fn choice(transit: Transit, kind: Option<&str>) -> String {
        let link = Link { kind: kind.map(str::to_owned), ..Link::of(&LinkMessage::default()) };
        match choose(transit, &link) {
            Choice::Xdp => "xdp".into(),
            Choice::Tcx(why) => why,
        }
    }

    #[test]
    fn native_xdp_is_chosen_for_hardware_only() {
        assert_eq!(choice(Transit::Auto, None), "xdp");
        assert!(choice(Transit::Auto, Some("veth")).contains("segmentation offload"));
        assert!(choice(Transit::Auto, Some("bond")).starts_with("bond"));
        assert_eq!(choice(Transit::Xdp, Some("veth")), "xdp");
        assert_eq!(choice(Transit::Tcx, None), "as configured");
    }
}
