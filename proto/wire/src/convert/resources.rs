//! Resources, their attachments and services, and the intents that they register.
use super::fields::{
    address, addresses, bounded, byte, clipped, count, disjoint, each, interface, list, name, name_set,
    needed, optional, port, ranged, sentence, shown, steers, strings, unknown,
};
use super::units::{bandwidth, fabric_address, horizon, latency, loss, nanos_of, price, risk, span};
use super::{Malformed, Result, limits};
use crate::v1;
use proto_model::intent::{Bounds, Intent};
use proto_model::request::ResourceView;
use proto_model::resource::{Attachment, Form, Liveness, Metadata, Resource, Service, Status};
use proto_model::rule::Protocol;
use proto_model::{Bandwidth, CircuitId, Name, Risk, Timestamp, Weighed, Weight};
use std::collections::BTreeMap;
use std::time::Duration;

impl TryFrom<v1::Bounds> for Bounds {
    type Error = Malformed;
    fn try_from(bounds: v1::Bounds) -> Result<Self> {
        let hops = |hops: u32| ranged("max_hops", hops.into(), 1, limits::HOPS.into(), "");
        let bounds = Self {
            max_rtt: bounds.max_rtt.map(|nanos| latency("max_rtt", nanos)).transpose()?,
            max_loss: bounds.max_loss.map(|ppm| loss("max_loss", ppm)).transpose()?,
            bandwidth: bandwidth("bandwidth", bounds.bandwidth)?,
            limit: bounds.limit.map(|bits| bandwidth("limit", bits)).transpose()?,
            encrypted: bounds.encrypted,
            encrypted_links: bounds.encrypted_links,
            max_price: bounds.max_price.map(|micros| price("max_price", micros)).transpose()?,
            max_hops: bounds.max_hops.map(hops).transpose()?,
            via: name_set("via", limits::HOSTS, &bounds.via)?,
            avoid: name_set("avoid", limits::HOSTS, &bounds.avoid)?,
            require_tags: name_set("require_tags", limits::TAGS, &bounds.require_tags)?,
            avoid_tags: name_set("avoid_tags", limits::TAGS, &bounds.avoid_tags)?,
            risk: bounds.risk.map(|ppm| risk("risk", ppm)).transpose()?,
            horizon: bounds.horizon.map(|nanos| horizon("horizon", nanos)).transpose()?,
            weights: weights(bounds.weights)?,
        };
        limit(&bounds)?;
        disjoint("via", &bounds.via, "avoid", &bounds.avoid)?;
        disjoint("require_tags", &bounds.require_tags, "avoid_tags", &bounds.avoid_tags)?;
        Ok(bounds)
    }
}

impl From<Bounds> for v1::Bounds {
    fn from(bounds: Bounds) -> Self {
        Self {
            max_rtt: bounds.max_rtt.map(|rtt| rtt.nanos()),
            max_loss: bounds.max_loss.map(|loss| loss.ppm()),
            bandwidth: bounds.bandwidth.bits_per_second(),
            limit: bounds.limit.map(|limit| limit.bits_per_second()),
            encrypted: bounds.encrypted,
            encrypted_links: bounds.encrypted_links,
            max_price: bounds.max_price.map(|price| price.micro_dollars_per_gb()),
            max_hops: bounds.max_hops.map(u32::from),
            via: strings(bounds.via),
            avoid: strings(bounds.avoid),
            require_tags: strings(bounds.require_tags),
            avoid_tags: strings(bounds.avoid_tags),
            risk: bounds.risk.map(Risk::ppm),
            horizon: bounds.horizon.map(|horizon| nanos_of(horizon.span())),
            weights: bounds.weights.into_iter().map(|(term, own)| (term.to_string(), own.value())).collect(),
        }
    }
}

fn weights(weights: BTreeMap<String, f64>) -> Result<BTreeMap<Weighed, Weight>> {
    let own = weights.into_iter().map(|(term, value)| {
        let term: Weighed = term.parse().map_err(|why| Malformed::new("weights", why))?;
        let weight =
            Weight::try_from(value).map_err(|why| Malformed::new(format!("weights[{term}]"), why))?;
        Ok((term, weight))
    });
    own.collect()
}

/// Less than this would not let one packet of a usual size pass in half a second.
const LEAST_LIMIT: Bandwidth = Bandwidth::from_bits_per_second(24_000);

fn limit(bounds: &Bounds) -> Result<()> {
    let Some(limit) = bounds.limit else { return Ok(()) };
    if limit < LEAST_LIMIT {
        return Err(Malformed::new(
            "limit",
            format!("{limit} is less than {LEAST_LIMIT}, the least allowed"),
        ));
    }
    if limit < bounds.bandwidth {
        let what = format!("{limit} is less than the bandwidth of {} that is reserved", bounds.bandwidth);
        return Err(Malformed::new("limit", what));
    }
    Ok(())
}

/// Absent bounds constrain nothing.
pub(super) fn bounds(field: &str, bounds: Option<v1::Bounds>) -> Result<Bounds> {
    Ok(optional(field, bounds)?.unwrap_or_default())
}

impl TryFrom<v1::Intent> for Intent {
    type Error = Malformed;
    fn try_from(intent: v1::Intent) -> Result<Self> {
        Ok(Self {
            service: name("service", &intent.service)?,
            bounds: bounds("bounds", intent.bounds)?,
            priority: byte("priority", intent.priority)?,
        })
    }
}

impl From<Intent> for v1::Intent {
    fn from(intent: Intent) -> Self {
        Self {
            service: intent.service.to_string(),
            bounds: Some(intent.bounds.into()),
            priority: intent.priority.into(),
        }
    }
}

pub(super) fn intents(field: &str, intents: Vec<v1::Intent>) -> Result<Vec<Intent>> {
    list(field, limits::INTENTS, intents)
}

impl TryFrom<v1::Attachment> for Attachment {
    type Error = Malformed;
    fn try_from(attachment: v1::Attachment) -> Result<Self> {
        use v1::attachment::Where;
        let missing = || Malformed::new("", "is empty; allowed are path, named, process, host and external");
        match attachment.r#where.ok_or_else(missing)? {
            Where::Path(path) => namespace_path(path).map(Self::Path),
            Where::Named(name) => namespace_name(name).map(Self::Named),
            Where::Process(id) => {
                ranged("process", id.into(), 1, limits::PROCESS.into(), "").map(Self::Process)
            }
            Where::Host(true) => Ok(Self::Host),
            Where::External(text) => address("external", &text).map(Self::External),
            Where::Host(false) => {
                Err(Malformed::new("host", "is false; it must be true, or another kind be chosen"))
            }
        }
    }
}

fn namespace_path(path: String) -> Result<String> {
    let path = bounded("path", path, limits::NAMESPACE_PATH_BYTES)?;
    if !path.starts_with('/') || path.contains(steers) {
        return Err(Malformed::new(
            "path",
            format!("\"{}\" is not an absolute path without control characters", shown(&path)),
        ));
    }
    Ok(path)
}

fn namespace_name(name: String) -> Result<String> {
    let name = bounded("named", name, 255)?;
    if matches!(name.as_str(), "" | "." | "..") || name.contains('/') || name.contains(steers) {
        let what = format!(
            "\"{}\" is not the name of a namespace under /run/netns, which has no control characters",
            shown(&name)
        );
        return Err(Malformed::new("named", what));
    }
    Ok(name)
}

impl From<Attachment> for v1::Attachment {
    fn from(attachment: Attachment) -> Self {
        use v1::attachment::Where;
        Self {
            r#where: Some(match attachment {
                Attachment::Path(path) => Where::Path(path),
                Attachment::Named(name) => Where::Named(name),
                Attachment::Process(id) => Where::Process(id),
                Attachment::Host => Where::Host(true),
                Attachment::External(ip) => Where::External(ip.to_string()),
            }),
        }
    }
}

impl TryFrom<v1::Service> for Service {
    type Error = Malformed;
    fn try_from(service: v1::Service) -> Result<Self> {
        let protocol = match v1::rule::Protocol::try_from(service.protocol) {
            Ok(v1::rule::Protocol::Tcp) => Protocol::Tcp,
            Ok(v1::rule::Protocol::Udp) => Protocol::Udp,
            Ok(_) | Err(_) => {
                return Err(unknown("protocol", service.protocol, "PROTOCOL_TCP (2), PROTOCOL_UDP (3)"));
            }
        };
        Ok(Self { name: name("name", &service.name)?, protocol, port: port("port", service.port, 1)? })
    }
}

impl From<Service> for v1::Service {
    fn from(service: Service) -> Self {
        let protocol = match service.protocol {
            Protocol::Tcp => v1::rule::Protocol::Tcp,
            Protocol::Udp => v1::rule::Protocol::Udp,
            Protocol::Icmp => v1::rule::Protocol::Icmp,
            Protocol::Any => v1::rule::Protocol::Any,
            Protocol::Number(_) => v1::rule::Protocol::Number,
        };
        Self { name: service.name.to_string(), protocol: protocol.into(), port: service.port.into() }
    }
}

impl TryFrom<v1::ResourceMetadata> for Metadata {
    type Error = Malformed;
    fn try_from(metadata: v1::ResourceMetadata) -> Result<Self> {
        let named = !metadata.interface.is_empty();
        Ok(Self {
            form: form(metadata.form)?,
            node: name("node", &metadata.node)?,
            attachment: needed("attachment", metadata.attachment)?,
            interface: named.then(|| interface("interface", metadata.interface)).transpose()?,
            addresses: addresses("addresses", &metadata.addresses)?,
            labels: labels(metadata.labels)?,
            services: services(metadata.services)?,
        })
    }
}

fn form(value: i32) -> Result<Form> {
    use v1::resource_metadata::Form as Wire;
    match Wire::try_from(value) {
        Ok(Wire::VirtualMachine) => Ok(Form::VirtualMachine),
        Ok(Wire::Container) => Ok(Form::Container),
        Ok(Wire::Serverless) => Ok(Form::Serverless),
        Ok(Wire::Unspecified | Wire::Host) => Ok(Form::Host),
        Err(_) => Err(unknown(
            "form",
            value,
            "FORM_VIRTUAL_MACHINE (1), _CONTAINER (2), _SERVERLESS (3), _HOST (4)",
        )),
    }
}

fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<Name, String>> {
    count("labels", limits::LABELS, labels.len())?;
    labels
        .into_iter()
        .map(|(key, value)| {
            let key: Name = name("labels", &key)?;
            let value = bounded(&format!("labels[{key}]"), value, limits::LABEL_VALUE_BYTES)?;
            Ok((key, value))
        })
        .collect()
}

/// Each service once: with two of one name, a rule or a discovery could not say which one is meant.
fn services(services: Vec<v1::Service>) -> Result<Vec<Service>> {
    let services: Vec<Service> = list("services", limits::SERVICES, services)?;
    for (i, service) in services.iter().enumerate() {
        if services[..i].contains(service) {
            return Err(Malformed::new(
                format!("services[{i}]"),
                format!("{} is listed twice", service.name),
            ));
        }
    }
    Ok(services)
}

impl From<Metadata> for v1::ResourceMetadata {
    fn from(metadata: Metadata) -> Self {
        use v1::resource_metadata::Form as Wire;
        Self {
            form: match metadata.form {
                Form::VirtualMachine => Wire::VirtualMachine,
                Form::Container => Wire::Container,
                Form::Serverless => Wire::Serverless,
                Form::Host => Wire::Host,
            }
            .into(),
            node: metadata.node.to_string(),
            attachment: Some(metadata.attachment.into()),
            interface: metadata.interface.unwrap_or_default(),
            addresses: strings(metadata.addresses),
            labels: metadata.labels.into_iter().map(|(key, value)| (key.to_string(), value)).collect(),
            services: each(metadata.services),
        }
    }
}

pub(super) fn status(field: &str, value: i32) -> Result<Status> {
    match v1::ResourceStatus::try_from(value) {
        Ok(v1::ResourceStatus::Up) => Ok(Status::Up),
        Ok(v1::ResourceStatus::Degraded) => Ok(Status::Degraded),
        Ok(v1::ResourceStatus::Draining) => Ok(Status::Draining),
        Ok(v1::ResourceStatus::Down) => Ok(Status::Down),
        Ok(v1::ResourceStatus::Unspecified) | Err(_) => {
            Err(unknown(field, value, "RESOURCE_STATUS_UP (1), _DEGRADED (2), _DRAINING (3), _DOWN (4)"))
        }
    }
}

pub(super) fn status_value(status: Status) -> i32 {
    match status {
        Status::Up => v1::ResourceStatus::Up,
        Status::Degraded => v1::ResourceStatus::Degraded,
        Status::Draining => v1::ResourceStatus::Draining,
        Status::Down => v1::ResourceStatus::Down,
    }
    .into()
}

pub(super) fn lease(nanos: Option<u64>) -> Result<Option<Duration>> {
    nanos.map(|nanos| span("lease", nanos, limits::LEASE_LEAST, limits::LEASE_MOST)).transpose()
}

impl TryFrom<v1::Resource> for ResourceView {
    type Error = Malformed;
    fn try_from(view: v1::Resource) -> Result<Self> {
        use v1::resource::Liveness as Wire;
        let liveness = match Wire::try_from(view.liveness) {
            Ok(Wire::Alive) => Liveness::Alive,
            Ok(Wire::Expired) => Liveness::Expired,
            Ok(Wire::NodeLost) => Liveness::NodeLost,
            Ok(Wire::Unspecified) | Err(_) => {
                return Err(unknown(
                    "liveness",
                    view.liveness,
                    "LIVENESS_ALIVE (1), _EXPIRED (2), _NODE_LOST (3)",
                ));
            }
        };
        let circuits = view.circuits.iter().copied().map(CircuitId).collect();
        let trouble = sentence("trouble", view.trouble.clone())?;
        Ok(Self { resource: resource(view)?, liveness, circuits, trouble })
    }
}

fn resource(view: v1::Resource) -> Result<Resource> {
    Ok(Resource {
        id: name("resource_id", &view.resource_id)?,
        metadata: needed("metadata", view.metadata)?,
        intents: intents("intents", view.intents)?,
        status: status("status", view.status)?,
        address: fabric_address("address", view.address)?,
        lease: lease(view.lease)?,
        registered: Timestamp(view.registered),
        renewed: Timestamp(view.renewed),
    })
}

impl From<ResourceView> for v1::Resource {
    fn from(view: ResourceView) -> Self {
        use v1::resource::Liveness as Wire;
        let liveness = match view.liveness {
            Liveness::Alive => Wire::Alive,
            Liveness::Expired => Wire::Expired,
            Liveness::NodeLost => Wire::NodeLost,
        };
        Self {
            liveness: liveness.into(),
            circuits: view.circuits.into_iter().map(|id| id.0).collect(),
            trouble: clipped(view.trouble),
            ..view.resource.into()
        }
    }
}

/// A resource of which only what is registered is told: no liveness, no circuits.
impl TryFrom<v1::Resource> for Resource {
    type Error = Malformed;
    fn try_from(view: v1::Resource) -> Result<Self> {
        resource(view)
    }
}

impl From<Resource> for v1::Resource {
    fn from(resource: Resource) -> Self {
        Self {
            resource_id: resource.id.to_string(),
            metadata: Some(resource.metadata.into()),
            intents: each(resource.intents),
            status: status_value(resource.status),
            address: Some(resource.address.into()),
            lease: resource.lease.map(nanos_of),
            registered: resource.registered.0,
            renewed: resource.renewed.0,
            liveness: v1::resource::Liveness::Unspecified.into(),
            circuits: Vec::new(),
            trouble: String::new(),
        }
    }
}
