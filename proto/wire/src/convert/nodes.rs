//! Hosts, links, the status of the controller, and events about them.
use super::fields::{
    address, all_clipped, clipped, count, each, inner, interface, list, name, name_set, names, needed,
    required, sentence, sentences, strings, unknown,
};
use super::units::{bandwidth, key_bytes, latency, loss, mtu, price, seal_keys};
use super::{Malformed, Result, limits};
use crate::v1;
use proto_model::report::DropCount;
use proto_model::request::{DropsView, Event, Left, LinkView, NodeView, StatusView};
use proto_model::topology::{Forecast, LinkValues, Measured, NodeState, Underlay};
use proto_model::{Bandwidth, CircuitId, Generation, NodeName, Timestamp};
use std::net::IpAddr;
use std::time::Duration;

impl TryFrom<v1::Underlay> for Underlay {
    type Error = Malformed;
    fn try_from(underlay: v1::Underlay) -> Result<Self> {
        Ok(Self {
            interface: interface("interface", underlay.interface)?,
            network: name("network", &underlay.network)?,
            addresses: outer_addresses(&underlay.addresses)?,
            mtu: mtu("mtu", underlay.mtu, limits::UNDERLAY_MTU)?,
            speed: underlay.speed.map(|bits| bandwidth("speed", bits)).transpose()?,
            shape: underlay.shape,
        })
    }
}

/// Addresses that tunnels can start and end at.
fn outer_addresses(texts: &[String]) -> Result<Vec<IpAddr>> {
    count("addresses", limits::ADDRESSES, texts.len())?;
    let outer = |(i, text): (usize, &String)| {
        let field = format!("addresses[{i}]");
        let address = address(&field, text)?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(Malformed::new(field, format!("{address} is not the address of one host")));
        }
        Ok(address)
    };
    texts.iter().enumerate().map(outer).collect()
}

impl From<Underlay> for v1::Underlay {
    fn from(underlay: Underlay) -> Self {
        Self {
            interface: underlay.interface,
            network: underlay.network.to_string(),
            addresses: strings(underlay.addresses),
            mtu: underlay.mtu.into(),
            speed: underlay.speed.map(|speed| speed.bits_per_second()),
            shape: underlay.shape,
        }
    }
}

impl TryFrom<v1::Node> for NodeView {
    type Error = Malformed;
    fn try_from(node: v1::Node) -> Result<Self> {
        Ok(Self {
            name: name("name", &node.name)?,
            state: state(node.state)?,
            underlays: list("underlays", limits::UNDERLAYS, node.underlays)?,
            datapath: sentences("datapath", node.datapath)?,
            version: sentence("version", node.version)?,
            kernel: sentence("kernel", node.kernel)?,
            seen: node.seen.map(Timestamp),
            desired: Generation(node.desired_generation),
            reported: Generation(node.reported_generation),
            failures: list("failures", limits::OBJECTS, node.failures)?,
            seal_keys: seal_keys("seal_keys", node.seal_keys)?,
            policy_rules: node.policy_rules,
            policy_pending: node.policy_pending,
        })
    }
}

fn state(value: i32) -> Result<NodeState> {
    use v1::node::State as Wire;
    match Wire::try_from(value) {
        Ok(Wire::Expected) => Ok(NodeState::Expected),
        Ok(Wire::Connected) => Ok(NodeState::Connected),
        Ok(Wire::Lost) => Ok(NodeState::Lost),
        Ok(Wire::Unspecified) | Err(_) => {
            Err(unknown("state", value, "STATE_EXPECTED (1), STATE_CONNECTED (2), STATE_LOST (3)"))
        }
    }
}

impl From<NodeView> for v1::Node {
    fn from(node: NodeView) -> Self {
        Self {
            name: node.name.to_string(),
            state: match node.state {
                NodeState::Expected => v1::node::State::Expected,
                NodeState::Connected => v1::node::State::Connected,
                NodeState::Lost => v1::node::State::Lost,
            }
            .into(),
            underlays: each(node.underlays),
            datapath: all_clipped(node.datapath),
            version: clipped(node.version),
            kernel: clipped(node.kernel),
            seen: node.seen.map(|seen| seen.0),
            desired_generation: node.desired.0,
            reported_generation: node.reported.0,
            failures: each(node.failures),
            seal_keys: key_bytes(&node.seal_keys),
            policy_rules: node.policy_rules,
            policy_pending: node.policy_pending,
        }
    }
}

impl TryFrom<v1::LinkValues> for LinkValues {
    type Error = Malformed;
    fn try_from(values: v1::LinkValues) -> Result<Self> {
        Ok(Self {
            rtt: values.rtt.map(|nanos| latency("rtt", nanos)).transpose()?,
            capacity: values.capacity.map(|bits| bandwidth("capacity", bits)).transpose()?,
            loss: loss("loss", values.loss)?,
            price: price("price", values.price)?,
            encrypted: values.encrypted,
            require_encryption: values.require_encryption,
            tags: name_set("tags", limits::TAGS, &values.tags)?,
            disabled: values.disabled,
        })
    }
}

impl From<LinkValues> for v1::LinkValues {
    fn from(values: LinkValues) -> Self {
        Self {
            rtt: values.rtt.map(|rtt| rtt.nanos()),
            capacity: values.capacity.map(|capacity| capacity.bits_per_second()),
            loss: values.loss.ppm(),
            price: values.price.micro_dollars_per_gb(),
            encrypted: values.encrypted,
            require_encryption: values.require_encryption,
            tags: strings(values.tags),
            disabled: values.disabled,
        }
    }
}

impl TryFrom<v1::Link> for LinkView {
    type Error = Malformed;
    fn try_from(link: v1::Link) -> Result<Self> {
        Ok(Self {
            id: needed("id", link.id)?,
            values: needed("values", link.values)?,
            capacity: link.capacity.map(|bits| bandwidth("capacity", bits)).transpose()?,
            reserved: bandwidth("reserved", link.reserved)?,
            usable: link.usable,
            why: sentence("why", link.why)?,
            measured: list("measured", 2, link.measured)?,
            forecasts: list("forecasts", 3, link.forecasts)?,
            load: [
                link.load_forward.map(|bits| bandwidth("load_forward", bits)).transpose()?,
                link.load_backward.map(|bits| bandwidth("load_backward", bits)).transpose()?,
            ],
            available: link.available.map(|bits| bandwidth("available", bits)).transpose()?,
            others: bandwidth("others", link.others)?,
            others_expected: link.others_expected,
        })
    }
}

impl From<LinkView> for v1::Link {
    fn from(link: LinkView) -> Self {
        let bits = |bandwidth: Option<Bandwidth>| bandwidth.map(Bandwidth::bits_per_second);
        let [load_forward, load_backward] = link.load.map(bits);
        Self {
            id: Some(link.id.into()),
            values: Some(link.values.into()),
            capacity: bits(link.capacity),
            reserved: link.reserved.bits_per_second(),
            usable: link.usable,
            why: clipped(link.why),
            measured: each(link.measured),
            forecasts: each(link.forecasts),
            load_forward,
            load_backward,
            available: bits(link.available),
            others: link.others.bits_per_second(),
            others_expected: link.others_expected,
        }
    }
}

impl TryFrom<v1::link::Forecast> for Forecast {
    type Error = Malformed;
    fn try_from(forecast: v1::link::Forecast) -> Result<Self> {
        let quantity = super::insights::quantity(forecast.quantity())?;
        let count = forecast.quantiles.len();
        let quantiles = forecast
            .quantiles
            .try_into()
            .map_err(|_| Malformed::new("quantiles", format!("there are {count}, 7 are needed")))?;
        Ok(Self {
            quantity,
            horizon: Duration::from_nanos(forecast.horizon),
            mean: forecast.mean,
            quantiles,
            error: forecast.error,
            model: sentence("model", forecast.model)?,
            samples: forecast.samples,
            counts: forecast.counts,
        })
    }
}

impl From<Forecast> for v1::link::Forecast {
    fn from(forecast: Forecast) -> Self {
        Self {
            quantity: super::insights::quantity_of(forecast.quantity).into(),
            horizon: u64::try_from(forecast.horizon.as_nanos()).unwrap_or(u64::MAX),
            mean: forecast.mean,
            quantiles: forecast.quantiles.to_vec(),
            error: forecast.error,
            model: clipped(forecast.model),
            samples: forecast.samples,
            counts: forecast.counts,
        }
    }
}

impl TryFrom<v1::link::Measurement> for (NodeName, Measured) {
    type Error = Malformed;
    fn try_from(by: v1::link::Measurement) -> Result<Self> {
        Ok((name("node", &by.node)?, needed("measured", by.measured)?))
    }
}

impl From<(NodeName, Measured)> for v1::link::Measurement {
    fn from((node, measured): (NodeName, Measured)) -> Self {
        Self { node: node.to_string(), measured: Some(measured.into()) }
    }
}

impl TryFrom<v1::Status> for StatusView {
    type Error = Malformed;
    fn try_from(status: v1::Status) -> Result<Self> {
        Ok(Self {
            version: sentence("version", status.version)?,
            nodes_connected: status.nodes_connected,
            nodes: status.nodes,
            resources: status.resources,
            circuits_active: status.circuits_active,
            circuits: status.circuits,
            circuits_silent: status.circuits_silent,
            started: Timestamp(status.started),
        })
    }
}

impl From<StatusView> for v1::Status {
    fn from(status: StatusView) -> Self {
        Self {
            version: clipped(status.version),
            nodes_connected: status.nodes_connected,
            nodes: status.nodes,
            resources: status.resources,
            circuits_active: status.circuits_active,
            circuits: status.circuits,
            circuits_silent: status.circuits_silent,
            started: status.started.0,
        }
    }
}

impl From<(NodeName, DropCount)> for v1::NodeDropCount {
    fn from((node, drop): (NodeName, DropCount)) -> Self {
        Self { node: node.to_string(), drop: Some(drop.into()) }
    }
}

impl TryFrom<v1::NodeDropCount> for (NodeName, DropCount) {
    type Error = Malformed;
    fn try_from(count: v1::NodeDropCount) -> Result<Self> {
        Ok((name("node", &count.node)?, needed("drop", count.drop)?))
    }
}

impl From<DropsView> for v1::ListDropsResponse {
    fn from(view: DropsView) -> Self {
        Self { drops: each(view.drops), unheard: strings(view.unheard), absent: strings(view.absent) }
    }
}

impl TryFrom<v1::ListDropsResponse> for DropsView {
    type Error = Malformed;
    fn try_from(response: v1::ListDropsResponse) -> Result<Self> {
        Ok(Self {
            drops: list("drops", limits::OBJECTS, response.drops)?,
            unheard: names("unheard", limits::OBJECTS, &response.unheard)?,
            absent: names("absent", limits::OBJECTS, &response.absent)?,
        })
    }
}

impl From<Event> for v1::Event {
    fn from(event: Event) -> Self {
        use v1::event::Event as Wire;
        let mut late = Left::default();
        Self {
            event: Some(match event {
                Event::Circuit(view) => Wire::Circuit(view.into()),
                Event::CircuitGone { id, left } => {
                    late = left;
                    Wire::CircuitGone(id.0)
                }
                Event::Resource(view) => Wire::Resource(view.into()),
                Event::ResourceGone(id) => Wire::ResourceGone(id.to_string()),
                Event::Node(view) => Wire::Node(view.into()),
                Event::NodeGone(name) => Wire::NodeGone(name.to_string()),
            }),
            pending: strings(late.pending),
            absent: strings(late.absent),
        }
    }
}

/// `None`: everything that was there at the start of the watch has been told.
impl TryFrom<v1::Event> for Option<Event> {
    type Error = Malformed;
    fn try_from(event: v1::Event) -> Result<Self> {
        use v1::event::Event as Wire;
        Ok(Some(match required("event", event.event)? {
            Wire::Circuit(view) => Event::Circuit(inner("circuit", view)?),
            Wire::CircuitGone(id) => Event::CircuitGone {
                id: CircuitId(id),
                left: Left {
                    pending: names("pending", limits::OBJECTS, &event.pending)?,
                    absent: names("absent", limits::OBJECTS, &event.absent)?,
                },
            },
            Wire::Resource(view) => Event::Resource(inner("resource", view)?),
            Wire::ResourceGone(id) => Event::ResourceGone(name("resource_gone", &id)?),
            Wire::Node(view) => Event::Node(inner("node", view)?),
            Wire::NodeGone(node) => Event::NodeGone(name("node_gone", &node)?),
            Wire::CaughtUp(v1::Empty {}) => return Ok(None),
        }))
    }
}
