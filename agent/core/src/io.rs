//! Everything that can happen to an agent, and everything it can ask of the world.
use crate::kernel_state::{EntryKey, HostSide, KernelState, LinkLayer, Step};
use crate::protect::{Order, Told};
use proto_model::desired::{Object, ObjectKey, Tell};
use proto_model::query::{Answer, QueryId, Question};
use proto_model::report::{DropCount, DropEvent, Hello, Say, Traffic};
use proto_model::trace::Traced;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What happened. A recording of these is a bug report, and replays as a test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// First of all: what the kernel was seen to have. Until then nothing else is handled.
    Observed(#[serde(with = "crate::kernel_state::as_list")] KernelState),
    /// After that: what an earlier life of the agent was asked to keep. Whatever of it has ended meanwhile is closed.
    Remembered(Vec<Object>),
    /// A session with the controller began.
    Connected {
        session: u64,
        hello: Hello,
    },
    Disconnected {
        session: u64,
    },
    Told {
        session: u64,
        tell: Tell,
    },
    /// The batch that was asked for last has been performed; one result per step, in order.
    Performed(Vec<(EntryKey, Result<(), String>)>),
    /// What is known of the neighbour towards a watched next hop; none: not resolved.
    Neighbour {
        local: IpAddr,
        remote: IpAddr,
        link: Option<LinkLayer>,
    },
    /// An interface of ours disappeared by another's hand (its namespace was deleted, somebody removed it).
    Vanished(HostSide),
    /// A step had to make this interface anew although the core took it for present; what was bound to the former one
    /// is gone. Comes before the batch's [`Input::Performed`].
    MadeAnew(HostSide),
    /// Counters by label index, drops, and drops of queues: only what is not zero.
    Counted {
        traffic: Vec<(u32, Traffic)>,
        drops: Vec<DropCount>,
        #[serde(default)]
        queues: Vec<ClassDrops>,
        /// Underlay interfaces.
        #[serde(default)]
        interfaces: Vec<Counter>,
    },
    /// Sampled drops out of the ring buffer.
    Dropped(Vec<DropEvent>),
    /// The answer to [`Output::Rehearse`].
    Rehearsed {
        session: u64,
        query: QueryId,
        answer: Answer,
    },
    /// Packets of circuits that are traced. They show what users send, so the recorder leaves them out.
    Traced(Vec<Traced>),
    /// The protector turned a group, or measured links.
    Protector(Told),
    /// The host's clock was set, or stood still with the host: it is so many nanoseconds ahead of the agent's now, which
    /// is never set.
    ClockSet {
        ahead: i64,
    },
    /// A deadline that was asked for has come.
    Tick,
}

/// What a class of a shaped interface had no room for since it was made; the kernel counts a superpacket as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassDrops {
    pub interface: String,
    pub number: u16,
    pub packets: u64,
}

/// Bytes of an interface since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    pub interface: String,
    pub sent: u64,
    pub received: u64,
}

/// What is asked of the world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Perform in order, all of them, and answer with [`Input::Performed`]. At most one batch is under way.
    Perform(Vec<Step>),
    Say {
        session: u64,
        say: Say,
    },
    /// Keep the neighbour towards this next hop resolved, and tell when it changes.
    Watch {
        local: IpAddr,
        remote: IpAddr,
    },
    Unwatch {
        local: IpAddr,
        remote: IpAddr,
    },
    /// Keep this for the agent's next life, before anything that is asked later; none: forget what was kept.
    Remember {
        key: ObjectKey,
        object: Option<Object>,
    },
    /// Have the programs judge a packet without any effect, and answer with [`Input::Rehearsed`].
    Rehearse {
        session: u64,
        query: QueryId,
        question: Question,
    },
    /// For the protector, in order.
    Protect(Vec<Order>),
    /// Read the counters and answer with [`Input::Counted`].
    Count,
}
