//! Leaves paths that died or went bad, within tens of milliseconds and without asking anyone.
//!
//! One protector per host, fed on a thread of its own: what the engine orders, the answers to probes, carriers that
//! come and go, and time. It wishes for probes to be sent and groups to be turned. It is as pure as the rest of the core,
//! but not part of [`crate::node::Node`]: a host that is being told ten thousand circuits must still leave a dead path.
mod cusum;
mod defect;
mod flight;
mod group;
mod judge;
pub mod limits;
mod link;
mod protector;
mod session;
mod timers;
mod voice;

pub use protector::Protector;

use proto_model::desired::Peer;
use proto_model::report::Way;
use proto_model::topology::{LinkId, Measured};
use proto_model::{Latency, Loss, PathId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What the engine wants of the protector. Orders may be repeated; the last one for a key counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Probe this path, as the circuits on it: at most [`limits::VOICES`], of different resources if there are such.
    Measure(PathId, Vec<Session>),
    /// No circuit is on it any more.
    Forget(PathId),
    /// Turn this group when its way is worse than the other one.
    Guard {
        group: u32,
        guard: Guard,
        began: Began,
    },
    /// The group's slot is free: it is left at [`ebpf_abi::flow::PRIMARY`].
    Unguard(u32),
    /// Right after a start: the only groups that flows in the kernel speak of. What an earlier life left in the slots of others
    /// is put back to [`ebpf_abi::flow::PRIMARY`].
    InUse(BTreeSet<u32>),
    Peer(Peer),
    Unpeer(LinkId),
}

/// Where a group's present way is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Began {
    /// The group is new: the first way.
    Now,
    /// Flows of an earlier life of the agent use it: as the kernel has it.
    Before,
}

/// How a path is probed: with the labels of a circuit that is on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub local: IpAddr,
    pub remote: IpAddr,
    /// That the next hop takes it under.
    pub label: u32,
    /// Under which the answers come.
    pub receive: u32,
}

/// The two ways of a group, and what its circuits were promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Guard {
    pub primary: PathId,
    pub backup: PathId,
    pub max_rtt: Option<Latency>,
    pub max_loss: Option<Loss>,
}

/// What happened to a protector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    Ordered(Order),
    /// The way that the kernel has for a group; the answer to [`Wish::Look`].
    Looked {
        group: u32,
        way: Way,
    },
    Answered(Answer),
    /// When exactly a probe was sent, which may be a little later than it was wished for.
    Sent {
        probe: Probe,
        sequence: u32,
        at: Timestamp,
    },
    /// A probe could not even be sent (no route, no carrier): it counts as lost.
    NotSent {
        probe: Probe,
        sequence: u32,
    },
    /// The interface that has this address lost its carrier or got it back.
    Carrier {
        local: IpAddr,
        up: bool,
    },
    Defect(Defect),
    Tick,
}

/// The far end of a circuit says that one of the circuit's ways begins there on an interface without a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defect {
    /// The circuit's here, and by which of its ways this came.
    pub group: u32,
    pub came: Way,
    pub dead: PathId,
}

/// What is probed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Probe {
    /// As the circuit end that receives under this label.
    Path(PathId, u32),
    Link(LinkId),
}

/// An answer as the kernel saw it arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub of: Key,
    pub sequence: u32,
    /// The reflector's own number.
    pub reflected: u32,
    /// When the request came and was answered, in nanoseconds of the reflector's clock, which is nobody's business but
    /// for the difference (RFC 8762: T2 and T3).
    pub received: u64,
    pub answered: u64,
    /// By the protector's own clock, as all its times.
    pub arrived: Timestamp,
}

/// By what an answer is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// The label under which it came.
    Path(u32),
    /// The neighbour's address and the session.
    Link(IpAddr, u16),
}

/// What a protector wishes of the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    SendPath {
        path: PathId,
        session: Session,
        sequence: u32,
    },
    SendLink {
        peer: Peer,
        sequence: u32,
    },
    /// Say to the far end of this session that another path has no carrier here.
    SendDefect {
        session: Session,
        dead: PathId,
    },
    /// Read the group's way and answer with [`Event::Looked`].
    Look(u32),
    /// Write the group's way; the only writer of `GROUPS` is who performs this.
    Turn {
        group: u32,
        to: Way,
    },
    /// Turn every group to its primary but these.
    Sweep(BTreeSet<u32>),
    /// Take note that a path was answered after so long, the reflector's own time left out.
    Took(Latency),
    /// Tell the engine.
    Tell(Told),
}

/// What the engine is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// A group was turned (or found turned after a restart), with the reason and its numbers.
    Turned { group: u32, to: Way, why: String, at: Timestamp },
    /// What the probes of the links saw since the last time.
    Measured(Vec<(LinkId, Measured)>),
}
