//! When traces end, by this host's own clock.
use crate::bounds::{Refused, TRACES};
use proto_model::desired::{ObjectKey, Trace};
use proto_model::{CircuitId, Timestamp};
use std::collections::BTreeMap;

/// Circuits that are traced now.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    until: BTreeMap<CircuitId, Timestamp>,
}

impl Traces {
    pub(crate) fn check(&self, circuit: CircuitId) -> Result<(), Refused> {
        let room = self.until.len() < TRACES || self.until.contains_key(&circuit);
        if room { Ok(()) } else { Err(Refused::Traces) }
    }

    pub(crate) fn begin(&mut self, trace: &Trace, now: Timestamp) {
        if trace.until > now {
            self.until.insert(trace.circuit, trace.until);
        }
    }

    pub(crate) fn end(&mut self, circuit: CircuitId) {
        self.until.remove(&circuit);
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.until.values().min().copied()
    }

    /// Those whose time is over.
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = ObjectKey> {
        self.until
            .iter()
            .filter(move |(_, until)| **until <= now)
            .map(|(circuit, _)| ObjectKey::Trace(*circuit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::trace::Filter;

    fn trace(circuit: u64, until: u64) -> Trace {
        let filter = Filter::default();
        Trace { circuit: CircuitId(circuit), until: Timestamp(until), filter, snaplen: 0 }
    }

    #[test]
    fn the_earliest_end_is_the_next_deadline_and_what_is_over_does_not_begin() {
        let mut traces = Traces::default();
        traces.begin(&trace(1, 50), Timestamp(10));
        traces.begin(&trace(2, 30), Timestamp(10));
        traces.begin(&trace(3, 10), Timestamp(10));
        assert_eq!(traces.next_due(), Some(Timestamp(30)));
        assert_eq!(traces.due(Timestamp(29)).count(), 0);
        assert_eq!(traces.due(Timestamp(30)).collect::<Vec<_>>(), [ObjectKey::Trace(CircuitId(2))]);
        traces.end(CircuitId(2));
        assert_eq!(traces.next_due(), Some(Timestamp(50)));
    }

    #[test]
    fn one_more_than_the_bound_is_refused_unless_it_is_there_already() {
        let mut traces = Traces::default();
        (0..TRACES as u64).for_each(|circuit| traces.begin(&trace(circuit, 50), Timestamp(0)));
        assert_eq!(traces.check(CircuitId(0)), Ok(()));
        assert_eq!(traces.check(CircuitId(TRACES as u64)), Err(Refused::Traces));
    }
}
