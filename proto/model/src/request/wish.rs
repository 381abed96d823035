//! What shall become of circuits, their rules and the policies of hosts.
use super::CircuitRef;
use crate::circuit::CircuitSpec;
use crate::intent::Bounds;
use crate::rule::RuleSpec;
use crate::{CircuitName, NodeName, ResourceId, Until};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a circuit shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitRequest {
    /// None: `SOURCE-DESTINATION`.
    pub name: Option<CircuitName>,
    pub source: ResourceId,
    pub destination: ResourceId,
    pub bounds: Bounds,
    pub priority: u8,
    pub pinned_path: Option<Vec<NodeName>>,
    pub rules: Vec<RuleSpec>,
    /// When it shall end; a span counts from its start. None: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// When it shall start. None: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<Until>,
}

/// The spec that a request asks for, with its defaults filled in; when it starts and ends is said apart.
impl CircuitRequest {
    pub fn spec(&self) -> Result<CircuitSpec, crate::name::NotAName> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let mut text = format!("{}-{}", self.source, self.destination);
                text.truncate(crate::Name::MAX);
                text.trim_end_matches('-').parse()?
            }
        };
        Ok(CircuitSpec {
            name,
            source: self.source.clone(),
            destination: self.destination.clone(),
            bounds: self.bounds.clone(),
            priority: self.priority,
            pinned_path: self.pinned_path.clone(),
            expires: None,
            starts: None,
        })
    }
}

/// How to change a circuit's rules; all of it at once or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleChange {
    pub circuit: CircuitRef,
    /// The version that the caller saw; none: whatever is in force.
    pub expected_version: Option<u32>,
    pub edit: RuleEdit,
    /// Take the change back by itself after so long, unless it is confirmed before. None: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<Duration>,
}

/// Which rules come and which go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleEdit {
    /// Insert before the rule with this id; none: at the end.
    Add {
        rules: Vec<RuleSpec>,
        before: Option<u32>,
    },
    Remove {
        ids: Vec<u32>,
    },
    /// Rules that are in force already keep their ids.
    Replace {
        rules: Vec<RuleSpec>,
    },
}

/// What the policy of a host shall be; all of it at once or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    pub node: NodeName,
    /// The version that the caller saw; none: whatever is in force.
    pub expected_version: Option<u32>,
    /// Empty: no policy. Rules that are in force already keep their ids.
    pub rules: Vec<RuleSpec>,
    /// Take the change back by itself after so long, unless it is confirmed before. None: it stays.
    pub confirm_within: Option<Duration>,
}
