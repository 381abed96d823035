//! Messages: conversion never panics, and what it accepts can be written and read back as the same value.
use prost::Message;
use proto_model::request::{
    CircuitRef, CircuitView, Event, LinkView, NodeView, PolicyView, Request, ResourceView, RuleChange,
    StatusView,
};
use proto_model::{desired, insight, intent, plan, report, resource, rule, topology};
use proto_wire::convert::requests::{self, Awaited, ClientWish, DropInterest, Enrolling, TokenWish};
use proto_wire::v1;
use std::fmt::Debug;

/// The first byte says which message the others are.
pub fn check(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let kinds = KINDS.len();
    (KINDS[usize::from(*kind) % kinds])(bytes);
}

/// How many kinds there are, for tests that try each.
pub fn kinds() -> u8 {
    KINDS.len() as u8
}

const KINDS: &[fn(&[u8])] = &[
    round::<v1::Say, report::Say>,
    round::<v1::Tell, desired::Tell>,
    round::<v1::Object, desired::Object>,
    round::<v1::ObjectKey, desired::ObjectKey>,
    round::<v1::Hello, report::Hello>,
    round::<v1::Report, report::Report>,
    round::<v1::Telemetry, report::Telemetry>,
    round::<v1::DropEvent, report::DropEvent>,
    round::<v1::Bounds, intent::Bounds>,
    round::<v1::Intent, intent::Intent>,
    round::<v1::ResourceMetadata, resource::Metadata>,
    round::<v1::Resource, ResourceView>,
    round::<v1::Rule, rule::Rule>,
    round::<v1::RuleSet, rule::RuleSet>,
    round::<v1::UpdateFirewallRuleRequest, RuleChange>,
    round::<v1::Circuit, CircuitView>,
    round::<v1::Plan, plan::Plan>,
    round::<v1::Candidate, plan::Candidate>,
    round::<v1::Node, NodeView>,
    round::<v1::Link, LinkView>,
    round::<v1::LinkValues, topology::LinkValues>,
    round::<v1::Status, StatusView>,
    round::<v1::CreateClientRequest, ClientWish>,
    request::<v1::RegisterResourceRequest>,
    request::<v1::UpdateResourceStatusRequest>,
    request::<v1::RemoveResourceRequest>,
    request::<v1::DiscoverResourcesRequest>,
    request::<v1::PlanCircuitRequest>,
    request::<v1::PlaceCircuitsRequest>,
    round::<v1::PlaceCircuitsResponse, proto_model::together::Placement>,
    request::<v1::UpdateFirewallRuleRequest>,
    request::<v1::RemoveNodeRequest>,
    request::<v1::SetLinkRequest>,
    request::<v1::ForgetLinkRequest>,
    request::<v1::ListDropsRequest>,
    request::<v1::SeriesRequest>,
    round::<v1::Series, insight::Series>,
    request::<v1::ListShortagesRequest>,
    awaited::<v1::CreateCircuitRequest>,
    awaited::<v1::DeleteCircuitRequest>,
    awaited::<v1::SetPolicyRequest>,
    round::<v1::PolicyView, PolicyView>,
    one_way::<v1::CircuitRequest, CircuitRef>,
    one_way::<v1::CreateTokenRequest, TokenWish>,
    one_way::<v1::WatchDropsRequest, DropInterest>,
    one_way::<v1::EnrolRequest, Enrolling>,
    one_way::<v1::RenewRequest, Vec<u8>>,
    one_way::<v1::Event, Option<Event>>,
    request::<v1::GetResourceRequest>,
    request::<v1::ExtendCircuitRequest>,
    round::<v1::Endpoint, desired::Endpoint>,
    round::<v1::Peer, desired::Peer>,
    round::<v1::Switch, report::Switch>,
    round::<v1::Measured, topology::Measured>,
];

fn read<W: Message + Default, M: TryFrom<W>>(bytes: &[u8]) -> Option<M> {
    W::decode(bytes).ok().and_then(|message| M::try_from(message).ok())
}

fn one_way<W: Message + Default, M: TryFrom<W>>(bytes: &[u8]) {
    let _ = read::<W, M>(bytes);
}

/// Compared as text: a cost that is not a number differs from itself.
fn round<W, M>(bytes: &[u8])
where
    W: Message + Default + From<M>,
    M: TryFrom<W, Error: Debug> + Clone + Debug,
{
    let Some(value) = read::<W, M>(bytes) else { return };
    let written = W::from(value.clone()).encode_to_vec();
    let again = W::decode(written.as_slice()).map(M::try_from);
    let again = again.expect("what was encoded can be decoded").expect("what was written can be read");
    assert_eq!(format!("{value:?}"), format!("{again:?}"));
}

fn request<W: Message + Default>(bytes: &[u8])
where
    Request: TryFrom<W>,
{
    if let Some(request) = read::<W, Request>(bytes) {
        again(Awaited { request, wait: std::time::Duration::ZERO });
    }
}

fn awaited<W: Message + Default>(bytes: &[u8])
where
    Awaited: TryFrom<W>,
{
    if let Some(request) = read::<W, Awaited>(bytes) {
        again(request);
    }
}

/// A request that was read can be asked again, and is understood as the same.
fn again(awaited: Awaited) {
    use requests::Message as Ask;
    let ask = Ask::try_from(awaited.clone()).expect("it came as a message");
    let same = match ask {
        Ask::RegisterResource(ask) => Request::try_from(ask),
        Ask::UpdateResourceStatus(ask) => Request::try_from(ask),
        Ask::RemoveResource(ask) => Request::try_from(ask),
        Ask::GetResource(ask) => Request::try_from(ask),
        Ask::DiscoverResources(ask) => Request::try_from(ask),
        Ask::PlanCircuit(ask) => Request::try_from(ask),
        Ask::PlaceCircuits(ask) => Request::try_from(ask),
        Ask::UpdateFirewallRule(ask) => Request::try_from(ask),
        Ask::ExtendCircuit(ask) => Request::try_from(ask),
        Ask::RemoveNode(ask) => Request::try_from(ask),
        Ask::SetLink(ask) => Request::try_from(ask),
        Ask::ForgetLink(ask) => Request::try_from(ask),
        Ask::ListDrops(ask) => Request::try_from(ask),
        Ask::Series(ask) => Request::try_from(ask),
        Ask::ListShortages(ask) => Request::try_from(ask),
        Ask::Why(ask) => Request::try_from(ask),
        Ask::Trace(ask) => Request::try_from(ask),
        Ask::CreateCircuit(ask) => Awaited::try_from(ask).map(|again| again.request),
        Ask::DeleteCircuit(ask) => Awaited::try_from(ask).map(|again| again.request),
        Ask::SetPolicy(ask) => Awaited::try_from(ask).map(|again| again.request),
        Ask::GetCircuit(_)
        | Ask::ExplainCircuit(_)
        | Ask::ConfirmRules(_)
        | Ask::RollbackRules(_)
        | Ask::GetPolicy(_)
        | Ask::ConfirmPolicy(_)
        | Ask::RollbackPolicy(_)
        | Ask::Nothing => return,
    };
    assert_eq!(same.expect("what was asked can be asked again"), awaited.request);
}
