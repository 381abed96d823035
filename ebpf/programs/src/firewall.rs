//! Decides whether a packet may pass: rules for what opens a connection, the connection table for everything after.
use crate::headers::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, Tcp};
use crate::network::{Network, Part};
use crate::rules::Opening;
use crate::transport::{Kind, Transport};
use ebpf_abi::conntrack::{Conn, ConnKey, Fragment, FragmentKey, timeout};
use ebpf_abi::rules::RuleSetRef;
use ebpf_abi::{Direction, Reason};

const SECOND: u64 = 1_000_000_000;

/// The maps that the firewall needs. In the kernel they are maps, in tests trees.
pub trait Tables {
    /// A place in the connection table that was found once and is read and written without another search.
    type Slot;
    /// Nanoseconds, monotonic.
    fn now(&self) -> u64;
    fn rule_set(&self, circuit: u64) -> Option<RuleSetRef>;
    /// The first row of the set that matches.
    fn first_match(&self, set: &RuleSetRef, opening: &Opening) -> Option<Match>;
    fn connection(&self, key: &ConnKey) -> Option<Self::Slot>;
    fn load(&self, slot: &Self::Slot) -> Conn;
    fn store(&self, slot: &Self::Slot, conn: &Conn);
    /// False when the table refused.
    fn open(&self, key: &ConnKey, conn: &Conn) -> bool;
    fn close(&self, key: &ConnKey);
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment>;
    fn remember(&self, key: &FragmentKey, fragment: &Fragment) -> bool;
    fn forget(&self, key: &FragmentKey);
}

/// The row that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    pub rule: u32,
    pub allow: bool,
}

/// Why a packet may not pass, and which rule says so (0: the default deny, or none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    pub reason: Reason,
    pub rule: u32,
}

impl From<Reason> for Denied {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self { reason, rule: 0 }
    }
}

/// A packet as the firewall sees it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub circuit: u64,
    pub direction: Direction,
    pub network: &'a Network,
    pub transport: &'a Transport,
}

/// Whether this packet may pass; keeps the connection table up to date.
///
/// # Errors
/// `NoRuleSet`, `DeniedByRule`, `NoConnection`, `UnrelatedIcmpError`, `FragmentWithoutFirst`, `ConntrackFull`.
#[inline(always)]
pub fn judge<T: Tables>(tables: &T, subject: &Subject<'_>) -> Result<(), Denied> {
    let set = tables.rule_set(subject.circuit).ok_or(Reason::NoRuleSet)?;
    if set.circuit != subject.circuit {
        return Err(Reason::NoRuleSet.into());
    }
    match subject.transport.kind {
        Kind::IcmpOther => decide(tables, &set, &subject.opening()).map(|_| ()),
        Kind::IcmpError | Kind::IcmpErrorEcho => {
            known(tables, &set, &subject.quoted_key(), Reason::UnrelatedIcmpError)
        }
        Kind::Hidden => later_fragment(tables, &set, subject),
        Kind::Tcp | Kind::Udp | Kind::EchoRequest | Kind::EchoReply | Kind::Other => {
            let verdict = connection(tables, &set, subject);
            if matches!(subject.network.part, Part::First) {
                return first_fragment(tables, subject, verdict);
            }
            verdict
        }
    }
}

/// Keeps what later fragments cannot show; of a refused datagram nothing may follow.
#[inline(always)]
fn first_fragment<T: Tables>(
    tables: &T,
    subject: &Subject<'_>,
    verdict: Result<(), Denied>,
) -> Result<(), Denied> {
    let key = subject.fragment_key();
    if let Err(denied) = verdict {
        tables.forget(&key);
        return Err(denied);
    }
    let conn = subject.key();
    let fragment = Fragment {
        expires: tables.now() + timeout::FRAGMENT * SECOND,
        source_port: conn.source_port,
        destination_port: conn.destination_port,
        protocol: conn.protocol,
        asker: conn.asker,
        reserved: [0; 2],
    };
    if tables.remember(&key, &fragment) { Ok(()) } else { Err(Reason::ConntrackFull.into()) }
}

#[inline(always)]
fn later_fragment<T: Tables>(tables: &T, set: &RuleSetRef, subject: &Subject<'_>) -> Result<(), Denied> {
    let first = tables.fragment(&subject.fragment_key()).ok_or(Reason::FragmentWithoutFirst)?;
    if first.expires <= tables.now() {
        return Err(Reason::FragmentWithoutFirst.into());
    }
    let mut key = subject.key();
    key.source_port = first.source_port;
    key.destination_port = first.destination_port;
    key.protocol = first.protocol;
    key.asker = first.asker;
    known(tables, set, &key, Reason::NoConnection)
}

/// Passes what belongs to a connection without moving that connection on.
#[inline(always)]
fn known<T: Tables>(tables: &T, set: &RuleSetRef, key: &ConnKey, missing: Reason) -> Result<(), Denied> {
    let slot = tables.connection(key).ok_or(missing)?;
    let mut conn = tables.load(&slot);
    if conn.expires <= tables.now() {
        return Err(missing.into());
    }
    if conn.version != set.version {
        judge_anew(tables, set, key, &mut conn)?;
        tables.store(&slot, &conn);
    }
    Ok(())
}

#[inline(always)]
fn connection<T: Tables>(tables: &T, set: &RuleSetRef, subject: &Subject<'_>) -> Result<(), Denied> {
    let key = subject.key();
    let now = tables.now();
    let Some(slot) = tables.connection(&key) else { return open(tables, set, subject, &key, now) };
    let mut conn = tables.load(&slot);
    let closing = conn.state == Conn::STATE_CLOSING;
    if conn.expires <= now || closing && subject.is_syn() {
        return open(tables, set, subject, &key, now);
    }
    if subject.is_syn() && conn.opener != subject.direction as u8 {
        return Err(Reason::NoConnection.into());
    }
    let before = conn;
    if conn.version != set.version {
        judge_anew(tables, set, &key, &mut conn)?;
    }
    advance(&mut conn, subject, now);
    // One write a second is enough to keep it alive, and spares the cache line where two CPUs share a connection.
    if conn.state != before.state
        || conn.fins != before.fins
        || conn.version != before.version
        || conn.expires > before.expires + SECOND
    {
        tables.store(&slot, &conn);
    }
    Ok(())
}

/// A new connection, if the packet may start one and a rule allows it.
#[inline(always)]
fn open<T: Tables>(
    tables: &T,
    set: &RuleSetRef,
    subject: &Subject<'_>,
    key: &ConnKey,
    now: u64,
) -> Result<(), Denied> {
    if !subject.may_open() {
        return Err(Reason::NoConnection.into());
    }
    let rule = decide(tables, set, &subject.opening())?;
    let conn = Conn {
        expires: now + idle(key.protocol, Conn::STATE_NEW),
        version: set.version,
        rule,
        state: Conn::STATE_NEW,
        opener: subject.direction as u8,
        fins: 0,
        reserved: [0; 5],
    };
    if tables.open(key, &conn) { Ok(()) } else { Err(Reason::ConntrackFull.into()) }
}

/// The rule set has changed since the connection was allowed: would it be allowed now? If not, it ends here.
#[inline(always)]
fn judge_anew<T: Tables>(tables: &T, set: &RuleSetRef, key: &ConnKey, conn: &mut Conn) -> Result<(), Denied> {
    match decide(tables, set, &Opening::of(key, Direction::of(conn.opener))) {
        Ok(rule) => {
            conn.rule = rule;
            conn.version = set.version;
            Ok(())
        }
        Err(denied) => {
            tables.close(key);
            Err(denied)
        }
    }
}

/// The id of the rule that allows it.
#[inline(always)]
fn decide<T: Tables>(tables: &T, set: &RuleSetRef, opening: &Opening) -> Result<u32, Denied> {
    match tables.first_match(set, opening) {
        Some(Match { rule, allow: true }) => Ok(rule),
        Some(Match { rule, allow: false }) => Err(Denied { reason: Reason::DeniedByRule, rule }),
        None => Err(Reason::DeniedByRule.into()),
    }
}

/// Moves a connection on by one packet of it.
#[inline(always)]
fn advance(conn: &mut Conn, subject: &Subject<'_>, now: u64) {
    let answered = subject.direction as u8 != conn.opener;
    if subject.transport.protocol == PROTOCOL_TCP {
        advance_tcp(conn, subject, answered);
    } else if answered {
        conn.state = Conn::STATE_ESTABLISHED;
    }
    conn.expires = now + idle(subject.transport.protocol, conn.state);
}

#[inline(always)]
fn advance_tcp(conn: &mut Conn, subject: &Subject<'_>, answered: bool) {
    let flags = subject.transport.flags;
    if flags & Tcp::RST != 0 {
        conn.state = Conn::STATE_CLOSING;
    }
    if flags & Tcp::FIN != 0 {
        conn.fins |= subject.direction as u8;
    }
    if conn.fins == 3 {
        conn.state = Conn::STATE_CLOSING;
    }
    if conn.state == Conn::STATE_NEW && answered && flags & Tcp::SYN != 0 {
        conn.state = Conn::STATE_ESTABLISHED;
    }
}

/// Nanoseconds after which a silent connection is forgotten.
#[inline(always)]
fn idle(protocol: u8, state: u8) -> u64 {
    let seconds = match (protocol, state) {
        (PROTOCOL_TCP, Conn::STATE_NEW) => timeout::TCP_NEW,
        (PROTOCOL_TCP, Conn::STATE_CLOSING) => timeout::TCP_CLOSING,
        (PROTOCOL_TCP, _) => timeout::TCP_ESTABLISHED,
        (PROTOCOL_UDP, Conn::STATE_NEW) => timeout::UDP_NEW,
        (PROTOCOL_UDP, _) => timeout::UDP_ESTABLISHED,
        (PROTOCOL_ICMP, _) => timeout::ICMP,
        _ => timeout::OTHER,
    };
    seconds * SECOND
}

impl Subject<'_> {
    #[inline(always)]
    fn is_syn(&self) -> bool {
        const SHAPE: u8 = Tcp::SYN | Tcp::ACK | Tcp::RST | Tcp::FIN;
        matches!(self.transport.kind, Kind::Tcp) && self.transport.flags & SHAPE == Tcp::SYN
    }

    #[inline(always)]
    fn may_open(&self) -> bool {
        match self.transport.kind {
            Kind::Tcp => self.is_syn(),
            Kind::Udp | Kind::EchoRequest | Kind::Other => true,
            Kind::EchoReply | Kind::IcmpError | Kind::IcmpErrorEcho | Kind::IcmpOther | Kind::Hidden => false,
        }
    }

    #[inline(always)]
    fn opening(&self) -> Opening {
        let port = match self.transport.kind {
            Kind::Tcp | Kind::Udp => u16::from_be_bytes(self.transport.destination_port),
            Kind::EchoRequest | Kind::EchoReply | Kind::IcmpError | Kind::IcmpErrorEcho | Kind::IcmpOther => {
                u16::from(self.transport.icmp_type)
            }
            Kind::Other | Kind::Hidden => 0,
        };
        Opening {
            source: self.network.source,
            destination: self.network.destination,
            port,
            protocol: self.transport.protocol,
            family: self.network.family,
            direction: self.direction as u8,
        }
    }

    /// The connection that this packet would belong to.
    #[inline(always)]
    fn key(&self) -> ConnKey {
        let asker = match self.transport.kind {
            Kind::EchoRequest => self.direction as u8,
            Kind::EchoReply => self.direction.opposite() as u8,
            Kind::Tcp
            | Kind::Udp
            | Kind::IcmpError
            | Kind::IcmpErrorEcho
            | Kind::IcmpOther
            | Kind::Other
            | Kind::Hidden => 0,
        };
        let (from, to) = (self.transport.source_port, self.transport.destination_port);
        self.sided(self.direction, from, to, asker)
    }

    /// The connection of the packet that an ICMP error quotes, which went the other way.
    #[inline(always)]
    fn quoted_key(&self) -> ConnKey {
        let way = self.direction.opposite();
        let asker = match self.transport.kind {
            Kind::IcmpErrorEcho if self.transport.quoted_reply == 1 => self.direction as u8,
            Kind::IcmpErrorEcho => way as u8,
            _ => 0,
        };
        // The addresses are this packet's, so they are sided by its own direction; the ports by the quoted one's.
        let (from, to) = (self.transport.destination_port, self.transport.source_port);
        self.sided(self.direction, from, to, asker)
    }

    #[inline(always)]
    fn sided(&self, direction: Direction, from: [u8; 2], to: [u8; 2], asker: u8) -> ConnKey {
        let forward = matches!(direction, Direction::Forward);
        let (source, destination) = if forward {
            (&self.network.source, &self.network.destination)
        } else {
            (&self.network.destination, &self.network.source)
        };
        let (source_port, destination_port) = if forward { (from, to) } else { (to, from) };
        ConnKey {
            circuit: self.circuit,
            source: *source,
            destination: *destination,
            source_port,
            destination_port,
            protocol: self.transport.protocol,
            asker,
            reserved: [0; 2],
        }
    }

    #[inline(always)]
    fn fragment_key(&self) -> FragmentKey {
        FragmentKey {
            circuit: self.circuit,
            source: self.network.source,
            destination: self.network.destination,
            identification: self.network.identification,
            protocol: if self.network.family == 4 { self.network.protocol } else { 0 },
            reserved: [0; 3],
        }
    }
}
