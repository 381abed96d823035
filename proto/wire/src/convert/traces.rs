//! Circuits that are followed, and their packets.
use super::fields::{address_if_any, bounded, byte, harmless, names, needed, port, ranged};
use super::fields::{count, unknown};
use super::units::{label, span};
use super::{Malformed, Result, circuit_ref, limits};
use crate::v1;
use proto_model::desired::Trace;
use proto_model::request::Request;
use proto_model::trace::{Act, Filter, Hook, LONGEST, SNAPLEN, Traced};
use proto_model::{CircuitId, Label, Timestamp};

impl TryFrom<v1::Trace> for Trace {
    type Error = Malformed;
    fn try_from(trace: v1::Trace) -> Result<Self> {
        Ok(Self {
            circuit: CircuitId(trace.circuit),
            until: Timestamp(trace.until),
            filter: needed("filter", trace.filter)?,
            snaplen: snaplen(trace.snaplen)?,
        })
    }
}

impl From<Trace> for v1::Trace {
    fn from(trace: Trace) -> Self {
        Self {
            circuit: trace.circuit.0,
            until: trace.until.0,
            filter: Some(trace.filter.into()),
            snaplen: trace.snaplen.into(),
        }
    }
}

fn snaplen(value: u32) -> Result<u16> {
    ranged("snaplen", value.into(), 0, SNAPLEN.into(), " bytes")
}

impl TryFrom<v1::TraceFilter> for Filter {
    type Error = Malformed;
    fn try_from(filter: v1::TraceFilter) -> Result<Self> {
        let protocol = filter.protocol.map(|number| byte("protocol", number)).transpose()?;
        let wanted = filter.port.map(|number| port("port", number, 1)).transpose()?;
        match (protocol, wanted) {
            (Some(58), _) => {
                Err(Malformed::new("protocol", "58 is ICMP of IPv6, which is 1 here in both families"))
            }
            (Some(number), Some(_)) if !matches!(number, 6 | 17) => Err(Malformed::new(
                "port",
                format!("protocol {number} has no ports; TCP (6) and UDP (17) have"),
            )),
            _ => Ok(Self { protocol, port: wanted }),
        }
    }
}

impl From<Filter> for v1::TraceFilter {
    fn from(filter: Filter) -> Self {
        Self { protocol: filter.protocol.map(Into::into), port: filter.port.map(Into::into) }
    }
}

impl TryFrom<v1::TraceRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::TraceRequest) -> Result<Self> {
        Ok(Self::StartTrace {
            circuit: circuit_ref("circuit", &request.circuit)?,
            filter: request
                .filter
                .map_or(Ok(Filter::default()), Filter::try_from)
                .map_err(|m| m.within("filter"))?,
            snaplen: snaplen(request.snaplen)?,
            lasts: span("lasts", request.lasts, limits::TRACE_LEAST, LONGEST)?,
            nodes: names("nodes", limits::HOSTS, &request.nodes)?,
        })
    }
}

impl TryFrom<v1::TracedPacket> for Traced {
    type Error = Malformed;
    fn try_from(packet: v1::TracedPacket) -> Result<Self> {
        count("bytes", SNAPLEN.into(), packet.bytes.len())?;
        let maybe = |field, value| if value == 0 { Ok(None) } else { label(field, value).map(Some) };
        Ok(Self {
            at: Timestamp(packet.at),
            circuit: CircuitId(packet.circuit),
            hook: hook(packet.hook)?,
            act: act(packet.act, packet.reason, packet.rule)?,
            interface: harmless(bounded("interface", packet.interface, limits::INTERFACE_BYTES)?),
            label: maybe("label", packet.label)?,
            out_label: maybe("out_label", packet.out_label)?,
            identity: packet.identity,
            source: address_if_any("source", &packet.source)?,
            destination: address_if_any("destination", &packet.destination)?,
            protocol: byte("protocol", packet.protocol)?,
            source_port: port("source_port", packet.source_port, 0)?,
            destination_port: port("destination_port", packet.destination_port, 0)?,
            sealed: packet.sealed,
            length: packet.length,
            segment: packet.segment,
            missed: packet.missed,
            bytes: packet.bytes,
        })
    }
}

fn hook(value: i32) -> Result<Hook> {
    use v1::traced_packet::Hook as Told;
    match Told::try_from(value) {
        Ok(Told::Eni) => Ok(Hook::Eni),
        Ok(Told::Tcx) => Ok(Hook::Tcx),
        Ok(Told::Xdp) => Ok(Hook::Xdp),
        Ok(Told::Seal) => Ok(Hook::Seal),
        Ok(Told::Unspecified) | Err(_) => {
            Err(unknown("hook", value, "HOOK_ENI (1), HOOK_TCX (2), HOOK_XDP (3), HOOK_SEAL (4)"))
        }
    }
}

fn act(value: i32, reason: String, rule: u32) -> Result<Act> {
    use v1::traced_packet::Act as Told;
    match Told::try_from(value) {
        Ok(Told::Entered) => Ok(Act::Entered),
        Ok(Told::PassedOn) => Ok(Act::PassedOn),
        Ok(Told::Delivered) => Ok(Act::Delivered),
        Ok(Told::Dropped) => Ok(Act::Dropped { reason: harmless(bounded("reason", reason, 64)?), rule }),
        Ok(Told::Unspecified) | Err(_) => Err(unknown("act", value, "ACT_ENTERED (1) to ACT_DROPPED (4)")),
    }
}

impl From<Traced> for v1::TracedPacket {
    fn from(packet: Traced) -> Self {
        use v1::traced_packet as told;
        let text = |address: Option<std::net::IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
        let (act, reason, rule) = match packet.act {
            Act::Entered => (told::Act::Entered, String::new(), 0),
            Act::PassedOn => (told::Act::PassedOn, String::new(), 0),
            Act::Delivered => (told::Act::Delivered, String::new(), 0),
            Act::Dropped { reason, rule } => (told::Act::Dropped, reason, rule),
        };
        let hook = match packet.hook {
            Hook::Eni => told::Hook::Eni,
            Hook::Tcx => told::Hook::Tcx,
            Hook::Xdp => told::Hook::Xdp,
            Hook::Seal => told::Hook::Seal,
        };
        Self {
            at: packet.at.0,
            circuit: packet.circuit.0,
            hook: hook.into(),
            act: act.into(),
            reason,
            rule,
            interface: packet.interface,
            label: packet.label.map_or(0, Label::value),
            out_label: packet.out_label.map_or(0, Label::value),
            identity: packet.identity,
            source: text(packet.source),
            destination: text(packet.destination),
            protocol: packet.protocol.into(),
            source_port: packet.source_port.into(),
            destination_port: packet.destination_port.into(),
            sealed: packet.sealed,
            length: packet.length,
            segment: packet.segment,
            missed: packet.missed,
            bytes: packet.bytes,
        }
    }
}
