//! A reference model of the firewall in plain Rust, written from the documentation of `ebpf-abi` and from nothing else. It
//! judges descriptions of packets, not bytes, so it shares no parser with the programs that it checks.
use std::collections::HashMap;
use std::net::IpAddr;

/// A circuit's rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub id: u32,
    pub allow: bool,
    pub from_source: bool,
    pub from_destination: bool,
    /// None matches every protocol; ICMP is 1 in both families.
    pub protocol: Option<u8>,
    pub ports: (u16, u16),
    /// None matches both families.
    pub v6: Option<bool>,
    /// Prefix of who opens; none matches everyone.
    pub opener: Option<(IpAddr, u8)>,
    pub opened: Option<(IpAddr, u8)>,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Tcp {
        from: u16,
        to: u16,
        fin: bool,
        syn: bool,
        rst: bool,
        ack: bool,
    },
    Udp {
        from: u16,
        to: u16,
    },
    Ask {
        id: u16,
    },
    Answer {
        id: u16,
    },
    /// Another ICMP message, by type.
    Message {
        kind: u8,
    },
    /// A protocol without ports.
    Other {
        protocol: u8,
    },
}

/// How a packet relates to its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    All,
    First { id: u16 },
    Later { id: u16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From the circuit's source to its destination.
    pub forward: bool,
    pub v6: bool,
    pub piece: Piece,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Plain(Body),
    /// An ICMP error about a packet that went the other way.
    ErrorAbout(Body),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Denied {
        rule: u32,
    },
    NoConnection,
    Unrelated,
    NoFirst,
    NoRules,
    /// TCP flags that no TCP sends.
    Impossible,
}

/// The addresses at a circuit's two ends.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub source: (IpAddr, IpAddr),
    pub destination: (IpAddr, IpAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Talk {
    circuit: u64,
    v6: bool,
    protocol: u8,
    /// Ports at the circuit's source and destination; an echo's identifier in the first.
    ports: (u16, u16),
    /// An echo's asker sits at the source.
    asked_forward: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    opened_forward: bool,
    version: u32,
    life: Life,
    fin_forward: bool,
    fin_reverse: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Young,
    Grown,
    Dying,
}

#[derive(Debug)]
struct Circuit {
    ends: Ends,
    rules: Option<(u32, Vec<Rule>)>,
}

/// All circuits of one host.
#[derive(Debug, Default)]
pub struct Firewall {
    circuits: HashMap<u64, Circuit>,
    talks: HashMap<Talk, Known>,
    firsts: HashMap<(u64, bool, bool, u16, Option<u8>), Talk>,
}

impl Firewall {
    pub fn open_circuit(&mut self, circuit: u64, ends: Ends) {
        self.circuits.insert(circuit, Circuit { ends, rules: None });
    }

    pub fn replace_rules(&mut self, circuit: u64, version: u32, rules: Vec<Rule>) {
        if let Some(circuit) = self.circuits.get_mut(&circuit) {
            circuit.rules = Some((version, rules));
        }
    }

    pub fn judge(&mut self, circuit: u64, packet: &Packet) -> Verdict {
        let body = match packet.what {
            What::Plain(body) | What::ErrorAbout(body) => body,
        };
        if let (What::Plain(body), Piece::All | Piece::First { .. }) = (packet.what, packet.piece)
            && impossible(body)
        {
            return Verdict::Impossible;
        }
        if self.circuits.get(&circuit).is_none_or(|c| c.rules.is_none()) {
            return Verdict::NoRules;
        }
        match (packet.what, packet.piece) {
            (What::ErrorAbout(_), _) => {
                let talk = talk(circuit, packet.v6, !packet.forward, body);
                talk.map_or(Verdict::Unrelated, |talk| self.belonging(talk, Verdict::Unrelated))
            }
            (What::Plain(Body::Message { kind }), Piece::All | Piece::First { .. }) => {
                match self.ask_rules(circuit, packet.forward, packet.v6, 1, u16::from(kind)) {
                    (_, true) => Verdict::Pass,
                    (rule, false) => Verdict::Denied { rule },
                }
            }
            (What::Plain(_), Piece::Later { id }) => {
                match self.firsts.get(&first_key(circuit, packet, id, body)) {
                    Some(talk) => self.belonging(*talk, Verdict::NoConnection),
                    None => Verdict::NoFirst,
                }
            }
            (What::Plain(_), Piece::All) => self.plain(circuit, packet, body),
            (What::Plain(_), Piece::First { id }) => {
                let verdict = self.plain(circuit, packet, body);
                let key = first_key(circuit, packet, id, body);
                match (verdict, talk(circuit, packet.v6, packet.forward, body)) {
                    (Verdict::Pass, Some(talk)) => drop(self.firsts.insert(key, talk)),
                    _ => drop(self.firsts.remove(&key)),
                }
                verdict
            }
        }
    }

    fn plain(&mut self, circuit: u64, packet: &Packet, body: Body) -> Verdict {
        let Some(talk) = talk(circuit, packet.v6, packet.forward, body) else { return Verdict::NoConnection };
        let greeting = matches!(body, Body::Tcp { syn: true, fin: false, rst: false, ack: false, .. });
        match self.talks.get(&talk) {
            Some(known) if !(known.life == Life::Dying && greeting) => {
                if greeting && known.opened_forward != packet.forward {
                    return Verdict::NoConnection;
                }
                match self.belonging(talk, Verdict::NoConnection) {
                    Verdict::Pass => self.grow(talk, packet.forward, body),
                    refused => refused,
                }
            }
            _ => self.begin(talk, packet, body, greeting),
        }
    }

    fn begin(&mut self, talk: Talk, packet: &Packet, body: Body, greeting: bool) -> Verdict {
        let starts = match body {
            Body::Tcp { .. } => greeting,
            Body::Answer { .. } | Body::Message { .. } => false,
            Body::Udp { .. } | Body::Ask { .. } | Body::Other { .. } => true,
        };
        if !starts {
            return Verdict::NoConnection;
        }
        let port = opened_port(&talk, packet.forward);
        let (rule, allow) = self.ask_rules(talk.circuit, packet.forward, packet.v6, talk.protocol, port);
        if !allow {
            return Verdict::Denied { rule };
        }
        let version = self.version(talk.circuit);
        let opened_forward = packet.forward;
        let known =
            Known { opened_forward, version, life: Life::Young, fin_forward: false, fin_reverse: false };
        self.talks.insert(talk, known);
        Verdict::Pass
    }

    /// Passes what belongs to a known conversation, unless new rules have ended that.
    fn belonging(&mut self, talk: Talk, otherwise: Verdict) -> Verdict {
        let Some(known) = self.talks.get(&talk).copied() else { return otherwise };
        let version = self.version(talk.circuit);
        if known.version == version {
            return Verdict::Pass;
        }
        let port = opened_port(&talk, known.opened_forward);
        let (rule, allow) = self.ask_rules(talk.circuit, known.opened_forward, talk.v6, talk.protocol, port);
        if allow {
            self.talks.insert(talk, Known { version, ..known });
            Verdict::Pass
        } else {
            self.talks.remove(&talk);
            Verdict::Denied { rule }
        }
    }

    fn grow(&mut self, talk: Talk, forward: bool, body: Body) -> Verdict {
        if let Some(known) = self.talks.get_mut(&talk) {
            let answer = forward != known.opened_forward;
            if let Body::Tcp { fin, syn, rst, .. } = body {
                known.fin_forward |= fin && forward;
                known.fin_reverse |= fin && !forward;
                if rst || known.fin_forward && known.fin_reverse {
                    known.life = Life::Dying;
                } else if known.life == Life::Young && answer && syn {
                    known.life = Life::Grown;
                }
            } else if answer {
                known.life = Life::Grown;
            }
        }
        Verdict::Pass
    }

    fn version(&self, circuit: u64) -> u32 {
        self.circuits.get(&circuit).and_then(|c| c.rules.as_ref()).map_or(0, |(version, _)| *version)
    }

    /// The rule that decides, and how; rule 0 denies.
    fn ask_rules(&self, circuit: u64, forward: bool, v6: bool, protocol: u8, port: u16) -> (u32, bool) {
        let Some(Circuit { ends, rules: Some((_, rules)) }) = self.circuits.get(&circuit) else {
            return (0, false);
        };
        let pick = |(v4, six): (IpAddr, IpAddr)| if v6 { six } else { v4 };
        let (source, destination) = (pick(ends.source), pick(ends.destination));
        let (opener, opened) = if forward { (source, destination) } else { (destination, source) };
        rules
            .iter()
            .find(|rule| {
                (if forward { rule.from_source } else { rule.from_destination })
                    && rule.v6.is_none_or(|family| family == v6)
                    && rule.protocol.is_none_or(|wanted| wanted == protocol)
                    && (rule.ports.0..=rule.ports.1).contains(&port)
                    && rule.opener.is_none_or(|prefix| covers(prefix, opener))
                    && rule.opened.is_none_or(|prefix| covers(prefix, opened))
            })
            .map_or((0, false), |rule| (rule.id, rule.allow))
    }
}

fn covers((prefix, length): (IpAddr, u8), address: IpAddr) -> bool {
    match (prefix, address) {
        (IpAddr::V4(p), IpAddr::V4(a)) => {
            length == 0 || (p.to_bits() ^ a.to_bits()) >> (32 - u32::from(length)) == 0
        }
        (IpAddr::V6(p), IpAddr::V6(a)) => {
            length == 0 || (p.to_bits() ^ a.to_bits()) >> (128 - u32::from(length)) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn impossible(body: Body) -> bool {
    match body {
        Body::Tcp { fin, syn, rst, ack, .. } => {
            u8::from(fin) + u8::from(syn) + u8::from(rst) > 1 || !(syn || rst || ack)
        }
        Body::Udp { .. }
        | Body::Ask { .. }
        | Body::Answer { .. }
        | Body::Message { .. }
        | Body::Other { .. } => false,
    }
}

/// The conversation of a body that goes this way; none for messages that have none.
fn talk(circuit: u64, v6: bool, forward: bool, body: Body) -> Option<Talk> {
    let sided = |from, to| if forward { (from, to) } else { (to, from) };
    let (protocol, ports, asked_forward) = match body {
        Body::Tcp { from, to, .. } => (6, sided(from, to), None),
        Body::Udp { from, to } => (17, sided(from, to), None),
        Body::Ask { id } => (1, (id, id), Some(forward)),
        Body::Answer { id } => (1, (id, id), Some(!forward)),
        Body::Other { protocol } => (protocol, (0, 0), None),
        Body::Message { .. } => return None,
    };
    Some(Talk { circuit, v6, protocol, ports, asked_forward })
}

/// What a rule calls the port of a conversation that was opened this way; for echoes, the type of the request.
fn opened_port(talk: &Talk, forward: bool) -> u16 {
    match (talk.protocol, talk.v6) {
        (1, false) => 8,
        (1, true) => 128,
        _ if forward => talk.ports.1,
        _ => talk.ports.0,
    }
}

/// RFC 791 makes the protocol part of a datagram's identity, RFC 8200 does not.
fn first_key(circuit: u64, packet: &Packet, id: u16, body: Body) -> (u64, bool, bool, u16, Option<u8>) {
    let protocol = match body {
        Body::Tcp { .. } => 6,
        Body::Udp { .. } => 17,
        Body::Ask { .. } | Body::Answer { .. } | Body::Message { .. } => 1,
        Body::Other { protocol } => protocol,
    };
    (circuit, packet.v6, packet.forward, id, (!packet.v6).then_some(protocol))
}
