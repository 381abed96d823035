//! What shall happen by itself, and when.
use proto_model::query::QueryId;
use proto_model::topology::LinkId;
use proto_model::{CircuitId, NodeName, ResourceId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// The resource's registration expires.
    Lease(ResourceId),
    /// The node has been without contact for the grace period.
    NodeGrace(NodeName),
    /// And so long that the circuits that end there are released.
    EndGrace(NodeName),
    /// A host has failed to build an object of the circuit, or said nothing of it, for too long.
    Trouble(CircuitId),
    /// The same, about the circuit's backup.
    Backup(CircuitId),
    /// An end of the circuit has been on its backup for long.
    Repair(CircuitId),
    /// The circuit, one of its rules or a change that nobody confirmed ends.
    Ends(CircuitId),
    /// A scheduled circuit is built. After those that end at that time, whose bandwidth it may need.
    Starts(CircuitId),
    /// A rule of the node's policy or a change of it that nobody confirmed ends.
    Policy(NodeName),
    /// The suspended circuit is tried again.
    Retry(CircuitId),
    /// All suspended circuits are tried again: something got better.
    RetryAll,
    /// Those that are suspended and bound by latency or loss are tried again: links are measured all the time.
    RetryMeasured,
    /// The queue of circuits to place anew is worked off, a few per step.
    Work,
    /// Backups are sought, for a few circuits per step.
    Protect,
    /// It is looked ahead whether circuits should move, at a few of them per step.
    LookAhead,
    /// It is noted how circuits run, some of them per step.
    Note,
    /// Forecasts learn the next portion of what they missed.
    Learn,
    /// What was on its way when both ends had left the circuit's former path has arrived.
    Drained(CircuitId),
    /// The circuit's move goes on, or is given up.
    Moving(CircuitId),
    /// What was measured of a silent link is too old to say so.
    Silence(LinkId),
    /// It is looked what silent links mean for circuits, a few per step.
    Listen,
    /// The key is forgotten.
    Idempotency(String),
    /// The host that was asked has not answered in time.
    Query(QueryId),
    /// The circuit is followed no longer.
    Trace(CircuitId),
    /// The token is worthless.
    Token([u8; 32]),
}

/// Each deadline at most once.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    by_time: BTreeSet<(Timestamp, Deadline)>,
    times: BTreeMap<Deadline, Timestamp>,
}

impl Deadlines {
    /// Replaces an earlier time for the same deadline.
    pub fn set(&mut self, deadline: Deadline, at: Timestamp) {
        self.clear(&deadline);
        self.by_time.insert((at, deadline.clone()));
        self.times.insert(deadline, at);
    }

    /// Keeps an earlier time for the same deadline.
    pub fn set_if_none(&mut self, deadline: Deadline, at: Timestamp) {
        if !self.times.contains_key(&deadline) {
            self.set(deadline, at);
        }
    }

    pub fn clear(&mut self, deadline: &Deadline) {
        if let Some(at) = self.times.remove(deadline) {
            self.by_time.remove(&(at, deadline.clone()));
        }
    }

    pub fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Circuits of which something ends by itself, the oldest first.
    pub fn ends(&self) -> impl Iterator<Item = CircuitId> + '_ {
        let all = Deadline::Ends(CircuitId(0))..=Deadline::Ends(CircuitId(u64::MAX));
        self.times.range(all).filter_map(|(deadline, _)| {
            let Deadline::Ends(id) = deadline else { return None };
            Some(*id)
        })
    }

    /// Takes the earliest one that has come.
    pub fn pop(&mut self, now: Timestamp) -> Option<Deadline> {
        if self.next()? > now {
            return None;
        }
        let (_, deadline) = self.by_time.pop_first()?;
        self.times.remove(&deadline);
        Some(deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_circuits_are_found_among_all_deadlines() {
        let mut deadlines = Deadlines::default();
        for id in [7, 3] {
            deadlines.set(Deadline::Ends(CircuitId(id)), Timestamp(10 - id));
            deadlines.set(Deadline::Retry(CircuitId(id)), Timestamp(1));
            deadlines.set(Deadline::Repair(CircuitId(id)), Timestamp(1));
        }
        assert_eq!(deadlines.ends().collect::<Vec<_>>(), [CircuitId(3), CircuitId(7)]);
    }

    #[test]
    fn deadlines_come_in_order_once_and_not_before_their_time() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Deadline::RetryAll, Timestamp(5));
        deadlines.set(Deadline::Work, Timestamp(3));
        deadlines.set(Deadline::RetryAll, Timestamp(2));
        deadlines.set_if_none(Deadline::Work, Timestamp(1));
        assert_eq!(deadlines.next(), Some(Timestamp(2)));
        assert_eq!(deadlines.pop(Timestamp(1)), None);
        assert_eq!(deadlines.pop(Timestamp(9)), Some(Deadline::RetryAll));
        assert_eq!(deadlines.pop(Timestamp(9)), Some(Deadline::Work));
        assert_eq!(deadlines.pop(Timestamp(9)), None);
        assert_eq!(deadlines.next(), None);
    }
}
