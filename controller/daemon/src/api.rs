//! The service for people and programs: each verb becomes a request to the engine, each answer a message.
mod circuits;
pub(crate) mod clients;
mod trace;
mod watch;

use crate::authority::Authority;
use crate::engine::Handle;
use crate::identity;
use proto_model::Refusal;
use proto_model::access::{Actor, Role};
use proto_model::request::{Request as Ask, Response as Answer};
use proto_wire::convert::requests::{Awaited, ClientWish, DropInterest, Interest, TokenWish};
use proto_wire::convert::status_of;
use proto_wire::v1;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

/// Largest message of a client.
pub(crate) const MOST_BYTES: usize = 1 << 20;
/// Watches at one time, of both kinds together.
pub(crate) const WATCHES: usize = 256;

#[derive(Clone, Debug)]
pub(crate) struct Api {
    engine: Handle,
    authority: Arc<Authority>,
    advertise: Arc<[String]>,
    watches: Arc<Semaphore>,
}

impl Api {
    pub(crate) fn new(engine: Handle, authority: Arc<Authority>, advertise: Vec<String>) -> Self {
        Self { engine, authority, advertise: advertise.into(), watches: Arc::new(Semaphore::new(WATCHES)) }
    }

    fn actor<T>(&self, request: &Request<T>) -> Result<Actor, Status> {
        identity::client(request, self.authority.region())
    }

    /// For verbs that the core never sees.
    fn actor_with<T>(&self, request: &Request<T>, need: Role) -> Result<Actor, Status> {
        let actor = self.actor(request)?;
        if actor.role >= need {
            return Ok(actor);
        }
        let what = format!("this needs the role {need}, {} is {}", actor.name, actor.role);
        let hint = format!("an admin makes such a client: foreweave client add NAME --role {need}");
        Err(status_of(&Refusal::new(proto_model::Kind::Forbidden, what).hint(hint)))
    }

    async fn ask(&self, actor: Actor, request: Ask) -> Result<Answer, Status> {
        let verb = verb(&request);
        let answer = self.engine.ask(actor, request).await;
        let outcome = if answer.is_ok() { "ok" } else { "refused" };
        metrics::counter!("foreweave_requests_total", "verb" => verb, "outcome" => outcome).increment(1);
        answer.map_err(|refusal| status_of(&refusal))
    }

    /// A verb whose message is all that the engine needs.
    async fn plain<M>(&self, request: Request<M>) -> Result<Answer, Status>
    where
        Ask: TryFrom<M, Error = proto_wire::convert::Malformed>,
    {
        let actor = self.actor(&request)?;
        self.ask(actor, Ask::try_from(request.into_inner())?).await
    }

    async fn bare(&self, request: Request<v1::Empty>, ask: Ask) -> Result<Answer, Status> {
        let actor = self.actor(&request)?;
        self.ask(actor, ask).await
    }
}

fn verb(request: &Ask) -> &'static str {
    match request {
        Ask::RegisterResource { .. } => "RegisterResource",
        Ask::UpdateResourceStatus { .. } => "UpdateResourceStatus",
        Ask::RemoveResource { .. } => "RemoveResource",
        Ask::GetResource { .. } => "GetResource",
        Ask::ListResources => "ListResources",
        Ask::DiscoverResources { .. } => "DiscoverResources",
        Ask::CreateCircuit { .. } => "CreateCircuit",
        Ask::PlanCircuit { .. } => "PlanCircuit",
        Ask::PlaceCircuits(_) => "PlaceCircuits",
        Ask::GetCircuit { .. } => "GetCircuit",
        Ask::ListCircuits => "ListCircuits",
        Ask::DeleteCircuit { .. } => "DeleteCircuit",
        Ask::ExplainCircuit { .. } => "ExplainCircuit",
        Ask::Series { .. } => "GetSeries",
        Ask::UpdateFirewallRule(_) => "UpdateFirewallRule",
        Ask::ExtendCircuit { .. } => "ExtendCircuit",
        Ask::ConfirmRules { .. } => "ConfirmRules",
        Ask::RollbackRules { .. } => "RollbackRules",
        Ask::ListNodes => "ListNodes",
        Ask::GetPolicy { .. } => "GetPolicy",
        Ask::SetPolicy(_) => "SetPolicy",
        Ask::ConfirmPolicy { .. } => "ConfirmPolicy",
        Ask::RollbackPolicy { .. } => "RollbackPolicy",
        Ask::RemoveNode { .. } => "RemoveNode",
        Ask::CreateToken { .. } => "CreateToken",
        Ask::Enrol { .. } => "Enrol",
        Ask::Renew { .. } => "Renew",
        Ask::SetLink { .. } => "SetLink",
        Ask::ForgetLink { .. } => "ForgetLink",
        Ask::ListLinks => "ListLinks",
        Ask::ListShortages(_) => "ListShortages",
        Ask::ListDrops { .. } => "ListDrops",
        Ask::Why(_) => "Why",
        Ask::StartTrace { .. } => "Trace",
        Ask::StopTrace { .. } => "EndTrace",
        Ask::Status => "GetStatus",
    }
}

/// An answer of another kind than the question's: a bug of ours.
fn odd(answer: &Answer) -> Status {
    tracing::error!(?answer, "an answer of the wrong kind");
    Status::internal(
        "the controller gave an answer of the wrong kind; this is a bug, its log has the details",
    )
}

fn each<A, B: From<A>>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(B::from).collect()
}

/// `answer` as the message of the verb.
macro_rules! reply {
    ($answer:expr, $($pattern:pat => $message:expr),+ $(,)?) => {
        match $answer {
            $($pattern => Ok(Response::new($message)),)+
            odd_one => Err(odd(&odd_one)),
        }
    };
}

type Stream<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::fabric_server::Fabric for Api {
    type WatchStream = Stream<v1::Event>;
    type WatchDropsStream = Stream<v1::NodeDropEvent>;
    type TraceStream = Stream<v1::TraceEvent>;

    async fn why(&self, request: Request<v1::WhyRequest>) -> Result<Response<v1::Trail>, Status> {
        reply!(self.plain(request).await?, Answer::Why(trail) => trail.into())
    }

    async fn trace(&self, request: Request<v1::TraceRequest>) -> Result<Response<Self::TraceStream>, Status> {
        let actor = self.actor(&request)?;
        let ask = Ask::try_from(request.into_inner())?;
        self.follow(actor, ask).await.map(Response::new)
    }

    async fn register_resource(
        &self,
        request: Request<v1::RegisterResourceRequest>,
    ) -> Result<Response<v1::Resource>, Status> {
        reply!(self.plain(request).await?, Answer::Resource(view) => view.into())
    }

    async fn update_resource_status(
        &self,
        request: Request<v1::UpdateResourceStatusRequest>,
    ) -> Result<Response<v1::Resource>, Status> {
        reply!(self.plain(request).await?, Answer::Resource(view) => view.into())
    }

    async fn remove_resource(
        &self,
        request: Request<v1::RemoveResourceRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        reply!(self.plain(request).await?, Answer::Done => v1::Empty {})
    }

    async fn get_resource(
        &self,
        request: Request<v1::GetResourceRequest>,
    ) -> Result<Response<v1::Resource>, Status> {
        reply!(self.plain(request).await?, Answer::Resource(view) => view.into())
    }

    async fn list_resources(
        &self,
        request: Request<v1::Empty>,
    ) -> Result<Response<v1::ListResourcesResponse>, Status> {
        reply!(self.bare(request, Ask::ListResources).await?,
            Answer::Resources(views) => v1::ListResourcesResponse { resources: each(views) })
    }

    async fn discover_resources(
        &self,
        request: Request<v1::DiscoverResourcesRequest>,
    ) -> Result<Response<v1::DiscoverResourcesResponse>, Status> {
        reply!(self.plain(request).await?,
            Answer::Discovered(found) => v1::DiscoverResourcesResponse { discoveries: each(found) })
    }

    async fn create_circuit(
        &self,
        request: Request<v1::CreateCircuitRequest>,
    ) -> Result<Response<v1::Circuit>, Status> {
        let actor = self.actor(&request)?;
        let awaited = Awaited::try_from(request.into_inner())?;
        self.create(actor, awaited).await.map(Response::new)
    }

    async fn plan_circuit(
        &self,
        request: Request<v1::PlanCircuitRequest>,
    ) -> Result<Response<v1::Plan>, Status> {
        reply!(self.plain(request).await?, Answer::Plan(plan) => plan.into())
    }

    async fn place_circuits(
        &self,
        request: Request<v1::PlaceCircuitsRequest>,
    ) -> Result<Response<v1::PlaceCircuitsResponse>, Status> {
        reply!(self.plain(request).await?, Answer::Placement(placement) => placement.into())
    }

    async fn get_circuit(
        &self,
        request: Request<v1::CircuitRequest>,
    ) -> Result<Response<v1::Circuit>, Status> {
        let actor = self.actor(&request)?;
        let circuit = request.into_inner().try_into()?;
        reply!(self.ask(actor, Ask::GetCircuit { circuit }).await?, Answer::Circuit(view) => view.into())
    }

    async fn list_circuits(
        &self,
        request: Request<v1::Empty>,
    ) -> Result<Response<v1::ListCircuitsResponse>, Status> {
        reply!(self.bare(request, Ask::ListCircuits).await?,
            Answer::Circuits(views) => v1::ListCircuitsResponse { circuits: each(views) })
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let actor = self.actor(&request)?;
        self.watch_events(actor, Interest::from(request.into_inner())).map(Response::new)
    }

    async fn delete_circuit(
        &self,
        request: Request<v1::DeleteCircuitRequest>,
    ) -> Result<Response<v1::DeleteCircuitResponse>, Status> {
        let actor = self.actor(&request)?;
        let awaited = Awaited::try_from(request.into_inner())?;
        self.delete(actor, awaited).await.map(Response::new)
    }

    async fn explain_circuit(
        &self,
        request: Request<v1::CircuitRequest>,
    ) -> Result<Response<v1::Plan>, Status> {
        let actor = self.actor(&request)?;
        let circuit = request.into_inner().try_into()?;
        reply!(self.ask(actor, Ask::ExplainCircuit { circuit }).await?, Answer::Plan(plan) => plan.into())
    }

    async fn get_series(&self, request: Request<v1::SeriesRequest>) -> Result<Response<v1::Series>, Status> {
        reply!(self.plain(request).await?, Answer::Series(series) => series.into())
    }

    async fn update_firewall_rule(
        &self,
        request: Request<v1::UpdateFirewallRuleRequest>,
    ) -> Result<Response<v1::RuleSetView>, Status> {
        let actor = self.actor(&request)?;
        let awaited = Awaited::try_from(request.into_inner())?;
        self.change_rules(actor, awaited).await.map(Response::new)
    }

    async fn extend_circuit(
        &self,
        request: Request<v1::ExtendCircuitRequest>,
    ) -> Result<Response<v1::Circuit>, Status> {
        reply!(self.plain(request).await?, Answer::Circuit(view) => view.into())
    }

    async fn confirm_rules(
        &self,
        request: Request<v1::CircuitRequest>,
    ) -> Result<Response<v1::RuleSetView>, Status> {
        let actor = self.actor(&request)?;
        let circuit = request.into_inner().try_into()?;
        circuits::rule_set(self.ask(actor, Ask::ConfirmRules { circuit }).await?).map(Response::new)
    }

    async fn rollback_rules(
        &self,
        request: Request<v1::CircuitRequest>,
    ) -> Result<Response<v1::RuleSetView>, Status> {
        let actor = self.actor(&request)?;
        let circuit = request.into_inner().try_into()?;
        circuits::rule_set(self.ask(actor, Ask::RollbackRules { circuit }).await?).map(Response::new)
    }

    async fn list_nodes(
        &self,
        request: Request<v1::Empty>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        reply!(self.bare(request, Ask::ListNodes).await?,
            Answer::Nodes(views) => v1::ListNodesResponse { nodes: each(views) })
    }

    async fn get_policy(
        &self,
        request: Request<v1::NodeRequest>,
    ) -> Result<Response<v1::PolicyView>, Status> {
        let actor = self.actor(&request)?;
        let node = request.into_inner().try_into()?;
        reply!(self.ask(actor, Ask::GetPolicy { node }).await?, Answer::Policy(view) => view.into())
    }

    async fn set_policy(
        &self,
        request: Request<v1::SetPolicyRequest>,
    ) -> Result<Response<v1::PolicyView>, Status> {
        let actor = self.actor(&request)?;
        let awaited = Awaited::try_from(request.into_inner())?;
        self.change_policy(actor, awaited).await.map(Response::new)
    }

    async fn confirm_policy(
        &self,
        request: Request<v1::NodeRequest>,
    ) -> Result<Response<v1::PolicyView>, Status> {
        let actor = self.actor(&request)?;
        let node = request.into_inner().try_into()?;
        reply!(self.ask(actor, Ask::ConfirmPolicy { node }).await?, Answer::Policy(view) => view.into())
    }

    async fn rollback_policy(
        &self,
        request: Request<v1::NodeRequest>,
    ) -> Result<Response<v1::PolicyView>, Status> {
        let actor = self.actor(&request)?;
        let node = request.into_inner().try_into()?;
        reply!(self.ask(actor, Ask::RollbackPolicy { node }).await?, Answer::Policy(view) => view.into())
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let actor = self.actor(&request)?;
        let wish = TokenWish::try_from(request.into_inner())?;
        self.token(actor, wish).await.map(Response::new)
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        reply!(self.plain(request).await?, Answer::Done => v1::Empty {})
    }

    async fn set_link(&self, request: Request<v1::SetLinkRequest>) -> Result<Response<v1::Link>, Status> {
        reply!(self.plain(request).await?, Answer::Link(view) => view.into())
    }

    async fn forget_link(
        &self,
        request: Request<v1::ForgetLinkRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        reply!(self.plain(request).await?, Answer::Done => v1::Empty {})
    }

    async fn list_links(
        &self,
        request: Request<v1::Empty>,
    ) -> Result<Response<v1::ListLinksResponse>, Status> {
        reply!(self.bare(request, Ask::ListLinks).await?,
            Answer::Links(views) => v1::ListLinksResponse { links: each(views) })
    }

    async fn list_shortages(
        &self,
        request: Request<v1::ListShortagesRequest>,
    ) -> Result<Response<v1::ListShortagesResponse>, Status> {
        reply!(self.plain(request).await?,
            Answer::Shortages(found) => v1::ListShortagesResponse { shortages: each(found) })
    }

    async fn create_client(
        &self,
        request: Request<v1::CreateClientRequest>,
    ) -> Result<Response<v1::CreateClientResponse>, Status> {
        let actor = self.actor_with(&request, Role::Admin)?;
        let wish = ClientWish::try_from(request.into_inner())?;
        self.client(&actor, &wish).map(Response::new)
    }

    async fn list_drops(
        &self,
        request: Request<v1::ListDropsRequest>,
    ) -> Result<Response<v1::ListDropsResponse>, Status> {
        reply!(self.plain(request).await?, Answer::Drops(drops) => drops.into())
    }

    async fn watch_drops(
        &self,
        request: Request<v1::WatchDropsRequest>,
    ) -> Result<Response<Self::WatchDropsStream>, Status> {
        let actor = self.actor(&request)?;
        let interest = DropInterest::try_from(request.into_inner())?;
        self.watch_drop_events(actor, interest).await.map(Response::new)
    }

    async fn get_status(&self, request: Request<v1::Empty>) -> Result<Response<v1::Status>, Status> {
        reply!(self.bare(request, Ask::Status).await?, Answer::Status(status) => status.into())
    }
}
