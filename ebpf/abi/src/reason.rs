//! Why a packet was dropped: defined once, for the counter, the metric, the CLI and the tests.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl Reason {
            /// All of them, by number.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];

            /// Name in metrics, JSON and tests.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)+ }
            }

            /// One sentence for people.
            #[cfg(not(target_arch = "bpf"))]
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc,)+),)+ }
            }

            /// The reason with this number, as events and counters carry it.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Reason::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// The frame ends before its headers do.
    Truncated = 1, "truncated";
    /// A workload sent something that is neither IPv4, IPv6 nor ARP.
    UnsupportedEthertype = 2, "unsupported_ethertype";
    /// An IP header contradicts itself: version, header length or total length.
    MalformedIp = 3, "malformed_ip";
    /// A TCP, UDP or ICMP header contradicts itself, or carries an impossible flag combination.
    MalformedTransport = 4, "malformed_transport";
    /// The workload used a source address that is not its own.
    SpoofedSource = 5, "spoofed_source";
    /// No open circuit leads from this workload to that address.
    NoCircuit = 6, "no_circuit";
    /// A rule of the circuit denies it, or no rule allows it (rule 0, the default deny).
    DeniedByRule = 7, "denied_by_rule";
    /// Not the start of a connection, and no connection it could belong to.
    NoConnection = 8, "no_connection";
    /// An ICMP error about a connection that does not exist.
    UnrelatedIcmpError = 9, "unrelated_icmp_error";
    /// A fragment whose first fragment has not been seen (or was dropped).
    FragmentWithoutFirst = 10, "fragment_without_first";
    /// More than 6 IPv6 extension headers, or a type-0 routing header (RFC 5095).
    ExtensionHeaders = 11, "extension_headers";
    /// The circuit has no rule set on this host.
    NoRuleSet = 12, "no_rule_set";
    /// A VXLAN packet for this host under a label that it has not allocated.
    UnknownLabel = 13, "unknown_label";
    /// A label of a released circuit.
    StaleLabel = 14, "stale_label";
    /// The label is valid, but not from that sender.
    WrongPeer = 15, "wrong_peer";
    /// Not a VXLAN header as RFC 7348 wants it.
    MalformedVxlan = 16, "malformed_vxlan";
    /// A fragment of an outer packet; the underlay must carry whole packets.
    OuterFragment = 17, "outer_fragment";
    /// The outer TTL ran out: the circuit loops.
    TtlExceeded = 18, "ttl_exceeded";
    /// The next hop's slot is empty.
    NoNextHop = 19, "no_next_hop";
    /// The inner addresses are not those of the circuit.
    ForeignInner = 20, "foreign_inner";
    /// The packet is larger than the circuit's MTU and may not be fragmented.
    TooBig = 21, "too_big";
    /// A kernel helper refused (no memory, or an interface that is down).
    HelperFailed = 22, "helper_failed";
    /// The connection table refused a new entry.
    ConntrackFull = 23, "conntrack_full";
    /// Sent or delivered onto an interface that is gone.
    NoInterface = 24, "no_interface";
    /// Multicast, broadcast, link-local or ARP traffic of a workload, such as neighbour discovery: harmless noise, as
    /// circuits carry unicast only.
    NotUnicast = 25, "not_unicast";
    /// A frame with a VLAN tag; circuits carry untagged frames.
    VlanTag = 26, "vlan_tag";
    /// A packet with the mark of a path probe that is none: inside is neither a STAMP request nor its answer.
    MalformedProbe = 27, "malformed_probe";
    /// A path probe under a label that names no way back for the answer.
    NoWayBack = 28, "no_way_back";
    /// A link probe of a known neighbour beyond the answers that it gets in a second, or an answer of it beyond those that
    /// are believed in a second.
    ProbeBudget = 29, "probe_budget";
    /// A packet in the clear under a label of an encrypted circuit.
    NotSealed = 30, "not_sealed";
    /// An encrypted packet that does not decrypt: damaged, replayed, or meant for other keys.
    SealBroken = 31, "seal_broken";
    /// An encrypted circuit has agreed on no session key yet (or its far end does not answer), and no more packets can wait.
    NoSealSession = 32, "no_seal_session";
    /// Nothing runs that could encrypt or decrypt.
    NoSealer = 33, "no_sealer";
    /// More than the circuit's limit allows.
    OverLimit = 34, "over_limit";
    /// No room in the queue of a shaped interface: counted by the kernel, one for each superpacket, without its bytes.
    QueueFull = 35, "queue_full";
}

/// Size of `REASONS`; numbers stay below it.
pub const CAPACITY: u32 = 64;
