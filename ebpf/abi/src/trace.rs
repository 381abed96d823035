//! Packets of circuits that somebody follows, as the programs tell them.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Records per CPU and second; more are counted as missed.
pub const PER_SECOND: u64 = 10_000;
/// First bytes of a frame in a record: outer and inner headers in every family, and some of what they carry.
pub const BYTES: usize = 256;

/// Value of `TRACED`, by circuit: which of its packets are told. Its presence is the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Wanted {
    /// `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`) at which it ends, even if nobody takes it away.
    pub until: u64,
    /// The same in nanoseconds since 1970, as the controller said it: read back by a restarted agent.
    pub until_wall: u64,
    /// For the agent, which leaves out what nobody wants to see. IP protocol, ICMP being 1; [`Wanted::ANY`]: all.
    pub protocol: u16,
    /// Source or destination port, host order; 0: all.
    pub port: u16,
    /// Bytes of each frame that are told on.
    pub snaplen: u16,
    pub reserved: [u8; 2],
}

impl Wanted {
    pub const ANY: u16 = 256;
}

/// One record of the ring buffer `TRACES`. What the packet is, readers see in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Traced {
    /// Nanoseconds since 1970, TAI.
    pub at: u64,
    pub circuit: u64,
    /// Records that this CPU has not told since its last one.
    pub missed: u64,
    /// VNI under which it came; 0: from the workload.
    pub label: u32,
    /// VNI under which it goes on; 0: it does not, or it was delivered.
    pub out_label: u32,
    /// [`crate::Reason`] as a number; 0: it was not dropped here.
    pub reason: u32,
    /// Rule that denied.
    pub rule: u32,
    /// Interface on which it came.
    pub ifindex: u32,
    /// Bytes of the whole frame.
    pub length: u32,
    /// Bytes of payload per segment of a superpacket; 0: a plain packet.
    pub segment: u32,
    /// One of the `HOOK_*` of [`crate::event`].
    pub hook: u8,
    /// One of [`Traced::ENTERED`] to [`Traced::DROPPED`].
    pub act: u8,
    /// How many of `bytes` are the frame's.
    pub taken: [u8; 2],
    /// The frame as it came in.
    pub bytes: [u8; BYTES],
}

impl Traced {
    /// A workload sent it, and it may pass.
    pub const ENTERED: u8 = 1;
    /// On its way between two hosts.
    pub const PASSED_ON: u8 = 2;
    /// Handed to the workload at the other end.
    pub const DELIVERED: u8 = 3;
    /// See `reason`.
    pub const DROPPED: u8 = 4;
}

/// Value of `TRACE_BUDGET`, per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Budget {
    /// The running second (`bpf_ktime_get_ns` / 10⁹), and what was told in it.
    pub second: u64,
    pub spent: u64,
    /// Not told since the last record.
    pub missed: u64,
}

const _: () = assert!(size_of::<Traced>() == 56 + BYTES);
