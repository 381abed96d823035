//! Everything that can happen to a controller, and everything it can ask of the world.
use crate::record::{Record, RecordKey};
use proto_model::access::{Actor, Fingerprint};
use proto_model::desired::Tell;
use proto_model::report::{DropEvent, Say};
use proto_model::request::{Event, Request, Response};
use proto_model::trace::Traced;
use proto_model::{NodeName, Refusal};
use serde::{Deserialize, Serialize};

/// Pairs a question with its answer; the daemon counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// A connection of an agent; a later one has a larger number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session(pub u64);

/// What happened. A recording of these is a bug report, and replays as a test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    Ask {
        ticket: Ticket,
        actor: Actor,
        request: Request,
    },
    /// The first of a session is [`Say::Hello`].
    AgentSaid {
        node: NodeName,
        session: Session,
        /// The key that it opened the session with.
        #[serde(default)]
        key: Fingerprint,
        say: Say,
    },
    AgentGone {
        node: NodeName,
        session: Session,
    },
    /// A deadline that was asked for has come.
    Tick,
}

/// What is asked of the world. All `Write`s of one step are one transaction, durable before anything else of that
/// step goes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    Write(Write),
    Reply {
        ticket: Ticket,
        answer: Result<Response, Refusal>,
    },
    Tell {
        node: NodeName,
        session: Session,
        tell: Tell,
    },
    /// End this session: a newer one of the node has begun, or the node was removed.
    HangUp {
        node: NodeName,
        session: Session,
        why: String,
    },
    /// For watchers.
    Announce(Event),
    Drops {
        node: NodeName,
        events: Vec<DropEvent>,
    },
    /// For those who follow a circuit.
    Traced {
        node: NodeName,
        packets: Vec<Traced>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Write {
    Put(Record),
    Delete(RecordKey),
}
