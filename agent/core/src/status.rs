//! What could not be brought about, why, when it is tried again, and what of this the controller has been told.
use crate::bounds::{RETRY_FIRST, RETRY_MOST};
use crate::kernel_state::EntryKey;
use proto_model::desired::ObjectKey;
use proto_model::report::Failure;
use proto_model::{Generation, Timestamp, report::Report};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Status {
    failed: BTreeMap<EntryKey, Trouble>,
    refused: BTreeMap<ObjectKey, Trouble>,
    due: BTreeSet<(Timestamp, Due)>,
    blocked: BTreeMap<EntryKey, EntryKey>,
    waiters: BTreeMap<EntryKey, BTreeSet<EntryKey>>,
    /// Why each object is not as desired, by entry.
    bad: BTreeMap<ObjectKey, BTreeMap<EntryKey, Arc<str>>>,
    told: BTreeMap<ObjectKey, Arc<str>>,
    touched: BTreeSet<ObjectKey>,
}

#[derive(Debug)]
struct Trouble {
    why: Arc<str>,
    attempts: u32,
    /// None: not tried again by time, but when something changes.
    again: Option<Timestamp>,
}

/// What is to be tried again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Step(EntryKey),
    Lower(ObjectKey),
}

/// 100 ms, 200 ms, 400 ms, … 30 s.
pub(crate) fn backoff(attempts: u32) -> Duration {
    let doubled =
        RETRY_FIRST.saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(RETRY_MOST)
}

impl Status {
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is due; it will not be due again until it fails again.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.due.pop_first().map(|(_, what)| what));
        }
        due
    }

    pub(crate) fn fail(&mut self, key: &EntryKey, owner: Option<&ObjectKey>, why: &str, now: Timestamp) {
        let attempts = self.forget_failure(key).saturating_add(1);
        let at = now.plus(backoff(attempts));
        let why: Arc<str> = why.into();
        self.due.insert((at, Due::Step(key.clone())));
        self.failed.insert(key.clone(), Trouble { why: why.clone(), attempts, again: Some(at) });
        self.set_bad(key, owner, why);
    }

    /// The entry is wanted otherwise than before, or its circumstances changed: the count begins anew.
    pub(crate) fn give_new_chance(&mut self, key: &EntryKey) {
        self.forget_failure(key);
    }

    fn forget_failure(&mut self, key: &EntryKey) -> u32 {
        let Some(trouble) = self.failed.remove(key) else { return 0 };
        if let Some(at) = trouble.again {
            self.due.remove(&(at, Due::Step(key.clone())));
        }
        trouble.attempts
    }

    /// The entry cannot be tried before `on` is there.
    pub(crate) fn block(&mut self, key: &EntryKey, owner: Option<&ObjectKey>, on: EntryKey) {
        let why = match self.failed.get(&on) {
            Some(root) => root.why.clone(),
            None => format!("it needs {}, which is not there", crate::ledger::describe(&on)).into(),
        };
        self.unblock(key);
        self.waiters.entry(on.clone()).or_default().insert(key.clone());
        self.blocked.insert(key.clone(), on);
        self.set_bad(key, owner, why);
    }

    fn unblock(&mut self, key: &EntryKey) {
        let Some(on) = self.blocked.remove(key) else { return };
        if let Some(waiters) = self.waiters.get_mut(&on) {
            waiters.remove(key);
            if waiters.is_empty() {
                self.waiters.remove(&on);
            }
        }
    }

    /// Those that waited for this entry, and need not any longer.
    pub(crate) fn take_waiters(&mut self, on: &EntryKey) -> BTreeSet<EntryKey> {
        let waiters = self.waiters.remove(on).unwrap_or_default();
        for key in &waiters {
            self.blocked.remove(key);
        }
        waiters
    }

    /// The entry is as wanted.
    pub(crate) fn settle(&mut self, key: &EntryKey, owner: Option<&ObjectKey>) {
        self.forget_failure(key);
        self.unblock(key);
        if let Some(owner) = owner {
            self.clear_bad(key, owner);
        }
    }

    /// Something that is still there needs an entry that shall go.
    pub(crate) fn linger(&mut self, key: &EntryKey, owner: Option<&ObjectKey>) {
        self.set_bad(key, owner, "something that could not be removed still needs it".into());
    }

    /// The entry belongs to another object now, or to none.
    pub(crate) fn disown(&mut self, key: &EntryKey, owner: &ObjectKey) {
        self.clear_bad(key, owner);
    }

    pub(crate) fn refuse(&mut self, object: &ObjectKey, why: &str, again: Again, now: Timestamp) {
        let attempts = self.accept(object).saturating_add(1);
        let again = match again {
            Again::Later => Some(now.plus(backoff(attempts))),
            Again::OnChange => None,
        };
        self.due.extend(again.map(|at| (at, Due::Lower(object.clone()))));
        self.refused.insert(object.clone(), Trouble { why: why.into(), attempts, again });
        self.touched.insert(object.clone());
    }

    /// The object could be lowered, or is gone. How often it was refused before.
    pub(crate) fn accept(&mut self, object: &ObjectKey) -> u32 {
        let Some(trouble) = self.refused.remove(object) else { return 0 };
        if let Some(at) = trouble.again {
            self.due.remove(&(at, Due::Lower(object.clone())));
        }
        self.touched.insert(object.clone());
        trouble.attempts
    }

    pub(crate) fn is_refused(&self, object: &ObjectKey) -> bool {
        self.refused.contains_key(object)
    }

    fn set_bad(&mut self, key: &EntryKey, owner: Option<&ObjectKey>, why: Arc<str>) {
        let Some(owner) = owner else { return };
        let entries = self.bad.entry(owner.clone()).or_default();
        if entries.insert(key.clone(), why.clone()).as_ref() != Some(&why) {
            self.touched.insert(owner.clone());
        }
    }

    fn clear_bad(&mut self, key: &EntryKey, owner: &ObjectKey) {
        let Some(entries) = self.bad.get_mut(owner) else { return };
        if entries.remove(key).is_some() {
            self.touched.insert(owner.clone());
        }
        if entries.is_empty() {
            self.bad.remove(owner);
        }
    }

    /// Why an object is not as desired; none: it is, or is being brought there.
    pub(crate) fn why(&self, object: &ObjectKey) -> Option<Arc<str>> {
        let refused = self.refused.get(object).map(|trouble| trouble.why.clone());
        refused.or_else(|| self.bad.get(object)?.values().next().cloned())
    }

    /// Whether something changed that the controller does not know.
    pub(crate) fn has_news(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Everything that is wrong.
    pub(crate) fn report_whole(&mut self, generation: Generation) -> Report {
        self.touched.clear();
        let objects: BTreeSet<ObjectKey> = self.bad.keys().chain(self.refused.keys()).cloned().collect();
        self.told =
            objects.into_iter().filter_map(|object| Some((object.clone(), self.why(&object)?))).collect();
        let failed = self.told.iter().map(|(key, why)| failure(key, why)).collect();
        Report { generation, whole: true, failed, recovered: Vec::new() }
    }

    /// What changed since the last report.
    pub(crate) fn report_news(&mut self, generation: Generation) -> Report {
        let mut report = Report { generation, whole: false, failed: Vec::new(), recovered: Vec::new() };
        for object in std::mem::take(&mut self.touched) {
            match (self.why(&object), self.told.get(&object)) {
                (Some(why), told) if told != Some(&why) => {
                    report.failed.push(failure(&object, &why));
                    self.told.insert(object, why);
                }
                (None, Some(_)) => {
                    self.told.remove(&object);
                    report.recovered.push(object);
                }
                (Some(_) | None, _) => {}
            }
        }
        report
    }
}

/// When an object that cannot be lowered is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Later,
    OnChange,
}

fn failure(key: &ObjectKey, why: &str) -> Failure {
    Failure { key: key.clone(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENI: ObjectKey = ObjectKey::Rules(proto_model::CircuitId(1));

    #[test]
    fn repetitions_come_ever_later_up_to_half_a_minute() {
        let waits: Vec<u128> = [1, 2, 3, 8, 9, 10, 40].map(|n| backoff(n).as_millis()).to_vec();
        assert_eq!(waits, [100, 200, 400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn a_dependent_is_reported_with_the_reason_of_the_root_cause() {
        let mut status = Status::default();
        let (root, leaf) = (EntryKey::Rules(1), EntryKey::Label(2));
        let circuit = ObjectKey::Hop(proto_model::Label::new(2).expect("a label"));
        status.fail(&root, Some(&ENI), "no memory", Timestamp(0));
        status.block(&leaf, Some(&circuit), root.clone());
        assert_eq!(status.why(&circuit).as_deref(), Some("no memory"));
        assert_eq!(status.take_waiters(&root), BTreeSet::from([leaf.clone()]));
        status.settle(&leaf, Some(&circuit));
        assert_eq!(status.why(&circuit), None);
    }

    #[test]
    fn news_are_told_once_and_recoveries_too() {
        let mut status = Status::default();
        let key = EntryKey::Rules(1);
        status.fail(&key, Some(&ENI), "no memory", Timestamp(0));
        assert_eq!(status.report_news(Generation(1)).failed.len(), 1);
        status.fail(&key, Some(&ENI), "no memory", Timestamp(1));
        assert_eq!(status.report_news(Generation(1)).failed.len(), 0);
        status.settle(&key, Some(&ENI));
        assert_eq!(status.report_news(Generation(1)).recovered, [ENI]);
        assert!(!status.has_news());
        assert_eq!(status.next_due(), None);
    }

    #[test]
    fn a_step_that_fails_again_waits_longer() {
        let mut status = Status::default();
        let key = EntryKey::Rules(1);
        status.fail(&key, None, "no memory", Timestamp(0));
        assert_eq!(status.next_due(), Some(Timestamp(100_000_000)));
        assert_eq!(status.take_due(Timestamp(100_000_000)), [Due::Step(key.clone())]);
        status.fail(&key, None, "no memory", Timestamp(100_000_000));
        assert_eq!(status.next_due(), Some(Timestamp(300_000_000)));
        status.give_new_chance(&key);
        assert_eq!(status.next_due(), None);
    }
}
