//! What is going on around a circuit's second way. Durable is only the path that is being left: agents say the rest
//! again after a restart.
use crate::circuit::Waiting;
use crate::record::{Lane, Placed};
use proto_model::desired::{ObjectKey, Side};
use proto_model::{NodeName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub struct Protection {
    /// Hosts of the backup that have not reported it.
    pub waiting: Waiting,
    /// Objects of the backup that hosts cannot build.
    pub trouble: BTreeMap<(NodeName, ObjectKey), String>,
    pub retiring: Option<Retiring>,
    /// Hosts that failed to build a backup, and until when none is sought over them. At most the hosts that were tried
    /// within the retry pause.
    pub shunned: BTreeMap<NodeName, Timestamp>,
    /// Ends that send by the backup.
    pub on_backup: BTreeMap<Side, Turned>,
}

/// A path that the circuit has left. It stands until both ends have reported that they send another way.
#[derive(Clone, Debug)]
pub struct Retiring {
    pub lane: Lane,
    pub waiting: Waiting,
}

/// Why an end sends by the backup, in its agent's words, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turned {
    pub why: String,
    /// By its host's clock.
    pub since: Timestamp,
    /// By the controller's.
    pub heard: Timestamp,
}

impl Protection {
    /// Hosts that are to be kept out of a backup now.
    pub fn shunned(&self, now: Timestamp) -> BTreeSet<NodeName> {
        self.shunned.iter().filter(|(_, until)| **until > now).map(|(node, _)| node.clone()).collect()
    }

    /// When the first of the ends that are on the backup said so.
    pub fn heard(&self) -> Option<Timestamp> {
        self.on_backup.values().map(|turned| turned.heard).min()
    }

    /// One sentence for each end on the backup, then what is to be said of the backup itself.
    pub fn text(&self, route: &Placed) -> String {
        let ends = self.on_backup.iter().map(|(side, turned)| {
            let end = match side {
                Side::Source => "the source",
                Side::Destination => "the destination",
            };
            format!("{end} sends by the backup since {}: {}", turned.since, turned.why)
        });
        let troubles = self.trouble.iter().take(1).map(|((node, key), why)| {
            format!("the backup is not ready: {node} cannot build the {key}: {why}")
        });
        let waits = route.backup.as_ref().filter(|backup| !backup.ready).and(self.waiting.keys().next());
        let waits = waits.map(|node| format!("the backup is not ready: {node} has not reported"));
        let remark = Some(route.protection.clone()).filter(|remark| !remark.is_empty());
        ends.chain(troubles).chain(waits).chain(remark).collect::<Vec<_>>().join("; ")
    }
}
