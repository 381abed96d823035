//! What hosts said of a packet that somebody wonders about, in words: how its journey ends, and what would change that.
use super::Fabric;
use super::why::{End, Journey};
use crate::circuit::Circuit;
use crate::silence::{self, Silence};
use proto_model::policy;
use proto_model::query::{Fate, Ran, Sealing};
use proto_model::report::Way;
use proto_model::rule::Protocol;
use proto_model::trail::{TrailHop, Verdict, Wonder};
use proto_model::{CircuitId, NodeName, ResourceId};
use std::net::IpAddr;

impl Fabric {
    /// What is to say of a host's part beside what its programs said.
    pub(super) fn note(&self, journey: &Journey, ran: &Ran) -> String {
        let way = match &ran.fate {
            Fate::Sent(sent) => self.way(journey, sent.way),
            Fate::Delivered { .. } | Fate::Dropped { .. } | Fate::NotOurs => String::new(),
        };
        let parts = [sealing(ran).to_owned(), way];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// By which way an end sends, when there is more to say than the label.
    fn way(&self, journey: &Journey, way: Option<Way>) -> String {
        let circuit = self.circuits.get(journey.circuit);
        match way {
            Some(Way::Backup) => {
                let why = circuit.map(|circuit| circuit.view().circuit.protection).unwrap_or_default();
                if why.is_empty() { "by the backup".into() } else { format!("by the backup: {why}") }
            }
            Some(Way::Primary)
                if circuit.is_some_and(|c| c.phase.route().is_some_and(|r| r.second().is_some())) =>
            {
                "by the path; there is a backup".into()
            }
            Some(Way::Primary) | None => String::new(),
        }
    }

    pub(super) fn rule_text(&self, node: &NodeName, circuit: CircuitId, rule: u32) -> String {
        let (rules, rule) = match policy::rule_of_policy(rule) {
            Some(rule) => (self.nodes.get(node).map(|node| &node.record.policy.rules), rule),
            None => (self.circuits.get(circuit).map(|circuit| &circuit.rules), rule),
        };
        let rules = rules.map(Vec::as_slice).unwrap_or_default();
        rules.iter().find(|known| known.id == rule).map(|known| known.spec.to_string()).unwrap_or_default()
    }

    /// What the last host's verdict means.
    pub(super) fn end_at(&self, journey: &Journey) -> End {
        let Some(last) = journey.hops.last() else {
            return End::of(Verdict::Unknown, "unknown: no host was asked", "");
        };
        let node = &last.node;
        match &last.ran.fate {
            Fate::Delivered { interface } => {
                let to = if journey.wonder.answer { &journey.opener } else { &journey.opened };
                let how = format!("{to} gets it from {interface} by {}", by(journey));
                arrives(journey, how, keys(journey))
            }
            Fate::Dropped { reason, text, room } => self.drop_at(journey, last, reason, text, *room),
            Fate::NotOurs => {
                let sentence = format!("unknown: the fabric on {node} leaves it to that host's kernel");
                End::of(Verdict::Unknown, sentence, self.state(journey))
            }
            Fate::Sent(_) => End::of(Verdict::Unknown, format!("unknown: {node} sends it on"), ""),
        }
    }

    /// The last host sends it to this address: is that the circuit's end without an agent?
    pub(super) fn reaches_device(&self, journey: &Journey, remote: IpAddr) -> Option<End> {
        let route = self.circuits.get(journey.circuit)?.phase.route()?;
        route.external.as_ref().filter(|end| end.remote == remote)?;
        let to = if journey.wonder.answer { &journey.opener } else { &journey.opened };
        let how = format!("the plain VXLAN device of {to} at {remote} gets it by {}", by(journey));
        Some(arrives(journey, how, "no agent is there: what its host does with it cannot be asked"))
    }

    /// The link over which the last host sends it, if that answers no probe.
    pub(super) fn crosses_silent(&self, journey: &Journey, ran: &Ran) -> Option<(Silence, String)> {
        let Fate::Sent(sent) = &ran.fate else { return None };
        let route = self.circuits.get(journey.circuit)?.phase.route()?;
        let paths: Vec<_> =
            [Some(&route.path), route.second().map(|lane| &lane.path)].into_iter().flatten().collect();
        silence::between(&paths, &journey.at, (sent.local, sent.remote), &self.topology)
    }

    fn drop_at(&self, journey: &Journey, hop: &TrailHop, reason: &str, text: &str, room: Option<u16>) -> End {
        let (node, name) = (&hop.node, self.name_of(journey.circuit));
        let (sentence, advice) = match (reason, hop.ran.rule) {
            ("denied_by_rule", 0) => (
                format!("dropped at {node}: default deny of {name}; no rule allows it"),
                format!("foreweave rule add {name} \"{}\" would allow it", self.allowing(journey)),
            ),
            ("denied_by_rule", rule) if policy::rule_of_policy(rule).is_some() => {
                let rule = policy::rule_of_policy(rule).unwrap_or_default();
                (
                    format!("dropped at {node}: rule {rule} of the policy of {node} says: {}", hop.rule),
                    format!("whoever owns {node} decides: foreweave node policy show {node}"),
                )
            }
            ("denied_by_rule", rule) => (
                format!("dropped at {node}: rule {rule} of {name} says: {}", hop.rule),
                format!(
                    "foreweave rule add {name} --before {rule} \"{}\" would allow it",
                    self.allowing(journey)
                ),
            ),
            ("no_circuit", _) => {
                let state = self.state(journey);
                (format!("dropped at {node}: the gate of {name} is closed"), state)
            }
            ("no_connection", _) if journey.wonder.answer => (
                format!(
                    "dropped at {node}: an answer passes in a connection that was opened, and there is none"
                ),
                "it has to be opened first; --source-port names one that is open (of icmp: the echo's identifier)".into(),
            ),
            ("too_big", _) if room.is_some() => {
                let (has, room) = (journey.packet.size.unwrap_or(0), room.unwrap_or(0));
                let family = if journey.packet.source.is_ipv4() { "ICMP" } else { "ICMPv6" };
                (
                    format!(
                        "dropped at {node}: too big: it has {has} bytes, and at most {room} pass there"
                    ),
                    format!(
                        "its sender is told so by {family}; TCP segments are kept short enough by themselves"
                    ),
                )
            }
            _ => (format!("dropped at {node}: {reason}: {text}"), self.state(journey)),
        };
        End::of(Verdict::Dropped, sentence, advice)
    }

    /// The rule that would let the opener open.
    fn allowing(&self, journey: &Journey) -> String {
        let forward = self.circuits.get(journey.circuit).is_some_and(|c| c.spec.source == journey.opener);
        let what = rule_words(&journey.wonder);
        if forward { format!("allow {what}") } else { format!("allow {what} reverse") }
    }

    fn name_of(&self, circuit: CircuitId) -> String {
        self.circuits
            .get(circuit)
            .map_or_else(|| circuit.to_string(), |circuit| circuit.spec.name.to_string())
    }

    /// Where to look on, when the data plane does not have what it should.
    pub(super) fn state(&self, journey: &Journey) -> String {
        let Some(circuit) = self.circuits.get(journey.circuit) else { return "the circuit is gone".into() };
        state_of(circuit)
    }
}

/// Every host would pass it on; whether it arrives depends on the links, too.
fn arrives(journey: &Journey, how: String, advice: &str) -> End {
    match &journey.silent {
        None => End::of(Verdict::Passes, format!("passes: {how}"), advice),
        Some((Silence::Since(_), link)) => End::of(
            Verdict::Unknown,
            format!("unknown: every host would pass it on, but {link}"),
            "foreweave link list shows what the probes saw",
        ),
        // Something may keep the probes alone.
        Some((Silence::Ever(_), link)) => {
            End::of(Verdict::Passes, format!("passes, if the links do: {how}; but {link}"), advice)
        }
    }
}

/// Hosts in the order in which it crosses them.
fn by(journey: &Journey) -> String {
    let nodes: Vec<&str> = journey.hops.iter().map(|hop| hop.node.as_str()).collect();
    nodes.join(" → ")
}

fn sealing(ran: &Ran) -> &'static str {
    let at_the_end = matches!(ran.program.as_str(), "eni_ingress" | "cipher_ingress" | "plain_ingress");
    match (ran.sealing, &ran.fate) {
        (Sealing::Clear, _) => "",
        (Sealing::NoSession, _) => {
            "encrypts for this circuit, but has agreed on no keys with the other end at the moment"
        }
        (Sealing::Sealed, _) if !at_the_end => "sees ciphertext only",
        (Sealing::Sealed, _) if ran.program == "plain_ingress" => "decrypts it",
        (Sealing::Sealed, _) => "encrypts it",
    }
}

/// What an encrypted packet that passes may still have to wait for.
fn keys(journey: &Journey) -> &'static str {
    let waits = journey.hops.iter().any(|hop| hop.ran.sealing == Sealing::NoSession);
    if waits {
        "it waits until the two ends have agreed on keys, which they do when a packet comes"
    } else {
        ""
    }
}

fn state_of(circuit: &Circuit) -> String {
    let shown = circuit.view().circuit;
    let name = &shown.spec.name;
    let detail = if shown.detail.is_empty() { String::new() } else { format!(": {}", shown.detail) };
    format!(
        "circuit {name} is {}{detail}; foreweave circuit show {name}, foreweave node list",
        shown.state.name()
    )
}

pub(super) fn no_circuit(wonder: &Wonder, opener: &ResourceId, opened: &ResourceId) -> End {
    let sentence = format!("dropped: there is no circuit between {opener} and {opened}");
    let advice =
        format!("foreweave circuit create {opener} {opened} --allow {} would make one", rule_words(wonder));
    End::of(Verdict::Dropped, sentence, advice)
}

/// As a rule says it: `tcp/5432`, `icmp`, `47`.
fn rule_words(wonder: &Wonder) -> String {
    let protocol = match wonder.protocol {
        1 => Protocol::Icmp,
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        other => Protocol::Number(other),
    };
    match protocol {
        Protocol::Tcp => format!("tcp/{}", wonder.port),
        Protocol::Udp => format!("udp/{}", wonder.port),
        Protocol::Icmp => "icmp".into(),
        Protocol::Number(number) => number.to_string(),
        Protocol::Any => "any".into(),
    }
}
