//! What an agent says.
use super::desired::{side, side_value};
use super::fields::{
    address_if_any, all_clipped, bounded, byte, clipped, each, harmless, inner, interface, list, needed,
    port, required, sentence, sentences,
};
use super::units::{key_bytes, latency, loss, seal_keys};
use super::{Malformed, Result, limits};
use crate::v1;
use proto_model::query::QueryId;
use proto_model::report::{
    Carried, DropCount, DropEvent, Failure, Hello, Report, Say, Switch, Telemetry, Traffic, Way,
};
use proto_model::topology::{LinkId, Measured};
use proto_model::{CircuitId, Generation, Timestamp};

impl TryFrom<v1::Say> for Say {
    type Error = Malformed;
    fn try_from(say: v1::Say) -> Result<Self> {
        match required("say", say.say)? {
            v1::say::Say::Hello(hello) => inner("hello", hello).map(Self::Hello),
            v1::say::Say::Report(report) => inner("report", report).map(Self::Report),
            v1::say::Say::AskWhole(v1::AskWhole {}) => Ok(Self::AskWhole),
            v1::say::Say::Telemetry(telemetry) => inner("telemetry", telemetry).map(Self::Telemetry),
            v1::say::Say::Drops(drops) => {
                list("drops.events", limits::DROP_EVENTS, drops.events).map(Self::Drops)
            }
            v1::say::Say::Switched(switched) => {
                list("switched.switches", limits::SWITCHES, switched.switches).map(Self::Switched)
            }
            v1::say::Say::Answer(answer) => {
                let query = QueryId(answer.query);
                Ok(Self::Answer { query, answer: inner("answer", answer)? })
            }
            v1::say::Say::Traced(traced) => {
                list("traced.packets", limits::TRACED, traced.packets).map(Self::Traced)
            }
        }
    }
}

/// Of more drop events than one message may carry, the first are sent: they are samples.
impl From<Say> for v1::Say {
    fn from(say: Say) -> Self {
        let say = match say {
            Say::Hello(hello) => v1::say::Say::Hello(hello.into()),
            Say::Report(report) => v1::say::Say::Report(report.into()),
            Say::AskWhole => v1::say::Say::AskWhole(v1::AskWhole {}),
            Say::Telemetry(telemetry) => v1::say::Say::Telemetry(telemetry.into()),
            Say::Drops(mut events) => {
                events.truncate(limits::DROP_EVENTS);
                v1::say::Say::Drops(v1::DropEvents { events: each(events) })
            }
            Say::Answer { query, answer } => v1::say::Say::Answer(super::explain::answer(query, answer)),
            Say::Traced(mut packets) => {
                packets.truncate(limits::TRACED);
                v1::say::Say::Traced(v1::TracedPackets { packets: each(packets) })
            }
            Say::Switched(switches) => v1::say::Say::Switched(v1::Switches { switches: each(switches) }),
        };
        Self { say: Some(say) }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = Malformed;
    fn try_from(hello: v1::Hello) -> Result<Self> {
        Ok(Self {
            version: sentence("version", hello.version)?,
            kernel: sentence("kernel", hello.kernel)?,
            boot: sentence("boot", hello.boot)?,
            underlays: list("underlays", limits::UNDERLAYS, hello.underlays)?,
            datapath: sentences("datapath", hello.datapath)?,
            seal_keys: seal_keys("seal_keys", hello.seal_keys)?,
        })
    }
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            version: clipped(hello.version),
            kernel: clipped(hello.kernel),
            boot: clipped(hello.boot),
            underlays: each(hello.underlays),
            datapath: all_clipped(hello.datapath),
            seal_keys: key_bytes(&hello.seal_keys),
        }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = Malformed;
    fn try_from(failure: v1::Failure) -> Result<Self> {
        Ok(Self { key: needed("key", failure.key)?, why: sentence("why", failure.why)? })
    }
}

impl From<Failure> for v1::Failure {
    fn from(failure: Failure) -> Self {
        Self { key: Some(failure.key.into()), why: clipped(failure.why) }
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = Malformed;
    fn try_from(report: v1::Report) -> Result<Self> {
        Ok(Self {
            generation: Generation(report.generation),
            whole: report.whole,
            failed: list("failed", limits::OBJECTS, report.failed)?,
            recovered: list("recovered", limits::OBJECTS, report.recovered)?,
        })
    }
}

impl From<Report> for v1::Report {
    fn from(report: Report) -> Self {
        Self {
            generation: report.generation.0,
            whole: report.whole,
            failed: each(report.failed),
            recovered: each(report.recovered),
        }
    }
}

impl TryFrom<v1::Telemetry> for Telemetry {
    type Error = Malformed;
    fn try_from(telemetry: v1::Telemetry) -> Result<Self> {
        super::fields::count("traffic", limits::OBJECTS, telemetry.traffic.len())?;
        let traffic = |entry: v1::telemetry::CircuitTraffic| {
            (CircuitId(entry.circuit), Traffic::from(entry.traffic.unwrap_or_default()))
        };
        Ok(Self {
            counted: Timestamp(telemetry.counted),
            traffic: telemetry.traffic.into_iter().map(traffic).collect(),
            drops: list("drops", limits::OBJECTS, telemetry.drops)?,
            links: list("links", limits::LINKS, telemetry.links)?,
            interfaces: list("interfaces", limits::UNDERLAYS, telemetry.interfaces)?,
        })
    }
}

impl From<Telemetry> for v1::Telemetry {
    fn from(telemetry: Telemetry) -> Self {
        let traffic = |(circuit, traffic): (CircuitId, Traffic)| v1::telemetry::CircuitTraffic {
            circuit: circuit.0,
            traffic: Some(traffic.into()),
        };
        Self {
            counted: telemetry.counted.0,
            traffic: telemetry.traffic.into_iter().map(traffic).collect(),
            drops: each(telemetry.drops),
            links: each(telemetry.links),
            interfaces: each(telemetry.interfaces),
        }
    }
}

impl TryFrom<v1::telemetry::InterfaceBytes> for Carried {
    type Error = Malformed;
    fn try_from(carried: v1::telemetry::InterfaceBytes) -> Result<Self> {
        Ok(Self {
            interface: interface("interface", carried.interface)?,
            sent_bytes: carried.sent,
            received_bytes: carried.received,
        })
    }
}

impl From<Carried> for v1::telemetry::InterfaceBytes {
    fn from(carried: Carried) -> Self {
        Self { interface: carried.interface, sent: carried.sent_bytes, received: carried.received_bytes }
    }
}

impl TryFrom<v1::telemetry::LinkMeasurement> for (LinkId, Measured) {
    type Error = Malformed;
    fn try_from(link: v1::telemetry::LinkMeasurement) -> Result<Self> {
        Ok((needed("link", link.link)?, needed("measured", link.measured)?))
    }
}

impl From<(LinkId, Measured)> for v1::telemetry::LinkMeasurement {
    fn from((link, measured): (LinkId, Measured)) -> Self {
        Self { link: Some(link.into()), measured: Some(measured.into()) }
    }
}

impl TryFrom<v1::Measured> for Measured {
    type Error = Malformed;
    fn try_from(seen: v1::Measured) -> Result<Self> {
        Ok(Self {
            probes: seen.probes,
            rtt_min: latency("rtt_min", seen.rtt_min)?,
            rtt_mean: latency("rtt_mean", seen.rtt_mean)?,
            rtt_max: latency("rtt_max", seen.rtt_max)?,
            variation_forward: latency("variation_forward", seen.variation_forward)?,
            variation_backward: latency("variation_backward", seen.variation_backward)?,
            loss_forward: loss("loss_forward", seen.loss_forward)?,
            loss_backward: loss("loss_backward", seen.loss_backward)?,
        })
    }
}

impl From<Measured> for v1::Measured {
    fn from(seen: Measured) -> Self {
        Self {
            probes: seen.probes,
            rtt_min: seen.rtt_min.nanos(),
            rtt_mean: seen.rtt_mean.nanos(),
            rtt_max: seen.rtt_max.nanos(),
            variation_forward: seen.variation_forward.nanos(),
            variation_backward: seen.variation_backward.nanos(),
            loss_forward: seen.loss_forward.ppm(),
            loss_backward: seen.loss_backward.ppm(),
        }
    }
}

impl TryFrom<v1::Switch> for Switch {
    type Error = Malformed;
    fn try_from(switch: v1::Switch) -> Result<Self> {
        Ok(Self {
            circuit: CircuitId(switch.circuit),
            side: side("side", switch.side)?,
            to: if switch.to_backup { Way::Backup } else { Way::Primary },
            why: sentence("why", switch.why)?,
            at: Timestamp(switch.at),
        })
    }
}

impl From<Switch> for v1::Switch {
    fn from(switch: Switch) -> Self {
        Self {
            circuit: switch.circuit.0,
            side: side_value(switch.side),
            to_backup: match switch.to {
                Way::Primary => false,
                Way::Backup => true,
            },
            why: clipped(switch.why),
            at: switch.at.0,
        }
    }
}

impl TryFrom<v1::DropCount> for DropCount {
    type Error = Malformed;
    fn try_from(count: v1::DropCount) -> Result<Self> {
        Ok(Self {
            circuit: count.circuit.map(CircuitId),
            reason: harmless(bounded("reason", count.reason, 64)?),
            rule: count.rule,
            packets: count.packets,
            bytes: count.bytes,
        })
    }
}

impl From<DropCount> for v1::DropCount {
    fn from(count: DropCount) -> Self {
        Self {
            circuit: count.circuit.map(|id| id.0),
            reason: count.reason,
            rule: count.rule,
            packets: count.packets,
            bytes: count.bytes,
        }
    }
}

impl TryFrom<v1::DropEvent> for DropEvent {
    type Error = Malformed;
    fn try_from(event: v1::DropEvent) -> Result<Self> {
        Ok(Self {
            at: Timestamp(event.at),
            circuit: event.circuit.map(CircuitId),
            reason: harmless(bounded("reason", event.reason, 64)?),
            text: sentence("text", event.text)?,
            rule: event.rule,
            interface: harmless(bounded("interface", event.interface, limits::INTERFACE_BYTES)?),
            source: address_if_any("source", &event.source)?,
            destination: address_if_any("destination", &event.destination)?,
            protocol: byte("protocol", event.protocol)?,
            source_port: port("source_port", event.source_port, 0)?,
            destination_port: port("destination_port", event.destination_port, 0)?,
            length: event.length,
            label: event.label,
        })
    }
}

impl From<DropEvent> for v1::DropEvent {
    fn from(event: DropEvent) -> Self {
        let text = |address: Option<std::net::IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
        Self {
            at: event.at.0,
            circuit: event.circuit.map(|id| id.0),
            reason: event.reason,
            text: clipped(event.text),
            rule: event.rule,
            interface: event.interface,
            source: text(event.source),
            destination: text(event.destination),
            protocol: event.protocol.into(),
            source_port: event.source_port.into(),
            destination_port: event.destination_port.into(),
            length: event.length,
            label: event.label,
        }
    }
}
