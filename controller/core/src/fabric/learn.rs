//! Lets forecasts catch up with what they missed, after a restart or a pause, a portion at a time.
use super::Fabric;
use crate::deadlines::Deadline;
use proto_model::Timestamp;
use std::time::Duration;

/// From one portion to the next. With ten thousand links it takes about half of that: the rest is everybody else's.
const EVERY: Duration = Duration::from_millis(80);

impl Fabric {
    pub(super) fn learn_soon(&mut self, now: Timestamp) {
        if self.forecasts.is_behind() {
            self.deadlines.set_if_none(Deadline::Learn, now.plus(EVERY));
        }
    }

    pub(super) fn learn_again(&mut self, now: Timestamp) {
        self.forecasts.catch_up();
        self.learn_soon(now);
    }

    /// Of what forecasts have to learn anew, the share that they have learned, from 0 to 1; none: they miss nothing.
    pub fn learning(&self) -> Option<f32> {
        self.forecasts.caught_up()
    }
}
