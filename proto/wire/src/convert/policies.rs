//! Policies of hosts: as they are told, asked for and shown.
use super::fields::{each, list, name};
use super::requests::{Awaited, wait};
use super::rules::{in_force, revert, revert_fields};
use super::units::{nanos_of, span};
use super::{Malformed, Result, limits};
use crate::v1;
use proto_model::policy::Policy;
use proto_model::request::{PolicyChange, PolicyView, Request};
use proto_model::{NodeName, Timestamp};
use std::time::Duration;

impl TryFrom<v1::HostPolicy> for Policy {
    type Error = Malformed;
    fn try_from(policy: v1::HostPolicy) -> Result<Self> {
        Ok(Self {
            version: policy.version,
            rules: in_force(policy.rules)?,
            revert: policy.revert.map(revert).transpose().map_err(|m| m.within("revert"))?,
        })
    }
}

impl From<Policy> for v1::HostPolicy {
    fn from(policy: Policy) -> Self {
        let revert = policy.revert.map(revert_fields);
        Self { version: policy.version, rules: each(policy.rules), revert }
    }
}

impl TryFrom<v1::NodeRequest> for NodeName {
    type Error = Malformed;
    fn try_from(request: v1::NodeRequest) -> Result<Self> {
        name("node", &request.node)
    }
}

/// How long a change may go unconfirmed; none: it stays.
pub(super) fn confirm_within(nanos: u64) -> Result<Option<Duration>> {
    match nanos {
        0 => Ok(None),
        nanos => span("confirm_within", nanos, limits::CONFIRM_LEAST, limits::CONFIRM_MOST).map(Some),
    }
}

impl TryFrom<v1::SetPolicyRequest> for Awaited {
    type Error = Malformed;
    fn try_from(request: v1::SetPolicyRequest) -> Result<Self> {
        let wait = wait(request.wait)?;
        let change = PolicyChange {
            node: name("node", &request.node)?,
            expected_version: request.expected_version,
            rules: list("rules", limits::RULES, request.rules)?,
            confirm_within: confirm_within(request.confirm_within)?,
        };
        Ok(Self { request: Request::SetPolicy(change), wait })
    }
}

impl From<PolicyChange> for v1::SetPolicyRequest {
    fn from(change: PolicyChange) -> Self {
        Self {
            node: change.node.to_string(),
            expected_version: change.expected_version,
            rules: each(change.rules),
            wait: 0,
            confirm_within: change.confirm_within.map_or(0, nanos_of),
        }
    }
}

impl TryFrom<v1::PolicyView> for PolicyView {
    type Error = Malformed;
    fn try_from(view: v1::PolicyView) -> Result<Self> {
        Ok(Self {
            node: name("node", &view.node)?,
            version: view.version,
            rules: in_force(view.rules)?,
            pending: view.pending,
            confirm_by: (view.confirm_by != 0).then_some(Timestamp(view.confirm_by)),
        })
    }
}

impl From<PolicyView> for v1::PolicyView {
    fn from(view: PolicyView) -> Self {
        Self {
            node: view.node.to_string(),
            version: view.version,
            rules: each(view.rules),
            pending: view.pending,
            confirm_by: view.confirm_by.map_or(0, |at| at.0),
        }
    }
}
