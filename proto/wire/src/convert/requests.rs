//! What API clients ask: each verb's message as a `Request`, and what the daemon needs beside it.
use super::fields::{bounded, each, inner, name, name_if_any, needed};
use super::resources::{intents, lease, status, status_value};
use super::units::{nanos_of, span, until, until_fields};
use super::{Malformed, Result, circuit_ref, limits};
use crate::v1;
use proto_model::access::Role;
use proto_model::request::{CircuitRef, Request, RuleChange};
use proto_model::{Name, NodeName};
use std::time::Duration;

/// A request, and how long its answer may wait for the fabric to comply; zero: not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    pub request: Request,
    pub wait: Duration,
}

/// A wish for an enrolment token; the daemon makes its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenWish {
    pub node: NodeName,
    pub lifetime: Duration,
}

/// A wish for a client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientWish {
    pub name: Name,
    pub role: Role,
}

/// Which kinds of events a watcher wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    pub circuits: bool,
    pub resources: bool,
    pub nodes: bool,
}

/// Whose drops a watcher wants; none: all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropInterest {
    pub circuit: Option<CircuitRef>,
    pub node: Option<NodeName>,
}

/// A host that wants its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolling {
    pub token: String,
    pub signing_request: Vec<u8>,
}

impl TryFrom<v1::RegisterResourceRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::RegisterResourceRequest) -> Result<Self> {
        Ok(Self::RegisterResource {
            id: name("resource_id", &request.resource_id)?,
            metadata: needed("metadata", request.metadata)?,
            intents: intents("intents", request.intents)?,
            lease: lease(request.lease)?,
        })
    }
}

impl TryFrom<v1::UpdateResourceStatusRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::UpdateResourceStatusRequest) -> Result<Self> {
        Ok(Self::UpdateResourceStatus {
            id: name("resource_id", &request.resource_id)?,
            status: status("status", request.status)?,
        })
    }
}

impl TryFrom<v1::RemoveResourceRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::RemoveResourceRequest) -> Result<Self> {
        Ok(Self::RemoveResource { id: name("resource_id", &request.resource_id)?, force: request.force })
    }
}

impl TryFrom<v1::GetResourceRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::GetResourceRequest) -> Result<Self> {
        Ok(Self::GetResource { id: name("resource_id", &request.resource_id)? })
    }
}

impl TryFrom<v1::DiscoverResourcesRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::DiscoverResourcesRequest) -> Result<Self> {
        let source = name_if_any("source", &request.source)?;
        let intents = intents("intents", request.intents)?;
        if source.is_none() && intents.is_empty() {
            return Err(Malformed::new(
                "intents",
                "is empty, and so is source; at least one of them is needed",
            ));
        }
        Ok(Self::DiscoverResources { source, intents })
    }
}

impl TryFrom<v1::CreateCircuitRequest> for Awaited {
    type Error = Malformed;
    fn try_from(request: v1::CreateCircuitRequest) -> Result<Self> {
        let circuit = needed("circuit", request.circuit)?;
        let key = bounded("idempotency_key", request.idempotency_key, limits::IDEMPOTENCY_KEY_BYTES)?;
        let idempotency_key = (!key.is_empty()).then_some(key);
        Ok(Self { request: Request::CreateCircuit { circuit, idempotency_key }, wait: wait(request.wait)? })
    }
}

impl TryFrom<v1::PlanCircuitRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::PlanCircuitRequest) -> Result<Self> {
        Ok(Self::PlanCircuit { circuit: needed("circuit", request.circuit)? })
    }
}

impl TryFrom<v1::CircuitRequest> for CircuitRef {
    type Error = Malformed;
    fn try_from(request: v1::CircuitRequest) -> Result<Self> {
        circuit_ref("circuit", &request.circuit)
    }
}

impl TryFrom<v1::DeleteCircuitRequest> for Awaited {
    type Error = Malformed;
    fn try_from(request: v1::DeleteCircuitRequest) -> Result<Self> {
        let circuit = circuit_ref("circuit", &request.circuit)?;
        Ok(Self { request: Request::DeleteCircuit { circuit }, wait: wait(request.wait)? })
    }
}

impl TryFrom<v1::ExtendCircuitRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::ExtendCircuitRequest) -> Result<Self> {
        Ok(Self::ExtendCircuit {
            circuit: circuit_ref("circuit", &request.circuit)?,
            until: until("expires", request.expires, request.lifetime)?,
        })
    }
}

pub(super) fn wait(nanos: u64) -> Result<Duration> {
    span("wait", nanos, Duration::ZERO, limits::WAIT_MOST)
}

impl TryFrom<v1::UpdateFirewallRuleRequest> for Awaited {
    type Error = Malformed;
    fn try_from(request: v1::UpdateFirewallRuleRequest) -> Result<Self> {
        let wait = wait(request.wait)?;
        Ok(Self { request: request.try_into()?, wait })
    }
}

impl TryFrom<v1::UpdateFirewallRuleRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::UpdateFirewallRuleRequest) -> Result<Self> {
        RuleChange::try_from(request).map(Self::UpdateFirewallRule)
    }
}

impl TryFrom<v1::RemoveNodeRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::RemoveNodeRequest) -> Result<Self> {
        Ok(Self::RemoveNode { node: name("node", &request.node)? })
    }
}

impl TryFrom<v1::SetLinkRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::SetLinkRequest) -> Result<Self> {
        let values = request.values.unwrap_or_default();
        Ok(Self::SetLink { link: needed("link", request.link)?, values: inner("values", values)? })
    }
}

impl TryFrom<v1::CreateTokenRequest> for TokenWish {
    type Error = Malformed;
    fn try_from(request: v1::CreateTokenRequest) -> Result<Self> {
        let lifetime = match request.lifetime {
            0 => limits::TOKEN_LIFETIME,
            nanos => span("lifetime", nanos, limits::LEASE_LEAST, limits::LEASE_MOST)?,
        };
        Ok(Self { node: name("node", &request.node)?, lifetime })
    }
}

impl TryFrom<v1::CreateClientRequest> for ClientWish {
    type Error = Malformed;
    fn try_from(request: v1::CreateClientRequest) -> Result<Self> {
        use v1::create_client_request::Role as Wire;
        let role = match Wire::try_from(request.role) {
            Ok(Wire::Viewer) => Role::Viewer,
            Ok(Wire::Operator) => Role::Operator,
            Ok(Wire::Admin) => Role::Admin,
            Ok(Wire::Unspecified) | Err(_) => {
                let allowed = "ROLE_VIEWER (1), ROLE_OPERATOR (2), ROLE_ADMIN (3)";
                return Err(super::fields::unknown("role", request.role, allowed));
            }
        };
        Ok(Self { name: name("name", &request.name)?, role })
    }
}

impl From<ClientWish> for v1::CreateClientRequest {
    fn from(wish: ClientWish) -> Self {
        use v1::create_client_request::Role as Wire;
        let role = match wish.role {
            Role::Viewer => Wire::Viewer,
            Role::Operator => Wire::Operator,
            Role::Admin => Wire::Admin,
        };
        Self { name: wish.name.to_string(), role: role.into() }
    }
}

impl From<v1::WatchRequest> for Interest {
    fn from(request: v1::WatchRequest) -> Self {
        let v1::WatchRequest { circuits, resources, nodes } = request;
        let all = !(circuits || resources || nodes);
        Self { circuits: circuits || all, resources: resources || all, nodes: nodes || all }
    }
}

impl TryFrom<v1::WatchDropsRequest> for DropInterest {
    type Error = Malformed;
    fn try_from(request: v1::WatchDropsRequest) -> Result<Self> {
        let all = request.circuit.is_empty();
        Ok(Self {
            circuit: (!all).then(|| circuit_ref("circuit", &request.circuit)).transpose()?,
            node: name_if_any("node", &request.node)?,
        })
    }
}

impl TryFrom<v1::ListDropsRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::ListDropsRequest) -> Result<Self> {
        Ok(Self::ListDrops { node: name_if_any("node", &request.node)? })
    }
}

impl TryFrom<v1::ForgetLinkRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::ForgetLinkRequest) -> Result<Self> {
        Ok(Self::ForgetLink { link: needed("link", request.link)? })
    }
}

impl TryFrom<v1::EnrolRequest> for Enrolling {
    type Error = Malformed;
    fn try_from(request: v1::EnrolRequest) -> Result<Self> {
        let token = bounded("token", request.token, limits::TOKEN_BYTES)?;
        if token.is_empty() {
            return Err(Malformed::new("token", "is missing; `foreweave node add NAME` prints one"));
        }
        Ok(Self { token, signing_request: signing_request(request.signing_request)? })
    }
}

/// Of a request for a new certificate: the bytes of the PKCS#10 request.
impl TryFrom<v1::RenewRequest> for Vec<u8> {
    type Error = Malformed;
    fn try_from(request: v1::RenewRequest) -> Result<Self> {
        signing_request(request.signing_request)
    }
}

fn signing_request(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let (have, most) = (bytes.len(), limits::SIGNING_REQUEST_BYTES);
    match have {
        0 => Err(Malformed::new("signing_request", "is missing; it is the DER of a PKCS#10 request")),
        _ if have > most => {
            Err(Malformed::new("signing_request", format!("has {have} bytes, at most {most} are allowed")))
        }
        _ => Ok(bytes),
    }
}

/// A request as the message of its verb.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    RegisterResource(v1::RegisterResourceRequest),
    UpdateResourceStatus(v1::UpdateResourceStatusRequest),
    RemoveResource(v1::RemoveResourceRequest),
    GetResource(v1::GetResourceRequest),
    DiscoverResources(v1::DiscoverResourcesRequest),
    CreateCircuit(v1::CreateCircuitRequest),
    PlanCircuit(v1::PlanCircuitRequest),
    PlaceCircuits(v1::PlaceCircuitsRequest),
    GetCircuit(v1::CircuitRequest),
    DeleteCircuit(v1::DeleteCircuitRequest),
    ExplainCircuit(v1::CircuitRequest),
    UpdateFirewallRule(v1::UpdateFirewallRuleRequest),
    ExtendCircuit(v1::ExtendCircuitRequest),
    ConfirmRules(v1::CircuitRequest),
    RollbackRules(v1::CircuitRequest),
    GetPolicy(v1::NodeRequest),
    SetPolicy(v1::SetPolicyRequest),
    ConfirmPolicy(v1::NodeRequest),
    RollbackPolicy(v1::NodeRequest),
    RemoveNode(v1::RemoveNodeRequest),
    SetLink(v1::SetLinkRequest),
    ForgetLink(v1::ForgetLinkRequest),
    ListDrops(v1::ListDropsRequest),
    Series(v1::SeriesRequest),
    ListShortages(v1::ListShortagesRequest),
    Why(v1::WhyRequest),
    Trace(v1::TraceRequest),
    /// The verb has no parameters.
    Nothing,
}

/// Fails for what never travels as a `Request`: tokens and enrolments.
impl TryFrom<Awaited> for Message {
    type Error = Malformed;
    fn try_from(awaited: Awaited) -> Result<Self> {
        let wait = nanos_of(awaited.wait);
        Ok(match awaited.request {
            Request::RegisterResource { id, metadata, intents, lease } => {
                Self::RegisterResource(v1::RegisterResourceRequest {
                    resource_id: id.to_string(),
                    metadata: Some(metadata.into()),
                    intents: each(intents),
                    lease: lease.map(nanos_of),
                })
            }
            Request::UpdateResourceStatus { id, status } => {
                let status = status_value(status);
                Self::UpdateResourceStatus(v1::UpdateResourceStatusRequest {
                    resource_id: id.to_string(),
                    status,
                })
            }
            Request::RemoveResource { id, force } => {
                Self::RemoveResource(v1::RemoveResourceRequest { resource_id: id.to_string(), force })
            }
            Request::GetResource { id } => {
                Self::GetResource(v1::GetResourceRequest { resource_id: id.to_string() })
            }
            Request::DiscoverResources { source, intents } => {
                let source = source.map(|id| id.to_string()).unwrap_or_default();
                Self::DiscoverResources(v1::DiscoverResourcesRequest { source, intents: each(intents) })
            }
            Request::CreateCircuit { circuit, idempotency_key } => {
                Self::CreateCircuit(v1::CreateCircuitRequest {
                    circuit: Some(circuit.into()),
                    idempotency_key: idempotency_key.unwrap_or_default(),
                    wait,
                })
            }
            Request::PlanCircuit { circuit } => {
                Self::PlanCircuit(v1::PlanCircuitRequest { circuit: Some(circuit.into()) })
            }
            Request::PlaceCircuits(request) => Self::PlaceCircuits(request.into()),
            Request::GetCircuit { circuit } => Self::GetCircuit(reference(&circuit)),
            Request::DeleteCircuit { circuit } => {
                Self::DeleteCircuit(v1::DeleteCircuitRequest { circuit: circuit.to_string(), wait })
            }
            Request::ExtendCircuit { circuit, until } => {
                let (expires, lifetime) = until_fields(until);
                let circuit = circuit.to_string();
                Self::ExtendCircuit(v1::ExtendCircuitRequest { circuit, expires, lifetime })
            }
            Request::ConfirmRules { circuit } => Self::ConfirmRules(reference(&circuit)),
            Request::RollbackRules { circuit } => Self::RollbackRules(reference(&circuit)),
            Request::ExplainCircuit { circuit } => Self::ExplainCircuit(reference(&circuit)),
            Request::UpdateFirewallRule(change) => {
                Self::UpdateFirewallRule(v1::UpdateFirewallRuleRequest { wait, ..change.into() })
            }
            Request::GetPolicy { node } => Self::GetPolicy(of_node(&node)),
            Request::SetPolicy(change) => Self::SetPolicy(v1::SetPolicyRequest { wait, ..change.into() }),
            Request::ConfirmPolicy { node } => Self::ConfirmPolicy(of_node(&node)),
            Request::RollbackPolicy { node } => Self::RollbackPolicy(of_node(&node)),
            Request::RemoveNode { node } => {
                Self::RemoveNode(v1::RemoveNodeRequest { node: node.to_string() })
            }
            Request::SetLink { link, values } => {
                Self::SetLink(v1::SetLinkRequest { link: Some(link.into()), values: Some(values.into()) })
            }
            Request::ForgetLink { link } => {
                Self::ForgetLink(v1::ForgetLinkRequest { link: Some(link.into()) })
            }
            Request::Why(wonder) => Self::Why(wonder.into()),
            Request::StartTrace { circuit, filter, snaplen, lasts, nodes } => Self::Trace(v1::TraceRequest {
                circuit: circuit.to_string(),
                filter: Some(filter.into()),
                snaplen: snaplen.into(),
                lasts: nanos_of(lasts),
                nodes: nodes.iter().map(ToString::to_string).collect(),
            }),
            Request::ListDrops { node } => Self::ListDrops(v1::ListDropsRequest {
                node: node.map(|node| node.to_string()).unwrap_or_default(),
            }),
            Request::Series { of, quantity, past } => {
                Self::Series(super::insights::series_request(of, quantity, past))
            }
            Request::ListShortages(line) => Self::ListShortages(line.into()),
            Request::StopTrace { .. }
            | Request::ListResources
            | Request::ListCircuits
            | Request::ListNodes
            | Request::ListLinks
            | Request::Status => Self::Nothing,
            Request::CreateToken { .. } | Request::Enrol { .. } | Request::Renew { .. } => {
                return Err(Malformed::new("", "tokens and enrolments have messages of their own"));
            }
        })
    }
}

fn of_node(node: &NodeName) -> v1::NodeRequest {
    v1::NodeRequest { node: node.to_string() }
}

fn reference(circuit: &CircuitRef) -> v1::CircuitRequest {
    v1::CircuitRequest { circuit: circuit.to_string() }
}
