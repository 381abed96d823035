//! Resources: who offers what, from which fabric address, and whether it is alive.
use crate::intent;
use crate::pool::Pool;
use proto_model::desired::Eni;
use proto_model::intent::Intent;
use proto_model::resource::{Attachment, Metadata, Resource, Status};
use proto_model::rule::Protocol;
use proto_model::{
    CircuitId, FabricAddress, FabricPrefix, LEAST_IPV6_MTU, NodeName, Refusal, ResourceId, ServiceName,
    Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Entries of one list of a resource at most.
const MAX_ENTRIES: usize = 64;
const MAX_LABEL: usize = 256;
const MAX_PATH: usize = 4096;

/// A resource and what hangs on it.
#[derive(Clone, Debug)]
pub struct Member {
    pub resource: Resource,
    pub expired: bool,
    /// All that end at it, also suspended ones; not those that are being closed.
    pub circuits: BTreeSet<CircuitId>,
    /// How many of its placed circuits have which MTU.
    mtus: BTreeMap<u16, u32>,
}

impl Member {
    pub fn new(resource: Resource) -> Self {
        Self { resource, expired: false, circuits: BTreeSet::new(), mtus: BTreeMap::new() }
    }

    pub fn add_mtu(&mut self, mtu: u16) {
        *self.mtus.entry(mtu).or_default() += 1;
    }

    pub fn remove_mtu(&mut self, mtu: u16) {
        if let Some(count) = self.mtus.get_mut(&mtu) {
            *count -= 1;
            if *count == 0 {
                self.mtus.remove(&mtu);
            }
        }
    }

    /// Its interface exists as long as a placed circuit ends at it.
    pub fn eni(&self, interface: String) -> Option<Eni> {
        if matches!(self.resource.metadata.attachment, Attachment::External(_)) {
            return None;
        }
        let (mtu, _) = self.mtus.first_key_value()?;
        Some(Eni {
            resource: self.resource.id.clone(),
            attachment: self.resource.metadata.attachment.clone(),
            interface,
            address: self.resource.address,
            mtu: (*mtu).max(LEAST_IPV6_MTU),
        })
    }

    pub fn has_interface(&self) -> bool {
        !self.mtus.is_empty()
    }
}

/// All of them, with the indexes that keep every question as small as its answer.
#[derive(Clone, Debug)]
pub struct Resources {
    members: BTreeMap<ResourceId, Member>,
    by_service: BTreeMap<ServiceName, BTreeSet<ResourceId>>,
    /// Names of interfaces, by host and attachment.
    interfaces: BTreeMap<(NodeName, String, String), ResourceId>,
    /// Who says that it has which address, by host and attachment.
    addresses: BTreeMap<(NodeName, String, IpAddr), ResourceId>,
    hosts: Pool,
    prefix: FabricPrefix,
}

impl Resources {
    pub fn new(prefix: FabricPrefix, rest: Duration) -> Self {
        Self {
            members: BTreeMap::new(),
            by_service: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            addresses: BTreeMap::new(),
            hosts: Pool::new(prefix.capacity(), rest),
            prefix,
        }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
    pub fn get(&self, id: &ResourceId) -> Option<&Member> {
        self.members.get(id)
    }
    pub fn get_mut(&mut self, id: &ResourceId) -> Option<&mut Member> {
        self.members.get_mut(id)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }
    pub fn offering(&self, service: &ServiceName) -> impl Iterator<Item = &Member> {
        self.by_service.get(service).into_iter().flatten().filter_map(|id| self.members.get(id))
    }

    pub fn take_address(&mut self, now: Timestamp) -> Option<FabricAddress> {
        self.hosts.take(now).and_then(|host| self.prefix.address(host))
    }

    pub fn capacity(&self) -> u32 {
        self.prefix.capacity()
    }

    /// Number of a fabric address within the prefix; none when it is of another one.
    fn host(&self, address: &FabricAddress) -> Option<u32> {
        let first = self.prefix.address(1)?.v4.to_bits();
        let host = address.v4.to_bits().checked_sub(first)? + 1;
        (self.prefix.address(host)?.v4 == address.v4).then_some(host)
    }

    /// Default: `fw` and the fabric host number.
    pub fn interface(&self, resource: &Resource) -> String {
        match &resource.metadata.interface {
            Some(name) => name.clone(),
            None => match self.host(&resource.address) {
                Some(host) => format!("fw{host}"),
                None => format!("fwx{:08x}", resource.address.v4.to_bits()),
            },
        }
    }

    /// Takes a stored resource; false when its address is another's.
    pub fn restore(&mut self, resource: Resource, now: Timestamp) -> bool {
        let free = self.host(&resource.address).is_none_or(|host| self.hosts.claim(host, now));
        free && self.insert(resource).is_none()
    }

    pub fn settle(&mut self) {
        self.hosts.settle();
    }

    /// Adds, or replaces and keeps what hangs on it.
    pub fn insert(&mut self, resource: Resource) -> Option<Resource> {
        let old = self.unindex(&resource.id);
        self.index(&resource);
        match self.members.get_mut(&resource.id) {
            Some(member) => member.resource = resource,
            None => {
                self.members.insert(resource.id.clone(), Member::new(resource));
            }
        }
        old
    }

    pub fn remove(&mut self, id: &ResourceId, now: Timestamp) -> Option<Member> {
        self.unindex(id);
        let member = self.members.remove(id)?;
        if let Some(host) = self.host(&member.resource.address) {
            self.hosts.give_back(host, now);
        }
        Some(member)
    }

    fn index(&mut self, resource: &Resource) {
        let Metadata { node, attachment, addresses, services, .. } = &resource.metadata;
        let at = where_it_is(attachment);
        for service in services {
            self.by_service.entry(service.name.clone()).or_default().insert(resource.id.clone());
        }
        let interface = self.interface(resource);
        self.interfaces.insert((node.clone(), at.clone(), interface), resource.id.clone());
        for address in addresses {
            self.addresses.insert((node.clone(), at.clone(), *address), resource.id.clone());
        }
    }

    fn unindex(&mut self, id: &ResourceId) -> Option<Resource> {
        let resource = self.members.get(id)?.resource.clone();
        let Metadata { node, attachment, addresses, services, .. } = &resource.metadata;
        let at = where_it_is(attachment);
        for service in services {
            if let Some(ids) = self.by_service.get_mut(&service.name) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_service.remove(&service.name);
                }
            }
        }
        let interface = self.interface(&resource);
        self.interfaces.remove(&(node.clone(), at.clone(), interface));
        for address in addresses {
            self.addresses.remove(&(node.clone(), at.clone(), *address));
        }
        Some(resource)
    }

    /// What another resource at the same place has already.
    pub fn check_conflicts(&self, id: &ResourceId, metadata: &Metadata) -> Result<(), Refusal> {
        let at = where_it_is(&metadata.attachment);
        let place = crate::compile::place(&metadata.attachment);
        if let Some(name) = &metadata.interface
            && let Some(other) = self.interfaces.get(&(metadata.node.clone(), at.clone(), name.clone()))
            && other != id
        {
            let what = format!("{other} has an interface {name} in {place} on {} already", metadata.node);
            return Err(
                Refusal::invalid("metadata.interface", what).hint("choose another name, or leave it out")
            );
        }
        for address in &metadata.addresses {
            let taken = self.addresses.get(&(metadata.node.clone(), at.clone(), *address));
            if let Some(other) = taken.filter(|other| *other != id) {
                let what =
                    format!("{other} has the address {address} in {place} on {} already", metadata.node);
                return Err(Refusal::invalid("metadata.addresses", what)
                    .hint("addresses may overlap between namespaces and hosts, not within one"));
            }
        }
        Ok(())
    }
}

/// One text per network namespace, as far as it can be told apart from here.
fn where_it_is(attachment: &Attachment) -> String {
    match attachment {
        Attachment::Named(name) => format!("/run/netns/{name}"),
        Attachment::Path(path) => path.replacen("/var/run/", "/run/", 1),
        Attachment::Process(pid) => format!("/proc/{pid}/ns/net"),
        Attachment::Host => "host".into(),
        Attachment::External(ip) => format!("external {ip}"),
    }
}

/// What no resource can be.
pub fn check(metadata: &Metadata, intents: &[Intent], lease: Option<Duration>) -> Result<(), Refusal> {
    check_attachment(&metadata.attachment)?;
    if let Some(name) = &metadata.interface {
        check_interface(name, &metadata.attachment)?;
    }
    for (field, count) in [
        ("metadata.addresses", metadata.addresses.len()),
        ("metadata.labels", metadata.labels.len()),
        ("metadata.services", metadata.services.len()),
    ] {
        if count > MAX_ENTRIES {
            return Err(Refusal::invalid(
                field,
                format!("{count} entries, at most {MAX_ENTRIES} are allowed"),
            ));
        }
    }
    if let Some((name, value)) = metadata.labels.iter().find(|(_, value)| value.len() > MAX_LABEL) {
        let what = format!("{name} has {} bytes, at most {MAX_LABEL} are allowed", value.len());
        return Err(Refusal::invalid("metadata.labels", what));
    }
    check_services(metadata)?;
    intent::check_all(intents)?;
    match lease {
        Some(lease) if !(Duration::from_secs(1)..=Duration::from_secs(30 * 86_400)).contains(&lease) => {
            Err(Refusal::invalid("lease", format!("{lease:?} is not between 1 s and 30 days")))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_attachment(attachment: &Attachment) -> Result<(), Refusal> {
    let refuse = |what: String| Err(Refusal::invalid("metadata.attachment", what));
    match attachment {
        Attachment::Path(path) if !path.starts_with('/') => {
            refuse(format!("\"{path}\" is not an absolute path"))
        }
        Attachment::Path(path) if path.len() > MAX_PATH || path.contains('\0') => {
            refuse(format!("the path has {} bytes or a zero byte, {MAX_PATH} are allowed", path.len()))
        }
        Attachment::Named(name)
            if name.is_empty() || name.len() > 255 || name.contains(['/', '\0']) || name.starts_with('.') =>
        {
            let shown: String = name.chars().take(64).collect();
            refuse(format!("\"{shown}\" is not the name of a network namespace (1 to 255 bytes, no /)"))
        }
        Attachment::Process(0) => refuse("there is no process 0".into()),
        Attachment::Path(_) | Attachment::Named(_) | Attachment::Process(_) | Attachment::Host => Ok(()),
        Attachment::External(ip) if !is_reachable(*ip) => refuse(format!(
            "{ip} is no address of a neighbour: loopback, link-local, multicast and unspecified ones are not allowed"
        )),
        Attachment::External(_) => Ok(()),
    }
}

fn is_reachable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !(link_local || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified())
}

/// What the kernel takes as a name (dev_valid_name), and no name of a host side.
fn check_interface(name: &str, attachment: &Attachment) -> Result<(), Refusal> {
    let refuse = |what: String| Err(Refusal::invalid("metadata.interface", what));
    let shown: String = name.chars().take(64).collect();
    if name.is_empty() || name.len() > 15 {
        return refuse(format!("\"{shown}\" has {} bytes, 1 to 15 are allowed", name.len()));
    }
    if name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0')
    {
        return refuse(format!("\"{shown}\" has a character that no interface can have (/, : or a space)"));
    }
    let host_side = name.len() == 10
        && name.strip_prefix("fw").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    if host_side && *attachment == Attachment::Host {
        return refuse(format!(
            "\"{shown}\" is reserved on the host: the fabric's own interfaces are called so"
        ));
    }
    let numbered = name
        .strip_prefix("fw")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    if numbered || name.starts_with("fwx") {
        return refuse(format!(
            "\"{shown}\" is reserved: interfaces for which no name is asked are called so"
        ));
    }
    Ok(())
}

fn check_services(metadata: &Metadata) -> Result<(), Refusal> {
    let refuse = |at: usize, name: &str, what: String| {
        Err(Refusal::invalid(format!("metadata.services[{at}].{name}"), what))
    };
    let mut names = BTreeSet::new();
    for (at, service) in metadata.services.iter().enumerate() {
        if service.port == 0 {
            return refuse(at, "port", format!("{} has port 0; 1 to 65535 are allowed", service.name));
        }
        if !matches!(service.protocol, Protocol::Tcp | Protocol::Udp) {
            return refuse(at, "protocol", format!("{} is neither TCP nor UDP", service.name));
        }
        if !names.insert(&service.name) {
            return refuse(at, "name", format!("{} is named twice", service.name));
        }
    }
    Ok(())
}

/// Whether a new circuit may end at a resource in this status.
pub fn takes_circuits(status: Status) -> bool {
    match status {
        Status::Up | Status::Degraded => true,
        Status::Draining | Status::Down => false,
    }
}
