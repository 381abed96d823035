//! Reads back what the kernel has for the fabric: from the pinned maps and from netlink, not from memory.
use super::enis::{self, Alias, Known};
use super::links::{self, Link};
use super::{Linux, filters, queues, routes};
use agent_core::abi;
use agent_core::kernel_state::{Eni, Entry, HostSide, KernelState, Route, Rules};
use anyhow::Result;
use ebpf_abi::label::LabelEntry;
use ebpf_abi::rules::RuleSetRef;
use proto_model::FabricAddress;
use proto_model::resource::Attachment;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tracing::warn;
use zerocopy::FromZeros;

impl Linux {
    /// An object that is only half there is reported as far as it is known, never equal to a wanted one: so the
    /// difference repairs or removes it. An ENI that its alias tells all about differs in its MTU alone, which can be
    /// put in place: whatever of it works goes on, and what is bound to it stays.
    pub(crate) fn read_back(&mut self) -> Result<KernelState> {
        let mut state = KernelState::new();
        let mut found = Found::default();
        for link in links::all(&mut self.netlink)?.into_iter().filter(Link::is_ours) {
            self.read_eni(&link, &mut found);
        }
        self.indexes.append(&mut found.indexes);
        self.shared.with(|seen| seen.enis = found.known.keys().cloned().collect());
        self.enis = found.known;
        for entry in found.entries.into_iter().chain(self.read_maps()?) {
            state.insert(entry.key(), entry);
        }
        Ok(state)
    }

    fn read_eni(&mut self, link: &Link, found: &mut Found) {
        let host = HostSide::named(&link.name);
        found.indexes.insert(host, link.index);
        if let Some(Alias { attachment: Attachment::Process(pid), since: Some(since), .. }) =
            Alias::parse(&link.alias)
        {
            self.processes.insert(host, (pid, since));
        }
        match self.read_whole(link) {
            Ok((known, routes)) => {
                found.entries.push(Entry::Eni(known.entry.clone()));
                found
                    .entries
                    .extend(routes.into_iter().map(|(to, mtu)| Entry::Route(Route { host, to, mtu })));
                found.known.insert(host, known);
            }
            Err(error) => {
                warn!(interface = %link.name, why = %format!("{error:#}"), "half an interface was found");
                let alias = Alias::parse(&link.alias);
                let entry = fragment(link, alias.as_ref());
                if let Ok((inner, routes, both_here)) = self.read_inner(link, &entry.attachment)
                    && alias.is_some()
                {
                    let routes = routes.into_iter().map(|(to, mtu)| Entry::Route(Route { host, to, mtu }));
                    found.entries.extend(routes);
                    let known = Known { entry: entry.clone(), index: link.index, inner, both_here };
                    found.known.insert(host, known);
                }
                found.entries.push(Entry::Eni(entry));
            }
        }
    }

    /// Of an interface that is not whole: index and routes of its inner side, and whether that is on the host.
    fn read_inner(&self, link: &Link, attachment: &Attachment) -> Result<(u32, Vec<Led>, bool)> {
        let (place, _) = self.place(&HostSide::named(&link.name), attachment)?;
        let mut there = self.namespaces.netlink(&place)?;
        let inner = links::find_index(&mut there, link.peer)?
            .filter(|inner| enis::is_other_side(inner, link))
            .ok_or_else(|| anyhow::anyhow!("its other side is not there"))?;
        let v6 = Alias::parse(&link.alias).and_then(|alias| alias.v6);
        let lone = v6.filter(|_| !links::has_ipv6(inner.mtu));
        let routes = complete(&routes::ours(&mut there)?, inner.index, lone);
        Ok((inner.index, routes, place.is_home()))
    }

    fn read_whole(&mut self, link: &Link) -> Result<(Known, Vec<Led>)> {
        let Alias { resource, attachment, v6, .. } =
            Alias::parse(&link.alias).ok_or_else(|| anyhow::anyhow!("its alias is \"{}\"", link.alias))?;
        if !filters::is_there(&mut self.netlink, link.index)? {
            anyhow::bail!("it has no program");
        }
        let (place, _) = self.place(&HostSide::named(&link.name), &attachment)?;
        let mut there = self.namespaces.netlink(&place)?;
        let inner = links::find_index(&mut there, link.peer)?
            .filter(|inner| enis::is_other_side(inner, link))
            .ok_or_else(|| {
                anyhow::anyhow!("its other side is not in {}", super::namespaces::words(&attachment))
            })?;
        let ipv6 = links::has_ipv6(inner.mtu);
        // Without IPv6 the alias alone knows that address.
        let address = address_of(&links::addresses(&mut there, inner.index)?, v6.filter(|_| !ipv6))
            .ok_or_else(|| anyhow::anyhow!("its other side has lost its addresses"))?;
        if inner.mac != address.mac() || link.mac != address.gateway_mac() {
            anyhow::bail!("its link-layer addresses are not those of {address}");
        }
        if !both_up(link, &inner) {
            anyhow::bail!("it is down");
        }
        let routes = complete(&routes::ours(&mut there)?, inner.index, v6.filter(|_| !ipv6));
        let entry = Eni {
            host: HostSide::named(&link.name),
            resource,
            attachment,
            interface: inner.name,
            address,
            mtu: u16::try_from(link.mtu.min(inner.mtu)).unwrap_or(0),
        };
        let known = Known { entry, index: link.index, inner: inner.index, both_here: place.is_home() };
        Ok((known, routes))
    }

    fn read_maps(&mut self) -> Result<Vec<Entry>> {
        // Rows outlive their interface. A name that nothing wanted has lets those of unknown ones be removed.
        let mut names: BTreeMap<u32, HostSide> =
            self.indexes.iter().map(|(host, index)| (*index, *host)).collect();
        for (key, _) in self.flows.rows().collect::<Result<Vec<_>, _>>()? {
            let host = names.entry(key.eni).or_insert_with(|| HostSide::named(&format!("if{}", key.eni)));
            self.indexes.entry(*host).or_insert(key.eni);
        }
        let host = |index: u32| {
            Some(names.get(&index).cloned().unwrap_or_else(|| HostSide::named(&format!("if{index}"))))
        };
        let mut entries = Vec::new();
        for slot in 0..self.next_hops.len() {
            entries.extend(abi::read_next_hop(slot, &self.next_hops.get(slot)?).map(Entry::NextHop));
        }
        let mut slots = BTreeSet::new();
        for index in 0..self.labels.len() {
            match abi::read_label(&self.labels.get(index)?, host) {
                Ok(None) => {}
                Ok(Some(label)) => {
                    slots.insert(index);
                    entries.push(Entry::Label(label));
                }
                Err(error) => {
                    warn!(index, %error, "a label that no agent wrote; cleared");
                    self.labels.put(index, &LabelEntry::new_zeroed())?;
                }
            }
        }
        let flows = self.flows.rows().collect::<Result<Vec<_>, _>>()?;
        for (key, row) in flows {
            match abi::read_flow(&key, &row, host) {
                Ok(flow) => {
                    slots.insert(flow.slot);
                    entries.push(Entry::Flow(flow));
                }
                Err(error) => {
                    warn!(?key, %error, "a flow that no agent wrote; removed");
                    self.flows.remove(&key)?;
                }
            }
        }
        for slot in 1..self.meters.len() {
            let row = self.meters.get(slot)?;
            entries.extend(abi::read_meter(slot as u16, &row).map(Entry::Meter));
        }
        entries.extend(queues::observe(&mut self.netlink)?);
        for key in self.peers.keys().collect::<Result<Vec<_>, _>>()? {
            match abi::read_peer(&key) {
                Ok(peer) => entries.push(Entry::Peer(peer)),
                Err(error) => {
                    warn!(?key, %error, "a peer that no agent wrote; removed");
                    self.peers.remove(&key)?;
                }
            }
        }
        let seals = self.seals()?;
        if let Err(error) = self.resume_seals(&seals) {
            warn!(error = %format!("{error:#}"), "what is encrypted passes nothing until there is a sealer; it is tried again");
        }
        entries.extend(seals.into_iter().map(Entry::Seal));
        for row in self.traced.rows().collect::<Result<Vec<_>, _>>()? {
            let trace = abi::read_trace(row.0, &row.1);
            self.shared.with(|seen| seen.traced.insert(row.0, trace));
            entries.push(Entry::Trace(trace));
        }
        for row in self.rulesets.rows() {
            let (circuit, set) = row?;
            let end = set.start.saturating_add(set.count).min(self.rules.len());
            let rows = (set.start..end).map(|index| self.rules.get(index)).collect::<Result<Vec<_>, _>>()?;
            match abi::read_rules(&RuleSetRef { circuit, ..set }, &rows) {
                Ok(rules) => entries.push(Entry::Rules(rules)),
                // No rows: differs from every wanted set, and goes with its circuit.
                Err(error) => {
                    warn!(circuit, %error, "rules that no agent wrote");
                    entries.push(Entry::Rules(Rules { circuit, version: 0, start: 0, rows: Vec::new() }));
                }
            }
        }
        self.shared.with(|seen| seen.slots = slots);
        Ok(entries)
    }
}

#[derive(Default)]
struct Found {
    entries: Vec<Entry>,
    known: BTreeMap<HostSide, Known>,
    indexes: BTreeMap<HostSide, u32>,
}

fn both_up(host: &Link, inner: &Link) -> bool {
    use netlink_packet_route::link::LinkFlags;
    let wanted = LinkFlags::Up | LinkFlags::Noarp;
    host.flags.contains(wanted) && inner.flags.contains(wanted)
}

/// What can be said of an interface of ours that is not whole.
fn fragment(link: &Link, alias: Option<&Alias>) -> Eni {
    let digits = link.name.trim_start_matches("fw");
    let v4 = Ipv4Addr::from(u32::from_str_radix(digits, 16).unwrap_or(0));
    Eni {
        host: HostSide::named(&link.name),
        resource: alias.map(|alias| alias.resource.clone()).unwrap_or_default(),
        attachment: alias.map_or(Attachment::Host, |alias| alias.attachment.clone()),
        interface: alias.and_then(|alias| alias.interface.clone()).unwrap_or_default(),
        address: FabricAddress { v4, v6: alias.and_then(|alias| alias.v6).unwrap_or(Ipv6Addr::UNSPECIFIED) },
        mtu: 0,
    }
}

/// The fabric address among the addresses of an inner side: an IPv4 one, and the IPv6 one that ends in its bytes.
/// An interface without IPv6 has only the first; `lone` is then the second.
fn address_of(
    addresses: &[(IpAddr, netlink_packet_route::address::AddressScope)],
    lone: Option<Ipv6Addr>,
) -> Option<FabricAddress> {
    let v4s = addresses.iter().filter_map(|(address, _)| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    v4s.into_iter().find_map(|v4| {
        let there = addresses.iter().map(|(a, _)| *a).chain(lone.map(IpAddr::V6));
        Some(FabricAddress { v4, v6: ending_in(v4, there)? })
    })
}

fn ending_in(v4: Ipv4Addr, mut addresses: impl Iterator<Item = IpAddr>) -> Option<Ipv6Addr> {
    addresses.find_map(|address| match address {
        IpAddr::V6(v6) if v6.octets()[12..] == v4.octets() => Some(v6),
        _ => None,
    })
}

/// The IPv6 address that belongs to `v4` in the fabric of `own`.
fn beside(own: Ipv6Addr, v4: Ipv4Addr) -> Ipv6Addr {
    let mut octets = own.octets();
    octets[12..].copy_from_slice(&v4.octets());
    octets.into()
}

/// A destination, and the MTU of the way there as in [`Route`].
type Led = (FabricAddress, u16);

/// Destinations that have both their routes; a lone one is put again, or goes with its interface. Where there is no
/// IPv6, lone ones are whole: their IPv6 addresses have the prefix of `lone`, the interface's own. Two routes of different
/// MTU have one that nothing wanted has, so that they are put again.
fn complete(routes: &[routes::Found], index: u32, lone: Option<Ipv6Addr>) -> Vec<Led> {
    let here = || routes.iter().filter(|route| route.index == index);
    let mtu = |v6: Ipv6Addr| here().find(|route| route.to == v6).map(|route| route.mtu);
    here()
        .filter_map(|route| match route.to {
            IpAddr::V4(v4) => {
                let to = here().map(|route| route.to);
                let v6 = ending_in(v4, to).or_else(|| Some(beside(lone?, v4)))?;
                let same = mtu(v6).is_none_or(|other| other == route.mtu);
                let mtu = u16::try_from(route.mtu).ok().filter(|_| same).unwrap_or(u16::MAX);
                Some((FabricAddress { v4, v6 }, mtu))
            }
            IpAddr::V6(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pairs_of_routes_count() {
        let address = |host| proto_model::FabricPrefix::default().address(host).expect("host");
        let route = |index, to: IpAddr, mtu| routes::Found { index, to, mtu };
        let routes = [
            route(3, address(1).v4.into(), 0),
            route(3, address(1).v6.into(), 0),
            route(3, address(2).v4.into(), 1_230),
            route(4, address(3).v4.into(), 1_230),
            route(4, address(3).v6.into(), 1_230),
            route(5, address(3).v4.into(), 1_230),
            route(5, address(3).v6.into(), 0),
        ];
        assert_eq!(complete(&routes, 3, None), vec![(address(1), 0)]);
        assert_eq!(complete(&routes, 4, None), vec![(address(3), 1_230)]);
        assert_eq!(complete(&routes, 5, None), vec![(address(3), u16::MAX)], "put again");
        let without_ipv6 = complete(&routes, 3, Some(address(7).v6));
        assert_eq!(without_ipv6, vec![(address(1), 0), (address(2), 1_230)]);
    }
}
