//! Questions about packets, and what hosts answer.
use super::desired::pair;
use super::fields::{
    address, bounded, byte, clipped, harmless, inner, list, name, name_if_any, needed, port, sentence,
};
use super::fields::{count, each, required, unknown};
use super::units::{fabric_address, label};
use super::{Malformed, Result, limits};
use crate::v1;
use proto_model::CircuitId;
use proto_model::query::{
    Answer, Body, Connection, FRAME, Fate, PACKET, Packet, QueryId, Question, Ran, Sealing, Sent, Tunnel,
};
use proto_model::report::Way;
use proto_model::request::Request;
use proto_model::trail::{Trail, TrailHop, Verdict, Whom, Wonder};

/// Where an opener's port is not said.
const OPENER: u16 = 40_000;

impl TryFrom<v1::Packet> for Packet {
    type Error = Malformed;
    fn try_from(packet: v1::Packet) -> Result<Self> {
        let [source, destination] = pair(["source", "destination"], [&packet.source, &packet.destination])?;
        let source_port = port("source_port", packet.source_port, 0)?;
        let destination_port = port("destination_port", packet.destination_port, 0)?;
        let answer = packet.answer;
        let body = match protocol("protocol", packet.protocol)? {
            6 => Body::Tcp { source: source_port, destination: destination_port, answer },
            17 => Body::Udp { source: source_port, destination: destination_port },
            1 => Body::Echo { id: source_port, answer },
            other => Body::Other(other),
        };
        Ok(Self { source, destination, body, size: size(packet.size)? })
    }
}

fn size(bytes: u32) -> Result<Option<u16>> {
    match u16::try_from(bytes) {
        Ok(0) => Ok(None),
        Ok(size @ 1..=PACKET) => Ok(Some(size)),
        Ok(_) | Err(_) => {
            Err(Malformed::new("size", format!("is {bytes}; a packet has up to {PACKET} bytes here")))
        }
    }
}

fn protocol(field: &str, number: u32) -> Result<u8> {
    match byte(field, number)? {
        58 => Err(Malformed::new(field, "58 is ICMP of IPv6, which is 1 here in both families")),
        other => Ok(other),
    }
}

impl From<Packet> for v1::Packet {
    fn from(packet: Packet) -> Self {
        let (protocol, source_port, destination_port, answer) = match packet.body {
            Body::Tcp { source, destination, answer } => (6, source, destination, answer),
            Body::Udp { source, destination } => (17, source, destination, false),
            Body::Echo { id, answer } => (1, id, 0, answer),
            Body::Other(number) => (number.into(), 0, 0, false),
        };
        Self {
            source: packet.source.to_string(),
            destination: packet.destination.to_string(),
            protocol,
            source_port: source_port.into(),
            destination_port: destination_port.into(),
            answer,
            size: packet.size.map_or(0, u32::from),
        }
    }
}

impl TryFrom<v1::Ask> for Question {
    type Error = Malformed;
    fn try_from(ask: v1::Ask) -> Result<Self> {
        match required("question", ask.question)? {
            v1::ask::Question::Sent(sent) => Ok(Self::Sent {
                workload: fabric_address("sent.workload", sent.workload)?,
                packet: needed("sent.packet", sent.packet)?,
            }),
            v1::ask::Question::Arrives(arrives) => Ok(Self::Arrives {
                frame: frame("arrives.frame", arrives.frame)?,
                packet: needed("arrives.packet", arrives.packet)?,
            }),
            v1::ask::Question::Enters(enters) => {
                let [source, destination] =
                    pair(["enters.source", "enters.destination"], [&enters.source, &enters.destination])?;
                Ok(Self::Enters {
                    workload: fabric_address("enters.workload", enters.workload)?,
                    tunnel: Tunnel { source, destination, label: label("enters.label", enters.label)? },
                    packet: needed("enters.packet", enters.packet)?,
                })
            }
        }
    }
}

pub(super) fn ask(query: QueryId, question: Question) -> v1::Ask {
    let question = match question {
        Question::Sent { workload, packet } => v1::ask::Question::Sent(v1::ask::Outgoing {
            workload: Some(workload.into()),
            packet: Some(packet.into()),
        }),
        Question::Arrives { frame, packet } => {
            v1::ask::Question::Arrives(v1::ask::Arriving { frame, packet: Some(packet.into()) })
        }
        Question::Enters { workload, tunnel, packet } => v1::ask::Question::Enters(v1::ask::Entering {
            workload: Some(workload.into()),
            source: tunnel.source.to_string(),
            destination: tunnel.destination.to_string(),
            label: tunnel.label.value(),
            packet: Some(packet.into()),
        }),
    };
    v1::Ask { query: query.0, question: Some(question) }
}

fn frame(field: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
    count(field, FRAME, bytes.len())?;
    Ok(bytes)
}

impl TryFrom<v1::Answer> for Answer {
    type Error = Malformed;
    fn try_from(answer: v1::Answer) -> Result<Self> {
        match required("answer", answer.answer)? {
            v1::answer::Answer::Ran(ran) => inner("ran", ran).map(Self::Ran),
            v1::answer::Answer::Unable(why) => sentence("unable", why).map(Self::Unable),
        }
    }
}

pub(super) fn answer(query: QueryId, answer: Answer) -> v1::Answer {
    let answer = match answer {
        Answer::Ran(ran) => v1::answer::Answer::Ran(ran.into()),
        Answer::Unable(why) => v1::answer::Answer::Unable(clipped(why)),
    };
    v1::Answer { query: query.0, answer: Some(answer) }
}

fn interface(field: &str, text: String) -> Result<String> {
    Ok(harmless(bounded(field, text, limits::INTERFACE_BYTES)?))
}

impl TryFrom<v1::Ran> for Ran {
    type Error = Malformed;
    fn try_from(ran: v1::Ran) -> Result<Self> {
        use v1::ran::Fate as Told;
        let fate = match required("fate", ran.fate)? {
            Told::Sent(sent) => Fate::Sent(inner("sent", sent)?),
            Told::Delivered(to) => Fate::Delivered { interface: interface("delivered", to)? },
            Told::Dropped(dropped) => Fate::Dropped {
                reason: harmless(bounded("dropped.reason", dropped.reason, 64)?),
                text: sentence("dropped.text", dropped.text)?,
                room: size_of_an_ip_packet("dropped.room", dropped.room)?,
            },
            Told::NotOurs(_) => Fate::NotOurs,
        };
        Ok(Self {
            program: harmless(bounded("program", ran.program, 64)?),
            interface: interface("interface", ran.interface)?,
            label: if ran.label == 0 { None } else { Some(label("label", ran.label)?) },
            circuit: ran.circuit.map(CircuitId),
            rule: ran.rule,
            connection: connection("connection", ran.connection)?,
            sealing: sealing("sealing", ran.sealing)?,
            fate,
        })
    }
}

impl From<Ran> for v1::Ran {
    fn from(ran: Ran) -> Self {
        use v1::ran::Fate as Told;
        Self {
            program: ran.program,
            interface: ran.interface,
            label: ran.label.map_or(0, |label| label.value()),
            circuit: ran.circuit.map(|id| id.0),
            rule: ran.rule,
            connection: connection_value(ran.connection),
            sealing: sealing_value(ran.sealing),
            fate: Some(match ran.fate {
                Fate::Sent(sent) => Told::Sent(sent.into()),
                Fate::Delivered { interface } => Told::Delivered(interface),
                Fate::Dropped { reason, text, room } => Told::Dropped(v1::ran::Dropped {
                    reason,
                    text: clipped(text),
                    room: room.map_or(0, u32::from),
                }),
                Fate::NotOurs => Told::NotOurs(true),
            }),
        }
    }
}

fn size_of_an_ip_packet(field: &str, bytes: u32) -> Result<Option<u16>> {
    let short = u16::try_from(bytes);
    short
        .map(|bytes| (bytes != 0).then_some(bytes))
        .map_err(|_| Malformed::new(field, format!("is {bytes}; an IP packet has up to {} bytes", u16::MAX)))
}

fn connection(field: &str, value: i32) -> Result<Connection> {
    use v1::ran::Connection as Told;
    Ok(match Told::try_from(value) {
        Ok(Told::Unspecified) => Connection::None,
        Ok(Told::WouldOpen) => Connection::WouldOpen,
        Ok(Told::Opening) => Connection::Opening,
        Ok(Told::Established) => Connection::Established,
        Ok(Told::Closing) => Connection::Closing,
        Err(_) => return Err(unknown(field, value, "CONNECTION_UNSPECIFIED (0) to CONNECTION_CLOSING (4)")),
    })
}

fn connection_value(connection: Connection) -> i32 {
    use v1::ran::Connection as Told;
    match connection {
        Connection::None => Told::Unspecified,
        Connection::WouldOpen => Told::WouldOpen,
        Connection::Opening => Told::Opening,
        Connection::Established => Told::Established,
        Connection::Closing => Told::Closing,
    }
    .into()
}

fn sealing(field: &str, value: i32) -> Result<Sealing> {
    use v1::ran::Sealing as Told;
    Ok(match Told::try_from(value) {
        Ok(Told::Unspecified) => Sealing::Clear,
        Ok(Told::Sealed) => Sealing::Sealed,
        Ok(Told::NoSession) => Sealing::NoSession,
        Err(_) => return Err(unknown(field, value, "SEALING_UNSPECIFIED (0) to SEALING_NO_SESSION (2)")),
    })
}

fn sealing_value(sealing: Sealing) -> i32 {
    use v1::ran::Sealing as Told;
    match sealing {
        Sealing::Clear => Told::Unspecified,
        Sealing::Sealed => Told::Sealed,
        Sealing::NoSession => Told::NoSession,
    }
    .into()
}

impl TryFrom<v1::ran::Sent> for Sent {
    type Error = Malformed;
    fn try_from(sent: v1::ran::Sent) -> Result<Self> {
        use v1::ran::Way as Told;
        let [local, remote] = pair(["local", "remote"], [&sent.local, &sent.remote])?;
        Ok(Self {
            interface: interface("interface", sent.interface)?,
            local,
            remote,
            label: label("label", sent.label)?,
            way: match Told::try_from(sent.way) {
                Ok(Told::Unspecified) => None,
                Ok(Told::Primary) => Some(Way::Primary),
                Ok(Told::Backup) => Some(Way::Backup),
                Err(_) => return Err(unknown("way", sent.way, "WAY_UNSPECIFIED (0) to WAY_BACKUP (2)")),
            },
            frame: frame("frame", sent.frame)?,
        })
    }
}

impl From<Sent> for v1::ran::Sent {
    fn from(sent: Sent) -> Self {
        use v1::ran::Way as Told;
        Self {
            interface: sent.interface,
            local: sent.local.to_string(),
            remote: sent.remote.to_string(),
            label: sent.label.value(),
            way: match sent.way {
                None => Told::Unspecified,
                Some(Way::Primary) => Told::Primary,
                Some(Way::Backup) => Told::Backup,
            }
            .into(),
            frame: sent.frame,
        }
    }
}

fn whom(field: &str, text: &str) -> Result<Whom> {
    match address(field, text) {
        Ok(address) => Ok(Whom::Address(address)),
        Err(_) => name(field, text).map(Whom::Resource),
    }
}

impl TryFrom<v1::WhyRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::WhyRequest) -> Result<Self> {
        let protocol = protocol("protocol", request.protocol)?;
        if protocol == 0 {
            return Err(Malformed::new("protocol", "is missing; 1 is ICMP, 6 is TCP, 17 is UDP"));
        }
        let least = u16::from(matches!(protocol, 6 | 17));
        let opener = port("source_port", request.source_port, 0)?;
        Ok(Self::Why(Wonder {
            source: whom("source", &request.source)?,
            destination: whom("destination", &request.destination)?,
            protocol,
            port: port("port", request.port, least)?,
            source_port: if opener == 0 { OPENER } else { opener },
            answer: request.answer,
            v6: request.ipv6,
            size: size(request.size)?,
        }))
    }
}

impl From<Wonder> for v1::WhyRequest {
    fn from(wonder: Wonder) -> Self {
        Self {
            source: wonder.source.to_string(),
            destination: wonder.destination.to_string(),
            protocol: wonder.protocol.into(),
            port: wonder.port.into(),
            source_port: wonder.source_port.into(),
            answer: wonder.answer,
            ipv6: wonder.v6,
            size: wonder.size.map_or(0, u32::from),
        }
    }
}

impl TryFrom<v1::Trail> for Trail {
    type Error = Malformed;
    fn try_from(trail: v1::Trail) -> Result<Self> {
        use v1::trail::Verdict as Told;
        let circuit = match trail.circuit {
            Some(id) => Some((CircuitId(id), name("circuit_name", &trail.circuit_name)?)),
            None => None,
        };
        Ok(Self {
            packet: needed("packet", trail.packet)?,
            circuit,
            hops: list("hops", limits::HOSTS, trail.hops)?,
            verdict: match Told::try_from(trail.verdict) {
                Ok(Told::Passes) => Verdict::Passes,
                Ok(Told::Dropped) => Verdict::Dropped,
                Ok(Told::Unknown) => Verdict::Unknown,
                Ok(Told::Unspecified) | Err(_) => {
                    let allowed = "VERDICT_PASSES (1), VERDICT_DROPPED (2), VERDICT_UNKNOWN (3)";
                    return Err(unknown("verdict", trail.verdict, allowed));
                }
            },
            sentence: sentence("sentence", trail.sentence)?,
            advice: sentence("advice", trail.advice)?,
        })
    }
}

impl From<Trail> for v1::Trail {
    fn from(trail: Trail) -> Self {
        use v1::trail::Verdict as Told;
        let (circuit, circuit_name) =
            trail.circuit.map_or((None, String::new()), |(id, name)| (Some(id.0), name.to_string()));
        Self {
            packet: Some(trail.packet.into()),
            circuit,
            circuit_name,
            hops: each(trail.hops),
            verdict: match trail.verdict {
                Verdict::Passes => Told::Passes,
                Verdict::Dropped => Told::Dropped,
                Verdict::Unknown => Told::Unknown,
            }
            .into(),
            sentence: clipped(trail.sentence),
            advice: clipped(trail.advice),
        }
    }
}

impl TryFrom<v1::trail::Hop> for TrailHop {
    type Error = Malformed;
    fn try_from(hop: v1::trail::Hop) -> Result<Self> {
        Ok(Self {
            node: name("node", &hop.node)?,
            ran: needed("ran", hop.ran)?,
            rule: sentence("rule", hop.rule)?,
            next: name_if_any("next", &hop.next)?,
            note: sentence("note", hop.note)?,
        })
    }
}

impl From<TrailHop> for v1::trail::Hop {
    fn from(hop: TrailHop) -> Self {
        Self {
            node: hop.node.to_string(),
            ran: Some(hop.ran.into()),
            rule: clipped(hop.rule),
            next: hop.next.map(|next| next.to_string()).unwrap_or_default(),
            note: clipped(hop.note),
        }
    }
}
