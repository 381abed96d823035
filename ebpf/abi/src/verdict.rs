//! What the programs say of a packet when they run dry: loaded a second time, over the same maps, with nothing written.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the constant in the programs that is 1 in a dry load.
pub const DRY: &str = "DRY";
/// Name of the map that holds the [`Verdict`] of the last run. Each load has its own; it is not pinned.
pub const MAP: &str = "VERDICT";

/// Value of `VERDICT`. Whoever runs a program clears it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Verdict {
    /// 0 when the packet could not be attributed to a circuit.
    pub circuit: u64,
    /// [`crate::Reason`] as a number; 0: it was not dropped.
    pub reason: u32,
    /// Rule that decided: of a drop the one that denied, else the one that allowed; 0: the default deny, or none asked.
    pub rule: u32,
    /// VNI under which it came; 0: none.
    pub label: u32,
    /// Interface that it was sent out of, or handed to; 0: it was not sent.
    pub ifindex: u32,
    /// One of the `CONNECTION_*`.
    pub connection: u8,
    /// One of the `WAY_*`.
    pub way: u8,
    /// Of what was too big: bytes of the longest IP packet that would have passed; 0: not known.
    pub room: u16,
    pub reserved: [u8; 4],
}

impl Verdict {
    /// The connection table was not asked, or knows nothing.
    pub const CONNECTION_NONE: u8 = 0;
    /// It would open one.
    pub const CONNECTION_WOULD_OPEN: u8 = 1;
    /// It belongs to one whose opener alone has spoken.
    pub const CONNECTION_OPENING: u8 = 2;
    /// It belongs to one in which both have spoken.
    pub const CONNECTION_ESTABLISHED: u8 = 3;
    /// It belongs to one that ends.
    pub const CONNECTION_CLOSING: u8 = 4;

    /// It was not put into a tunnel here.
    pub const WAY_NONE: u8 = 0;
    pub const WAY_PRIMARY: u8 = 1;
    pub const WAY_BACKUP: u8 = 2;
}
