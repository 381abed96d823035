//! Which step, if any, brings a kernel entry nearer to what is wanted, and in which order steps go.
use crate::bounds::BATCH;
use crate::kernel_state::{Entry, EntryKey, Step};
use crate::ledger::{Have, Ledger};
use crate::lower::needs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is to be done about one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// As wanted.
    Settled,
    Put(Arc<Entry>),
    Remove,
    /// To be removed, but something that is still there needs it.
    Leaned,
    /// To be put, but this entry, which it needs, is not there.
    Blocked(EntryKey),
}

/// Steps of one stage do not depend on each other; a stage begins when the one before has been performed. So nothing
/// ever points to what is not there, and what an entry needs is known to be there before the entry is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Flows, routes and labels go …
    Unbind,
    /// … then what they needed, and interfaces that must be made anew.
    Clear,
    /// Next hops, interfaces and rules come …
    Ground,
    /// … then what needs them.
    Bind,
    /// What flows and labels pointed to until just now.
    Tidy,
}

/// How far a needed entry can be relied on, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Footing {
    Firm,
    /// A step for it failed: nothing new is built on it, what stands stays.
    Unsure,
    /// Wanted, but not there yet, or vanished.
    Missing,
    /// Not wanted, or about to be made anew.
    Leaving,
}

pub(crate) fn goal(ledger: &Ledger, key: &EntryKey) -> Goal {
    let Some(cell) = ledger.get(key) else { return Goal::Settled };
    let leave = if cell.leaning == 0 { Goal::Remove } else { Goal::Leaned };
    let Some(want) = &cell.want else {
        return if cell.have == Have::Absent { Goal::Settled } else { leave };
    };
    let weakest = needs(want).into_iter().map(|need| (footing(ledger, &need), need)).max_by_key(|(f, _)| *f);
    let there = match &cell.have {
        Have::Absent => {
            return match weakest {
                None | Some((Footing::Firm, _)) => Goal::Put(want.clone()),
                Some((Footing::Unsure | Footing::Missing | Footing::Leaving, need)) => Goal::Blocked(need),
            };
        }
        Have::Is(entry) | Have::Unsure(Some(entry)) => Some(entry),
        Have::Unsure(None) => None,
    };
    match (&cell.have, weakest) {
        (_, Some((Footing::Leaving, _))) => leave,
        // What is there refers to something that vanished; what is to come only waits for something new.
        (_, Some((Footing::Missing, need))) if there.is_none_or(|have| needs(have).contains(&need)) => leave,
        (Have::Is(have), _) if have == want => Goal::Settled,
        (Have::Is(have) | Have::Unsure(Some(have)), _) if made_anew(have, want) => leave,
        (_, Some((Footing::Unsure | Footing::Missing, need))) => Goal::Blocked(need),
        (_, None | Some((Footing::Firm, _))) => Goal::Put(want.clone()),
    }
}

fn footing(ledger: &Ledger, need: &EntryKey) -> Footing {
    let Some(cell) = ledger.get(need) else { return Footing::Leaving };
    match (&cell.want, &cell.have) {
        (None, _) => Footing::Leaving,
        (Some(_), Have::Absent) => Footing::Missing,
        (Some(want), Have::Is(have) | Have::Unsure(Some(have))) if made_anew(have, want) => Footing::Leaving,
        (Some(_), Have::Is(_)) => Footing::Firm,
        (Some(_), Have::Unsure(_)) => Footing::Unsure,
    }
}

/// Whether the kernel cannot change the one into the other: of an interface, only the MTU can be changed.
pub(crate) fn made_anew(have: &Entry, want: &Entry) -> bool {
    match (have, want) {
        (Entry::Eni(have), Entry::Eni(want)) => {
            let same_mtu = crate::kernel_state::Eni { mtu: want.mtu, ..have.clone() };
            same_mtu != *want
        }
        _ => false,
    }
}

fn is_ground(key: &EntryKey) -> bool {
    match key {
        EntryKey::NextHop(_)
        | EntryKey::Shaper(_)
        | EntryKey::Eni(_)
        | EntryKey::Rules(_)
        | EntryKey::Meter(_)
        | EntryKey::Seal(_) => true,
        EntryKey::Class(..)
        | EntryKey::Label(_)
        | EntryKey::Peer(..)
        | EntryKey::Trace(_)
        | EntryKey::Route(..)
        | EntryKey::Flow(..) => false,
    }
}

fn stage(key: &EntryKey, goal: &Goal) -> Option<Stage> {
    match goal {
        Goal::Settled => None,
        Goal::Put(_) | Goal::Blocked(_) if is_ground(key) => Some(Stage::Ground),
        Goal::Put(_) | Goal::Blocked(_) => Some(Stage::Bind),
        Goal::Remove | Goal::Leaned => match key {
            EntryKey::NextHop(_) => Some(Stage::Tidy),
            EntryKey::Shaper(_)
            | EntryKey::Eni(_)
            | EntryKey::Rules(_)
            | EntryKey::Seal(_)
            | EntryKey::Meter(_) => Some(Stage::Clear),
            EntryKey::Class(..)
            | EntryKey::Label(_)
            | EntryKey::Peer(..)
            | EntryKey::Trace(_)
            | EntryKey::Route(..)
            | EntryKey::Flow(..) => Some(Stage::Unbind),
        },
    }
}

/// What is left to do in this round, and what waits for the next. Each key is looked at once per round and stage, so
/// a change costs what it changes and not what there is.
#[derive(Debug, Default)]
pub(crate) struct Work {
    round: BTreeMap<Stage, BTreeSet<EntryKey>>,
    at: Option<Stage>,
    next: BTreeSet<EntryKey>,
    /// The batch under way.
    pub(crate) flight: Option<Flight>,
    /// Something of this round had to be left to the next one.
    carried: bool,
}

/// A step that has been asked for: what is put under a key, or none to remove it.
type Planned = (EntryKey, Option<Arc<Entry>>);

/// A batch that has been asked for.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) steps: Vec<Planned>,
    /// Vanished meanwhile: whatever the result says, nothing is known of these.
    pub(crate) doubted: BTreeSet<EntryKey>,
}

/// What became of a key that was looked at but is not in the batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Settled(EntryKey),
    Blocked { key: EntryKey, on: EntryKey },
    Leaned(EntryKey),
}

impl Work {
    pub(crate) fn mark(&mut self, key: EntryKey) {
        self.next.insert(key);
    }

    /// Nothing is left of the round that is under way.
    pub(crate) fn round_is_over(&self) -> bool {
        self.flight.is_none() && self.round.is_empty()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.round_is_over() && self.next.is_empty()
    }

    /// Whether the round that is over has done all it had to.
    pub(crate) fn was_complete(&self) -> bool {
        !self.carried
    }

    /// Takes what waits as a new round.
    pub(crate) fn begin_round(&mut self, ledger: &Ledger) -> Vec<Left> {
        self.carried = false;
        self.at = None;
        let mut left = Vec::new();
        for key in std::mem::take(&mut self.next) {
            match stage(&key, &goal(ledger, &key)) {
                Some(stage) => self.plan(stage, key),
                None => left.push(Left::Settled(key)),
            }
        }
        left
    }

    /// The next steps that may go together; empty when the round is over.
    pub(crate) fn batch(&mut self, ledger: &mut Ledger) -> (Vec<Step>, Vec<Left>) {
        let mut left = Vec::new();
        while let Some(at) = self.round.keys().next().copied() {
            self.at = Some(at);
            let (steps, flight) = self.stage_batch(at, ledger, &mut left);
            if !steps.is_empty() {
                self.flight = Some(Flight { steps: flight, doubted: BTreeSet::new() });
                return (steps, left);
            }
        }
        (Vec::new(), left)
    }

    fn stage_batch(
        &mut self,
        at: Stage,
        ledger: &mut Ledger,
        left: &mut Vec<Left>,
    ) -> (Vec<Step>, Vec<Planned>) {
        let (mut steps, mut flight) = (Vec::new(), Vec::new());
        while steps.len() < BATCH {
            let Some(key) = self.pop(at) else { break };
            let goal = goal(ledger, &key);
            if let Some(other) = stage(&key, &goal)
                .filter(|stage| *stage != at && !(at == Stage::Tidy && *stage == Stage::Clear))
            {
                self.put_off(key, other);
                continue;
            }
            match goal {
                Goal::Settled => left.push(Left::Settled(key)),
                Goal::Put(entry) => {
                    ledger.hold(&entry);
                    steps.push(Step::Put(Entry::clone(&entry)));
                    flight.push((key, Some(entry)));
                }
                Goal::Remove => {
                    steps.push(Step::Remove(key.clone()));
                    flight.push((key, None));
                }
                Goal::Blocked(on) if self.next.contains(&on) => self.carry(key),
                Goal::Blocked(on) => left.push(Left::Blocked { key, on }),
                Goal::Leaned if at < Stage::Tidy => self.plan(Stage::Tidy, key),
                Goal::Leaned => left.push(Left::Leaned(key)),
            }
        }
        (steps, flight)
    }

    /// Removals go in the opposite order of keys.
    fn pop(&mut self, at: Stage) -> Option<EntryKey> {
        let keys = self.round.get_mut(&at)?;
        let key = match at {
            Stage::Unbind | Stage::Clear | Stage::Tidy => keys.pop_last(),
            Stage::Ground | Stage::Bind => keys.pop_first(),
        };
        if keys.is_empty() {
            self.round.remove(&at);
        }
        key
    }

    /// To another stage of this round if that is still to come.
    fn put_off(&mut self, key: EntryKey, to: Stage) {
        match self.at {
            Some(at) if to < at => self.carry(key),
            Some(_) | None => self.plan(to, key),
        }
    }

    fn plan(&mut self, stage: Stage, key: EntryKey) {
        self.round.entry(stage).or_default().insert(key);
    }

    fn carry(&mut self, key: EntryKey) {
        self.carried = true;
        self.next.insert(key);
    }

    /// A step has been performed; what remains to be done about its key comes in this round if it can.
    pub(crate) fn again(&mut self, ledger: &Ledger, key: &EntryKey) -> bool {
        match stage(key, &goal(ledger, key)) {
            Some(stage) => {
                self.put_off(key.clone(), stage);
                true
            }
            None => false,
        }
    }
}
