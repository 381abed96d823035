//! When a group turns: at once from a dead path, seldom from a bad one, and back after a time of calm.
use super::Guard;
use super::judge::{fault, of_death, of_fault, of_other, of_return, of_silence, pays};
use super::limits::{CALM, CALM_TIMES, HOLD, HOLD_MOST, LOOK_AGAIN, PATIENCE, QUALITY_EVERY, RELAPSE};
use super::session::{Health, Path};
use proto_model::report::Way;
use proto_model::{PathId, Timestamp};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) guard: Guard,
    /// None: the kernel is being asked.
    pub(super) way: Option<Way>,
    /// Since when the primary is good while the backup is used.
    good_since: Option<Timestamp>,
    hold: Duration,
    returned: Option<Timestamp>,
    /// The last move for the sake of quality.
    moved: Option<Timestamp>,
    /// Of the primary and the backup.
    trouble: [Trouble; 2],
}

/// How much calm a way owes for the time in which it was dead or had a fault.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    now: bool,
    owed: Duration,
    noted: Timestamp,
}

impl Trouble {
    /// To be told of each change.
    fn note(&mut self, bad: bool, now: Timestamp) {
        let elapsed = now.since(self.noted);
        self.owed = match self.now {
            true => self.owed.saturating_add(elapsed.saturating_mul(CALM_TIMES)).min(CALM),
            false => self.owed.saturating_sub(elapsed),
        };
        (self.now, self.noted) = (bad, now);
    }

    /// From when on it may be moved to for quality, if it stays good.
    fn trusted(&self) -> Timestamp {
        self.noted.plus(self.owed)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Look again then, or when something changes.
    Stay(Option<Timestamp>),
    Turn {
        to: Way,
        why: String,
    },
}

/// What a move is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Life,
    Quality,
}

impl Group {
    pub(super) fn new(guard: Guard, way: Option<Way>) -> Self {
        let trouble = [Trouble::default(); 2];
        Self { guard, way, good_since: None, hold: HOLD, returned: None, moved: None, trouble }
    }

    /// The same group with another guard: of other paths nothing is held against it.
    pub(super) fn guarded(self, guard: Guard) -> Self {
        let same = (self.guard.primary, self.guard.backup) == (guard.primary, guard.backup);
        let trouble = if same { self.trouble } else { [Trouble::default(); 2] };
        Self { guard, trouble, ..self }
    }

    /// The other way than this one.
    pub(super) fn other(&self, path: PathId) -> Option<PathId> {
        match self.guard {
            Guard { primary, backup, .. } if primary == path => Some(backup),
            Guard { primary, backup, .. } if backup == path => Some(primary),
            Guard { .. } => None,
        }
    }

    pub(super) fn decide(&mut self, primary: &Path, backup: &Path, now: Timestamp) -> Decision {
        for (trouble, path) in self.trouble.iter_mut().zip([primary, backup]) {
            let dead = matches!(path.health(), Health::Dead(_));
            trouble.note(dead || fault(path, &self.guard).is_some(), now);
        }
        let Some(way) = self.way else { return Decision::Stay(None) };
        let (here, there, other) = match way {
            Way::Primary => (primary, backup, Way::Backup),
            Way::Backup => (backup, primary, Way::Primary),
        };
        let good = primary.health() == Health::Alive && fault(primary, &self.guard).is_none();
        self.good_since = (way == Way::Backup && good).then(|| self.good_since.unwrap_or(now));
        match (here.health(), there.health()) {
            (Health::Dead(_), Health::Dead(_)) => Decision::Stay(None),
            (Health::Dead(death), health @ (Health::Alive | Health::Unknown { .. })) => {
                let why = format!("{}; {}", of_death(death), of_other(health, other));
                self.turn(other, For::Life, why, now)
            }
            (Health::Unknown { since: Some(since) }, Health::Alive) => {
                let left = since.plus(PATIENCE);
                match left <= now {
                    true => self.turn(other, For::Life, of_silence(now.since(since), other), now),
                    false => Decision::Stay(Some(left)),
                }
            }
            (Health::Unknown { .. }, _) | (Health::Alive, Health::Dead(_) | Health::Unknown { .. }) => {
                Decision::Stay(None)
            }
            (Health::Alive, Health::Alive) => self.compare(here, there, other, now),
        }
    }

    /// Both live.
    fn compare(&mut self, here: &Path, there: &Path, other: Way, now: Timestamp) -> Decision {
        let rested = self.moved.map_or(now, |moved| moved.plus(QUALITY_EVERY));
        let [primary, backup] = self.trouble;
        let there_before = match other {
            Way::Primary => primary,
            Way::Backup => backup,
        };
        let trusted = rested.max(there_before.trusted());
        let bad = fault(here, &self.guard);
        if let Some(bad) = bad
            && fault(there, &self.guard).is_none()
            && pays(bad, here, there)
        {
            if trusted > now {
                return Decision::Stay(Some(trusted));
            }
            let why = of_fault(bad, here, there, other, &self.guard);
            return self.turn(other, For::Quality, why, now);
        }
        // Whether a faulty backup could be left for the primary's sake or not: where it is good, it is returned to.
        let again = bad.map(|_| now.plus(LOOK_AGAIN));
        let Some(since) = self.good_since else { return Decision::Stay(again) };
        let calm = since.plus(self.hold).max(rested);
        match calm <= now {
            true => self.turn(Way::Primary, For::Quality, of_return(there, now.since(since)), now),
            false => Decision::Stay(Some(again.map_or(calm, |again| again.min(calm)))),
        }
    }

    fn turn(&mut self, to: Way, what_for: For, why: String, now: Timestamp) -> Decision {
        self.way = Some(to);
        self.good_since = None;
        match to {
            Way::Backup => {
                let relapse = self.returned.is_some_and(|returned| now.since(returned) < RELAPSE);
                self.hold = if relapse { self.hold.saturating_mul(2).min(HOLD_MOST) } else { HOLD };
            }
            Way::Primary => self.returned = Some(now),
        }
        if what_for == For::Quality {
            self.moved = Some(now);
        }
        Decision::Turn { to, why }
    }
}
