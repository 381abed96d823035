//! Counts how circuits stand with their second ways, kept in step with what is announced of them.
use super::Fabric;
use crate::circuit::Circuit;
use proto_model::CircuitId;
use std::collections::BTreeMap;

/// Of one placed circuit between two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its ends know a second way, and send by the path.
    Protected,
    /// An end sends by the second way.
    OnBackup,
    /// Its ends know no second way.
    Unprotected,
}

impl Standing {
    fn of(circuit: &Circuit) -> Option<Self> {
        let route = circuit.phase.route().filter(|route| route.path.hops() > 0)?;
        Some(match &route.backup {
            Some(_) if !circuit.protection.on_backup.is_empty() => Self::OnBackup,
            Some(backup) if backup.ready => Self::Protected,
            Some(_) | None => Self::Unprotected,
        })
    }
}

/// How many circuits stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub protected: usize,
    pub on_backup: usize,
    pub unprotected: usize,
    /// Circuits of which every way crosses a link that answers no probe.
    pub silent: usize,
    /// Ends that turned, either way, since this controller began.
    pub switches: u64,
    /// Circuits that left their path for a better one, since this controller began.
    pub moves: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Standings {
    all: BTreeMap<CircuitId, Standing>,
    pub(super) counts: Counts,
}

impl Standings {
    fn set(&mut self, id: CircuitId, now: Option<Standing>) {
        let before = match now {
            Some(standing) => self.all.insert(id, standing),
            None => self.all.remove(&id),
        };
        if let Some(before) = before {
            *self.count(before) -= 1;
        }
        if let Some(now) = now {
            *self.count(now) += 1;
        }
    }

    fn count(&mut self, standing: Standing) -> &mut usize {
        match standing {
            Standing::Protected => &mut self.counts.protected,
            Standing::OnBackup => &mut self.counts.on_backup,
            Standing::Unprotected => &mut self.counts.unprotected,
        }
    }
}

impl Fabric {
    /// Something about the circuit changed, or it is gone.
    pub(super) fn note_standing(&mut self, id: CircuitId) {
        self.standings.set(id, self.circuits.get(id).and_then(Standing::of));
        self.note_silence(id);
    }

    /// For metrics.
    pub fn standing(&self) -> Counts {
        Counts { silent: self.silences.all, ..self.standings.counts }
    }
}
