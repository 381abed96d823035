//! One circuit end as which a path is probed: what is under way, and whether it is answered.
use super::flight::Flight;
use super::{Answer, Session};
use proto_model::Timestamp;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Voice {
    pub(super) session: Session,
    pub(super) flight: Flight,
    pub(super) lost_in_row: u32,
    pub(super) first_lost: Timestamp,
    pub(super) answered_in_row: u32,
    /// When the last probe was sent that was answered.
    pub(super) heard: Option<Timestamp>,
}

impl Voice {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            flight: Flight::default(),
            lost_in_row: 0,
            first_lost: Timestamp(0),
            answered_in_row: 0,
            heard: None,
        }
    }

    /// What is under way does not count any more.
    pub(super) fn begin_anew(&mut self) {
        self.flight.begin_anew();
        self.lost_in_row = 0;
        self.answered_in_row = 0;
    }

    pub(super) fn lost(&mut self, sent: Timestamp) {
        self.answered_in_row = 0;
        if self.lost_in_row == 0 {
            self.first_lost = sent;
        }
        self.lost_in_row = self.lost_in_row.saturating_add(1);
    }

    /// Whether it had time to answer what it was asked since the one that speaks fell silent.
    pub(super) fn is_silent(
        &self,
        since: Timestamp,
        now: Timestamp,
        stalled: Duration,
        wait: Duration,
    ) -> bool {
        self.lost_in_row > 0 && self.first_lost >= since || self.flight.waits_for(now, stalled) >= Some(wait)
    }

    pub(super) fn came_back(&mut self) {
        self.lost_in_row = 0;
        self.answered_in_row = self.answered_in_row.saturating_add(1);
    }
}

/// Without the reflector's own time. None: that cannot be right, because somebody set the reflector's clock meanwhile.
pub(super) fn round_trip(sent: Timestamp, answer: &Answer) -> Option<u64> {
    let whole = answer.arrived.0.checked_sub(sent.0)?;
    whole.checked_sub(answer.answered.checked_sub(answer.received)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::Key;

    #[test]
    fn times_that_cannot_be_are_none() {
        let at = |received, answered, arrived| {
            let of = Key::Path(1);
            round_trip(
                Timestamp(100),
                &Answer { of, sequence: 0, reflected: 0, received, answered, arrived: Timestamp(arrived) },
            )
        };
        assert_eq!(at(7_000, 7_030, 190), Some(60));
        assert_eq!(at(7_000, 7_000, 100), Some(0));
        assert_eq!(at(7_030, 7_000, 190), None, "its clock was set back");
        assert_eq!(at(7_000, 7_091, 190), None, "its clock was set forward");
        assert_eq!(at(7_000, 7_000, 99), None, "answered before it was asked");
    }
}
